//! Results as other plugins print them, in any version's form.

use serde_json::Value;

use super::{CniResult, Dns, Interface, Ip, Route, RouteAttributes};
use crate::field::{Field, FieldError, Object};

impl CniResult {
    /// Reads a result of any version. The forms cannot be confused, so the version need not be known;
    /// keys that no version knows are passed over.
    ///
    /// # Errors
    /// It is not a JSON object, or one of its values is not what every version says it is.
    pub fn parse(value: &Value) -> Result<CniResult, FieldError> {
        CniResult::parse_field(&Field { key: "result".to_owned(), value })
    }

    pub(crate) fn parse_field(field: &Field<'_>) -> Result<CniResult, FieldError> {
        let root = field.object()?;
        let mut result = CniResult::default();
        for item in list(&root, "interfaces")? {
            result.interfaces.push(interface(&item.object()?)?);
        }
        for item in list(&root, "ips")? {
            result.ips.push(ip(&item.object()?, result.interfaces.len())?);
        }
        for item in list(&root, "routes")? {
            result.routes.push(route(&item.object()?)?);
        }
        for family in ["ip4", "ip6"] {
            let Some(old) = root.get(family) else { continue };
            old_form(&old.object()?, &mut result)?;
        }
        result.dns = root.get("dns").map(|f| Dns::parse(&f)).transpose()?.unwrap_or_default();
        Ok(result)
    }
}

impl Dns {
    /// Reads the form of results and files, and that of `runtimeConfig`, which has other names for two of
    /// the keys; 0.1.0 has a bare list of servers.
    pub(crate) fn parse(field: &Field<'_>) -> Result<Dns, FieldError> {
        if field.value.is_array() {
            return Ok(Dns { nameservers: field.texts()?, ..Dns::default() });
        }
        let object = field.object()?;
        let texts = |names: &[&str]| {
            let field = names.iter().find_map(|name| object.get_any_case(name));
            field.map_or(Ok(Vec::new()), |f| f.texts())
        };
        let domain = object.get_any_case("domain").map(|f| f.text()).transpose()?;
        Ok(Dns {
            nameservers: texts(&["nameservers", "servers"])?,
            domain: domain.filter(|d| !d.is_empty()).map(str::to_owned),
            search: texts(&["search", "searches"])?,
            options: texts(&["options"])?,
        })
    }
}

/// 0.1.0 and 0.2.0: one address of each family, with its routes.
fn old_form(old: &Object<'_>, result: &mut CniResult) -> Result<(), FieldError> {
    let address = old.require("ip")?.parse(CIDR)?;
    let gateway = optional(old, "gateway")?;
    result.ips.push(Ip { address, gateway, interface: None });
    for item in list(old, "routes")? {
        result.routes.push(route(&item.object()?)?);
    }
    Ok(())
}

fn interface(object: &Object<'_>) -> Result<Interface, FieldError> {
    let text = |key| {
        let value = object.get(key).map(|f| f.text()).transpose()?;
        Ok::<_, FieldError>(value.filter(|v| !v.is_empty()).map(str::to_owned))
    };
    Ok(Interface {
        name: object.require("name")?.text()?.to_owned(),
        mac: text("mac")?,
        mtu: number(object, "mtu")?.filter(|mtu| *mtu != 0),
        sandbox: text("sandbox")?,
        socket_path: text("socketPath")?,
        pci_id: text("pciID")?,
    })
}

fn ip(object: &Object<'_>, interfaces: usize) -> Result<Ip, FieldError> {
    let interface = object.get("interface").map(|field| {
        let index = field.number()? as usize;
        let names_one = index < interfaces;
        names_one.then_some(index).ok_or_else(|| field.not("the index of one of the interfaces"))
    });
    Ok(Ip {
        address: object.require("address")?.parse(CIDR)?,
        gateway: optional(object, "gateway")?,
        interface: interface.transpose()?,
    })
}

fn route(object: &Object<'_>) -> Result<Route, FieldError> {
    Ok(Route {
        dst: object.require("dst")?.parse(CIDR)?,
        gw: optional(object, "gw")?,
        attributes: RouteAttributes {
            mtu: number(object, "mtu")?,
            advmss: number(object, "advmss")?,
            priority: number(object, "priority")?,
            table: number(object, "table")?,
            scope: number(object, "scope")?,
        },
    })
}

const CIDR: &str = "an address with a prefix length, such as 10.88.0.7/16";

fn list<'a>(object: &Object<'a>, key: &str) -> Result<Vec<Field<'a>>, FieldError> {
    object.get(key).map_or(Ok(Vec::new()), |f| f.list())
}

fn number(object: &Object<'_>, key: &str) -> Result<Option<u32>, FieldError> {
    object.get(key).map(|f| f.number()).transpose()
}

fn optional(object: &Object<'_>, key: &str) -> Result<Option<std::net::IpAddr>, FieldError> {
    let field = object.get(key).filter(|f| f.value != "");
    field.map(|f| f.parse("an IP address")).transpose()
}
