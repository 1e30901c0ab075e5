//! The door of a cluster: lets hosts in that show a valid token.
//!
//! Whoever knocks is a stranger: few at a time, each within seconds, one attempt per connection, and a
//! pause after every wrong one. A token is taken out of the store before anything is signed for it, so that of
//! two who show the same one gets in.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use weft_model::NodeName;
use weft_store::cluster::{ClusterStore as _, Condition, Etcd, Key, Op, Outcome, Transaction};

use super::exchange::{Answer, Ask, Joined, JoinedMember, LONGEST, provider};
use super::files::{Files, endpoint};
use super::token::{Kept, hash};
use super::{DOOR, PEERS};

/// So many may stand in the door at once; more are sent away.
const GUESTS: usize = 16;
/// How long one may take for all it has to say.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a member that was added a moment ago may take to count.
const SETTLED: Duration = Duration::from_secs(15);
/// How many wrong tokens per minute are looked at; more are refused unseen.
const WRONG: usize = 20;

/// Why somebody is not let in. Says no more than a guest needs to know.
struct Refusal(String);

impl<E: std::fmt::Display> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal(error.to_string())
    }
}

/// A door.
pub(crate) struct Door {
    files: Files,
    guests: AtomicUsize,
    wrong: Mutex<Vec<Instant>>,
}

impl Door {
    pub(crate) fn new(files: &Files) -> anyhow::Result<Door> {
        let door = Door { files: files.clone(), guests: AtomicUsize::new(0), wrong: Mutex::new(Vec::new()) };
        door.tls()?;
        Ok(door)
    }

