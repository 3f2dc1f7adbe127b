//! Where a pod may go because of other pods: required affinity and anti-affinity between pods, and
//! topology spread constraints. A topology domain is all nodes with one value of a label.

use std::collections::{BTreeMap, HashMap, HashSet};

use coffer_api::selector::LabelSelector;
use k8s_openapi::api::core::v1::{Node, PodAffinityTerm, PodSpec, TopologySpreadConstraint};

use super::cluster::{Cluster, PlacedPod};
use super::node_info::View;
use super::{affinity, taints};
use crate::pod::Pod;

type Labels = BTreeMap<String, String>;

/// Which pods a term is about, and in which topology.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    selector: Option<LabelSelector>,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
    topology_key: String,
}

impl Term {
    fn parse(term: &PodAffinityTerm, own_namespace: &str) -> Self {
        let parse = |selector| LabelSelector::of_structured(selector).ok();
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(own_namespace.to_owned());
        }
        Self {
            selector: term.label_selector.as_ref().and_then(parse),
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().and_then(parse),
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether the term is about pods of a namespace.
    fn is_about(&self, namespace: &str, cluster: &Cluster) -> bool {
        let none = Labels::new();
        self.namespaces.iter().any(|one| one == namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.matches(cluster.namespace_labels(namespace).unwrap_or(&none))
            })
    }

    /// Whether a pod with these labels is one of those that the term is about.
    fn selects(&self, namespace: &str, labels: &Labels, cluster: &Cluster) -> bool {
        self.is_about(namespace, cluster)
            && self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

/// The required anti-affinity of a pod, which binds others too once it is placed.
pub(crate) fn anti_affinity(pod: &Pod) -> Vec<Term> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required =
        anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref());
    terms(pod, required)
}

fn affinity_terms(pod: &Pod) -> Vec<Term> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let affinity = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    terms(pod, required)
}

fn terms(pod: &Pod, terms: Option<&Vec<PodAffinityTerm>>) -> Vec<Term> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    terms.into_iter().flatten().map(|term| Term::parse(term, namespace)).collect()
}

/// Whether the place of other pods, not only the room that they take, matters to a pod.
pub(crate) fn depends_on_others(pod: &Pod) -> bool {
    let spread = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_ref());
    spread.is_some_and(|spread| !spread.is_empty())
        || !affinity_terms(pod).is_empty()
        || !anti_affinity(pod).is_empty()
}

/// Why a node is out of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// A domain would have too many of these pods compared with another.
    Spread,
    /// The node is in no domain of a constraint.
    SpreadLabel,
    /// The pods that this one must be near to are not there.
    Affinity,
    /// A pod that this one must keep away from is there.
    AntiAffinity,
    /// A pod that keeps this one away is there.
    ExistingAntiAffinity,
}

/// What the pods that are placed mean for one that is not.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    affinity: Option<Affinity>,
    /// Domains with a pod to keep away from.
    away: HashSet<(String, String)>,
    /// Domains of pods that keep this one away.
    forbidden: HashSet<(String, String)>,
    spread: Vec<Spread>,
}

#[derive(Debug)]
struct Affinity {
    keys: Vec<String>,
    /// Domains, for each key, with a pod that fits all terms.
    near: HashSet<(String, String)>,
    /// It fits its own terms and no placed pod does: it may be the first one anywhere.
    first: bool,
}

#[derive(Debug)]
struct Spread {
    key: String,
    hard: bool,
    skew_max: usize,
    /// Pods that count, by domain.
    counts: HashMap<String, usize>,
    least: usize,
    /// 1 if the pod itself counts.
    own: usize,
}

