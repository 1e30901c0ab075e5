//! Where attacks are tried: three workloads on one network, on the reference plugin or on weft.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use weft_kernel::netns::Netns;
use weft_lab::traffic::frame::Frame;
use weft_lab::traffic::{Capture, Tap, WebServer, get, ping, udp};
use weft_lab::{Links, Namespace, OUTSIDE4, OUTSIDE6};
use weft_model::{Mac, Mode};

use crate::reference::{self, Reference};
use crate::scene::{Case, Families, SOON, Scene, anywhere};

/// How often a frame is sent: once could be luck.
const TIMES: u64 = 10;

/// A workload as an attacker knows it.
pub struct Party {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Party {
    fn new(namespace: Namespace, addresses: impl IntoIterator<Item = IpAddr>) -> Result<Party> {
        let mac = namespace.links()?.link("eth0")?.mac.context("eth0 has no Ethernet address")?;
        let (mut v4, mut v6) = (None, None);
        for address in addresses {
            match address {
                IpAddr::V4(a) => v4 = Some(a),
                IpAddr::V6(a) => v6 = Some(a),
            }
        }
        Ok(Party { namespace, mac, v4: v4.context("no IPv4")?, v6: v6.context("no IPv6")? })
    }

    /// The link-local address that belongs to its Ethernet address (RFC 4291, appendix A).
    #[must_use]
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

enum On {
    Reference(Reference),
    Weft(Box<Scene>, Mode),
}

/// Three workloads on one network.
pub struct Ground {
    on: On,
    /// The host's link that the network hangs on.
    pub device: String,
    /// Who attacks.
    pub attacker: Party,
    /// Who is attacked.
    pub victim: Party,
    /// Whose name the attacker uses.
    pub third: Party,
    /// The gateway's IPv4 address, as the workloads know it.
    pub gateway4: Ipv4Addr,
    /// The gateway's IPv6 address, as the workloads know it.
    pub gateway6: Ipv6Addr,
    /// The gateway's Ethernet address.
    pub gateway_mac: Mac,
}

/// Frames that should not get through.
pub struct Attack {
    /// What the attacker sends.
    pub frames: Vec<Vec<u8>>,
    /// By what the victim's side recognises them.
    pub seen: Box<dyn Fn(&Frame) -> bool>,
    /// The counters that rise, in sum by one per frame, where they are stopped: the beginnings of their
    /// names. None where they are harmless in one of the modes, and not counted there.
    pub reasons: &'static [&'static str],
}

impl Ground {
    /// On the reference plugin's bridge.
    ///
    /// # Errors
    /// If it is missing or fails.
    pub fn reference() -> Result<Ground> {
        let reference = Reference::new()?;
        let party = || {
            let (namespace, addresses) = reference.attach()?;
            Party::new(namespace, addresses)
        };
        let (attacker, victim, third) = (party()?, party()?, party()?);
        let mac = Links::of(reference.host())?.link(reference::BRIDGE)?.mac;
        Ok(Ground {
            on: On::Reference(reference),
            device: reference::BRIDGE.to_owned(),
            attacker,
            victim,
            third,
            gateway4: "10.98.0.1".parse()?,
            gateway6: "fd98::1".parse()?,
            gateway_mac: mac.context("the bridge has no Ethernet address")?,
        })
    }

    /// On weft.
    ///
    /// # Errors
    /// As [`Scene::new`].
    pub fn weft(mode: Mode) -> Result<Ground> {
        let scene = Scene::new()?;
        let network = scene.network(1, Case { mode, families: Families::Dual })?;
        let first = scene.workload(&network)?;
        let v4 = |a: IpAddr| if let IpAddr::V4(a) = a { Some(a) } else { None };
        let v6 = |a: IpAddr| if let IpAddr::V6(a) = a { Some(a) } else { None };
        let gateway4 = v4(first.gateway(OUTSIDE4.into())?).context("the gateway is not IPv4")?;
        let gateway6 = v6(first.gateway(OUTSIDE6.into())?).context("the gateway is not IPv6")?;
        let gateway_mac = first.attached.bridge.as_ref().map_or(first.attached.host_mac, |(_, mac)| *mac);
        let device = match mode {
            Mode::Bridge => scene.host.status()?.networks[0].device.to_string(),
            Mode::Routed => first.attached.host_ifname.to_string(),
        };
        let party = |w: crate::scene::Workload| {
            let addresses: Vec<IpAddr> = w.addresses().collect();
            Party::new(w.namespace, addresses)
        };
        let (attacker, victim) = (party(first)?, party(scene.workload(&network)?)?);
        let third = party(scene.workload(&network)?)?;
        let on = On::Weft(Box::new(scene), mode);
        Ok(Ground { on, device, attacker, victim, third, gateway4, gateway6, gateway_mac })
    }

