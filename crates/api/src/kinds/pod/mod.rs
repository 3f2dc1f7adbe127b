//! Pod: what it gets at birth, which endpoints change which part of it, and what is valid.
//!
//! The rules of the spec are shared with pod templates: see [`spec`] and [`template`].

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
pub use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::core::v1::{PodCondition, PodSpec, PodStatus, PodTemplateSpec};
use serde_json::Value;

use super::info::{Deletion, KindInfo, Subresource};
use super::kind::Kind;
use super::meta;
use super::optional::{list, text};
use super::roles::{Grant, READ_WRITE, Role};
use crate::condition::{ConditionStatus, ConditionType};
use crate::equality::equal;
use crate::field::{Error, ErrorList, Path};
use crate::names;
use crate::phase::PodPhase;
use crate::protobuf::tables::core;
use crate::subresource::SubresourceName;
use crate::table::RowCondition;
use crate::well_known::api_group;

mod containers;
mod defaults;
mod environment;
mod ephemeral;
mod handlers;
mod image;
mod level;
mod merge;
pub(super) mod overhead;
pub(super) mod placement;
mod printer;
mod qos;
pub(super) mod resources;
mod security;
mod spec;
pub(super) mod template;
mod update;
mod values;
mod volumes;
mod warnings;

pub use qos::QosClass;

pub(super) use placement::{validate_effect, validate_selector};
pub(super) use spec::is_ip;
pub use template::{same_template, template_identity};
pub(super) use warnings::of_template as template_warnings;

/// Whether a spec stands in a pod, or in a template of pods that do not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpecOf {
    Pod,
    Template,
}

pub use crate::demand::is_sidecar;

/// The annotation by which a kubelet marks the API's image of a static pod.
pub const MIRROR_ANNOTATION: &str = crate::well_known::annotation::MIRROR;

/// Whether a pod is the API's image of a static pod, which its node runs by itself.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR_ANNOTATION))
}

const fn sub(
    name: SubresourceName,
    group: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, group, version: "v1", kind, verbs }
}

/// What runs programs in a pod or reaches them, and so reads its secrets.
const STREAMS: &[&str] = &["/attach", "/proxy", "/exec", "/portforward"];

static INFO: KindInfo = KindInfo {
    short_names: &["po"],
    categories: &["all"],
    tracks_generation: true,
    subresources: &[
        sub(SubresourceName::Attach, "", "PodAttachOptions", &["create", "get"]),
        sub(SubresourceName::Binding, "", "Binding", &["create"]),
        sub(SubresourceName::EphemeralContainers, "", "Pod", &["get", "patch", "update"]),
        sub(SubresourceName::Eviction, api_group::POLICY, "Eviction", &["create"]),
        sub(SubresourceName::Exec, "", "PodExecOptions", &["create", "get"]),
        sub(SubresourceName::Log, "", "Pod", &["get"]),
        sub(SubresourceName::PortForward, "", "PodPortForwardOptions", &["create", "get"]),
        Subresource::status("", "Pod"),
    ],
    field_labels: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    rules: &merge::RULES,
    columns: printer::COLUMNS,
    roles: &[
        Grant::view(&["", "/status", "/log"]),
        Grant { role: Role::Edit, verbs: READ_WRITE, of: STREAMS },
        Grant::edit(&[""]),
        Grant { role: Role::Edit, verbs: &["create"], of: &["/eviction"] },
    ],
    deletion: Deletion { returns_object: true, ..Deletion::DEFAULT },
    ..KindInfo::of::<Pod>("pod", &core::POD)
};

