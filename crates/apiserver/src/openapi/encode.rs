//! The version 2 document as protobuf, from its JSON.

use prost::Message as _;
use serde_json::{Map, Value};

use super::proto::{
    AdditionalPropertiesItem, Any, BodyParameter, Definitions, Document, Info, ItemsItem, NamedAny,
    NamedPathItem, NamedResponse, NamedSchema, NonBodyKind, NonBodyParameter, Operation, Parameter,
    ParameterKind, ParametersItem, PathItem, PathParameter, Paths, Properties, QueryParameter,
    Response, ResponseValue, Responses, Schema, SchemaItem, TypeItem,
};

/// The whole document.
pub(super) fn document(v2: &Value) -> Vec<u8> {
    let paths = members(&v2["paths"])
        .map(|(name, item)| NamedPathItem { name: name.clone(), value: Some(path_item(item)) })
        .collect();
    let document = Document {
        swagger: text(&v2["swagger"]),
        info: Some(Info {
            title: text(&v2["info"]["title"]),
            version: text(&v2["info"]["version"]),
        }),
        paths: Some(Paths { path: paths }),
        definitions: Some(Definitions { additional_properties: named(&v2["definitions"]) }),
    };
    document.encode_to_vec()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn named(schemas: &Value) -> Vec<NamedSchema> {
    members(schemas)
        .map(|(name, value)| NamedSchema { name: name.clone(), value: Some(schema(value)) })
        .collect()
}

fn schema(v2: &Value) -> Schema {
    let type_ = v2.get("type").map(|type_| TypeItem { value: vec![text(type_)] });
    let items = v2.get("items").map(|items| ItemsItem { schema: vec![schema(items)] });
    let values = v2.get("additionalProperties").map(|values| {
        Box::new(AdditionalPropertiesItem { schema: Some(Box::new(schema(values))) })
    });
    let properties = v2
        .get("properties")
        .map(|properties| Properties { additional_properties: named(properties) });
    Schema {
        r#ref: text(&v2["$ref"]),
        format: text(&v2["format"]),
        description: text(&v2["description"]),
        required: texts(&v2["required"]),
        additional_properties: values,
        r#type: type_,
        items,
        properties,
        vendor_extension: extensions(v2),
    }
}

fn extensions(v2: &Value) -> Vec<NamedAny> {
    members(v2)
        .filter(|(name, _)| name.starts_with("x-"))
        // JSON is YAML.
        .map(|(name, value)| NamedAny {
            name: name.clone(),
            value: Some(Any { yaml: value.to_string() }),
        })
        .collect()
}

fn path_item(v2: &Value) -> PathItem {
    let method = |name: &str| v2.get(name).map(operation);
    PathItem {
        get: method("get"),
        put: method("put"),
        post: method("post"),
        delete: method("delete"),
        patch: method("patch"),
        parameters: parameters(&v2["parameters"]),
    }
}

fn operation(v2: &Value) -> Operation {
    Operation {
        tags: texts(&v2["tags"]),
        description: text(&v2["description"]),
        operation_id: text(&v2["operationId"]),
        produces: texts(&v2["produces"]),
        consumes: texts(&v2["consumes"]),
        parameters: parameters(&v2["parameters"]),
        responses: Some(Responses {
            response_code: members(&v2["responses"])
                .map(|(name, value)| NamedResponse { name: name.clone(), value: response(value) })
                .collect(),
        }),
        schemes: texts(&v2["schemes"]),
        vendor_extension: extensions(v2),
    }
}

fn response(v2: &Value) -> Option<ResponseValue> {
    let schema = v2.get("schema").map(|v2| SchemaItem { schema: Some(schema(v2)) });
    let response = Response { description: text(&v2["description"]), schema };
    Some(ResponseValue { response: Some(response) })
}

fn parameters(v2: &Value) -> Vec<ParametersItem> {
    v2.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .map(|parameter| ParametersItem {
            parameter: Some(Parameter { kind: Some(parameter_kind(parameter)) }),
        })
        .collect()
}

fn parameter_kind(v2: &Map<String, Value>) -> ParameterKind {
    let string = |name: &str| v2.get(name).map(text).unwrap_or_default();
    let flag = |name: &str| v2.get(name).and_then(Value::as_bool).unwrap_or_default();
    let kind = match v2.get("in").and_then(Value::as_str) {
        Some("body") => {
            return ParameterKind::Body(BodyParameter {
                name: string("name"),
                r#in: string("in"),
                required: flag("required"),
                schema: v2.get("schema").map(schema),
            });
        }
        Some("path") => NonBodyKind::Path(PathParameter {
            required: flag("required"),
            r#in: string("in"),
            description: string("description"),
            name: string("name"),
            r#type: string("type"),
            unique_items: flag("uniqueItems"),
        }),
        _ => NonBodyKind::Query(QueryParameter {
            r#in: string("in"),
            description: string("description"),
            name: string("name"),
            r#type: string("type"),
            unique_items: flag("uniqueItems"),
        }),
    };
    ParameterKind::NonBody(NonBodyParameter { kind: Some(kind) })
}
