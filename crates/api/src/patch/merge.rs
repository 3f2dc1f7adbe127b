//! JSON merge patch, RFC 7386.

use serde_json::{Map, Value};

use super::discard;

/// Takes the patch, so that what it brings need not be there twice.
pub(super) fn apply(target: &mut Value, patch: Value) {
    let patch = match patch {
        Value::Object(patch) => patch,
        other => {
            discard(Some(std::mem::replace(target, other)));
            return;
        }
    };
    if !target.is_object() {
        discard(Some(std::mem::replace(target, Value::Object(Map::new()))));
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            discard(fields.remove(&name));
        } else {
            apply(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}
