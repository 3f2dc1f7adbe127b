//! ReplicaSet: what a Deployment makes of each of its templates.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};

use super::{Counts, non_negative, scale, validate_same_selector, validate_selected};
use crate::field::{ErrorList, Path};
use crate::kinds::pod::{self, template};
use crate::kinds::{Kind, KindInfo, Subresource, equal, meta};

static INFO: KindInfo = KindInfo {
    short_names: &["rs"],
    categories: &["all"],
    tracks_generation: true,
    field_labels: &["status.replicas"],
    subresources: &[scale(), Subresource::status("apps", "ReplicaSet")],
    ..KindInfo::of("apps", "ReplicaSet", "ReplicaSetList", "replicasets", "replicaset")
};

impl Kind for ReplicaSet {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        template::set_defaults(spec.template.get_or_insert_default());
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(ReplicaSetStatus::default());
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
        if sub == Some("status") {
            let status = self.status.clone().unwrap_or_default();
            let counts = Counts {
                replicas: status.replicas,
                parts: vec![("fullyLabeledReplicas", status.fully_labeled_replicas)],
                ready: status.ready_replicas,
                available: status.available_replicas,
                observed_generation: status.observed_generation,
            };
            errors.extend(counts.validate());
            return errors;
        }
        errors.extend(validate_spec(self));
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            errors.extend(validate_same_selector(&new.selector, &old.selector));
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
