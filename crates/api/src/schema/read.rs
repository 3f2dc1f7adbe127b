//! Text into a tree, as far as a schema knows it and a budget goes.
//!
//! A few bytes of text can be much memory: `{}` in a list of volumes is two kilobytes once it is
//! typed, a member of a small object most of one in a tree. So what is read is charged, as it is read,
//! with what it takes in memory, as a tree and typed, and reading ends when that is out of proportion
//! to the text. What no field knows is read over, or kept and charged: see [`Unknown`].
//!
//! A value whose kind is not its field's (an object for a string) is kept empty: the decoder that
//! refuses it says what it found, and not what was in it.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

use super::strict::{Checker, Findings};
use super::{Schema, Shape};
use crate::document::erase;

/// Memory that any body may take, in bytes.
const BASE_BYTES: usize = 1 << 20;
/// Memory that a body may take for each byte of it: small items of a long list, spelled out.
pub const MEMORY_PER_BYTE: usize = 72;
/// Memory that no body may exceed, in bytes.
const MEMORY_BYTES_MAX: usize = 96 << 20;
/// A value in a tree.
const VALUE_BYTES: usize = 64;
/// An object in a tree that has a member: room for eleven is made with the first.
const OBJECT_BYTES: usize = 640;
/// The least that an item of a list or a member of a map takes, with what there may be to say of it.
const ITEM_BYTES: usize = 384;
/// The same of an item that is a struct.
const STRUCT_BYTES: usize = 512;

/// How much memory may be taken.
#[derive(Debug)]
pub struct Budget {
    left: usize,
    exceeded: bool,
}

impl Budget {
    /// For a body of so many bytes.
    pub fn of_body(bytes: usize) -> Self {
        let left = BASE_BYTES.saturating_add(bytes.saturating_mul(MEMORY_PER_BYTE));
        Self { left: left.min(MEMORY_BYTES_MAX), exceeded: false }
    }

    /// For an apply of so many bytes: its tree is there next to the live one and the merged one.
    pub fn of_apply(bytes: usize) -> Self {
        Self::of_body(bytes / 3 * 2)
    }

    /// Whether more was asked for than there was.
    pub fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// Takes so much; false where there is not enough.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or_default();
        self.exceeded |= left.is_none();
        left.is_some()
    }

    /// Takes what an object with members takes in a tree.
    pub(crate) fn take_object(&mut self) -> bool {
        self.take(OBJECT_BYTES)
    }

    /// Takes what a value takes in a tree.
    pub(crate) fn take_value(&mut self) -> bool {
        self.take(VALUE_BYTES)
    }
}

/// What becomes of members that the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// They are read over: nothing looks at them, and a strict reader reports them.
    Drop,
    /// They are kept, for what names them later: a strict reader does not.
    Keep,
}

/// Reads a value of a schema; `None`: of any shape.
///
/// # Errors
/// The deserializer's, and one of no interest where the budget is exceeded, which the budget tells.
pub fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
    schema: Option<Schema>,
    unknown: Unknown,
    budget: &mut Budget,
) -> Result<Value, D::Error> {
    Reading { position: Position::of(schema), unknown, budget, strict: None }
        .deserialize(deserializer)
}

/// As [`read`], and reports what a strict reader finds: what stands twice, and what is left out because
/// the schema does not know it. Nothing is left out unreported, so a duplicate in it need not be found.
///
/// # Errors
/// As [`read`].
pub fn read_strict<'de, D: Deserializer<'de>>(
    deserializer: D,
    schema: Option<Schema>,
    unknown: Unknown,
    budget: &mut Budget,
    findings: &mut Findings,
) -> Result<Value, D::Error> {
    let strict = Some(findings.root(reported(schema, unknown)));
    Reading { position: Position::of(schema), unknown, budget, strict }.deserialize(deserializer)
}

/// The schema whose unknown members a strict reader reports; `None`: only what stands twice.
pub(super) fn reported(schema: Option<Schema>, unknown: Unknown) -> Option<Schema> {
    schema.filter(|_| unknown == Unknown::Drop)
}

/// As [`read`], from JSON.
///
/// # Errors
/// As [`read`].
pub fn read_json(
    text: &[u8],
    schema: Option<Schema>,
    unknown: Unknown,
    budget: &mut Budget,
) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = read(&mut deserializer, schema, unknown, budget)?;
    ended(deserializer, value)
}

/// As [`read_strict`], from JSON.
///
/// # Errors
/// As [`read`].
pub fn read_json_strict(
    text: &[u8],
    schema: Option<Schema>,
    unknown: Unknown,
    budget: &mut Budget,
    findings: &mut Findings,
) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = read_strict(&mut deserializer, schema, unknown, budget, findings)?;
    ended(deserializer, value)
}

