//! Create, update and patch: who may set what, races, dry runs, field validation, ownership.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, JSON, send};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_sets_what_only_it_may_set_on_a_new_object() {
    let api = ApiClient::start().await;
    let mut object = map("a");
    object["metadata"] = json!({
        "name": "a", "namespace": "default", "uid": "mine", "selfLink": "/x", "generation": 7,
        "creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 5,
    });
    let made = api.post(MAPS, &object).await.ok();
    let meta = &made["metadata"];
    assert_ne!(meta["uid"], "mine");
    assert_ne!(meta["creationTimestamp"], "2001-01-01T00:00:00Z");
    for field in ["selfLink", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        assert!(meta[field].is_null(), "{field}: {}", meta[field]);
    }
    object["metadata"] = json!({ "name": "b", "resourceVersion": "5" });
    let refused = api.post(MAPS, &object).await;
    let message = "resourceVersion should not be set on objects to be created";
    assert_eq!(refused.refusal(), (400, String::new(), message.into()));
    for (metadata, code) in [
        (json!({}), 422),
        (json!({ "name": "a", "namespace": "other" }), 400),
        (json!({ "name": "a" }), 409),
    ] {
        object["metadata"] = metadata;
        assert_eq!(api.post(MAPS, &object).await.status.as_u16(), code, "{}", object["metadata"]);
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_names_are_unique_short_enough_and_shown() {
    let api = ApiClient::start().await;
    let mut object = map("");
    object["metadata"] = json!({ "generateName": "gen-" });
    let made = (0..200).map(|_| api.post(MAPS, &object));
    let names: BTreeSet<String> = futures::future::join_all(made)
        .await
        .into_iter()
        .map(|made| made.ok()["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 200);
    assert!(names.iter().all(|name| name.starts_with("gen-") && name.len() == 9), "{names:?}");
    let long = "x".repeat(300);
    object["metadata"] = json!({ "generateName": long });
    let refused = api.post(MAPS, &object).await;
    assert_eq!(
        refused.status,
        422,
        "its prefix is short enough, and is not valid: {}",
        refused.text()
    );
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_cannot_change_is_refused_or_kept() {
    let api = ApiClient::start().await;
    let path = format!("{MAPS}/a");
    let made = api.post(MAPS, &map("a")).await.ok();
    let changed = |field: &str, value: Value| {
        let mut object = made.clone();
        object["metadata"][field] = value;
        object
    };
    for (field, value) in [
        ("generation", json!(9)),
        ("selfLink", json!("/x")),
        ("creationTimestamp", json!("2001-01-01T00:00:00Z")),
        ("creationTimestamp", Value::Null),
        ("uid", json!("")),
        ("resourceVersion", Value::Null),
        ("namespace", Value::Null),
    ] {
        let put = api.put(&path, &changed(field, value.clone())).await.ok();
        assert_eq!(put["metadata"][field], made["metadata"][field], "{field} {value}");
    }
    let invalid =
        |why: &str| (422, "Invalid".to_owned(), format!("ConfigMap \"a\" is invalid: {why}"));
    for (field, value, refusal) in [
        (
            "deletionTimestamp",
            json!("2001-01-01T00:00:00Z"),
            invalid("metadata.deletionTimestamp: Invalid value: \"2001-01-01T00:00:00Z\": field is immutable"),
        ),
        (
            "deletionGracePeriodSeconds",
            json!(5),
            invalid("metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable"),
        ),
        (
            "name",
            json!("b"),
            (400, "BadRequest".into(), "the name of the object (b) does not match the name on the URL (a)".into()),
        ),
        (
            "name",
            Value::Null,
            (400, "BadRequest".into(), "the name of the object (a based on URL) was undeterminable: name must be provided".into()),
        ),
        (
            "namespace",
            json!("other"),
            (400, "BadRequest".into(), "the namespace of the provided object does not match the namespace sent on the request".into()),
        ),
        (
            "resourceVersion",
            json!("1"),
            (409, "Conflict".into(), "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again".into()),
        ),
        (
            "uid",
            json!("other"),
            (
                409,
                "Conflict".into(),
                format!(
                    "Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: other, UID in object meta: {}",
                    made["metadata"]["uid"].as_str().unwrap()
                ),
            ),
        ),
    ] {
        assert_eq!(api.put(&path, &changed(field, value)).await.refusal(), refusal, "{field}");
    }
    let uid = json!({ "metadata": { "uid": "other" } });
    assert_eq!(
        api.merge(&path, &uid).await.refusal(),
        invalid("metadata.uid: Invalid value: \"other\": field is immutable")
    );
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "l" }, "spec": { "holderIdentity": "me" },
    });
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let created = api.put(&format!("{leases}/l"), &lease).await;
    assert_eq!(created.status, 201, "a lease is made by the first PUT");
    let blind = api.put(&format!("{leases}/l"), &lease).await.refusal();
    assert_eq!(
        blind.2,
        "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
    );
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_thirty_two_writers_each_change_is_counted_once() {
    let api = ApiClient::start().await;
    let path = format!("{MAPS}/counter");
    let mut object = map("counter");
    object["data"] = json!({ "count": "0" });
    api.post(MAPS, &object).await.ok();
    let writers = (0..32).map(|_| async {
        loop {
            let mut object = api.get(&path).await.ok();
            let count: u32 = object["data"]["count"].as_str().unwrap().parse().unwrap();
            object["data"]["count"] = (count + 1).to_string().into();
            let put = api.put(&path, &object).await;
            match put.status.as_u16() {
                200 => break,
                409 => {}
                other => panic!("{other}: {}", put.text()),
            }
        }
    });
    futures::future::join_all(writers).await;
    assert_eq!(api.get(&path).await.ok()["data"]["count"], "32");
    api.close().await;
}

/// Every verb dry: the response is what would be, the store stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn dry_runs_return_the_object_and_write_nothing() {
    let api = ApiClient::start().await;
    let mut held = map("held");
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    api.post(MAPS, &map("a")).await.ok();
    api.post(MAPS, &held).await.ok();
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {
            "metadata": { "labels": { "a": "b" } },
            "spec": { "containers": [{ "name": "c", "image": "redis" }] },
        } },
    });
    api.post(deployments, &deployment).await.ok();
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "redis" }] },
    });
    api.post(pods, &pod).await.ok();
    let before = everything(&api).await;
    let labels = json!({ "metadata": { "labels": { "dry": "yes" } } });
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n1" },
    });
    let scale = json!({ "spec": { "replicas": 5 } });
    let ssa = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "new" }, "data": { "a": "b" } });
    let merge = ("content-type", "application/merge-patch+json");
    let apply = ("content-type", "application/apply-patch+yaml");
    for (method, path, media, body) in [
        (Method::POST, MAPS.to_owned(), JSON, map("new")),
        (
            Method::PUT,
            format!("{MAPS}/a"),
            JSON,
            json!({ "metadata": { "name": "a" }, "data": { "x": "y" } }),
        ),
        (Method::PATCH, format!("{MAPS}/a"), merge, labels.clone()),
        (Method::PATCH, format!("{MAPS}/new"), apply, ssa),
        (Method::DELETE, format!("{MAPS}/a"), JSON, json!({})),
        (Method::DELETE, format!("{MAPS}/held"), JSON, json!({})),
        (Method::DELETE, MAPS.to_owned(), JSON, json!({})),
        (Method::PATCH, format!("{deployments}/d/scale"), merge, scale),
        (
            Method::PATCH,
            format!("{deployments}/d/status"),
            merge,
            json!({ "status": { "replicas": 3 } }),
        ),
        (Method::POST, format!("{pods}/p/binding"), JSON, binding),
        (Method::DELETE, "/api/v1/namespaces/kube-node-lease".to_owned(), JSON, json!({})),
    ] {
        let dry = format!("{path}?dryRun=All&fieldManager=m");
        let response = api.send(method.clone(), &dry, &[media], body.to_string()).await;
        assert!(response.status.is_success(), "{method} {path}: {}", response.text());
    }
    assert_eq!(everything(&api).await, before);
    let existing = api.post(&format!("{MAPS}?dryRun=All"), &map("a")).await;
    assert_eq!(existing.status, 409, "a dry run is refused where the wet one would be");
    api.close().await;
}

