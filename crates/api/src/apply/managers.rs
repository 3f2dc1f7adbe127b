//! The list in `metadata.managedFields`: managers and what each owns.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde_json::{Map, Value};

use super::error::Conflict;
use super::set::{FieldSet, FieldsError};
use super::{FIELDS_NESTING_MAX, Writer};
use crate::document::nesting;

/// More updaters than these are merged into one, the oldest first, so that the list stays short.
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";
const FIELDS_TYPE: &str = "FieldsV1";

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells two managers apart. An applier has no version: it stays the same one when it applies
/// another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) manager: String,
    pub(super) operation: Operation,
    /// Of updaters only.
    pub(super) api_version: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Id {
    pub(super) fn updater(writer: &Writer<'_>) -> Self {
        let api_version = Some(writer.api_version.to_owned());
        Self { api_version, ..Self::of(writer, Operation::Update) }
    }

    pub(super) fn applier(writer: &Writer<'_>) -> Self {
        Self::of(writer, Operation::Apply)
    }

    fn of(writer: &Writer<'_>, operation: Operation) -> Self {
        let manager = if writer.manager.is_empty() { "unknown" } else { writer.manager };
        Self {
            manager: manager.to_owned(),
            operation,
            api_version: None,
            subresource: writer.subresource.map(String::from),
        }
    }
}

#[derive(Clone, Debug)]
struct Owned {
    set: FieldSet,
    api_version: String,
    time: Option<Timestamp>,
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(BTreeMap<Id, Owned>);

/// Why managedFields cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ManagersError {
    /// An entry that is not an object, or whose members have wrong types.
    #[error("entry {0} is malformed")]
    Malformed(usize),
    /// Fields within fields, more of them than [`FIELDS_NESTING_MAX`].
    #[error("exceeded max depth")]
    TooDeep,
    /// Another operation.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No version.
    #[error("apiVersion must not be empty")]
    NoVersion,
    /// No fieldsType.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// Another fieldsType.
    #[error("invalid fieldsType in managed fields entry {0}")]
    FieldsType(usize),
    /// Invalid fields.
    #[error("error decoding set in managed fields entry {at}: {source}")]
    Fields {
        /// Which entry.
        at: usize,
        /// Why.
        source: FieldsError,
    },
}

/// The list of an object, if it has one that is not null.
pub(super) fn field(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields").filter(|entries| !entries.is_null())
}

/// Whether a client means to end the tracking: `[]` or `[{}]`.
pub(super) fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Whether an entry's fields are nested more deeply than [`FIELDS_NESTING_MAX`].
pub(super) fn is_deep(entries: &Value) -> bool {
    // The list and its entries are two levels more.
    nesting(entries) > FIELDS_NESTING_MAX + 2
}

