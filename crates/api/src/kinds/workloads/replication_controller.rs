//! ReplicationController, the first of its kind: a plain map of labels selects its pods.

use std::collections::BTreeMap;

use jiff::Timestamp;
pub use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationControllerStatus};
use serde_json::Value;

use super::replicated::{counts, replicated};
use super::{Counts, non_negative, validate_template};
use crate::field::{Error, ErrorList, Path};
use crate::kinds::info::{Deletion, Dependents, KindInfo, Subresource};
use crate::kinds::kind::{EMPTY_TEMPLATE, Kind, Scale};
use crate::kinds::merge::{CONDITIONS, Rules};
use crate::kinds::meta;
use crate::kinds::pod::{self, template};
use crate::kinds::roles::Grant;
use crate::protobuf::tables::core;
use crate::subresource::SubresourceName;
use crate::table::{self, Column, or_none};

static INFO: KindInfo = KindInfo {
    short_names: &["rc"],
    categories: &["all"],
    tracks_generation: true,
    field_labels: &["status.replicas"],
    subresources: &[Subresource::scale(), Subresource::status("", "ReplicationController")],
    rules: &Rules {
        lists: &[("core.v1.ReplicationControllerStatus", "conditions", CONDITIONS)],
        atomic_maps: &[("core.v1.ReplicationControllerSpec", "selector")],
        omits_zero: &[("core.v1.ReplicationControllerSpec", &["minReadySeconds"])],
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
    // The kind is older than the garbage collector.
    deletion: Deletion { dependents: Dependents::Orphaned, ..Deletion::DEFAULT },
    ..KindInfo::of::<ReplicationController>("replicationcontroller", &core::REPLICATION_CONTROLLER)
};

impl Kind for ReplicationController {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        let Some(template) = &mut spec.template else { return };
        template::set_defaults(template);
        let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
        let Some(labels) = labels else { return };
        // A client that names no selector means the template's labels, and the same for its own.
        for empty in [&mut spec.selector, &mut self.metadata.labels] {
            if empty.as_ref().is_none_or(BTreeMap::is_empty) {
                *empty = Some(labels.clone());
            }
        }
    }

    replicated!(ReplicationControllerStatus);

    fn validate_update(&self, old: &Self, sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        match sub {
            Some(SubresourceName::Status) => {
                errors.extend(counts!(self.status.clone().unwrap_or_default()).validate());
            }
            _ => errors.extend(validate_spec(self)),
        }
        errors
    }
}

/// Its selector in the syntax of list requests.
fn selector_of(controller: &ReplicationController) -> Option<String> {
    let selector = controller.spec.as_ref()?.selector.as_ref()?;
    let terms: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(terms.join(","))
}

/// The same as a cell.
fn selector_shown(controller: &ReplicationController) -> String {
    selector_of(controller).unwrap_or_default()
}

fn validate_spec(controller: &ReplicationController) -> ErrorList {
    let path = Path::new("spec");
    let spec = controller.spec.clone().unwrap_or_default();
    let mut errors = ErrorList::new();
    let seconds = spec.min_ready_seconds.map(i64::from);
    errors.extend(non_negative("minReadySeconds", seconds, &path));
    let selector = spec.selector.unwrap_or_default();
    if selector.is_empty() {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    errors.extend(non_negative("replicas", spec.replicas.map(i64::from), &path));
    let path = path.child("template");
    match &spec.template {
        None => errors.push(Error::required(&path, "")),
        Some(template) => {
            let selects = |labels: &BTreeMap<String, String>| {
                selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            };
            errors.extend(validate_template(template, selects, "ReplicationController", &path));
        }
    }
    errors
}

const DESIRED_COLUMN: &str = "Replicas is the number of desired replicas. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller";
const CURRENT_COLUMN: &str = "Replicas is the most recently observed number of replicas. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller";
const READY_COLUMN: &str = "The number of ready replicas for this replication controller.";
const SELECTOR_COLUMN: &str = "Selector is a label query over pods that should match the Replicas count. If Selector is empty, it is defaulted to the labels present on the Pod template. Label keys and values that must match in order to be controlled by this replication controller, if empty defaulted to labels on Pod template. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors";
