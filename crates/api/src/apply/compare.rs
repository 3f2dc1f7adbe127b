//! What changed between two versions of an object, field by field.

use serde_json::{Map, Value};

use super::element::Element;
use super::set::{FieldSet, Node};
use super::typed::{self, Parts, element};
use crate::schema::{ListType, Schema};

/// The fields that differ; each is in one of the three.
#[derive(Default)]
pub(super) struct Delta {
    added: Node,
    removed: Node,
    modified: Node,
}

/// The same, of a whole object: its root is not a field.
pub(super) struct ObjectDelta {
    pub(super) added: FieldSet,
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
}

impl Delta {
    pub(super) fn children(self) -> ObjectDelta {
        ObjectDelta {
            added: self.added.children,
            removed: self.removed.children,
            modified: self.modified.children,
        }
    }

    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut delta = Self::default();
        match (old, new) {
            (None, _) => delta.added = Node::leaf(),
            (_, None) => delta.removed = Node::leaf(),
            (Some(old), Some(new)) if old != new => delta.modified = Node::leaf(),
            _ => {}
        }
        delta
    }

    fn put(&mut self, element: &Element, child: Self) {
        for (into, from) in [
            (&mut self.added, child.added),
            (&mut self.removed, child.removed),
            (&mut self.modified, child.modified),
        ] {
            if !from.is_empty() {
                into.children.insert(element.clone(), from);
            }
        }
    }
}

/// Compares two versions of an object; the old one of a new object is empty.
pub(super) fn compare_objects(old: Option<&Value>, new: &Value, schema: Schema) -> Delta {
    compare_at(old, Some(new), schema, true)
}

/// Compares two versions of a value, of which at least one is there.
pub(super) fn compare(old: Option<&Value>, new: Option<&Value>, schema: Schema) -> Delta {
    compare_at(old, new, schema, false)
}

/// `standing`: whatever the text says, both versions have the value, if empty, because a Go struct
/// holds it by value.
fn compare_at(old: Option<&Value>, new: Option<&Value>, schema: Schema, standing: bool) -> Delta {
    if old == new {
        return Delta::default();
    }
    let taken = |value: Option<&'_ Value>| value.is_none_or(Value::is_null);
    let old_parts = old.map(|value| typed::parts(value, schema));
    let new_parts = new.map(|value| typed::parts(value, schema));
    let mut delta = match (old_parts, new_parts) {
        (Some(Parts::Members(old)), Some(Parts::Members(new)))
            if !(old.is_empty() && new.is_empty()) =>
        {
            compare_members(Some(old), Some(new), schema, true)
        }
        (Some(Parts::Members(members)), _) if taken(new) && !members.is_empty() => {
            compare_members(Some(members), None, schema, standing)
        }
        (_, Some(Parts::Members(members))) if taken(old) && !members.is_empty() => {
            compare_members(None, Some(members), schema, standing)
        }
        (Some(Parts::Items(old, item, list)), Some(Parts::Items(new, ..)))
            if !(old.is_empty() && new.is_empty()) =>
        {
            compare_items(old, new, item, list)
        }
        (Some(Parts::Items(items, item, list)), _) if taken(new) && !items.is_empty() => {
            compare_items(items, &[], item, list)
        }
        (_, Some(Parts::Items(items, item, list))) if taken(old) && !items.is_empty() => {
            compare_items(&[], items, item, list)
        }
        _ if standing => Delta::default(),
        _ => return Delta::leaf(old, new),
    };
    delta.added.member |= old.is_none() && !standing;
    delta.removed.member |= new.is_none() && !standing;
    delta
}

type Members = Map<String, Value>;

/// `standing`: both versions have what these are members of.
fn compare_members(
    old: Option<&Members>,
    new: Option<&Members>,
    schema: Schema,
    standing: bool,
) -> Delta {
    let mut delta = Delta::default();
    // Both are sorted by name; taken in that order, each finds its place in the sets at the end.
    let mut in_old = old.into_iter().flat_map(|members| members.keys()).peekable();
    let mut in_new = new.into_iter().flat_map(|members| members.keys()).peekable();
    while let Some(name) = next_of(&mut in_old, &mut in_new) {
        let (old, new) = (old.and_then(|old| old.get(name)), new.and_then(|new| new.get(name)));
        let child = match schema.field(name) {
            Some(field) => compare_at(old, new, field, standing && always_stands(field)),
            None => Delta::leaf(old, new),
        };
        delta.put(&Element::field(name), child);
    }
    delta
}

/// Whether the value is there, if empty, in every struct of its kind: without this, a caller that creates a
/// pod would own `spec` itself. An atomic one is owned as a whole, whatever was there.
fn always_stands(field: Schema) -> bool {
    field.is_held() && !field.is_atomic()
}

/// The smaller of the next two of two sorted sequences, taken from both where both have it.
fn next_of<T: Ord>(
    one: &mut std::iter::Peekable<impl Iterator<Item = T>>,
    other: &mut std::iter::Peekable<impl Iterator<Item = T>>,
) -> Option<T> {
    match (one.peek(), other.peek()) {
        (Some(first), Some(second)) if first > second => other.next(),
        (Some(first), Some(second)) if first == second => {
            other.next();
            one.next()
        }
        (None, _) => other.next(),
        _ => one.next(),
    }
}

/// An item with the step to it.
type Item<'a> = (Element, &'a Value);

/// Items in the order of their steps; those of one step in the list's.
fn by_element(items: &[Value], schema: Schema, list: ListType) -> Vec<Item<'_>> {
    // An item without a key has no owner.
    let found = |item| Some((element(item, schema, list).ok()?, item));
    let mut found: Vec<Item<'_>> = items.iter().filter_map(found).collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

fn compare_items(old: &[Value], new: &[Value], schema: Schema, list: ListType) -> Delta {
    let old = by_element(old, schema, list);
    let new = by_element(new, schema, list);
    let mut delta = Delta::default();
    let (mut old, mut new) = (&old[..], &new[..]);
    loop {
        let next = match (old.first(), new.first()) {
            (Some((one, _)), Some((other, _))) => one.min(other),
            (Some((next, _)), None) | (None, Some((next, _))) => next,
            (None, None) => return delta,
        };
        let alike = |items: &[Item<'_>]| items.partition_point(|(element, _)| element <= next);
        let (before, after);
        (before, old) = old.split_at(alike(old));
        (after, new) = new.split_at(alike(new));
        delta.put(next, compare_alike(before, after, schema));
    }
}

fn first<'a>(items: &[Item<'a>]) -> Option<&'a Value> {
    items.first().map(|(_, value)| *value)
}

/// Items of one key. More than one are compared as a whole.
fn compare_alike(old: &[Item<'_>], new: &[Item<'_>], schema: Schema) -> Delta {
    match (old, new) {
        ([] | [_], [] | [_]) => compare(first(old), first(new), schema),
        ([_, _, ..], [_, _, ..]) => {
            let mut delta = Delta::default();
            delta.modified.member = old != new;
            delta
        }
        ([_, _, ..], _) => {
            let mut delta = new
                .first()
                .map_or_else(Delta::default, |(_, new)| compare(None, Some(new), schema));
            delta.removed.member = true;
            delta
        }
        (_, _) => {
            let mut delta = old
                .first()
                .map_or_else(Delta::default, |(_, old)| compare(Some(old), None, schema));
            delta.added.member = true;
            delta
        }
    }
}
