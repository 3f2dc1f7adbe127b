//! Pod templates of replication controllers, replica sets and deployments.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use serde_json::Value;

use super::{SpecOf, defaults, spec};
use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta;
use crate::kinds::optional::list;
use crate::table::Column;

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
    errors.extend(spec::validate(spec, None, SpecOf::Template, &path));
    if !list(&spec.ephemeral_containers).is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&path.child("ephemeralContainers"), detail));
    }
    errors
}
/// The columns with a template's containers, shown where there is room.
pub(crate) const CONTAINERS: Column = Column::string("Containers", CONTAINERS_COLUMN).wide();
pub(crate) const IMAGES: Column = Column::string("Images", IMAGES_COLUMN).wide();

/// The cells of [`CONTAINERS`] and [`IMAGES`].
pub(crate) fn container_cells(template: &PodTemplateSpec) -> [Value; 2] {
    let containers = template.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    let images: Vec<&str> =
        containers.iter().map(|container| container.image.as_deref().unwrap_or_default()).collect();
    [names.join(",").into(), images.join(",").into()]
}

const CONTAINERS_COLUMN: &str = "Names of each container in the template.";
const IMAGES_COLUMN: &str = "Images referenced by each container in the template.";
