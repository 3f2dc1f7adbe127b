//! Deletion: preconditions, grace, finalizers, propagation, and namespaces that empty first.

use bytes::Bytes;
use coffer_api::status::Failure;
use coffer_store::{StoreError, Value};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::write::modified;
use super::{Registry, now, stamped, store_failure};
use crate::admission::Admitted;
use crate::object::{Object, Resource};

const DELETE_TRIES: usize = 32;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Kinds whose DELETE answers with the object, as upstream's does.
const RETURN_OBJECT: [&str; 3] = ["pods", "serviceaccounts", "resourcequotas"];

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// The kind's default: the garbage collector deletes them afterwards.
    Background,
    /// They go first.
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
            Failure::invalid("meta.k8s.io", "DeleteOptions", "", &vec![error])
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
            grace_period_seconds: options.grace_period_seconds,
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            propagation,
            dry_run: !dry_run.is_empty(),
        })
    }
}

/// What a deletion came to.
pub(crate) enum Deleted {
    /// Gone. The object as it was, for kinds that answer with it.
    Gone { last: Bytes, uid: String, return_object: bool },
    /// Marked: it goes when its grace period or its finalizers end.
    Going(Bytes),
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
    pub(crate) async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
        admitted: Admitted<()>,
    ) -> Result<Deleted, Failure> {
        let ((), _) = admitted.into_inner();
        for _ in 0..DELETE_TRIES {
            let current = self.get(resource, namespace, name).await?;
            let object = resource.parse(&current.bytes)?;
            preconditions(resource, name, &*object, options)?;
            let uid = object.meta().uid.clone().unwrap_or_default();
            let return_object = RETURN_OBJECT.contains(&resource.info.plural);
            let gone = |last| Deleted::Gone { last, uid: uid.clone(), return_object };
            let step = plan(resource, object, options);
            let done = match step {
                Step::Unchanged => return Ok(Deleted::Going(current.bytes.clone())),
                Step::Remove if options.dry_run => return Ok(gone(current.bytes.clone())),
                Step::Remove => {
                    self.store.delete(&current.key, current.revision).await.map(|revision| {
                        gone(crate::encoded::restamp(
                            resource.head(),
                            &current.bytes,
                            current.revision,
                            revision,
                        ))
                    })
                }
                Step::Mark(object) => {
                    let value = Value::new(std::mem::take(&mut *object.encode()));
                    let revision = if options.dry_run {
                        Ok(current.revision)
                    } else {
                        self.store.update(&current.key, value.clone(), current.revision).await
                    };
                    revision.map(|at| Deleted::Going(stamped(resource, value.as_bytes(), at)))
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
}

fn preconditions(
    resource: &Resource,
    name: &str,
    object: &dyn Object,
    options: &DeleteOptions,
) -> Result<(), Failure> {
    let meta = object.meta();
    let differs = |wanted: &Option<String>, found: &Option<String>| {
        wanted.as_ref().is_some_and(|wanted| Some(wanted) != found.as_ref())
    };
    let failed = |what: &str, wanted: &Option<String>, found: &Option<String>| {
        let (wanted, found) =
            (wanted.as_deref().unwrap_or_default(), found.as_deref().unwrap_or_default());
        let why = format!(
            "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
        );
        Failure::conflict(resource.group_resource(), name, &why)
    };
    if differs(&options.uid, &meta.uid) {
        return Err(failed("UID", &options.uid, &meta.uid));
    }
    if differs(&options.resource_version, &meta.resource_version) {
        let (wanted, found) = (&options.resource_version, &meta.resource_version);
        return Err(failed("ResourceVersion", wanted, found));
    }
    Ok(())
}

/// Decides what a deletion does to an object: nothing more, a mark, or its end.
fn plan(resource: &Resource, mut object: Box<dyn Object>, options: &DeleteOptions) -> Step {
    let grace = grace_seconds(&*object, options);
    let already = object.meta().deletion_timestamp.is_some();
    let shorter = object.meta().deletion_grace_period_seconds.is_none_or(|old| grace < old);
    let finalizers_changed = set_finalizers(object.meta_mut(), options.propagation);
    let held = object.meta().finalizers.as_ref().is_some_and(|all| !all.is_empty())
        || held_by_kind(resource, &*object);
    if grace == 0 && !held {
        return Step::Remove;
    }
    if already && !shorter && !finalizers_changed {
        return Step::Unchanged;
    }
    if !already || shorter {
        let meta = object.meta_mut();
        let began = match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
            (Some(end), Some(old)) => end.0 - jiff::SignedDuration::from_secs(old),
            _ => now().0,
        };
        meta.deletion_timestamp = Some(meta::Time(began + jiff::SignedDuration::from_secs(grace)));
        meta.deletion_grace_period_seconds = Some(grace);
        if !already && resource.info.tracks_generation {
            meta.generation = meta.generation.map(|generation| generation + 1);
        }
        if let Some(namespace) = object.as_any_mut().downcast_mut::<Namespace>() {
            namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        }
    }
    object.meta_mut().resource_version = None;
    Step::Mark(object)
}

/// Seconds until the object may be removed: only pods that run somewhere get any.
fn grace_seconds(object: &dyn Object, options: &DeleteOptions) -> i64 {
    let Some(pod) = object.as_any().downcast_ref::<Pod>() else { return 0 };
    let spec = pod.spec.as_ref();
    let assigned = spec.and_then(|spec| spec.node_name.as_ref()).is_some_and(|n| !n.is_empty());
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if !assigned || matches!(phase, Some("Succeeded" | "Failed")) {
        return 0;
    }
    let wanted = options
        .grace_period_seconds
        .or_else(|| spec.and_then(|spec| spec.termination_grace_period_seconds))
        .unwrap_or(30);
    // A negative period of the pod's own means one second, as upstream has it.
    if wanted < 0 { 1 } else { wanted }
}

/// Adds or takes away the garbage collector's finalizers as the propagation policy says.
fn set_finalizers(meta: &mut meta::ObjectMeta, propagation: Option<Propagation>) -> bool {
    let Some(propagation) = propagation else { return false };
    let before = meta.finalizers.clone();
    let mut all = meta.finalizers.take().unwrap_or_default();
    all.retain(|one| one != ORPHAN && one != FOREGROUND);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => all.push(FOREGROUND.to_owned()),
        Propagation::Orphan => all.push(ORPHAN.to_owned()),
    }
    meta.finalizers = (!all.is_empty()).then_some(all);
    meta.finalizers != before
}

/// Whether the kind itself keeps the object: a namespace until its content is gone.
pub(super) fn held_by_kind(_resource: &Resource, object: &dyn Object) -> bool {
    object
        .as_any()
        .downcast_ref::<Namespace>()
        .and_then(|namespace| namespace.spec.as_ref())
        .and_then(|spec| spec.finalizers.as_ref())
        .is_some_and(|finalizers| !finalizers.is_empty())
}
