//! One step of a field's path, as managedFields writes it and as people read it.
//!
//! `f:name` a struct's field or a map's key, `k:{"name":"x"}` the item of a keyed list, `v:"x"` an
//! item of a set, `i:0` the item at a place (never made by us, kept where found).

use std::fmt;

use serde_json::{Map, Number, Value};

/// A step from a value to one within it. The order is upstream's, which is that of the encoding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    Field(String),
    /// Sorted by name.
    Key(Vec<(String, Scalar)>),
    Value(Scalar),
    Index(i64),
}

/// A scalar with an order: numbers, strings, booleans.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scalar {
    Number(i64),
    /// A number that is not an `i64`, by its text.
    OtherNumber(String),
    Text(String),
    Bool(bool),
}

impl Scalar {
    /// `None` for null, lists and objects.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => Some(match number.as_i64() {
                Some(number) => Self::Number(number),
                None => Self::OtherNumber(number.to_string()),
            }),
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Bool(value) => Some(Self::Bool(*value)),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Number(number) => (*number).into(),
            Self::OtherNumber(text) => text.parse::<Number>().map_or(Value::Null, Value::Number),
            Self::Text(text) => text.as_str().into(),
            Self::Bool(value) => (*value).into(),
        }
    }
}

/// `Debug` of a string quotes as Go's `%q` does, for all that is printable.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::OtherNumber(text) => f.write_str(text),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// A path's part: `.spec`, `[name="x"]`, `[="x"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                f.write_str("[")?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// Why a key of managedFields is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ElementError {
    #[error("key must be 2 characters long")]
    Short,
    #[error("missing colon")]
    NoColon,
    #[error("not a value that a list could be keyed by")]
    BadValue,
    /// A kind of step that a later version may know; upstream drops it.
    #[error("unknown path element type")]
    Unknown,
}

impl Element {
    pub(super) fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    pub(super) fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => {
                let fields: Map<String, Value> =
                    fields.iter().map(|(name, value)| (name.clone(), value.value())).collect();
                format!("k:{}", Value::Object(fields))
            }
            Self::Value(value) => format!("v:{}", value.value()),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// The least length of [`Element::encode`], in bytes.
    pub(super) fn encoded_len(&self) -> usize {
        let scalar = |value: &Scalar| match value {
            Scalar::Text(text) | Scalar::OtherNumber(text) => text.len(),
            _ => 1,
        };
        2 + match self {
            Self::Field(name) => name.len(),
            Self::Key(fields) => {
                fields.iter().map(|(name, value)| name.len() + scalar(value) + 4).sum()
            }
            Self::Value(value) => scalar(value),
            Self::Index(_) => 1,
        }
    }

    pub(super) fn decode(text: &str) -> Result<Self, ElementError> {
        let kind = text.get(..1).ok_or(ElementError::Short)?;
        let rest = text.get(1..).filter(|rest| !rest.is_empty()).ok_or(ElementError::Short)?;
        let rest = rest.strip_prefix(':').ok_or(ElementError::NoColon)?;
        let json = || serde_json::from_str::<Value>(rest).map_err(|_| ElementError::BadValue);
        match kind {
            "f" => Ok(Self::field(rest)),
            "k" => {
                let fields: Map<String, Value> =
                    json()?.as_object_mut().map(std::mem::take).ok_or(ElementError::BadValue)?;
                let fields: Option<Vec<_>> = fields
                    .into_iter()
                    .map(|(name, value)| Some((name, Scalar::of(&value)?)))
                    .collect();
                let mut fields = fields.ok_or(ElementError::BadValue)?;
                fields.sort();
                Ok(Self::Key(fields))
            }
            "v" => Scalar::of(&json()?).map(Self::Value).ok_or(ElementError::BadValue),
            "i" => rest.parse().map(Self::Index).map_err(|_| ElementError::BadValue),
            _ => Err(ElementError::Unknown),
        }
    }
}
