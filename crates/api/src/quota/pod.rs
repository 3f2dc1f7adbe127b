//! What one pod counts for in a quota, and what the pods of a quota use together.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Affinity, Container, Pod, PodSpec, PodStatus, ResourceQuotaSpec, ResourceRequirements,
    ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use super::{PodResource, number, of_pods};
use crate::demand::{Resources, limits, requests};
use crate::kinds::pod::{QosClass, is_terminal};
use crate::quantity::Quantity;

/// One pod as quotas look at it. It is a fraction of the pod's size, so that it can be kept for each pod
/// of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUsage {
    /// Whether it has not ended: a pod that has holds nothing but its object.
    live: bool,
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
    active_deadline: Option<i64>,
    best_effort: bool,
    priority_class: Option<String>,
    looks_into_other_namespaces: bool,
    counts_until: Option<Timestamp>,
}

impl PodUsage {
    /// What a pod counts for.
    pub fn of(pod: &Pod) -> Self {
        let amounts = |of: fn(&PodSpec) -> Resources| {
            let all = pod.spec.as_ref().map(of).unwrap_or_default();
            let some = all.iter().filter(|(_, amount)| !amount.is_zero());
            some.map(|(name, amount)| (name.to_owned(), amount.clone())).collect()
        };
        let spec = pod.spec.as_ref();
        let class = spec.and_then(|spec| spec.priority_class_name.as_ref());
        Self {
            live: !is_terminal(pod),
            requests: amounts(requests),
            limits: amounts(limits),
            active_deadline: spec.and_then(|spec| spec.active_deadline_seconds),
            best_effort: spec.is_some_and(|spec| QosClass::of_spec(spec) == QosClass::BestEffort),
            priority_class: class.filter(|class| !class.is_empty()).cloned(),
            looks_into_other_namespaces: spec.is_some_and(looks_into_other_namespaces),
            counts_until: counts_until(pod),
        }
    }

    /// When a deleted pod that is still there no longer counts as live: its node may be lost, which must
    /// not keep its owner from replacing it. `None` for a pod that is not deleted, or has ended.
    pub fn counts_until(&self) -> Option<Timestamp> {
        self.counts_until.filter(|_| self.live)
    }

    /// The same pod, no longer live.
    pub fn ended(&self) -> Self {
        Self { live: false, ..self.clone() }
    }

    /// What a stored pod counts for. What else it says, which may be a megabyte of it, is not read.
    ///
    /// # Errors
    /// For bytes that are not a pod.
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        read_pod(bytes).map(|pod| Self::of(&pod))
    }

    /// Whether the pod is one of those that the quota is about.
    pub fn is_in_scope(&self, spec: &ResourceQuotaSpec) -> bool {
        let plain = spec.scopes.iter().flatten();
        let selected = spec.scope_selector.iter();
        let selected = selected.flat_map(|selector| selector.match_expressions.iter().flatten());
        plain.into_iter().all(|scope| self.has_scope(scope))
            && selected.into_iter().all(|requirement| self.matches(requirement))
    }

    fn has_scope(&self, scope: &str) -> bool {
        match scope {
            "Terminating" => self.active_deadline.is_some_and(|seconds| seconds >= 0),
            "NotTerminating" => self.active_deadline.is_none(),
            "BestEffort" => self.best_effort,
            "NotBestEffort" => !self.best_effort,
            "PriorityClass" => self.priority_class.is_some(),
            "CrossNamespacePodAffinity" => self.looks_into_other_namespaces,
            _ => false,
        }
    }

    fn matches(&self, requirement: &ScopedResourceSelectorRequirement) -> bool {
        let values = requirement.values.as_deref().unwrap_or_default();
        let class = self.priority_class.as_ref();
        let listed = || class.is_some_and(|class| values.contains(class));
        match (requirement.scope_name.as_str(), requirement.operator.as_str()) {
            ("PriorityClass", "In") => listed(),
            ("PriorityClass", "NotIn") => !listed(),
            (scope, "Exists") => self.has_scope(scope),
            (scope, "DoesNotExist") => !self.has_scope(scope),
            _ => false,
        }
    }
}

/// What pods use together. What is added can be taken away again, so that it is kept and not counted
/// again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    live: usize,
    all: usize,
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
}

