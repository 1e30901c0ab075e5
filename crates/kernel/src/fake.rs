//! A kernel made of plain data: it holds state, refuses what Linux refuses, and fails or dies on demand.
//!
//! For laws and faults only; it proves nothing about Linux. Tests look at the state it reached, never
//! at the calls it got.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use weft_model::IfName;

use crate::change::{Cause, Change, ChangeError, Kernel, ReadError};
use crate::netlink::Refusal;
use crate::nft;
use crate::ours::{REAPED, is_ours, tables};
use crate::state::{Inside, Kind, Link, Loopback, Route, State, Sysctl};

/// The fake. Namespaces must be declared before wires lead into them.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    /// The host's side, foreign objects included.
    pub host: State,
    /// Namespaces by path, with what is configured in each by interface name.
    pub namespaces: BTreeMap<PathBuf, BTreeMap<IfName, Option<Inside>>>,
    /// Which namespace and interface is at the other end of a wire.
    pub peers: BTreeMap<IfName, (PathBuf, IfName)>,
    /// After so many further changes the agent is dead: everything fails until this is `None` again.
    pub dies_after: Option<usize>,
    /// The change with this number (from now on, 0 is the next) is refused with `ENOBUFS`.
    pub refuses: BTreeSet<usize>,
    /// How many changes were asked for.
    pub asked: usize,
}

impl FakeKernel {
    /// Makes a namespace, as a runtime would.
    pub fn add_namespace(&mut self, path: impl Into<PathBuf>) {
        self.namespaces.entry(path.into()).or_default();
    }

    /// Ends a namespace: its interfaces go, and with them the host's ends of their wires.
    pub fn remove_namespace(&mut self, path: &std::path::Path) {
        self.namespaces.remove(path);
        let gone: Vec<IfName> =
            self.peers.iter().filter(|(_, (p, _))| p == path).map(|(name, _)| name.clone()).collect();
        gone.iter().for_each(|name| self.remove_link(name));
    }

    /// Deletes the retired wires, as the reaper does.
    pub fn reap(&mut self) {
        let retired: Vec<IfName> =
            self.host.links.iter().filter(|(_, l)| l.group == REAPED).map(|(n, _)| n.clone()).collect();
        retired.iter().for_each(|name| self.remove_link(name));
    }

    /// Deletes a link with all that hangs on it, as anybody might behind our back.
    pub fn remove_link(&mut self, name: &IfName) {
        self.host.links.remove(name);
        self.strip(name);
        self.host.shapes.remove(name);
        self.host.detours.retain(|from, by| from != name && by != name);
        self.forget_forwarding(name);
        self.host.addresses.retain(|(n, _)| n != name);
        self.host.sysctls.retain(|key, _| key.link() != Some(name.as_str()));
        for link in self.host.links.values_mut().filter(|l| l.master.as_ref() == Some(name)) {
            link.master = None;
        }
        if let Some((path, ifname)) = self.peers.remove(name)
            && let Some(namespace) = self.namespaces.get_mut(&path)
        {
            namespace.remove(&ifname);
        }
    }

    /// A link that goes down loses its routes and neighbours.
    fn strip(&mut self, name: &IfName) {
        self.host.routes.retain(|_, route| route.device != *name);
        self.host.neighbours.retain(|(n, _), _| n != name);
    }

    /// A link that goes takes its forwarding entries along; one that goes down keeps them.
    fn forget_forwarding(&mut self, name: &IfName) {
        self.host.forwarding.retain(|(n, _), _| n != name);
    }

