//! PriorityClass: a name for a pod's priority, which decides who is placed first.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
pub use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;

use super::info::KindInfo;
use super::kind::Kind;
use super::merge::Rules;
use super::meta;
use super::optional::text;
use crate::field::{Error, ErrorList, Path};
use crate::protobuf::message::Type::{Bool, Int, Nested, Text};
use crate::protobuf::message::{Message, given, nonzero};
use crate::protobuf::tables::meta::OBJECT_META;
use crate::subresource::SubresourceName;
use crate::table::{self, Column};

/// The preemption policy of a class that names none, and of a pod without a class.
pub const PREEMPT_LOWER_PRIORITY: &str = "PreemptLowerPriority";

/// A class that every cluster has.
#[derive(Clone, Copy, Debug)]
pub struct SystemClass {
    /// Its name, which begins with [`SYSTEM_PREFIX`].
    pub name: &'static str,
    /// Its value.
    pub value: i32,
    /// What it is for.
    pub description: &'static str,
}

/// The classes that every cluster has.
pub const SYSTEM_CLASSES: [SystemClass; 2] = [
    SystemClass {
        name: "system-node-critical",
        value: 2_000_001_000,
        description: "Used for system critical pods that must not be moved from their current node.",
    },
    SystemClass {
        name: "system-cluster-critical",
        value: 2_000_000_000,
        description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    },
];

/// Names that begin with this are for [`SYSTEM_CLASSES`].
const SYSTEM_PREFIX: &str = "system-";
/// The largest value of any other class.
const VALUE_MAX: i32 = 1_000_000_000;

static MESSAGE: Message = Message(&[
    given(1, "metadata", Nested(&OBJECT_META)),
    given(2, "value", Int),
    nonzero(3, "globalDefault", Bool),
    nonzero(4, "description", Text),
    given(5, "preemptionPolicy", Text),
]);

static INFO: KindInfo = KindInfo {
    short_names: &["pc"],
    namespaced: false,
    tracks_generation: true,
    rules: &Rules {
        omits_zero: &[("scheduling.v1.PriorityClass", &["description", "globalDefault"])],
        ..Rules::NONE
    },
    columns: &[
        Column::NAME,
        Column::integer("Value", VALUE_COLUMN),
        Column { type_: "boolean", ..Column::string("Global-Default", GLOBAL_DEFAULT_COLUMN) },
        Column::AGE,
        Column::string("PreemptionPolicy", PREEMPTION_POLICY_COLUMN),
    ],
    // Upstream's default roles do not name the kind: only cluster-admin has it.
    roles: &[],
    ..KindInfo::of::<PriorityClass>("priorityclass", &MESSAGE)
};

impl Kind for PriorityClass {
    const INFO: &'static KindInfo = &INFO;

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn set_defaults(&mut self) {
        self.preemption_policy.get_or_insert_with(|| PREEMPT_LOWER_PRIORITY.to_owned());
    }

    fn prepare_for_create(&mut self) {
        meta::first_generation(&mut self.metadata);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        let name = text(&self.metadata.name);
        if name.starts_with(SYSTEM_PREFIX) {
            errors.extend(validate_system(self, name));
        } else if self.value > VALUE_MAX {
            let detail = format!("maximum allowed value of a user defined priority is {VALUE_MAX}");
            errors.push(Error::forbidden(&Path::new("value"), detail));
        }
        if let Some(policy) = &self.preemption_policy {
            errors.extend(validate_policy(policy, &Path::new("preemptionPolicy")));
        }
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if self.value != old.value {
            let detail = "may not be changed in an update.";
            errors.push(Error::forbidden(&Path::new("value"), detail));
        }
        let path = Path::new("preemptionPolicy");
        errors.extend(meta::immutable(&self.preemption_policy, &old.preemption_policy, &path));
        errors
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            table::name(self),
            self.value.into(),
            self.global_default.unwrap_or_default().into(),
            table::age(self, now),
            text(&self.preemption_policy).into(),
        ]
    }
}

/// A name with the prefix is one of the cluster's own classes, and that class is as it always is.
fn validate_system(class: &PriorityClass, name: &str) -> Option<Error> {
    let why = match SYSTEM_CLASSES.iter().find(|system| system.name == name) {
        None => format!("{name} is not a known system priority class"),
        Some(system) if system.value != class.value => {
            format!("value of {name} PriorityClass must be {}", system.value)
        }
        Some(_) if class.global_default == Some(true) => {
            format!("globalDefault of {name} PriorityClass must be false")
        }
        Some(_) => return None,
    };
    let detail = format!(
        "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
    );
    Some(Error::forbidden(&Path::new("metadata").child("name"), detail))
}

fn validate_policy(policy: &str, path: &Path) -> Option<Error> {
    match policy {
        PREEMPT_LOWER_PRIORITY | "Never" => None,
        "" => Some(Error::required(path, "")),
        _ => Some(Error::not_supported(path, policy, &[PREEMPT_LOWER_PRIORITY, "Never"])),
    }
}

const VALUE_COLUMN: &str = "value represents the integer value of this priority class. This is the actual priority that pods receive when they have the name of this class in their pod spec.";
const GLOBAL_DEFAULT_COLUMN: &str = "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class. Only one PriorityClass can be marked as `globalDefault`. However, if more than one PriorityClasses exists with their `globalDefault` field set to true, the smallest value of such global default PriorityClasses will be used as the default priority.";
const PREEMPTION_POLICY_COLUMN: &str = "preemptionPolicy is the Policy for preempting pods with lower priority. One of Never, PreemptLowerPriority. Defaults to PreemptLowerPriority if unset.";

#[cfg(test)]
mod tests;
