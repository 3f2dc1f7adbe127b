//! What is refused, and in which words: a table of requests through the endpoint, each with the
//! Status it must get. The words are upstream's; clients match on them.

mod support;

use http::{Method, Request};
use serde_json::{Value, json};
use support::TestServer;

struct Case {
    name: &'static str,
    method: Method,
    path: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    code: u16,
    reason: &'static str,
    message: &'static str,
}

fn post(
    name: &'static str,
    body: &str,
    (code, reason, message): (u16, &'static str, &'static str),
) -> Case {
    Case {
        name,
        method: Method::POST,
        path: "/api/v1/namespaces/default/secrets",
        content_type: "application/json",
        body: body.as_bytes().to_vec(),
        code,
        reason,
        message,
    }
}

fn secret(fields: Value) -> String {
    let mut object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" } });
    for (key, value) in fields.as_object().unwrap() {
        object[key] = value.clone();
    }
    object.to_string()
}

fn cases() -> Vec<Case> {
    vec![
        post(
            "malformed JSON",
            r#"{"kind":"Secret","data":{"password":"c2VjcmV0"#,
            (
                400,
                "BadRequest",
                "the object provided is unrecognized (must be of type Secret): couldn't get version/kind; json parse error: unexpected end of JSON input",
            ),
        ),
        post(
            "nothing",
            "",
            (
                400,
                "BadRequest",
                "the object provided is unrecognized (must be of type Secret): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
            ),
        ),
        post(
            "not an object",
            "[1]",
            (
                400,
                "BadRequest",
                "the object provided is unrecognized (must be of type Secret): couldn't get version/kind; json parse error: the body is not an object",
            ),
        ),
        post(
            "another kind",
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#,
            (
                400,
                "BadRequest",
                "Pod in version \"v1\" cannot be handled as a Secret: converting (v1.Pod) to (core.Secret): unknown conversion",
            ),
        ),
        post(
            "an unknown kind",
            r#"{"apiVersion":"v1","kind":"Sekret","metadata":{"name":"a"}}"#,
            (
                400,
                "BadRequest",
                "Sekret in version \"v1\" cannot be handled as a Secret: no kind \"Sekret\" is registered for version \"v1\"",
            ),
        ),
        post(
            "a newline inside base64",
            &secret(json!({ "data": { "password": "dmFs\ndWU=" } })),
            (
                400,
                "BadRequest",
                "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 4 (at data.password)",
            ),
        ),
        post(
            "base64 that ends too soon",
            &secret(json!({ "data": { "password": "c2VjcmV0c" } })),
            (
                400,
                "BadRequest",
                "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 8 (at data.password)",
            ),
        ),
        Case {
            name: "another kind's base64 that ends too soon",
            path: "/api/v1/namespaces/default/configmaps",
            ..post(
                "",
                r#"{"metadata":{"name":"a"},"binaryData":{"k":"dg"}}"#,
                (
                    400,
                    "BadRequest",
                    "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: illegal base64 data at input byte 0 (at binaryData.k)",
                ),
            )
        },
        post(
            "a number where base64 should be, which is not quoted",
            &secret(json!({ "data": { "pin": 4711 } })),
            (
                400,
                "BadRequest",
                "Secret in version \"v1\" cannot be handled as a Secret: json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
            ),
        ),
        post(
            "a password where a map should be, which is not quoted",
            &secret(json!({ "data": "hunter2" })),
            (
                400,
                "BadRequest",
                "Secret in version \"v1\" cannot be handled as a Secret: json: cannot unmarshal string into Go struct field Secret.data of type map[string][]uint8",
            ),
        ),
        post(
            "another namespace than the URL's",
            &secret(json!({ "metadata": { "name": "a", "namespace": "other" } })),
            (
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
        ),
        post(
            "no name",
            &secret(json!({ "metadata": {} })),
            (
                422,
                "Invalid",
                "Secret \"\" is invalid: metadata.name: Required value: name or generateName is required",
            ),
        ),
        post(
            "values over a mebibyte",
            &secret(json!({ "data": { "big": "A".repeat(1_398_104) } })),
            (
                422,
                "Invalid",
                "Secret \"a\" is invalid: data: Too long: may not be more than 1048576 bytes",
            ),
        ),
        post(
            "a body over the limit",
            &secret(json!({ "data": { "big": "A".repeat(4 << 20) } })),
            (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728"),
        ),
        Case {
            name: "an unknown content type",
            content_type: "text/html",
            ..post(
                "",
                "<html>",
                (
                    415,
                    "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
                ),
            )
        },
        Case {
            name: "a namespace that does not exist",
            path: "/api/v1/namespaces/nope/secrets",
            ..post("", &secret(json!({})), (404, "NotFound", "namespaces \"nope\" not found"))
        },
        Case {
            name: "a strict request with an unknown field",
            path: "/api/v1/namespaces/default/secrets?fieldValidation=Strict",
            ..post(
                "",
                &secret(json!({ "spec": {} })),
                (
                    400,
                    "BadRequest",
                    "Secret in version \"v1\" cannot be handled as a Secret: strict decoding error: unknown field \"spec\"",
                ),
            )
        },
        Case {
            name: "an unknown value of a parameter",
            path: "/api/v1/namespaces/default/secrets?dryRun=Some",
            ..post(
                "",
                &secret(json!({})),
                (
                    422,
                    "Invalid",
                    "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\"",
                ),
            )
        },
        Case {
            name: "a field selector on a field that cannot be selected",
            method: Method::GET,
            path: "/api/v1/namespaces/default/secrets?fieldSelector=data.password%3Dx",
            body: Vec::new(),
            ..post("", "", (400, "BadRequest", "field label not supported: data.password"))
        },
        Case {
            name: "a continue token of another server",
            method: Method::GET,
            path: "/api/v1/secrets?continue=nonsense",
            ..post("", "", (400, "BadRequest", "invalid continue token: continue key is not valid"))
        },
        Case {
            name: "a resourceVersion that is not a number",
            method: Method::GET,
            path: "/api/v1/secrets?resourceVersion=newest",
            ..post(
                "",
                "",
                (
                    400,
                    "BadRequest",
                    "invalid resource version: resourceVersion: Invalid value: \"newest\": strconv.ParseUint: parsing \"newest\": invalid syntax",
                ),
            )
        },
        Case {
            name: "a method that means nothing there",
            method: Method::PUT,
            path: "/api/v1/namespaces/default/secrets",
            ..post(
                "",
                "{}",
                (
                    405,
                    "MethodNotAllowed",
                    "the server does not allow this method on the requested resource",
                ),
            )
        },
        Case {
            name: "a resource that is not served",
            method: Method::GET,
            path: "/api/v1/namespaces/default/gizmos",
            ..post("", "", (404, "NotFound", "the server could not find the requested resource"))
        },
        Case {
            name: "a namespace everyone needs",
            method: Method::DELETE,
            path: "/api/v1/namespaces/default",
            ..post(
                "",
                "",
                (
                    403,
                    "Forbidden",
                    "namespaces \"default\" is forbidden: this namespace may not be deleted",
                ),
            )
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_request_gets_its_status() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let mut wrong = Vec::new();
    for case in cases() {
        let request = Request::builder()
            .method(case.method.clone())
            .uri(case.path)
            .header("content-type", case.content_type)
            .body(case.body)
            .unwrap();
        let found = match client.request::<Value>(request).await {
            Err(kube::Error::Api(status)) => (status.code, status.reason, status.message),
            Ok(value) => (200, String::new(), value.to_string()),
            Err(other) => (0, String::new(), other.to_string()),
        };
        let wanted = (case.code, case.reason.to_owned(), case.message.to_owned());
        if found != wanted {
            wrong.push(format!("{}:\n   found {found:?}\n  wanted {wanted:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    server.stop().await;
}
