//! RuntimeClass: a name for the handler that a node's container runtime runs pods with, what such a
//! pod costs beside its containers, and which nodes have the handler.

use k8s_openapi::api::node::v1::RuntimeClass;

use super::optional::list;
use super::pod::{overhead, placement};
use super::{Kind, KindInfo, meta};
use crate::field::{ErrorList, Path};
use crate::names;

static INFO: KindInfo = KindInfo {
    namespaced: false,
    unconditional_update: false,
    ..KindInfo::of(
        "node.k8s.io",
        "RuntimeClass",
        "RuntimeClassList",
        "runtimeclasses",
        "runtimeclass",
    )
};

impl Kind for RuntimeClass {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        if let Some(fixed) = self.overhead.as_mut().and_then(|it| it.pod_fixed.as_mut()) {
            overhead::set_defaults(fixed);
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        let handler = Path::new("handler");
        errors.extend(meta::complaints(
            &handler,
            &self.handler,
            names::label_name(&self.handler, false),
        ));
        if let Some(fixed) = self.overhead.as_ref().and_then(|it| it.pod_fixed.as_ref()) {
            errors.extend(overhead::validate(fixed, &Path::new("overhead")));
        }
        if let Some(scheduling) = &self.scheduling {
            let path = Path::new("scheduling");
            if let Some(labels) = &scheduling.node_selector {
                errors.extend(meta::validate_labels(labels, &path.child("nodeSelector")));
            }
            let tolerations = list(&scheduling.tolerations);
            let path = path.child("tolerations");
            errors.extend(placement::validate_tolerations(tolerations, &path));
        }
        errors
    }

    /// As upstream, which looks at nothing but the handler here: pods are judged by what they get.
    fn validate_update(&self, old: &Self, _sub: Option<&str>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(meta::immutable(&self.handler, &old.handler, &Path::new("handler")));
        errors
    }
}

#[cfg(test)]
mod tests;
