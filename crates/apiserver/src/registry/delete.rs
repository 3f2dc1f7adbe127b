//! Deletion: preconditions, grace, finalizers, propagation, and namespaces that empty first.

use bytes::Bytes;
use coffer_api::kinds::Dependents;
use coffer_api::status::{Failure, GroupResource};
use coffer_api::well_known::{api_group, finalizer};
use coffer_store::{Revision, StoreError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::write::modified;
use super::{Encoded, Registry};
use crate::admission::admitted::{Admitted, Deletion};
use crate::cache::CachedObject;
use crate::clock::now;
use crate::failure::store_failure;
use crate::object::{Object, Resource, undecoded};

const DELETE_TRIES: usize = 32;
const ORPHAN: &str = finalizer::ORPHAN;
const FOREGROUND: &str = finalizer::FOREGROUND;
/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// The kind's default: the garbage collector deletes them afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<Propagation>,
    /// The deprecated form of the propagation policy, as the client sent it.
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// The typed options of a body or query.
    ///
    /// # Errors
    /// 422 for values upstream does not know.
    pub(crate) fn from_api(options: meta::DeleteOptions) -> Result<Self, Failure> {
        let invalid = |field: &str, value: &str, supported: &[&str]| {
            let path = coffer_api::field::Path::new(field);
            let error = coffer_api::field::Error::not_supported(&path, value, supported);
            Failure::invalid(api_group::META, "DeleteOptions", "", &vec![error])
        };
        let propagation = match options.propagation_policy.as_deref() {
            None | Some("") => options
                .orphan_dependents
                .map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                return Err(invalid("propagationPolicy", other, &supported));
            }
        };
        let dry_run = options.dry_run.unwrap_or_default();
        if let Some(other) = dry_run.iter().find(|value| *value != "All") {
            return Err(invalid("dryRun", other, &["All"]));
        }
        let preconditions = options.preconditions.unwrap_or_default();
        Ok(Self {
            // A negative period means one second, as upstream has it.
            grace_period_seconds: options.grace_period_seconds.map(positive),
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            propagation,
            orphan_dependents: options.orphan_dependents,
            dry_run: !dry_run.is_empty(),
        })
    }
}

/// What a deletion came to.
pub(crate) enum Deleted {
    /// Removed. The object as it was, for kinds that return it.
    Removed { last: Bytes, uid: String, return_object: bool },
    /// Marked: it is removed when its grace period or its finalizers end.
    Terminating(Bytes),
}

/// What is to be written for a deletion.
enum Step {
    Remove,
    Mark(Box<dyn Object>),
    Unchanged,
}

impl Registry {
    /// Deletes one object, or marks it for deletion.
    ///
    /// # Errors
    /// 404; 409 for a precondition that does not hold.
    pub(crate) async fn persist_delete(
        &self,
        admitted: Admitted<'_, Deletion>,
        options: &DeleteOptions,
    ) -> Result<Deleted, Failure> {
        let (resource, Deletion { namespace, name }, _) = admitted.into_parts();
        let (namespace, name) = (&*namespace, &*name);
        for _ in 0..DELETE_TRIES {
            let current = self.get(resource, namespace, name).await?;
            let Ok(object) = resource.parse(&current.bytes) else {
                match self.persist_delete_undecoded(resource, &current, options).await? {
                    Some(deleted) => return Ok(deleted),
                    None => continue,
                }
            };
            preconditions(resource, name, object.meta(), options)?;
            let uid = object.meta().uid.clone().unwrap_or_default();
            let return_object = resource.info.deletion.returns_object;
            let removed = |last| Deleted::Removed { last, uid: uid.clone(), return_object };
            let step = plan(resource, object, options, now());
            let done = match step {
                Step::Unchanged => return Ok(Deleted::Terminating(current.bytes.clone())),
                Step::Remove if options.dry_run => return Ok(removed(current.bytes.clone())),
                Step::Remove => {
                    self.store.delete(&current.key, current.revision).await.map(|revision| {
                        removed(crate::encoded::restamp(
                            resource.head(),
                            &current.bytes,
                            current.revision,
                            revision,
                        ))
                    })
                }
                Step::Mark(object) => {
                    let encoded = Encoded::new(resource, &*object, object.encode());
                    let value = encoded.value.clone();
                    let revision = if options.dry_run {
                        Ok(current.revision)
                    } else {
                        self.store.update(&current.key, value, current.revision).await
                    };
                    revision.map(|at| Deleted::Terminating(encoded.stamped(at)))
                }
            };
            match done {
                Ok(deleted) => return Ok(deleted),
                Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(store_failure(error)),
            }
        }
        Err(modified(resource, name))
    }

