//! Pod templates of replication controllers, replica sets and deployments.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};

use super::{Place, defaults, spec};
use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta;
use crate::kinds::optional::list;

/// The defaults of the template's spec.
pub(crate) fn set_defaults(template: &mut PodTemplateSpec) {
    defaults::set(template.spec.get_or_insert_default());
}

/// Everything wrong with a template.
pub(crate) fn validate(template: &PodTemplateSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let empty = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&empty);
    let metadata = template.metadata.as_ref();
    if let Some(labels) = metadata.and_then(|metadata| metadata.labels.as_ref()) {
        errors.extend(meta::validate_labels(labels, &path.child("labels")));
    }
    if let Some(annotations) = metadata.and_then(|metadata| metadata.annotations.as_ref()) {
        let path = path.child("annotations");
        errors.extend(meta::validate_annotations(annotations, &path));
        errors.extend(spec::validate_annotations(annotations, spec, &path));
    }
    let path = path.child("spec");
    errors.extend(spec::validate(spec, None, Place::Template, &path));
    if !list(&spec.ephemeral_containers).is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&path.child("ephemeralContainers"), detail));
    }
    errors
}
