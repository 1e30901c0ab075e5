//! Records as bytes.
//!
//! Never fails a whole load for one record.

use serde::de::DeserializeOwned;

use crate::{Loaded, StoreError, Unreadable, Write};

/// A change with the bytes to keep, made before the transaction begins.
pub(super) struct Row<'a> {
    pub(super) write: &'a Write,
    /// JSON of the network, object or workload; empty for the other changes.
    pub(super) json: Vec<u8>,
}

impl<'a> Row<'a> {
    pub(super) fn new(write: &'a Write) -> Result<Row<'a>, StoreError> {
        let (json, record) = match write {
            Write::PutNetwork(network) => (serde_json::to_vec(network), network.name.to_string()),
            Write::PutWorkload(workload) => (serde_json::to_vec(workload), workload.id.to_string()),
            Write::PutObject(object) => (serde_json::to_vec(object), object.id().to_string()),
            _ => return Ok(Row { write, json: Vec::new() }),
        };
        json.map(|json| Row { write, json }).map_err(|source| StoreError::Encode { record, source })
    }
}

/// The record, or a line about it in `loaded`.
pub(super) fn decode<T: DeserializeOwned>(
    kind: &'static str,
    key: &str,
    value: &[u8],
    loaded: &mut Loaded,
) -> Option<T> {
    serde_json::from_slice(value)
        .map_err(|e| loaded.unreadable.push(Unreadable { kind, key: key.to_owned(), why: e.to_string() }))
        .ok()
}
