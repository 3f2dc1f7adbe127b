//! Pod templates of replication controllers, replica sets and deployments.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use serde_json::Value;

use super::{SpecOf, defaults, spec};
use crate::Document;
use crate::equality::canonical;
use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta;
use crate::kinds::optional::list;
use crate::table::Column;
use crate::well_known::label::POD_TEMPLATE_HASH;

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

/// What of a template makes another one of it: all but the label by which a Deployment's controller tells
/// the pods of its templates apart. Two templates with the same identity mean the same. `None` for one that
/// JSON cannot hold, which no template is.
pub fn template_identity(template: &PodTemplateSpec) -> Option<Document> {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    canonical(&template)
}

/// Whether two templates mean the same, but for that label.
pub fn same_template(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    let (one, other) = (template_identity(one), template_identity(other));
    one.is_some() && one == other
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hash_label_and_what_says_nothing_make_no_other_template() {
        let template = |labels: Value, container: Value| -> PodTemplateSpec {
            let json =
                json!({ "metadata": { "labels": labels }, "spec": { "containers": [container] } });
            serde_json::from_value(json).unwrap()
        };
        let container = json!({ "name": "c", "resources": { "limits": { "cpu": "1" } } });
        let plain = template(json!({ "app": "web" }), container);
        let alike =
            json!({ "name": "c", "env": [], "resources": { "limits": { "cpu": "1000m" } } });
        let same = template(json!({ "app": "web", "pod-template-hash": "x" }), alike);
        assert!(same_template(&plain, &same));
        let bare = template(json!({}), json!({ "name": "c", "resources": {} }));
        let mut without = bare.clone();
        without.metadata = None;
        assert!(same_template(&bare, &without));
        let guarded = template(json!({}), json!({ "name": "c", "securityContext": {} }));
        for other in [&plain, &guarded] {
            assert!(!same_template(&bare, other));
        }
    }
}
