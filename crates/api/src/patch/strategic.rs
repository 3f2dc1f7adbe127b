//! Strategic merge patch: a merge patch that knows from the schema which lists merge by which key,
//! with directives for what a merge cannot say.
//!
//! - `$patch: replace | delete | merge` in an object: take the patch's, take nothing, as usual; in a
//!   list's item: the list is the patch's, the item with this key goes.
//! - `$deleteFromPrimitiveList/f: [..]`: these scalars go from list `f`.
//! - `$setElementOrder/f: [..]`: the order of list `f` afterwards.
//! - `$retainKeys: [..]`: all other members of this object go.
//!
//! The algorithm is documented in Kubernetes' contributor guide ("Strategic Merge Patch") and its
//! proposal "preserve order in strategic merge patch". Merging works in place on the target.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::list::{element_type, keys, merge_list, wrong_type};
use super::order::{Key, key_of_scalar, rearrange};
use super::{PatchError, discard};
use crate::schema::{ListRule, Schema, Shape};

pub(super) const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

pub(super) fn apply(target: &mut Value, patch: &Value, schema: Schema) -> Result<(), PatchError> {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => merge_object(target, patch, Some(schema)),
        _ => Err(PatchError::Malformed("invalid JSON document".to_owned())),
    }
}

pub(super) fn merge_object(
    target: &mut Object,
    patch: &Object,
    schema: Option<Schema>,
) -> Result<(), PatchError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return replace_object(target, patch, directive);
    }
    retain_keys(target, patch)?;
    for (name, value) in patch {
        if let Some(list) = directive_field(name, DELETE_FROM, BAD_PRIMITIVE_LIST)? {
            delete_from_list(target, list, value)?;
        }
    }
    let mut ordered = HashSet::new();
    for (name, order) in patch {
        if let Some(list) = directive_field(name, SET_ORDER, BAD_SET_ORDER)? {
            merge_ordered(target, patch.get(list), list, order, schema)?;
            ordered.insert(list);
        }
    }
    for (name, value) in patch {
        if !is_directive(name) && !ordered.contains(name.as_str()) {
            merge_member(target, name, value, schema)?;
        }
    }
    Ok(())
}

const BAD_PRIMITIVE_LIST: &str = "invalid patch format of primitive list";
const BAD_SET_ORDER: &str = "invalid patch format of setElementOrder list";
const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";

fn malformed(text: &str) -> PatchError {
    PatchError::Malformed(text.to_owned())
}

/// `finalizers` of `$setElementOrder/finalizers`; `None` if `name` is not such a directive.
fn directive_field<'a>(
    name: &'a str,
    directive: &str,
    error: &str,
) -> Result<Option<&'a str>, PatchError> {
    let Some(rest) = name.strip_prefix(directive) else { return Ok(None) };
    rest.strip_prefix('/').map(Some).ok_or_else(|| malformed(error))
}

fn replace_object(
    target: &mut Object,
    patch: &Object,
    directive: &Value,
) -> Result<(), PatchError> {
    let mut replacement = match directive.as_str() {
        Some("replace") => patch.clone(),
        Some("delete") => Object::new(),
        _ => return Err(unknown_directive(directive)),
    };
    replacement.remove(DIRECTIVE);
    discard(Some(Value::Object(std::mem::replace(target, replacement))));
    Ok(())
}

/// Upstream quotes the directive and the map; either may hold a secret.
pub(super) fn unknown_directive(directive: &Value) -> PatchError {
    let known = ["replace", "delete", "merge"].into_iter().find(|known| directive == known);
    unmergeable(format!("unknown patch type: {} in map: map[...]", known.unwrap_or("...")))
}

pub(super) fn unmergeable(text: impl Into<String>) -> PatchError {
    PatchError::Unmergeable(text.into())
}

fn retain_keys(target: &mut Object, patch: &Object) -> Result<(), PatchError> {
    let Some(retained) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let retained = retained.as_array().ok_or_else(|| malformed(BAD_RETAIN_KEYS))?;
    let retained: HashSet<&str> = retained.iter().filter_map(Value::as_str).collect();
    let contradicted = patch.iter().any(|(name, value)| {
        !value.is_null() && !is_directive(name) && !retained.contains(name.as_str())
    });
    if contradicted {
        return Err(malformed(BAD_RETAIN_KEYS));
    }
    let dropped: Vec<String> =
        target.keys().filter(|name| !retained.contains(name.as_str())).cloned().collect();
    for name in dropped {
        discard(target.remove(&name));
    }
    Ok(())
}

fn delete_from_list(target: &mut Object, list: &str, gone: &Value) -> Result<(), PatchError> {
    let Some(items) = target.get_mut(list) else { return Ok(()) };
    if gone.is_null() {
        discard(target.remove(list));
        return Ok(());
    }
    let (Value::Array(items), Value::Array(gone)) = (items, gone) else { return Ok(()) };
    element_type(items.iter().chain(gone.iter()))?;
    let gone: HashSet<Key> = gone.iter().map(key_of_scalar).collect();
    items.retain(|item| !gone.contains(&key_of_scalar(item)));
    Ok(())
}

