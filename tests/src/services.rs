//! Services for tests: declared at an agent, with workloads behind them that tell whom they have seen.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use weft_lab::traffic::{UdpEcho, WebServer};
use weft_lab::{Host, Namespace};
use weft_model::api::{Apply, Get, Reply, Request};
use weft_model::{Kind, NetworkName, Object, ObjectId, Profile, Service};

use crate::scene::{Workload, anywhere};

/// Takes objects in; they are in force when this returns.
///
/// # Errors
/// The agent's words.
pub fn apply(host: &Host, objects: &[&str]) -> Result<()> {
    let objects =
        objects.iter().map(|text| serde_json::from_str(text)).collect::<Result<Vec<Object>, _>>()?;
    match host.request(&Request::Apply(Apply { objects, dry_run: false }))? {
        Reply::Applied(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// Deletes an object of namespace `default`.
///
/// # Errors
/// The agent's words.
pub fn delete(host: &Host, kind: Kind, name: &str) -> Result<()> {
    let id = ObjectId { kind, namespace: Some("default".parse()?), name: name.parse()? };
    match host.request(&Request::Delete(vec![id]))? {
        Reply::Applied(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// A service as the agent has recorded it.
///
/// # Errors
/// That it is not there.
pub fn service(host: &Host, name: &str) -> Result<Service> {
    let wanted = Get { kind: Some(Kind::Service), namespace: None, name: Some(name.parse()?) };
    match host.request(&Request::Get(wanted))? {
        Reply::Objects(objects) => match objects.into_iter().next() {
            Some(Object::Service(service)) => Ok(service),
            other => bail!("{other:?}"),
        },
        other => bail!("{other:?}"),
    }
}

/// The text of a service of namespace `default` in both families, where the host has both.
#[must_use]
pub fn text(name: &str, spec: &str) -> String {
    format!(r#"{{"kind":"Service","apiVersion":"v1","metadata":{{"name":"{name}"}},"spec":{{{spec}}}}}"#)
}

/// The address of a service that is like another address.
///
/// # Errors
/// That it has none.
pub fn address(host: &Host, name: &str, like: IpAddr) -> Result<IpAddr> {
    let service = service(host, name)?;
    let mut same = service.addresses().filter(|a| a.is_ipv4() == like.is_ipv4());
    same.next().with_context(|| format!("{name} has no address like {like}"))
}

/// A workload with a web server at port 80 and an echo at port 53, labelled `app`.
pub struct Backend {
    /// The workload.
    pub workload: Workload,
    /// Its web server.
    pub web: WebServer,
    /// Its echo.
    pub echo: UdpEcho,
}

impl Backend {
    /// Attaches one. Its servers run before it is attached.
    ///
    /// # Errors
    /// The agent's.
    pub fn new(host: &Host, network: &NetworkName, app: &str) -> Result<Backend> {
        let namespace = Namespace::new()?;
        let web = WebServer::start(namespace.netns(), anywhere(80))?;
        let echo = UdpEcho::start(namespace.netns(), anywhere(53))?;
        let workload = labelled(host, network, namespace, app)?;
        Ok(Backend { workload, web, echo })
    }

    /// How many have come to its web server, and to its echo.
    #[must_use]
    pub fn visits(&self) -> [usize; 2] {
        [self.web.peers().len(), self.echo.peers().len()]
    }
}

/// Attaches a workload with a label.
///
/// # Errors
/// The agent's.
pub fn labelled(host: &Host, network: &NetworkName, namespace: Namespace, app: &str) -> Result<Workload> {
    let mut wish = namespace.wish(network, "eth0")?;
    let port = weft_model::policy::WorkloadPort { port: 80, protocol: weft_model::policy::Protocol::Tcp };
    wish.profile = Profile {
        labels: [("app".parse()?, app.parse()?)].into(),
        named_ports: [("http".parse()?, port)].into(),
        ..Profile::default()
    };
    let attached = Namespace::attach_as(host, wish)?;
    ensure!(!attached.addresses.is_empty(), "no address");
    Ok(Workload { namespace, attached })
}

/// Where something listens.
#[must_use]
pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
