//! RuntimeClass: a name for the handler that a node's container runtime runs pods with, what such a
//! pod costs in addition to its containers, and which nodes have the handler.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
pub use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;

use super::info::KindInfo;
use super::kind::Kind;
use super::merge::Rules;
use super::meta;
use super::optional::list;
use super::pod::{overhead, placement};
use crate::field::{ErrorList, Path};
use crate::names;
use crate::protobuf::tables::node;
use crate::subresource::SubresourceName;
use crate::table::{self, Column};

static INFO: KindInfo = KindInfo {
    namespaced: false,
    unconditional_update: false,
    rules: &Rules { atomic_maps: &[("node.v1.Scheduling", "nodeSelector")], ..Rules::NONE },
    columns: &[Column::NAME, Column::string("Handler", HANDLER_COLUMN), Column::AGE],
    ..KindInfo::of::<RuntimeClass>("runtimeclass", &node::RUNTIME_CLASS)
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
        errors.extend(meta::invalid_each(
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
    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(meta::immutable(&self.handler, &old.handler, &Path::new("handler")));
        errors
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![table::name(self), self.handler.clone().into(), table::age(self, now)]
    }
}

const HANDLER_COLUMN: &str = "handler specifies the underlying runtime and configuration that the CRI implementation will use to handle pods of this class. The possible values are specific to the node & CRI configuration.  It is assumed that all handlers are available on every node, and handlers of the same name are equivalent on every node. For example, a handler called \"runc\" might specify that the runc OCI runtime (using native Linux containers) will be used to run the containers in a pod. The Handler must be lowercase, conform to the DNS Label (RFC 1123) requirements, and is immutable.";

#[cfg(test)]
mod tests;