impl Rules {
    /// Works out the rules for a pod.
    pub(crate) fn of(pod: &Pod, cluster: &Cluster) -> Self {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut rules = Self { spread: spreads(pod, cluster), ..Self::default() };
        let (wants, avoids) = (affinity_terms(pod), anti_affinity(pod));
        if !wants.is_empty() {
            let all = |other: &PlacedPod<'_>| {
                wants.iter().all(|term| term.selects(other.namespace, other.labels, cluster))
            };
            let about = |namespace: &str| wants.iter().all(|it| it.is_about(namespace, cluster));
            let mut near = HashSet::new();
            for other in cluster.pods_of(about).filter(all) {
                let node = other.node.node;
                near.extend(wants.iter().filter_map(|term| domain(node, &term.topology_key)));
            }
            let own = wants.iter().all(|term| term.selects(namespace, &labels, cluster));
            let keys = wants.iter().map(|term| term.topology_key.clone()).collect();
            let first = near.is_empty() && own;
            rules.affinity = Some(Affinity { keys, near, first });
        }
        if !avoids.is_empty() {
            let about = |namespace: &str| avoids.iter().any(|it| it.is_about(namespace, cluster));
            for other in cluster.pods_of(about) {
                let met = avoids
                    .iter()
                    .filter(|term| term.selects(other.namespace, other.labels, cluster));
                let node = other.node.node;
                rules.away.extend(met.filter_map(|term| domain(node, &term.topology_key)));
            }
        }
        for other in cluster.anti_affine() {
            let kept = other.avoids.iter().filter(|term| term.selects(namespace, &labels, cluster));
            let node = other.node.node;
            rules.forbidden.extend(kept.filter_map(|term| domain(node, &term.topology_key)));
        }
        rules
    }

    /// The first rule against a node, in upstream's order.
    pub(crate) fn against(&self, node: &Node) -> Option<Against> {
        for spread in self.spread.iter().filter(|spread| spread.hard) {
            let Some(value) = label(node, &spread.key) else { return Some(Against::SpreadLabel) };
            let count = spread.counts.get(value).copied().unwrap_or(0) + spread.own;
            if count.saturating_sub(spread.least) > spread.skew_max {
                return Some(Against::Spread);
            }
        }
        if let Some(affinity) = &self.affinity {
            let mut keys = affinity.keys.iter();
            let fits = keys.all(|key| {
                domain(node, key).is_some_and(|at| affinity.first || affinity.near.contains(&at))
            });
            if !fits {
                return Some(Against::Affinity);
            }
        }
        let labels = || node.metadata.labels.iter().flatten();
        let meets = |domains: &HashSet<(String, String)>| {
            !domains.is_empty()
                && labels().any(|(key, value)| domains.contains(&(key.clone(), value.clone())))
        };
        if meets(&self.away) {
            return Some(Against::AntiAffinity);
        }
        meets(&self.forbidden).then_some(Against::ExistingAntiAffinity)
    }

    /// How many of the pods that should be spread, but need not, are in the node's domains.
    pub(crate) fn crowd(&self, node: &Node) -> i64 {
        let soft = self.spread.iter().filter(|spread| !spread.hard);
        let count: usize =
            soft.filter_map(|spread| spread.counts.get(label(node, &spread.key)?)).sum();
        i64::try_from(count).unwrap_or(i64::MAX)
    }
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn domain(node: &Node, key: &str) -> Option<(String, String)> {
    label(node, key).map(|value| (key.to_owned(), value.to_owned()))
}

fn spreads(pod: &Pod, cluster: &Cluster) -> Vec<Spread> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    constraints.iter().map(|constraint| spread(pod, spec, constraint, cluster)).collect()
}

fn spread(
    pod: &Pod,
    spec: &PodSpec,
    constraint: &TopologySpreadConstraint,
    cluster: &Cluster,
) -> Spread {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let parsed = constraint
        .label_selector
        .as_ref()
        .and_then(|selector| LabelSelector::of_structured(selector).ok());
    let equal: Vec<(&String, &String)> = constraint
        .match_label_keys
        .iter()
        .flatten()
        .filter_map(|key| labels.get_key_value(key))
        .collect();
    let counts_labels = |other: &Labels| {
        parsed.as_ref().is_some_and(|selector| selector.matches(other))
            && equal.iter().all(|(key, value)| other.get(*key) == Some(value))
    };
    let key = &constraint.topology_key;
    let eligible = |view: &View<'_>| {
        let by_affinity = constraint.node_affinity_policy.as_deref() == Some("Ignore")
            || affinity::matches(spec, view.node);
        let by_taints = constraint.node_taints_policy.as_deref() != Some("Honor")
            || taints::untolerated(spec, view.taints()).is_none();
        by_affinity && by_taints
    };
    let mut counts: HashMap<String, usize> = HashMap::new();
    for view in cluster.nodes().filter(|view| eligible(view)) {
        if let Some(value) = label(view.node, key) {
            counts.entry(value.to_owned()).or_default();
        }
    }
    let own_namespace = |other: &str| other == namespace;
    for other in cluster.pods_of(own_namespace).filter(|other| counts_labels(other.labels)) {
        let domain = label(other.node.node, key).filter(|_| eligible(&other.node));
        if let Some(count) = domain.and_then(|value| counts.get_mut(value)) {
            *count += 1;
        }
    }
    let domains_min = usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1);
    let least =
        if counts.len() < domains_min { 0 } else { counts.values().min().copied().unwrap_or(0) };
    Spread {
        key: key.clone(),
        hard: constraint.when_unsatisfiable == "DoNotSchedule",
        skew_max: usize::try_from(constraint.max_skew).unwrap_or(1),
        least,
        own: usize::from(counts_labels(&labels)),
        counts,
    }
}

#[cfg(test)]
mod tests;
