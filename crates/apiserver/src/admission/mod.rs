//! What may be written. Admission takes the [`Permit`] and the object, may change the object, and
//! yields [`Admitted`], the only thing a registry write accepts.
//!
//! The order is upstream's: first whether the namespace takes objects at all, then what nodes may
//! write, then what a pod gets from its service account, then who may use and give what, last (and not
//! in the chain, because it holds others up) whether there is room in the namespace's quotas.

mod attach;
mod certificates;
mod escalation;
pub(crate) mod grant;
mod host_paths;
mod mountable;
mod namespace_lifecycle;
mod node_restriction;
pub(crate) mod node_token;
mod owner;
mod pod_security;
pub(crate) mod quota;
mod runtime_class;
mod secret_use;
pub(crate) mod service_account;
mod token_secret;
mod workload;

use coffer_api::status::Failure;
use k8s_openapi::api::core::v1::Pod;

use self::grant::Secrets;
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
        grant::keep(&mut *object, None);
        let name = shown_name(&*object);
        let owner = owner::of(self.resources, &*object)?;
        let mut warnings = Vec::new();
        if let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() {
            owner::check(permit, resource, &name, owner.as_ref())?;
            let forbidden =
                |why: String| Failure::forbidden(resource.group_resource(), &name, &why);
            let limit = secret_use::limit(self, permit, owner.as_ref());
            warnings = self.equip(pod, limit.as_ref()).map_err(forbidden)?;
            runtime_class::admit(self.resources, pod).map_err(forbidden)?;
        }
        token_secret::fill_in(self, permit, &mut *object)?;
        certificates::create(permit, resource, &mut *object)?;
        escalation::check(self.authorizer, permit.identity(), resource, &*object, None)?;
        let write = secret_use::Write {
            admission: self,
            permit,
            resource,
            name: object.meta().name.clone().unwrap_or_default(),
            namespace: object.meta().namespace.clone().unwrap_or_default(),
        };
        warnings.extend(write.create(&mut *object, owner)?);
        warnings.extend(pod_security::create(self, resource, &*object)?);
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
        grant::keep(&mut *object, Some(old));
        // Only a template that is written takes over what its owner was granted.
        let takes_over = permit.subresource().is_empty() && object.pod_template().is_some();
        let owner = if takes_over { owner::of(self.resources, &*object)? } else { None };
        let write = secret_use::Write {
            admission: self,
            permit,
            resource,
            name: object.meta().name.clone().unwrap_or_default(),
            namespace: old.meta().namespace.clone().unwrap_or_default(),
        };
        let warnings = write.update(&mut *object, old, permit.subresource(), owner)?;
        let mut warnings: Vec<String> = warnings.into_iter().collect();
        warnings.extend(pod_security::update(self, permit, resource, &*object, old)?);
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

    /// Gives a new pod what its service account says, of secrets no more than `limit`; answers
    /// warnings.
    fn equip(&self, pod: &mut Pod, limit: Option<&Secrets>) -> Result<Vec<String>, String> {
        if !self.access.service_account_admission {
            return Ok(Vec::new());
        }
        match service_account::admit(self.resources, pod, limit)? {
            Some(account) => attach::attach(self.resources, &account, pod, limit),
            None => Ok(Vec::new()),
        }
    }
}