/// The value of a text that ends after it.
fn ended<'a>(
    mut deserializer: serde_json::Deserializer<serde_json::de::SliceRead<'a>>,
    mut value: Value,
) -> Result<Value, serde_json::Error> {
    match deserializer.end() {
        Ok(()) => Ok(value),
        Err(error) => {
            erase(&mut value);
            Err(error)
        }
    }
}

/// Charges what a tree that is there takes; false where that is more than there is.
pub fn weigh(value: &Value, schema: Option<Schema>, budget: &mut Budget) -> bool {
    weigh_at(value, Position::of(schema), budget)
}

/// What a tree takes, about.
pub(crate) fn memory_bytes(value: &Value) -> usize {
    let mut budget = Budget { left: usize::MAX, exceeded: false };
    weigh(value, None, &mut budget);
    usize::MAX - budget.left
}

fn weigh_at(value: &Value, position: Position, budget: &mut Budget) -> bool {
    let mut step = |value: &Value, (position, bytes): (Position, usize)| {
        budget.take(bytes) && weigh_at(value, position, budget)
    };
    match value {
        Value::Object(members) if members.is_empty() => true,
        Value::Object(members) => {
            members.iter().all(|(name, member)| {
                step(member, position.member(name).unwrap_or((Position::Anything, VALUE_BYTES)))
            }) && budget.take_object()
        }
        Value::Array(items) => items.iter().all(|item| step(item, position.item())),
        _ => true,
    }
}

/// What is known of a value.
#[derive(Clone, Copy)]
enum Position {
    Known(Schema),
    Anything,
}

impl Position {
    fn of(schema: Option<Schema>) -> Self {
        match schema {
            Some(schema) if !matches!(schema.shape(), Shape::Any) => Self::Known(schema),
            _ => Self::Anything,
        }
    }

    /// The position of a member and what it takes; `None` for one that is not known.
    fn member(self, name: &str) -> Option<(Self, usize)> {
        let Self::Known(schema) = self else { return Some((Self::Anything, VALUE_BYTES)) };
        match schema.shape() {
            // A struct's fields are part of it, and were charged with it.
            Shape::Struct => Some((Self::of(Some(schema.field(name)?)), VALUE_BYTES)),
            Shape::Map(inner) => Some((Self::of(Some(inner)), item_bytes(inner))),
            _ => None,
        }
    }

    /// The position of a list's item and what it takes.
    fn item(self) -> (Self, usize) {
        match self {
            Self::Known(schema) => match schema.shape() {
                Shape::List(inner, _) => (Self::of(Some(inner)), item_bytes(inner)),
                _ => (Self::Anything, VALUE_BYTES),
            },
            Self::Anything => (Self::Anything, VALUE_BYTES),
        }
    }

    fn takes_objects(self) -> bool {
        match self {
            Self::Known(schema) => matches!(schema.shape(), Shape::Struct | Shape::Map(_)),
            Self::Anything => true,
        }
    }

    fn takes_lists(self) -> bool {
        match self {
            Self::Known(schema) => matches!(schema.shape(), Shape::List(..)),
            Self::Anything => true,
        }
    }
}

fn item_bytes(schema: Schema) -> usize {
    match schema.shape() {
        Shape::Struct => schema.typed_bytes().max(STRUCT_BYTES),
        Shape::Any => VALUE_BYTES,
        _ => ITEM_BYTES,
    }
}

struct Reading<'a, 'b> {
    position: Position,
    unknown: Unknown,
    budget: &'b mut Budget,
    /// Looks at what is read, where someone wants to know.
    strict: Option<Checker<'a, 'b>>,
}

/// What has been read of an object or a list. Where reading ends with an error, it is erased.
struct Unfinished<T: Part>(T);

/// What [`Unfinished`] is of.
trait Part: Default {
    fn erase(&mut self);
}

impl Part for Map<String, Value> {
    fn erase(&mut self) {
        self.values_mut().for_each(erase);
    }
}

impl Part for Vec<Value> {
    fn erase(&mut self) {
        self.iter_mut().for_each(erase);
    }
}

impl<T: Part> Unfinished<T> {
    fn finish(mut self) -> T {
        std::mem::take(&mut self.0)
    }
}

impl<T: Part> Drop for Unfinished<T> {
    fn drop(&mut self) {
        self.0.erase();
    }
}

/// Never shown: the budget says it.
const EXCEEDED: &str = "more than the budget";

