//! The shared store in etcd (3.4 and later).
//!
//! Never lets async out: one thread drives all connections, callers wait with a bound (decision 0001).

mod address;
mod connection;
pub mod members;
pub mod message;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub use address::{Address, Credentials};
use connection::Connection;
use message::{
    Compare, DeleteRangeRequest, KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseRequest, PutRequest, RangeRequest, RangeResponse, Request, RequestOp, TargetUnion, TxnRequest,
    TxnResponse,
};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

use super::{
    ClusterError, ClusterStore, Condition, Entry, Lease, Op, Outcome, Revision, Snapshot, Transaction, Watch,
};

/// Keys per answer while a snapshot is read.
const PAGE: i64 = 1_000;
/// How long the answer to a renewal may take.
const RENEWAL: Duration = Duration::from_secs(3);

/// A store in etcd.
pub struct Etcd {
    connection: Arc<Connection>,
    driver: Arc<Driver>,
}

/// The thread that drives the connections; it ends with the value.
struct Driver {
    end: Notify,
    ended: AtomicBool,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.driver.ended.store(true, Ordering::Relaxed);
        self.driver.end.notify_one();
    }
}

impl Etcd {
    /// Prepares connections to the servers of `address`, such as `etcd://10.0.0.1:2379,10.0.0.2:2379`. Nothing
    /// is sent yet: a store that is away is no error here.
    ///
    /// # Errors
    /// `Address` and `Credential`; `Refused` where another host would be spoken to in clear without
    /// [`Credentials::plaintext`].
    pub fn new(address: &str, credentials: &Credentials) -> Result<Etcd, ClusterError> {
        let address = Address::parse(address)?;
        if credentials.ca.is_none() && !credentials.plaintext && !address.is_local() {
            return Err(ClusterError::Refused {
                what: "be spoken to",
                why: "without store_ca everything, also a password, would cross the network in clear"
                    .to_owned(),
                hint: "set store_ca; or store_plaintext = true if something else protects the way",
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| no_thread(&e))?;
        let connection = Arc::new(Connection::new(address, credentials.clone(), runtime.handle().clone())?);
        let driver = Arc::new(Driver { end: Notify::new(), ended: AtomicBool::new(false) });
        let drives = driver.clone();
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    while !drives.ended.load(Ordering::Relaxed) {
                        drives.end.notified().await;
                    }
                });
            })
            .map_err(|e| no_thread(&e))?;
        Ok(Etcd { connection, driver })
    }

    fn call<Q, A>(&self, method: &'static str, message: Q) -> Result<A, ClusterError>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        let late = || self.connection.away(format!("no answer within {} s", super::PATIENCE.as_secs()));
        // Within the block, so that the timer belongs to the runtime.
        let call = async { timeout(super::PATIENCE, self.connection.call(method, message)).await };
        self.connection.block_on(call).unwrap_or_else(|_| Err(late()))
    }

    fn key(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.connection.prefix()).into_bytes()
    }

    fn compare(&self, condition: &Condition) -> Compare {
        match condition {
            Condition::Absent(key) => {
                Compare { target: 0, key: self.key(key), target_union: Some(TargetUnion::Version(0)) }
            }
            Condition::Unchanged(key, revision) => Compare {
                target: 2,
                key: self.key(key),
                target_union: Some(TargetUnion::ModRevision(signed(revision.0))),
            },
        }
    }

    fn operation(&self, op: &Op) -> RequestOp {
        let delete = |key: Vec<u8>, range_end| Request::DeleteRange(DeleteRangeRequest { key, range_end });
        let request = match op {
            Op::Put { key, value, lease } => Request::Put(PutRequest {
                key: self.key(key),
                value: value.clone(),
                lease: lease.map_or(0, |lease| lease.0),
            }),
            Op::Delete(key) => delete(self.key(key), Vec::new()),
            Op::DeleteBelow(prefix) => {
                let key = self.key(prefix);
                let end = range_end(&key);
                delete(key, end)
            }
        };
        RequestOp { request: Some(request) }
    }

    async fn keep_alive(&self, lease: Lease) -> Result<i64, ClusterError> {
        const METHOD: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
        let stream = tokio_stream::iter([LeaseRequest { id: lease.0 }]);
        let request = self.connection.request(stream).await?;
        let (index, mut client) = self.connection.client()?;
        let renewed = timeout(RENEWAL, async {
            client.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
            let codec = ProstCodec::<LeaseRequest, LeaseKeepAliveResponse>::default();
            let answers = client.streaming(request, PathAndQuery::from_static(METHOD), codec).await?;
            answers.into_inner().next().await.unwrap_or_else(|| Err(tonic::Status::unavailable("no answer")))
        });
        match renewed.await {
            Ok(Ok(answer)) => Ok(answer.ttl),
            Ok(Err(status)) => {
                self.connection.leave(index);
                Err(self.connection.refusal(METHOD, &status))
            }
            Err(_) => {
                self.connection.leave(index);
                Err(self.connection.away(format!("no answer within {} s", RENEWAL.as_secs())))
            }
        }
    }
}

