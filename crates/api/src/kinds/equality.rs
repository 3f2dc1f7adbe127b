//! Whether two API values mean the same, where Rust's `==` is too strict: upstream's
//! `Semantic.DeepEqual` takes a missing list for an empty one, and so does what clients send.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde::Serialize;
use serde_json::Value;

use super::merge::SHARED;
use crate::Document;
use crate::go::is_zero;
use crate::quantity::Quantity;

/// Maps of the API, as opposed to structs: an empty one equals an absent one.
const MAP_FIELDS: &[&str] = &[
    "annotations",
    "data",
    "hard",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "overhead",
    "podFixed",
    "requests",
];

/// Maps whose values are quantities, for which `1000m` equals `1`.
const QUANTITY_FIELDS: &[&str] =
    &["allocatable", "capacity", "hard", "limits", "overhead", "podFixed", "requests", "used"];

/// Fields that some definition leaves out where they are zero.
static ZEROS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let rules = super::ALL.iter().map(|info| info.rules).chain([&SHARED]);
    rules.flat_map(|rules| rules.omits_zero).flat_map(|(_, fields)| *fields).copied().collect()
});

/// Semantic equality of two values of one type. Not for payload: both are encoded on the way.
pub fn equal<T: Serialize>(left: &T, right: &T) -> bool {
    match (Document::encode(left), Document::encode(right)) {
        (Ok(mut left), Ok(mut right)) => {
            for side in [&mut left, &mut right] {
                drop_zeros(side.value_mut());
                prune(side.value_mut());
            }
            left == right
        }
        _ => false,
    }
}

/// Takes out the fields that Go leaves out where they are zero. What comes in now has none of them
/// (`crate::schema::fit::normalize`), what was stored before that may.
pub fn drop_zeros(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| !(is_zero(value) && ZEROS.contains(name.as_str())));
            let members =
                fields.iter_mut().filter(|(name, _)| !MAP_FIELDS.contains(&name.as_str()));
            members.for_each(|(_, value)| drop_zeros(value));
        }
        Value::Array(items) => items.iter_mut().for_each(drop_zeros),
        _ => {}
    }
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                prune(value);
                if QUANTITY_FIELDS.contains(&name.as_str()) {
                    normalize_quantities(value);
                }
            }
            fields.retain(|name, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(entries) => {
                    !entries.is_empty() || !MAP_FIELDS.contains(&name.as_str())
                }
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn normalize_quantities(map: &mut Value) {
    for value in map.as_object_mut().into_iter().flat_map(|amounts| amounts.values_mut()) {
        if let Some(quantity) = value.as_str().and_then(|text| Quantity::parse(text).ok()) {
            *value = Value::String(quantity.decimal());
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec, ResourceRequirements, Volume};

    use super::equal;

    #[test]
    fn an_empty_list_or_map_equals_an_absent_one_but_an_empty_struct_does_not() {
        let absent = PodSpec::default();
        let empty = PodSpec {
            tolerations: Some(Vec::new()),
            node_selector: Some(Default::default()),
            ..Default::default()
        };
        assert!(equal(&absent, &empty));
        let bare = Volume { name: "v".into(), ..Default::default() };
        let dir = Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..bare.clone() };
        assert!(!equal(&bare, &dir));
    }

    #[test]
    fn a_zero_that_go_leaves_out_equals_none_but_a_pointers_and_a_maps_do_not() {
        let spec = |json: serde_json::Value| -> PodSpec { serde_json::from_value(json).unwrap() };
        let with = |field: &str, value: serde_json::Value| {
            spec(serde_json::json!({"containers": [{"name": "c"}], field: value}))
        };
        let none = spec(serde_json::json!({"containers": [{"name": "c"}]}));
        assert!(equal(&none, &with("hostNetwork", false.into())));
        assert!(equal(&none, &with("nodeName", "".into())));
        let loud = serde_json::json!([{"name": "c", "stdin": false, "workingDir": ""}]);
        assert!(equal(&none, &with("containers", loud)));
        assert!(!equal(&none, &with("automountServiceAccountToken", false.into())));
        assert!(!equal(&none, &with("nodeSelector", serde_json::json!({"value": ""}))));
    }

    #[test]
    fn quantities_are_equal_by_amount() {
        let limits = |memory: &str| -> ResourceRequirements {
            serde_json::from_value(serde_json::json!({"limits": {"memory": memory}})).unwrap()
        };
        assert!(equal(&limits("1.500"), &limits("1500m")));
        assert!(equal(&limits("1Ki"), &limits("1024")));
        assert!(!equal(&limits("1Ki"), &limits("1k")));
    }
}
