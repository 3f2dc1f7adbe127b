//! Whether two API values mean the same, where Rust's `==` is too strict: upstream's
//! `Semantic.DeepEqual` takes a missing list for an empty one, and so does what clients send.

use serde::Serialize;
use serde_json::Value;

use crate::Document;
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
    "requests",
];

/// Maps whose values are quantities, for which `1000m` equals `1`.
const QUANTITY_FIELDS: &[&str] =
    &["allocatable", "capacity", "hard", "limits", "overhead", "requests", "used"];

/// Semantic equality of two values of one type. Not for payload: both are encoded on the way.
pub fn equal<T: Serialize>(left: &T, right: &T) -> bool {
    match (Document::encode(left), Document::encode(right)) {
        (Ok(mut left), Ok(mut right)) => {
            prune(left.value_mut());
            prune(right.value_mut());
            left == right
        }
        _ => false,
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
    fn quantities_are_equal_by_amount() {
        let limits = |memory: &str| -> ResourceRequirements {
            serde_json::from_value(serde_json::json!({"limits": {"memory": memory}})).unwrap()
        };
        assert!(equal(&limits("1.500"), &limits("1500m")));
        assert!(equal(&limits("1Ki"), &limits("1024")));
        assert!(!equal(&limits("1Ki"), &limits("1k")));
    }
}
