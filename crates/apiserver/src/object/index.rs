//! How the cache reads what it needs to know of a stored object.

use super::resource::Parse;
use crate::cache::{CachedObject, Index};
use crate::encoded::{Head, stamp};

/// Reads labels and selectable fields with the kind's own type.
pub(super) struct TypedIndex {
    pub(super) head: Head,
    pub(super) parse: Parse,
}

impl Index for TypedIndex {
    fn index(&self, key: &str, value: &[u8], revision: u64) -> Result<CachedObject, String> {
        let mut object = (self.parse)(value).map_err(|error| error.to_string())?;
        let bytes = match stamp(&self.head, value, revision) {
            Some(bytes) => bytes,
            // Written by something else: encoded anew in our order of fields.
            None => {
                object.meta_mut().resource_version = None;
                stamp(&self.head, &object.encode(), revision).ok_or("not an object of its kind")?
            }
        };
        let fields = object.fields();
        let meta = object.meta_mut();
        Ok(CachedObject {
            key: key.into(),
            revision,
            bytes,
            namespace: meta.namespace.take().unwrap_or_default(),
            name: meta.name.take().unwrap_or_default(),
            labels: meta.labels.take().unwrap_or_default(),
            fields,
        })
    }
}
