//! What was seen of a packet, as hops that a person can read.

use std::collections::BTreeMap;

use serde::Serialize;
use weft_kernel::nft::Family;
use weft_kernel::nft::trace::{Outcome, Step};

use super::{Answer, Question, Seen};

/// One hop, or one rule on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// Where: a workload or a host.
    pub at: String,
    /// What happened there.
    pub what: String,
    /// Whether it ended there.
    pub lost: bool,
}

/// What people call things.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The workload that sends, or the host.
    pub from: String,
    /// Whom it is for.
    pub to: String,
    /// Whose wire an interface of a host leads to.
    pub wires: BTreeMap<String, String>,
    /// What denies, by direction (`egress`, `ingress`).
    pub causes: BTreeMap<String, String>,
    /// What is put around packets that leave by a tunnel.
    pub around: Option<String>,
}

/// Makes hops of what was seen.
#[must_use]
pub fn tell(question: &Question, seen: &Seen, names: &Names) -> Vec<Hop> {
    let mut story = Story { seen, names, hops: Vec::new() };
    if let Some(place) = &question.from {
        story.say(&names.from, format!("sends it by {}", place.ifname));
    } else {
        story.say(&names.from, "sends it".to_owned());
    }
    for side in &question.hosts {
        story.host(&side.node);
    }
    let lost = story.hops.iter().any(|hop| hop.lost);
    match seen.arrived {
        Some(true) => story.say(&names.to, "takes it".to_owned()),
        Some(false) if !lost => story.lose(&names.to, "it did not come here".to_owned()),
        _ => {}
    }
    match &seen.answer {
        Some(Answer::Accepted) => story.say(&names.to, "answers: it is heard".to_owned()),
        Some(Answer::Refused) => story.say(&names.to, "answers: nobody listens at this port".to_owned()),
        Some(Answer::Unreachable(why)) => {
            story.lose(&names.from, format!("is told that it cannot go there: {why}"));
        }
        None if !lost => story.say(&names.from, "hears no answer".to_owned()),
        None => {}
    }
    story.hops
}

struct Story<'a> {
    seen: &'a Seen,
    names: &'a Names,
    hops: Vec<Hop>,
}

impl Story<'_> {
    fn say(&mut self, at: &str, what: String) {
        self.hops.push(Hop { at: at.to_owned(), what, lost: false });
    }

    fn lose(&mut self, at: &str, what: String) {
        self.hops.push(Hop { at: at.to_owned(), what, lost: true });
    }

    fn host(&mut self, node: &str) {
        let seen = self.seen;
        let steps = || seen.steps.iter().filter(|(at, _)| at == node).map(|(_, step)| step);
        if let Some(index) = steps().find_map(|step| step.came_by) {
            self.say(node, format!("it comes in by {}", self.link(node, index)));
        }
        let (mut ends, mut left) = (steps().find_map(addressed), None);
        for step in steps() {
            if let Some(now) = addressed(step)
                && ends.as_ref() != Some(&now)
            {
                self.say(node, format!("it is translated: {now}"));
                ends = Some(now);
            }
            self.rule(node, step);
            left = step.leaves_by.or(left);
        }
        let dropped = steps().any(|step| step.verdict == Outcome::Drop);
        if let Some(index) = left.filter(|_| !dropped) {
            let around = self
                .names
                .around
                .as_ref()
                .filter(|_| !self.names.wires.contains_key(&self.name(node, index)));
            let around = around.map(|around| format!(", {around}")).unwrap_or_default();
            self.say(node, format!("it leaves by {}{around}", self.link(node, index)));
        }
    }

    fn rule(&mut self, node: &str, step: &Step) {
        let named = step.rule.and_then(|rule| {
            self.seen.rules.get(&(node.to_owned(), step.table.clone())).and_then(|rules| rules.get(&rule))
        });
        let comment = named.and_then(|named| named.comment.as_deref());
        let what = match (comment, named.and_then(|named| named.text.as_deref()), step.rule) {
            (Some(comment), _, _) => self.policy(comment).unwrap_or_else(|| comment.to_owned()),
            (None, Some(text), _) => text.to_owned(),
            (None, None, Some(number)) => format!("rule {number}"),
            (None, None, None) => "end of the chain".to_owned(),
        };
        let word = match &step.verdict {
            Outcome::Drop => "drop",
            Outcome::Accept if step.rule.is_some() => "accept",
            Outcome::To(chain) => chain.as_str(),
            Outcome::Taken => "taken by a queue or another program",
            // What changes nothing, and ends of chains.
            Outcome::Continue if comment.is_some() => "",
            _ => return,
        };
        let arrow =
            if word.is_empty() || what.ends_with(word) { String::new() } else { format!(" → {word}") };
        let family = match step.table.family {
            Family::Bridge => "bridge ",
            _ => "",
        };
        let said = format!("{family}{} {}: {what}{arrow}", step.table.name, step.chain);
        let gone = matches!(step.verdict, Outcome::Drop | Outcome::Taken);
        if gone { self.lose(node, said) } else { self.say(node, said) }
    }

    /// A counter of denials, which knows only the wire, with the names of workload and policy.
    fn policy(&self, comment: &str) -> Option<String> {
        let rest = comment.strip_prefix("denied ").or_else(|| comment.strip_prefix("would deny "))?;
        let (direction, wire) = rest.split_once(' ')?;
        let whose = self.names.wires.get(wire).map_or(wire, String::as_str);
        let verb = &comment[..comment.len() - rest.len() - 1];
        let cause = self.names.causes.get(direction).map(|cause| format!(": {cause}")).unwrap_or_default();
        Some(format!("policy {verb} {direction} of {whose}{cause}"))
    }

    fn name(&self, node: &str, index: u32) -> String {
        let name = self.seen.links.get(&(node.to_owned(), index));
        name.cloned().unwrap_or_else(|| format!("interface {index}"))
    }

    fn link(&self, node: &str, index: u32) -> String {
        let name = self.name(node, index);
        match self.names.wires.get(&name) {
            Some(whose) => format!("{name}, the wire of {whose}"),
            None => name,
        }
    }
}

fn addressed(step: &Step) -> Option<String> {
    let (from, to) = step.ends?;
    Some(match step.ports {
        Some((source, destination)) => format!(
            "{} -> {}",
            std::net::SocketAddr::new(from, source),
            std::net::SocketAddr::new(to, destination)
        ),
        None => format!("{from} -> {to}"),
    })
}
