//! Values seen through their schema: which step leads to a list's item, which fields a value has,
//! and whether it fits its schema at all.

use std::collections::BTreeSet;

use serde_json::Value;

use super::element::{Element, Scalar};
use super::set::{FieldSet, Node};
use crate::schema::{ListType, Schema, Shape};

/// How a value is taken apart.
pub(super) enum Parts<'a> {
    /// Not at all: a scalar, an atomic value, an empty one, or one that does not fit.
    Leaf,
    /// An object's members.
    Members(&'a serde_json::Map<String, Value>),
    /// The items of a list that has keys or is a set.
    Items(&'a [Value], Schema, ListType),
}

/// Takes a value apart as far as its schema says.
pub(super) fn parts(value: &Value, schema: Schema) -> Parts<'_> {
    if schema.is_atomic() {
        return Parts::Leaf;
    }
    match (schema.shape(), value) {
        (Shape::Struct | Shape::Map(_), Value::Object(members)) => Parts::Members(members),
        (Shape::List(item, rule), Value::Array(items)) => Parts::Items(items, item, rule.apply),
        _ => Parts::Leaf,
    }
}

/// The step to an item of a keyed list or a set.
pub(super) fn element(
    item: &Value,
    schema: Schema,
    list: ListType,
) -> Result<Element, &'static str> {
    match list {
        ListType::Atomic => Err("invalid indexing of non-associative list"),
        ListType::Set => match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type")
            }
            Value::Array(_) => Err("not supported: associative list with lists as elements"),
            _ => Scalar::of(item)
                .map(Element::Value)
                .ok_or("associative list without keys has an element that's an explicit null"),
        },
        ListType::Map(keys) => keyed(item, schema, keys),
    }
}

fn keyed(item: &Value, schema: Schema, keys: &[&str]) -> Result<Element, &'static str> {
    let item = match item {
        Value::Object(item) => item,
        Value::Null => return Err("associative list with keys may not have a null element"),
        _ => return Err("associative list with keys may not have non-map elements"),
    };
    let mut fields = Vec::with_capacity(keys.len());
    for key in keys {
        let value = match item.get(*key) {
            Some(value) => Scalar::of(value),
            None => schema.key_default(key).map(|text| Scalar::Text(text.to_owned())),
        };
        fields.extend(value.map(|value| ((*key).to_owned(), value)));
    }
    if fields.is_empty() {
        return Err("associative list with keys has an element that omits all key fields");
    }
    fields.sort();
    Ok(Element::Key(fields))
}

/// The fields that a value has: its leaves, and the items of its keyed lists.
pub(super) fn fields(value: &Value, schema: Schema) -> Node {
    match parts(value, schema) {
        Parts::Leaf => Node::leaf(),
        Parts::Members(members) => member_fields(members, schema),
        Parts::Items(items, item, list) => item_fields(items, item, list),
    }
}

fn member_fields(members: &serde_json::Map<String, Value>, schema: Schema) -> Node {
    let mut node = Node::default();
    for (name, value) in members {
        let mut child = match schema.field(name) {
            Some(schema) => fields(value, schema),
            None => Node::leaf(),
        };
        // A key of a map is a member whatever is below it; a struct's field only if it is empty.
        let is_map = matches!(schema.shape(), Shape::Map(_));
        child.member |=
            is_map || value.is_null() || value.as_object().is_some_and(|v| v.is_empty());
        node.children.insert(Element::field(name), child);
    }
    node
}

fn item_fields(items: &[Value], schema: Schema, list: ListType) -> Node {
    let element = |item| Some((element(item, schema, list).ok()?, item));
    let mut found: Vec<(Element, &Value)> = items.iter().filter_map(element).collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut steps: Vec<(Element, Node)> = Vec::with_capacity(found.len());
    for (element, item) in found {
        // Items that share a key have one owner together.
        if let Some((last, node)) = steps.last_mut()
            && *last == element
        {
            *node = Node::leaf();
            continue;
        }
        let mut child = fields(item, schema);
        child.member = true;
        steps.push((element, child));
    }
    Node { member: false, children: FieldSet::of_steps(steps) }
}

/// What does not fit the schema, each with its path: `.spec.foo: field not declared in schema`.
pub(super) fn check(value: &Value, schema: Schema) -> Vec<String> {
    let mut faults = Vec::new();
    check_at(value, schema, &mut Vec::new(), &mut faults);
    faults
}

/// Upstream collects without end; a hostile body should not make a large answer.
const FAULTS_MAX: usize = 100;

fn fault(path: &[Element], what: &str, faults: &mut Vec<String>) {
    if faults.len() < FAULTS_MAX {
        let path: String = path.iter().map(ToString::to_string).collect();
        faults.push(if path.is_empty() { what.to_owned() } else { format!("{path}: {what}") });
    }
}

fn check_at(value: &Value, schema: Schema, path: &mut Vec<Element>, faults: &mut Vec<String>) {
    match (schema.shape(), value) {
        (Shape::Any, _) | (_, Value::Null) => {}
        (Shape::Scalar, Value::Object(_) | Value::Array(_)) => {
            fault(path, "expected any scalar", faults);
        }
        (Shape::Scalar, _) => {}
        (Shape::Struct | Shape::Map(_), Value::Object(members)) => {
            for (name, value) in members {
                path.push(Element::field(name));
                match schema.field(name) {
                    Some(schema) => check_at(value, schema, path, faults),
                    None => fault(path, "field not declared in schema", faults),
                }
                path.pop();
            }
        }
        (Shape::Struct | Shape::Map(_), _) => fault(path, "expected map", faults),
        (Shape::List(item, rule), Value::Array(items)) => {
            check_items(items, item, rule.apply, path, faults);
        }
        (Shape::List(..), _) => fault(path, "expected list", faults),
    }
}

fn check_items(
    items: &[Value],
    schema: Schema,
    list: ListType,
    path: &mut Vec<Element>,
    faults: &mut Vec<String>,
) {
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let element = match list {
            ListType::Atomic => Element::Index(i64::try_from(index).unwrap_or(i64::MAX)),
            _ => match element(item, schema, list) {
                Ok(element) => element,
                Err(error) => {
                    fault(path, &format!("element {index}: {error}"), faults);
                    continue;
                }
            },
        };
        if !seen.insert(element.clone()) {
            fault(path, &format!("duplicate entries for key {element}"), faults);
        }
        path.push(element);
        check_at(item, schema, path, faults);
        path.pop();
    }
}
