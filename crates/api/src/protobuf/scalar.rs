//! Types whose JSON is not that of their message: times, quantities, unions, embedded JSON.

use jiff::Timestamp;
use serde_json::Value;

use super::error::Malformed;
use super::wire::Reader;
use crate::schema::read::{self, Budget, Unknown};

/// Go's zero time, 1 January of the year 1: the JSON of an absent time, and the first second that
/// RFC 3339 can write.
const ZERO_TIME_SECONDS: i64 = -62_135_596_800;

/// `Time { seconds, nanos }`; null for no time. Like upstream's, it keeps whole seconds only.
pub(super) fn time(message: &[u8]) -> Result<Value, Malformed> {
    timestamp(message, |_| 0, |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// `MicroTime { seconds, nanos }`; null for no time.
pub(super) fn micro_time(message: &[u8]) -> Result<Value, Malformed> {
    let micros = |nanos| nanos / 1_000 * 1_000;
    timestamp(message, micros, |time| time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

fn timestamp(
    message: &[u8],
    precision: impl Fn(i32) -> i32,
    write: impl Fn(Timestamp) -> String,
) -> Result<Value, Malformed> {
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(message);
    while let Some((number, payload)) = reader.field()? {
        match number {
            1 => seconds = payload.varint()? as i64,
            2 => nanos = payload.varint()? as i32,
            _ => {}
        }
    }
    let nanos = precision(nanos);
    if seconds < ZERO_TIME_SECONDS || nanos < 0 {
        return Err(Malformed::OutOfRange);
    }
    if (seconds, nanos) == (ZERO_TIME_SECONDS, 0) {
        return Ok(Value::Null);
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| Malformed::OutOfRange)?;
    Ok(write(time).into())
}

/// `Quantity { string }`; `0` where it says nothing.
pub(super) fn quantity(message: &[u8]) -> Result<Value, Malformed> {
    match Reader::new(message).last(1)? {
        Some(payload) => Ok(payload.text()?.into()),
        None => Ok("0".into()),
    }
}

/// `IntOrString { type, intVal, strVal }`.
pub(super) fn int_or_string(message: &[u8]) -> Result<Value, Malformed> {
    let (mut which, mut number, mut text) = (0, 0, "");
    let mut reader = Reader::new(message);
    while let Some((field, payload)) = reader.field()? {
        match field {
            1 => which = payload.varint()?,
            2 => number = payload.varint()? as i32,
            3 => text = payload.text()?,
            _ => {}
        }
    }
    match which {
        0 => Ok(number.into()),
        1 => Ok(text.into()),
        _ => Err(Malformed::OutOfRange),
    }
}

/// `FieldsV1 { Raw }`: the JSON inside, null for none.
pub(super) fn json(message: &[u8], budget: &mut Budget) -> Result<Value, Malformed> {
    match Reader::new(message).last(1)? {
        Some(payload) if !payload.bytes()?.is_empty() => {
            read::read_json(payload.bytes()?, None, Unknown::Keep, budget)
                .map_err(|_| Malformed::NotJson)
        }
        _ => Ok(Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_upstream_writes_them() {
        // 1: 1_700_000_000, 2: 123_456_789
        let message = [0x08, 0x80, 0xe2, 0xcf, 0xaa, 0x06, 0x10, 0x95, 0x9a, 0xef, 0x3a];
        assert_eq!(time(&message).unwrap(), "2023-11-14T22:13:20Z");
        assert_eq!(micro_time(&message).unwrap(), "2023-11-14T22:13:20.123456Z");
        assert_eq!(micro_time(&message[..6]).unwrap(), "2023-11-14T22:13:20.000000Z");
        assert_eq!(time(&[0x08, 0]).unwrap(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn no_time_and_gos_zero_time_are_null() {
        assert_eq!(time(&[]).unwrap(), Value::Null);
        let zero = [0x08, 0x80, 0x92, 0xb8, 0xc3, 0x98, 0xfe, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(time(&zero).unwrap(), Value::Null);
        assert_eq!(micro_time(&zero).unwrap(), Value::Null);
    }

    #[test]
    fn times_outside_of_the_calendar_are_refused() {
        let last = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 127];
        assert_eq!(time(&last).unwrap_err(), Malformed::OutOfRange);
        let before = [0x08, 0xff, 0x91, 0xb8, 0xc3, 0x98, 0xfe, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(time(&before).unwrap_err(), Malformed::OutOfRange);
        let nanos = [0x08, 1, 0x10, 0x80, 0x94, 0xeb, 0xdc, 0x03];
        assert_eq!(micro_time(&nanos).unwrap_err(), Malformed::OutOfRange);
    }

    #[test]
    fn a_union_is_what_its_type_says() {
        assert_eq!(int_or_string(&[0x08, 0, 0x10, 80]).unwrap(), 80);
        assert_eq!(int_or_string(&[0x08, 1, 0x10, 80, 0x1a, 1, b'a']).unwrap(), "a");
        assert_eq!(int_or_string(&[]).unwrap(), 0);
        assert_eq!(int_or_string(&[0x08, 2]).unwrap_err(), Malformed::OutOfRange);
    }
}
