//! A workload's limits as queues: what to the workload waits at the host's end of its wire, what comes from
//! it waits at a detour, for the kernel queues only what leaves by an interface.
//!
//! ```text
//!   to the workload     host ── queue at weft… ──▶ eth0
//!   from the workload   eth0 ──▶ weft… ── queue at wefti… ──▶ back to weft…, guard, host
//! ```
//!
//! Both are on the host's side: a workload, whatever its privileges in its own namespace, reaches neither.

use serde::Serialize;
use weft_model::{IfName, Limit, Workload};

/// Both directions of a wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BandwidthPlan {
    /// Towards the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Queue>,
    /// From the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Detour>,
}

/// A queue that is served at a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Bits per second.
    pub rate: u64,
    /// What may pass at once after a pause, in bytes.
    pub burst: u64,
    /// What may wait, in bytes; what finds it full is dropped.
    pub waiting: u64,
}

/// An interface through which packets go only to wait their turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detour {
    /// Its name.
    pub device: IfName,
    /// Where they wait.
    pub queue: Queue,
}

/// A burst that was not asked for lasts so long at the rate: a host that is busy and serves the queue late
/// by this much still reaches the rate, and over ten seconds it is a quarter of a percent.
const BURST: Duration = Duration { millis: 25 };
/// Packets wait so long at most: a stream that fills the queue reaches the rate over the distance of a
/// continent, and a call beside it is not spoilt.
const WAITING: Duration = Duration { millis: 100 };
/// At low rates those times hold less than a packet. So many packets may always pass at once,
const LEAST_BURST: u64 = 2;
/// and so many may always wait.
const LEAST_WAITING: u64 = 10;
/// What an Ethernet frame has beyond its MTU: header and one VLAN tag, in bytes.
const FRAME: u64 = 18;

#[derive(Clone, Copy)]
struct Duration {
    millis: u64,
}

impl Duration {
    /// How many bytes pass in that time, at so many bits per second.
    fn bytes(self, rate: u64) -> u64 {
        rate.saturating_mul(self.millis) / 8000
    }
}

/// Plans a workload's queues.
#[must_use]
pub fn plan(workload: &Workload) -> BandwidthPlan {
    let limits = workload.profile.bandwidth;
    let queue = |limit: Limit| queue(limit, workload.mtu);
    let detour = |limit| Detour { device: detour(&workload.host_end), queue: queue(limit) };
    BandwidthPlan { to: limits.ingress.map(queue), from: limits.egress.map(detour) }
}

fn queue(limit: Limit, mtu: u32) -> Queue {
    let packet = u64::from(mtu) + FRAME;
    let burst = match limit.burst() {
        // A packet larger than the burst would never be let through (net/sched/sch_tbf.c `tbf_enqueue`).
        Some(bits) => (bits / 8).max(packet),
        None => BURST.bytes(limit.rate()).max(LEAST_BURST * packet),
    };
    let waiting = WAITING.bytes(limit.rate()).max(LEAST_WAITING * packet);
    Queue { rate: limit.rate(), burst, waiting }
}

/// The name of a wire's detour, which follows from the wire's: `wefti` and ten hexadecimal digits.
#[must_use]
pub fn detour(host_end: &IfName) -> IfName {
    let digits = host_end
        .as_str()
        .strip_prefix("weft")
        .filter(|d| d.len() == 10 && d.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    let name = match digits {
        Some(digits) => format!("wefti{digits}"),
        None => format!("wefti{:010x}", fnv1a(host_end.as_str()) & 0xff_ffff_ffff),
    };
    name.parse().expect("five letters and ten digits are a valid interface name")
}

/// A well-known hash (FNV-1a, 64 bits): the name of a wire that its user chose becomes digits.
fn fnv1a(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detours_follow_from_wires() {
        let name = |host_end: &str| detour(&host_end.parse().unwrap()).to_string();
        assert_eq!(name("weft0123abcdef"), "wefti0123abcdef");
        assert_eq!(name("web0"), "weftif619ea41f3");
        assert_ne!(name("web0"), name("web1"));
    }

    #[test]
    fn bursts_and_queues_suit_the_rate_and_hold_packets() {
        let planned = |text: &str, mtu| {
            let Queue { burst, waiting, .. } = queue(text.parse().unwrap(), mtu);
            (burst, waiting)
        };
        assert_eq!(planned("1G", 1500), (3_125_000, 12_500_000));
        assert_eq!(planned("10M", 1500), (31_250, 125_000));
        assert_eq!(planned("128k", 1500), (3036, 15_180));
        assert_eq!(planned("128k", 65_535), (131_106, 655_530));
        // Asked for: taken as it is, but for one packet.
        assert_eq!(planned("10M:8M", 1500).0, 1_000_000);
        assert_eq!(planned("10M:8k", 1500).0, 1518);
    }
}
