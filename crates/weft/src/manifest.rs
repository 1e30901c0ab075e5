//! Objects from YAML or JSON text, several to a file; what is wrong is told by file, line and field.
//!
//! The text is first read as a tree that remembers lines, and then as objects: so an error in an object can name both.

mod tree;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use weft_model::{Kind, Object};

use self::tree::Tree;
use crate::failure::Failure;

/// More than this is no manifest.
const LIMIT: u64 = 64 << 20;

/// Reads a file, all `.yaml`, `.yml` and `.json` files of a folder, or standard input if the path is `-`.
pub(crate) fn load(path: &Path) -> anyhow::Result<Vec<Object>> {
    load_with(path, "", &[]).map(|(objects, _)| objects)
}

/// The same, and what the files have of these kinds of that group, which are for files only.
pub(crate) fn load_with(
    path: &Path,
    group: &str,
    kinds: &[&str],
) -> anyhow::Result<(Vec<Object>, Vec<Extra>)> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().take(LIMIT).read_to_string(&mut text).context("failed to read standard input")?;
        return parse_with("standard input", &text, group, kinds);
    }
    let shown = path.display();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("failed to list {shown}"))?;
        let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"));
        files.sort();
        if files.is_empty() {
            return Err(Failure::new(format!("there is no .yaml, .yml or .json file in {shown}")).into());
        }
        let (mut objects, mut extras) = (Vec::new(), Vec::new());
        for file in &files {
            let (more, further) = load_with(file, group, kinds)?;
            objects.extend(more);
            extras.extend(further);
        }
        return Ok((objects, extras));
    }
    let file = std::fs::File::open(path).with_context(|| format!("failed to read {shown}"))?;
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).with_context(|| format!("failed to read {shown}"))?;
    parse_with(&shown.to_string(), &text, group, kinds)
}

/// Something in a file that is no object of weft's.
#[derive(Debug)]
pub(crate) struct Extra {
    /// Its kind.
    pub(crate) kind: String,
    /// What it says.
    pub(crate) spec: Value,
    file: String,
    line: u64,
}

impl Extra {
    /// Reads what it says.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_path_to_error::deserialize(&self.spec).map_err(|error| {
            let Extra { kind, file, line, .. } = self;
            let message = format!("{file}:{line}: {kind}: spec.{}: {}", error.path(), error.inner());
            Failure::new(message).into()
        })
    }
}

/// Reads text; `name` is what errors call it.
#[cfg(test)]
pub(crate) fn parse(name: &str, text: &str) -> anyhow::Result<Vec<Object>> {
    parse_with(name, text, "", &[]).map(|(objects, _)| objects)
}

fn parse_with(
    name: &str,
    text: &str,
    group: &str,
    kinds: &[&str],
) -> anyhow::Result<(Vec<Object>, Vec<Extra>)> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let documents: Vec<Tree> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map(|l| format!("{}:{}: ", l.line(), l.column())).unwrap_or_default();
        let why = error.without_snippet().to_string();
        Failure::new(format!("{name}:{line}{}", why.lines().next().unwrap_or_default())).hint(
            "the text is not YAML; strings that hold ': ' or begin with a special character want quotes",
        )
    })?;
    let (mut objects, mut extras) = (Vec::new(), Vec::new());
    for document in documents {
        let mut lines = BTreeMap::new();
        let value = document.into_json(&mut lines);
        for (prefix, mut value) in items(value) {
            let kind = value["kind"].as_str().unwrap_or_default().to_owned();
            if value["apiVersion"] == group && kinds.contains(&kind.as_str()) {
                let line = lines.get(&prefix).or_else(|| lines.get("kind")).copied().unwrap_or(1);
                extras.push(Extra { kind, spec: value["spec"].take(), file: name.to_owned(), line });
                continue;
            }
            objects.push(object(value).map_err(|flaw| flaw.located(name, &prefix, &lines))?);
        }
    }
    Ok((objects, extras))
}

