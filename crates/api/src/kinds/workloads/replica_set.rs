//! ReplicaSet: what a Deployment makes of each of its templates.

use jiff::Timestamp;
pub use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::replicated::{counts, replicated};
use super::{
    Counts, non_negative, selector_cell, selector_text, validate_same_selector, validate_selected,
};
use crate::field::{ErrorList, Path};
use crate::kinds::info::{KindInfo, Subresource};
use crate::kinds::kind::{EMPTY_TEMPLATE, Kind, Scale};
use crate::kinds::merge::{CONDITIONS, Rules};
use crate::kinds::meta;
use crate::kinds::pod::{self, template};
use crate::kinds::roles::Grant;
use crate::protobuf::tables::apps;
use crate::subresource::SubresourceName;
use crate::table::{self, Column, or_none};
use crate::well_known::api_group;

static INFO: KindInfo = KindInfo {
    short_names: &["rs"],
    categories: &["all"],
    tracks_generation: true,
    field_labels: &["status.replicas"],
    subresources: &[Subresource::scale(), Subresource::status(api_group::APPS, "ReplicaSet")],
    rules: &Rules {
        lists: &[("apps.v1.ReplicaSetStatus", "conditions", CONDITIONS)],
        omits_zero: &[("apps.v1.ReplicaSetSpec", &["minReadySeconds"])],
        held: &[("apps.v1.ReplicaSetSpec", &["template"])],
        ..Rules::NONE
    },
    columns: &[
        Column::NAME,
        Column::integer("Desired", DESIRED_COLUMN),
        Column::integer("Current", CURRENT_COLUMN),
        Column::integer("Ready", READY_COLUMN),
        Column::AGE,
        template::CONTAINERS,
        template::IMAGES,
        Column::string("Selector", SELECTOR_COLUMN).wide(),
    ],
    roles: &[Grant::view(&["", "/status", "/scale"]), Grant::edit(&["", "/scale"])],
    ..KindInfo::of::<ReplicaSet>("replicaset", &apps::REPLICA_SET)
};

impl Kind for ReplicaSet {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        template::set_defaults(spec.template.get_or_insert_default());
    }

    replicated!(ReplicaSetStatus);

    fn validate_update(&self, old: &Self, sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if sub == Some(SubresourceName::Status) {
            errors.extend(counts!(self.status.clone().unwrap_or_default()).validate());
            return errors;
        }
        errors.extend(validate_spec(self));
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            errors.extend(validate_same_selector(&new.selector, &old.selector));
        }
        errors
    }
}

/// Its selector in the syntax of list requests.
fn selector_of(set: &ReplicaSet) -> Option<String> {
    set.spec.as_ref().and_then(|spec| selector_text(&spec.selector))
}

/// The same as a cell.
fn selector_shown(set: &ReplicaSet) -> String {
    set.spec.as_ref().map(|spec| selector_cell(&spec.selector)).unwrap_or_default()
}

fn validate_spec(set: &ReplicaSet) -> ErrorList {
    let path = Path::new("spec");
    let spec = set.spec.clone().unwrap_or_default();
    let mut errors = ErrorList::new();
    errors.extend(non_negative("replicas", spec.replicas.map(i64::from), &path));
    let seconds = spec.min_ready_seconds.map(i64::from);
    errors.extend(non_negative("minReadySeconds", seconds, &path));
    errors.extend(validate_selected(&spec.selector, spec.template.as_ref(), &path));
    errors
}

// Upstream takes these from the types of extensions/v1beta1.
const DESIRED_COLUMN: &str = "Replicas is the number of desired replicas. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller/#what-is-a-replicationcontroller";
const CURRENT_COLUMN: &str = "Replicas is the most recently observed number of replicas. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller/#what-is-a-replicationcontroller";
const READY_COLUMN: &str =
    "readyReplicas is the number of pods targeted by this ReplicaSet with a Ready Condition.";
const SELECTOR_COLUMN: &str = "Selector is a label query over pods that should match the replica count. If the selector is empty, it is defaulted to the labels present on the pod template. Label keys and values that must match in order to be controlled by this replica set. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors";
