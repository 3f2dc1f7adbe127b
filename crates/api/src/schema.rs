//! The shape of every served kind: what patches, server-side apply, strict field validation and
//! OpenAPI all need to know about a field.
//!
//! Made from the `schemars` schemas of the `k8s-openapi` types, with the list merge rules that
//! Kubernetes documents per field laid over them.

/// One place in an object and what may stand there.
#[derive(Clone, Copy)]
pub struct Schema(&'static Node);

/// What kind of value a [`Schema`] describes.
#[derive(Clone, Copy)]
pub enum Shape {
    /// A string, number, boolean, Quantity, Time or IntOrString.
    Scalar,
    /// An object with known fields: see [`Schema::field`].
    Struct,
    /// An object with arbitrary keys and values of one schema.
    Map(Schema),
    /// A list; see [`ListRule`].
    List(Schema, ListRule),
    /// Anything (RawExtension, FieldsV1): kept as it is, atomic for apply.
    Any,
}

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

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// One owner for the whole list.
    Atomic,
    /// Scalars, each once.
    Set,
    /// Objects told apart by these fields.
    Map(&'static [&'static str]),
}

struct Node;
