//! ReplicationController, the first of its kind: a plain map of labels selects its pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerStatus};

use super::{Counts, non_negative, scale, validate_template};
use crate::field::{Error, ErrorList, Path};
use crate::kinds::pod::{self, template};
use crate::kinds::{Kind, KindInfo, Subresource, equal, meta};

static INFO: KindInfo = KindInfo {
    short_names: &["rc"],
    categories: &["all"],
    tracks_generation: true,
    field_labels: &["status.replicas"],
    subresources: &[scale(), Subresource::status("", "ReplicationController")],
    ..KindInfo::of(
        "",
        "ReplicationController",
        "ReplicationControllerList",
        "replicationcontrollers",
        "replicationcontroller",
    )
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
        // Whoever names no selector means the template's labels, and the same for its own.
        for empty in [&mut spec.selector, &mut self.metadata.labels] {
            if empty.as_ref().is_none_or(BTreeMap::is_empty) {
                *empty = Some(labels.clone());
            }
        }
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(ReplicationControllerStatus::default());
        meta::first_generation(&mut self.metadata);
    }

    fn prepare_for_update(&mut self, old: &Self, sub: Option<&str>) {
        match sub {
            Some("status") => self.spec = old.spec.clone(),
            _ => self.status = old.status.clone(),
        }
        let changed = !equal(&self.spec, &old.spec);
        meta::next_generation(&mut self.metadata, &old.metadata, changed);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_spec(self));
        errors
    }

    fn validate_update(&self, old: &Self, sub: Option<&str>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        match sub {
            Some("status") => {
                let status = self.status.clone().unwrap_or_default();
                let counts = Counts {
                    replicas: status.replicas,
                    parts: vec![("fullyLabeledReplicas", status.fully_labeled_replicas)],
                    ready: status.ready_replicas,
                    available: status.available_replicas,
                    observed_generation: status.observed_generation,
                };
                errors.extend(counts.validate());
            }
            _ => errors.extend(validate_spec(self)),
        }
        errors
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let replicas = self.status.as_ref().map(|status| status.replicas).unwrap_or_default();
        vec![("status.replicas", replicas.to_string())]
    }

    fn warnings(&self) -> Vec<String> {
        let template = self.spec.as_ref().and_then(|spec| spec.template.as_ref());
        pod::template_warnings(template, &Path::new("spec").child("template"))
    }
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
