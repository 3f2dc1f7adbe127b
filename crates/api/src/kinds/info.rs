//! What a kind says of itself without an object: the data of its declaration.

use k8s_openapi::ListableResource;

use super::merge::Rules;
use super::roles::Grant;
use crate::names::NameRule;
use crate::protobuf::message::Message;
use crate::subresource::SubresourceName;
use crate::table::{Column, DEFAULT_COLUMNS};
use crate::well_known::api_group;

/// A path below an object that is served on its own: `pods/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Last segment of the path.
    pub name: SubresourceName,
    /// Group of the kind that is read and written there, empty for core.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its kind: the parent's own for `status`, `Scale`, `Binding`, …
    pub kind: &'static str,
    /// Verbs as discovery lists them.
    pub verbs: &'static [&'static str],
}

impl Subresource {
    /// `status`: the object itself, of which only the status is written.
    pub(super) const fn status(group: &'static str, kind: &'static str) -> Self {
        Self {
            name: SubresourceName::Status,
            group,
            version: "v1",
            kind,
            verbs: &["get", "patch", "update"],
        }
    }

    /// `scale`: the number of replicas. The kind implements [`super::Kind::scale`] and
    /// [`super::Kind::replicas_mut`].
    pub(super) const fn scale() -> Self {
        let (name, group) = (SubresourceName::Scale, api_group::AUTOSCALING);
        Self { name, group, version: "v1", kind: "Scale", verbs: &["get", "patch", "update"] }
    }
}

/// What becomes of the objects that a deleted one owns, where the deletion does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependents {
    /// The garbage collector deletes them afterwards.
    Deleted,
    /// They stay, without an owner.
    Orphaned,
    /// There are none: no deletion gives the object a finalizer for them.
    None,
}

/// How objects of a kind are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The default propagation.
    pub dependents: Dependents,
    /// Whether a DELETE that removes the object returns it, and not a Status.
    pub returns_object: bool,
    /// Whether a whole collection can be deleted by one request.
    pub by_collection: bool,
}

impl Deletion {
    /// What most kinds have.
    pub const DEFAULT: Self =
        Self { dependents: Dependents::Deleted, returns_object: false, by_collection: true };
}

/// What is known of a kind without an object of it: what discovery, routing, selectors, decoding,
/// tables, deletion and the default roles need.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// API group, empty for core.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// `Pod`.
    pub kind: &'static str,
    /// `PodList`.
    pub list_kind: &'static str,
    /// `pods`: the resource in URLs.
    pub plural: &'static str,
    /// `pod`.
    pub singular: &'static str,
    /// `po`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Paths below an object.
    pub subresources: &'static [Subresource],
    /// Verbs that no request has and that roles give on the kind's objects; discovery lists them, so
    /// that tools offer them.
    pub extra_verbs: &'static [&'static str],
    /// Whether `metadata.generation` counts changes of the spec.
    pub tracks_generation: bool,
    /// Whether a PUT to a name that does not exist creates it (upstream's `AllowCreateOnUpdate`).
    pub create_on_update: bool,
    /// Whether a PUT may leave out the resourceVersion (upstream's `AllowUnconditionalUpdate`).
    pub unconditional_update: bool,
    /// What object names look like.
    pub name_rule: NameRule,
    /// Labels that field selectors may use, beyond `metadata.name` and `metadata.namespace`.
    pub field_labels: &'static [&'static str],
    /// The kind's message in protobuf bodies.
    pub message: &'static Message,
    /// How its lists and maps merge.
    pub rules: &'static Rules,
    /// The columns of its table; [`super::Kind::cells`] has a cell for each.
    pub columns: &'static [Column],
    /// What the default roles `view`, `edit` and `admin` may do with it.
    pub roles: &'static [Grant],
    /// How its objects are deleted.
    pub deletion: Deletion,
    /// Whether its objects are encrypted before the store writes them.
    pub sealed: bool,
}

impl KindInfo {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The subresource of this name, if the kind has it.
    pub fn subresource(&self, name: SubresourceName) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// The values most kinds share; each kind overrides what differs. By default no role may do
    /// anything with it.
    pub(super) const fn of<T: ListableResource>(
        singular: &'static str,
        message: &'static Message,
    ) -> Self {
        Self {
            group: T::GROUP,
            version: T::VERSION,
            kind: T::KIND,
            list_kind: T::LIST_KIND,
            plural: T::URL_PATH_SEGMENT,
            singular,
            short_names: &[],
            categories: &[],
            namespaced: true,
            subresources: &[],
            extra_verbs: &[],
            tracks_generation: false,
            create_on_update: false,
            unconditional_update: true,
            name_rule: crate::names::subdomain_name,
            field_labels: &[],
            message,
            rules: &Rules::NONE,
            columns: DEFAULT_COLUMNS,
            roles: &[],
            deletion: Deletion::DEFAULT,
            sealed: false,
        }
    }
}
