//! Random input: the response is a success or a 4xx, never a 5xx, never shows a secret, and the server
//! keeps running.

use coffer_store::Store as _;
use http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::client::{ApiClient, Response};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// What no response to a refused request may hold, in any coding.
const CANARY: &str = "CANARY-7d41";
const CANARY_BASE64: &str = "Q0FOQVJZLTdkNDE";
/// Requests per kind of garbage.
const TRIES: usize = 150;

/// The same garbage at each run.
fn garbage<S: Strategy>(strategy: &S) -> Vec<S::Value> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..TRIES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// JSON of any shape, with the words that the server knows in wrong places.
fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "data",
        "stringData",
        "type",
        "spec",
        "$patch",
        "$deleteFromPrimitiveList/finalizers",
        "$setElementOrder/containers",
        "$retainKeys",
        "op",
        "path",
        "value",
        "managedFields",
        "fieldsV1",
        "ownerReferences",
        "labels",
        "annotations",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|it| json!(it)),
        Just(json!(CANARY)),
        Just(json!("v1")),
        Just(json!("Secret")),
        Just(json!("replace")),
        Just(json!("\u{0}\u{feff}\u{202e}")),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let key = prop_oneof![words.clone().prop_map(str::to_owned), ".{0,8}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
    .prop_map(tame)
}

/// Fields that are not payload are shown in refusals, as they must be: no canary goes there.
fn tame(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let shown =
                    matches!(&**name, "apiVersion" | "kind" | "type" | "name" | "op" | "path");
                *field = if shown && field == CANARY { json!("shown") } else { tame(field.take()) };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = tame(item.take())),
        _ => {}
    }
    value
}

#[track_caller]
fn sane(response: &Response, what: &str) {
    let code = response.status.as_u16();
    assert!((200..500).contains(&code), "{what}: {code} {}", response.text());
    if code >= 400 {
        let text = response.text();
        for secret in [CANARY, CANARY_BASE64] {
            assert!(!text.contains(secret), "{what}: {text}");
        }
        let warnings = response.headers.get_all("warning").iter();
        assert!(!warnings.into_iter().any(|it| it.to_str().unwrap().contains(CANARY)), "{what}");
    }
}

async fn filled() -> ApiClient {
    let api = ApiClient::start().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "annotations": { "note": CANARY } },
        "stringData": { "password": CANARY },
    });
    api.post(SECRETS, &secret).await.ok();
    api
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_any_shape_are_refused_or_taken() {
    let api = filled().await;
    let mut bodies: Vec<Vec<u8>> =
        garbage(&any_json()).iter().map(|body| body.to_string().into_bytes()).collect();
    bodies.extend(garbage(&prop::collection::vec(any::<u8>(), 0..200)));
    bodies.extend(crafted());
    for body in bodies {
        for media in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
        {
            let headers = [("content-type", media)];
            for (method, path) in
                [(Method::POST, SECRETS.to_owned()), (Method::PUT, format!("{SECRETS}/s"))]
            {
                let what = format!(
                    "{method} {media} {:?}",
                    String::from_utf8_lossy(&body[..body.len().min(200)])
                );
                sane(&api.send(method, &path, &headers, body.clone()).await, &what);
            }
        }
    }
    assert_eq!(api.get("/readyz").await.text(), "ok");
    api.close().await;
}