    /// As the files are now: they may have been renewed.
    fn tls(&self) -> anyhow::Result<ServerConfig> {
        let read = |name: &str| {
            let path = self.files.of_member(name);
            std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        let cert = |text: &[u8]| CertificateDer::from_pem_slice(text);
        let chain = vec![cert(&read("server.pem")?)?, cert(&read("authority.pem")?)?];
        let key = PrivateKeyDer::from_pem_slice(&read("server.key")?)?;
        Ok(ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?)
    }

    /// Stands open until the process ends.
    pub(crate) fn open(self) -> anyhow::Result<()> {
        let address = (self.files.share()?.address, DOOR);
        let listener = TcpListener::bind(address).context("failed to listen for hosts that join")?;
        let door = Arc::new(self);
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            if door.guests.fetch_add(1, Ordering::Relaxed) >= GUESTS {
                door.guests.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let theirs = door.clone();
            let spawned = std::thread::Builder::new().name("guest".to_owned()).spawn(move || {
                if let Err(error) = theirs.receive(stream) {
                    tracing::debug!(error = format!("{error:#}"), "a guest went away");
                }
                theirs.guests.fetch_sub(1, Ordering::Relaxed);
            });
            if spawned.is_err() {
                door.guests.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn receive(&self, stream: TcpStream) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        let stream = Hurried { stream, until };
        let mut tls = StreamOwned::new(ServerConnection::new(Arc::new(self.tls()?))?, stream);
        let mut line = Vec::new();
        BufReader::new(std::io::Read::by_ref(&mut tls).take(LONGEST)).read_until(b'\n', &mut line)?;
        let answer = match serde_json::from_slice::<Ask>(&line) {
            Ok(ask) => match self.admit(&ask) {
                Ok(joined) => {
                    tracing::info!(node = ask.node, member = ask.member.is_some(), "let a host in");
                    Answer::Joined(Box::new(joined))
                }
                Err(Refusal(why)) => {
                    tracing::warn!(node = ask.node.escape_default().to_string(), why, "refused a host");
                    Answer::Refused { why }
                }
            },
            Err(_) => {
                Answer::Refused { why: "the request is not understood: are both of one version?".to_owned() }
            }
        };
        tls.sock.until = Instant::now() + PATIENCE;
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        tls.write_all(&text)?;
        tls.conn.send_close_notify();
        tls.flush()?;
        Ok(())
    }

    fn admit(&self, ask: &Ask) -> Result<Joined, Refusal> {
        self.patience()?;
        let share = self.files.share()?;
        let store = self.files.store().map_err(|e| Refusal(format!("{e:#}")))?;
        let invalid = "the token is not valid: it was used, or it has expired, or it is of another cluster";
        let key = Key::parse(&format!("tokens/{}", ask.token)).ok_or_else(|| self.wrong(invalid))?;
        let kept = store.get(&key.to_string())?.ok_or_else(|| self.wrong(invalid))?;
        let Kept { hash: right, renews } = serde_json::from_slice(&kept.value)?;
        if hash(ask.secret.as_bytes()) != right {
            return Err(self.wrong(invalid));
        }
        let name: NodeName = ask.node.parse()?;
        if renews.as_ref().is_some_and(|only| only != name.as_str()) {
            return Err(Refusal("the token is for another host, which it gives new certificates".to_owned()));
        }
        if renews.is_none() && store.get(&Key::Node(name.clone()).to_string())?.is_some() {
            return Err(Refusal(format!(
                "there is a host '{name}' already: choose another `node` in the configuration, or, if it is \
                 gone for ever, `weft node rm {name}` first"
            )));
        }
        if share.elsewhere && ask.member.is_some() {
            return Err(Refusal(
                "the store runs elsewhere: hosts run no shares of it, join without --member".to_owned(),
            ));
        }
        let authority = self.files.authority()?;
        let cert = authority.client(&ask.request, name.as_str())?;
        // Now the token is used up; of two who show it at once, one gets past here.
        let used = Transaction {
            conditions: vec![Condition::Unchanged(key.to_string(), kept.revision)],
            changes: vec![Op::Delete(key.to_string())],
        };
        if store.commit(&used)? == Outcome::Conflict {
            return Err(Refusal(invalid.to_owned()));
        }
        if share.elsewhere {
            return Ok(Joined { store: Some(self.files.elsewhere()?), ..Joined::default() });
        }
        let member = match &ask.member {
            None => None,
            Some(wish) => {
                let cert = authority.server_for(&wish.request, &[wish.address, loopback(wish.address)])?;
                let initial = announce(&store, &name, wish.address)?;
                let pair = authority.pair();
                let (authority_cert, authority_key) = (pair.cert.clone(), pair.key.clone());
                Some(JoinedMember { cert, initial, authority_cert, authority_key })
            }
        };
        let mut endpoints = endpoints(&store)?;
        if let Some(wish) = &ask.member {
            endpoints.insert(0, endpoint(wish.address));
        }
        let trusted = std::fs::read_to_string(self.files.path("ca.pem"))?;
        Ok(Joined { trusted, cert, endpoints, member, store: None })
    }

    /// Refuses everybody for a while after too many wrong tokens.
    fn patience(&self) -> Result<(), Refusal> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|at| at.elapsed() < Duration::from_secs(60));
        if wrong.len() >= WRONG {
            return Err(Refusal("too many wrong tokens were shown: try again in a minute".to_owned()));
        }
        Ok(())
    }

    fn wrong(&self, why: &str) -> Refusal {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        Refusal(why.to_owned())
    }
}

/// Makes a host a member of the store, if it is none; returns all of them as `--initial-cluster` has it.
fn announce(store: &Etcd, name: &NodeName, address: std::net::IpAddr) -> Result<String, Refusal> {
    let url = peer_url(address);
    let mut members = store.members()?;
    if !members.iter().any(|m| m.peer_urls.contains(&url)) {
        let begun = Instant::now();
        members = loop {
            match store.add_member(&url) {
                Ok((_, members)) => break members,
                // etcd takes no further member before the last one has run for some seconds.
                Err(error) if error.to_string().contains("unhealthy") && begun.elapsed() < SETTLED => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(error) => return Err(error.into()),
            }
        };
    }
    let named = |m: &weft_store::cluster::etcd::message::Member| {
        let name = if m.peer_urls.contains(&url) { name.to_string() } else { m.name.clone() };
        m.peer_urls.iter().map(move |url| format!("{name}={url}")).collect::<Vec<_>>()
    };
    Ok(members.iter().flat_map(named).collect::<Vec<_>>().join(","))
}

/// Where the members' etcd listen for clients, as far as they have started.
pub(crate) fn endpoints(store: &Etcd) -> anyhow::Result<Vec<String>> {
    let members = store.members().map_err(|e| anyhow::anyhow!("failed to list the members: {e}"))?;
    let urls = members.into_iter().flat_map(|m| m.client_urls);
    Ok(urls.filter_map(|url| url.split_once("://").map(|(_, host)| host.to_owned())).collect())
}

pub(crate) fn peer_url(address: std::net::IpAddr) -> String {
    format!("https://{}", std::net::SocketAddr::from((address, PEERS)))
}

pub(crate) fn loopback(like: std::net::IpAddr) -> std::net::IpAddr {
    if like.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() }
}

/// A connection with a deadline for all of it: a byte now and then does not keep it open.
struct Hurried {
    stream: TcpStream,
    until: Instant,
}

impl Hurried {
    fn left(&self) -> std::io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl std::io::Read for Hurried {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl std::io::Write for Hurried {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}
