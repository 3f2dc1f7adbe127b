//! Field paths and the errors found at them, worded as `k8s.io/apimachinery`'s `field` package does.
//!
//! Validation collects a [`ErrorList`]; the API server turns it into the causes of an `Invalid`
//! Status. A value that may be secret is never put into an error: its [`Error::value`] is `None`.

use std::fmt;

/// Where in an object: `spec.containers[0].name`, `data[key]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A path of one field.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of this list.
    #[must_use]
    pub fn index(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }

    /// An entry of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What kind of wrong; `reason()` is the cause's `reason` in a Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something referred to does not exist.
    NotFound,
    /// A required value is absent.
    Required,
    /// Two entries that must differ do not.
    Duplicate,
    /// The value is malformed.
    Invalid,
    /// The value is not one of the supported ones.
    NotSupported,
    /// The value is well-formed but not allowed here.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// The list or map has too many entries.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
}

impl ErrorKind {
    /// The machine-readable cause: `FieldValueInvalid` and its kin.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
        }
    }
}

/// One thing wrong at one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of wrong.
    pub kind: ErrorKind,
    /// Where.
    pub path: Path,
    /// The offending value as upstream prints it (strings in Go's `%q`, numbers bare), if it is
    /// harmless to show.
    pub value: Option<String>,
    /// What would have been right.
    pub detail: String,
}

impl Error {
    fn make(
        kind: ErrorKind,
        path: &Path,
        value: Option<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, path: path.clone(), value, detail: detail.into() }
    }

    /// `Invalid value: "v": detail`. `value` is printed quoted; numbers and booleans bare.
    pub fn invalid(path: &Path, value: impl Shown, detail: impl Into<String>) -> Self {
        Self::make(ErrorKind::Invalid, path, Some(value.shown()), detail)
    }

    /// `Invalid value: "<redacted>": detail`, for values that may be secret.
    pub fn invalid_redacted(path: &Path, detail: impl Into<String>) -> Self {
        Self::make(ErrorKind::Invalid, path, Some("\"<redacted>\"".to_owned()), detail)
    }

    /// `Required value` or `Required value: detail`.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::make(ErrorKind::Required, path, None, detail)
    }

    /// `Duplicate value: "v"`.
    pub fn duplicate(path: &Path, value: impl Shown) -> Self {
        Self::make(ErrorKind::Duplicate, path, Some(value.shown()), "")
    }

    /// `Not found: "v"`.
    pub fn not_found(path: &Path, value: impl Shown) -> Self {
        Self::make(ErrorKind::NotFound, path, Some(value.shown()), "")
    }

    /// `Unsupported value: "v": supported values: "a", "b"`.
    pub fn not_supported(path: &Path, value: impl Shown, supported: &[&str]) -> Self {
        let quoted: Vec<_> = supported.iter().map(|value| format!("\"{value}\"")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        Self::make(ErrorKind::NotSupported, path, Some(value.shown()), detail)
    }

    /// `Forbidden: detail`.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::make(ErrorKind::Forbidden, path, None, detail)
    }

    /// `Too long: may not be more than N bytes`. The value is never shown.
    pub fn too_long(path: &Path, max: usize) -> Self {
        Self::make(ErrorKind::TooLong, path, None, format!("may not be more than {max} bytes"))
    }

    /// `Too many: N: must have at most M items`.
    pub fn too_many(path: &Path, found: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} items");
        Self::make(ErrorKind::TooMany, path, Some(found.to_string()), detail)
    }

    /// The error without its path: the `message` of a Status cause.
    pub fn body(&self) -> String {
        let mut text = self.kind.prefix().to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            text.push_str(value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// Everything found wrong with one object, in field order.
pub type ErrorList = Vec<Error>;

/// Bytes of a string that are shown of it inside an error. Upstream shows all.
const SHOWN_BYTES_MAX: usize = 1024;

/// A string in Go's `%q`; the end of a long one is left out, and three dots stand for it.
fn quoted(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        return crate::go::quoted(text);
    }
    crate::go::quoted(&format!("{}...", &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]))
}

/// A value as upstream prints it inside an error.
pub trait Shown {
    /// Strings quoted, numbers and booleans bare.
    fn shown(&self) -> String;
}

impl Shown for &str {
    fn shown(&self) -> String {
        quoted(self)
    }
}

impl Shown for &String {
    fn shown(&self) -> String {
        quoted(self)
    }
}

macro_rules! shown_bare {
    ($($t:ty),*) => { $(impl Shown for $t {
        fn shown(&self) -> String {
            self.to_string()
        }
    })* };
}
shown_bare!(i32, i64, u16, usize, bool);