    /// Removes an object that cannot be decoded; `None` where another writer was faster. Neither finalizers nor a
    /// grace period hold it, because what it says of them cannot be read.
    async fn persist_delete_undecoded(
        &self,
        resource: &Resource,
        current: &CachedObject,
        options: &DeleteOptions,
    ) -> Result<Option<Deleted>, Failure> {
        let meta = undecoded::metadata(current, current.revision);
        preconditions(resource, &current.name, &meta, options)?;
        let uid = meta.uid.unwrap_or_default();
        let removed = Deleted::Removed { last: Bytes::new(), uid, return_object: false };
        if options.dry_run {
            return Ok(Some(removed));
        }
        match self.store.delete(&current.key, current.revision).await {
            Ok(_) => {
                tracing::warn!(key = &*current.key, "deleted an object that cannot be decoded");
                Ok(Some(removed))
            }
            Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_failure(error)),
        }
    }

    /// Removes an expired object, at the revision at which that was seen. Unlike a deletion
    /// it knows neither a grace period nor finalizers.
    ///
    /// # Errors
    /// 409 where it was written since, or is no longer there.
    pub(crate) async fn persist_expiry(
        &self,
        admitted: Admitted<'_, Deletion>,
        revision: Revision,
    ) -> Result<(), Failure> {
        let (resource, Deletion { namespace, name }, _) = admitted.into_parts();
        match self.store.delete(&resource.key(&namespace, &name), revision).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => {
                Err(modified(resource, &name))
            }
            Err(error) => Err(store_failure(error)),
        }
    }
}

/// Whether the object is the one that the deletion means.
///
/// # Errors
/// 409.
pub(crate) fn preconditions(
    resource: &Resource,
    name: &str,
    meta: &meta::ObjectMeta,
    options: &DeleteOptions,
) -> Result<(), Failure> {
    let differs = |wanted: &Option<String>, found: &Option<String>| {
        wanted.as_ref().is_some_and(|wanted| Some(wanted) != found.as_ref())
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    // The kind, not the resource, as upstream has it here.
    let subject = GroupResource { group: resource.info.group, resource: resource.info.kind };
    if differs(&options.uid, &meta.uid) {
        let (wanted, found) = (text(&options.uid), text(&meta.uid));
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({found}). The object might have been deleted and then recreated"
        );
        return Err(Failure::conflict(subject, name, &why));
    }
    if differs(&options.resource_version, &meta.resource_version) {
        let (wanted, found) = (text(&options.resource_version), text(&meta.resource_version));
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({found}). The object might have been modified"
        );
        return Err(Failure::conflict(subject, name, &why));
    }
    Ok(())
}

/// Decides what a deletion does to an object: nothing more, a mark, or its end.
fn plan(
    resource: &Resource,
    mut object: Box<dyn Object>,
    options: &DeleteOptions,
    now: meta::Time,
) -> Step {
    let before = object.encode();
    let graceful = begin_grace(&mut *object, options, &now);
    // Nor can finalizers be changed by a deletion that comes while the grace period runs.
    if graceful == Grace::Pending {
        return Step::Unchanged;
    }
    if resource.info.deletion.dependents != Dependents::None {
        set_finalizers(resource, object.meta_mut(), options.propagation);
    }
    let held = object.meta().finalizers.as_ref().is_some_and(|all| !all.is_empty())
        || object.holds_deletion();
    match graceful {
        Grace::Seconds(seconds) if seconds > 0 || held => {}
        Grace::None if held => mark(resource, &mut *object, now),
        _ => return Step::Remove,
    }
    if *object.encode() == *before {
        return Step::Unchanged;
    }
    object.meta_mut().resource_version = None;
    Step::Mark(object)
}

