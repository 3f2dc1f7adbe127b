//! JSON merge patch, RFC 7386.

use serde_json::{Map, Value};

use super::discard;

pub(super) fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        discard(Some(std::mem::replace(target, patch.clone())));
        return;
    };
    if !target.is_object() {
        discard(Some(std::mem::replace(target, Value::Object(Map::new()))));
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            discard(fields.remove(name));
        } else {
            apply(fields.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}
