//! Lists in a strategic merge: items distinguished by a merge key, or by themselves.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::order::{Key, key_of_scalar, rearrange};
use super::strategic::{
    DIRECTIVE, merge_object, unknown_directive, unmergeable, without_directives,
};
use super::{PatchError, discard};
use crate::schema::Schema;

pub(super) fn keys<'a>(
    items: impl Iterator<Item = &'a Value>,
    merge_key: Option<&str>,
) -> Result<Vec<Key>, PatchError> {
    items.map(|item| key(item, merge_key)).collect()
}

fn key(item: &Value, merge_key: Option<&str>) -> Result<Key, PatchError> {
    let Some(merge_key) = merge_key else { return Ok(key_of_scalar(item)) };
    let item = item.as_object().ok_or_else(|| wrong_type("map[string]interface {}", item))?;
    let value = item.get(merge_key).ok_or_else(|| no_merge_key(merge_key))?;
    Ok(key_of_scalar(value))
}

/// Upstream shows the map; ours may hold a secret.
fn no_merge_key(merge_key: &str) -> PatchError {
    unmergeable(format!("map: map[...] does not contain declared merge key: {merge_key}"))
}

pub(super) fn wrong_type(expected: &str, found: &Value) -> PatchError {
    let found = match found {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    unmergeable(format!("expected a {expected}, but received a {found}"))
}

pub(super) enum Element {
    None,
    Scalar,
    Object,
}

/// All elements must be alike, and none a list.
pub(super) fn element_type<'a>(
    items: impl Iterator<Item = &'a Value>,
) -> Result<Element, PatchError> {
    let mut first: Option<&Value> = None;
    for item in items {
        match first {
            None if item.is_array() => {
                let text = "lists of lists are not supported".to_owned();
                return Err(PatchError::NotApplicable(text));
            }
            None => first = Some(item),
            Some(first) if std::mem::discriminant(first) != std::mem::discriminant(item) => {
                return Err(unmergeable("list element types are not identical"));
            }
            Some(_) => {}
        }
    }
    Ok(match first {
        None => Element::None,
        Some(Value::Object(_)) => Element::Object,
        Some(_) => Element::Scalar,
    })
}

pub(super) fn merge_list(
    target: &mut Vec<Value>,
    patch: &[Value],
    item: Option<Schema>,
    merge_key: Option<&str>,
) -> Result<(), PatchError> {
    match (element_type(target.iter().chain(patch))?, merge_key) {
        (Element::None, _) => Ok(()),
        (Element::Scalar, _) => {
            merge_scalars(target, patch);
            Ok(())
        }
        (Element::Object, Some(merge_key)) => merge_keyed(target, patch, item, merge_key),
        (Element::Object, None) => Err(unmergeable("cannot merge lists without merge key for map")),
    }
}

fn merge_scalars(target: &mut Vec<Value>, patch: &[Value]) {
    let live_order: Vec<Key> = target.iter().map(key_of_scalar).collect();
    let patch_order: Vec<Key> = patch.iter().map(key_of_scalar).collect();
    target.extend_from_slice(patch);
    let mut seen = HashSet::new();
    target.retain(|item| seen.insert(key_of_scalar(item)));
    let keys: Vec<Key> = target.iter().map(key_of_scalar).collect();
    rearrange(target, &keys, &patch_order, &live_order);
}

fn merge_keyed(
    target: &mut Vec<Value>,
    patch: &[Value],
    item: Option<Schema>,
    merge_key: &str,
) -> Result<(), PatchError> {
    let (special, patch): (Vec<&Value>, Vec<&Value>) =
        patch.iter().partition(|item| item.get(DIRECTIVE).is_some());
    if apply_special(target, &special, merge_key)? {
        let new = patch.into_iter().filter_map(without_directives).collect();
        discard(Some(Value::Array(std::mem::replace(target, new))));
        return Ok(());
    }

    let live_order = keys(target.iter(), Some(merge_key))?;
    let patch_order = keys(patch.iter().copied(), Some(merge_key))?;
    let mut places = HashMap::new();
    for (at, key) in live_order.iter().enumerate() {
        places.entry(key.clone()).or_insert(at);
    }
    let mut item_keys = live_order.clone();
    for (patch, key) in patch.iter().zip(&patch_order) {
        match (places.get(key), patch) {
            (Some(at), Value::Object(patch)) => {
                let Value::Object(target) = &mut target[*at] else { continue };
                merge_object(target, patch, item)?;
            }
            _ => {
                places.insert(key.clone(), target.len());
                item_keys.push(key.clone());
                target.extend(without_directives(patch));
            }
        }
    }
    rearrange(target, &item_keys, &patch_order, &live_order);
    Ok(())
}

/// Does what the items with a `$patch` say; returns whether the list is to be replaced.
fn apply_special(
    target: &mut Vec<Value>,
    special: &[&Value],
    merge_key: &str,
) -> Result<bool, PatchError> {
    let mut replace = false;
    let mut gone = HashSet::new();
    for item in special {
        match item[DIRECTIVE].as_str() {
            Some("delete") => {
                gone.insert(key(item, Some(merge_key))?);
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(unmergeable("merging lists cannot yet be specified in the patch"));
            }
            _ => return Err(unknown_directive(&item[DIRECTIVE])),
        }
    }
    if !gone.is_empty() {
        target.retain_mut(|item| {
            let keep = item.get(merge_key).is_none_or(|key| !gone.contains(&key_of_scalar(key)));
            if !keep {
                discard(Some(item.take()));
            }
            keep
        });
    }
    Ok(replace)
}