/// A document is an object, or a `List` of some; a document without anything is none.
fn items(value: Value) -> Vec<(String, Value)> {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind == "List");
    match value {
        Value::Null => Vec::new(),
        Value::Object(mut list) if is_list && list.get("items").is_some_and(Value::is_array) => {
            let Some(Value::Array(all)) = list.remove("items") else { return Vec::new() };
            all.into_iter().enumerate().map(|(at, item)| (format!("items[{at}]"), item)).collect()
        }
        other => vec![(String::new(), other)],
    }
}

/// What is wrong with an object, and in which field.
struct Flaw {
    object: String,
    path: String,
    why: String,
    hint: Option<String>,
}

impl Flaw {
    /// The same as a failure that names file and line. A field that is missing has the line of what lacks it.
    fn located(self, name: &str, prefix: &str, lines: &BTreeMap<String, u64>) -> Failure {
        let mut path = match (prefix, self.path.as_str()) {
            ("", path) | (path, "" | ".") => path.to_owned(),
            (prefix, path) => format!("{prefix}.{path}"),
        };
        let shown =
            if self.path.is_empty() || self.path == "." { String::new() } else { format!("{}: ", self.path) };
        let line = loop {
            match lines.get(&path) {
                Some(line) => break *line,
                None if path.is_empty() => break 1,
                None => path.truncate(path.rfind(['.', '[']).unwrap_or(0)),
            }
        };
        let failure = Failure::new(format!("{name}:{line}: {}: {shown}{}", self.object, self.why));
        match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn object(value: Value) -> Result<Object, Flaw> {
    let word = |key: &str| value[key].as_str().map(str::to_owned);
    let nameless =
        |path: &str, why: String| Flaw { object: "object".into(), path: path.into(), why, hint: None };
    if !value.is_object() {
        return Err(nameless("", "an object has the fields apiVersion, kind, metadata and spec".into()));
    }
    let kind_word = word("kind").ok_or_else(|| nameless("", "missing field `kind`".into()))?;
    let version = word("apiVersion").ok_or_else(|| nameless("", "missing field `apiVersion`".into()))?;
    let name = value["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
    let flaw = |path: &str, why: String, hint: Option<String>| Flaw {
        object: format!("{kind_word} {name}"),
        path: path.to_owned(),
        why,
        hint,
    };
    let kind = known(&kind_word, &version).map_err(|(path, why)| {
        let all: Vec<String> = Kind::ALL
            .iter()
            .map(|k| format!("{} of {}", k.info().kind, k.info().versions.join(" or ")))
            .collect();
        flaw(path, why, Some(format!("weft knows {}", all.join(", "))))
    })?;
    let mut fields = value;
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("kind");
    }
    let mut track = serde_path_to_error::Track::new();
    let read = kind.read(serde_path_to_error::Deserializer::new(&fields, &mut track));
    let object = read.map_err(|error| {
        let path = track.path().to_string();
        let why = error.to_string();
        // Where the field is refused the path leads to it; the deserializer names what is missing by itself.
        flaw(if path == "." { "" } else { &path }, why, None)
    })?;
    object.validate().map_err(|error| flaw(&error.path, error.why, None))?;
    Ok(object)
}

/// The kind of that name and version, or which of the two is not known.
fn known(kind: &str, version: &str) -> Result<Kind, (&'static str, String)> {
    let named: Vec<Kind> = Kind::ALL.iter().copied().filter(|k| k.info().kind == kind).collect();
    if named.is_empty() {
        return Err(("kind", format!("unknown kind '{}'", kind.escape_default())));
    }
    named.iter().copied().find(|k| k.info().versions.contains(&version)).ok_or_else(|| {
        let versions: Vec<&str> = named.iter().flat_map(|k| k.info().versions.iter().copied()).collect();
        let why =
            format!("'{}' is not {kind}'s, which is {}", version.escape_default(), versions.join(" or "));
        ("apiVersion", why)
    })
}

/// An object as a manifest has it: JSON with `apiVersion` and `kind` first.
pub(crate) fn document(object: &Object) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    let kind = object.kind().info().kind;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("kind".to_owned(), kind.into());
    }
    value
}

/// Objects as YAML that `weft apply -f -` takes back.
pub(crate) fn yaml(objects: &[Object]) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        let body = serde_saphyr::to_string(&document(object)).context("failed to write YAML")?;
        if !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&body);
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
