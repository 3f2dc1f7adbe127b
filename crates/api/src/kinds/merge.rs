//! How lists and objects merge, field by field, as the Kubernetes API reference documents it with
//! `x-kubernetes-list-type`, `-list-map-keys`, `-map-type`, `-patch-strategy` and `-patch-merge-key`.
//!
//! A kind declares the rules of the types that came with it ([`Rules`]); what several kinds have is in
//! [`SHARED`]. Names are those of the definitions, without `io.k8s.` and `api.` or
//! `apimachinery.pkg.apis.` in front. What is not named is granular if an object, atomic if a list.

/// How two versions of a list are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRule {
    /// Server-side apply: `x-kubernetes-list-type` and `x-kubernetes-list-map-keys`.
    pub apply: ListType,
    /// Strategic merge: `x-kubernetes-patch-merge-key`, empty for lists of scalars.
    pub patch_merge_key: Option<&'static str>,
    /// Strategic merge: `x-kubernetes-patch-strategy` says `merge`.
    pub patch_merges: bool,
    /// Strategic merge: `x-kubernetes-patch-strategy` says `retainKeys`.
    pub patch_retains_keys: bool,
}

impl ListRule {
    /// A list that has one owner and is replaced as a whole.
    pub const ATOMIC: Self = Self {
        apply: ListType::Atomic,
        patch_merge_key: None,
        patch_merges: false,
        patch_retains_keys: false,
    };
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// One owner for the whole list.
    Atomic,
    /// Scalars, each once.
    Set,
    /// Objects distinguished by these fields.
    Map(&'static [&'static str]),
}

/// A definition and a field of it.
pub type Field = (&'static str, &'static str);

/// The rules of some definitions.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Every list that is not atomic.
    pub lists: &'static [(&'static str, &'static str, ListRule)],
    /// Objects with one owner, wherever they stand.
    pub atomic_structs: &'static [&'static str],
    /// Maps with one owner.
    pub atomic_maps: &'static [Field],
    /// Unions that are not list items: fields that a client-side apply leaves out go away.
    pub retain_keys: &'static [Field],
    /// Objects that a strategic merge patch replaces as a whole: `x-kubernetes-patch-strategy` says
    /// `replace`.
    pub replaced: &'static [Field],
    /// Key fields that a list's item may leave out, and what they are then.
    pub key_defaults: &'static [(&'static str, &'static str, &'static str)],
    /// Fields that hold a value, not a pointer to one, and that are left out where they are the zero
    /// of their type (`""`, `0`, `false`): who writes the zero means nothing by it. Empty lists and
    /// maps are that everywhere and need no naming. A field that is not here keeps its zero.
    pub omits_zero: &'static [(&'static str, &'static [&'static str])],
    /// Structs, and lists without `omitempty`, that upstream's Go struct holds by value: each such struct
    /// has one, if an empty one, so that who writes it adds nothing. The `metadata`, `spec` and `status` of
    /// objects are that everywhere and need no naming.
    pub held: &'static [(&'static str, &'static [&'static str])],
}

impl Rules {
    /// Of types with nothing but granular objects and atomic lists.
    pub const NONE: Self = Self {
        lists: &[],
        atomic_structs: &[],
        atomic_maps: &[],
        retain_keys: &[],
        replaced: &[],
        key_defaults: &[],
        omits_zero: &[],
        held: &[],
    };
}

/// Objects distinguished by `keys` under server-side apply and by `merge_key` in strategic merge.
pub const fn keyed(keys: &'static [&'static str], merge_key: &'static str) -> ListRule {
    ListRule {
        apply: ListType::Map(keys),
        patch_merge_key: Some(merge_key),
        patch_merges: true,
        patch_retains_keys: false,
    }
}

/// As [`keyed`], for lists of unions: an item's fields that a patch leaves out go away.
pub const fn keyed_union(keys: &'static [&'static str], merge_key: &'static str) -> ListRule {
    ListRule { patch_retains_keys: true, ..keyed(keys, merge_key) }
}

/// Keys for server-side apply only; strategic merge replaces the list.
pub const fn apply_keyed(keys: &'static [&'static str]) -> ListRule {
    ListRule { apply: ListType::Map(keys), ..ATOMIC }
}

const ATOMIC: ListRule = ListRule::ATOMIC;
/// Scalars, each once.
pub const SET: ListRule = ListRule { apply: ListType::Set, ..ATOMIC };
/// The same, and a strategic merge adds to it.
pub const MERGED_SET: ListRule = ListRule { patch_merges: true, ..SET };
/// Objects distinguished by their type.
pub const CONDITIONS: ListRule = keyed(&["type"], "type");

/// What several kinds have: metadata, references, selectors. And services, which are described, so
/// that they can be distinguished from kinds that nothing knows, but not served.
pub static SHARED: Rules = Rules {
    lists: &[
        ("core.v1.ServiceSpec", "ports", keyed(&["port", "protocol"], "port")),
        ("core.v1.ServiceStatus", "conditions", CONDITIONS),
        ("meta.v1.ObjectMeta", "finalizers", MERGED_SET),
        ("meta.v1.ObjectMeta", "ownerReferences", keyed(&["uid"], "uid")),
    ],
    atomic_structs: &[
        "core.v1.LocalObjectReference",
        "core.v1.NodeSelector",
        "core.v1.NodeSelectorTerm",
        "core.v1.ObjectReference",
        "core.v1.TypedLocalObjectReference",
        "meta.v1.LabelSelector",
        "meta.v1.OwnerReference",
    ],
    atomic_maps: &[("core.v1.ServiceSpec", "selector")],
    retain_keys: &[],
    replaced: &[],
    key_defaults: &[("core.v1.ServicePort", "protocol", "TCP")],
    omits_zero: &[
        ("core.v1.LocalObjectReference", &["name"]),
        ("core.v1.ObjectReference", REFERENCE),
        ("core.v1.Toleration", &["effect", "key", "operator", "value"]),
        (
            "meta.v1.ObjectMeta",
            &[
                "generateName",
                "generation",
                "name",
                "namespace",
                "resourceVersion",
                "selfLink",
                "uid",
            ],
        ),
    ],
    held: &[
        ("core.v1.Binding", &["target"]),
        ("core.v1.PersistentVolumeClaimSpec", &["resources"]),
        ("core.v1.PersistentVolumeClaimTemplate", &["metadata", "spec"]),
        ("core.v1.ServiceStatus", &["loadBalancer"]),
    ],
};

const REFERENCE: &[&str] =
    &["apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"];
