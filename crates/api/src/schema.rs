//! The shape of every served kind: what patches, server-side apply, strict field validation and
//! OpenAPI all need to know about a field.
//!
//! Made from the `schemars` schemas of the `k8s-openapi` types ([`definitions`]), with the list
//! merge rules that the kinds declare ([`rules`]) laid over them. Built once, on first
//! use, and never freed.

mod definitions;
pub mod fit;
pub mod read;
mod registry;
mod rules;
pub mod strict;

pub use crate::kinds::merge::{ListRule, ListType};
pub use definitions::{Definitions, Gvk, PREFIX, definitions};
use registry::{Definition, Node, NodeShape};

use crate::go;
use schemars::JsonSchema;
use serde_json::Value;
pub use strict::unknown_fields;

/// One place in an object and what may stand there.
#[derive(Clone, Copy)]
pub struct Schema(&'static Node);

/// What kind of value a [`Schema`] describes.
#[derive(Clone, Copy, Debug)]
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

/// The schema of a kind, its List kinds among them; `None` for a kind that is not known here.
pub fn of(api_version: &str, kind: &str) -> Option<Schema> {
    registry::root(api_version, kind).map(Schema)
}

/// The schema of an API struct, or of an optional one; `None` for other types, and for a struct that no kind
/// has in it.
pub fn of_type<T: JsonSchema>() -> Option<Schema> {
    let name = T::schema_name();
    // What schemars calls an `Option<T>`.
    let name = name.strip_prefix("Nullable_").unwrap_or(&name);
    registry::structure(name).map(Schema)
}

impl Schema {
    /// What may stand here.
    pub fn shape(self) -> Shape {
        match self.0.shape {
            NodeShape::Scalar(_) => Shape::Scalar,
            NodeShape::Struct(_) => Shape::Struct,
            NodeShape::Map(value) => Shape::Map(Self(value)),
            NodeShape::List(item, rule) => Shape::List(Self(item), rule),
            NodeShape::Any => Shape::Any,
        }
    }

    /// The schema of a member: a struct's field, or any key of a map.
    pub fn field(self, name: &str) -> Option<Self> {
        match self.0.shape {
            NodeShape::Struct(definition) => definition.field(name).map(Self),
            NodeShape::Map(value) => Some(Self(value)),
            _ => None,
        }
    }

    /// The fields of a struct, by name; nothing for other shapes.
    pub fn fields(self) -> impl Iterator<Item = (&'static str, Self)> {
        let fields = match self.0.shape {
            NodeShape::Struct(definition) => definition.fields(),
            _ => &[],
        };
        fields.iter().map(|(name, node)| (*name, Self(node)))
    }

    /// Server-side apply: the value has one owner as a whole (`x-kubernetes-map-type: atomic`,
    /// a list without a rule, anything without a schema).
    pub fn is_atomic(self) -> bool {
        match self.0.shape {
            NodeShape::List(_, rule) => rule.apply == ListType::Atomic,
            NodeShape::Any => true,
            _ => self.0.atomic,
        }
    }

    /// Whether the value says as little as none in this place: the zero of a field that is left out
    /// where it is zero.
    pub fn is_nothing(self, value: &Value) -> bool {
        self.0.omits_zero
            && match value {
                Value::Object(members) => members.is_empty(),
                Value::Array(items) => items.is_empty(),
                scalar => go::is_zero(scalar),
            }
    }

    /// Whether upstream's Go struct holds the field by value: it is there, if empty, in every such struct,
    /// so that no one ever adds it to one.
    pub(crate) fn is_held(self) -> bool {
        self.0.held
    }

    /// The value that a list's key field has where an item leaves it out: `TCP` for a port's
    /// `protocol`.
    pub fn key_default(self, key: &str) -> Option<&'static str> {
        match self.0.shape {
            NodeShape::Struct(definition) => rules::key_default(definition.name, key),
            _ => None,
        }
    }

    /// The type of a scalar.
    pub fn scalar(self) -> Option<fit::Scalar> {
        match self.0.shape {
            NodeShape::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// About how many bytes a struct takes once it is typed: its optional structs are part of it,
    /// present or not.
    pub(crate) fn typed_bytes(self) -> usize {
        match self.0.shape {
            NodeShape::Struct(definition) => definition.typed_bytes(),
            _ => 0,
        }
    }

    /// Whether a strategic merge patch replaces this member of a struct as a whole.
    pub fn replaces(self, member: &str) -> bool {
        self.definition_name().is_some_and(|definition| rules::is_replaced(definition, member))
    }

    /// The definition's name, such as `io.k8s.api.core.v1.Secret`, of a struct.
    pub fn definition_name(self) -> Option<&'static str> {
        match self.0.shape {
            NodeShape::Struct(Definition { name, .. }) => Some(name),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0.shape {
            NodeShape::Scalar(_) => "scalar",
            NodeShape::Struct(Definition { name, .. }) => name,
            NodeShape::Map(_) => "map",
            NodeShape::List(..) => "list",
            NodeShape::Any => "any",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(api_version: &str, kind: &str, path: &str) -> Schema {
        path.split('.').fold(of(api_version, kind).expect(kind), |schema, name| {
            let schema = match schema.shape() {
                Shape::List(item, _) => item,
                _ => schema,
            };
            schema.field(name).unwrap_or_else(|| panic!("{kind} has no {path}"))
        })
    }

    fn rule(kind: &str, path: &str) -> ListRule {
        match at("v1", kind, path).shape() {
            Shape::List(_, rule) => rule,
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn a_pods_lists_have_the_rules_that_kubernetes_documents() {
        let env = rule("Pod", "spec.containers.env");
        assert_eq!(env.apply, ListType::Map(&["name"]));
        assert_eq!(env.patch_merge_key, Some("name"));
        assert!(env.patch_merges && !env.patch_retains_keys);

        let ports = rule("Pod", "spec.containers.ports");
        assert_eq!(ports.apply, ListType::Map(&["containerPort", "protocol"]));
        assert_eq!(ports.patch_merge_key, Some("containerPort"));

        assert!(rule("Pod", "spec.volumes").patch_retains_keys);
        assert_eq!(rule("Pod", "spec.tolerations").apply, ListType::Atomic);
        assert!(!rule("Pod", "spec.tolerations").patch_merges);
        assert_eq!(rule("Pod", "metadata.finalizers").apply, ListType::Set);
        assert!(rule("Pod", "metadata.finalizers").patch_merges);
        assert_eq!(rule("Pod", "metadata.finalizers").patch_merge_key, None);
    }

    #[test]
    fn secret_data_is_a_map_of_scalars_with_an_owner_for_each_key() {
        let data = at("v1", "Secret", "data");
        assert!(
            matches!(data.shape(), Shape::Map(value) if matches!(value.shape(), Shape::Scalar))
        );
        assert!(!data.is_atomic());
        assert!(at("v1", "Pod", "spec.nodeSelector").is_atomic());
        assert!(at("v1", "Pod", "spec.containers.env.valueFrom.secretKeyRef").is_atomic());
    }

    #[test]
    fn quantities_times_and_int_or_strings_are_scalars_and_managed_fields_are_anything() {
        for path in [
            "spec.containers.resources.limits.cpu",
            "metadata.creationTimestamp",
            "spec.containers.livenessProbe.httpGet.port",
        ] {
            assert!(matches!(at("v1", "Pod", path).shape(), Shape::Scalar), "{path}");
        }
        assert!(matches!(at("v1", "Pod", "metadata.managedFields.fieldsV1").shape(), Shape::Any));
    }

    #[test]
    fn lists_and_kinds_of_every_served_group_are_known() {
        for (api_version, kind) in [
            ("v1", "SecretList"),
            ("v1", "Binding"),
            ("apps/v1", "DeploymentList"),
            ("coordination.k8s.io/v1", "Lease"),
            ("events.k8s.io/v1", "Event"),
            ("node.k8s.io/v1", "RuntimeClass"),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
            ("autoscaling/v1", "Scale"),
            ("authentication.k8s.io/v1", "TokenRequest"),
            ("authorization.k8s.io/v1", "SelfSubjectRulesReview"),
            ("certificates.k8s.io/v1", "CertificateSigningRequest"),
            ("v1", "Status"),
            ("v1", "DeleteOptions"),
        ] {
            let schema = of(api_version, kind).unwrap_or_else(|| panic!("{api_version} {kind}"));
            assert!(schema.field("kind").is_some(), "{kind}");
        }
        assert!(of("v1", "Secrets").is_none());
        let items = at("v1", "SecretList", "items.data");
        assert!(matches!(items.shape(), Shape::Map(_)));
    }
}
