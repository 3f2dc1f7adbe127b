//! Served kinds without their types: what lets one registry handle all of them.
//!
//! `coffer_api::kinds::Kind` is generic; the registry is not. [`Object`] is a typed object behind
//! a pointer, [`Resource`] its kind's codec and place in the store, [`Resources`] the table of them.
//! Nothing here is untyped JSON: a body that does not fit its type does not become an [`Object`].

mod decode_error;
mod erased;
mod events_view;
mod index;
mod metadata;
mod resource;
mod resources;
mod shallow;
#[cfg(test)]
mod tests;
pub(crate) mod undecoded;

pub(crate) use decode_error::{DecodeError, typed, typed_as};
pub(crate) use erased::Object;
pub(crate) use index::entry;
pub(crate) use metadata::metadata;
pub(crate) use resource::Resource;
pub(crate) use resources::Resources;
