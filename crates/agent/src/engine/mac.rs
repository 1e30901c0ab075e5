//! Which Ethernet address an attachment gets.

use ipnet::IpNet;
use weft_model::api::{Attach, Error, ErrorKind};
use weft_model::{AttachmentId, Mac, Mode};

use super::{Engine, random};

impl Engine {
    /// On a segment an Ethernet address belongs to one: two with the same would take each other's packets.
    pub(super) fn unshared(&self, wish: &Attach) -> Result<(), Error> {
        let Some(mac) = wish.mac else { return Ok(()) };
        let Some(network) = self.plan.networks.get(&wish.id.network).filter(|n| n.mode == Mode::Bridge)
        else {
            return Ok(());
        };
        let mut others = self.plan.workloads.values().filter(|w| w.network == network.id);
        let holder = match others.find(|w| w.mac == mac || w.host_mac == mac) {
            Some(other) => other.id.to_string(),
            None if network.device_mac == mac => format!("the bridge {}", network.device),
            None => return Ok(()),
        };
        Err(Error::new(ErrorKind::Exists, format!("the Ethernet address {mac} belongs to {holder}"))
            .hint("ask for another, or for none: weft chooses one that is free"))
    }

    /// An Ethernet address that nobody else on the segment has. There it follows from the address, if it can: neighbours
    /// remember for a while who had an address, and would not find its next holder under another one.
    pub(super) fn fresh_mac(&self, id: &AttachmentId, addresses: &[IpNet]) -> Mac {
        let segment = self.plan.networks.get(&id.network).filter(|n| n.mode == Mode::Bridge);
        let steady = segment.and_then(|segment| {
            let mac = Mac::of_address(addresses.first()?.addr());
            let mut others = self.plan.workloads.values().filter(|w| w.network == segment.id);
            let is_free = segment.device_mac != mac && others.all(|w| w.mac != mac && w.host_mac != mac);
            is_free.then_some(mac)
        });
        steady.unwrap_or_else(|| Mac::from_seed(random()))
    }
}
