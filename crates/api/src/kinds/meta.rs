//! ObjectMeta, the part all kinds share: what is valid in a new object and what may change later.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ManagedFieldsEntry, ObjectMeta, OwnerReference,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{KindInfo, shown};
use crate::equality::equal;
use crate::field::{Error, ErrorKind, ErrorList, Path};
use crate::names;
use crate::subresource::SubresourceName;
use crate::well_known::finalizer;

/// The detail of every change to what may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// Everything wrong with the metadata of a new object whose name has been generated.
pub fn validate(meta: &ObjectMeta, info: &KindInfo) -> ErrorList {
    let path = Path::new("metadata");
    let mut errors = validate_name(meta, info, &path);
    errors.extend(validate_namespace(meta, info, &path.child("namespace")));
    errors.extend(non_negative(meta.generation, &path.child("generation")));
    errors.extend(validate_free_parts(meta, &path));
    errors.extend(validate_finalizers(finalizers(meta), &path.child("finalizers")));
    errors.extend(validate_standard_finalizers(meta, &path));
    errors
}

/// A finalizer without a prefix must be one of those Kubernetes itself knows.
fn validate_standard_finalizers(meta: &ObjectMeta, path: &Path) -> ErrorList {
    let path = path.child("finalizers");
    let each = |(at, name): (usize, &String)| standard_finalizer(name, &path.index(at));
    finalizers(meta).iter().enumerate().filter_map(each).collect()
}

/// See [`validate_standard_finalizers`]; a namespace's spec has finalizers, too.
pub(super) fn standard_finalizer(name: &str, path: &Path) -> Option<Error> {
    let detail = "name is neither a standard finalizer name nor is it fully qualified";
    let standard =
        matches!(name, finalizer::KUBERNETES | finalizer::ORPHAN | finalizer::FOREGROUND);
    (!name.contains('/') && !standard).then(|| Error::invalid(path, name, detail))
}

fn validate_name(meta: &ObjectMeta, info: &KindInfo, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(base) = meta.generate_name.as_ref().filter(|base| !base.is_empty()) {
        let path = path.child("generateName");
        errors.extend(invalid_each(&path, base, (info.name_rule)(base, true)));
    }
    let path = path.child("name");
    match meta.name.as_ref().filter(|name| !name.is_empty()) {
        None => errors.push(Error::required(&path, "name or generateName is required")),
        Some(name) => errors.extend(invalid_each(&path, name, (info.name_rule)(name, false))),
    }
    errors
}

fn validate_namespace(meta: &ObjectMeta, info: &KindInfo, path: &Path) -> ErrorList {
    match (info.namespaced, meta.namespace.as_deref().unwrap_or_default()) {
        (true, "") => vec![Error::required(path, "")],
        (true, name) => invalid_each(path, name, names::label_name(name, false)),
        (false, "") => ErrorList::new(),
        (false, _) => vec![Error::forbidden(path, "not allowed on this type")],
    }
}

/// Labels, annotations, owners and managers: the parts clients may change at any time.
fn validate_free_parts(meta: &ObjectMeta, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(labels) = &meta.labels {
        errors.extend(validate_labels(labels, &path.child("labels")));
    }
    if let Some(annotations) = &meta.annotations {
        errors.extend(validate_annotations(annotations, &path.child("annotations")));
    }
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    errors.extend(validate_owners(owners, &path.child("ownerReferences")));
    let managers = meta.managed_fields.as_deref().unwrap_or_default();
    errors.extend(validate_managers(managers, &path.child("managedFields")));
    errors
}

/// One `Invalid` for each message about a value.
pub fn invalid_each(path: &Path, value: &str, found: names::Messages) -> ErrorList {
    found.into_iter().map(|detail| Error::invalid(path, value, detail)).collect()
}

fn non_negative(value: Option<i64>, path: &Path) -> Option<Error> {
    let value = value.filter(|value| *value < 0)?;
    Some(Error::invalid(path, value, "must be greater than or equal to 0"))
}

/// A map of labels; also `matchLabels` and a node selector.
pub fn validate_labels(labels: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (key, value) in labels {
        errors.extend(invalid_each(path, key, names::qualified_name(key)));
        errors.extend(invalid_each(path, value, names::label_value(value)));
    }
    errors
}