    fn one(&mut self, change: &Change) -> Result<(), Cause> {
        let number = self.asked;
        self.asked += 1;
        if let Some(left) = &mut self.dies_after {
            *left = left.checked_sub(1).ok_or_else(|| Cause::Fault("killed".to_owned()))?;
        }
        if self.refuses.contains(&number) {
            return Err(refused(libc::ENOBUFS));
        }
        match change {
            Change::SetSysctl(key, value) | Change::SetLinkSysctl(key, value) => {
                if key.link().is_none_or(|l| self.host.links.keys().any(|n| n.as_str() == l)) {
                    self.host.sysctls.insert(key.clone(), value.clone());
                }
            }
            Change::InstallRules(ops) | Change::RemoveRules(ops) => {
                nft::fake::apply(&mut self.host.tables, ops).map_err(|(_, errno)| refused(errno))?;
            }
            Change::CreateBridge(name, link)
            | Change::CreateIfb(name, link)
            | Change::CreateTunnel(name, link) => {
                self.absent(name)?;
                let born = Link { up: false, hairpin: false, alias: None, ..link.clone() };
                self.host.links.insert(name.clone(), born);
            }
            Change::CreateWire(name, link, inside) => self.create_wire(name, link, inside)?,
            Change::Release(name) => {
                self.present(name)?;
                self.host.links.entry(name.clone()).and_modify(|l| l.master = None);
            }
            Change::Refit(name, inside, _) => {
                self.present(name)?;
                let namespace = self.namespaces.get(&inside.netns.path);
                if !namespace.is_some_and(|n| n.contains_key(&inside.ifname)) {
                    return Err(Cause::NoLink(inside.ifname.clone()));
                }
            }
            Change::SetLink(name, link) => {
                self.present(name)?;
                if let Some(master) = &link.master {
                    self.present(master)?;
                }
                if !link.up {
                    self.strip(name);
                }
                let before = self.host.links.get(name).cloned();
                let (alias, master, hairpin) =
                    before.map(|l| (l.alias, l.master, l.hairpin)).unwrap_or_default();
                let alias = if link.kind == Kind::Wire { alias } else { link.alias.clone() };
                // Linux too leaves a link in its bridge where no other is named.
                let master = link.master.clone().or(master);
                self.host.links.insert(name.clone(), Link { alias, master, hairpin, ..link.clone() });
            }
            Change::SetHairpin(name, on) => {
                self.present(name)?;
                self.host.links.entry(name.clone()).and_modify(|l| l.hairpin = *on);
            }
            Change::AddAddress(name, address) => {
                self.present(name)?;
                self.host.addresses.insert((name.clone(), *address));
            }
            Change::SetNeighbour(name, address, mac) => {
                self.up(name)?;
                self.host.neighbours.insert((name.clone(), *address), *mac);
            }
            Change::SetForwarding(name, mac, to) => {
                self.present(name)?;
                self.host.forwarding.insert((name.clone(), *mac), *to);
            }
            Change::DeleteForwarding(name, mac) => {
                self.host.forwarding.remove(&(name.clone(), *mac));
            }
            Change::SetRoute(to, route) => {
                self.up(&route.device)?;
                self.source_is_local(route)?;
                self.host.routes.insert(*to, route.clone());
            }
            Change::Configure(name, inside) => self.configure(name, inside)?,
            Change::Finish(name, alias) => {
                self.up(name)?;
                let configured = self.peers.get(name).is_some_and(|(path, ifname)| {
                    self.namespaces.get(path).is_some_and(|n| matches!(n.get(ifname), Some(Some(_))))
                });
                let link = self.host.links.get_mut(name).filter(|_| configured);
                link.ok_or_else(|| Cause::NotOperational(name.clone()))?.alias = Some(alias.clone());
            }
            Change::InstallLoopback => self.host.loopback = Some(Loopback::default()),
            Change::SetLocalPorts(ports) => {
                let absent = || Cause::from(crate::loopback::Error::Absent);
                self.host.loopback.as_mut().ok_or_else(absent)?.ports.extend(ports);
            }
            Change::UnsetLocalPorts(ports) => {
                if let Some(loopback) = &mut self.host.loopback {
                    loopback.ports.retain(|port, _| !ports.contains(port));
                }
            }
            Change::RemoveLoopback => self.host.loopback = None,
            Change::ForgetFlows(_) => {} // no packets, no connections
            Change::DeleteRoute(to, route) => {
                if self.host.routes.get(to).is_some_and(|r| r.device == route.device) {
                    self.host.routes.remove(to);
                }
            }
            Change::DeleteNeighbour(name, address) => {
                self.host.neighbours.remove(&(name.clone(), *address));
            }
            Change::SetShape(name, shape) => {
                self.present(name)?;
                self.host.shapes.insert(name.clone(), *shape);
            }
            Change::SetDetour(name, by) => {
                self.present(name)?;
                self.present(by)?;
                self.host.detours.insert(name.clone(), by.clone());
            }
            Change::DeleteDetour(name, _) => {
                self.host.detours.remove(name);
            }
            Change::DeleteShape(name, _) => {
                self.host.shapes.remove(name);
            }
            Change::DeleteAddress(name, address) => {
                self.host.addresses.remove(&(name.clone(), *address));
            }
            Change::Retire(name) => {
                if let Some(link) = self.host.links.get_mut(name) {
                    (link.up, link.group) = (false, REAPED);
                    self.strip(name);
                }
            }
            Change::DeleteLink(name) => self.remove_link(name),
        }
        Ok(())
    }