/// One member that no directive of its parent is about.
fn merge_member(
    target: &mut Object,
    name: &str,
    patch: &Value,
    schema: Option<Schema>,
) -> Result<(), PatchError> {
    if patch.is_null() {
        discard(target.remove(name));
        return Ok(());
    }
    match (target.get_mut(name), patch) {
        (Some(Value::Object(target)), Value::Object(patch))
            if !schema.is_some_and(|schema| schema.replaces(name)) =>
        {
            merge_object(target, patch, member_schema(schema, name)?)
        }
        (Some(Value::Array(target)), Value::Array(patch)) => {
            let (item, rule) = list_schema(schema, name)?;
            if rule.patch_merges {
                merge_list(target, patch, item, rule.patch_merge_key)
            } else {
                let old = std::mem::replace(target, patch.clone());
                discard(Some(Value::Array(old)));
                Ok(())
            }
        }
        _ => {
            let old = match without_directives(patch) {
                Some(new) => target.insert(name.to_owned(), new),
                None => target.remove(name),
            };
            discard(old);
            Ok(())
        }
    }
}

fn member_schema(schema: Option<Schema>, name: &str) -> Result<Option<Schema>, PatchError> {
    let Some(schema) = schema else { return Ok(None) };
    match (schema.shape(), schema.field(name)) {
        (_, Some(field)) => Ok(Some(field)),
        (Shape::Any, None) => Ok(None),
        (_, None) => Err(no_such_field(schema, name)),
    }
}

fn no_such_field(schema: Schema, name: &str) -> PatchError {
    let struct_ = schema.definition_name().unwrap_or_default();
    let struct_ = struct_.rsplit('.').next().unwrap_or_default();
    unmergeable(format!("unable to find api field in struct {struct_} for the json field {name:?}"))
}

fn list_schema(
    schema: Option<Schema>,
    name: &str,
) -> Result<(Option<Schema>, ListRule), PatchError> {
    match member_schema(schema, name)?.map(Schema::shape) {
        Some(Shape::List(item, rule)) => Ok((Some(item), rule)),
        None | Some(Shape::Any) => Ok((None, ListRule::ATOMIC)),
        Some(_) => Err(unmergeable("expected slice or array type, but got: struct")),
    }
}

/// The list `name` and its `$setElementOrder` together.
fn merge_ordered(
    target: &mut Object,
    patch: Option<&Value>,
    name: &str,
    order: &Value,
    schema: Option<Schema>,
) -> Result<(), PatchError> {
    let order = expect_list(order)?;
    let patch = patch.map(expect_list).transpose()?;
    let (item, rule) = list_schema(schema, name)?;
    let merge_key = rule.patch_merge_key;
    check_order(patch.unwrap_or_default(), order, merge_key)?;

    let live = target.get(name).map(expect_list).transpose()?;
    let live_order = keys(live.into_iter().flatten(), merge_key)?;
    match (target.get_mut(name), patch) {
        (Some(Value::Array(target)), Some(patch)) if rule.patch_merges => {
            merge_list(target, patch, item, merge_key)?;
        }
        (Some(Value::Array(target)), Some(patch)) => {
            discard(Some(Value::Array(std::mem::replace(target, patch.to_vec()))));
        }
        (None, Some(patch)) => {
            let added = patch.iter().filter_map(without_directives).collect();
            target.insert(name.to_owned(), Value::Array(added));
        }
        _ => {}
    }
    let Some(Value::Array(items)) = target.get_mut(name) else { return Ok(()) };
    let item_keys = keys(items.iter(), merge_key)?;
    let order = keys(order.iter(), merge_key)?;
    rearrange(items, &item_keys, &order, &live_order);
    Ok(())
}

fn expect_list(value: &Value) -> Result<&[Value], PatchError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong_type("[]interface {}", value))
}

/// The items that a patch sets must be in its `$setElementOrder`, in that order.
fn check_order(
    patch: &[Value],
    order: &[Value],
    merge_key: Option<&str>,
) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let set = patch.iter().filter(|item| item.get(DIRECTIVE).is_none());
    let mut order = keys(order.iter(), merge_key)?.into_iter();
    for key in keys(set, merge_key)? {
        if !order.any(|ordered| ordered == key) {
            let text = format!("The order in patch list doesn't match {SET_ORDER} list");
            return Err(unmergeable(text));
        }
    }
    Ok(())
}

/// What a patch value is where there is nothing to merge it with: directives and nulls no longer exist;
/// `None` if the value itself is a directive.
pub(super) fn without_directives(patch: &Value) -> Option<Value> {
    match patch {
        Value::Object(members) if members.contains_key(DIRECTIVE) => None,
        Value::Object(members) => Some(Value::Object(
            members
                .iter()
                .filter(|(name, value)| !value.is_null() && !is_directive(name))
                .filter_map(|(name, value)| Some((name.clone(), without_directives(value)?)))
                .collect(),
        )),
        Value::Array(items) => Some(items.iter().filter_map(without_directives).collect()),
        other => Some(other.clone()),
    }
}

fn is_directive(name: &str) -> bool {
    name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER)
}