async fn everything(api: &ApiClient) -> Vec<Value> {
    let mut all = Vec::new();
    for path in
        ["/api/v1/configmaps", "/apis/apps/v1/deployments", "/api/v1/pods", "/api/v1/namespaces"]
    {
        all.push(api.get(path).await.ok()["items"].clone());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_duplicate_fields_are_refused_warned_of_or_dropped() {
    let api = ApiClient::start().await;
    let body = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"typo":1,"stringData":{"k":"1","k":"2"}}"#;
    let yaml = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ntypo: 1\n";
    for (validation, code, warnings) in
        [("", 201, 2), ("Warn", 201, 2), ("Ignore", 201, 0), ("Strict", 400, 0)]
    {
        let path = format!("{SECRETS}?dryRun=All&fieldValidation={validation}");
        let response = api.send(Method::POST, &path, &[JSON], body).await;
        assert_eq!(response.status.as_u16(), code, "{validation}: {}", response.text());
        let found: Vec<_> =
            response.headers.get_all("warning").iter().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(found.len(), warnings, "{validation}: {found:?}");
        if warnings > 0 {
            assert_eq!(
                found,
                [
                    "299 - \"unknown field \\\"typo\\\"\"",
                    "299 - \"duplicate field \\\"stringData.k\\\"\""
                ]
            );
        }
        if code == 400 {
            assert_eq!(
                response.refusal().2,
                "Secret in version \"v1\" cannot be handled as a Secret: strict decoding error: unknown field \"typo\", duplicate field \"stringData.k\""
            );
        }
    }
    let path = format!("{SECRETS}?dryRun=All&fieldValidation=Strict");
    let strict = api.send(Method::POST, &path, &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(strict.status, 400);
    // What YAML has twice counts the last time, in a body and in an intent.
    let yaml =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: double}\nstringData:\n  k: one\n  k: two\n";
    let twice = "duplicate field \"stringData.k\"";
    for (method, path, media, refusal) in [
        (
            Method::POST,
            SECRETS.to_owned(),
            "application/yaml",
            format!(
                "Secret in version \"v1\" cannot be handled as a Secret: strict decoding error: {twice}"
            ),
        ),
        (
            Method::PATCH,
            format!("{SECRETS}/z"),
            "application/apply-patch+yaml",
            format!("error strict decoding YAML: {twice}"),
        ),
    ] {
        let body =
            if method == Method::PATCH { yaml.replace("double", "z") } else { yaml.to_owned() };
        let media = [("content-type", media)];
        let strict = format!("{path}?fieldManager=m&fieldValidation=Strict");
        let refused = api.send(method.clone(), &strict, &media, body.clone()).await.refusal();
        assert_eq!(refused, (400, "BadRequest".into(), refusal));
        let warned = api.send(method, &format!("{path}?fieldManager=m"), &media, body).await;
        assert_eq!(warned.header("warning"), format!("299 - \"{}\"", twice.replace('"', "\\\"")));
        assert_eq!(warned.ok()["data"]["k"], "dHdv");
    }
    let made = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" } });
    api.post(SECRETS, &made).await.ok();
    for media in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        for (validation, code) in [("Warn", 200), ("Strict", 422)] {
            let path = format!("{SECRETS}/a?fieldValidation={validation}");
            let patch = json!({ "typo": 1 }).to_string();
            let response = api.send(Method::PATCH, &path, &[("content-type", media)], patch).await;
            assert_eq!(response.status.as_u16(), code, "{media} {validation}: {}", response.text());
            assert_eq!(response.header("warning").is_empty(), code == 422);
        }
    }
    api.close().await;
}

