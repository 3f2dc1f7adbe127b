//! The two halves of an apply: merging what is wanted into what is, and taking away what the same
//! manager wanted before and neither it nor anyone else wants now.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element::Element;
use super::set::FieldSet;
use super::typed::{self, Parts, element};
use crate::document::erase;
use crate::schema::{ListType, Schema, Shape};

/// The live value with the wanted one laid over it.
pub(super) fn merge(live: &Value, wanted: &Value, schema: Schema) -> Value {
    match (typed::parts(live, schema), typed::parts(wanted, schema)) {
        (Parts::Members(live), Parts::Members(wanted)) if !wanted.is_empty() => {
            Value::Object(merge_members(live, wanted, schema))
        }
        (Parts::Items(live, item, list), Parts::Items(wanted, ..)) if !wanted.is_empty() => {
            Value::Array(merge_items(live, wanted, item, list))
        }
        // An empty object or list adds nothing to one that is not.
        (Parts::Members(members), Parts::Members(_)) if !members.is_empty() => live.clone(),
        (Parts::Items(items, ..), Parts::Items(..)) if !items.is_empty() => live.clone(),
        // Nor does null take anything away, where the value is not a leaf.
        (Parts::Members(_) | Parts::Items(..), Parts::Leaf) if wanted.is_null() => live.clone(),
        _ => wanted.clone(),
    }
}

fn merge_members(
    live: &Map<String, Value>,
    wanted: &Map<String, Value>,
    schema: Schema,
) -> Map<String, Value> {
    let kept = live.iter().filter(|(name, _)| !wanted.contains_key(*name));
    let mut merged: Map<String, Value> =
        kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, wanted) in wanted {
        let value = match (live.get(name), schema.field(name)) {
            (Some(live), Some(schema)) => merge(live, wanted, schema),
            _ => wanted.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged
}

/// Items that both have are in the wanted order, items that only the live list has keep their
/// place before the next of those, and new ones come where they are wanted.
fn merge_items(live: &[Value], wanted: &[Value], schema: Schema, list: ListType) -> Vec<Value> {
    let elements = |items: &[Value]| -> Vec<Option<Element>> {
        items.iter().map(|item| element(item, schema, list).ok()).collect()
    };
    let (live_at, wanted_at) = (elements(live), elements(wanted));
    let live_by_element = singles(live, &live_at);
    let is_live: BTreeSet<&Element> = live_at.iter().flatten().collect();
    let is_wanted: BTreeSet<&Element> = wanted_at.iter().flatten().collect();
    let mut shared = wanted_at.iter().flatten().filter(|at| is_live.contains(at)).peekable();

    let mut merged = Vec::with_capacity(live.len() + wanted.len());
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let (mut l, mut w) = (0, 0);
    while l < live.len() || w < wanted.len() {
        if l < live.len() {
            let here = live_at[l].as_ref().filter(|here| is_wanted.contains(here));
            let Some(here) = here else {
                merged.push(live[l].clone());
                l += 1;
                continue;
            };
            // Taken already, or to be taken when its wanted turn comes.
            if done.contains(here) || shared.peek().is_some_and(|next| *next != here) {
                l += 1;
                continue;
            }
        }
        if w < wanted.len() {
            let old = wanted_at[w].as_ref().and_then(|at| live_by_element.get(at));
            merged
                .push(old.map_or_else(|| wanted[w].clone(), |old| merge(old, &wanted[w], schema)));
            if let Some(at) = &wanted_at[w] {
                done.insert(at);
                shared.next_if(|next| *next == at);
            }
            w += 1;
        }
    }
    merged
}

/// Items by their step; those that share one are left out, and so not merged with anything.
fn singles<'a>(
    items: &'a [Value],
    elements: &'a [Option<Element>],
) -> BTreeMap<&'a Element, &'a Value> {
    let mut found: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (item, element) in items.iter().zip(elements) {
        if let Some(element) = element {
            found.entry(element).and_modify(|item| *item = None).or_insert(Some(item));
        }
    }
    found.into_iter().filter_map(|(element, item)| Some((element, item?))).collect()
}

/// Takes away each field that is in `last` and not in `owned`.
///
/// A struct's field counts as being in a set that has anything below it: when no one wants anything
/// of a struct any more, all of it goes.
pub(super) fn prune(value: &mut Value, schema: Schema, last: &FieldSet, owned: &FieldSet) {
    if last.is_empty() || schema.is_atomic() {
        return;
    }
    match (schema.shape(), value) {
        (Shape::Struct | Shape::Map(_), Value::Object(members)) => {
            prune_members(members, schema, last, owned);
        }
        (Shape::List(item, rule), Value::Array(items)) => {
            prune_items(items, item, rule.apply, last, owned);
        }
        _ => {}
    }
}

fn prune_members(
    members: &mut Map<String, Value>,
    schema: Schema,
    last: &FieldSet,
    owned: &FieldSet,
) {
    let is_struct = matches!(schema.shape(), Shape::Struct);
    let nothing = FieldSet::default();
    for (element, last) in last.iter() {
        let Element::Field(name) = element else { continue };
        let Some(value) = members.get_mut(name) else { continue };
        let owned = owned.get(element);
        let is_owned = owned.is_some_and(|node| node.member || is_struct);
        if (last.member || is_struct) && !is_owned {
            erase(value);
            members.remove(name);
            continue;
        }
        let was_empty = is_empty(value);
        if let Some(schema) = schema.field(name) {
            prune(value, schema, &last.children, owned.map_or(&nothing, |node| &node.children));
        }
        // What no one wants to be empty is absent once it is.
        if is_empty(value) && !was_empty && !owned.is_some_and(|node| node.member) {
            members.remove(name);
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn prune_items(
    items: &mut Vec<Value>,
    schema: Schema,
    list: ListType,
    last: &FieldSet,
    owned: &FieldSet,
) {
    let nothing = FieldSet::default();
    items.retain_mut(|item| {
        let Ok(element) = element(item, schema, list) else { return true };
        let Some(last) = last.get(&element) else { return true };
        let owned = owned.get(&element);
        if last.member && !owned.is_some_and(|node| node.member) {
            erase(item);
            return false;
        }
        prune(item, schema, &last.children, owned.map_or(&nothing, |node| &node.children));
        true
    });
}
