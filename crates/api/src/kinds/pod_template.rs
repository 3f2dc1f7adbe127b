//! PodTemplate: a template that no controller here makes pods from; tools keep one to copy.

use jiff::Timestamp;
pub use k8s_openapi::api::core::v1::PodTemplate;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::info::{Deletion, KindInfo};
use super::kind::{EMPTY_TEMPLATE, Kind};
use super::merge::Rules;
use super::meta;
use super::pod::{self, template};
use crate::equality::equal;
use crate::field::{ErrorList, Path};
use crate::protobuf::message::Type::Nested;
use crate::protobuf::message::{Message, given};
use crate::protobuf::tables::core::POD_TEMPLATE_SPEC;
use crate::protobuf::tables::meta::OBJECT_META;
use crate::subresource::SubresourceName;
use crate::table::{self, Column, or_none};

static MESSAGE: Message = Message(&[
    given(1, "metadata", Nested(&OBJECT_META)),
    given(2, "template", Nested(&POD_TEMPLATE_SPEC)),
]);

static INFO: KindInfo = KindInfo {
    tracks_generation: true,
    columns: &[
        Column::NAME,
        Column::string("Containers", "Names of each container in the template."),
        Column::string("Images", "Images referenced by each container in the template."),
        Column::string("Pod Labels", "The labels for the pod template."),
    ],
    rules: &Rules { held: &[("core.v1.PodTemplate", &["template"])], ..Rules::NONE },
    // Upstream's default roles do not name the kind: only cluster-admin has it.
    roles: &[],
    deletion: Deletion { returns_object: true, ..Deletion::DEFAULT },
    ..KindInfo::of::<PodTemplate>("podtemplate", &MESSAGE)
};

impl Kind for PodTemplate {
    const INFO: &'static KindInfo = &INFO;

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        Some(self.template.as_ref().unwrap_or(&EMPTY_TEMPLATE))
    }

    fn set_defaults(&mut self) {
        template::set_defaults(self.template.get_or_insert_default());
    }

    fn prepare_for_create(&mut self) {
        meta::first_generation(&mut self.metadata);
    }

    fn prepare_for_update(&mut self, old: &Self, _sub: Option<SubresourceName>) {
        let changed = !equal(&self.template, &old.template);
        meta::next_generation(&mut self.metadata, &old.metadata, changed);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_template(self));
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(validate_template(self));
        errors
    }

    fn warnings(&self) -> Vec<String> {
        pod::template_warnings(self.template.as_ref(), &Path::new("template"))
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let spec = self.template.as_ref().unwrap_or(&EMPTY_TEMPLATE);
        let [containers, images] = template::container_cells(spec);
        let labels = spec.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
        let labels = labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
        let labels = or_none(&labels.collect::<Vec<_>>().join(","));
        vec![table::name(self), containers, images, labels.into()]
    }
}

fn validate_template(object: &PodTemplate) -> ErrorList {
    let spec = object.template.as_ref().unwrap_or(&EMPTY_TEMPLATE);
    template::validate(spec, &Path::new("template"))
}

#[cfg(test)]
mod tests;
