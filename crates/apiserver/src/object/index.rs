//! How the cache reads what it needs to know of a stored object.

use std::any::Any;

use bytes::Bytes;
use coffer_store::Revision;

use super::erased::Object;
use super::resource::Parse;
use crate::cache::{Entry, Index};
use crate::encoded::{Head, stamp};

/// Reads labels and selectable fields with the kind's own type.
pub(super) struct TypedIndex {
    pub(super) head: Head,
    /// The object as far as it is found by.
    pub(super) shallow: Parse,
    pub(super) parse: Parse,
}

/// What an object is found by.
pub(crate) fn entry(object: &dyn Object) -> Entry {
    let meta = object.meta();
    Entry {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        labels: meta.labels.clone().unwrap_or_default(),
        fields: object.fields(),
    }
}

impl Index for TypedIndex {
    fn stamp(&self, value: &[u8], revision: Revision) -> Result<Bytes, String> {
        if let Some(bytes) = stamp(&self.head, value, revision) {
            return Ok(bytes);
        }
        // Written by another program: encoded again in our order of fields.
        let mut object = (self.parse)(value).map_err(|error| error.to_string())?;
        object.meta_mut().resource_version = None;
        stamp(&self.head, &object.encode(), revision)
            .ok_or_else(|| "not an object of its kind".to_owned())
    }

    fn entry(&self, value: &[u8]) -> Result<Entry, String> {
        let object = (self.shallow)(value).map_err(|error| error.to_string())?;
        Ok(entry(&*object))
    }

    fn whole(&self, value: &[u8], look: &mut dyn FnMut(&dyn Any)) -> Result<Entry, String> {
        let object = (self.parse)(value).map_err(|error| error.to_string())?;
        look(object.as_any());
        Ok(entry(&*object))
    }
}

#[cfg(test)]
mod tests;
