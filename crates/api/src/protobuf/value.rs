//! A message into a JSON object, by its table.
//!
//! Everything is written in place, into a tree that a [`crate::Document`] owns and erases. Depth is
//! bounded because no message contains itself, which a test proves of the tables.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::error::{Malformed, ProtobufError};
use super::message::{Field, Message, Shape, Type};
use super::scalar;
use super::wire::{Payload, Reader};
use crate::document::erase;
use crate::schema::read::Budget;

/// Adds a message's fields to the object. A message that comes in two parts is put together again,
/// as protocol buffers want it.
pub(super) fn message(
    bytes: &[u8],
    message: &Message,
    into: &mut Map<String, Value>,
    budget: &mut Budget,
) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.field()? {
        if let Some(field) = message.field(number) {
            member(field, payload, into, budget).map_err(|error| match field.shape {
                Shape::Inline(_) => error,
                _ => error.within(field.name),
            })?;
        }
    }
    Ok(())
}

fn member(
    field: &Field,
    payload: Payload<'_>,
    into: &mut Map<String, Value>,
    budget: &mut Budget,
) -> Result<(), ProtobufError> {
    let stays = match field.shape {
        Shape::Inline(inner) => return message(payload.bytes()?, inner, into, budget),
        Shape::List(of) => return append(of, payload, array(slot(into, field.name)), budget),
        Shape::Map(of) => {
            return entry(of, payload.bytes()?, object(slot(into, field.name)), budget);
        }
        Shape::Given(of) => {
            let slot = slot(into, field.name);
            single(of, payload, slot, budget)?;
            !slot.is_null()
        }
        Shape::Nonzero(of) => {
            let slot = slot(into, field.name);
            single(of, payload, slot, budget)?;
            !is_zero(slot)
        }
    };
    if !stays && let Some(mut value) = into.remove(field.name) {
        erase(&mut value);
    }
    Ok(())
}

/// Where the field's value is written; null at first.
fn slot<'a>(into: &'a mut Map<String, Value>, name: &str) -> &'a mut Value {
    into.entry(name).or_insert(Value::Null)
}

fn object(slot: &mut Value) -> &mut Map<String, Value> {
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("a field is of one shape, so what stands there is an object")
}

fn array(slot: &mut Value) -> &mut Vec<Value> {
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().expect("a field is of one shape, so what stands there is a list")
}

/// The next item of a list; numbers may come several at the same time.
fn append(
    of: Type,
    payload: Payload<'_>,
    items: &mut Vec<Value>,
    budget: &mut Budget,
) -> Result<(), ProtobufError> {
    if let (Type::Int, Payload::Bytes(packed)) = (of, payload) {
        let mut numbers = Reader::new(packed);
        while let Some(number) = numbers.packed()? {
            items.push((number as i64).into());
        }
        return Ok(());
    }
    let index = items.len();
    items.push(Value::Null);
    single(of, payload, &mut items[index], budget).map_err(|error| error.at_index(index))
}

/// One entry of a map: a message with the key as 1 and the value as 2, either of which is its
/// type's zero where it is absent.
fn entry(
    of: Type,
    bytes: &[u8],
    map: &mut Map<String, Value>,
    budget: &mut Budget,
) -> Result<(), ProtobufError> {
    let (mut key, mut value) = ("", Payload::Bytes(&[]));
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.field()? {
        match number {
            1 => key = payload.text()?,
            2 => value = payload,
            _ => {}
        }
    }
    let slot = slot(map, key);
    erase(slot);
    *slot = Value::Null;
    single(of, value, slot, budget)
}

/// One value into its place, instead of an earlier one unless it is a message.
fn single(
    of: Type,
    payload: Payload<'_>,
    slot: &mut Value,
    budget: &mut Budget,
) -> Result<(), ProtobufError> {
    if !budget.take_value() {
        return Err(Malformed::TooMuch.into());
    }
    let value = match of {
        Type::Nested(inner) => {
            if !payload.bytes()?.is_empty() && !budget.take_object() {
                return Err(Malformed::TooMuch.into());
            }
            return message(payload.bytes()?, inner, object(slot), budget);
        }
        Type::TextList => return text_list(payload.bytes()?, array(slot), budget),
        Type::Bool => (payload.varint()? != 0).into(),
        Type::Int => (payload.varint()? as i64).into(),
        Type::Text => payload.text()?.into(),
        Type::Bytes => STANDARD.encode(payload.bytes()?).into(),
        Type::Time => scalar::time(payload.bytes()?)?,
        Type::MicroTime => scalar::micro_time(payload.bytes()?)?,
        Type::Quantity => scalar::quantity(payload.bytes()?)?,
        Type::IntOrString => scalar::int_or_string(payload.bytes()?)?,
        Type::Json => scalar::json(payload.bytes()?, budget)?,
    };
    erase(slot);
    *slot = value;
    Ok(())
}

fn text_list(
    bytes: &[u8],
    items: &mut Vec<Value>,
    budget: &mut Budget,
) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.field()? {
        if number == 1 {
            append(Type::Text, payload, items, budget)?;
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}
