//! `ADD`: connect a container (CNI SPEC.md 1.1.0, section 2, "ADD").

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use weft_model::api::{Attach, Attached, Reply, Request};
use weft_model::{AttachmentId, Profile};

use super::Call;
use crate::conf::Conf;
use crate::env::{Command, EnvError};
use crate::error::Failure;
use crate::field::shown;
use crate::ipam::Ipam;
use crate::result::{CniResult, Interface, Ip, Route};

/// Connects, and returns the result as text.
pub(crate) fn add(call: &Call<'_>, notes: &mut Vec<String>) -> Result<String, Failure> {
    let (container, ifname) = call.env.target()?;
    let netns = call.env.netns()?.ok_or(EnvError::Missing { command: "ADD", names: vec!["CNI_NETNS"] })?;
    let args = call.env.args()?;
    let conf = Conf::parse(call.stdin, Command::Add)?;
    is_a_containers(&netns)?;

    let mut ips = conf.runtime.ips.clone();
    ips.extend(args.ips.iter().copied());
    let mut attach = Attach {
        id: AttachmentId { network: conf.essentials.network.clone(), container, ifname },
        owner: conf.essentials.owner.clone(),
        netns,
        ips: in_order_without_repetition(ips),
        ranges: conf.runtime.ranges.clone(),
        assigned: Vec::new(),
        mac: conf.runtime.mac.or(args.mac),
        host_ifname: None,
        pod: args.pod,
        profile: Profile {
            ports: conf.runtime.ports.clone(),
            bandwidth: conf.runtime.bandwidth,
            ..Profile::default()
        },
        explain: false,
    };
    let ipam = Ipam::find(conf.essentials.ipam.as_deref(), call.env, call.stdin, call.host)?;
    let Some(ipam) = ipam else {
        let attached = attach_to(call, &conf, &attach)?;
        return Ok(finish(conf, &attach, &attached, None));
    };

    // The other plugin has read the wishes for addresses from the same configuration.
    attach.ips.clear();
    attach.ranges.clear();
    let done = ipam.add().map_err(Failure::from).and_then(|given| {
        attach.assigned = given.ips.iter().map(|ip| ip.address).collect();
        Ok((attach_to(call, &conf, &attach)?, given))
    });
    match done {
        Ok((attached, given)) => Ok(finish(conf, &attach, &attached, Some(given))),
        Err(failure) => {
            if let Err(error) = ipam.call(Command::Del) {
                notes.push(format!("{}: the addresses could not be given back: {error}", attach.id));
            }
            Err(failure)
        }
    }
}

fn attach_to(call: &Call<'_>, conf: &Conf, attach: &Attach) -> Result<Attached, Failure> {
    match call.ask(&conf.essentials, &Request::Attach(Box::new(attach.clone())))? {
        Reply::Attached(attached) => Ok(*attached),
        _ => Err(call.unexpected()),
    }
}

/// Refuses a namespace that is not there, and the host's own: an interface would be made on the host.
fn is_a_containers(netns: &Path) -> Result<(), EnvError> {
    let refused = |reason| Err(EnvError::Netns { value: shown(&netns.to_string_lossy()), reason });
    let Ok(theirs) = fs::metadata(netns) else { return refused("cannot be opened: is there such a file?") };
    match fs::metadata("/proc/thread-self/ns/net") {
        Ok(ours) if (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()) => {
            refused("is the host's own namespace, not a container's")
        }
        // Without /proc there is nothing to compare with; the agent looks again.
        _ => Ok(()),
    }
}

fn in_order_without_repetition<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    items.into_iter().fold(Vec::new(), |mut kept, item| {
        if !kept.contains(&item) {
            kept.push(item);
        }
        kept
    })
}

/// The result: what the chain has made so far, what the agent has made, what resolvers shall be told.
fn finish(conf: Conf, attach: &Attach, attached: &Attached, given: Option<CniResult>) -> String {
    let mut ours = result_of(attach, attached);
    ours.dns = conf.resolvers();
    if let Some(given) = given.filter(|_| ours.dns.is_empty()) {
        ours.dns = given.dns;
    }
    let whole = match conf.previous {
        Some(mut previous) => {
            previous.append(ours);
            previous
        }
        None => ours,
    };
    whole.render(conf.version)
}

fn result_of(attach: &Attach, attached: &Attached) -> CniResult {
    let on_the_host = |name: &weft_model::IfName, mac: weft_model::Mac| Interface {
        name: name.to_string(),
        mac: Some(mac.to_string()),
        ..Interface::default()
    };
    let mut interfaces = vec![on_the_host(&attached.host_ifname, attached.host_mac)];
    interfaces.extend(attached.bridge.as_ref().map(|(name, mac)| on_the_host(name, *mac)));
    let inside = interfaces.len();
    interfaces.push(Interface {
        mtu: Some(attached.mtu),
        sandbox: Some(attach.netns.to_string_lossy().into_owned()),
        ..on_the_host(&attach.id.ifname, attached.mac)
    });
    let ip = |a: &weft_model::api::AssignedAddress| Ip {
        address: a.address,
        gateway: Some(a.gateway),
        interface: Some(inside),
    };
    let route = |(dst, gw): &(ipnet::IpNet, std::net::IpAddr)| Route {
        dst: *dst,
        gw: Some(*gw),
        attributes: Default::default(),
    };
    CniResult {
        interfaces,
        ips: attached.addresses.iter().map(ip).collect(),
        routes: attached.routes.iter().map(route).collect(),
        dns: Default::default(),
    }
}
