//! The schemas in the form in which requests walk them: one graph of static nodes.
//!
//! Built from [`super::definitions`] on first use and leaked: the set of kinds is fixed, and a
//! `&'static` makes [`super::Schema`] free to copy.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use serde_json::{Map, Value};

use super::definitions::{Definitions, PREFIX, definitions};
use super::fit::Scalar;
use super::{ListRule, rules};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

pub(super) struct Node {
    pub(super) shape: NodeShape,
    /// `x-kubernetes-map-type: atomic`.
    pub(super) atomic: bool,
    /// The field is written only where it is not the zero of its type: Go's `omitempty` on a
    /// field that is not a pointer.
    pub(super) omits_zero: bool,
    /// Go's struct holds the field by value: an empty one says as little as none.
    pub(super) held: bool,
}

/// Everything that is known by name.
struct Graph {
    /// By kind; each of its API versions.
    roots: HashMap<&'static str, Vec<(&'static str, &'static Node)>>,
    /// By the definition's name.
    structs: HashMap<&'static str, &'static Node>,
}

static GRAPH: LazyLock<Graph> = LazyLock::new(build);

#[derive(Clone, Copy)]
pub(super) enum NodeShape {
    Scalar(Scalar),
    Struct(&'static Definition),
    Map(&'static Node),
    List(&'static Node, ListRule),
    Any,
}

/// A named struct. Its fields are set after all definitions have an address, so that types may
/// contain themselves.
pub(super) struct Definition {
    pub(super) name: &'static str,
    fields: OnceLock<Vec<(&'static str, Node)>>,
    typed_bytes: OnceLock<usize>,
}

/// Structs within structs that are reckoned with: deeper ones are those that contain themselves, which
/// are boxed.
const TYPED_DEPTH_MAX: usize = 8;

impl Definition {
    /// Sorted by name.
    pub(super) fn fields(&self) -> &[(&'static str, Node)] {
        self.fields.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn field(&self, name: &str) -> Option<&Node> {
        let fields = self.fields();
        let at = fields.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(&fields[at].1)
    }

    /// About how many bytes it takes once it is typed.
    pub(super) fn typed_bytes(&self) -> usize {
        *self.typed_bytes.get_or_init(|| self.typed_bytes_to(TYPED_DEPTH_MAX))
    }

    fn typed_bytes_to(&self, depth: usize) -> usize {
        let bytes = |node: &Node| match node.shape {
            NodeShape::Struct(_) if depth == 0 => 8,
            NodeShape::Struct(inner) => inner.typed_bytes_to(depth - 1),
            NodeShape::Scalar(Scalar::Int(_) | Scalar::Bool | Scalar::Float) => 8,
            NodeShape::Scalar(_) | NodeShape::Map(_) | NodeShape::List(..) => 24,
            NodeShape::Any => 32,
        };
        self.fields().iter().map(|(_, node)| bytes(node)).sum()
    }
}

/// The node of a kind.
pub(super) fn root(api_version: &str, kind: &str) -> Option<&'static Node> {
    let kinds = GRAPH.roots.get(kind)?;
    kinds.iter().find(|(version, _)| *version == api_version).map(|(_, node)| *node)
}

/// The node of a struct that some kind has in it, by its definition's name.
pub(super) fn structure(name: &str) -> Option<&'static Node> {
    GRAPH.structs.get(name).copied()
}

/// A struct where nothing is said of its place.
fn standing_alone(definition: &'static Definition, atomic: bool) -> &'static Node {
    let shape = NodeShape::Struct(definition);
    Box::leak(Box::new(Node { shape, atomic, omits_zero: false, held: false }))
}

fn build() -> Graph {
    let Definitions { schemas, kinds } = definitions();
    let builder = Builder::new(&schemas);
    for (name, definition) in &builder.structs {
        let fields = builder.fields(name, &schemas[*name]);
        assert!(definition.fields.set(fields).is_ok(), "each definition is filled once");
    }
    let mut roots: HashMap<_, Vec<_>> = HashMap::new();
    for (name, gvk) in kinds {
        if let Some(definition) = builder.structs.get(name.as_str()) {
            let node = standing_alone(definition, false);
            roots.entry(gvk.kind).or_default().push((gvk.api_version, node));
        }
    }
    let structs = builder.structs.values().map(|definition| {
        let atomic = rules::is_atomic_struct(definition.name);
        (definition.name, standing_alone(definition, atomic))
    });
    Graph { structs: structs.collect(), roots }
}

struct Builder<'a> {
    json: &'a Map<String, Value>,
    structs: HashMap<&'a str, &'static Definition>,
}

impl<'a> Builder<'a> {
    fn new(json: &'a Map<String, Value>) -> Self {
        let structs = json
            .iter()
            .filter(|(_, schema)| schema.get("properties").is_some())
            .map(|(name, _)| {
                let leaked = Definition {
                    name: leak(name),
                    fields: OnceLock::new(),
                    typed_bytes: OnceLock::new(),
                };
                (name.as_str(), &*Box::leak(Box::new(leaked)))
            })
            .collect();
        Self { json, structs }
    }

    fn fields(&self, name: &str, schema: &Value) -> Vec<(&'static str, Node)> {
        let Some(Value::Object(properties)) = schema.get("properties") else { return Vec::new() };
        let is_object = ["apiVersion", "kind"].iter().all(|field| properties.contains_key(*field));
        let is_part = |field: &str| is_object && matches!(field, "metadata" | "spec" | "status");
        let mut fields: Vec<_> = properties
            .iter()
            .map(|(field, property)| {
                let mut node = self.node(property, rules::list(name, field));
                node.omits_zero = match node.shape {
                    NodeShape::Map(_) | NodeShape::List(..) => true,
                    NodeShape::Scalar(_) => rules::omits_zero(name, field),
                    NodeShape::Struct(_) | NodeShape::Any => false,
                };
                node.held = match node.shape {
                    NodeShape::Struct(_) => is_part(field) || rules::is_held(name, field),
                    NodeShape::List(..) => rules::is_held(name, field),
                    NodeShape::Map(_) | NodeShape::Scalar(_) | NodeShape::Any => false,
                };
                (leak(field), node)
            })
            .collect();
        fields.sort_unstable_by_key(|(name, _)| *name);
        fields
    }

    fn node(&self, schema: &Value, rule: ListRule) -> Node {
        let atomic = schema["x-kubernetes-map-type"] == "atomic";
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix(PREFIX)) {
            return self.reference(name, atomic);
        }
        let shape = if let Some(values) = schema.get("additionalProperties") {
            NodeShape::Map(self.inner(values))
        } else if let Some(items) = schema.get("items") {
            NodeShape::List(self.inner(items), rule)
        } else {
            scalar(schema).map_or(NodeShape::Any, NodeShape::Scalar)
        };
        Node { shape, atomic, omits_zero: false, held: false }
    }

    fn inner(&self, schema: &Value) -> &'static Node {
        Box::leak(Box::new(self.node(schema, ListRule::ATOMIC)))
    }

    fn reference(&self, name: &str, atomic: bool) -> Node {
        let target = &self.json[name];
        if let Some(definition) = self.structs.get(name) {
            let atomic = atomic || rules::is_atomic_struct(name);
            let shape = NodeShape::Struct(definition);
            return Node { shape, atomic, omits_zero: false, held: false };
        }
        // Quantity, Time, IntOrString and FieldsV1 are definitions without fields.
        let special = match name.rsplit('.').next() {
            Some("Time") => Scalar::Time,
            Some("MicroTime") => Scalar::MicroTime,
            _ if name == QUANTITY => Scalar::Quantity,
            _ => Scalar::Special,
        };
        let shape = scalar(target).map_or(NodeShape::Any, |_| NodeShape::Scalar(special));
        Node { shape, atomic, omits_zero: false, held: false }
    }
}

fn scalar(schema: &Value) -> Option<Scalar> {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return Some(Scalar::Special);
    }
    Some(match (schema["type"].as_str()?, schema["format"].as_str()) {
        ("string", Some("byte")) => Scalar::Bytes,
        ("string", _) => Scalar::String,
        ("integer", Some("int32")) => Scalar::Int(32),
        ("integer", _) => Scalar::Int(64),
        ("number", _) => Scalar::Float,
        ("boolean", _) => Scalar::Bool,
        _ => return None,
    })
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}
