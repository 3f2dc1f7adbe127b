//! Required affinity and anti-affinity between pods, and topology spread constraints. A topology domain is
//! the set of nodes with the same value of a label.

use std::collections::{BTreeMap, HashMap, HashSet};

use coffer_api::selector::LabelSelector;
use k8s_openapi::api::core::v1::{
    Node, PodAffinityTerm, PodSpec, TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use super::cluster::{Cluster, PlacedPod};
use super::node_info::View;
use super::{affinity, taints};
use crate::pod::Pod;

type Labels = BTreeMap<String, String>;

/// A pod affinity term: which pods, and in which topology.
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

    /// Whether the term applies to the pods of a namespace.
    fn is_about(&self, namespace: &str, cluster: &Cluster) -> bool {
        let none = Labels::new();
        self.namespaces.iter().any(|one| one == namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.matches(cluster.namespace_labels(namespace).unwrap_or(&none))
            })
    }

    /// Whether the term selects a pod with these labels.
    fn selects(&self, namespace: &str, labels: &Labels, cluster: &Cluster) -> bool {
        self.is_about(namespace, cluster)
            && self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

/// The required anti-affinity of a pod, which applies to other pods too when it is placed.
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

/// A term that makes the nodes of a domain better, or worse: upstream's InterPodAffinity score.
#[derive(Clone, Debug)]
pub(crate) struct Preference {
    term: Term,
    /// Negative for anti-affinity.
    weight: i64,
}

/// The weight of a placed pod's required affinity for the score of pods that it selects: upstream's
/// `hardPodAffinityWeight`.
const REQUIRED_AFFINITY_WEIGHT: i64 = 1;

/// The preferred affinity and anti-affinity of a pod.
fn preferences(pod: &Pod) -> Vec<Preference> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let near = near.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref());
    let away = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let away = away.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let weighted = |sign: i64| {
        move |it: &WeightedPodAffinityTerm| Preference {
            term: Term::parse(&it.pod_affinity_term, namespace),
            weight: sign * i64::from(it.weight),
        }
    };
    let near = near.into_iter().flatten().map(weighted(1));
    near.chain(away.into_iter().flatten().map(weighted(-1))).collect()
}

/// The preferences of a placed pod for the pods that are scheduled after it.
pub(crate) fn preferences_of_placed(pod: &Pod) -> Vec<Preference> {
    let required = affinity_terms(pod).into_iter();
    let required = required.map(|term| Preference { term, weight: REQUIRED_AFFINITY_WEIGHT });
    preferences(pod).into_iter().chain(required).collect()
}

fn terms(pod: &Pod, terms: Option<&Vec<PodAffinityTerm>>) -> Vec<Term> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    terms.into_iter().flatten().map(|term| Term::parse(term, namespace)).collect()
}

/// Whether the nodes of other pods matter to a pod, not only their usage.
pub(crate) fn depends_on_others(pod: &Pod) -> bool {
    let spread = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_ref());
    spread.is_some_and(|spread| !spread.is_empty())
        || !affinity_terms(pod).is_empty()
        || !anti_affinity(pod).is_empty()
}

/// Why a node does not fit because of other pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopologyConflict {
    /// The skew of a spread constraint would be too large.
    Spread,
    /// The node does not have the label of a spread constraint.
    SpreadLabel,
    /// The domain does not have the pods that the pod's affinity requires.
    Affinity,
    /// The domain has a pod that the pod's anti-affinity excludes.
    AntiAffinity,
    /// The domain has a pod whose anti-affinity excludes this pod.
    ExistingAntiAffinity,
}

/// The constraints of a pod by other pods, evaluated once for all nodes.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    affinity: Option<Affinity>,
    /// Domains that the pod's anti-affinity excludes.
    away: HashSet<(String, String)>,
    /// Domains that the anti-affinity of placed pods excludes.
    forbidden: HashSet<(String, String)>,
    spread: Vec<Spread>,
    /// Domains with the sum of the weights of all preferences for and against them.
    preferred: HashMap<(String, String), i64>,
}

#[derive(Debug)]
struct Affinity {
    keys: Vec<String>,
    /// Domains, for each key, with a pod that all terms select.
    near: HashSet<(String, String)>,
    /// No placed pod is selected and the pod is selected itself: then it fits on any node with the labels.
    first: bool,
}

#[derive(Debug)]
struct Spread {
    key: String,
    hard: bool,
    skew_max: usize,
    /// The number of selected pods, by domain.
    counts: HashMap<String, usize>,
    least: usize,
    /// 1 if the pod itself is selected.
    own: usize,
}

impl Rules {
    /// Evaluates the constraints of a pod.
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
        rules.prefer(pod, &labels, cluster);
        rules
    }

    /// Adds up the preferences of the pod, and those of placed pods that select it.
    fn prefer(&mut self, pod: &Pod, labels: &Labels, cluster: &Cluster) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut add = |preference: &Preference, node: &Node| {
            if let Some(domain) = domain(node, &preference.term.topology_key) {
                let sum = self.preferred.entry(domain).or_default();
                *sum = sum.saturating_add(preference.weight);
            }
        };
        let own = preferences(pod);
        if !own.is_empty() {
            let about = |namespace: &str| own.iter().any(|it| it.term.is_about(namespace, cluster));
            for other in cluster.pods_of(about) {
                own.iter()
                    .filter(|it| it.term.selects(other.namespace, other.labels, cluster))
                    .for_each(|it| add(it, other.node.node));
            }
        }
        for other in cluster.with_preferences() {
            let for_this = other.prefers.iter();
            for_this
                .filter(|it| it.term.selects(namespace, labels, cluster))
                .for_each(|it| add(it, other.node.node));
        }
    }

    /// The first constraint that a node violates, in upstream's order.
    pub(crate) fn conflict(&self, node: &Node) -> Option<TopologyConflict> {
        for spread in self.spread.iter().filter(|spread| spread.hard) {
            let Some(value) = label(node, &spread.key) else {
                return Some(TopologyConflict::SpreadLabel);
            };
            let count = spread.counts.get(value).copied().unwrap_or(0) + spread.own;
            if count.saturating_sub(spread.least) > spread.skew_max {
                return Some(TopologyConflict::Spread);
            }
        }
        if let Some(affinity) = &self.affinity {
            let mut keys = affinity.keys.iter();
            let fits = keys.all(|key| {
                domain(node, key).is_some_and(|at| affinity.first || affinity.near.contains(&at))
            });
            if !fits {
                return Some(TopologyConflict::Affinity);
            }
        }
        let labels = || node.metadata.labels.iter().flatten();
        let meets = |domains: &HashSet<(String, String)>| {
            !domains.is_empty()
                && labels().any(|(key, value)| domains.contains(&(key.clone(), value.clone())))
        };
        if meets(&self.away) {
            return Some(TopologyConflict::AntiAffinity);
        }
        meets(&self.forbidden).then_some(TopologyConflict::ExistingAntiAffinity)
    }

    /// The sum of the weights of all preferences for and against the node.
    pub(crate) fn preference(&self, node: &Node) -> i64 {
        if self.preferred.is_empty() {
            return 0;
        }
        let labels = node.metadata.labels.iter().flatten();
        let weights =
            labels.filter_map(|(key, value)| self.preferred.get(&(key.clone(), value.clone())));
        weights.fold(0, |sum, weight| sum.saturating_add(*weight))
    }

    /// The number of pods in the node's domains that the soft spread constraints select.
    pub(crate) fn soft_spread_count(&self, node: &Node) -> i64 {
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
