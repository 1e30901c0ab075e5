//! YAML as a tree in which every node knows its line.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// A node.
#[derive(Debug)]
pub(super) enum Tree {
    Scalar(Value),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl Tree {
    /// The tree as JSON; `lines` learns where each path begins: `spec.ingress[0].from`.
    pub(super) fn into_json(self, lines: &mut BTreeMap<String, u64>) -> Value {
        self.convert("", lines)
    }

    fn convert(self, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        match self {
            Tree::Scalar(value) => value,
            Tree::List(items) => {
                let convert = |(at, item): (usize, Spanned<Tree>)| {
                    let path = format!("{path}[{at}]");
                    lines.insert(path.clone(), item.referenced.line());
                    item.value.convert(&path, lines)
                };
                Value::Array(items.into_iter().enumerate().map(convert).collect())
            }
            Tree::Map(fields) => {
                let mut map = Map::new();
                for (key, value) in fields {
                    let path =
                        if path.is_empty() { key.value.clone() } else { format!("{path}.{}", key.value) };
                    lines.insert(path.clone(), key.referenced.line());
                    if map.is_empty() {
                        let parent = path.rfind('.').map_or("", |dot| &path[..dot]);
                        lines.entry(parent.to_owned()).or_insert(key.referenced.line());
                    }
                    map.insert(key.value, value.value.convert(&path, lines));
                }
                Value::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Tree, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Scalar(Value::Null))
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Scalar(Value::Null))
            }
            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Tree, D::Error> {
                Tree::deserialize(from)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
                let mut map = Vec::new();
                while let Some(field) = fields.next_entry()? {
                    map.push(field);
                }
                Ok(Tree::Map(map))
            }
        }
        from.deserialize_any(Any)
    }
}
