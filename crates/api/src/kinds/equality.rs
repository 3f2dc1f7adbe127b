//! Whether two API values mean the same, where Rust's `==` is too strict: upstream's
//! `Semantic.DeepEqual` takes a missing list for an empty one, and so does what clients send.

use serde::Serialize;
use serde_json::Value;

use crate::Document;

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
            fields.values_mut().for_each(prune);
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec, Volume};

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
}
