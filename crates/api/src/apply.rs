//! Who owns which field: `metadata.managedFields`, and server-side apply, which works by it.
//!
//! [`managed_fields`] records what a create, update or patch changed; [`apply`] merges what someone
//! wants into what is, refuses where others own what would change, and takes away what the same
//! manager wanted before and wants no more. Pure functions on documents and schemas; the time is
//! passed in. The rules are those of `sigs.k8s.io/structured-merge-diff` and of the field manager
//! in `k8s.io/apimachinery`, documented under "Server-Side Apply" in the Kubernetes reference.
//!
//! Errors name fields by path. A path may hold a key of `data`, a list's key or a finalizer's name,
//! and never a value.

mod compare;
mod element;
mod error;
mod last_applied;
mod managers;
mod merge;
mod ownership;
mod set;
mod typed;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

pub use error::{ApplyError, Conflict};
pub use set::FieldSet;

use crate::document::Document;
use crate::schema::Schema;
use crate::subresource::SubresourceName;
use managers::{Id, Managers};

/// managedFields that are longer than this as JSON, in bytes, are not written down: no store takes the
/// object.
pub const MANAGED_BYTES_MAX: usize = 3 * 512 * 1024;

/// How deep the fields of one manager may be nested as JSON, which with what is around them is less than
/// [`NESTING_MAX`](crate::document::NESTING_MAX). No kind needs half of it.
pub const FIELDS_NESTING_MAX: usize = 40;

/// Takes managedFields out of an object that are nested so deeply that no list of them is kept: they count as
/// not given, as all do that cannot be read.
pub fn drop_deep_managed_fields(object: &mut Document) {
    if !managers::field(object.value()).is_some_and(managers::is_deep) {
        return;
    }
    let metadata = object.value_mut().get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(mut fields) = metadata.and_then(|metadata| metadata.remove("managedFields")) {
        crate::document::erase(&mut fields);
    }
}

/// What is written, by whom, through which endpoint, when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The kind that is written.
    pub schema: Schema,
    /// `v1` or `apps/v1`.
    pub api_version: &'a str,
    /// The kind's name, for messages.
    pub kind: &'a str,
    /// The field manager: the request's parameter, else what its User-Agent begins with.
    pub manager: &'a str,
    /// `status` and its like; `None` for the object itself.
    pub subresource: Option<SubresourceName>,
    /// When.
    pub now: Timestamp,
}

/// An applied object and who owns it now.
pub struct Applied {
    /// The object, managedFields included.
    pub object: Document,
    /// Whether it differs from the live one in anything but managedFields.
    pub changed: bool,
}

/// Who owns what, before it is written down.
pub struct Managed(Managers);

impl Managed {
    /// The least length of [`Managed::entries`] as JSON, in bytes.
    pub fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    /// The list; `None` for an object that is not tracked and has none.
    pub fn entries(self) -> Option<Vec<ManagedFieldsEntry>> {
        (!self.0.is_empty()).then(|| self.0.entries())
    }
}

/// The managedFields of `new` after the writer made it of `old` (`None`: created it). The trees need
/// not be kept for the writing down.
///
/// What `new` itself says in managedFields counts, as far as upstream lets it: an empty list ends
/// the tracking, a good list replaces the old one, anything else is ignored.
pub fn managed_fields(old: Option<&Value>, new: &Value, writer: &Writer<'_>) -> Managed {
    Managed(tracked(old, new, writer))
}

fn tracked(old: Option<&Value>, new: &Value, writer: &Writer<'_>) -> Managers {
    let managers = starting_managers(old, new, writer);
    // An object that has lived without managers is not tracked until someone applies to it.
    if managers.is_empty() && old.is_some() {
        return managers;
    }
    update(managers, old, new, writer)
}

/// Which list an update starts from.
fn starting_managers(old: Option<&Value>, new: &Value, writer: &Writer<'_>) -> Managers {
    let of_old = || {
        let entries = old.and_then(managers::field);
        entries.and_then(|entries| Managers::decode(entries).ok()).unwrap_or_default()
    };
    // Through a subresource no one sets managedFields.
    if writer.subresource.is_some() {
        return of_old();
    }
    let Some(entries) = managers::field(new) else { return of_old() };
    if managers::is_reset(entries) {
        return Managers::default();
    }
    Managers::decode(entries).ok().filter(|managers| !managers.is_empty()).unwrap_or_else(of_old)
}

