//! Attaching: from a wish to an interface in force, or to nothing at all.

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;
use weft_kernel::change::Stale;
use weft_kernel::netns::{self, Netns};
use weft_kernel::{Cause, Change, ChangeError};
use weft_model::api::{AssignedAddress, Attach, Attached, Error, ErrorKind};
use weft_model::{AttachmentId, IfName, Mac, Mode, Phase, Profile, Workload};
use weft_plan::WorkloadPlan;
use weft_plan::address::Wish;
use weft_store::Write;

use super::{Engine, no_network, random};
use crate::{chain, clock, fault, host};

const OPERATION: &str = "attach";

impl Engine {
    /// Gives a namespace an interface; when this returns it carries packets, behind its guard.
    ///
    /// # Errors
    /// With everything undone.
    pub(crate) fn attach(&mut self, wish: &Attach) -> Result<Attached, Error> {
        if !wish.explain {
            let journal = self.journal.clone();
            crate::journal::drain_one(self, &journal, &wish.id);
        }
        match self.attach_once(wish) {
            Err(Refused::Rules(_)) => {
                // Somebody has just flushed the tables; the caller need not wait for their repair.
                self.sync();
                self.attach_once(wish).map_err(Error::from)
            }
            other => other.map_err(Error::from),
        }
    }

    fn attach_once(&mut self, wish: &Attach) -> Result<Attached, Refused> {
        let netns = self.namespace(wish)?;
        let workload = self.choose(wish, &netns)?;
        let network = &self.plan.networks[&wish.id.network];
        let planned = weft_plan::attach::plan(&workload, network);
        let mut wanted = weft_dataplane::render_workload(&planned);
        if !wish.explain {
            self.prepare_loopback(&mut wanted);
            self.end_former_flows(&workload);
        }
        let mut changes = weft_dataplane::steps(&wanted, &weft_dataplane::empty_for_workload().state);
        if wish.explain {
            changes.splice(..0, self.policy_of(&workload));
            let commands = changes.iter().flat_map(Change::commands).collect();
            return Ok(Attached { commands, ..self.attached(&planned) });
        }
        fault::point(OPERATION);
        self.insert(workload.clone());
        let policy = self.replan_policy();
        if let Err(error) = self.record(vec![Write::PutWorkload(Box::new(workload))]) {
            self.remove(&wish.id);
            self.follow_policy();
            self.give_back(&wish.id);
            return Err(error.into());
        }
        fault::point(OPERATION);
        // What its policies say is in force before there is a wire (invariant 6).
        changes.extend(super::policy::changes(policy));
        if let Err(error) = self.make(&changes) {
            self.undo(&planned);
            let why = self.explain_refusal(wish, &error);
            return Err(if matches!(error.cause, Cause::Rules(_)) {
                Refused::Rules(why)
            } else {
                why.into()
            });
        }
        fault::point(OPERATION);
        if let Some(workload) = self.world.workloads.get_mut(&wish.id) {
            workload.phase = Phase::Ready;
        }
        if let Some(plan) = self.plan.workloads.get_mut(&wish.id) {
            plan.phase = Phase::Ready;
        }
        self.serve_workload(&wish.id);
        self.unwritten.insert(wish.id.clone());
        Ok(self.attached(&planned))
    }

    fn namespace(&mut self, wish: &Attach) -> Result<Netns, Error> {
        let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
        let netns = Netns::open(&wish.netns).map_err(|e| {
            invalid(chain(&e))
                .hint("give the path of a network namespace, such as /run/netns/NAME or /proc/PID/ns/net")
        })?;
        let own = Netns::current().map_err(|e| invalid(chain(&e)))?;
        if own.inode() == netns.inode() {
            let path = wish.netns.display();
            return Err(invalid(format!("{path} is the host's own network namespace"))
                .hint("a workload needs a namespace of its own: `ip netns add NAME`"));
        }
        if let Some(present) = self.world.workloads.get(&wish.id) {
            let still = Netns::open(&present.netns.path).is_ok_and(|n| n.inode() == present.netns.inode);
            if still || present.netns.inode == netns.inode() {
                return Err(Error::new(ErrorKind::Exists, format!("{} is attached already", wish.id))
                    .hint("detach it first (CNI DEL, `weft detach`), or choose another interface name"));
            }
            // Its namespace is gone and nobody said so: this is another container under the same name.
            self.forget(&wish.id);
        }
        Ok(netns)
    }

