//! `weft get` and `weft describe`: declared objects, as a table, as YAML or in words.

use serde_json::Value;
use weft_model::api::{Get, Reply, Request};
use weft_model::service::ServicePort;
use weft_model::{Kind, NamespaceName, Object, ObjectName, Service};

use crate::cli::Session;
use crate::client::unexpected;
use crate::manifest;
use crate::output::{Output, entry, write};
use crate::table::Table;

/// A kind as somebody calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KindWord(pub(crate) Kind);

/// Reads a kind.
pub(crate) fn kind(word: &str) -> Result<KindWord, String> {
    let all = || Kind::ALL.iter().map(|k| k.info().plural).collect::<Vec<_>>().join(", ");
    Kind::from_word(word).map(KindWord).ok_or_else(|| format!("weft knows {}", all()))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// `yaml` prints what `weft apply -f -` takes back
    #[arg(short, long, value_name = "FORMAT", value_parser = ["table", "yaml"], default_value = "table")]
    output: String,
}

/// Which objects.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// What kind of objects: `networkpolicies`, `netpol`, `services`, `svc`, `namespaces`, …, or `all`
    #[arg(value_name = "KIND", value_parser = kind_or_all)]
    kind: AnyKind,
    /// The name of one
    #[arg(value_name = "NAME")]
    name: Option<ObjectName>,
    /// Its namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: NamespaceName,
    /// Those of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

#[derive(Clone, Copy, Debug)]
struct AnyKind(Option<Kind>);

fn kind_or_all(word: &str) -> Result<AnyKind, String> {
    if word == "all" { Ok(AnyKind(None)) } else { kind(word).map(|k| AnyKind(Some(k.0))) }
}

impl Which {
    fn ask(self, session: &Session) -> anyhow::Result<Vec<Object>> {
        let namespace = (!self.all_namespaces).then_some(self.namespace);
        match session.ask(&Request::Get(Get { kind: self.kind.0, namespace, name: self.name }))? {
            Reply::Objects(objects) => Ok(objects),
            reply => Err(unexpected(&reply)),
        }
    }
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<()> {
    let yaml = args.output == "yaml";
    let objects = args.which.ask(session)?;
    if yaml && !session.output.json {
        return write(&manifest::yaml(&objects)?);
    }
    session.output.show(
        || entry("objects", objects.iter().map(manifest::document).collect::<Vec<_>>()),
        || table(session.output, &objects),
    )
}

/// `weft describe`.
pub(crate) fn describe(session: &Session, which: Which) -> anyhow::Result<()> {
    let objects = which.ask(session)?;
    let mut texts = Vec::with_capacity(objects.len());
    for object in &objects {
        texts.push(words(object) + &leads(session, object)?);
    }
    session.output.show(
        || entry("objects", objects.iter().map(manifest::document).collect::<Vec<_>>()),
        || texts.join("\n"),
    )
}

/// Where a service leads now; nothing for other objects.
fn leads(session: &Session, object: &Object) -> anyhow::Result<String> {
    let Object::Service(_) = object else { return Ok(String::new()) };
    match session.ask(&Request::Backends(object.id()))? {
        Reply::Backends(text) => Ok(text),
        reply => Err(unexpected(&reply)),
    }
}

fn table(output: Output, objects: &[Object]) -> String {
    let mut table = Table::new(["KIND", "NAMESPACE", "NAME", "SAYS"]);
    for object in objects {
        let id = object.id();
        let namespace = id.namespace.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.row([id.kind.to_string(), namespace, id.name.to_string(), gist(object)]);
    }
    table.render(output)
}

/// An object in half a line.
fn gist(object: &Object) -> String {
    match object {
        Object::Namespace(namespace) => {
            let labels = namespace.metadata.labels.iter().map(|(k, v)| format!("{k}={v}"));
            let labels = labels.collect::<Vec<_>>().join(",");
            if labels.is_empty() { "no labels".to_owned() } else { labels }
        }
        Object::NetworkPolicy(policy) => {
            let spec = &policy.spec;
            let isolated = weft_model::policy::Direction::BOTH.into_iter().filter(|d| spec.isolates(*d));
            let directions: Vec<&str> = isolated.map(|d| d.as_str()).collect();
            format!("{} of {}", directions.join(" and "), spec.pod_selector)
        }
        Object::Service(service) => service_gist(service),
        Object::EndpointSlice(slice) => {
            let of = slice.service().map_or_else(|| "no service".to_owned(), |(_, name)| name.to_string());
            format!("{} endpoints of {of}", slice.endpoints.len())
        }
        Object::ClusterNetworkPolicy(policy) => {
            format!("tier {:?}, priority {}", policy.spec.tier, policy.spec.priority)
        }
    }
}

fn service_gist(service: &Service) -> String {
    let addresses: Vec<String> = service.spec.cluster_ips.iter().map(ToString::to_string).collect();
    let port = |port: &ServicePort| {
        let host = port.node_port.map(|number| format!(":{number}")).unwrap_or_default();
        format!("{}{host}/{}", port.port, port.protocol)
    };
    let ports: Vec<String> = service.spec.ports.iter().map(port).collect();
    format!("{:?} {} {}", service.spec.kind, addresses.join(","), ports.join(","))
}

/// An object in full: its fields, indented, one a line.
fn words(object: &Object) -> String {
    let mut text = format!("{}\n", object.id());
    let document = manifest::document(object);
    for key in ["apiVersion", "metadata", "spec", "status"] {
        if let Some(value) = document.get(key) {
            lines(&mut text, 1, key, value);
        }
    }
    text
}

fn lines(text: &mut String, depth: usize, key: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if fields.is_empty() => text.push_str(&format!("{indent}{key}: everything\n")),
        Value::Object(fields) => {
            text.push_str(&format!("{indent}{key}\n"));
            fields.iter().for_each(|(key, value)| lines(text, depth + 1, key, value));
        }
        Value::Array(items) if items.iter().all(|i| !i.is_object() && !i.is_array()) => {
            let words: Vec<String> = items.iter().map(plain).collect();
            text.push_str(&format!("{indent}{key}: {}\n", words.join(", ")));
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                lines(text, depth, &format!("{key} {}", at + 1), item);
            }
        }
        _ => text.push_str(&format!("{indent}{key}: {}\n", plain(value))),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
