//! What a container consists of, made in an order in which nothing waits for long, and taken down again.

use std::fs;
use std::path::PathBuf;

use weft_kernel::agent::Asked;
use weft_kernel::netns::Netns;

use super::connect;
use crate::birth::dev;
use crate::cgroup::{Group, Trees};
use crate::container::{Held, Layers, Live, Phase, boot, private_folder, save};
use crate::etc;
use crate::places::Places;
use crate::release;
use crate::report::{Refusal, chain};
use crate::rootfs;
use crate::spec::{Net, Spec};
use crate::users::Space;

/// The parts. Their state is in a file before they are made, so that another can take them down.
pub(super) struct Parts<'a> {
    pub(super) places: &'a Places,
    pub(super) spec: &'a Spec,
    pub(super) held: &'a Held,
    pub(super) live: Live,
    pub(super) netns: Option<Netns>,
    /// Its user namespace, if it has one.
    pub(super) space: Option<Space>,
    /// The agent's answer is still to come.
    pub(super) asked: Option<Asked>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(places: &'a Places, spec: &'a Spec, held: &'a Held) -> Parts<'a> {
        let live = Live {
            boot: boot(),
            phase: Phase::Created,
            shim: rustix::process::getpid().as_raw_pid(),
            pid: None,
            started: None,
            restarts: 0,
            group: Group::default(),
            netns: None,
            addresses: Vec::new(),
            root: Layers::default(),
        };
        Parts { places, spec, held, live, netns: None, space: None, asked: None }
    }

    /// Makes all of them; the agent may still be at work when this returns.
    pub(super) fn make(&mut self) -> Result<(), Refusal> {
        let folder = self.folder();
        private_folder(&folder).map_err(|e| chain(&e))?;
        let own = matches!(self.spec.net, Net::Network(_) | Net::None);
        if own {
            self.live.netns = Some(connect::vacant(self.spec)?);
        }
        self.save()?;
        let own_network = self.spec.net != Net::Host;
        let range = self.spec.users.range();
        etc::write(&folder, &self.spec.hostname, own_network, range.map_or(0, |range| range.first))
            .map_err(|e| Refusal::new(format!("failed to write to {}: {e}", folder.display())))?;
        let (space, netns) = match range.map(|range| Space::create(range, own)).transpose()? {
            Some((space, netns)) => (Some(space), netns),
            None => (None, None),
        };
        self.space = space;
        self.netns = connect::namespace(self.spec, netns)?;
        self.asked = connect::ask(self.places, self.spec)?;
        if let (Net::None, Some(netns)) = (&self.spec.net, &self.netns) {
            connect::raise_loopback(netns)?;
        }
        let trees = Trees::of_this_host().map_err(|e| chain(&e))?;
        let name = self.spec.name.as_str();
        self.live.group =
            Group::create(&trees, name, &self.spec.limits, &dev::rules()).map_err(|e| chain(&e))?;
        self.live.root = rootfs::mount(self.places, self.spec, &self.held.folder, self.space.as_ref())?;
        self.save()
    }

    /// Waits for the agent, if it was asked, and writes the addresses where the container finds them.
    pub(super) fn connected(&mut self) -> Result<(), Refusal> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        self.live.addresses = connect::answer(asked)?;
        let hosts = etc::hosts(&self.spec.hostname, &connect::plain(&self.live.addresses));
        let path = self.folder().join("hosts");
        fs::write(&path, hosts).map_err(|e| Refusal::new(format!("failed to write {}: {e}", path.display())))
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.places.live(&self.spec.name)
    }

    pub(super) fn save(&self) -> Result<(), Refusal> {
        save(&self.folder().join("live.json"), &self.live).map_err(|e| chain(&e))
    }

    /// Takes all of it down. Returns what could not be.
    pub(super) fn release(&mut self) -> Vec<String> {
        // An attachment that is still being made would come after its own end.
        if let Some(asked) = self.asked.take() {
            let _ = asked.reply();
        }
        (self.netns, self.space) = (None, None);
        let left = release::release(self.places, self.spec, Some(&self.live));
        if self.spec.remove {
            rootfs::release(self.places, self.spec, &self.held.folder);
        }
        left
    }
}
