//! Calls to any of several servers, whichever answers: TLS, authentication, timeouts, the next one in turn.
//!
//! Never waits for a server that is silent longer than [`ATTEMPT`], and asks each once at most.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::address::{Address, Credentials, read};
use super::message::{AuthenticateRequest, AuthenticateResponse};
use crate::cluster::ClusterError;

/// How long one server may take to answer one call.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// A server that does not answer pings of HTTP/2 for so long is gone, also for streams.
const PING: Duration = Duration::from_secs(3);
/// Larger answers are refused: snapshots come in pages.
const LARGEST: usize = 256 << 20;

/// The servers of a store.
pub(super) struct Connection {
    address: Address,
    credentials: Credentials,
    channels: Mutex<Vec<Option<Channel>>>,
    current: AtomicUsize,
    token: Mutex<Option<AsciiMetadataValue>>,
    runtime: Handle,
}

impl Connection {
    pub(super) fn new(
        address: Address,
        credentials: Credentials,
        runtime: Handle,
    ) -> Result<Connection, ClusterError> {
        let channels = Mutex::new(vec![None; address.hosts.len()]);
        let (current, token) = (AtomicUsize::new(0), Mutex::new(None));
        let connection = Connection { address, credentials, channels, current, token, runtime };
        // Wrong files are told at once, and not by the first call.
        connection.endpoint(0)?;
        connection.password()?;
        Ok(connection)
    }

    /// The servers, for people.
    pub(super) fn endpoints(&self) -> String {
        self.address.hosts.join(", ")
    }

    pub(super) fn prefix(&self) -> &str {
        &self.address.prefix
    }

