//! Other hosts, and the way to them, as text.

use weft_model::api::{Explanation, PeerStatus};

use super::list;
use crate::output::{Output, Tone};
use crate::table::Table;

/// One line per host and network; what is wrong with a host comes last.
pub(crate) fn peers(output: Output, peers: &[PeerStatus]) -> String {
    let mut table =
        Table::new(["PEER", "ADDRESSES", "NETWORK", "PATH", "MTU", "BLOCKS", "HEARD", "PROBLEM"]).right(4);
    for peer in peers {
        let heard = peer.heard.map_or_else(|| "never".to_owned(), |s| format!("{s}s ago"));
        let problem = peer.problem.clone().unwrap_or_default();
        let head = [peer.node.to_string(), list(peer.addresses.iter())];
        if peer.reaches.is_empty() {
            let [node, addresses] = head.clone();
            let none = String::new;
            table.row([node, addresses, none(), none(), none(), none(), heard.clone(), problem.clone()]);
        }
        for reach in &peer.reaches {
            let [node, addresses] = head.clone();
            table.row([
                node,
                addresses,
                reach.network.to_string(),
                reach.path.clone(),
                reach.mtu.to_string(),
                list(reach.blocks.iter()),
                heard.clone(),
                problem.clone(),
            ]);
        }
    }
    table.render(output)
}

/// The ends, each hop, and the conclusion.
pub(crate) fn explanation(output: Output, explanation: &Explanation) -> String {
    let mut table = Table::new(["AT", "DOES", "MTU"]).right(2);
    for hop in &explanation.hops {
        table.row([hop.at.clone(), hop.does.clone(), hop.mtu.map(|m| m.to_string()).unwrap_or_default()]);
    }
    let Explanation { from, to, mtu, note, .. } = explanation;
    let end = match note {
        None if *mtu == 0 => String::new(),
        None => format!("largest packet: {mtu} bytes\n"),
        Some(note) => format!("{}\n", output.tone(Tone::Bad, &format!("not reached: {note}"))),
    };
    format!("{from} to {to}\n{}{end}", table.render(output))
}
