//! The file of what was declared: networks, objects, and kernel settings to put back at uninstall.
//!
//! Never holds anything that a reboot ends.

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};
use weft_model::ObjectId;

use super::database::{Contents, META};
use super::row::{Row, decode};
use crate::{Loaded, Write};

/// Network name → JSON of [`weft_model::Network`].
const NETWORKS: TableDefinition<&str, &[u8]> = TableDefinition::new("networks");
/// `Kind/[namespace/]name` → JSON of [`weft_model::Object`]. No name can contain a slash.
const OBJECTS: TableDefinition<&str, &[u8]> = TableDefinition::new("objects");
/// Path below `/proc/sys` → value before weft changed it.
const SYSCTLS: TableDefinition<&str, &str> = TableDefinition::new("sysctls");

/// The key in [`META`] of the lowest number that no network has had.
const NEXT_NETWORK: &str = "next_network_id";

#[derive(Debug)]
pub(super) struct Declared;

impl Contents for Declared {
    const NAME: &'static str = "declared.redb";

    fn prepare(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        transaction.open_table(NETWORKS)?;
        transaction.open_table(OBJECTS)?;
        transaction.open_table(SYSCTLS)?;
        Ok(())
    }
}

pub(super) fn apply(transaction: &WriteTransaction, row: &Row<'_>) -> Result<(), redb::Error> {
    match row.write {
        Write::PutNetwork(network) => {
            transaction.open_table(NETWORKS)?.insert(network.name.as_str(), row.json.as_slice())?;
            let mut meta = transaction.open_table(META)?;
            let next = meta.get(NEXT_NETWORK)?.map_or(1, |value| value.value());
            meta.insert(NEXT_NETWORK, next.max(u64::from(network.id.0.saturating_add(1))))?;
        }
        Write::RemoveNetwork(name) => {
            transaction.open_table(NETWORKS)?.remove(name.as_str())?;
        }
        Write::PutObject(object) => {
            transaction.open_table(OBJECTS)?.insert(key(&object.id()).as_str(), row.json.as_slice())?;
        }
        Write::RemoveObject(id) => {
            transaction.open_table(OBJECTS)?.remove(key(id).as_str())?;
        }
        Write::KeepSysctl { key, value } => {
            let mut sysctls = transaction.open_table(SYSCTLS)?;
            if sysctls.get(key.as_str())?.is_none() {
                sysctls.insert(key.as_str(), value.as_str())?;
            }
        }
        Write::ForgetSysctl(key) => {
            transaction.open_table(SYSCTLS)?.remove(key.as_str())?;
        }
        Write::PutWorkload(_) | Write::RemoveWorkload { .. } | Write::ForgetRested { .. } => {}
    }
    Ok(())
}

/// The variant's own name, because two kinds may bear one name in different groups.
fn key(id: &ObjectId) -> String {
    let ObjectId { kind, namespace, name } = id;
    match namespace {
        Some(namespace) => format!("{kind:?}/{namespace}/{name}"),
        None => format!("{kind:?}/{name}"),
    }
}

/// Fills in the part of `loaded` that is declared.
pub(super) fn load(transaction: &ReadTransaction, loaded: &mut Loaded) -> Result<(), redb::Error> {
    if let Some(next) = transaction.open_table(META)?.get(NEXT_NETWORK)? {
        loaded.next_network_id = u16::try_from(next.value()).unwrap_or(u16::MAX);
    }
    for entry in transaction.open_table(NETWORKS)?.iter()? {
        let (key, value) = entry?;
        if let Some(network) = decode("network", key.value(), value.value(), loaded) {
            let network: weft_model::Network = network;
            loaded.networks.insert(network.name.clone(), network);
        }
    }
    for entry in transaction.open_table(OBJECTS)?.iter()? {
        let (key, value) = entry?;
        if let Some(object) = decode("object", key.value(), value.value(), loaded) {
            let object: weft_model::Object = object;
            loaded.objects.insert(object.id(), object);
        }
    }
    for entry in transaction.open_table(SYSCTLS)?.iter()? {
        let (key, value) = entry?;
        loaded.sysctls.insert(key.value().to_owned(), value.value().to_owned());
    }
    Ok(())
}