    fn create_wire(&mut self, name: &IfName, link: &Link, inside: &Inside) -> Result<(), Cause> {
        self.absent(name)?;
        if let Some(master) = &link.master {
            self.present(master)?;
        }
        let path = &inside.netns.path;
        let namespace = self.namespaces.get_mut(path).ok_or_else(|| refused(libc::ENOENT))?;
        if namespace.contains_key(&inside.ifname) {
            return Err(refused(libc::EEXIST));
        }
        namespace.insert(inside.ifname.clone(), None);
        self.peers.insert(name.clone(), (path.clone(), inside.ifname.clone()));
        let born = Link { up: false, hairpin: false, alias: None, ..link.clone() };
        self.host.links.insert(name.clone(), born);
        Ok(())
    }

    fn configure(&mut self, name: &IfName, inside: &Inside) -> Result<(), Cause> {
        self.present(name)?;
        let namespace = self.namespaces.get_mut(&inside.netns.path);
        let slot = namespace.and_then(|n| n.get_mut(&inside.ifname));
        *slot.ok_or_else(|| Cause::NoLink(inside.ifname.clone()))? = Some(inside.clone());
        Ok(())
    }

    fn present(&self, name: &IfName) -> Result<(), Cause> {
        self.host.links.contains_key(name).then_some(()).ok_or_else(|| Cause::NoLink(name.clone()))
    }

    fn absent(&self, name: &IfName) -> Result<(), Cause> {
        if self.host.links.contains_key(name) { Err(refused(libc::EEXIST)) } else { Ok(()) }
    }

    fn up(&self, name: &IfName) -> Result<(), Cause> {
        self.present(name)?;
        if self.host.links[name].up { Ok(()) } else { Err(refused(libc::ENETDOWN)) }
    }

    fn source_is_local(&self, route: &Route) -> Result<(), Cause> {
        let local = |source| self.host.addresses.iter().any(|(_, a)| a.addr() == source);
        if route.source.is_none_or(local) { Ok(()) } else { Err(refused(libc::EINVAL)) }
    }
}

fn refused(errno: i32) -> Cause {
    Cause::Refused(Refusal { errno, reason: None })
}

impl Kernel for FakeKernel {
    fn read(&mut self, sysctls: &[Sysctl]) -> Result<State, ReadError> {
        let mut state = self.host.clone();
        state.links.retain(|_, link| is_ours(link.group));
        let ours = &state.links;
        state.addresses.retain(|(name, _)| ours.contains_key(name));
        state.neighbours.retain(|(name, _), _| ours.contains_key(name));
        state.shapes.retain(|name, _| ours.contains_key(name));
        state.detours.retain(|name, _| ours.contains_key(name));
        state.forwarding.retain(|(name, _), _| ours.contains_key(name));
        state.sysctls.retain(|key, _| sysctls.contains(key));
        state.tables.retain(|name, _| tables().contains(name));
        Ok(state)
    }

    fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), ChangeError>> {
        let apply = |change: &Change| {
            self.one(change).map_err(|cause| ChangeError { command: change.command(0), cause })
        };
        changes.iter().map(apply).collect()
    }
}
