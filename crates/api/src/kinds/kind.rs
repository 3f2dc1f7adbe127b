//! What every kind implements: upstream's strategy for it, and what the server asks of an object.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ListableResource, Metadata};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::info::KindInfo;
use crate::field::ErrorList;
use crate::subresource::SubresourceName;
use crate::table::{self, RowCondition};

/// The template of an object whose kind has one and that leaves it out.
pub(crate) static EMPTY_TEMPLATE: PodTemplateSpec = PodTemplateSpec { metadata: None, spec: None };

/// The replicas of an object: what its `scale` subresource shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// How many there shall be.
    pub desired: Option<i32>,
    /// How many there are.
    pub current: i32,
    /// Which pods they are, in the syntax of list requests.
    pub selector: Option<String>,
}

/// An object type that is served.
///
/// All of it is pure. `sub` is `None` for the object itself and the subresource otherwise.
/// What has no default here must not be forgotten; each has a comment that says what would happen.
pub trait Kind:
    ListableResource
    + Metadata<Ty = ObjectMeta>
    + JsonSchema
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// What is known of the kind without an object.
    const INFO: &'static KindInfo;

    /// The template that pods are made from, [`EMPTY_TEMPLATE`] where a kind that has one leaves it
    /// out; `None` for every object of a kind that has none. Admission judges by it which secrets and
    /// host paths the pods may have: a kind that hid its template would give them away.
    fn pod_template(&self) -> Option<&PodTemplateSpec>;

    /// Fills in what the version's defaulting fills in. Idempotent; called on every decoded body,
    /// on what a patch made, and on nothing read from the store.
    fn set_defaults(&mut self) {}

    /// Takes away what a client may not set at creation and sets what every new object has.
    fn prepare_for_create(&mut self) {}

    /// Carries over from `old` what is not written here: the status for an update of the object,
    /// everything else for an update of its status. Counts up the generation.
    fn prepare_for_update(&mut self, old: &Self, sub: Option<SubresourceName>) {
        let _ = (old, sub);
    }

    /// Everything wrong with a new object, metadata included.
    fn validate(&self) -> ErrorList;

    /// Everything wrong with `self` as the successor of `old`.
    fn validate_update(&self, old: &Self, sub: Option<SubresourceName>) -> ErrorList;

    /// The values of [`KindInfo::field_labels`], in any order; an absent field is `""`.
    fn fields(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// `Warning` headers of a creation that succeeds.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// `Warning` headers of an update that succeeds. What was there before and stays is not warned of
    /// again where generations tell.
    fn update_warnings(&self, old: &Self) -> Vec<String> {
        let generation = |object: &Self| object.metadata().generation;
        if Self::INFO.tracks_generation && generation(self) == generation(old) {
            return Vec::new();
        }
        self.warnings()
    }

    /// The object's row: one cell for each of [`KindInfo::columns`].
    fn cells(&self, _now: jiff::Timestamp) -> Vec<Value> {
        table::default_cells(self.metadata())
    }

    /// What is special about the whole row.
    fn row_condition(&self) -> Option<RowCondition> {
        None
    }

    /// The replicas of a kind with a `scale` subresource.
    fn scale(&self) -> Option<Scale> {
        None
    }

    /// Where the number of replicas is set, for a kind with a `scale` subresource.
    fn replicas_mut(&mut self) -> Option<&mut Option<i32>> {
        None
    }

    /// How many seconds an object that is deleted is given to end by itself, `asked` by the client or
    /// by default; `None` for kinds that end immediately.
    fn grace_seconds(&self, asked: Option<i64>) -> Option<i64> {
        let _ = asked;
        None
    }

    /// Whether a deletion waits for something that is not a finalizer of the metadata.
    fn holds_deletion(&self) -> bool {
        false
    }

    /// What is written, in addition to the time, on a deleted object that something holds.
    fn mark_deleted(&mut self) {
        self.metadata_mut().deletion_grace_period_seconds = Some(0);
    }
}

/// Something that is done with every kind: see [`super::for_each`].
pub trait Visitor {
    /// Does it with one.
    fn visit<K: Kind>(&mut self);
}