/// Whether and how long an object is given to end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grace {
    /// Its kind has no grace period, or it is over.
    None,
    /// It is running already and this deletion does not shorten it.
    Pending,
    /// It has just been set.
    Seconds(i64),
}

/// Starts or shortens the grace period of an object whose kind has one.
fn begin_grace(object: &mut dyn Object, options: &DeleteOptions, now: &meta::Time) -> Grace {
    let asked = options.grace_period_seconds;
    let Some(first) = object.grace_seconds(asked) else { return Grace::None };
    let meta = object.meta_mut();
    let Some(end) = meta.deletion_timestamp.as_ref() else {
        meta.deletion_timestamp = Some(after(now, first));
        meta.deletion_grace_period_seconds = Some(first);
        meta.generation = meta.generation.map(|generation| generation + 1);
        return Grace::Seconds(first);
    };
    let running = meta.deletion_grace_period_seconds.map(positive);
    let Some(running) = running.filter(|seconds| *seconds != 0) else { return Grace::None };
    let shorter = asked.filter(|seconds| *seconds < running);
    let Some(mut seconds) = shorter else { return Grace::Pending };
    let mut end = after(end, seconds - running);
    if end.0 < now.0 {
        end = now.clone();
        // The kubelet still ends the pod: the shortest grace period that is not 0.
        seconds = seconds.min(1);
    }
    meta.deletion_timestamp = Some(end);
    meta.deletion_grace_period_seconds = Some(seconds);
    Grace::Seconds(seconds)
}

fn positive(seconds: i64) -> i64 {
    if seconds < 0 { 1 } else { seconds }
}

/// A time so many seconds later, or earlier; the last or the first possible one if that is out of range, because
/// clients may name any number.
fn after(time: &meta::Time, seconds: i64) -> meta::Time {
    let later = time.0.saturating_add(jiff::SignedDuration::from_secs(seconds));
    meta::Time(later.unwrap_or(jiff::Timestamp::MAX))
}

/// Marks an object that something holds and that needs no time of its own.
fn mark(resource: &Resource, object: &mut dyn Object, now: meta::Time) {
    let meta = object.meta_mut();
    if meta.deletion_timestamp.is_none() && resource.info.tracks_generation {
        meta.generation = meta.generation.map(|generation| generation + 1);
    }
    if meta.deletion_timestamp.as_ref().is_none_or(|at| at.0 > now.0) {
        meta.deletion_timestamp = Some(now);
    }
    object.mark_deleted();
}

/// Adds or takes away the garbage collector's finalizers: as the propagation policy says, else as
/// the object has them already, else as its kind always had it.
fn set_finalizers(
    resource: &Resource,
    meta: &mut meta::ObjectMeta,
    propagation: Option<Propagation>,
) {
    let mut all = meta.finalizers.take().unwrap_or_default();
    let has = |name: &str| all.iter().any(|one| one == name);
    let propagation = propagation.unwrap_or_else(|| {
        if has(ORPHAN)
            || (!has(FOREGROUND) && resource.info.deletion.dependents == Dependents::Orphaned)
        {
            Propagation::Orphan
        } else if has(FOREGROUND) {
            Propagation::Foreground
        } else {
            Propagation::Background
        }
    });
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    all.retain(|one| Some(one.as_str()) == wanted || (one != ORPHAN && one != FOREGROUND));
    if let Some(wanted) = wanted.filter(|wanted| !all.iter().any(|one| one == wanted)) {
        all.push(wanted.to_owned());
    }
    meta.finalizers = (!all.is_empty()).then_some(all);
}
