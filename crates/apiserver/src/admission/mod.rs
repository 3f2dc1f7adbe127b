//! What may be written. Admission takes the [`Permit`] and the object, may change the object, and
//! yields [`Admitted`], the only thing a registry write accepts.
//!
//! The order is upstream's: first whether the namespace takes objects at all, then what nodes may
//! write, then what a pod gets from its service account, then who may use and give what, last (and not
//! in the chain, because it holds others up) whether there is room in the namespace's quotas.

mod attach;
mod certificates;
mod escalation;
mod mountable;
mod namespace_lifecycle;
pub(crate) mod node_restriction;
pub(crate) mod quota;
mod runtime_class;
mod secret_use;
pub(crate) mod service_account;
mod token_secret;

use coffer_api::status::Failure;
use k8s_openapi::api::core::v1::Pod;

use crate::access::AccessConfig;
use crate::authz::{Authorizer, Permit};
use crate::object::{Object, Resource, Resources};
use crate::tokens::Authority;

/// A write that has passed authentication, authorization and admission.
pub(crate) struct Admitted<T> {
    object: T,
    permit: Permit,
    warnings: Vec<String>,
}

impl<T> Admitted<T> {
    /// What the client should be told though the write is admitted.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The admitted object, to look at.
    pub(crate) fn object(&self) -> &T {
        &self.object
    }

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

/// What a new object is called in a refusal: its name is not made yet if the server makes it.
fn shown_name(object: &dyn Object) -> String {
    let meta = object.meta();
    let name = meta.name.as_ref().filter(|name| !name.is_empty());
    name.or(meta.generate_name.as_ref()).cloned().unwrap_or_default()
}

/// The chain of admission checks.
pub(crate) struct Admission<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) authorizer: &'a Authorizer,
    pub(crate) tokens: &'a Authority,
    pub(crate) access: &'a AccessConfig,
}

impl Admission<'_> {
    /// Admits a new object.
    pub(crate) fn create(
        &self,
        permit: &Permit,
        resource: &Resource,
        mut object: Box<dyn Object>,
    ) -> Result<Admitted<Box<dyn Object>>, Failure> {
        namespace_lifecycle::create(self.resources, resource, &*object)?;
        node_restriction::create(self.resources, permit, resource, &*object)?;
        let name = shown_name(&*object);
        let mut warnings = Vec::new();
        if let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() {
            let forbidden =
                |why: String| Failure::forbidden(resource.group_resource(), &name, &why);
            warnings = self.equip(pod).map_err(forbidden)?;
            runtime_class::admit(self.resources, pod).map_err(forbidden)?;
        }
        token_secret::fill_in(self, permit, &mut *object)?;
        certificates::create(permit, resource, &mut *object)?;
        escalation::check(self.authorizer, permit.identity(), resource, &*object, None)?;
        warnings.extend(secret_use::check(self, permit, resource, &*object, None)?);
        Ok(Admitted { object, permit: permit.clone(), warnings })
    }

    /// Admits a successor of an object.
    pub(crate) fn update(
        &self,
        permit: &Permit,
        resource: &Resource,
        mut object: Box<dyn Object>,
        old: &dyn Object,
    ) -> Result<Admitted<Box<dyn Object>>, Failure> {
        node_restriction::update(permit, resource, &*object, old)?;
        token_secret::fill_in(self, permit, &mut *object)?;
        certificates::update(self, permit, resource, &*object, old)?;
        escalation::check(self.authorizer, permit.identity(), resource, &*object, Some(old))?;
        let warnings = secret_use::check(self, permit, resource, &*object, Some(old))?;
        let warnings = warnings.into_iter().collect();
        Ok(Admitted { object, permit: permit.clone(), warnings })
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
        Ok(Admitted { object: (), permit: permit.clone(), warnings: Vec::new() })
    }

    /// Gives a new pod what its service account says; answers warnings.
    fn equip(&self, pod: &mut Pod) -> Result<Vec<String>, String> {
        if !self.access.service_account_admission {
            return Ok(Vec::new());
        }
        match service_account::admit(self.resources, pod)? {
            Some(account) => attach::attach(self.resources, &account, pod),
            None => Ok(Vec::new()),
        }
    }
}
