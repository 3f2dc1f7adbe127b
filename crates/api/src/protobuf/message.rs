//! What a table says about a message: for each field its number on the wire, its name in JSON,
//! its type, and how it stands in JSON.
//!
//! The numbers are those of upstream's `generated.proto` files and never change. The rest follows
//! the `json` tags of upstream's Go types.

/// The fields of a message, in the order of their numbers.
pub struct Message(pub(crate) &'static [Field]);

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} fields)", self.0.len())
    }
}

impl Message {
    pub(crate) fn field(&self, number: u32) -> Option<&'static Field> {
        let at = self.0.binary_search_by_key(&number, |field| field.number).ok()?;
        Some(&self.0[at])
    }
}

/// One field.
pub(crate) struct Field {
    pub(crate) number: u32,
    /// Empty for [`Shape::Inline`].
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
}

/// How a field stands in JSON.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// There when it is on the wire: pointers, structs, and scalars without `omitempty`.
    Given(Type),
    /// There unless zero. Go's encoder puts every scalar on the wire that is not behind a pointer,
    /// so that being there says nothing.
    Nonzero(Type),
    List(Type),
    /// Keys are text.
    Map(Type),
    /// A message on the wire, and its fields in the outer object in JSON.
    Inline(&'static Message),
}

/// What one value is.
#[derive(Clone, Copy)]
pub(crate) enum Type {
    Bool,
    /// `int32` and `int64`.
    Int,
    Text,
    /// Base64 in JSON.
    Bytes,
    /// Whole seconds in JSON.
    Time,
    /// Six decimals in JSON.
    MicroTime,
    Quantity,
    IntOrString,
    /// `FieldsV1`: a message that holds JSON as text.
    Json,
    /// A named list of text such as `ExtraValue`: a message on the wire, a list in JSON.
    TextList,
    /// A message of its own.
    Nested(&'static Message),
}

pub(crate) const fn given(number: u32, name: &'static str, of: Type) -> Field {
    Field { number, name, shape: Shape::Given(of) }
}

pub(crate) const fn nonzero(number: u32, name: &'static str, of: Type) -> Field {
    Field { number, name, shape: Shape::Nonzero(of) }
}

pub(crate) const fn list(number: u32, name: &'static str, of: Type) -> Field {
    Field { number, name, shape: Shape::List(of) }
}

pub(crate) const fn map(number: u32, name: &'static str, of: Type) -> Field {
    Field { number, name, shape: Shape::Map(of) }
}

pub(crate) const fn inline(number: u32, message: &'static Message) -> Field {
    Field { number, name: "", shape: Shape::Inline(message) }
}
