//! What admission yields and the registry takes: proof that a write was admitted.
//!
//! Only admission makes an [`Admitted`]. It says what is to be done to which kind, and what the write
//! must hold until it is done: a [`New`] object cannot be without its reservation of quota.

pub(crate) use super::quota::QuotaReservation;
use crate::object::{Object, Resource};

/// A write that has passed authentication, authorization and admission.
pub(crate) struct Admitted<'a, W> {
    resource: &'a Resource,
    write: W,
    warnings: Vec<String>,
}

/// An object to be created.
pub(crate) struct New {
    pub(crate) object: Box<dyn Object>,
    /// Until the object is written no other is added where its quotas count.
    pub(crate) quota: QuotaReservation,
}

/// An updated object.
pub(crate) struct Update {
    pub(crate) object: Box<dyn Object>,
}

/// An object to be deleted.
pub(crate) struct Deletion {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl<'a, W> Admitted<'a, W> {
    pub(super) fn new(resource: &'a Resource, write: W, warnings: Vec<String>) -> Self {
        Self { resource, write, warnings }
    }

    /// The kind of object, what is to be done, and what the client should be warned of though the
    /// write is admitted.
    pub(crate) fn into_parts(self) -> (&'a Resource, W, Vec<String>) {
        (self.resource, self.write, self.warnings)
    }
}
