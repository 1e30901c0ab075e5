//! The file of what is attached: this boot's workloads, and addresses at rest.
//!
//! Never outlives a reboot: namespaces do not either.

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};
use weft_model::{AttachmentId, NetworkName, Workload};

use super::database::Contents;
use super::row::{Row, decode};
use crate::{Loaded, Unreadable, Write};

/// `id` → the boot that the rest is of.
const BOOT: TableDefinition<&str, &str> = TableDefinition::new("boot");
/// `network/container/interface` → JSON of [`Workload`]. None of the three can contain a slash.
const WORKLOADS: TableDefinition<&str, &[u8]> = TableDefinition::new("workloads");
/// `network/address` → second since boot at which it was freed.
const RESTING: TableDefinition<&str, u64> = TableDefinition::new("resting");

#[derive(Debug)]
pub(super) struct Attachments {
    pub(super) boot: String,
    /// Workloads of an earlier boot that were forgotten when the file was opened.
    pub(super) dropped: Vec<AttachmentId>,
}

impl Contents for Attachments {
    const NAME: &'static str = "attachments.redb";

    fn prepare(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut boot = transaction.open_table(BOOT)?;
        let same = boot.get("id")?.is_some_and(|id| id.value() == self.boot);
        if !same {
            self.dropped.clear();
            for entry in transaction.open_table(WORKLOADS)?.iter()? {
                let (_, value) = entry?;
                let workload: Option<Workload> = serde_json::from_slice(value.value()).ok();
                self.dropped.extend(workload.map(|workload| workload.id));
            }
            transaction.delete_table(WORKLOADS)?;
            transaction.delete_table(RESTING)?;
            boot.insert("id", self.boot.as_str())?;
        }
        transaction.open_table(WORKLOADS)?;
        transaction.open_table(RESTING)?;
        Ok(())
    }
}

pub(super) fn apply(transaction: &WriteTransaction, row: &Row<'_>) -> Result<(), redb::Error> {
    match row.write {
        Write::PutWorkload(workload) => {
            let id = &workload.id;
            transaction.open_table(WORKLOADS)?.insert(id.to_string().as_str(), row.json.as_slice())?;
            let mut resting = transaction.open_table(RESTING)?;
            for net in &workload.addresses {
                resting.remove(format!("{}/{}", id.network, net.addr()).as_str())?;
            }
        }
        Write::RemoveWorkload { id, freed, at } => {
            transaction.open_table(WORKLOADS)?.remove(id.to_string().as_str())?;
            let mut resting = transaction.open_table(RESTING)?;
            for address in freed {
                resting.insert(format!("{}/{address}", id.network).as_str(), at)?;
            }
        }
        Write::ForgetRested { before } => {
            transaction.open_table(RESTING)?.retain(|_, at| at >= *before)?;
        }
        Write::PutNetwork(_)
        | Write::RemoveNetwork(_)
        | Write::PutObject(_)
        | Write::RemoveObject(_)
        | Write::KeepSysctl { .. }
        | Write::ForgetSysctl(_) => {}
    }
    Ok(())
}

/// Fills in the part of `loaded` that is attached.
pub(super) fn load(transaction: &ReadTransaction, loaded: &mut Loaded) -> Result<(), redb::Error> {
    for entry in transaction.open_table(WORKLOADS)?.iter()? {
        let (key, value) = entry?;
        if let Some(workload) = decode("workload", key.value(), value.value(), loaded) {
            let workload: Workload = workload;
            loaded.workloads.insert(workload.id.clone(), workload);
        }
    }
    for entry in transaction.open_table(RESTING)?.iter()? {
        let (key, value) = entry?;
        match resting_key(key.value()) {
            Some(key) => drop(loaded.resting.insert(key, value.value())),
            None => loaded.unreadable.push(Unreadable {
                kind: "resting address",
                key: key.value().to_owned(),
                why: "it is not of the form network/address".into(),
            }),
        }
    }
    Ok(())
}

fn resting_key(key: &str) -> Option<(NetworkName, std::net::IpAddr)> {
    let (network, address) = key.split_once('/')?;
    Some((network.parse().ok()?, address.parse().ok()?))
}
