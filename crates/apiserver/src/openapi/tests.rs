use coffer_api::kinds;
use prost::Message as _;
use serde_json::Value;

use super::*;

fn parsed(encoded: &Encoded) -> Value {
    serde_json::from_slice(&encoded.bytes).expect("it is JSON")
}

#[test]
fn every_served_kind_has_a_definition_and_a_patch_that_says_what_it_takes() {
    let v2 = parsed(v2_json());
    for info in kinds::ALL {
        let scope = if info.namespaced { "/namespaces/{namespace}" } else { "" };
        let prefix = operations::prefix(info.group, info.version);
        let path = format!("{prefix}{scope}/{}/{{name}}", info.plural);
        let patch = &v2["paths"][&path]["patch"];
        let names: Vec<_> = patch["parameters"]
            .as_array()
            .unwrap_or_else(|| panic!("no patch at {path}"))
            .iter()
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        for name in ["dryRun", "fieldValidation", "fieldManager", "force"] {
            assert!(names.contains(&name), "{path} has {names:?}");
        }
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], info.kind);
        let v3 = parsed(v3(prefix.trim_start_matches('/')).expect("a document"));
        assert!(v3["paths"].get(&path).is_some(), "{path}");
    }
}

#[test]
fn a_review_can_be_created_and_nothing_else() {
    let v2 = parsed(v2_json());
    for review in &crate::reviews::ALL {
        let scope = if review.namespaced { "/namespaces/{namespace}" } else { "" };
        let prefix = operations::prefix(review.group, crate::reviews::VERSION);
        let item = &v2["paths"][format!("{prefix}{scope}/{}", review.plural)];
        let names: Vec<_> = item.as_object().expect(review.kind).keys().collect();
        assert_eq!(names, ["parameters", "post"]);
        assert!(v3(prefix.trim_start_matches('/')).is_some(), "{prefix}");
    }
}

#[test]
fn no_reference_leads_nowhere() {
    fn check(value: &Value, prefix: &str, known: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let name = reference.strip_prefix(prefix).expect(reference);
                    assert!(known.get(name).is_some(), "{reference}");
                }
                members.values().for_each(|value| check(value, prefix, known));
            }
            Value::Array(items) => items.iter().for_each(|value| check(value, prefix, known)),
            _ => {}
        }
    }

    let v2 = parsed(v2_json());
    check(&v2, "#/definitions/", &v2["definitions"]);
    let index = parsed(v3_index());
    for (path, place) in index["paths"].as_object().expect("paths") {
        let encoded = v3(path).expect("what the index names is there");
        let url = place["serverRelativeURL"].as_str().expect("a URL");
        assert_eq!(url, format!("/openapi/v3/{path}?hash={}", encoded.hash));
        let document = parsed(encoded);
        check(&document, "#/components/schemas/", &document["components"]["schemas"]);
    }
    assert!(v3("apis/nope/v1").is_none());
}

/// kubectl's schema reader wants a type wherever there is no reference.
#[test]
fn every_schema_has_a_type_or_a_reference() {
    fn check(at: &str, schema: &Value) {
        let described = ["type", "$ref"].iter().any(|name| schema.get(name).is_some());
        assert!(described, "{at}");
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            check(&format!("{at}.{name}"), property);
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(schema) = schema.get(inner) {
                check(&format!("{at}[]"), schema);
            }
        }
    }

    let v2 = parsed(v2_json());
    for (name, definition) in v2["definitions"].as_object().expect("definitions") {
        check(name, definition);
    }
}

#[test]
fn the_protobuf_form_says_what_the_json_form_says() {
    let v2 = parsed(v2_json());
    let decoded = proto::Document::decode(v2_proto().bytes.as_slice()).expect("it decodes");
    let definitions = decoded.definitions.expect("definitions").additional_properties;
    assert_eq!(definitions.len(), v2["definitions"].as_object().expect("definitions").len());
    let secret = definitions
        .iter()
        .find(|named| named.name == "io.k8s.api.core.v1.Secret")
        .and_then(|named| named.value.as_ref())
        .expect("Secret");
    let kind = &secret.vendor_extension[0];
    assert_eq!(kind.name, "x-kubernetes-group-version-kind");
    assert_eq!(
        kind.value.as_ref().map(|any| any.yaml.as_str()),
        Some(r#"[{"group":"","kind":"Secret","version":"v1"}]"#)
    );
    let paths = decoded.paths.expect("paths").path;
    assert_eq!(paths.len(), v2["paths"].as_object().expect("paths").len());
}

#[test]
fn a_secrets_data_is_documented_and_a_pods_containers_have_their_merge_key() {
    let v2 = parsed(v2_json());
    let data = &v2["definitions"]["io.k8s.api.core.v1.Secret"]["properties"]["data"];
    assert!(data["description"].as_str().is_some_and(|text| text.contains("base64")));
    assert_eq!(data["additionalProperties"]["format"], "byte");
    let containers = &v2["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(v2["definitions"]["io.k8s.api.core.v1.Secret"].get("required"), None);
}