    /// Runs `work` with the runtime that serves the connections.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    fn endpoint(&self, index: usize) -> Result<Endpoint, ClusterError> {
        let host = &self.address.hosts[index];
        let wrong = |why: String| ClusterError::Address { address: host.clone(), why };
        let tls = self.credentials.ca.is_some();
        let scheme = if tls { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{host}")).map_err(|e| wrong(chain(&e)))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if !tls {
            return Ok(endpoint);
        }
        let config = self.tls()?;
        let path = self.credentials.ca.clone().unwrap_or_default();
        endpoint.tls_config(config).map_err(|e| ClusterError::Credential { path, why: chain(&e) })
    }

    fn tls(&self) -> Result<ClientTlsConfig, ClusterError> {
        let mut config = ClientTlsConfig::new().timeout(CONNECT);
        if let Some(ca) = &self.credentials.ca {
            config = config.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        match (&self.credentials.cert, &self.credentials.key) {
            (Some(cert), Some(key)) => Ok(config.identity(Identity::from_pem(read(cert)?, read(key)?))),
            (None, None) => Ok(config),
            (Some(path), None) | (None, Some(path)) => Err(ClusterError::Credential {
                path: path.clone(),
                why: "a certificate needs its key, and a key its certificate".to_owned(),
            }),
        }
    }

    fn channel(&self, index: usize) -> Result<Channel, ClusterError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = &channels[index] {
            return Ok(channel.clone());
        }
        let endpoint = self.endpoint(index)?;
        let _inside = self.runtime.enter();
        let channel = endpoint.connect_lazy();
        channels[index] = Some(channel.clone());
        Ok(channel)
    }

    /// Gives up a server for now: the next call goes to the next one, over a new connection.
    pub(super) fn leave(&self, index: usize) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)[index] = None;
        let next = (index + 1) % self.address.hosts.len();
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A client of the server whose turn it is.
    pub(super) fn client(&self) -> Result<(usize, Grpc<Channel>), ClusterError> {
        let index = self.current.load(Ordering::Relaxed);
        let client = Grpc::new(self.channel(index)?);
        Ok((index, client.max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST)))
    }

    /// A request with what lets it in.
    pub(super) async fn request<Q>(&self, message: Q) -> Result<Request<Q>, ClusterError> {
        let mut request = Request::new(message);
        if let Some(token) = self.token().await? {
            request.metadata_mut().insert("token", token);
        }
        Ok(request)
    }

    /// Calls one server after the other until one answers.
    pub(super) async fn call<Q, A>(&self, method: &'static str, message: Q) -> Result<A, ClusterError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let mut last = String::new();
        let mut renewed = false;
        for _ in 0..=self.address.hosts.len() {
            let (index, mut client) = self.client()?;
            let request = self.request(message.clone()).await?;
            let answer = timeout(ATTEMPT, unary(&mut client, method, request)).await;
            let status = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::unavailable(format!("no answer within {} s", ATTEMPT.as_secs())),
            };
            if is_stale(&status) && self.credentials.user.is_some() && !renewed {
                renewed = true;
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
                continue;
            }
            if !is_passing(&status) {
                return Err(self.refusal(method, &status));
            }
            last = words(&status);
            self.leave(index);
        }
        Err(self.away(last))
    }

    pub(super) fn away(&self, why: String) -> ClusterError {
        if let Some(hint) = certificate_hint(&why) {
            return ClusterError::Refused { what: "let this host in", why, hint };
        }
        let cut = ["connection closed", "broken pipe", "reset by peer"]
            .iter()
            .any(|w| why.to_lowercase().contains(w));
        let why = if cut && self.credentials.ca.is_some() {
            format!("{why} (a server that does not accept store_cert ends the connection so)")
        } else {
            why
        };
        ClusterError::Away { endpoints: self.endpoints(), why }
    }

    /// What a status means to the caller.
    pub(super) fn refusal(&self, method: &'static str, status: &Status) -> ClusterError {
        let text = status.message();
        if status.code() == Code::OutOfRange && text.contains("compacted") {
            return ClusterError::Compacted(0);
        }
        if status.code() == Code::NotFound && text.contains("lease not found") {
            return ClusterError::LeaseEnded;
        }
        if is_passing(status) {
            return self.away(words(status));
        }
        let what = match method.rsplit('/').next() {
            Some("Range") => "be read",
            Some("Txn") => "be changed",
            Some("Watch") => "be watched",
            Some("Authenticate") => "let this host in",
            _ => "do what was asked",
        };
        let hint = match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => {
                "give the user of store_user a role that reads and writes below the prefix: docs/cluster.md"
            }
            _ if method.ends_with("Authenticate") => "correct store_user and store_password_file",
            _ if text.contains("database space exceeded") => {
                "etcd is full: compact and defragment it, then disarm its alarm: docs/cluster.md"
            }
            _ => "see the log of etcd",
        };
        ClusterError::Refused { what, why: words(status), hint }
    }

    fn password(&self) -> Result<Option<(String, String)>, ClusterError> {
        let Some(user) = &self.credentials.user else { return Ok(None) };
        let Some(path) = &self.credentials.password_file else {
            let why = "store_user is set without it".to_owned();
            return Err(ClusterError::Credential { path: "store_password_file".into(), why });
        };
        let text = String::from_utf8_lossy(&read(path)?).lines().next().unwrap_or_default().to_owned();
        Ok(Some((user.clone(), text)))
    }

    /// The present token, fetched if there is none; `None` where no user is set.
    async fn token(&self) -> Result<Option<AsciiMetadataValue>, ClusterError> {
        let Some((name, password)) = self.password()? else { return Ok(None) };
        let present = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if present.is_some() {
            return Ok(present);
        }
        let mut last = String::new();
        for _ in 0..self.address.hosts.len() {
            let (index, mut client) = self.client()?;
            let request = AuthenticateRequest { name: name.clone(), password: password.clone() };
            let method = "/etcdserverpb.Auth/Authenticate";
            let answer = timeout(ATTEMPT, unary(&mut client, method, Request::new(request))).await;
            match answer {
                Ok(Ok(answer)) => {
                    let answer: AuthenticateResponse = answer;
                    let token = AsciiMetadataValue::try_from(answer.token)
                        .map_err(|_| self.away("the token is not text".to_owned()))?;
                    *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
                    return Ok(Some(token));
                }
                Ok(Err(status)) if !is_passing(&status) => return Err(self.refusal(method, &status)),
                Ok(Err(status)) => last = words(&status),
                Err(_) => last = format!("no answer within {} s", ATTEMPT.as_secs()),
            }
            self.leave(index);
        }
        Err(self.away(last))
    }
}

async fn unary<Q, A>(
    client: &mut Grpc<Channel>,
    method: &'static str,
    request: Request<Q>,
) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    client.ready().await.map_err(|e| Status::unavailable(chain(&e)))?;
    let codec = ProstCodec::<Q, A>::default();
    client.unary(request, PathAndQuery::from_static(method), codec).await.map(tonic::Response::into_inner)
}

/// Whether another server, or the same one later, may well answer.
fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted)
        || (status.code() == Code::Unknown && std::error::Error::source(status).is_some())
        || (status.code() == Code::Internal && std::error::Error::source(status).is_some())
}

/// Whether a token is no longer known, or older than a change of etcd's users.
fn is_stale(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        || status.message().contains("invalid auth token")
        || status.message().contains("revision of auth store is old")
}

/// What to do about errors of TLS, which look like a server that is away.
fn certificate_hint(why: &str) -> Option<&'static str> {
    let why = why.to_ascii_lowercase();
    let tls = ["certificate", "unknownissuer", "fatal alert", "invalid peer"];
    tls.iter().any(|word| why.contains(word)).then_some(
        "see that store_ca signed the servers' certificates and the servers trust store_cert; both expire: docs/cluster.md",
    )
}

fn words(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