impl Managers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn decode(entries: &Value) -> Result<Self, ManagersError> {
        if is_deep(entries) {
            return Err(ManagersError::TooDeep);
        }
        let entries = entries.as_array().ok_or(ManagersError::Malformed(0))?;
        let mut managers = Self::default();
        for (at, entry) in entries.iter().enumerate() {
            let (id, owned) = decode_entry(at, entry)?;
            managers.0.insert(id, owned);
        }
        Ok(managers)
    }

    /// The least length of the list as JSON, in bytes.
    pub(super) fn encoded_len(&self) -> usize {
        self.0.values().map(|owned| owned.set.encoded_len()).sum()
    }

    /// In upstream's order: appliers first, then by time.
    pub(super) fn entries(&self) -> Vec<ManagedFieldsEntry> {
        let mut all: Vec<(&Id, &Owned)> = self.0.iter().collect();
        all.sort_by_key(|(id, owned)| {
            let seconds = owned.time.map_or(0, Timestamp::as_second);
            (id.operation, seconds, &id.manager, &owned.api_version, &id.subresource)
        });
        all.into_iter().map(|(id, owned)| entry(id, owned)).collect()
    }

    /// Replaces the list in an object.
    pub(super) fn write(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else { return };
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        let Some(metadata) = metadata.as_object_mut() else { return };
        if self.is_empty() {
            metadata.remove("managedFields");
        } else {
            let entries = self.entries().into_iter().map(entry_value).collect();
            metadata.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }

    /// The sets that paths of this version are about. Sets of another version stay as they are.
    pub(super) fn sets_of(&mut self, api_version: &str) -> impl Iterator<Item = &mut FieldSet> {
        self.0
            .values_mut()
            .filter(move |owned| owned.api_version == api_version)
            .map(|owned| &mut owned.set)
    }

    pub(super) fn extend(&mut self, id: Id, set: FieldSet, now: Timestamp) {
        let api_version = id.api_version.clone().unwrap_or_default();
        let owned = self.0.entry(id).or_insert_with(|| Owned {
            set: FieldSet::default(),
            api_version,
            time: None,
        });
        owned.set.unite(set);
        owned.time = Some(now);
    }

    /// Sets what an applier owns; returns what it owned before, in the same version.
    pub(super) fn replace(
        &mut self,
        id: &Id,
        set: FieldSet,
        api_version: &str,
    ) -> Option<FieldSet> {
        let time = self.0.get(id).and_then(|owned| owned.time);
        let owned = Owned { set, api_version: api_version.to_owned(), time };
        let old = self.0.insert(id.clone(), owned)?;
        (old.api_version == api_version).then_some(old.set)
    }

    pub(super) fn update_set(&mut self, id: &Id, change: impl FnOnce(FieldSet) -> FieldSet) {
        if let Some(owned) = self.0.get_mut(id) {
            owned.set = change(std::mem::take(&mut owned.set));
        }
    }

    pub(super) fn union(&self) -> FieldSet {
        let mut all = FieldSet::default();
        for owned in self.0.values() {
            all.unite(owned.set.clone());
        }
        all
    }

    /// What others own of the fields that would change.
    pub(super) fn conflicts(
        &self,
        id: &Id,
        changed: &FieldSet,
        api_version: &str,
    ) -> Vec<Conflict> {
        self.0
            .iter()
            .filter(|(other, owned)| *other != id && owned.api_version == api_version)
            .flat_map(|(other, owned)| {
                let manager = shown(other);
                let paths = owned.set.intersection(changed).paths();
                paths.into_iter().map(move |path| Conflict::new(manager.clone(), path))
            })
            .collect()
    }

    /// Takes from all others what changed and what no longer exists.
    pub(super) fn take_over(
        &mut self,
        id: &Id,
        changed: &FieldSet,
        removed: &FieldSet,
        api_version: &str,
    ) {
        for (other, owned) in &mut self.0 {
            if other != id && owned.api_version == api_version {
                owned.set.subtract(changed);
                owned.set.subtract(removed);
            }
        }
    }

    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|_, owned| !owned.set.is_empty());
    }

    /// An apply that changes nothing leaves its manager's time alone.
    pub(super) fn stamp_applier(&mut self, writer: &Writer<'_>, changed: bool) {
        if let Some(owned) = self.0.get_mut(&Id::applier(writer))
            && (changed || owned.time.is_none())
        {
            owned.time = Some(writer.now);
        }
    }

    pub(super) fn cap_updaters(&mut self) {
        let mut updaters: Vec<(i64, Id)> = self
            .0
            .iter()
            .filter(|(id, _)| id.operation == Operation::Update)
            .map(|(id, owned)| (owned.time.map_or(0, Timestamp::as_second), id.clone()))
            .collect();
        let mut surplus = updaters.len().saturating_sub(UPDATERS_MAX);
        updaters.sort();
        // The first of a version only opens the bucket: merging it alone would save nothing.
        let mut first_of: BTreeMap<String, Id> = BTreeMap::new();
        for (_, id) in updaters {
            if surplus == 0 {
                break;
            }
            let version = id.api_version.clone().unwrap_or_default();
            let Some(first) = first_of.get(&version).cloned() else {
                first_of.insert(version, id);
                continue;
            };
            let bucket = Id {
                manager: ANCIENT.to_owned(),
                operation: Operation::Update,
                api_version: Some(version),
                subresource: None,
            };
            if first != bucket
                && let Some(owned) = self.0.remove(&first)
            {
                self.merge_into(bucket.clone(), owned);
                first_of.insert(bucket.api_version.clone().unwrap_or_default(), bucket.clone());
            }
            if let Some(owned) = self.0.remove(&id) {
                self.merge_into(bucket, owned);
            }
            surplus -= 1;
        }
    }

    fn merge_into(&mut self, bucket: Id, owned: Owned) {
        match self.0.get_mut(&bucket) {
            Some(into) => {
                into.set.unite(owned.set);
                into.time = into.time.max(owned.time);
            }
            None => {
                self.0.insert(bucket, owned);
            }
        }
    }
}