impl Totals {
    /// What these pods use.
    pub fn of<'a>(pods: impl IntoIterator<Item = &'a PodUsage>) -> Self {
        let mut totals = Self::default();
        pods.into_iter().for_each(|pod| totals.add(pod));
        totals
    }

    /// Counts a pod.
    pub fn add(&mut self, pod: &PodUsage) {
        self.all += 1;
        if pod.live {
            self.live += 1;
            sum(&mut self.requests, &pod.requests, Quantity::add);
            sum(&mut self.limits, &pod.limits, Quantity::add);
        }
    }

    /// No longer counts a pod, which was counted before.
    pub fn sub(&mut self, pod: &PodUsage) {
        self.all -= 1;
        if pod.live {
            self.live -= 1;
            sum(&mut self.requests, &pod.requests, Quantity::sub);
            sum(&mut self.limits, &pod.limits, Quantity::sub);
        }
    }

    /// How much is used of what a quota calls `name`; `None` if that is not about pods.
    pub(super) fn amount(&self, name: &str) -> Option<Quantity> {
        let get = |amounts: &BTreeMap<String, Quantity>, name: &str| {
            amounts.get(name).cloned().unwrap_or(Quantity::ZERO)
        };
        Some(match of_pods(name)? {
            PodResource::Live => number(self.live),
            PodResource::All => number(self.all),
            PodResource::Requests(resource) => get(&self.requests, resource),
            PodResource::Limits(resource) => get(&self.limits, resource),
        })
    }
}

/// What comes to zero is not kept: the names in use now are few, those ever used may be many.
fn sum(
    total: &mut BTreeMap<String, Quantity>,
    amounts: &BTreeMap<String, Quantity>,
    change: fn(&mut Quantity, &Quantity),
) {
    for (name, amount) in amounts {
        let mut sum = total.remove(name).unwrap_or(Quantity::ZERO);
        change(&mut sum, amount);
        if !sum.is_zero() {
            total.insert(name.clone(), sum);
        }
    }
}

/// Upstream's time: what deletion gave it, and as long again.
fn counts_until(pod: &Pod) -> Option<Timestamp> {
    let Time(deleted) = pod.metadata.deletion_timestamp.as_ref()?;
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds?);
    Some(deleted.saturating_add(grace).unwrap_or(Timestamp::MAX))
}

/// Whether the pod wants to be near, or far from, pods of other namespaces.
fn looks_into_other_namespaces(spec: &PodSpec) -> bool {
    let affinity = spec.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = [
        near.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref()),
        far.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let preferred = [
        near.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref()),
        far.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let preferred = preferred.into_iter().flatten().flatten().map(|it| &it.pod_affinity_term);
    let mut terms = required.into_iter().flatten().flatten().chain(preferred);
    terms.any(|term| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty())
            || term.namespace_selector.is_some()
    })
}

/// A stored pod as far as quotas look at it: what it asks for, what its scopes are, whether it has
/// ended. What else it says, which may be a megabyte of it, is read over.
///
/// # Errors
/// For bytes that are not a pod.
fn read_pod(bytes: &[u8]) -> Result<Pod, serde_json::Error> {
    #[derive(Deserialize)]
    struct Stored {
        #[serde(default)]
        metadata: Meta,
        spec: Option<Spec>,
        status: Option<Status>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        deletion_timestamp: Option<Time>,
        deletion_grace_period_seconds: Option<i64>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        #[serde(default)]
        containers: Vec<Part>,
        init_containers: Option<Vec<Part>>,
        resources: Option<ResourceRequirements>,
        overhead: Option<BTreeMap<String, Text>>,
        active_deadline_seconds: Option<i64>,
        priority_class_name: Option<String>,
        affinity: Option<Affinity>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part {
        resources: Option<ResourceRequirements>,
        restart_policy: Option<String>,
    }
    #[derive(Deserialize)]
    struct Status {
        phase: Option<String>,
    }

    let whole = |Part { resources, restart_policy }: Part| Container {
        resources,
        restart_policy,
        ..Default::default()
    };
    let stored: Stored = serde_json::from_slice(bytes)?;
    let spec = stored.spec.map(|spec| PodSpec {
        containers: spec.containers.into_iter().map(whole).collect(),
        init_containers: spec.init_containers.map(|all| all.into_iter().map(whole).collect()),
        resources: spec.resources,
        overhead: spec.overhead,
        active_deadline_seconds: spec.active_deadline_seconds,
        priority_class_name: spec.priority_class_name,
        affinity: spec.affinity,
        ..Default::default()
    });
    let status = stored.status.map(|it| PodStatus { phase: it.phase, ..Default::default() });
    let Meta { deletion_timestamp, deletion_grace_period_seconds } = stored.metadata;
    let metadata =
        ObjectMeta { deletion_timestamp, deletion_grace_period_seconds, ..Default::default() };
    Ok(Pod { metadata, spec, status })
}