    /// Fills in what the wish leaves open. The addresses are held when this returns.
    fn choose(&mut self, wish: &Attach, netns: &Netns) -> Result<Workload, Error> {
        let network =
            self.world.networks.get(&wish.id.network).ok_or_else(|| no_network(&wish.id.network))?;
        let mtu = self.plan.networks[&network.name].mtu;
        self.unshared(wish)?;
        self.once_per_namespace(wish, netns)?;
        let host_end = match &wish.host_ifname {
            Some(name) => self.free_name(name)?,
            None => fresh_host_end(),
        };
        let ports = self.wanted_ports(wish, netns)?;
        let addresses = if wish.assigned.is_empty() {
            let asked = Wish { id: &wish.id, ips: &wish.ips, ranges: &wish.ranges };
            let addresses = self.addresses(&wish.id.network)?;
            let allocated = match wish.explain {
                true => addresses.clone().allocate(&asked, clock::now()),
                false => addresses.allocate(&asked, clock::now()),
            };
            allocated.map_err(Error::from)?
        } else {
            self.assigned(wish)?
        };
        Ok(Workload {
            id: wish.id.clone(),
            owner: wish.owner.clone(),
            phase: Phase::Pending,
            netns: weft_model::Netns { path: wish.netns.clone(), inode: netns.inode() },
            host_end,
            mac: wish.mac.unwrap_or_else(|| self.fresh_mac(&wish.id, &addresses)),
            mtu,
            addresses,
            default_route: !self.of_namespace(netns.inode()).any(|w| w.default_route),
            pod: wish.pod.clone(),
            profile: Profile { ports, ..wish.profile.clone() },
        })
    }

    /// Whoever had an address a moment ago has left connections that must not reach its next holder.
    fn end_former_flows(&mut self, workload: &Workload) {
        if self.leaving.is_empty() {
            return;
        }
        let addresses = workload.addresses.iter().map(IpNet::addr);
        let former: Vec<Stale> = addresses.filter(|a| self.leaving.contains(a)).map(Stale::Of).collect();
        if let Some(error) = self.forget_flows(former) {
            tracing::warn!(error = chain(&error), "failed to end connections of an address's former holder");
        }
    }

    /// Addresses that another IPAM gave out are taken as they are, but never twice, and never those of
    /// the host itself. What of them lies in the network's own pool is held there.
    fn assigned(&mut self, wish: &Attach) -> Result<Vec<IpNet>, Error> {
        let taken = host::addresses().map_err(|e| Error::new(ErrorKind::Kernel, chain(&e)))?;
        for given in &wish.assigned {
            let address = given.addr();
            let refuse = |kind, why: &str| {
                let message = format!("the delegated IPAM gave {given}, which {why}");
                Err(Error::new(kind, message).hint("correct its configuration"))
            };
            if !can_be_a_workloads(address) {
                return refuse(ErrorKind::Invalid, "no workload can have");
            }
            if taken.contains(&address) {
                return refuse(ErrorKind::Invalid, "is the host's own");
            }
            let holds = |w: &&Workload| w.addresses.iter().any(|a| a.addr() == address);
            if let Some(holder) = self.world.workloads.values().find(holds) {
                return refuse(ErrorKind::Exists, &format!("belongs to {}", holder.id));
            }
        }
        let pools = self.addresses(&wish.id.network)?;
        let own = pools.own(&wish.assigned);
        if !own.is_empty() {
            pools.restore(&wish.id, &own).map_err(Error::from)?;
        }
        Ok(wish.assigned.clone())
    }

    /// Two routed wires of one network in one namespace: the route to the network could lead by one only,
    /// and answers of the other would leave with the wrong source.
    fn once_per_namespace(&self, wish: &Attach, netns: &Netns) -> Result<(), Error> {
        let network = &wish.id.network;
        let routed = self.plan.networks.get(network).is_some_and(|n| n.mode == Mode::Routed);
        let mut inside = self.of_namespace(netns.inode());
        match inside.find(|w| w.id.network == *network).filter(|_| routed) {
            None => Ok(()),
            Some(present) => {
                let (netns, ifname) = (wish.netns.display(), &present.id.ifname);
                let message = format!("{netns} is in network '{network}' already, as {ifname}");
                Err(Error::new(ErrorKind::Exists, message)
                    .hint("a namespace joins a routed network once; join another network, or one with --mode bridge"))
            }
        }
    }

    /// What policy would put into the kernel for a workload; nothing of it is done, and nothing is remembered.
    fn policy_of(&mut self, workload: &Workload) -> Vec<Change> {
        self.insert(workload.clone());
        let policy = super::policy::changes(self.replan_policy());
        self.remove(&workload.id);
        self.replan_policy();
        policy
    }

    fn free_name(&self, name: &IfName) -> Result<IfName, Error> {
        if netns::index_of(name.as_str()).is_some() || self.host_ends.contains_key(name) {
            return Err(Error::new(ErrorKind::Exists, format!("the host has an interface {name} already"))
                .hint("choose another name for the host's end, or none"));
        }
        Ok(name.clone())
    }