fn update(
    mut managers: Managers,
    old: Option<&Value>,
    new: &Value,
    writer: &Writer<'_>,
) -> Managers {
    let delta = compare::compare_objects(old, new, writer.schema).children();
    let mut changed = delta.modified;
    changed.unite(delta.added);
    let changed = ownership::without_reset(changed, writer.subresource);
    let removed = ownership::without_reset(delta.removed, writer.subresource);
    for set in managers.sets_of(writer.api_version) {
        set.subtract(&changed);
        set.subtract(&removed);
    }
    let own = ownership::without_metadata(changed);
    if !own.is_empty() {
        managers.extend(Id::updater(writer), own, writer.now);
    }
    managers.drop_empty();
    managers.cap_updaters();
    managers
}

/// Applies what `writer.manager` wants of the object to the live one; `None`: there is none yet.
///
/// The result has the live object's other fields and new managedFields; defaulting, validation and
/// the metadata that only the server sets are the caller's. With `force`, fields that others own are
/// taken over instead of reported.
///
/// # Errors
/// See [`ApplyError`].
pub fn apply(
    live: Option<&Document>,
    patch: &Document,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Applied, ApplyError> {
    check_patch(patch.value(), writer)?;
    let empty = Value::Object(serde_json::Map::new());
    let live_value = live.map_or(&empty, Document::value);
    let managers = live_managers(live, writer)?;

    let attempt = |force| apply_once(live_value, patch.value(), managers.clone(), writer, force);
    let (mut object, mut managers) = match attempt(force) {
        Err(ApplyError::Conflicts(conflicts)) if writer.manager == last_applied::MANAGER => {
            let left = last_applied::unexplained(conflicts, live_value, writer);
            if left.is_empty() { attempt(true)? } else { return Err(ApplyError::Conflicts(left)) }
        }
        result => result?,
    };

    let changed = live.is_none() || object.value() != live_value;
    if managers.encoded_len() > MANAGED_BYTES_MAX {
        return Err(ApplyError::TooLarge);
    }
    managers.stamp_applier(writer, changed);
    managers.write(object.value_mut());
    if writer.manager == last_applied::MANAGER {
        last_applied::renew(&mut object, patch);
    }
    Ok(Applied { object, changed })
}

fn check_patch(patch: &Value, writer: &Writer<'_>) -> Result<(), ApplyError> {
    let text = |name: &str| patch[name].as_str().unwrap_or_default();
    if (text("apiVersion"), text("kind")) != (writer.api_version, writer.kind) {
        let found = error::group_version_kind(text("apiVersion"), text("kind"));
        return Err(ApplyError::WrongType(found));
    }
    if managers::field(patch).is_some() {
        return Err(ApplyError::ManagedFieldsInPatch);
    }
    let faults = typed::check(patch, writer.schema);
    if faults.is_empty() {
        return Ok(());
    }
    Err(ApplyError::Untyped { object: error::describe(patch, writer), faults })
}

fn live_managers(live: Option<&Document>, writer: &Writer<'_>) -> Result<Managers, ApplyError> {
    let Some(live) = live else { return Ok(Managers::default()) };
    let managers = match managers::field(live.value()) {
        Some(entries) => Managers::decode(entries)
            .map_err(|error| ApplyError::ManagedFields(error.to_string()))?,
        None => Managers::default(),
    };
    if !managers.is_empty() {
        return Ok(managers);
    }
    // No one was tracked so far: all that is there belongs to one who is not an applier.
    let before = Writer { manager: "before-first-apply", ..*writer };
    Ok(update(managers, None, live.value(), &before))
}

fn apply_once(
    live: &Value,
    patch: &Value,
    mut managers: Managers,
    writer: &Writer<'_>,
    force: bool,
) -> Result<(Document, Managers), ApplyError> {
    let id = Id::applier(writer);
    let wanted = typed::fields(patch, writer.schema).children;
    let wanted = ownership::without_reset(wanted, writer.subresource);
    let last = managers.replace(&id, wanted, writer.api_version);

    let mut object = Document::new(merge::merge(live, patch, writer.schema));
    if let Some(last) = last {
        let owned = managers.union();
        merge::prune(object.value_mut(), writer.schema, &last, &owned);
    }

    let delta = compare::compare_objects(Some(live), object.value(), writer.schema).children();
    let mut changed = delta.modified;
    changed.unite(delta.added);
    let changed = ownership::without_reset(changed, writer.subresource);
    let removed = ownership::without_reset(delta.removed, writer.subresource);
    if !force {
        let conflicts = managers.conflicts(&id, &changed, writer.api_version);
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
    }
    managers.take_over(&id, &changed, &removed, writer.api_version);
    managers.update_set(&id, ownership::without_metadata);
    managers.drop_empty();
    Ok((object, managers))
}

#[cfg(test)]
mod tests;
