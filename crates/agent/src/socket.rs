//! The agent's socket: one request per connection, answered in the order of the engine's lock.
//!
//! Only root may speak: the file's mode says so, and each peer's credentials are checked again. A peer
//! that is silent or slow holds a thread of its own, and nobody else.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weft_model::NetworkName;
use weft_model::api::{
    Attach, Attached, Error, ErrorKind, NetworkSpec, NetworkStatus, REQUEST_LIMIT, Reply, Request,
};

use crate::agent::Agent;
use crate::chain;
use crate::cluster::What;

/// How long a peer may take to say what it wants, or to listen to the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// More peers than that at once are sent away.
const PEERS: usize = 256;
/// So many threads wait for peers: to start one takes longer than half of what an attach costs in it.
const SPARE: usize = 4;
/// Enough for JSON's nesting and a plan of one workload.
const STACK: usize = 256 << 10;

/// Listens at `path`, which only root can reach.
///
/// # Errors
/// The file system's; `AddrInUse` if an agent answers there already.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} is no socket", path.display()),
            ));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let message = format!("another agent answers at {}", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    // Bound under another name first: nobody can connect before the mode is right.
    let early = path.with_extension("new");
    let _ = fs::remove_file(&early);
    let listener = UnixListener::bind(&early)?;
    fs::set_permissions(&early, fs::Permissions::from_mode(0o600))?;
    fs::rename(&early, path)?;
    Ok(listener)
}

/// Those who wait for peers and serve them.
struct Crew {
    agent: Arc<Agent>,
    listener: UnixListener,
    /// How many wait for a peer.
    idle: AtomicUsize,
    /// How many serve one.
    busy: AtomicUsize,
}

/// Serves until the agent's end.
pub(crate) fn serve(agent: &Arc<Agent>, listener: UnixListener) {
    let (idle, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let crew = Arc::new(Crew { agent: agent.clone(), listener, idle, busy });
    (1..SPARE).for_each(|_| hire(&crew));
    work(&crew);
}

fn hire(crew: &Arc<Crew>) {
    let theirs = crew.clone();
    let spawned =
        std::thread::Builder::new().name("peer".to_owned()).stack_size(STACK).spawn(move || work(&theirs));
    if let Err(error) = spawned {
        tracing::warn!(%error, "failed to start a thread for peers");
    }
}

/// Serves one peer after the other; returns when enough others wait for one. Whoever takes the last
/// place of those waiting starts the next: a peer need not wait for a thread to begin.
fn work(crew: &Arc<Crew>) {
    while is_needed(crew) {
        let accepted = crew.listener.accept();
        if crew.idle.fetch_sub(1, Ordering::Relaxed) == 1 {
            hire(crew);
        }
        match accepted {
            Ok((stream, _)) => serve_one(crew, &stream),
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                std::thread::sleep(Duration::from_millis(10)); // out of descriptors: do not spin
            }
        }
    }
}

/// Counts the caller among those who wait, unless there are enough. It leaves only where somebody else
/// is left: those counted may have been taken meanwhile.
fn is_needed(crew: &Crew) -> bool {
    if crew.idle.fetch_add(1, Ordering::Relaxed) < SPARE {
        return true;
    }
    let alone = crew.idle.fetch_sub(1, Ordering::Relaxed) == 1;
    if alone {
        crew.idle.fetch_add(1, Ordering::Relaxed);
    }
    alone
}

fn serve_one(crew: &Crew, stream: &UnixStream) {
    let done = if crew.busy.fetch_add(1, Ordering::Relaxed) < PEERS {
        talk(&crew.agent, stream)
    } else {
        let message = format!("{PEERS} requests are being served already");
        answer(stream, &Reply::Error(Error::new(ErrorKind::TryAgain, message)))
    };
    crew.busy.fetch_sub(1, Ordering::Relaxed);
    if let Err(error) = done {
        tracing::debug!(%error, "a peer went away");
    }
}

fn talk(agent: &Arc<Agent>, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    if weft_kernel::peer::uid(stream)? != 0 {
        let error = Error::new(ErrorKind::Invalid, "only root may speak to the agent");
        return answer(stream, &Reply::Error(error));
    }
    let mut line = Vec::with_capacity(1024);
    let limit = u64::try_from(REQUEST_LIMIT).unwrap_or(u64::MAX);
    BufReader::new(stream).take(limit + 1).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(());
    }
    let reply = if line.len() > REQUEST_LIMIT {
        Reply::Error(Error::new(ErrorKind::Invalid, format!("the request exceeds {REQUEST_LIMIT} bytes")))
    } else {
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) => perform(agent, request),
            Err(error) => Reply::Error(
                Error::new(ErrorKind::Invalid, format!("the request is not understood: {error}"))
                    .hint("plugin, command and agent must be of one version: `weft install` renews them all"),
            ),
        }
    };
    answer(stream, &reply)
}

fn answer(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let mut text = serde_json::to_vec(reply).map_err(io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text)
}

