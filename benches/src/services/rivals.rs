//! The shapes of rules that kube-proxy writes, as text of our own: a verdict map with a chain per service and backend in
//! nftables, and a list of all services with chains behind it in iptables.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::Result;

use super::ground::{BACKENDS, Ground};
use super::weft::address;
use super::{Figures, median};

/// A change takes them long enough.
const CHANGES: usize = 11;

/// One rule of a chain of nftables per service and backend.
pub(crate) fn nftables(ground: &Ground, count: usize) -> Result<Figures> {
    let mut text = String::from("table ip kube-proxy {\n");
    let mut elements = Vec::with_capacity(count);
    for n in 0..count {
        writeln!(text, "chain e{n}-0 {{ meta l4proto tcp dnat to {}; }}", BACKENDS[0])?;
        writeln!(text, "chain e{n}-1 {{ meta l4proto tcp dnat to {}; }}", BACKENDS[1])?;
        writeln!(text, "chain s{n} {{ numgen random mod 2 vmap {{ 0 : goto e{n}-0, 1 : goto e{n}-1 }}; }}")?;
        elements.push(format!("{} . tcp . 80 : goto s{n}", address(n)));
    }
    write!(
        text,
        "map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; elements = {{ {} }}; }}\n\
         chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }}\n\
         chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n}}\n",
        elements.join(", ")
    )?;
    let load = ground.feed(&["nft", "-f", "-"], &text)?;
    let connect = ground.connect(SocketAddr::new(address(count - 1).into(), 80))?;
    let mut changes = Vec::new();
    for round in 0..CHANGES {
        let n = round * 7919 % count;
        let backends =
            if round % 2 == 0 { "{ 0 : goto e{n}-0 }" } else { "{ 0 : goto e{n}-0, 1 : goto e{n}-1 }" };
        let backends = backends.replace("{n}", &n.to_string());
        let modulus = 1 + round % 2;
        let text = format!(
            "flush chain ip kube-proxy s{n}\nadd rule ip kube-proxy s{n} numgen random mod {modulus} vmap {backends}\n"
        );
        changes.push(ground.feed(&["nft", "-f", "-"], &text)?);
    }
    ground.feed(&["nft", "-f", "-"], "delete table ip kube-proxy\n")?;
    Ok(Figures { connect, load, change: median(changes) })
}

/// A rule per service, one after the other, and chains behind them.
pub(crate) fn iptables(ground: &Ground, count: usize) -> Result<Figures> {
    let mut text = String::from("*nat\n:KUBE-SERVICES - [0:0]\n");
    for n in 0..count {
        writeln!(text, ":SVC{n} - [0:0]\n:SEP{n}A - [0:0]\n:SEP{n}B - [0:0]")?;
    }
    text += "-A PREROUTING -j KUBE-SERVICES\n";
    for n in 0..count {
        writeln!(text, "-A KUBE-SERVICES -d {}/32 -p tcp -m tcp --dport 80 -j SVC{n}", address(n))?;
        writeln!(
            text,
            "-A SVC{n} -m statistic --mode random --probability 0.5 -j SEP{n}A\n-A SVC{n} -j SEP{n}B"
        )?;
        writeln!(text, "-A SEP{n}A -p tcp -j DNAT --to-destination {}", BACKENDS[0])?;
        writeln!(text, "-A SEP{n}B -p tcp -j DNAT --to-destination {}", BACKENDS[1])?;
    }
    text += "COMMIT\n";
    let load = ground.feed(&["iptables-restore", "--noflush"], &text)?;
    let connect = ground.connect(SocketAddr::new(address(count - 1).into(), 80))?;
    let mut changes = Vec::new();
    for round in 0..CHANGES {
        let n = round * 7919 % count;
        let second = if round % 2 == 0 { String::new() } else { format!("-A SVC{n} -j SEP{n}B\n") };
        let text = format!("*nat\n:SVC{n} - [0:0]\n-A SVC{n} -j SEP{n}A\n{second}COMMIT\n");
        changes.push(ground.feed(&["iptables-restore", "--noflush"], &text)?);
    }
    ground.feed(&["iptables-restore"], "*nat\nCOMMIT\n")?;
    Ok(Figures { connect, load, change: median(changes) })
}
