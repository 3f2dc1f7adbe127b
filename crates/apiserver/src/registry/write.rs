//! Create and update: the strategy's steps around one compare-and-swap.

use std::collections::HashSet;

use bytes::Bytes;
use coffer_api::field::{Error, Path};
use coffer_api::names;
use coffer_api::status::Failure;
use coffer_api::subresource::SubresourceName;
use coffer_store::{Revision, StoreError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{Encoded, Registry, check_size, stamped};
use crate::admission::admitted::{Admitted, New, QuotaReservation, Update};
use crate::cache::CachedObject;
use crate::clock::now;
use crate::encoded::is_stamped;
use crate::failure::store_failure;
use crate::object::{Object, Resource};

/// Tries at a generated name before giving up.
const GENERATED_NAME_TRIES: usize = 8;
/// Tries at an update that others race, when the client did not name a revision.
const UPDATE_TRIES: usize = 32;

/// A write that took place (or, dry, would have).
pub(crate) struct Written {
    /// The object as it is now, stored form.
    pub(crate) bytes: Bytes,
    /// Its name, which the server may have made.
    pub(crate) name: String,
    /// Whether it is new.
    pub(crate) created: bool,
    /// For `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// What an update of an object is made from.
pub(crate) struct Change<'a> {
    /// The admitted object.
    pub(crate) object: Admitted<'a, Update>,
    /// The revision the client expects, if it named one.
    pub(crate) expected: Option<Revision>,
}

impl Registry {
    /// Persists a new object. Its reservation of quota ends when it is written.
    ///
    /// # Errors
    /// 422 from validation, 409 for a taken name.
    pub(crate) async fn persist_new(
        &self,
        admitted: Admitted<'_, New>,
        dry_run: bool,
    ) -> Result<Written, Failure> {
        let (resource, New { mut object, quota: mut reservation }, mut warnings) =
            admitted.into_parts();
        warnings.extend(single_owners(object.meta_mut()));
        set_server_fields(resource, &mut *object);
        object.prepare_for_create();
        let generated = generate_name(&mut *object);
        if generated {
            // Some defaults follow from the name.
            object.set_defaults();
        }
        let mut tries = if generated { GENERATED_NAME_TRIES } else { 1 };
        loop {
            check_name(resource, &*object)?;
            invalid(resource, &*object, resource.validate(&*object))?;
            let name = object.meta().name.clone().unwrap_or_default();
            let key = resource.key(object.meta().namespace.as_deref().unwrap_or_default(), &name);
            let written = self.put_new(resource, &key, &*object, dry_run, &mut reservation).await;
            tries -= 1;
            match written {
                Ok(bytes) => {
                    warnings.extend(object.warnings());
                    return Ok(Written { bytes, name, created: true, warnings });
                }
                Err(StoreError::Exists { .. }) if tries > 0 => {
                    object.meta_mut().name = None;
                    generate_name(&mut *object);
                    object.set_defaults();
                }
                Err(StoreError::Exists { key }) => {
                    return Err(self.taken(resource, &key, &name, generated).await);
                }
                Err(error) => return Err(store_failure(error)),
            }
        }
    }

    /// 409 for a name that is taken.
    async fn taken(&self, resource: &Resource, key: &str, name: &str, generated: bool) -> Failure {
        let mut failure = Failure::already_exists(resource.group_resource(), name);
        if generated {
            failure.message += ", the server was not able to generate a unique name for the object";
            failure.details.get_or_insert_default().retry_after_seconds = Some(1);
        }
        // A client that waits for the old one to go should know that it is going.
        let settled = self.settle().await;
        let there = settled.ok().and_then(|()| resource.shard().get(key));
        let going = there.and_then(|there| resource.parse(&there.bytes).ok());
        if going.is_some_and(|going| going.meta().deletion_timestamp.is_some()) {
            failure.message = format!("object is being deleted: {}", failure.message);
        }
        failure
    }

    async fn put_new(
        &self,
        resource: &Resource,
        key: &str,
        object: &dyn Object,
        dry_run: bool,
        reservation: &mut QuotaReservation,
    ) -> Result<Bytes, StoreError> {
        let encoded = object.encode();
        check_size(key, encoded.len(), 0)?;
        if dry_run {
            return match self.store.get(key).await? {
                Some(_) => Err(StoreError::Exists { key: key.to_owned() }),
                None => Ok(crate::encoded::erasing(encoded)),
            };
        }
        let encoded = Encoded::new(resource, object, encoded);
        let (store, own_key, value) = (self.store.clone(), key.to_owned(), encoded.value.clone());
        let put = async move { store.create(&own_key, value).await };
        let ended = || StoreError::Closed("the server is shutting down".to_owned());
        let revision = reservation.hold_during(put).await.ok_or_else(ended)??;
        Ok(encoded.stamped(revision))
    }

    /// Replaces an object by what `change` makes of it, trying again when another writer was
    /// faster, unless the client named the revision it expects.
    ///
    /// # Errors
    /// 404, 409, 422, and what `change` returns.
    pub(crate) async fn persist_update<'a, F>(
        &self,
        resource: &'a Resource,
        (namespace, name): (&str, &str),
        sub: Option<SubresourceName>,
        dry_run: bool,
        mut change: F,
    ) -> Result<Written, Failure>
    where
        F: FnMut(&dyn Object) -> Result<Change<'a>, Failure> + Send,
    {
        for _ in 0..UPDATE_TRIES {
            let current = self.get(resource, namespace, name).await?;
            let old = resource.parse(&current.bytes)?;
            let Change { object: admitted, expected } = change(&*old)?;
            let (resource, Update { mut object }, mut warnings) = admitted.into_parts();
            if expected.is_some_and(|expected| expected != current.revision) {
                return Err(modified(resource, name));
            }
            warnings.extend(single_owners(object.meta_mut()));
            keep_server_fields(&mut *object, &*old);
            object.prepare_for_update(&*old, sub);
            invalid(resource, &*object, resource.validate_update(&*object, &*old, sub))?;
            object.meta_mut().resource_version = None;
            warnings.extend(object.update_warnings(&*old));
            let ends = is_released(&*object);
            match self.put_update(resource, &current, &*object, ends, dry_run).await {
                Ok(bytes) => {
                    let name = name.to_owned();
                    return Ok(Written { bytes, name, created: false, warnings });
                }
                Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(store_failure(error)),
            }
        }
        Err(modified(resource, name))
    }

    async fn put_update(
        &self,
        resource: &Resource,
        current: &CachedObject,
        object: &dyn Object,
        ends: bool,
        dry_run: bool,
    ) -> Result<Bytes, StoreError> {
        let encoded = object.encode();
        if !ends {
            check_size(&current.key, encoded.len(), current.bytes.len())?;
        }
        if ends && !dry_run {
            self.store.delete(&current.key, current.revision).await?;
        }
        if ends || dry_run {
            return Ok(stamped(resource, &encoded, current.revision));
        }
        // A write that changes nothing is not persisted, as upstream has it.
        if is_stamped(resource.head(), &encoded, current.revision, &current.bytes) {
            return Ok(current.bytes.clone());
        }
        let encoded = Encoded::new(resource, object, encoded);
        let value = encoded.value.clone();
        let revision = self.store.update(&current.key, value, current.revision).await?;
        Ok(encoded.stamped(revision))
    }
}