/// Reviews, bindings, tokens, evictions and scales are read as strictly as what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_of_kinds_that_are_not_stored_are_refused_warned_of_or_dropped() {
    let api = ApiClient::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "redis" }] } });
    api.post(pods, &pod).await.ok();
    let account = json!({ "metadata": { "name": "a" } });
    api.post("/api/v1/namespaces/default/serviceaccounts", &account).await.ok();
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    let controller = json!({
        "metadata": { "name": "r" },
        "spec": { "template": { "metadata": { "labels": { "a": "b" } }, "spec": pod["spec"] } },
    });
    api.post(controllers, &controller).await.ok();
    let review = json!({ "spec": { "resourceAttributes": { "verb": "get", "resource": "pods" } } });
    for (method, path, kind, body) in [
        (
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
            "SelfSubjectAccessReview",
            review,
        ),
        (
            Method::POST,
            "/api/v1/namespaces/default/serviceaccounts/a/token".to_owned(),
            "TokenRequest",
            json!({ "spec": {} }),
        ),
        (
            Method::PUT,
            format!("{controllers}/r/scale"),
            "Scale",
            json!({ "spec": { "replicas": 2 } }),
        ),
        (
            Method::POST,
            format!("{pods}/p/binding"),
            "Binding",
            json!({ "target": { "kind": "Node", "name": "n" } }),
        ),
        (
            Method::POST,
            format!("{pods}/p/eviction"),
            "Eviction",
            json!({ "metadata": { "name": "p" } }),
        ),
    ] {
        let mut body = body;
        body["typo"] = true.into();
        let strict = format!("{path}?fieldValidation=Strict");
        let refused = api.send(method.clone(), &strict, &[JSON], body.to_string()).await.refusal();
        let message = format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: strict decoding error: unknown field \"typo\""
        );
        assert_eq!(refused, (400, "BadRequest".into(), message));
        let warned = api.send(method, &path, &[JSON], body.to_string()).await;
        assert!(warned.status.is_success(), "{path}: {}", warned.text());
        assert_eq!(warned.header("warning"), "299 - \"unknown field \\\"typo\\\"\"", "{path}");
    }
    api.close().await;
}