impl ClusterStore for Etcd {
    fn snapshot(&self) -> Result<Snapshot, ClusterError> {
        let prefix = self.connection.prefix().as_bytes().to_vec();
        let (end, mut key) = (range_end(&prefix), prefix);
        let mut snapshot = Snapshot { entries: BTreeMap::new(), ..Snapshot::default() };
        loop {
            let request = RangeRequest {
                key: key.clone(),
                range_end: end.clone(),
                limit: PAGE,
                revision: signed(snapshot.revision.0),
            };
            let page: RangeResponse = self.call("/etcdserverpb.KV/Range", request)?;
            if snapshot.revision == Revision::default() {
                let header = page.header.clone().unwrap_or_default();
                (snapshot.revision, snapshot.history) = (revision(header.revision), header.cluster_id);
            }
            if let Some(last) = page.kvs.last() {
                // The next key that there can be.
                key = [last.key.as_slice(), &[0]].concat();
            }
            let more = page.more;
            snapshot.entries.extend(page.kvs.into_iter().filter_map(|kv| self.entry(kv)));
            if !more {
                return Ok(snapshot);
            }
        }
    }

    fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, ClusterError> {
        Ok(Box::new(watch::Stream::begin(&self.connection, after)?))
    }

    fn commit(&self, transaction: &Transaction) -> Result<Outcome, ClusterError> {
        let request = TxnRequest {
            compare: transaction.conditions.iter().map(|c| self.compare(c)).collect(),
            success: transaction.changes.iter().map(|op| self.operation(op)).collect(),
        };
        let answer: TxnResponse = self.call("/etcdserverpb.KV/Txn", request)?;
        if !answer.succeeded {
            return Ok(Outcome::Conflict);
        }
        Ok(Outcome::Done(revision(answer.header.unwrap_or_default().revision)))
    }

    fn grant(&self, length: Duration) -> Result<Lease, ClusterError> {
        let ttl = signed(length.as_secs().max(1));
        let answer: LeaseGrantResponse =
            self.call("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { ttl })?;
        Ok(Lease(answer.id))
    }

    fn renew(&self, lease: Lease) -> Result<(), ClusterError> {
        match self.connection.block_on(self.keep_alive(lease))? {
            0 => Err(ClusterError::LeaseEnded),
            _ => Ok(()),
        }
    }

    fn revoke(&self, lease: Lease) -> Result<(), ClusterError> {
        let request = LeaseRequest { id: lease.0 };
        match self.call::<_, message::Empty>("/etcdserverpb.Lease/LeaseRevoke", request) {
            Ok(_) | Err(ClusterError::LeaseEnded) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Etcd {
    /// One entry, by its key without the prefix.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn get(&self, key: &str) -> Result<Option<Entry>, ClusterError> {
        let request = RangeRequest { key: self.key(key), ..RangeRequest::default() };
        let page: RangeResponse = self.call("/etcdserverpb.KV/Range", request)?;
        Ok(page.kvs.into_iter().find_map(|kv| self.entry(kv)).map(|(_, entry)| entry))
    }

    fn entry(&self, kv: KeyValue) -> Option<(String, Entry)> {
        let key = std::str::from_utf8(&kv.key).ok()?.strip_prefix(self.connection.prefix())?.to_owned();
        Some((key, Entry { value: kv.value, revision: revision(kv.mod_revision) }))
    }
}

/// The first key after all those that begin with `prefix`: its last byte plus one (etcd's own convention).
fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

fn no_thread(error: &std::io::Error) -> ClusterError {
    ClusterError::Away { endpoints: "nobody asked yet".to_owned(), why: format!("no thread: {error}") }
}
