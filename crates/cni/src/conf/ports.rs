//! The capability `portMappings` (CNI CONVENTIONS.md): which ports of the host lead to the container.

use std::net::IpAddr;

use weft_model::{PortMapping, Protocol};

use crate::field::{Field, FieldError, Object};

/// Reads the list. A port of the host of 0 is refused, as by the plugin `portmap`: Kubernetes knows ports of containers
/// without one of the host, but runtimes leave those out (containerd's `toCNIPortMappings`).
pub(super) fn parse(field: &Field<'_>) -> Result<Vec<PortMapping>, FieldError> {
    field.list()?.into_iter().map(|entry| one(&entry)).collect()
}

fn one(entry: &Field<'_>) -> Result<PortMapping, FieldError> {
    let object = entry.object()?;
    let required =
        |name: &str| object.get_any_case(name).ok_or_else(|| FieldError::Missing { key: object.path(name) });
    let (first, container) = (port(&required("hostPort")?)?, port(&required("containerPort")?)?);
    // podman's word for a range: how many ports, 0 and 1 both meaning one.
    let count = object.get_any_case("range").map(|f| f.number()).transpose()?.unwrap_or(1).max(1);
    let last = u32::from(first).checked_add(count - 1).and_then(|last| u16::try_from(last).ok());
    let last = last.ok_or_else(|| entry.not("a range of ports: it would go beyond 65535"))?;
    let mapping = PortMapping::new(protocol(&object)?, host_ip(&object)?, (first, last), container);
    mapping.map_err(|why| entry.not(format!("a mapping of ports: {why}")))
}

fn port(field: &Field<'_>) -> Result<u16, FieldError> {
    let number = field.value.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
    number.ok_or_else(|| field.not("a port: a whole number from 1 to 65535"))
}

fn protocol(object: &Object<'_>) -> Result<Protocol, FieldError> {
    match object.get_any_case("protocol") {
        Some(field) if field.value != "" => {
            field.parse("a protocol whose ports can be published: tcp, udp, sctp")
        }
        _ => Ok(Protocol::Tcp),
    }
}

fn host_ip(object: &Object<'_>) -> Result<Option<IpAddr>, FieldError> {
    match object.get_any_case("hostIP") {
        Some(field) if field.value != "" => field.parse("an IP address").map(Some),
        _ => Ok(None),
    }
}
