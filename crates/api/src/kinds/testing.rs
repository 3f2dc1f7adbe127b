//! The table that tests of kinds are written in: a change to a valid object, and exactly what is
//! said about it.

use serde_json::{Value, json};

use super::Kind;
use crate::subresource::SubresourceName;

/// One row: where in the JSON, what is put there (null takes away), and every error expected.
pub(super) type Row<'a> = (&'a str, Value, &'a [&'a str]);

/// A copy with one place changed; `a.b.0.c` is the place, made if it does not exist. A dot inside
/// a key is written `~`.
pub(super) fn with(object: &Value, place: &str, value: Value) -> Value {
    let mut changed = object.clone();
    if place.is_empty() {
        return changed;
    }
    let mut steps: Vec<String> = place.split('.').map(|step| step.replace('~', ".")).collect();
    let last = steps.pop().expect("split returns at least one step");
    let mut at = &mut changed;
    for step in steps {
        at = enter(at, &step);
    }
    match (at, value) {
        (Value::Object(fields), Value::Null) => {
            fields.remove(&last);
        }
        (at, value) => *enter(at, &last) = value,
    }
    changed
}

fn enter<'a>(at: &'a mut Value, step: &str) -> &'a mut Value {
    match step.parse::<usize>() {
        Ok(index) if !at.is_object() => {
            if !at.is_array() {
                *at = json!([]);
            }
            let items = at.as_array_mut().expect("made an array above");
            while items.len() <= index {
                items.push(json!({}));
            }
            &mut items[index]
        }
        _ => {
            if !at.is_object() {
                *at = json!({});
            }
            at.as_object_mut().expect("made an object above").entry(step).or_insert(Value::Null)
        }
    }
}

/// The object as the server has it before validation at creation.
pub(super) fn created<K: Kind>(object: &Value) -> K {
    let mut kind: K = serde_json::from_value(object.clone()).expect("test objects decode");
    kind.set_defaults();
    kind.prepare_for_create();
    kind
}

/// The object as it stands in the store after creation.
pub(super) fn stored<K: Kind>(object: &Value) -> K {
    let mut kind: K = created(object);
    kind.metadata_mut().resource_version = Some("1".to_owned());
    kind.metadata_mut().uid = Some("u".to_owned());
    kind
}

/// The new object as the server has it before validation at an update.
pub(super) fn updated<K: Kind>(old: &K, object: &Value, sub: Option<SubresourceName>) -> K {
    let mut kind: K = serde_json::from_value(object.clone()).expect("test objects decode");
    kind.set_defaults();
    let metadata = kind.metadata_mut();
    metadata.resource_version = Some("1".to_owned());
    metadata.uid = metadata.uid.take().or(Some("u".to_owned()));
    metadata.generation = old.metadata().generation;
    kind.prepare_for_update(old, sub);
    kind
}

fn texts(errors: crate::field::ErrorList) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// The valid object is valid, and every row says what it says.
pub(super) fn check_create<K: Kind>(valid: &Value, rows: &[Row<'_>]) {
    assert_eq!(texts(created::<K>(valid).validate()), [""; 0], "the valid object");
    for (place, value, expected) in rows {
        let object = with(valid, place, value.clone());
        let found = texts(created::<K>(&object).validate());
        assert_eq!(found, *expected, "{place} = {value:.200}");
    }
}

/// Writing the valid object again is valid, and every row says what it says.
pub(super) fn check_update<K: Kind>(valid: &Value, sub: Option<SubresourceName>, rows: &[Row<'_>]) {
    let old: K = stored(valid);
    let same = updated(&old, valid, sub);
    assert_eq!(texts(same.validate_update(&old, sub)), [""; 0], "the same object");
    for (place, value, expected) in rows {
        let new = updated(&old, &with(valid, place, value.clone()), sub);
        let found = texts(new.validate_update(&old, sub));
        assert_eq!(found, *expected, "{place} = {value:.200}");
    }
}