/// What the server alone sets on a new object.
fn set_server_fields(resource: &Resource, object: &mut dyn Object) {
    let namespaced = resource.info.namespaced;
    let meta = object.meta_mut();
    meta.uid = Some(uuid::Uuid::new_v4().to_string());
    meta.creation_timestamp = Some(now());
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.resource_version = None;
    meta.self_link = None;
    meta.generation = resource.info.tracks_generation.then_some(1);
    if !namespaced {
        meta.namespace = None;
    }
}

/// What an update cannot change, filled in where the client left it out.
fn keep_server_fields(object: &mut dyn Object, old: &dyn Object) {
    let (meta, old) = (object.meta_mut(), old.meta());
    // Validation wants one; what is stored has none.
    meta.resource_version.clone_from(&old.resource_version);
    meta.self_link = None;
    meta.uid = meta.uid.take().filter(|uid| !uid.is_empty()).or_else(|| old.uid.clone());
    meta.creation_timestamp = old.creation_timestamp.clone();
    // That it goes can be said by a DELETE only: an object that says so itself is refused later.
    if old.deletion_timestamp.is_some() {
        meta.deletion_timestamp.clone_from(&old.deletion_timestamp);
    }
    if meta.deletion_grace_period_seconds.is_none() {
        meta.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    }
    meta.generation = old.generation;
    if meta.namespace.is_none() {
        meta.namespace.clone_from(&old.namespace);
    }
}

/// Names each owner once. Returns a warning where one was named twice.
fn single_owners(meta: &mut ObjectMeta) -> Option<String> {
    let owners = meta.owner_references.as_mut()?;
    let mut seen = HashSet::new();
    let firsts: Vec<bool> = owners.iter().map(|owner| seen.insert(all_of(owner))).collect();
    let (mut kept, mut twice) = (Vec::new(), Vec::new());
    for (owner, first) in owners.drain(..).zip(firsts) {
        if first {
            kept.push(owner);
        } else {
            twice.push(owner.uid);
        }
    }
    *owners = kept;
    let twice = twice.join(", ");
    (!twice.is_empty()).then(|| format!(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {twice}"
    ))
}

/// An owner as something that hashes.
fn all_of(owner: &OwnerReference) -> ([&str; 4], [Option<bool>; 2]) {
    let OwnerReference { api_version, kind, name, uid, controller, block_owner_deletion } = owner;
    ([api_version, kind, name, uid], [*controller, *block_owner_deletion])
}

/// Whether this update took away the last thing that kept a deleted object alive.
fn is_released(object: &dyn Object) -> bool {
    let meta = object.meta();
    meta.deletion_timestamp.is_some()
        && meta.deletion_grace_period_seconds.unwrap_or_default() == 0
        && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
        && !object.holds_deletion()
}

/// Fills in a name from `generateName`; whether it did.
fn generate_name(object: &mut dyn Object) -> bool {
    let meta = object.meta_mut();
    let named = meta.name.as_ref().is_some_and(|name| !name.is_empty());
    match meta.generate_name.as_deref() {
        Some(base) if !named && !base.is_empty() => {
            let random = |below: usize| rand::random_range(0..below);
            meta.name = Some(names::generate_name(base, random));
            true
        }
        _ => false,
    }
}

fn check_name(resource: &Resource, object: &dyn Object) -> Result<(), Failure> {
    if object.meta().name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Ok(());
    }
    let path = Path::new("metadata").child("name");
    let error = Error::required(&path, "name or generateName is required");
    invalid(resource, object, vec![error])
}

fn invalid(resource: &Resource, object: &dyn Object, errors: Vec<Error>) -> Result<(), Failure> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = object.meta().name.as_deref().unwrap_or_default();
    Err(Failure::invalid(resource.info.group, resource.info.kind, name, &errors))
}

/// 409: another client wrote in between.
pub(super) fn modified(resource: &Resource, name: &str) -> Failure {
    Failure::conflict(
        resource.group_resource(),
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}
