//! What a refusal calls an object that has no name yet.

use crate::object::Object;

/// What a new object is called in a refusal: its name is not made yet if the server makes it.
pub(super) fn shown_name(object: &dyn Object) -> String {
    let meta = object.meta();
    let name = meta.name.as_ref().filter(|name| !name.is_empty());
    name.or(meta.generate_name.as_ref()).cloned().unwrap_or_default()
}