fn decode_entry(at: usize, entry: &Value) -> Result<(Id, Owned), ManagersError> {
    let entry = entry.as_object().ok_or(ManagersError::Malformed(at))?;
    let text = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(ManagersError::Malformed(at)),
    };
    let operation = match text("operation")? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(ManagersError::Operation),
    };
    let api_version = match text("apiVersion")? {
        "" => return Err(ManagersError::NoVersion),
        version => version.to_owned(),
    };
    match text("fieldsType")? {
        FIELDS_TYPE => {}
        "" => return Err(ManagersError::NoFieldsType(at)),
        _ => return Err(ManagersError::FieldsType(at)),
    }
    let time = match text("time")? {
        "" => None,
        time => Some(time.parse().map_err(|_| ManagersError::Malformed(at))?),
    };
    let set = match entry.get("fieldsV1") {
        None | Some(Value::Null) => FieldSet::default(),
        Some(fields) => {
            FieldSet::decode(fields).map_err(|source| ManagersError::Fields { at, source })?
        }
    };
    let subresource = Some(text("subresource")?).filter(|name| !name.is_empty());
    let id = Id {
        manager: text("manager")?.to_owned(),
        operation,
        api_version: (operation == Operation::Update).then(|| api_version.clone()),
        subresource: subresource.map(str::to_owned),
    };
    Ok((id, Owned { set, api_version, time }))
}

/// An entry as JSON, of which the fields are by far the most and are not copied.
fn entry_value(mut entry: ManagedFieldsEntry) -> Value {
    let fields = entry.fields_v1.take();
    let mut value = serde_json::to_value(entry).expect("an entry has string keys");
    if let (Value::Object(members), Some(FieldsV1(fields))) = (&mut value, fields) {
        members.insert("fieldsV1".to_owned(), fields);
    }
    value
}

fn entry(id: &Id, owned: &Owned) -> ManagedFieldsEntry {
    // Whole seconds, as every time in the API.
    let time = owned.time.and_then(|time| Timestamp::from_second(time.as_second()).ok());
    ManagedFieldsEntry {
        manager: Some(id.manager.clone()),
        operation: Some(id.operation.text().to_owned()),
        api_version: Some(owned.api_version.clone()),
        time: time.map(Time),
        fields_type: Some(FIELDS_TYPE.to_owned()),
        fields_v1: Some(FieldsV1(owned.set.encode())),
        subresource: id.subresource.clone(),
    }
}

/// `"kubectl" with subresource "status" using v1`.
fn shown(id: &Id) -> String {
    let mut text = format!("{:?}", id.manager);
    if let Some(subresource) = &id.subresource {
        text.push_str(&format!(" with subresource {subresource:?}"));
    }
    if let Some(version) = &id.api_version {
        text.push_str(&format!(" using {version}"));
    }
    text
}
