//! Taking down what a container held, by whoever finds it: its shim when it ends, or a later command.
//!
//! Everything here may be gone already. A failure is noted, and the rest is taken down all the same.

use std::fs;
use std::path::Path;
use std::time::Duration;

use weft_kernel::agent;
use weft_kernel::journal;
use weft_kernel::linux::cut_wire;
use weft_kernel::netns::Netns;
use weft_model::api::{Detach, Reply, Request};
use weft_model::{AttachmentId, IfName};

use crate::birth::root::ETC;
use crate::container::Live;
use crate::places::Places;
use crate::rootfs;
use crate::spec::{Net, Spec};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the agent may take; what it cannot do now it does later, from the journal.
const AGENT: Duration = Duration::from_secs(10);

/// The attachment that a container has, if it is on a network.
#[must_use]
pub fn attachment(spec: &Spec) -> Option<AttachmentId> {
    let Net::Network(network) = &spec.net else { return None };
    let ifname: IfName = "eth0".parse().expect("eth0 is an interface's name");
    Some(AttachmentId { network: network.clone(), container: spec.name.id(), ifname })
}

/// Takes down all that a container holds in the kernel, and its folder of this boot. Returns what could not be done.
pub fn release(places: &Places, spec: &Spec, live: Option<&Live>) -> Vec<String> {
    let mut left = Vec::new();
    if let Some(live) = live {
        live.group.kill();
        for folder in live.group.remove(PATIENCE) {
            left.push(format!("the cgroup {} is still in use", folder.display()));
        }
    }
    left.extend(disconnect(places, spec, live));
    rootfs::unmount(&places.containers().join(spec.name.as_str()));
    left.extend(clear(&places.live(&spec.name)));
    left
}

/// Takes it off its network, and its namespace away; one of that name that is not noted as its own is somebody else's.
fn disconnect(places: &Places, spec: &Spec, live: Option<&Live>) -> Option<String> {
    let netns = live.and_then(|live| live.netns.clone());
    let mut left = None;
    if let Some(id) = attachment(spec) {
        let detach = Detach { id, netns: netns.clone(), expect: Vec::new(), explain: false };
        let reply = agent::ask(&places.socket, &Request::Detach(detach.clone()), AGENT);
        if !matches!(reply, Ok(Reply::Done { .. })) {
            // What the next agent finds in the journal it makes good; the wire is cut at once.
            let _ = cut_wire(netns.as_deref(), &detach.id);
            if let Err(error) = journal::write(&places.journal, &detach) {
                left = Some(format!("the agent could not be told that {} is over: {error}", detach.id));
            }
        }
    }
    let removed = netns.map(|path| Netns::remove_at(&path));
    left.or(removed.and_then(Result::err).map(|e| e.to_string()))
}

/// Removes the folder of this boot: only what is known by name.
fn clear(folder: &Path) -> Option<String> {
    for file in ETC.iter().chain(&["live.json", "live.new", "grace", "grace.new"]) {
        let _ = fs::remove_file(folder.join(file));
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Some(format!("the folder {} could not be removed: {error}", folder.display()))
        }
        _ => None,
    }
}