/// A map of annotations. Values are never shown: those of a Secret are payload.
pub fn validate_annotations(annotations: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for key in annotations.keys() {
        errors.extend(invalid_each(path, key, names::qualified_name(&key.to_lowercase())));
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > names::ANNOTATIONS_BYTES_MAX {
        errors.push(Error::too_long(path, names::ANNOTATIONS_BYTES_MAX));
    }
    errors
}

fn validate_owners(owners: &[OwnerReference], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut controller: Option<String> = None;
    for owner in owners {
        // What has more than one slash is not a group and version, and is taken as having none.
        let version = match owner.api_version.split_once('/') {
            Some((_, version)) if version.contains('/') => "",
            Some((_, version)) => version,
            None => &owner.api_version,
        };
        let checks = [
            (version, "apiVersion", &owner.api_version, "version must not be empty"),
            (&owner.kind, "kind", &owner.kind, "must not be empty"),
            (&owner.name, "name", &owner.name, "must not be empty"),
            (&owner.uid, "uid", &owner.uid, "must not be empty"),
        ];
        for (checked, name, shown, detail) in checks {
            if checked.is_empty() {
                errors.push(Error::invalid(&path.child(name), shown, detail));
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(invalid_json(path, &shown::owner(owner), detail));
        }
        if owner.controller == Some(true) {
            let name = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                Some(first) => errors.push(invalid_json(
                    path,
                    &owners.iter().map(shown::owner).collect::<Vec<_>>(),
                    &format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    ),
                )),
                None => controller = Some(name),
            }
        }
    }
    errors
}

/// `Invalid value: {json}: detail`, as upstream prints values that are not scalars. Never for
/// values that may hold payload.
pub fn invalid_json<T: Serialize>(path: &Path, value: &T, detail: &str) -> Error {
    Error {
        kind: ErrorKind::Invalid,
        path: path.clone(),
        value: Some(serde_json::to_string(value).unwrap_or_default()),
        detail: detail.to_owned(),
    }
}

fn finalizers(meta: &ObjectMeta) -> &[String] {
    meta.finalizers.as_deref().unwrap_or_default()
}

fn validate_finalizers(finalizers: &[String], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for name in finalizers {
        errors.extend(invalid_each(path, name, names::qualified_name(name)));
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has(finalizer::ORPHAN) && has(finalizer::FOREGROUND) {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(invalid_json(path, &finalizers, detail));
    }
    errors
}

const MANAGER_BYTES_MAX: usize = 128;
const SUBRESOURCE_BYTES_MAX: usize = 256;

fn validate_managers(managers: &[ManagedFieldsEntry], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (at, entry) in managers.iter().enumerate() {
        let path = path.index(at);
        let operation = entry.operation.as_deref().unwrap_or_default();
        if !matches!(operation, "Apply" | "Update") {
            let detail = "must be `Apply` or `Update`";
            errors.push(Error::invalid(&path.child("operation"), operation, detail));
        }
        let fields_type = entry.fields_type.as_deref().unwrap_or_default();
        if !matches!(fields_type, "" | "FieldsV1") {
            let detail = "must be `FieldsV1`";
            errors.push(Error::invalid(&path.child("fieldsType"), fields_type, detail));
        }
        let manager = entry.manager.as_deref().unwrap_or_default();
        errors.extend(validate_field_manager(manager, &path.child("manager")));
        if entry.subresource.as_ref().is_some_and(|name| name.len() > SUBRESOURCE_BYTES_MAX) {
            errors.push(Error::too_long(&path.child("subresource"), SUBRESOURCE_BYTES_MAX));
        }
    }
    errors
}

/// A field manager's name: at most 128 bytes, all printable.
pub fn validate_field_manager(manager: &str, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if manager.len() > MANAGER_BYTES_MAX {
        errors.push(Error::too_long(path, MANAGER_BYTES_MAX));
    }
    for (at, character) in manager.char_indices().filter(|(_, found)| found.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
        errors.push(Error::invalid(path, manager, detail));
    }
    errors
}

/// Everything wrong with `new` as the successor of `old`.
pub fn validate_update(new: &ObjectMeta, old: &ObjectMeta) -> ErrorList {
    let path = Path::new("metadata");
    let mut errors = ErrorList::new();
    if old.deletion_timestamp.is_some() {
        errors.extend(no_new_finalizers(finalizers(new), finalizers(old), &path));
    }
    if new.resource_version.as_deref().unwrap_or_default().is_empty() {
        let detail = "must be specified for an update";
        errors.push(Error::invalid(&path.child("resourceVersion"), "", detail));
    }
    let generation = new.generation.unwrap_or_default();
    if generation < old.generation.unwrap_or_default() {
        let detail = "must not be decremented";
        errors.push(Error::invalid(&path.child("generation"), generation, detail));
    }
    errors.extend(validate_identity(new, old, &path));
    errors.extend(validate_free_parts(new, &path));
    errors.extend(validate_standard_finalizers(new, &path));
    errors
}

fn no_new_finalizers(new: &[String], old: &[String], path: &Path) -> Option<Error> {
    let old: BTreeSet<_> = old.iter().collect();
    let extra: BTreeSet<_> = new.iter().filter(|name| !old.contains(name)).collect();
    let shown: Vec<_> = extra.iter().map(|name| crate::go::quoted(name)).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        shown.join(", ")
    );
    (!extra.is_empty()).then(|| Error::forbidden(&path.child("finalizers"), detail))
}