impl<'de> DeserializeSeed<'de> for Reading<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Self { position, unknown, budget, mut strict } = self;
        let mut members = Unfinished(Map::new());
        if !position.takes_objects() {
            match strict {
                Some(checker) => checker.visit_map(map)?,
                None => while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {},
            }
            return Ok(Value::Object(members.finish()));
        }
        while let Some(name) = map.next_key::<String>()? {
            let again = || members.0.contains_key(&name);
            let ahead = strict.as_mut().and_then(|checker| checker.member(&name, again()));
            let (position, bytes) = match (position.member(&name), unknown) {
                (Some(member), _) => member,
                (None, Unknown::Keep) => (Position::Anything, VALUE_BYTES),
                (None, Unknown::Drop) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if !budget.take(bytes) || members.0.is_empty() && !budget.take_object() {
                return Err(A::Error::custom(EXCEEDED));
            }
            let inner =
                strict.as_mut().zip(ahead.as_ref()).map(|(checker, ahead)| checker.at(ahead));
            let reading = Reading { position, unknown, budget: &mut *budget, strict: inner };
            let value = map.next_value_seed(reading)?;
            // Of a member that stands twice the last counts.
            if let Some(mut old) = members.0.insert(name, value) {
                erase(&mut old);
            }
        }
        Ok(Value::Object(members.finish()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let Self { position, unknown, budget, mut strict } = self;
        let mut items = Unfinished(Vec::new());
        if !position.takes_lists() {
            match strict {
                Some(checker) => checker.visit_seq(list)?,
                None => while list.next_element::<IgnoredAny>()?.is_some() {},
            }
            return Ok(Value::Array(items.finish()));
        }
        let (position, bytes) = position.item();
        loop {
            let ahead = strict.as_ref().map(|checker| checker.item(items.0.len()));
            let inner =
                strict.as_mut().zip(ahead.as_ref()).map(|(checker, ahead)| checker.at(ahead));
            let reading = Reading { position, unknown, budget: &mut *budget, strict: inner };
            let Some(item) = list.next_element_seed(reading)? else { break };
            items.0.push(item);
            if !budget.take(bytes) {
                return Err(A::Error::custom(EXCEEDED));
            }
        }
        Ok(Value::Array(items.finish()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    fn pod(text: &str, unknown: Unknown) -> Result<Value, bool> {
        let mut budget = Budget::of_body(text.len());
        read_json(text.as_bytes(), schema::of("v1", "Pod"), unknown, &mut budget)
            .map_err(|_| budget.is_exceeded())
    }

    #[test]
    fn what_the_schema_knows_is_read_as_it_is_and_the_rest_as_asked() {
        let text = r#"{"kind":"Pod","x":[{"":0}],"metadata":{"labels":{"a":"b","a":null},"name":{"q":1}},
            "spec":{"containers":[{"name":"c","ports":{"a":1},"y":2}],"priority":18446744073709551615}}"#;
        let kept = json!({
            "kind": "Pod", "x": [{ "": 0 }],
            "metadata": { "labels": { "a": null }, "name": {} },
            "spec": {
                "containers": [{ "name": "c", "ports": {}, "y": 2 }], "priority": u64::MAX,
            },
        });
        assert_eq!(pod(text, Unknown::Keep), Ok(kept.clone()));
        let mut dropped = kept;
        dropped.as_object_mut().unwrap().remove("x");
        dropped["spec"]["containers"][0].as_object_mut().unwrap().remove("y");
        assert_eq!(pod(text, Unknown::Drop), Ok(dropped));
    }

    #[test]
    fn what_takes_far_more_memory_than_text_is_refused_and_the_unknown_takes_none() {
        let list = |item: &str, count: usize| vec![item; count].join(",");
        for (head, item, tail) in [
            (r#"{"spec":{"volumes":["#, "{}", "]}}"),
            (r#"{"spec":{"containers":["#, "{}", "]}}"),
            (r#"{"spec":{"containers":[{"args":["#, r#""""#, "]}]}}"),
            (r#"{"metadata":{"managedFields":[{"fieldsV1":["#, r#"{"":0}"#, "]}]}}"),
        ] {
            let text = format!("{head}{}{tail}", list(item, 100_000));
            assert_eq!(pod(&text, Unknown::Drop), Err(true), "{head}");
            let few = format!("{head}{}{tail}", list(item, 100));
            assert!(pod(&few, Unknown::Drop).is_ok(), "{head}");
        }
        let text = format!("{{\"x\":[{}]}}", list(r#"{"":0}"#, 400_000));
        assert_eq!(pod(&text, Unknown::Drop), Ok(json!({})));
        assert_eq!(pod(&text, Unknown::Keep), Err(true));
        assert_eq!(pod("{", Unknown::Drop), Err(false));
    }

    #[test]
    fn a_tree_weighs_what_reading_it_was_charged() {
        let text =
            r#"{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"env":[{"name":"A"}]}]}}"#;
        let (mut one, mut other) = (Budget::of_body(0), Budget::of_body(0));
        let schema = schema::of("v1", "Pod");
        let value = read_json(text.as_bytes(), schema, Unknown::Keep, &mut one).unwrap();
        assert!(weigh(&value, schema, &mut other));
        assert_eq!(one.left, other.left);
    }
}
