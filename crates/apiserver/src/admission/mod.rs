//! What may be written. Admission takes the [`Permit`] and the object, may change the object, and
//! yields [`Admitted`], the only thing a registry write accepts.
//!
//! The order is upstream's: first whether the namespace takes objects at all, then what nodes may
//! write, then what a pod gets from its service account, last who may use and give what.

mod escalation;
mod namespace_lifecycle;
pub(crate) mod node_restriction;

use coffer_api::status::Failure;

use crate::access::AccessConfig;
use crate::authz::{Authorizer, Permit};
use crate::object::{Object, Resource, Resources};

/// A write that has passed authentication, authorization and admission.
pub(crate) struct Admitted<T> {
    object: T,
    permit: Permit,
}

impl<T> Admitted<T> {
    /// The admitted object.
    pub(crate) fn into_inner(self) -> (T, Permit) {
        (self.object, self.permit)
    }
}

/// Whether using a secret in a pod takes a right to that secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretUseCheck {
    /// Whoever may create pods may use every secret of the namespace, as in Kubernetes.
    Off,
    /// As `Off`, with a warning for what `Enforce` would refuse.
    Warn,
    /// `use` or `get` on each secret, or the write is refused.
    #[default]
    Enforce,
}

/// The chain of admission checks.
pub(crate) struct Admission<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) authorizer: &'a Authorizer,
    pub(crate) access: &'a AccessConfig,
}

impl Admission<'_> {
    /// Admits a new object.
    pub(crate) fn create(
        &self,
        permit: &Permit,
        resource: &Resource,
        object: Box<dyn Object>,
    ) -> Result<Admitted<Box<dyn Object>>, Failure> {
        namespace_lifecycle::create(self.resources, resource, &*object)?;
        node_restriction::create(self.resources, permit, resource, &*object)?;
        escalation::check(self.authorizer, permit.identity(), resource, &*object, None)?;
        Ok(Admitted { object, permit: permit.clone() })
    }

    /// Admits a successor of an object.
    pub(crate) fn update(
        &self,
        permit: &Permit,
        resource: &Resource,
        object: Box<dyn Object>,
        old: &dyn Object,
    ) -> Result<Admitted<Box<dyn Object>>, Failure> {
        node_restriction::update(permit, resource, &*object, old)?;
        escalation::check(self.authorizer, permit.identity(), resource, &*object, Some(old))?;
        Ok(Admitted { object, permit: permit.clone() })
    }

    /// Admits a deletion.
    pub(crate) fn delete(
        &self,
        permit: &Permit,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Admitted<()>, Failure> {
        namespace_lifecycle::delete(resource, name)?;
        node_restriction::delete(permit, resource, namespace, name)?;
        Ok(Admitted { object: (), permit: permit.clone() })
    }
}