fn validate_identity(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let texts = [
        ("name", &new.name, &old.name),
        ("namespace", &new.namespace, &old.namespace),
        ("uid", &new.uid, &old.uid),
    ];
    for (name, new, old) in texts {
        let new = new.as_deref().unwrap_or_default();
        if new != old.as_deref().unwrap_or_default() {
            errors.push(Error::invalid(&path.child(name), new, IMMUTABLE));
        }
    }
    errors.extend(immutable(
        &new.creation_timestamp,
        &old.creation_timestamp,
        &path.child("creationTimestamp"),
    ));
    errors.extend(immutable(
        &new.deletion_timestamp,
        &old.deletion_timestamp,
        &path.child("deletionTimestamp"),
    ));
    errors.extend(immutable(
        &new.deletion_grace_period_seconds,
        &old.deletion_grace_period_seconds,
        &path.child("deletionGracePeriodSeconds"),
    ));
    errors
}

/// The path of an error about the object as a whole, as upstream prints a path without a name.
pub fn whole_object() -> Path {
    Path::new("[]")
}

/// `field is immutable`, if the two differ in meaning. The new value is shown as JSON, so never
/// for payload.
pub fn immutable<T: Serialize + JsonSchema>(new: &T, old: &T, path: &Path) -> Option<Error> {
    (!equal(new, old)).then(|| invalid_json(path, new, IMMUTABLE))
}

/// A write of the status changes nothing of the spec, any other write nothing of the status.
pub fn separate_status<Spec: Clone, Status: Clone>(
    sub: Option<SubresourceName>,
    (spec, old_spec): (&mut Spec, &Spec),
    (status, old_status): (&mut Status, &Status),
) {
    match sub {
        Some(SubresourceName::Status) => spec.clone_from(old_spec),
        _ => status.clone_from(old_status),
    }
}

/// [`separate_status`] for kinds that track generations: a changed spec is the [`next_generation`].
pub fn separate_status_and_generation<Spec, Status: Clone>(
    sub: Option<SubresourceName>,
    (meta, old_meta): (&mut ObjectMeta, &ObjectMeta),
    (spec, old_spec): (&mut Spec, &Spec),
    status: (&mut Status, &Status),
) where
    Spec: Clone + Serialize + JsonSchema,
{
    separate_status(sub, (&mut *spec, old_spec), status);
    next_generation(meta, old_meta, !equal(spec, old_spec));
}

/// For kinds that track generations: a new object is generation 1.
pub fn first_generation(meta: &mut ObjectMeta) {
    meta.generation = Some(1);
}

/// For kinds that track generations: the old generation, one more if the spec changed.
pub fn next_generation(meta: &mut ObjectMeta, old: &ObjectMeta, changed: bool) {
    let before = old.generation.unwrap_or_default();
    meta.generation = Some(before + i64::from(changed)).filter(|generation| *generation > 0);
}

#[cfg(test)]
mod tests;