/// A patch whose result is not an object of its kind: the patch is at fault, and its result, which has
/// the whole secret in it, is not shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_with_an_invalid_result_is_422_and_shows_no_value() {
    let api = ApiClient::start().await;
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" }, "stringData": { "password": "CANARY" },
    });
    api.post(SECRETS, &object).await.ok();
    let encoded = "Q0FOQVJZ";
    for (media, patch, code) in [
        ("application/merge-patch+json", json!({ "data": "CANARY" }), 422),
        ("application/merge-patch+json", json!({ "data": { "b": "*CANARY*" } }), 422),
        ("application/strategic-merge-patch+json", json!({ "data": ["CANARY"] }), 422),
        (
            "application/json-patch+json",
            json!([{ "op": "add", "path": "/data/b", "value": ["CANARY"] }]),
            422,
        ),
        (
            "application/json-patch+json",
            json!([{ "op": "test", "path": "/data/password", "value": "CANARY" }]),
            422,
        ),
        ("application/json-patch+json", json!({ "not": "a list CANARY" }), 400),
        ("application/merge-patch+json", json!("CANARY"), 400),
        ("application/strategic-merge-patch+json", json!("CANARY"), 400),
        (
            "application/apply-patch+yaml",
            json!({ "metadata": { "name": "a" }, "data": "CANARY" }),
            400,
        ),
    ] {
        let path = format!("{SECRETS}/a?fieldManager=m");
        let response =
            api.send(Method::PATCH, &path, &[("content-type", media)], patch.to_string()).await;
        assert_eq!(response.status.as_u16(), code, "{media} {patch}: {}", response.text());
        let text = response.text();
        assert!(!text.contains("CANARY") && !text.contains(encoded), "{text}");
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_are_named_twice_are_named_once_with_a_warning() {
    let api = ApiClient::start().await;
    let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u-1" });
    let mut object = map("a");
    object["metadata"]["ownerReferences"] = json!([owner, owner]);
    let response = api.post(MAPS, &object).await;
    assert_eq!(
        response.header("warning"),
        "299 - \".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: u-1\""
    );
    assert_eq!(response.ok()["metadata"]["ownerReferences"], json!([owner]));
    api.close().await;
}

/// Permission to update does not include create: a PUT or an apply that finds no object creates it only
/// for a caller who may create.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_patch_but_without_create_creates_nothing() {
    let api = ApiClient::start().await;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "patcher" },
        "rules": [{ "apiGroups": ["", "coordination.k8s.io"], "resources": ["configmaps", "leases"], "verbs": ["get", "patch", "update"] }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "patcher" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann" }],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    api.post(&format!("{rbac}/roles"), &role).await.ok();
    api.post(&format!("{rbac}/rolebindings"), &binding).await.ok();
    api.post(MAPS, &map("there")).await.ok();
    let ann = api.server.client("ann", &[]).await;
    let apply = [("content-type", "application/apply-patch+yaml")];
    let path = |name: &str| format!("{MAPS}/{name}?fieldManager=m");
    let allowed = send(&ann, Method::PATCH, &path("there"), &apply, map("there").to_string()).await;
    assert_eq!(allowed.status, 200, "{}", allowed.text());
    let refused = send(&ann, Method::PATCH, &path("new"), &apply, map("new").to_string()).await;
    let (code, _, message) = refused.refusal();
    assert_eq!(code, 403);
    assert!(message.contains("User \"ann\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\""), "{message}");
    let lease =
        json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": "me" } }).to_string();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let refused = send(&ann, Method::PUT, leases, &[JSON], lease).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    for (intent, why) in [
        (
            json!({ "kind": "ConfigMap", "metadata": { "name": "new" } }),
            "Incorrect version specified in apply patch. Specified patch version: , expected: v1",
        ),
        (
            json!({ "apiVersion": "apps/v1", "kind": "ConfigMap", "metadata": { "name": "new" } }),
            "Incorrect version specified in apply patch. Specified patch version: apps/v1, expected: v1",
        ),
        (
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "other" } }),
            "the name of the object (other) does not match the name on the URL (new)",
        ),
    ] {
        let refused = api.apply(&path("new"), &intent).await.refusal();
        assert_eq!((refused.0, &*refused.2), (400, why));
    }
    let uid = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "new", "uid": "x" } });
    let mismatch = api.apply(&path("new"), &uid).await.refusal();
    assert_eq!(
        mismatch.2,
        "Operation cannot be fulfilled on configmaps \"new\": uid mismatch: the provided object specified uid x, and no existing object was found"
    );
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generation_counts_changes_of_the_spec_and_of_nothing_else() {
    let api = ApiClient::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {
            "metadata": { "labels": { "a": "b" } },
            "spec": { "containers": [{ "name": "c", "image": "redis" }] },
        } },
    });
    api.post(deployments, &deployment).await.ok();
    let path = format!("{deployments}/d");
    for (path, patch, generation) in [
        (path.clone(), json!({ "metadata": { "labels": { "x": "y" } } }), 1),
        (format!("{path}/status"), json!({ "status": { "replicas": 2 } }), 1),
        (path.clone(), json!({ "spec": { "replicas": 4 } }), 2),
        (path.clone(), json!({ "spec": { "replicas": 4 } }), 2),
        (format!("{path}/scale"), json!({ "spec": { "replicas": 5 } }), 3),
        (path.clone(), json!({ "metadata": { "generation": 99 } }), 3),
        (
            format!("{path}/status"),
            json!({ "spec": { "replicas": 9 }, "metadata": { "generation": 99 } }),
            3,
        ),
    ] {
        api.merge(&path, &patch).await.ok();
        let now = api.get(&format!("{deployments}/d")).await.ok();
        assert_eq!(now["metadata"]["generation"], generation, "{path} {patch}");
    }
    // What changes nothing is not written.
    let before = api.get(&path).await.ok()["metadata"]["resourceVersion"].clone();
    let same = api.merge(&path, &json!({ "spec": { "replicas": 5 } })).await.ok();
    assert_eq!(same["metadata"]["resourceVersion"], before);
    api.close().await;
}

