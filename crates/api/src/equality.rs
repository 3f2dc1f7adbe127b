//! Whether two API values mean the same, where Rust's `==` is too strict: upstream's
//! `Semantic.DeepEqual` takes a missing list for an empty one and `1000m` for `1`, and so does what
//! clients send.
//!
//! What a field is, says the schema of its type: a map, an amount, a struct that is always there. Of a type
//! that is unknown nothing is taken for equal that is not the same.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::Document;
use crate::quantity::Quantity;
use crate::schema::fit::{Scalar, normalize};
use crate::schema::{self, Schema, Shape};

/// Semantic equality of two values of one type. Not for payload: both are encoded on the way.
pub fn equal<T: Serialize + JsonSchema>(left: &T, right: &T) -> bool {
    canonical(left).is_some_and(|left| canonical(right).is_some_and(|right| left == right))
}

/// A value in the one form that all values equal to it have; `None` for what JSON cannot hold, which no
/// API type is.
pub(crate) fn canonical<T: Serialize + JsonSchema>(value: &T) -> Option<Document> {
    let mut document = Document::encode(value).ok()?;
    canonicalize(document.value_mut(), schema::of_type::<T>());
    Some(document)
}

fn canonicalize(value: &mut Value, schema: Option<Schema>) {
    match schema {
        Some(schema) => {
            // What comes in now is normalized already, what was stored before that may not be.
            normalize(value, schema);
            walk(value, schema);
        }
        // A map or a list of scalars.
        None if is_empty(value) => *value = Value::Null,
        None => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Takes out the fields that say nothing, and writes amounts in one way.
fn walk(value: &mut Value, schema: Schema) {
    match (value, schema.shape()) {
        (Value::Object(fields), Shape::Struct) => fields.retain(|name, value| {
            let Some(field) = schema.field(name) else { return true };
            walk(value, field);
            let says_nothing = field.is_held() && is_empty(value);
            !value.is_null() && !says_nothing
        }),
        (Value::Object(members), Shape::Map(inner)) => {
            members.values_mut().for_each(|member| walk(member, inner));
        }
        (Value::Array(items), Shape::List(inner, _)) => {
            items.iter_mut().for_each(|item| walk(item, inner));
        }
        (Value::String(text), Shape::Scalar) if schema.scalar() == Some(Scalar::Quantity) => {
            if let Ok(quantity) = Quantity::parse(text) {
                *text = quantity.decimal();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::{
        EmptyDirVolumeSource, LimitRangeSpec, PodSpec, PodTemplateSpec, ResourceRequirements,
        Volume,
    };
    use k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus;
    use serde_json::{Value, json};

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
        let map = |entries: &[(&str, &str)]| -> Option<BTreeMap<String, String>> {
            Some(entries.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
        };
        assert!(equal(&None, &map(&[])));
        assert!(!equal(&map(&[("a", "")]), &map(&[])));
    }

    /// Go has one in each container, and in each template.
    #[test]
    fn an_empty_struct_that_is_held_by_value_equals_an_absent_one() {
        let template = |json: Value| -> PodTemplateSpec { serde_json::from_value(json).unwrap() };
        let bare = template(json!({"spec": {"containers": [{"name": "c"}]}}));
        let held =
            json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}});
        assert!(equal(&bare, &template(held)));
        let pointer = json!({"spec": {"containers": [{"name": "c", "securityContext": {}}]}});
        assert!(!equal(&bare, &template(pointer)));
    }

    #[test]
    fn maps_and_amounts_are_known_by_their_type_in_every_kind() {
        let range = |max: Value| -> LimitRangeSpec {
            serde_json::from_value(json!({"limits": [{"type": "Pod", "max": max}]})).unwrap()
        };
        assert!(equal(&range(json!({"cpu": "1000m"})), &range(json!({"cpu": "1"}))));
        assert!(!equal(&range(json!({"cpu": "1000m"})), &range(json!({"cpu": "2"}))));
        assert!(equal(&range(json!({})), &range(Value::Null)));
        let budget = |pods: Value| -> PodDisruptionBudgetStatus {
            serde_json::from_value(json!({"disruptedPods": pods})).unwrap()
        };
        assert!(equal(&budget(json!({})), &budget(Value::Null)));
        let volume = |size: &str| -> Volume {
            serde_json::from_value(json!({"name": "v", "emptyDir": {"sizeLimit": size}})).unwrap()
        };
        assert!(equal(&volume("1Ki"), &volume("1024")));
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
