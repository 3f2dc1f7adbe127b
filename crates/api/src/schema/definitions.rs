//! The OpenAPI definitions of every served kind and of all that they contain, as JSON.
//!
//! They come from the `schemars` schemas of the `k8s-openapi` types; every served kind is among them. Laid over them: the list and
//! map rules, which group, version and kind a definition is, and the List kinds, for which
//! `k8s-openapi` has one generic type and no schema.

use k8s_openapi::api::{
    authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling, core::v1 as core, policy::v1 as policy,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::{ListableResource, Resource};
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::rules;
use super::{ListRule, ListType};
use crate::kinds::{self, Kind, Visitor};

/// What a `$ref` to a definition begins with.
pub const PREFIX: &str = "#/definitions/";

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// The definitions, and which of them are kinds.
pub struct Definitions {
    /// Each by its name, `io.k8s.api.core.v1.Secret` and so on, with Kubernetes' extensions.
    pub schemas: Map<String, Value>,
    /// The names of those that are kinds of their own.
    pub kinds: Vec<(String, Gvk)>,
}

/// A kind as objects name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gvk {
    /// `v1` or `apps/v1`.
    pub api_version: &'static str,
    /// `Secret`.
    pub kind: &'static str,
}

/// Makes all definitions again: they are large, and those who need them keep what they make of them.
pub fn definitions() -> Definitions {
    let mut roots = Roots::new();
    roots.add_all();
    let Roots { mut generator, lists, kinds } = roots;
    let mut schemas = generator.take_definitions(false);
    for (name, schema) in &mut schemas {
        annotate(name, schema);
    }
    for list in lists {
        schemas.insert(list.name.clone(), list.schema());
    }
    for (name, gvk) in &kinds {
        let Some(schema) = schemas.get_mut(name) else { continue };
        let (group, version) = gvk.api_version.rsplit_once('/').unwrap_or(("", gvk.api_version));
        schema["x-kubernetes-group-version-kind"] =
            json!([{ "group": group, "kind": gvk.kind, "version": version }]);
    }
    Definitions { schemas, kinds }
}

struct Roots {
    generator: SchemaGenerator,
    lists: Vec<List>,
    kinds: Vec<(String, Gvk)>,
}

struct List {
    name: String,
    item: String,
    kind: &'static str,
}

impl Roots {
    fn new() -> Self {
        let settings = SchemaSettings::draft07().with(|settings| settings.transforms.clear());
        Self { generator: settings.into_generator(), lists: Vec::new(), kinds: Vec::new() }
    }

    fn add_all(&mut self) {
        kinds::for_each(self);
        // What requests carry and no list has, and services, which are not served.
        self.add::<core::Binding>();
        self.add_listed::<core::Service>();
        self.add::<autoscaling::Scale>();
        self.add::<policy::Eviction>();
        self.add::<authentication::TokenReview>();
        self.add::<authentication::TokenRequest>();
        self.add::<authentication::SelfSubjectReview>();
        self.add::<authorization::LocalSubjectAccessReview>();
        self.add::<authorization::SelfSubjectAccessReview>();
        self.add::<authorization::SelfSubjectRulesReview>();
        self.add::<authorization::SubjectAccessReview>();
        self.add::<meta::Status>();
        self.add::<meta::APIGroup>();
        self.add::<meta::APIGroupList>();
        self.add::<meta::APIResourceList>();
        self.add::<meta::APIVersions>();
        self.add_as::<meta::DeleteOptions>("v1", "DeleteOptions");
        self.generator.subschema_for::<meta::ListMeta>();
        self.generator.subschema_for::<meta::Patch>();
        self.generator.subschema_for::<k8s_openapi::apimachinery::pkg::version::Info>();
    }

    fn add<T: Resource + JsonSchema>(&mut self) {
        self.add_as::<T>(T::API_VERSION, T::KIND);
    }

    fn add_as<T: JsonSchema>(&mut self, api_version: &'static str, kind: &'static str) {
        self.generator.subschema_for::<T>();
        self.kinds.push((T::schema_name().into_owned(), Gvk { api_version, kind }));
    }

    fn add_listed<T: ListableResource + JsonSchema>(&mut self) {
        self.add::<T>();
        let item = T::schema_name().into_owned();
        let package = item.strip_suffix(T::KIND).expect("a definition's name ends in its kind");
        let name = format!("{package}{}", T::LIST_KIND);
        let gvk = Gvk { api_version: T::API_VERSION, kind: T::LIST_KIND };
        self.kinds.push((name.clone(), gvk));
        self.lists.push(List { name, item, kind: T::LIST_KIND });
    }
}

impl Visitor for Roots {
    fn visit<K: Kind>(&mut self) {
        self.add_listed::<K>();
    }
}

impl List {
    fn item_kind(&self) -> &str {
        self.item.rsplit('.').next().unwrap_or(&self.item)
    }

    fn schema(&self) -> Value {
        json!({
            "description": format!("{} is a list of {}.", self.kind, self.item_kind()),
            "type": "object",
            "properties": {
                "apiVersion": { "description": API_VERSION, "type": "string" },
                "items": {
                    "description": "The objects of the list.",
                    "type": "array",
                    "items": { "$ref": format!("{PREFIX}{}", self.item) },
                },
                "kind": { "description": KIND, "type": "string" },
                "metadata": {
                    "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
                    "$ref": format!("{PREFIX}{LIST_META}"),
                },
            },
            "required": ["items"],
        })
    }
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// Lays the rules over one definition.
fn annotate(name: &str, schema: &mut Value) {
    if rules::is_atomic_struct(name) {
        schema["x-kubernetes-map-type"] = json!("atomic");
    }
    // `k8s-openapi` calls metadata required because its Rust field is not an Option; upstream does not.
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            schema.as_object_mut().expect("it has members").remove("required");
        }
    }
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (field, property) in properties {
        if property["type"] == "array" {
            annotate_list(property, rules::list(name, field));
        }
        if rules::is_atomic_map(name, field) {
            property["x-kubernetes-map-type"] = json!("atomic");
        }
        if rules::retains_keys(name, field) {
            property["x-kubernetes-patch-strategy"] = json!("retainKeys");
        }
        if rules::is_replaced(name, field) {
            property["x-kubernetes-patch-strategy"] = json!("replace");
        }
    }
}

fn annotate_list(property: &mut Value, rule: ListRule) {
    property["x-kubernetes-list-type"] = match rule.apply {
        ListType::Atomic => json!("atomic"),
        ListType::Set => json!("set"),
        ListType::Map(keys) => {
            property["x-kubernetes-list-map-keys"] = json!(keys);
            json!("map")
        }
    };
    if let Some(key) = rule.patch_merge_key {
        property["x-kubernetes-patch-merge-key"] = json!(key);
    }
    let strategies = [("merge", rule.patch_merges), ("retainKeys", rule.patch_retains_keys)];
    let strategies: Vec<_> =
        strategies.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    if !strategies.is_empty() {
        property["x-kubernetes-patch-strategy"] = json!(strategies.join(","));
    }
}