/// `note:` with nothing behind it in a manifest is an empty note, as Go's decoder has it.
#[tokio::test(flavor = "multi_thread")]
async fn nulls_in_maps_and_lists_are_empty_values() {
    let api = ApiClient::start().await;
    let yaml = "metadata:\n  name: a\n  annotations:\n    note:\ndata:\n  k:\n  l: bA==\n";
    let media = ("content-type", "application/yaml");
    let made = api.send(Method::POST, SECRETS, &[media], yaml).await.ok();
    assert_eq!(made["metadata"]["annotations"], json!({ "note": "" }));
    assert_eq!(made["data"], json!({ "k": "", "l": "bA==" }));
    let path = format!("{SECRETS}/a");
    let patch = json!([{ "op": "add", "path": "/metadata/annotations/other", "value": null }]);
    let media = ("content-type", "application/json-patch+json");
    let patched = api.send(Method::PATCH, &path, &[media], patch.to_string()).await.ok();
    assert_eq!(patched["metadata"]["annotations"], json!({ "note": "", "other": "" }));
    let applied = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a", "labels": { "x": null } },
    });
    let applied = api.apply(&format!("{path}?fieldManager=m"), &applied).await.ok();
    assert_eq!(applied["metadata"]["labels"], json!({ "x": "" }));
    api.close().await;
}

