//! What the server writes on its own behalf: the only module that has the server's own permit.
//!
//! It goes the way of every write, through admission to the registry; no caller is checked, and its
//! objects count against no quota.

use coffer_api::status::Failure;
use coffer_api::subresource::SubresourceName;

use super::Core;
use crate::authz::InternalPermit;
use crate::cache::CachedObject;
use crate::object::{Object, Resource};
use crate::registry::Change;

/// The server as the writer of its own objects.
pub(super) struct Internal {
    permit: InternalPermit,
}

impl Internal {
    pub(super) fn new(permit: InternalPermit) -> Self {
        Self { permit }
    }
}

impl Core {
    /// Makes an object of the server's own.
    ///
    /// # Errors
    /// 409 `AlreadyExists` for a taken name.
    pub(super) async fn create_own(
        &self,
        resource: &Resource,
        object: Box<dyn Object>,
    ) -> Result<(), Failure> {
        let permit = self.internal.permit.get();
        let admitted = self.admission.admit_new(permit, resource, object).await?;
        self.registry.persist_new(admitted, false).await.map(drop)
    }

    /// Replaces an object by what `change` makes of it.
    ///
    /// # Errors
    /// 404.
    pub(super) async fn update_own<F>(
        &self,
        resource: &Resource,
        target: (&str, &str),
        mut change: F,
    ) -> Result<(), Failure>
    where
        F: FnMut(&mut dyn Object) + Send,
    {
        let change = |object: &mut dyn Object| {
            change(object);
            Ok(())
        };
        self.try_update_own(resource, target, None, false, change).await
    }

    /// Replaces an object, or what a subresource is about, by what `change` makes of the newest version;
    /// `change` is called again when another writer was faster. Nothing is written if it fails.
    ///
    /// # Errors
    /// 404, what `change` returns, and 409 where others were faster each time.
    pub(super) async fn try_update_own<F>(
        &self,
        resource: &Resource,
        target: (&str, &str),
        sub: Option<SubresourceName>,
        dry_run: bool,
        mut change: F,
    ) -> Result<(), Failure>
    where
        F: FnMut(&mut dyn Object) -> Result<(), Failure> + Send,
    {
        let permit = self.internal.permit.get();
        let change = |old: &dyn Object| {
            let mut object = resource.parse(&old.encode())?;
            change(&mut *object)?;
            let object = self.admission.admit_update(permit, resource, object, old)?;
            Ok(Change { object, expected: None })
        };
        self.registry.persist_update(resource, target, sub, dry_run, change).await.map(drop)
    }

    /// Removes an object that has lived for as long as its kind lives, at the revision that was looked
    /// at. Neither a grace period nor finalizers hold it, as they do not hold what etcd's leases end.
    ///
    /// # Errors
    /// 403 where admission protects the object, 409 where a newer write has won.
    pub(super) async fn expire_own(
        &self,
        resource: &Resource,
        object: &CachedObject,
    ) -> Result<(), Failure> {
        let permit = self.internal.permit.get();
        let (namespace, name) = (&object.namespace, &object.name);
        let admitted = self.admission.admit_delete(permit, resource, namespace, name)?;
        self.registry.persist_expiry(admitted, object.revision).await
    }
}