impl Kind for Pod {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        defaults::set(spec);
        defaults::set_for_pod(spec);
        if let Some(status) = &mut self.status {
            defaults::set_addresses(status);
        }
    }

    fn prepare_for_create(&mut self) {
        meta::first_generation(&mut self.metadata);
        let mut status = PodStatus { phase: Some(PodPhase::Pending.into()), ..Default::default() };
        if let Some(spec) = &mut self.spec {
            placement::apply_label_keys(spec, self.metadata.labels.as_ref());
            status.qos_class = Some(QosClass::of_spec(spec).into());
            if !list(&spec.scheduling_gates).is_empty() {
                status.conditions = Some(vec![gated_condition()]);
            }
        }
        self.status = Some(status);
    }

    fn prepare_for_update(&mut self, old: &Self, sub: Option<SubresourceName>) {
        match sub {
            Some(SubresourceName::Status) => {
                self.spec = old.spec.clone();
                self.metadata.generation = old.metadata.generation;
                // Old kubelets send owners that break garbage collection, and no class.
                self.metadata.owner_references = old.metadata.owner_references.clone();
                let class = old.status.as_ref().and_then(|status| status.qos_class.clone());
                let status = self.status.get_or_insert_default();
                if text(&status.qos_class).is_empty() {
                    status.qos_class = class;
                }
                keep_observed_generations(status, old.status.as_ref());
            }
            Some(SubresourceName::EphemeralContainers) => {
                let added = self.spec.take().and_then(|spec| spec.ephemeral_containers);
                let version = self.metadata.resource_version.take();
                *self = old.clone();
                self.metadata.resource_version = version;
                self.spec.get_or_insert_default().ephemeral_containers = added;
                count_generation(self, old);
            }
            // The server's own writing: the node, and the condition that says so.
            Some(SubresourceName::Binding) => {}
            _ => {
                self.status = old.status.clone();
                count_generation(self, old);
            }
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = validate_metadata_and_spec(self);
        let spec = spec_of(self);
        let path = Path::new("spec");
        if !list(&spec.ephemeral_containers).is_empty() {
            let path = path.child("ephemeralContainers");
            errors.push(Error::forbidden(&path, "cannot be set on create"));
        }
        if !text(&spec.node_name).is_empty() && !list(&spec.scheduling_gates).is_empty() {
            let detail = "cannot be set until all schedulingGates have been cleared";
            errors.push(Error::forbidden(&path.child("nodeName"), detail));
        }
        errors
    }

    fn validate_update(&self, old: &Self, sub: Option<SubresourceName>) -> ErrorList {
        match sub {
            Some(SubresourceName::Status) => update::validate_status(self, old),
            Some(SubresourceName::EphemeralContainers) => update::validate_ephemeral(self, old),
            Some(SubresourceName::Binding) => ErrorList::new(),
            _ => update::validate(self, old),
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let spec = spec_of(self);
        let status = self.status.as_ref();
        let of_status = |get: fn(&PodStatus) -> &Option<String>| {
            status.map(|status| text(get(status)).to_owned()).unwrap_or_default()
        };
        vec![
            ("spec.nodeName", text(&spec.node_name).to_owned()),
            ("spec.restartPolicy", text(&spec.restart_policy).to_owned()),
            ("spec.schedulerName", text(&spec.scheduler_name).to_owned()),
            ("spec.serviceAccountName", text(&spec.service_account_name).to_owned()),
            ("spec.hostNetwork", spec.host_network.unwrap_or_default().to_string()),
            ("status.phase", of_status(|status| &status.phase)),
            ("status.podIP", of_status(|status| &status.pod_ip)),
            ("status.nominatedNodeName", of_status(|status| &status.nominated_node_name)),
        ]
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let wrong = names::dns1123_label(text(&self.metadata.name));
        if !wrong.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                wrong.join(" ")
            ));
        }
        warnings.extend(warnings::of_spec(spec_of(self), &Path::new("spec")));
        warnings
    }

    /// A pod runs its own spec: [`Pod`] itself is what admission looks at.
    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    /// A pod's spec hardly changes.
    fn update_warnings(&self, _old: &Self) -> Vec<String> {
        Vec::new()
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        printer::cells(self, now)
    }

    fn row_condition(&self) -> Option<RowCondition> {
        printer::condition(self)
    }

    /// Only a pod that runs somewhere needs time to end.
    fn grace_seconds(&self, asked: Option<i64>) -> Option<i64> {
        let spec = spec_of(self);
        if text(&spec.node_name).is_empty() || is_terminal(self) {
            return Some(0);
        }
        // A negative period means one second, as upstream has it.
        let own = || spec.termination_grace_period_seconds.map(|own| if own < 0 { 1 } else { own });
        Some(asked.or_else(own).unwrap_or_default())
    }
}

/// Whether the pod has ended and holds nothing any more.
pub fn is_terminal(pod: &Pod) -> bool {
    PodPhase::of(pod).is_some_and(PodPhase::is_terminal)
}

/// Borrowed, or an empty one: a body without a spec is not refused before validation.
fn spec_of(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

fn count_generation(pod: &mut Pod, old: &Pod) {
    let changed = !equal(&pod.spec, &old.spec);
    meta::next_generation(&mut pod.metadata, &old.metadata, changed);
}

/// A client that knows nothing of observed generations does not clear them.
fn keep_observed_generations(status: &mut PodStatus, old: Option<&PodStatus>) {
    let Some(old) = old else { return };
    status.observed_generation = status.observed_generation.or(old.observed_generation);
    let mut before: HashMap<&str, VecDeque<&PodCondition>> = HashMap::new();
    for condition in list(&old.conditions) {
        before.entry(&condition.type_).or_default().push_back(condition);
    }
    for condition in status.conditions.iter_mut().flatten() {
        let same = before.get_mut(&*condition.type_);
        let Some(old) = same.and_then(VecDeque::pop_front) else { continue };
        condition.observed_generation = condition.observed_generation.or(old.observed_generation);
    }
}

fn gated_condition() -> PodCondition {
    PodCondition {
        type_: ConditionType::PodScheduled.into(),
        status: ConditionStatus::False.into(),
        reason: Some("SchedulingGated".to_owned()),
        message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
        ..Default::default()
    }
}

/// The rules a pod obeys at creation and at every later update alike.
fn validate_metadata_and_spec(pod: &Pod) -> ErrorList {
    let mut errors = meta::validate(&pod.metadata, &INFO);
    let spec = spec_of(pod);
    if let Some(annotations) = &pod.metadata.annotations {
        let path = Path::new("metadata").child("annotations");
        errors.extend(spec::validate_annotations(annotations, spec, &path));
    }
    let path = Path::new("spec");
    errors.extend(spec::validate(spec, Some(&pod.metadata), SpecOf::Pod, &path));
    errors.extend(volumes::validate_tokens_have_account(spec, &path));
    errors.extend(containers::validate_images_for_pod(&spec.containers, &path.child("containers")));
    let init = list(&spec.init_containers);
    errors.extend(containers::validate_images_for_pod(init, &path.child("initContainers")));
    errors
}

#[cfg(test)]
mod tests;
