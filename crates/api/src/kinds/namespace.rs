//! Namespace: the name space of other objects, with a finalizer that empties it before it goes.

use jiff::Timestamp;
pub use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::core::v1::{NamespaceSpec, NamespaceStatus, PodTemplateSpec};
use serde_json::Value;

use super::info::{Deletion, KindInfo, Subresource};
use super::kind::Kind;
use super::merge::{CONDITIONS, Rules};
use super::meta;
use super::roles::Grant;
use crate::field::{Error, ErrorList, Path};
use crate::names;
use crate::phase::NamespacePhase;
use crate::protobuf::tables::core;
use crate::subresource::SubresourceName;
use crate::table::{self, Column};
use crate::well_known::{finalizer, label};

static INFO: KindInfo = KindInfo {
    short_names: &["ns"],
    namespaced: false,
    name_rule: names::label_name,
    field_labels: &["status.phase"],
    subresources: &[
        Subresource {
            name: SubresourceName::Finalize,
            group: "",
            version: "v1",
            kind: "Namespace",
            verbs: &["update"],
        },
        Subresource::status("", "Namespace"),
    ],
    rules: &Rules {
        lists: &[("core.v1.NamespaceStatus", "conditions", CONDITIONS)],
        ..Rules::NONE
    },
    columns: &[Column::NAME, Column::string("Status", "The status of the namespace"), Column::AGE],
    roles: &[Grant::view(&["", "/status"])],
    // Never by the dozen.
    deletion: Deletion { by_collection: false, ..Deletion::DEFAULT },
    ..KindInfo::of::<Namespace>("namespace", &core::NAMESPACE)
};

impl Kind for Namespace {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        if let Some(name) = self.metadata.name.clone().filter(|name| !name.is_empty()) {
            self.metadata
                .labels
                .get_or_insert_default()
                .insert(label::NAMESPACE_NAME.to_owned(), name);
        }
        let phase = &mut self.status.get_or_insert_default().phase;
        if phase.as_deref().unwrap_or_default().is_empty() {
            *phase = Some(NamespacePhase::Active.into());
        }
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(NamespaceStatus {
            phase: Some(NamespacePhase::Active.into()),
            ..Default::default()
        });
        let spec = self.spec.get_or_insert_default();
        let finalizers = spec.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|name| name == finalizer::KUBERNETES) {
            finalizers.push(finalizer::KUBERNETES.to_owned());
        }
        // A generated name exists only now.
        self.set_defaults();
    }

    fn prepare_for_update(&mut self, old: &Self, sub: Option<SubresourceName>) {
        if sub.is_some() {
            keep_pod_security(self, old);
        }
        match sub {
            Some(SubresourceName::Status) => self.spec = old.spec.clone(),
            Some(SubresourceName::Finalize) => self.status = old.status.clone(),
            _ => {
                self.spec = Some(NamespaceSpec {
                    finalizers: old.spec.as_ref().and_then(|spec| spec.finalizers.clone()),
                });
                self.status = old.status.clone();
            }
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_finalizers(self, false));
        errors
    }

    fn validate_update(&self, old: &Self, sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        match sub {
            Some(SubresourceName::Status) => errors.extend(validate_phase(self)),
            Some(SubresourceName::Finalize) => errors.extend(validate_finalizers(self, true)),
            _ => {}
        }
        errors
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("status.phase", phase(self).to_owned())]
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![table::name(self), phase(self).into(), table::age(self, now)]
    }

    /// Until its content is deleted.
    fn holds_deletion(&self) -> bool {
        let finalizers = self.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        finalizers.is_some_and(|finalizers| !finalizers.is_empty())
    }

    /// What a namespace waits for is not a time, so that it has no period, as upstream has it.
    fn mark_deleted(&mut self) {
        self.status.get_or_insert_default().phase = Some(NamespacePhase::Terminating.into());
    }
}

fn phase(namespace: &Namespace) -> &str {
    namespace.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Finalizers of the spec. Upstream tells the index when they are finalized, not at creation.
fn validate_finalizers(namespace: &Namespace, indexed: bool) -> ErrorList {
    let path = Path::new("spec").child("finalizers");
    let mut errors = ErrorList::new();
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref());
    for (at, name) in finalizers.unwrap_or_default().iter().enumerate() {
        let path = if indexed { path.index(at) } else { path.clone() };
        errors.extend(meta::invalid_each(&path, name, names::qualified_name(name)));
        errors.extend(meta::standard_finalizer(name, &path));
    }
    errors
}

fn validate_phase(namespace: &Namespace) -> Option<Error> {
    let path = Path::new("status").child("Phase");
    let found = phase(namespace);
    match (namespace.metadata.deletion_timestamp.is_some(), NamespacePhase::parse(found)) {
        (true, Some(NamespacePhase::Terminating)) | (false, Some(NamespacePhase::Active)) => None,
        (true, _) => Some(Error::invalid(
            &path,
            found,
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        )),
        (false, _) => Some(Error::invalid(
            &path,
            found,
            "may only be 'Active' if `deletionTimestamp` is empty",
        )),
    }
}

/// What pods may ask of a node is written by who may update the namespace, not by who may write its
/// status or end it.
fn keep_pod_security(namespace: &mut Namespace, old: &Namespace) {
    const PREFIX: &str = "pod-security.kubernetes.io/";
    let labels = namespace.metadata.labels.get_or_insert_default();
    labels.retain(|key, _| !key.starts_with(PREFIX));
    let kept = old.metadata.labels.iter().flatten().filter(|(key, _)| key.starts_with(PREFIX));
    labels.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
    if labels.is_empty() {
        namespace.metadata.labels = None;
    }
}

#[cfg(test)]
mod tests;
