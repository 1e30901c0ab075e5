//! What the runtime wants for one container: `runtimeConfig` and `args` (CNI CONVENTIONS.md).
//!
//! containerd writes the inner keys with capital letters; they are read in whatever case.

use std::net::IpAddr;

use serde_json::Value;
use weft_model::{AddressRange, Bandwidth, Mac, PortMapping};

use super::{ConfError, bandwidth, ports};
use crate::args;
use crate::field::{Field, FieldError, Object};
use crate::result::Dns;

/// Wishes for one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeConfig {
    /// Wanted addresses.
    pub ips: Vec<IpAddr>,
    /// Ranges to choose from, a list for each address.
    pub ranges: Vec<Vec<AddressRange>>,
    /// Wanted Ethernet address.
    pub mac: Option<Mac>,
    /// What resolvers shall be told.
    pub dns: Dns,
    /// Ports of the host that lead to it.
    pub ports: Vec<PortMapping>,
    /// How much may flow.
    pub bandwidth: Bandwidth,
}

impl RuntimeConfig {
    pub(super) fn parse(root: &Object<'_>) -> Result<RuntimeConfig, ConfError> {
        let mut wishes = RuntimeConfig::default();
        let Some(field) = root.get("runtimeConfig") else { return Ok(wishes) };
        let runtime = field.object()?;
        for key in runtime.map.keys() {
            let Some(field) = runtime.get(key) else { continue };
            match key.as_str() {
                "ips" => wishes.ips = ips(&field)?,
                "ipRanges" => wishes.ranges = ranges(&field)?,
                "mac" if field.value.as_str() == Some("") => {}
                "mac" => wishes.mac = Some(field.parse("an Ethernet address of one interface")?),
                "dns" => wishes.dns = Dns::parse(&field)?,
                "portMappings" => wishes.ports = ports::parse(&field)?,
                "bandwidth" => wishes.bandwidth = bandwidth::parse(&field)?,
                _ if asks_nothing(field.value) => {}
                _ => return Err(unsupported(&runtime, key)),
            }
        }
        Ok(wishes)
    }

    /// Adds the wishes of `args.cni`, an older way to say the same; all else in `args` may be ignored.
    pub(super) fn add_args(&mut self, root: &Object<'_>) -> Result<(), FieldError> {
        let Some(args) = root.get("args") else { return Ok(()) };
        let Some(cni) = args.object()?.get("cni") else { return Ok(()) };
        let cni = cni.object()?;
        if let Some(field) = cni.get("ips") {
            self.ips.extend(ips(&field)?);
        }
        if let Some(field) = cni.get("mac").filter(|f| self.mac.is_none() && f.value != "") {
            self.mac = Some(field.parse("an Ethernet address of one interface")?);
        }
        Ok(())
    }
}

fn ips(field: &Field<'_>) -> Result<Vec<IpAddr>, FieldError> {
    let one = |f: &Field<'_>| args::address(f.text()?).ok_or_else(|| f.not("an IP address"));
    field.list()?.iter().map(one).collect()
}

fn ranges(field: &Field<'_>) -> Result<Vec<Vec<AddressRange>>, FieldError> {
    field.list()?.iter().map(|set| set.list()?.iter().map(range).collect()).collect()
}

fn range(field: &Field<'_>) -> Result<AddressRange, FieldError> {
    let object = field.object()?;
    let address = |key| match object.get_any_case(key) {
        Some(f) if f.value != "" => f.parse("an IP address").map(Some),
        _ => Ok(None),
    };
    Ok(AddressRange {
        subnet: subnet(&object)?,
        start: address("rangeStart")?,
        end: address("rangeEnd")?,
        gateway: address("gateway")?,
    })
}

fn subnet(object: &Object<'_>) -> Result<ipnet::IpNet, FieldError> {
    match object.get_any_case("subnet") {
        Some(field) => field.parse("a subnet such as 10.88.0.0/16"),
        None => Err(FieldError::Missing { key: object.path("subnet") }),
    }
}

fn unsupported(runtime: &Object<'_>, key: &str) -> ConfError {
    let hint = "remove it from the configuration's 'capabilities'";
    ConfError::Unsupported { key: runtime.path(key), hint }
}

/// Whether a value stands for "nothing wanted": Go prints unset fields as zeros, empty strings and lists.
fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(asks_nothing),
    }
}