    /// Makes the changes, the guard before all else: without it there shall be no wire. A name that is only
    /// waiting for its deletion is given the chance to go first.
    fn make(&mut self, changes: &[Change]) -> Result<(), ChangeError> {
        let (flows, changes): (Vec<_>, Vec<_>) =
            changes.iter().cloned().partition(|c| matches!(c, Change::ForgetFlows(..)));
        let (guard, wire): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|c| matches!(c, Change::InstallRules(..)));
        first_error(self.apply(OPERATION, &guard))?;
        self.make_wire(&wire)?;
        for error in self.apply(OPERATION, &flows).into_iter().filter_map(Result::err) {
            tracing::warn!(
                error = chain(&error),
                "failed to end connections to a port that is published now"
            );
        }
        Ok(())
    }

    fn make_wire(&mut self, wire: &[Change]) -> Result<(), ChangeError> {
        match first_error(self.apply(OPERATION, wire)) {
            Err(error) if exists(&error) => {}
            other => return other,
        }
        // Whether or not there is something left to reap: the reaper may have just done it.
        if let Err(error) = self.kernel.reap() {
            tracing::warn!(error = chain(&error), "failed to delete retired links");
        }
        first_error(self.apply(OPERATION, wire))
    }

    /// Takes back whatever of the attachment is there.
    fn undo(&mut self, planned: &WorkloadPlan) {
        let wanted = weft_dataplane::render_workload(planned);
        let removal = weft_dataplane::steps(&weft_dataplane::empty_for_workload(), &wanted.state);
        for answer in self.apply(OPERATION, &removal) {
            if let Err(error) = answer {
                tracing::warn!(error = chain(&error), "failed to undo a step of an attach");
            }
        }
        let _ = self.kernel.reap();
        self.remove(&planned.id);
        self.enforce(OPERATION);
        self.give_back(&planned.id);
        let id = planned.id.clone();
        self.record_or_owe(vec![Write::RemoveWorkload { id, freed: Vec::new(), at: clock::now() }]);
    }

    /// Frees addresses that nobody has used.
    pub(super) fn give_back(&mut self, id: &AttachmentId) {
        if let Some(addresses) = self.addresses.get_mut(&id.network) {
            addresses.free(id, clock::now());
        }
    }

    fn explain_refusal(&self, wish: &Attach, error: &ChangeError) -> Error {
        let netns = wish.netns.display();
        if let Some(error) = lacking(error) {
            return error;
        }
        if exists(error) {
            let ifname = &wish.id.ifname;
            return Error::new(ErrorKind::Exists, format!("{netns} has an interface {ifname} already"))
                .hint("choose another interface name, or remove that interface");
        }
        match &error.cause {
            Cause::Netns(_) | Cause::Replaced { .. } => Error::new(
                ErrorKind::Invalid,
                format!("{netns} vanished while it was attached: {}", chain(error)),
            ),
            _ => Error::new(ErrorKind::Kernel, chain(error)),
        }
    }

    fn attached(&self, planned: &WorkloadPlan) -> Attached {
        let bridge = (planned.mode == Mode::Bridge).then(|| {
            let mac = self.plan.networks.get(&planned.id.network).map_or(planned.host_mac, |n| n.device_mac);
            (planned.device.clone(), mac)
        });
        let gateway = |address: &IpNet| {
            let same = |g: &&(IpAddr, Mac)| g.0.is_ipv4() == address.addr().is_ipv4();
            planned.gateways.iter().find(same).map(|g| g.0)
        };
        let with_gateway =
            |a: &IpNet| AssignedAddress { address: *a, gateway: gateway(a).unwrap_or_else(|| a.addr()) };
        Attached {
            host_ifname: planned.host_end.clone(),
            host_mac: planned.host_mac,
            bridge,
            mac: planned.mac,
            mtu: planned.mtu,
            addresses: planned.addresses.iter().map(with_gateway).collect(),
            routes: planned.routes.clone(),
            commands: Vec::new(),
        }
    }
}

/// Whether an address is one that packets between hosts bear.
fn can_be_a_workloads(address: IpAddr) -> bool {
    let nowhere = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    let narrow = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !nowhere && !narrow
}

/// Why an attach was refused, with everything undone.
enum Refused {
    /// nftables refused the guard: the tables are not what they should be.
    Rules(Error),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Other(error)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        let (Refused::Rules(error) | Refused::Other(error)) = refused;
        error
    }
}

fn first_error(answers: Vec<Result<(), ChangeError>>) -> Result<(), ChangeError> {
    answers.into_iter().collect()
}

/// What a kernel without the parts that limits are made of says, with what to do about it.
pub(super) fn lacking(error: &ChangeError) -> Option<Error> {
    let of_limits = error.command.starts_with("tc ") || error.command.ends_with(" type ifb");
    let lacks = |errno: Errno| error.cause.errno() == Some(errno.raw_os_error());
    (of_limits && (lacks(Errno::NOENT) || lacks(Errno::OPNOTSUPP))).then(|| {
        Error::new(ErrorKind::Kernel, chain(error)).hint(
            "limits of bandwidth need the kernel's modules sch_tbf, and for what a workload sends ifb, sch_ingress, \
             cls_u32 and act_mirred",
        )
    })
}

fn exists(error: &ChangeError) -> bool {
    error.command.starts_with("ip link add") && error.cause.errno() == Some(Errno::EXIST.raw_os_error())
}

/// A name that no other attempt has had: rules and records that still mention an old one mean nobody.
fn fresh_host_end() -> IfName {
    let digits = random() & 0xff_ffff_ffff;
    format!("{}{digits:010x}", weft_kernel::ours::WIRE_PREFIX)
        .parse()
        .expect("a prefix and ten hexadecimal digits are a valid name")
}
