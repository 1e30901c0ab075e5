//! A stream of changes from etcd.
//!
//! Never outlives its server's sight of a leader: a server that is cut off from the others ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic_prost::ProstCodec;

use super::connection::Connection;
use super::message::{WatchCreateRequest, WatchRequest, WatchResponse};
use super::{range_end, revision};
use crate::cluster::{ClusterError, Fact, Revision, Watch};

const METHOD: &str = "/etcdserverpb.Watch/Watch";
/// How long a server may take to begin.
const BEGIN: Duration = Duration::from_secs(3);
/// Answers that wait to be taken; the server waits when there are more.
const WAITING: usize = 16;

pub(super) struct Stream {
    connection: Arc<Connection>,
    facts: mpsc::Receiver<Result<Vec<Fact>, ClusterError>>,
    /// Held so that the request's own stream stays open.
    _request: mpsc::Sender<WatchRequest>,
}

impl Stream {
    pub(super) fn begin(connection: &Arc<Connection>, after: Revision) -> Result<Stream, ClusterError> {
        let key = connection.prefix().as_bytes().to_vec();
        let create = WatchCreateRequest {
            range_end: range_end(&key),
            key,
            start_revision: i64::try_from(after.0.saturating_add(1)).unwrap_or(i64::MAX),
            fragment: true,
        };
        let (request, requests) = mpsc::channel(1);
        let (send, facts) = mpsc::channel(WAITING);
        let (index, answers) = connection.block_on(async {
            let _ = request.send(WatchRequest { create_request: Some(create) }).await;
            open(connection, requests).await
        })?;
        let task = Reader { connection: connection.clone(), index, answers, send };
        connection.spawn(task.run());
        Ok(Stream { connection: connection.clone(), facts, _request: request })
    }
}

async fn open(
    connection: &Connection,
    requests: mpsc::Receiver<WatchRequest>,
) -> Result<(usize, Streaming<WatchResponse>), ClusterError> {
    let mut request = connection.request(ReceiverStream::new(requests)).await?;
    request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
    let (index, mut client) = connection.client()?;
    let opened = timeout(BEGIN, async {
        client.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        client.streaming(request, PathAndQuery::from_static(METHOD), codec).await
    });
    match opened.await {
        Ok(Ok(answers)) => Ok((index, answers.into_inner())),
        Ok(Err(status)) => {
            connection.leave(index);
            Err(connection.refusal(METHOD, &status))
        }
        Err(_) => {
            connection.leave(index);
            Err(connection.away(format!("no stream within {} s", BEGIN.as_secs())))
        }
    }
}

struct Reader {
    connection: Arc<Connection>,
    index: usize,
    answers: Streaming<WatchResponse>,
    send: mpsc::Sender<Result<Vec<Fact>, ClusterError>>,
}

impl Reader {
    async fn run(mut self) {
        loop {
            let next = tokio::select! {
                next = self.answers.message() => next,
                () = self.send.closed() => return,
            };
            let facts = match next {
                Ok(Some(answer)) => self.read(answer),
                Ok(None) => {
                    self.connection.leave(self.index);
                    Err(self.connection.away("the stream of changes ended".to_owned()))
                }
                Err(status) => {
                    self.connection.leave(self.index);
                    Err(self.connection.refusal(METHOD, &status))
                }
            };
            let over = facts.is_err();
            if facts.as_ref().is_ok_and(Vec::is_empty) {
                continue;
            }
            if self.send.send(facts).await.is_err() || over {
                return;
            }
        }
    }

    fn read(&mut self, answer: WatchResponse) -> Result<Vec<Fact>, ClusterError> {
        if answer.compact_revision > 0 {
            return Err(ClusterError::Compacted(revision(answer.compact_revision).0));
        }
        if answer.canceled {
            if answer.cancel_reason.contains("permission") || answer.cancel_reason.contains("auth") {
                return Err(self
                    .connection
                    .refusal(METHOD, &tonic::Status::permission_denied(answer.cancel_reason)));
            }
            self.connection.leave(self.index);
            return Err(self.connection.away(answer.cancel_reason));
        }
        let prefix = self.connection.prefix();
        let fact = |event: super::message::Event| {
            let kv = event.kv?;
            let key = std::str::from_utf8(&kv.key).ok()?.strip_prefix(prefix)?.to_owned();
            let value = (event.r#type == 0).then_some(kv.value);
            Some(Fact { key, value, revision: revision(kv.mod_revision) })
        };
        Ok(answer.events.into_iter().filter_map(fact).collect())
    }
}

impl Watch for Stream {
    fn next(&mut self, patience: Duration) -> Result<Vec<Fact>, ClusterError> {
        let facts = &mut self.facts;
        match self.connection.block_on(async { timeout(patience, facts.recv()).await }) {
            Err(_) => Ok(Vec::new()),
            Ok(Some(answer)) => answer,
            Ok(None) => Err(self.connection.away("the stream of changes is over".to_owned())),
        }
    }
}
