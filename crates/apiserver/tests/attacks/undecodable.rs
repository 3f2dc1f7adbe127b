//! Objects that could be stored and not be read again, by the server or by its clients.

use coffer_store::{Store as _, Value as Stored};
use coffer_testkit::Attacks;
use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Preconditions};
use serde_json::{Value, json};

use crate::sizes::{JSON, send};
use crate::support::TestServer;

const YAML: &str = "application/yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
/// Decoded as a time, and written as one that nothing decodes.
const BEFORE_YEAR_0: &str = "-000001-01-01T00:00:00Z";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const EVENTS: &str = "/api/v1/namespaces/default/events";
const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn lease(name: &str, time: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name },
        "spec": { "holderIdentity": "a", "renewTime": time },
    })
}

fn event(name: &str, time: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default" },
        "involvedObject": { "namespace": "default" }, "firstTimestamp": time,
    })
}

fn pod(name: &str) -> Value {
    json!({ "metadata": { "name": name },
            "spec": { "containers": [{ "name": "c", "image": "i" }] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_is_stored_that_cannot_be_read_again() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let good = "2026-01-01T00:00:00.000000Z";
    for (path, object) in [(LEASES, lease("l", good)), (PODS, pod("p"))] {
        let (code, made) = send(&client, Method::POST, path, JSON, object.to_string()).await;
        assert_eq!(code, 201, "{made}");
    }
    let one = format!("{LEASES}/l");
    let (_, mut put) = send(&client, Method::GET, &one, JSON, String::new()).await;
    put["spec"]["renewTime"] = BEFORE_YEAR_0.into();
    let merge = json!({ "spec": { "acquireTime": BEFORE_YEAR_0 } });
    // A document without apiVersion and kind is decoded all the same.
    let nameless = json!({ "apiVersion": null, "kind": null, "spec": merge["spec"] });
    let operation = json!([{ "op": "add", "path": "/spec/renewTime", "value": BEFORE_YEAR_0 }]);
    let condition =
        json!({ "type": "Ready", "status": "True", "lastTransitionTime": BEFORE_YEAR_0 });
    let status = json!({ "status": { "conditions": [condition], "startTime": BEFORE_YEAR_0 } });
    let managers = json!({ "metadata": { "managedFields": [{ "manager": "m", "time": BEFORE_YEAR_0,
        "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {} }] } });
    let series = json!({ "metadata": { "name": "s" }, "eventTime": BEFORE_YEAR_0 });
    let series_events = EVENTS.replace("/api/v1", "/apis/events.k8s.io/v1");
    let offset = "0000-01-01T00:00:00+00:01";
    let apply = format!("{one}?fieldManager=a&force=true");
    let mut attacks = Attacks::group("times that cannot be read again");
    for (what, method, path, media, body) in [
        ("create", Method::POST, LEASES, JSON, lease("n", BEFORE_YEAR_0)),
        ("create, by an offset", Method::POST, LEASES, JSON, lease("n", offset)),
        ("create from YAML", Method::POST, LEASES, YAML, lease("n", BEFORE_YEAR_0)),
        ("an event", Method::POST, EVENTS, JSON, event("e", BEFORE_YEAR_0)),
        ("an event of a series", Method::POST, &series_events, JSON, series),
        ("update", Method::PUT, &one, JSON, put),
        ("merge patch", Method::PATCH, &one, MERGE, merge.clone()),
        ("merge patch to no kind", Method::PATCH, &one, MERGE, nameless),
        ("strategic merge patch", Method::PATCH, &one, STRATEGIC, merge),
        ("JSON patch", Method::PATCH, &one, JSON_PATCH, operation),
        ("apply", Method::PATCH, &apply, APPLY, lease("l", BEFORE_YEAR_0)),
        ("status", Method::PATCH, &format!("{PODS}/p/status"), STRATEGIC, status.clone()),
        ("status by merge", Method::PATCH, &format!("{PODS}/p/status"), MERGE, status),
        ("managedFields", Method::PATCH, &one, MERGE, managers),
    ] {
        let (code, seen) = send(&client, method, path, media, body.to_string()).await;
        let message = seen["message"].as_str().unwrap_or_default();
        let is_refused = matches!(code, 400 | 422)
            && message.contains("parsing time as \"2006-01-02T15:04:05")
            && !message.contains("000001");
        attacks.attempt(what, is_refused, (code, &seen));
    }
    attacks.finish();
    for (path, count) in [(LEASES, 1), (EVENTS, 0), (PODS, 1)] {
        let (code, list) = send(&client, Method::GET, path, JSON, String::new()).await;
        assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(count)), "{path}");
    }
    assert_eq!(send(&client, Method::DELETE, &one, JSON, String::new()).await.0, 200);
}

/// Fields within fields, as the text of a list of managers.
fn managers(depth: usize) -> String {
    let fields = "{\"f:a\":".repeat(depth - 1) + "{}" + &"}".repeat(depth - 1);
    format!(
        r#"[{{"manager":"m","operation":"Update","apiVersion":"v9","fieldsType":"FieldsV1","fieldsV1":{fields}}}]"#
    )
}

/// How deep an object may be nested.
const NESTING_MAX: usize = 48;

fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(nesting).max().unwrap_or(0),
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_object_is_stored_that_is_nested_more_deeply_than_clients_read() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let map = |name: &str, depth| {
        let managers = managers(depth);
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","managedFields":{managers}}}}}"#
        )
    };
    let (code, made) = send(&client, Method::POST, MAPS, JSON, map("m", 20)).await;
    assert_eq!(code, 201, "{made}");
    let is_kept = made["metadata"]["managedFields"].to_string().contains("v9");
    assert!(is_kept, "what other versions own is kept: {made}");
    let deployment = |name: &str, depth| {
        let managers = managers(depth);
        let labels = r#""labels":{"app":"a"}"#;
        format!(
            r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"{name}"}},"spec":{{"selector":{{"matchLabels":{{"app":"a"}}}},"template":{{"metadata":{{{labels},"managedFields":{managers}}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}}}}}"#
        )
    };
    let made = send(&client, Method::POST, DEPLOYMENTS, JSON, deployment("d", 20)).await;
    assert_eq!(made.0, 201, "{}", made.1);

    let one = format!("{MAPS}/m");
    let merge = |depth| format!(r#"{{"metadata":{{"managedFields":{}}}}}"#, managers(depth));
    let operation = |depth| {
        let value = managers(depth);
        format!(r#"[{{"op":"replace","path":"/metadata/managedFields","value":{value}}}]"#)
    };
    let template = |depth| {
        let managers = managers(depth);
        format!(r#"{{"spec":{{"template":{{"metadata":{{"managedFields":{managers}}}}}}}}}"#)
    };
    let rollout = format!("{DEPLOYMENTS}/d");
    let apply = format!("{DEPLOYMENTS}/d?fieldManager=a&force=true");
    let mut attacks = Attacks::group("objects nested more deeply than clients read");
    // A level of the object and of its metadata less for each alias than for what it stands for.
    let aliases = (1..8).fold(String::from("a0: &a0 {}\n"), |text, at| {
        let inner =
            (0..20).fold(format!("*a{}", at - 1), |inner, _| format!("{{\"f:a\": {inner}}}"));
        text + &format!("a{at}: &a{at} {inner}\n")
    });
    let aliased = format!(
        "{aliases}metadata:\n  name: d\n  managedFields: [{{manager: m, operation: Update, apiVersion: v9, fieldsType: FieldsV1, fieldsV1: *a7}}]\n"
    );
    let deep = "exceeded max depth";
    for (what, method, path, media, body, refused) in [
        ("create", Method::POST, MAPS, JSON, map("a", 120), None),
        ("create, just too deep", Method::POST, MAPS, JSON, map("b", 41), None),
        ("create from YAML", Method::POST, MAPS, YAML, map("c", 44), None),
        ("create from deeper YAML", Method::POST, MAPS, YAML, map("d", 400), Some("yaml")),
        ("create from YAML with aliases", Method::POST, MAPS, YAML, aliased, Some("yaml")),
        ("update", Method::PUT, &one, JSON, map("m", 120), None),
        ("update from YAML", Method::PUT, &one, YAML, map("m", 44), None),
        ("merge patch", Method::PATCH, &one, MERGE, merge(120), None),
        ("strategic merge patch", Method::PATCH, &one, STRATEGIC, merge(120), None),
        ("JSON patch", Method::PATCH, &one, JSON_PATCH, operation(100), None),
        ("a template", Method::POST, DEPLOYMENTS, JSON, deployment("e", 115), Some(deep)),
        (
            "a template from YAML",
            Method::POST,
            DEPLOYMENTS,
            YAML,
            deployment("e", 43),
            Some("yaml"),
        ),
        ("a template, merged", Method::PATCH, &rollout, MERGE, template(115), Some(deep)),
        ("a template, applied", Method::PATCH, &apply, APPLY, deployment("d", 43), Some("yaml")),
    ] {
        let (code, seen) = send(&client, method, path, media, body).await;
        let message = seen["message"].as_str().unwrap_or_default();
        let as_wanted = match refused {
            Some(why) => matches!(code, 400 | 422) && message.contains(why),
            None => code < 300 && seen.is_object() && nesting(&seen) <= NESTING_MAX,
        };
        attacks.attempt(what, as_wanted, (code, &seen));
    }
    // These read no more than 128 levels, the list's among them.
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let listed = maps.list(&ListParams::default()).await;
    attacks.attempt("a list", listed.as_ref().is_ok_and(|it| it.items.len() > 3), &listed);
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let listed = deployments.list(&ListParams::default()).await;
    attacks.attempt("a list with templates", listed.is_ok(), &listed);
    attacks.finish();
    for name in ["a", "b", "c", "m"] {
        let (code, _) =
            send(&client, Method::DELETE, &format!("{MAPS}/{name}"), JSON, String::new()).await;
        assert_eq!(code, 200, "{name}");
    }
}

/// An object that an earlier release accepted, or that was written past the server, prevents neither the server
/// from starting nor others from being read, and a user with the right to delete it can do so.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_object_that_cannot_be_decoded_can_be_deleted_and_stops_nothing() {
    let server = TestServer::start().await;
    let poison = |kind: &str, version: &str, name: &str, rest: Value| {
        let meta = json!({ "name": name, "namespace": "default", "uid": format!("uid-{name}"),
                           "finalizers": ["example.com/held"] });
        let mut object = json!({ "apiVersion": version, "kind": kind, "metadata": meta });
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object.to_string().into_bytes()
    };
    let broken = "-001-01-01T00:00:00Z";
    let status = json!({ "status": { "startTime": broken } });
    let spec = json!({ "spec": { "renewTime": broken } });
    for (key, bytes) in [
        ("pods/default/early", poison("Pod", "v1", "early", status)),
        ("leases/default/early", poison("Lease", "coordination.k8s.io/v1", "early", spec)),
        ("configmaps/default/garbage", b"\xff\x00 hunter2".to_vec()),
        ("configmaps/default/other", b"[]".to_vec()),
    ] {
        server.store().create(&format!("/registry/{key}"), Stored::new(bytes)).await.unwrap();
    }
    // Where they come while the server runs, and where they are there when it starts.
    check_served(&server).await;
    let server = TestServer::start_in(server.stop().await).await;
    check_served(&server).await;

    let client = server.admin().await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let other = Preconditions { uid: Some("other".into()), resource_version: None };
    let params = DeleteParams::default().preconditions(other);
    let refused = pods.delete("early", &params).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 409), "{refused}");
    let stranger = server.client("stranger", &[]).await;
    let refused = Api::<Pod>::default_namespaced(stranger)
        .delete("early", &DeleteParams::default())
        .await
        .unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    pods.delete("early", &DeleteParams::default().dry_run()).await.unwrap();
    let seen = pods.get("early").await.unwrap_err();
    assert!(matches!(&seen, kube::Error::Api(status) if status.code == 500), "{seen}");
    let own = Preconditions { uid: Some("uid-early".into()), resource_version: None };
    pods.delete("early", &DeleteParams::default().preconditions(own)).await.unwrap();
    let seen = pods.get("early").await.unwrap_err();
    assert!(matches!(&seen, kube::Error::Api(status) if status.code == 404), "{seen}");
    for path in [LEASES, MAPS] {
        let (code, seen) = send(&client, Method::DELETE, path, JSON, String::new()).await;
        assert_eq!(code, 200, "{seen}");
    }
    for prefix in ["/registry/leases/default/", "/registry/configmaps/default/", "/registry/pods/"]
    {
        let left = server.store().list(prefix, Default::default()).await.unwrap();
        let left: Vec<_> = left.items.iter().map(|item| item.key.clone()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let leases = Api::<Lease>::default_namespaced(client);
    assert!(leases.list(&ListParams::default()).await.unwrap().items.is_empty());
}

/// Others are listed, and what cannot be decoded is known by its name.
async fn check_served(server: &TestServer) {
    let client = server.admin().await;
    let name = format!("good-{}", server.address.port());
    let (code, made) = send(&client, Method::POST, PODS, JSON, pod(&name).to_string()).await;
    assert_eq!(code, 201, "{made}");
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let listed = pods.list(&ListParams::default()).await.unwrap();
    let names = |it: &Pod| it.metadata.name.clone().unwrap();
    let listed: Vec<_> = listed.items.iter().map(names).collect();
    assert_eq!(listed, std::slice::from_ref(&name));
    let metadata = pods.list_metadata(&ListParams::default()).await.unwrap();
    let found: Vec<_> = metadata.items.iter().map(|it| it.metadata.uid.clone().unwrap()).collect();
    assert!(found.contains(&"uid-early".to_owned()) && found.len() == 2, "{found:?}");
    let early = pods.get_metadata("early").await.unwrap().metadata;
    assert_eq!((early.name.as_deref(), early.uid.as_deref()), (Some("early"), Some("uid-early")));
    let (code, status) =
        send(&client, Method::GET, &format!("{PODS}/early"), JSON, String::new()).await;
    let message = status["message"].as_str().unwrap_or_default();
    let wanted = "Internal error occurred: StorageError: corrupt object, Code: 7, Key: /registry/pods/default/early, ResourceVersion: 0, AdditionalErrorMsg: object not decodable";
    assert_eq!((code, message), (500, wanted));
    let table = client_table(&client).await;
    assert_eq!(table, 1);
    for garbage in ["garbage", "other"] {
        let (code, status) =
            send(&client, Method::GET, &format!("{MAPS}/{garbage}"), JSON, String::new()).await;
        assert_eq!(code, 500, "{status}");
        assert!(!status.to_string().contains("hunter2"), "{status}");
    }
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
}

/// The rows of a Table of all pods.
async fn client_table(client: &kube::Client) -> usize {
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let request = http::Request::get(PODS).header("accept", accept).body(Vec::new()).unwrap();
    let table: Value = client.request(request).await.unwrap();
    table["rows"].as_array().map_or(0, Vec::len)
}
