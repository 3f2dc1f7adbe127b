//! What may be written. Admission takes the [`Permit`] and the object, may change the object, and
//! yields [`Admitted`], the only thing a registry write accepts.

use coffer_api::status::Failure;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;

use crate::authz::Permit;
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

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The chain of admission checks.
pub(crate) struct Admission<'a> {
    pub(crate) resources: &'a Resources,
}

impl Admission<'_> {
    /// Admits a new object.
    pub(crate) fn create(
        &self,
        permit: &Permit,
        resource: &Resource,
        object: Box<dyn Object>,
    ) -> Result<Admitted<Box<dyn Object>>, Failure> {
        self.namespace_lives(resource, &*object)?;
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
        let _ = (resource, old);
        Ok(Admitted { object, permit: permit.clone() })
    }

    /// Admits a deletion.
    pub(crate) fn delete(
        &self,
        permit: &Permit,
        resource: &Resource,
        name: &str,
    ) -> Result<Admitted<()>, Failure> {
        if resource.info.plural == "namespaces" && IMMORTAL.contains(&name) {
            return Err(Failure::forbidden(
                resource.group_resource(),
                name,
                "this namespace may not be deleted",
            ));
        }
        Ok(Admitted { object: (), permit: permit.clone() })
    }

    /// NamespaceLifecycle: nothing is made in a namespace that is not there or is going away.
    fn namespace_lives(&self, resource: &Resource, object: &dyn Object) -> Result<(), Failure> {
        if !resource.info.namespaced {
            return Ok(());
        }
        let name = object.meta().namespace.as_deref().unwrap_or_default();
        let namespaces = self.resources.core("namespaces");
        let found = namespaces.shard().get(&namespaces.key("", name));
        let found = found.ok_or_else(|| Failure::not_found(namespaces.group_resource(), name))?;
        let namespace = namespaces.parse(&found.bytes)?;
        if namespace.meta().deletion_timestamp.is_none() {
            return Ok(());
        }
        let mut failure = Failure::forbidden(
            resource.group_resource(),
            object.meta().name.as_deref().unwrap_or_default(),
            &format!(
                "unable to create new content in namespace {name} because it is being terminated"
            ),
        );
        let details = failure.details.get_or_insert_default();
        details.causes = Some(vec![StatusCause {
            reason: Some("NamespaceTerminating".to_owned()),
            message: Some(format!("namespace {name} is being terminated")),
            field: Some("metadata.namespace".to_owned()),
        }]);
        debug_assert!(namespace.as_any().is::<Namespace>());
        Err(failure)
    }
}
