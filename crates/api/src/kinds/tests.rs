//! What holds for every kind.

use std::collections::BTreeSet;

use k8s_openapi::Resource;
use serde_json::{Value, json};

use super::{ALL, Kind, Visitor, for_each};
use crate::apply::FIELDS_NESTING_MAX;
use crate::document::NESTING_MAX;
use crate::schema::{self, Schema, Shape};
use crate::subresource::SubresourceName;

mod rows;

fn empty<K: Kind>() -> K {
    serde_json::from_str("{\"metadata\":{}}").expect("all other fields may be left out")
}

#[test]
fn no_kind_is_listed_twice() {
    let all: Vec<_> = ALL.iter().map(|info| info.api_version() + "/" + info.plural).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn the_singular_of_a_kind_is_its_name_in_lower_case() {
    for info in ALL {
        assert_eq!(info.singular, info.kind.to_lowercase());
        assert_eq!(info.list_kind, format!("{}List", info.kind));
    }
}

/// Runs a check on the empty object of every kind.
macro_rules! on_every_kind {
    (|$object:ident: $kind:ident| $check:block) => {{
        struct Check;
        impl Visitor for Check {
            fn visit<$kind: Kind>(&mut self) {
                let mut $object: $kind = empty();
                let _ = &mut $object;
                $check
            }
        }
        for_each(&mut Check);
    }};
}

#[test]
fn an_empty_object_has_all_its_field_labels_and_does_not_panic() {
    on_every_kind!(|object: K| {
        object.set_defaults();
        object.prepare_for_create();
        assert!(!object.validate().is_empty());
        let old: K = empty();
        let subs = K::INFO.subresources.iter().map(|sub| Some(sub.name));
        for sub in std::iter::once(None).chain(subs) {
            object.prepare_for_update(&old, sub);
            object.validate_update(&old, sub);
        }
        object.warnings();
        object.update_warnings(&old);
        let labels: Vec<_> = object.fields().iter().map(|(label, _)| *label).collect();
        for label in K::INFO.field_labels {
            assert_eq!(labels.iter().filter(|it| *it == label).count(), 1, "{label}");
        }
    });
}

#[test]
fn a_row_has_a_cell_for_each_column() {
    on_every_kind!(|object: K| {
        let cells = object.cells(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells.len(), K::INFO.columns.len(), "{}", K::INFO.kind);
    });
}

#[test]
fn a_kind_has_a_scale_where_it_has_the_subresource() {
    on_every_kind!(|object: K| {
        let is_served = K::INFO.subresource(SubresourceName::Scale).is_some();
        assert_eq!(object.scale().is_some(), is_served, "{}", K::INFO.kind);
        assert_eq!(object.replicas_mut().is_some(), is_served, "{}", K::INFO.kind);
        if let Some(replicas) = object.replicas_mut() {
            *replicas = Some(7);
            assert_eq!(object.scale().expect("checked above").desired, Some(7));
        }
    });
}

#[test]
fn a_role_is_granted_nothing_on_a_subresource_that_no_kubernetes_has() {
    // Upstream's roles name these, and not every server has them.
    let named_otherwise = ["pods/proxy", "deployments/rollback"];
    for info in ALL {
        for below in info.roles.iter().flat_map(|grant| grant.of).filter(|of| !of.is_empty()) {
            let name = below.strip_prefix('/').expect("a subresource begins with a slash");
            let known = SubresourceName::parse(name)
                .is_some_and(|name| info.subresource(name).is_some())
                || named_otherwise.contains(&format!("{}{below}", info.plural).as_str());
            assert!(known, "{}{below}", info.plural);
        }
    }
}

/// Levels that clients read at least: what .NET's decoder does by default. Rust's reads 128.
const CLIENT_NESTING_MAX: usize = 64;
/// Levels around an object in a Table that includes it: the table, its rows, the row.
const ENVELOPE_NESTING: usize = 3;
/// Levels around the fields of a manager: the object, its metadata, the list, the entry.
const ABOVE_FIELDS_NESTING: usize = 4;
/// Levels of the fields of a manager of a kind, at the most.
const USUAL_FIELDS_NESTING: usize = 20;

/// The levels of what a schema describes.
fn levels(schema: Schema, above: usize) -> usize {
    assert!(above < CLIENT_NESTING_MAX, "{schema:?} may hold itself");
    match schema.shape() {
        Shape::Struct => {
            let fields = schema.fields().map(|(_, field)| levels(field, above + 1));
            1 + fields.max().unwrap_or(0)
        }
        Shape::Map(item) | Shape::List(item, _) => 1 + levels(item, above + 1),
        Shape::Scalar => 0,
        Shape::Any => USUAL_FIELDS_NESTING,
    }
}

/// What is stored is read again by the server, and in lists, tables and events of watches by clients.
#[test]
fn objects_are_nested_as_deeply_as_clients_read_and_no_kind_needs_as_much() {
    const { assert!(NESTING_MAX + ENVELOPE_NESTING < CLIENT_NESTING_MAX) };
    const { assert!(ABOVE_FIELDS_NESTING + FIELDS_NESTING_MAX <= NESTING_MAX) };
    on_every_kind!(|object: K| {
        let schema = schema::of(K::API_VERSION, <K as Resource>::KIND).expect("all are registered");
        let levels = levels(schema, 0);
        assert!(levels < NESTING_MAX, "{}: {levels}", K::INFO.kind);
    });
}

/// An object that runs this image, for each kind that runs any.
fn running<K: Kind>(image: &str) -> K {
    let spec = json!({ "containers": [{ "name": "c", "image": image }] });
    let template = json!({ "spec": spec });
    let mut object = json!({ "metadata": {}, "spec": spec, "template": template });
    object["spec"]["template"] = template;
    serde_json::from_value(object).expect("other kinds' fields are ignored")
}

/// What is not written is not judged. The subresource of a kind that writes what pods run must say so.
#[test]
fn a_subresource_that_leaves_the_spec_writes_no_image() {
    on_every_kind!(|object: K| {
        let is_pod = (K::INFO.group, K::INFO.kind) == ("", "Pod");
        if object.pod_template().is_some() || is_pod {
            let runs = |object: &K| -> Value {
                let object = serde_json::to_value(object).expect("objects can be written");
                json!([object["spec"], object["template"]])
            };
            let old: K = running("old");
            let written = |sub: Option<SubresourceName>| {
                let mut new: K = running("new");
                new.prepare_for_update(&old, sub);
                runs(&new) != runs(&old)
            };
            assert!(written(None), "{}", K::INFO.kind);
            for sub in K::INFO.subresources.iter().filter(|sub| sub.kind == K::INFO.kind) {
                let writes = sub.verbs.iter().any(|verb| matches!(*verb, "update" | "patch"));
                let may_write = !writes || sub.name.writes_spec();
                assert!(may_write || !written(Some(sub.name)), "{}/{}", K::INFO.plural, sub.name);
            }
        }
    });
}

/// Schemas refer to themselves nowhere that a pod could be.
const DEPTH_MAX: usize = 12;

fn holds_a_pod_spec(schema: Schema, depth: usize) -> bool {
    if schema.definition_name() == Some("io.k8s.api.core.v1.PodSpec") {
        return true;
    }
    depth < DEPTH_MAX
        && match schema.shape() {
            Shape::Struct => schema.fields().any(|(_, field)| holds_a_pod_spec(field, depth + 1)),
            Shape::Map(item) | Shape::List(item, _) => holds_a_pod_spec(item, depth + 1),
            Shape::Scalar | Shape::Any => false,
        }
}

/// What is hidden from admission is not judged: whose secrets a pod may have, what it may ask of its
/// node.
#[test]
fn a_kind_with_a_pod_in_its_schema_shows_a_template() {
    on_every_kind!(|object: K| {
        let schema = schema::of(K::API_VERSION, <K as Resource>::KIND).expect("all are registered");
        let has_pod = holds_a_pod_spec(schema, 0);
        let is_pod = (K::INFO.group, K::INFO.kind) == ("", "Pod");
        assert_eq!(object.pod_template().is_some(), has_pod && !is_pod, "{}", K::INFO.kind);
    });
}
