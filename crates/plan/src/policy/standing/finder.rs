//! Finding the selectors that mean a workload without asking all of them: each is filed under one label that it requires.

use std::collections::HashMap;

use weft_model::selector::Operator;
use weft_model::{LabelKey, LabelValue, NamespaceName, Selector};

use super::super::matcher::{Matcher, Member, Namespaces};

/// Of how many values of one label a selector is filed under each; with more it is asked always.
const VALUES: usize = 64;

/// Where a selector is filed.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Under a label, with any of these values: a workload has at most one of them.
    Label(LabelKey, Vec<LabelValue>),
    /// Under the namespace of its workloads.
    Namespace(NamespaceName),
    /// Among those that are asked always.
    Always,
}

/// Selectors by number.
#[derive(Debug, Default)]
pub(super) struct Finder {
    by_label: HashMap<(LabelKey, LabelValue), Vec<u32>>,
    by_namespace: HashMap<NamespaceName, Vec<u32>>,
    always: Vec<u32>,
}

impl Finder {
    /// Files a selector of workloads; blocks of addresses mean no workload and have no place.
    pub(super) fn file(&mut self, matcher: &Matcher, id: u32) -> Option<Place> {
        let Matcher::Pods { namespaces, pods, .. } = matcher else { return None };
        let place = self.place(namespaces, pods);
        self.lists(&place, |list| list.push(id));
        Some(place)
    }

    /// Takes one out.
    pub(super) fn forget(&mut self, place: &Place, id: u32) {
        self.lists(place, |list| {
            if let Some(at) = list.iter().position(|other| *other == id) {
                list.swap_remove(at);
            }
        });
    }

    /// The label that the fewest others are filed under.
    fn place(&self, namespaces: &Namespaces, pods: &Selector) -> Place {
        let crowd = |label: &(&LabelKey, &LabelValue)| {
            self.by_label.get(&(label.0.clone(), label.1.clone())).map_or(0, Vec::len)
        };
        if let Some((key, value)) = pods.match_labels.iter().min_by_key(crowd) {
            return Place::Label(key.clone(), vec![value.clone()]);
        }
        let one_of = pods
            .match_expressions
            .iter()
            .find(|r| r.operator == Operator::In && (1..=VALUES).contains(&r.values.len()));
        match (one_of, namespaces) {
            (Some(one_of), _) => Place::Label(one_of.key.clone(), one_of.values.iter().cloned().collect()),
            (None, Namespaces::One(name)) => Place::Namespace(name.clone()),
            (None, Namespaces::Selected(_)) => Place::Always,
        }
    }

    fn lists(&mut self, place: &Place, mut change: impl FnMut(&mut Vec<u32>)) {
        match place {
            Place::Label(key, values) => {
                for value in values {
                    let label = (key.clone(), value.clone());
                    let list = self.by_label.entry(label.clone()).or_default();
                    change(list);
                    if list.is_empty() {
                        self.by_label.remove(&label);
                    }
                }
            }
            Place::Namespace(name) => {
                let list = self.by_namespace.entry(name.clone()).or_default();
                change(list);
                if list.is_empty() {
                    self.by_namespace.remove(name);
                }
            }
            Place::Always => change(&mut self.always),
        }
    }

    /// Those that may mean a workload; each has to be asked.
    pub(super) fn candidates(&self, member: &Member) -> impl Iterator<Item = u32> {
        let labels = member.labels.iter();
        let by_label = labels.filter_map(|(k, v)| self.by_label.get(&(k.clone(), v.clone()))).flatten();
        let by_namespace = self.by_namespace.get(&member.namespace).into_iter().flatten();
        by_label.chain(by_namespace).chain(&self.always).copied()
    }
}