/// Bodies someone thought of.
fn crafted() -> Vec<Vec<u8>> {
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let secret = |rest: &str| {
        format!(r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"x"}},{rest}}}"#)
    };
    let mut bodies = vec![
        deep("[", "]"),
        deep(r#"{"a":"#, "}"),
        secret(&format!(r#""data":{}"#, deep("[", "]"))),
        secret(&format!(r#""data":{{"a":"{CANARY}"}}"#)),
        secret(&format!(r#""data":{{"a":{{"b":"{CANARY}"}}}}"#)),
        secret(&format!(r#""data":{{"{CANARY}!":"!!"}}"#)).replace(CANARY, "key"),
        secret(&format!(r#""stringData":{{"a":["{CANARY}"]}}"#)),
        secret(&format!(r#""stringData":"{CANARY}""#)),
        secret(&format!(r#""type":{{"a":"{CANARY}"}}"#)),
        secret(&format!(r#""immutable":"{CANARY}""#)),
        secret(&format!(r#""type":"kubernetes.io/tls","stringData":{{"tls.crt":"{CANARY}","tls.key":"{CANARY}"}}"#)),
        secret(&format!(r#""type":"kubernetes.io/dockerconfigjson","stringData":{{".dockerconfigjson":"{CANARY}"}}"#)),
        secret(r#""data":{"a":1e999999}"#),
        secret(r#""data":{"a":99999999999999999999999999999999999999999999999}"#),
        secret(r#""metadata":{"name":"y"},"metadata":{"name":"z"}"#),
        secret(r#""metadata":{"name":"\u0000"}"#),
        secret(r#""metadata":{"name":"x","creationTimestamp":"9999999-01-01T00:00:00Z"}"#),
        secret(r#""metadata":{"name":"x","deletionGracePeriodSeconds":9223372036854775807}"#),
        secret(&format!(r#""metadata":{{"name":"x","annotations":{{"a":{{"b":"{CANARY}"}}}}}}"#)),
        secret(&format!(r#""metadata":{{"name":"x","annotations":{{"!!":"{CANARY}"}}}}"#)),
        secret(&format!(r#""metadata":{{"name":"x","managedFields":[{{"fieldsV1":{{"f:data":"{CANARY}"}}}}]}}"#)),
        "a: &a [*a]".to_owned(),
        format!("a: &a [x]\nb: &b [{0}]\nc: &c [{1}]\nd: &d [{2}]\ne: [{3}]", ["*a"; 50].join(","), ["*b"; 50].join(","), ["*c"; 50].join(","), ["*d"; 50].join(",")),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\nstringData: {{a: !!binary {CANARY}}}\n"),
        format!("apiVersion: v1\nkind: Secret\ndata: {{? [a] : {CANARY}}}\n"),
        format!("{CANARY}: [\n"),
        "---\n---\n---\n".to_owned(),
        "\u{feff}{}".to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect::<Vec<_>>();
    bodies.push(b"k8s\x00".to_vec());
    bodies.push([b"k8s\x00".to_vec(), vec![0xff; 64]].concat());
    bodies.push(
        [b"{\"kind\":\"Secret\",\"data\":{\"a\":\"\xff\xfe".to_vec(), CANARY.into()].concat(),
    );
    bodies.push(vec![b' '; 1 << 20]);
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_any_shape_are_refused_or_taken() {
    let api = filled().await;
    let steps = prop::collection::vec(
        (
            prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test", "fly"]),
            prop::sample::select(vec!["", "/", "/data/password", "/metadata/annotations/note", "/data/-", "/metadata/finalizers/-", "/~2", "/metadata", "nowhere"]),
            any_json(),
        )
            .prop_map(|(op, path, value)| json!({ "op": op, "path": path, "from": "/data/password", "value": value })),
        0..6,
    )
    .prop_map(Value::from);
    let any = any_json();
    for (media, patches) in [
        ("application/json-patch+json", garbage(&steps)),
        ("application/json-patch+json", garbage(&any)),
        ("application/merge-patch+json", garbage(&any)),
        ("application/strategic-merge-patch+json", garbage(&any)),
        ("application/apply-patch+yaml", garbage(&any)),
    ] {
        for patch in patches {
            for path in [format!("{SECRETS}/s"), "/api/v1/namespaces/default/status".to_owned()] {
                let path = format!("{path}?fieldManager=m");
                let headers = [("content-type", media)];
                let response = api.send(Method::PATCH, &path, &headers, patch.to_string()).await;
                sane(&response, &format!("{media} {patch}"));
            }
        }
    }
    assert_eq!(api.get("/readyz").await.text(), "ok");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_any_shape_are_refused_or_taken() {
    let api = filled().await;
    let text = prop_oneof![
        ".{0,40}",
        "[a-z!=<>(), \\\\]{0,30}",
        "[a-zA-Z0-9+/=_-]{0,60}",
        Just("9223372036854775808".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("a in (b,c),!d,e notin (),f>1".to_owned()),
    ];
    let names = [
        "labelSelector",
        "fieldSelector",
        "continue",
        "limit",
        "resourceVersion",
        "resourceVersionMatch",
        "timeoutSeconds",
        "timeout",
        "includeObject",
        "pretty",
        "dryRun",
        "fieldManager",
        "fieldValidation",
        "gracePeriodSeconds",
        "propagationPolicy",
        "orphanDependents",
        "sendInitialEvents",
        "allowWatchBookmarks",
        "export",
    ];
    let values = garbage(&text);
    let future: u64 = api.server.store().revision().await.unwrap() + 1;
    for (at, value) in values.iter().enumerate() {
        let name = names[at % names.len()];
        // A version that is yet to come is waited for: that has its own test.
        if name == "resourceVersion" && value.parse::<u64>().is_ok_and(|it| it >= future) {
            continue;
        }
        let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        for (method, path) in [
            (Method::GET, SECRETS.to_owned()),
            (Method::GET, format!("{SECRETS}/s")),
            (Method::DELETE, format!("{SECRETS}/none")),
            (Method::POST, SECRETS.to_owned()),
        ] {
            let path = format!("{path}?{name}={encoded}");
            let response = api.send(method.clone(), &path, &[], "").await;
            sane(&response, &format!("{method} {name}={value:?}"));
        }
    }
    assert_eq!(api.get("/readyz").await.text(), "ok");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_of_any_shape_are_refused_or_taken() {
    let api = filled().await;
    let segment = prop_oneof![
        prop::sample::select(vec![
            "api",
            "apis",
            "v1",
            "namespaces",
            "secrets",
            "watch",
            "default",
            "status",
            "..",
            ".",
            "",
            "%2F",
            "%00",
            "%ff",
            "%2e%2e",
            "s"
        ])
        .prop_map(str::to_owned),
        "[a-z%0-9]{0,6}".prop_map(|it| it.replace('%', "%25")),
    ];
    let path =
        prop::collection::vec(segment, 0..9).prop_map(|parts| format!("/{}", parts.join("/")));
    for path in garbage(&path) {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::POST] {
            if method == Method::DELETE && path.trim_end_matches('/').ends_with("secrets") {
                continue;
            }
            let response = api.send(method.clone(), &path, &[], "").await;
            sane(&response, &format!("{method} {path}"));
        }
    }
    assert_eq!(api.get("/readyz").await.text(), "ok");
    api.close().await;
}