    /// The host's namespace.
    #[must_use]
    pub fn host(&self) -> &Netns {
        match &self.on {
            On::Reference(reference) => reference.host(),
            On::Weft(scene, _) => scene.host.netns(),
        }
    }

    /// The host with the agent, where there is one.
    #[must_use]
    pub fn scene(&self) -> Option<&Scene> {
        if let On::Weft(scene, _) = &self.on { Some(scene) } else { None }
    }

    /// The Ethernet address to which the attacker sends what is for another workload.
    #[must_use]
    pub fn next_hop(&self, to: &Party) -> Mac {
        if matches!(self.on, On::Weft(_, Mode::Routed)) { self.gateway_mac } else { to.mac }
    }

    /// Sends frames from the attacker, each several times.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<u64> {
        let tap = Tap::open(self.attacker.namespace.netns(), "eth0")?;
        for _ in 0..TIMES {
            frames.iter().try_for_each(|f| tap.send(f))?;
        }
        Ok(TIMES * u64::try_from(frames.len())?)
    }

    /// How many frames of an attack reach the victim's interface. An honest datagram goes after them:
    /// once that has arrived, nothing that was sent before can still come.
    ///
    /// # Errors
    /// The kernel's, or that the honest datagram did not arrive.
    pub fn delivered(&self, attack: &Attack) -> Result<usize> {
        const HONEST: &[u8] = b"an honest datagram";
        let capture = Capture::open(self.victim.namespace.netns(), "eth0")?;
        self.send(&attack.frames)?;
        let socket = udp(self.attacker.namespace.netns(), anywhere(0))?;
        socket.send_to(HONEST, SocketAddr::from((self.victim.v4, 9)))?;
        let frames = capture.until(SOON, |f| f.contains(HONEST)).context("the honest datagram is missing")?;
        Ok(frames.iter().filter(|f| (attack.seen)(f)).count())
    }

    /// Fails unless everybody still reaches everybody: the victim the host, the outside and the third
    /// workload, and each of those the victim.
    ///
    /// # Errors
    /// Who lost whom.
    pub fn all_is_well(&self) -> Result<()> {
        for party in [&self.victim, &self.third, &self.attacker] {
            for own in [IpAddr::V4(party.v4), IpAddr::V6(party.v6)] {
                ping(self.host(), own, 56, SOON).with_context(|| format!("the host lost {own}"))?;
            }
        }
        for to in [IpAddr::V4(self.third.v4), IpAddr::V6(self.third.v6)] {
            ping(self.victim.namespace.netns(), to, 56, SOON)
                .with_context(|| format!("the victim lost {to}"))?;
        }
        if let Some(scene) = self.scene() {
            let web = WebServer::start(scene.underlay.netns(), anywhere(0))?;
            for outside in [IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)] {
                let to = SocketAddr::new(outside, web.port());
                get(self.victim.namespace.netns(), to, SOON)
                    .with_context(|| format!("the victim lost {to}"))?;
            }
        }
        Ok(())
    }
}

/// Fails unless an attack gets through on the reference plugin and, on weft in both modes, does not, is
/// counted, and harms nobody.
///
/// # Errors
/// What went otherwise.
pub fn stopped(make: impl Fn(&Ground) -> Attack) -> Result<()> {
    let reference = Ground::reference()?;
    let through = reference.delivered(&make(&reference))?;
    ensure!(through > 0, "the attack does not even work where nothing stops it");
    for mode in [Mode::Routed, Mode::Bridge] {
        let ground = Ground::weft(mode)?;
        let scene = ground.scene().context("no agent here")?;
        let attack = make(&ground);
        let count =
            |all: &[&str]| -> Result<u64> { all.iter().map(|reason| Ok(scene.host.refused(reason)?)).sum() };
        let before = count(attack.reasons)?;
        let through = ground.delivered(&attack)?;
        ensure!(through == 0, "{through} frames got through in mode {}", mode.as_str());
        let counted = count(attack.reasons)? - before;
        let sent = TIMES * u64::try_from(attack.frames.len())?;
        let status = scene.host.status()?.refused;
        ensure!(
            attack.reasons.is_empty() || counted >= sent,
            "{counted} of {sent} counted in mode {}: {status:?}",
            mode.as_str()
        );
        ground.all_is_well()?;
    }
    Ok(())
}