fn perform(agent: &Arc<Agent>, request: Request) -> Reply {
    let done = |commands: Vec<String>| Reply::Done { commands };
    let changes = matches!(request, Request::Attach(_) | Request::Detach(_) | Request::Collect(_));
    let result = match request {
        Request::Attach(wish) => attach(agent, &wish).map(|a| Reply::Attached(Box::new(a))),
        Request::NodeList => agent.line.order(What::List).map(Reply::Nodes),
        Request::NodeRemove { name } => agent.line.order(What::RemoveNode(name)).map(|_| done(Vec::new())),
        Request::NodeLeave { force } => leave(agent, force).map(|()| done(Vec::new())),
        Request::NetworkCreate(spec) if agent.line.is_on() && !spec.explain => {
            declare(agent, &spec).map(|n| Reply::Network(Box::new(n)))
        }
        Request::NetworkRemove { name, explain: false } if agent.line.is_on() && is_shared(agent, &name) => {
            agent.line.order(What::Remove(name)).map(|_| done(Vec::new()))
        }
        other => perform_here(agent, other),
    };
    if changes {
        agent.line.wake();
    }
    result.unwrap_or_else(|error| {
        tracing::info!(error = chain(&error), "a request was refused");
        Reply::Error(error)
    })
}

/// Attaches; where this host's part of a network's addresses does not do, it gets more and tries again.
fn attach(agent: &Arc<Agent>, wish: &Attach) -> Result<Attached, Error> {
    let first = agent.engine().attach(wish);
    let lacks = |e: &Error| matches!(e.kind, ErrorKind::Exhausted | ErrorKind::TryAgain);
    let network = &wish.id.network;
    match first {
        Err(error) if lacks(&error) && agent.line.is_on() && is_shared(agent, network) => {
            agent.engine().ask_for(network, &wish.ips);
            // Why there is no more says more than that there is none.
            agent.line.order(What::Provide(network.clone())).map_err(|why| match why.kind {
                ErrorKind::Exhausted => why,
                _ => error,
            })?;
            agent.engine().attach(wish)
        }
        other => other,
    }
}

/// Leaves the cluster; forced, also without a word to the store.
fn leave(agent: &Arc<Agent>, force: bool) -> Result<(), Error> {
    match agent.line.order(What::Leave) {
        Err(error) if force && error.kind != ErrorKind::Exists => {
            agent.line.abandon();
            agent.engine().stand_alone()
        }
        other => other.map(drop),
    }
}

fn is_shared(agent: &Arc<Agent>, name: &NetworkName) -> bool {
    agent.engine().is_shared(name)
}

/// Declares a network for all hosts.
fn declare(agent: &Arc<Agent>, spec: &NetworkSpec) -> Result<NetworkStatus, Error> {
    let network = agent.engine().declare(spec)?;
    let block = agent.engine().block;
    agent.line.order(What::Create(network, block))?;
    let engine = agent.engine();
    match engine.network(&spec.name) {
        Some(network) => Ok(engine.network_status(network)),
        None => {
            Err(Error::new(ErrorKind::Invalid, format!("network '{}' cannot be on this host", spec.name))
                .hint("`weft status` says why; the other hosts have it"))
        }
    }
}

fn perform_here(agent: &Arc<Agent>, request: Request) -> Result<Reply, Error> {
    let mut engine = agent.engine();
    let done = |commands: Vec<String>| Reply::Done { commands };
    match request {
        Request::Attach(_) | Request::NodeList | Request::NodeRemove { .. } | Request::NodeLeave { .. } => {
            Err(Error::new(ErrorKind::Invalid, "not asked of the engine"))
        }
        Request::Detach(request) => Ok(done(engine.detach(&request))),
        Request::Check(request) => engine.check(&request).map(Reply::Checked),
        Request::Collect(request) => Ok(Reply::Collected(engine.collect(&request))),
        Request::Ready { network } => engine.ready(&network).map(|()| done(Vec::new())),
        Request::SetBandwidth { id, bandwidth, explain } => {
            engine.set_bandwidth(&id, bandwidth, explain).map(done)
        }
        Request::NetworkCreate(spec) => engine.network_create(&spec).map(|n| Reply::Network(Box::new(n))),
        Request::NetworkRemove { name, explain } => engine.network_remove(&name, explain).map(done),
        Request::NetworkList => Ok(Reply::Networks(engine.networks())),
        Request::Status => Ok(Reply::Status(Box::new(engine.status()))),
        Request::Diff => engine.diff().map(Reply::Diff),
        Request::Inventory => engine.inventory().map(Reply::Inventory),
        Request::Explain { from, to } => engine.explain(&from, &to).map(|e| Reply::Explanation(Box::new(e))),
        Request::Apply(request) => engine.apply_objects(request).map(Reply::Applied),
        Request::Get(request) => engine.objects(&request).map(Reply::Objects),
        Request::Delete(ids) => engine.delete_objects(&ids).map(Reply::Applied),
        Request::Flows(request) => Ok(Reply::Flows(engine.denials(request.after))),
        Request::Judge(request) => engine.judge(&request).map(Reply::Judged),
        Request::Backends(service) => engine.backends(&service).map(Reply::Backends),
        Request::Plan => engine.plan_json().map(Reply::Plan),
    }
}
