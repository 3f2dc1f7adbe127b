//! The version 3 documents: one for each group version, each with the paths below it and the
//! definitions that they reach, translated from version 2.

use std::collections::{BTreeMap, BTreeSet};

use coffer_api::schema::PREFIX as V2_PREFIX;
use serde_json::{Map, Value, json};

const V3_PREFIX: &str = "#/components/schemas/";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// Each document by its path below `/openapi/v3/`.
pub(super) fn documents(v2: &Value) -> BTreeMap<String, Value> {
    let mut groups: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (path, item) in v2["paths"].as_object().into_iter().flatten() {
        if let Some(group_version) = group_version(path) {
            groups.entry(group_version).or_default().insert(path.clone(), path_item(item));
        }
    }
    groups
        .into_iter()
        .map(|(group_version, paths)| {
            let paths = Value::Object(paths);
            let schemas = reachable(&paths, &group_version, &v2["definitions"]);
            let document = json!({
                "openapi": "3.0.0",
                "info": v2["info"],
                "paths": paths,
                "components": { "schemas": schemas },
            });
            (group_version, document)
        })
        .collect()
}

/// `apis/apps/v1` of `/apis/apps/v1/deployments`.
fn group_version(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api", version, ..] => Some(format!("api/{version}")),
        ["apis", group, version, ..] => Some(format!("apis/{group}/{version}")),
        _ => None,
    }
}

/// The definitions that the paths name, those of the group version itself, and all within them.
fn reachable(paths: &Value, group_version: &str, definitions: &Value) -> Map<String, Value> {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    references(paths, &mut wanted);
    for (name, definition) in definitions.as_object().into_iter().flatten() {
        if is_of(definition, group_version) {
            wanted.insert(name.clone());
        }
    }
    let mut schemas = Map::new();
    while let Some(name) = wanted.pop_first() {
        if schemas.contains_key(&name) {
            continue;
        }
        let schema = component(&name, &definitions[&name]);
        references(&schema, &mut wanted);
        schemas.insert(name, schema);
    }
    schemas
}

fn is_of(definition: &Value, group_version: &str) -> bool {
    let gvks = definition["x-kubernetes-group-version-kind"].as_array();
    gvks.into_iter().flatten().any(|gvk| {
        let (group, version) = (
            gvk["group"].as_str().unwrap_or_default(),
            gvk["version"].as_str().unwrap_or_default(),
        );
        super::operations::prefix(group, version).trim_start_matches('/') == group_version
    })
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(name) = members.get("$ref").and_then(Value::as_str)
                && let Some(name) = name.strip_prefix(V3_PREFIX)
            {
                found.insert(name.to_owned());
            }
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn component(name: &str, definition: &Value) -> Value {
    let mut schema = schema(definition);
    let either = match name {
        INT_OR_STRING => ["integer", "string"],
        QUANTITY => ["string", "number"],
        _ => return schema,
    };
    let fields = schema.as_object_mut().expect("a definition is an object");
    fields.remove("type");
    fields.insert("oneOf".to_owned(), json!(either.map(|type_| json!({ "type": type_ }))));
    schema
}

/// A schema with its references turned. Version 3 takes no siblings of `$ref`, so that a described
/// one goes into `allOf`.
fn schema(v2: &Value) -> Value {
    let Value::Object(members) = v2 else { return v2.clone() };
    let mut schema: Map<String, Value> = Map::new();
    for (name, value) in members {
        let value = match name.as_str() {
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                properties.map(|(name, value)| (name.clone(), self::schema(value))).collect()
            }
            "items" | "additionalProperties" => self::schema(value),
            "$ref" => json!(turned(value)),
            _ => value.clone(),
        };
        schema.insert(name.clone(), value);
    }
    if schema.len() > 1
        && let Some(reference) = schema.remove("$ref")
    {
        schema.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
    }
    Value::Object(schema)
}

fn turned(reference: &Value) -> String {
    let name = reference.as_str().unwrap_or_default();
    format!("{V3_PREFIX}{}", name.strip_prefix(V2_PREFIX).unwrap_or(name))
}

fn path_item(v2: &Value) -> Value {
    let members = v2.as_object().into_iter().flatten();
    members
        .map(|(name, value)| {
            let value = match name.as_str() {
                "parameters" => parameters(value),
                _ => operation(value),
            };
            (name.clone(), value)
        })
        .collect()
}

fn parameters(v2: &Value) -> Value {
    let parameters = v2.as_array().into_iter().flatten();
    parameters.filter(|parameter| parameter["in"] != "body").map(parameter).collect()
}

fn parameter(v2: &Value) -> Value {
    let mut parameter = v2.clone();
    if let Some(members) = parameter.as_object_mut() {
        let mut schema = Map::new();
        for name in ["type", "uniqueItems"] {
            schema.extend(members.remove(name).map(|value| (name.to_owned(), value)));
        }
        members.insert("schema".to_owned(), Value::Object(schema));
    }
    parameter
}

fn operation(v2: &Value) -> Value {
    let mut operation = v2.clone();
    let Some(members) = operation.as_object_mut() else { return operation };
    members.remove("schemes");
    let consumes = members.remove("consumes").unwrap_or_default();
    let produces = members.remove("produces").unwrap_or_default();
    if let Some(v2) = members.remove("parameters") {
        let body = v2.as_array().into_iter().flatten().find(|parameter| parameter["in"] == "body");
        if let Some(body) = body {
            members.insert("requestBody".to_owned(), request_body(body, &consumes));
        }
        members.insert("parameters".to_owned(), parameters(&v2));
    }
    if let Some(responses) = members.get_mut("responses").and_then(Value::as_object_mut) {
        responses.values_mut().for_each(|response| turn_response(response, &produces));
    }
    operation
}

fn request_body(v2: &Value, consumes: &Value) -> Value {
    let mut body = json!({ "content": content(&v2["schema"], consumes) });
    if v2["required"] == true {
        body["required"] = true.into();
    }
    body
}

fn turn_response(response: &mut Value, produces: &Value) {
    let members = response.as_object_mut().expect("a response is an object");
    if let Some(schema) = members.remove("schema") {
        members.insert("content".to_owned(), content(&schema, produces));
    }
}

fn content(v2: &Value, types: &Value) -> Value {
    let types = types.as_array().into_iter().flatten().filter_map(Value::as_str);
    types.map(|type_| (type_.to_owned(), json!({ "schema": schema(v2) }))).collect()
}