/// What people meet most: a number where text belongs. The words are Go's.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_the_wrong_type_is_reported_with_its_field() {
    let api = ApiClient::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let container = |more: Value| {
        let mut container = json!({ "name": "c", "image": "redis" });
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "metadata": { "name": "p" }, "spec": { "containers": [container] } })
    };
    for (object, why) in [
        (
            container(json!({ "env": [{ "name": "A", "value": 5 }] })),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            container(json!({ "ports": [{ "containerPort": "80" }] })),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            container(json!({ "args": "x" })),
            "json: cannot unmarshal string into Go struct field Container.spec.containers.args of type []string",
        ),
        (
            json!({ "metadata": { "name": "p", "labels": { "a": 1 } } }),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
    ] {
        let message = format!("Pod in version \"v1\" cannot be handled as a Pod: {why}");
        let refused = api.post(pods, &object).await;
        assert_eq!(refused.refusal(), (400, "BadRequest".into(), message), "{object}");
    }
    let deployment = json!({ "metadata": { "name": "d" }, "spec": { "replicas": "3" } });
    let refused = api.post("/apis/apps/v1/namespaces/default/deployments", &deployment).await;
    assert_eq!(
        refused.refusal().2,
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_bound_once() {
    let api = ApiClient::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "redis" }] } });
    api.post(pods, &pod).await.ok();
    let bind = |name: &str, node: &str, kind: &str| json!({ "metadata": { "name": name, "annotations": { "a": "b" } }, "target": { "kind": kind, "name": node } });
    let path = format!("{pods}/p/binding");
    for (binding, code, message) in [
        (bind("q", "n1", "Node"), 400, "name in URL does not match name in Binding object"),
        (bind("p", "", "Node"), 422, "Binding \"p\" is invalid: target.name: Required value"),
        (
            bind("p", "n1", "Rack"),
            422,
            "Binding \"p\" is invalid: target.kind: Unsupported value: \"Rack\": supported values: \"Node\", \"<empty>\"",
        ),
    ] {
        let refused = api.post(&path, &binding).await.refusal();
        assert_eq!((refused.0, &*refused.2), (code, message));
    }
    assert_eq!(api.post(&path, &bind("p", "n1", "Node")).await.status, 201);
    let bound = api.get(&format!("{pods}/p")).await.ok();
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["a"]),
        (&json!("n1"), &json!("b"))
    );
    let again = api.post(&path, &bind("p", "n2", "Node")).await;
    let message = "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\"";
    assert_eq!(again.refusal(), (409, "Conflict".into(), message.into()));
    api.close().await;
}

/// A zero value that Go would leave out changes nothing: kubectl, helm and Terraform write such zeros, and
/// a Deployment must not roll out for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_zero_that_is_spelled_out_changes_nothing() {
    let api = ApiClient::start().await;
    let template = |spec: Value| json!({ "metadata": { "labels": { "a": "b" } }, "spec": spec });
    let deployment = |spec: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
            "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": template(spec) },
        })
    };
    let plain = json!({ "containers": [{
        "name": "c", "image": "i", "env": [{ "name": "A" }], "securityContext": {},
    }] });
    let spelled = json!({
        "hostNetwork": false, "nodeSelector": {}, "nodeName": "", "volumes": [],
        "containers": [{
            "name": "c", "image": "i", "env": [{ "name": "A", "value": "" }], "stdin": false,
            "workingDir": "", "command": [], "securityContext": {}, "envFrom": [],
        }],
    });
    let all = "/apis/apps/v1/namespaces/default/deployments";
    let made = api.post(all, &deployment(plain)).await.ok();
    let put = api.put(&format!("{all}/d"), &deployment(spelled)).await.ok();
    assert_eq!(put["metadata"]["generation"], 1, "{put}");
    assert_eq!(put["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(put["spec"], made["spec"]);

    // A zero of a pointer field differs from an absent one.
    let mut loud = made["spec"]["template"]["spec"].clone();
    loud["automountServiceAccountToken"] = json!(false);
    let put = api.put(&format!("{all}/d"), &deployment(loud)).await.ok();
    assert_eq!(put["metadata"]["generation"], 2);
    assert_eq!(put["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
    api.close().await;
}
