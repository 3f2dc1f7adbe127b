//! DELETE: finalizers, grace periods of pods, and what each endpoint returns.

use http::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, JSON, Response};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn map(name: &str, finalizers: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "finalizers": finalizers },
    })
}

async fn delete_with(api: &ApiClient, path: &str, options: &Value) -> Response {
    api.send(Method::DELETE, path, &[JSON], options.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_returns_a_status_or_the_object_by_kind() {
    let api = ApiClient::start().await;
    let uid = api.post(MAPS, &map("a", &[])).await.ok()["metadata"]["uid"].clone();
    let deleted = api.delete(&format!("{MAPS}/a")).await.ok();
    assert_eq!(
        deleted,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": { "name": "a", "kind": "configmaps", "uid": uid },
        })
    );
    let again = api.delete(&format!("{MAPS}/a")).await.refusal();
    assert_eq!(again, (404, "NotFound".into(), "configmaps \"a\" not found".into()));
    for (plural, kind) in
        [("serviceaccounts", "ServiceAccount"), ("resourcequotas", "ResourceQuota")]
    {
        let object = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "x" } });
        let collection = format!("/api/v1/namespaces/default/{plural}");
        api.post(&collection, &object).await.ok();
        let deleted = api.delete(&format!("{collection}/x")).await.ok();
        assert_eq!(deleted["kind"], kind);
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_protect_objects_that_were_changed_or_recreated() {
    let api = ApiClient::start().await;
    let path = format!("{MAPS}/a");
    let made = api.post(MAPS, &map("a", &[])).await.ok();
    let (uid, version) = (
        made["metadata"]["uid"].as_str().unwrap(),
        made["metadata"]["resourceVersion"].as_str().unwrap(),
    );
    for (preconditions, message) in [
        (
            json!({ "uid": "other" }),
            format!(
                "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            ),
        ),
        (
            json!({ "resourceVersion": "1" }),
            format!(
                "Operation cannot be fulfilled on ConfigMap \"a\": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record ({version}). The object might have been modified"
            ),
        ),
    ] {
        let options =
            json!({ "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions });
        let refused = delete_with(&api, &path, &options).await;
        assert_eq!(refused.refusal(), (409, "Conflict".into(), message));
    }
    let right = json!({ "preconditions": { "uid": uid, "resourceVersion": version } });
    delete_with(&api, &path, &right).await.ok();
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_options_are_refused_with_upstreams_messages() {
    let api = ApiClient::start().await;
    api.post(MAPS, &map("a", &[])).await.ok();
    let path = format!("{MAPS}/a");
    let invalid = |why: &str| {
        (422, "Invalid".to_owned(), format!("DeleteOptions.meta.k8s.io \"\" is invalid: {why}"))
    };
    for (options, refusal) in [
        (
            json!({ "propagationPolicy": "Sideways" }),
            invalid(
                "propagationPolicy: Unsupported value: \"Sideways\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
            ),
        ),
        (
            json!({ "propagationPolicy": "Orphan", "orphanDependents": true }),
            invalid(
                "propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
            ),
        ),
        (
            json!({ "dryRun": ["Some"] }),
            invalid("dryRun: Unsupported value: \"Some\": supported values: \"All\""),
        ),
        (
            json!({ "gracePeriodSeconds": "x" }),
            (
                400,
                "BadRequest".to_owned(),
                "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64".to_owned(),
            ),
        ),
        (
            json!({ "kind": "ConfigMap", "apiVersion": "v1" }),
            (
                400,
                "BadRequest".to_owned(),
                "decoded object cannot be converted to DeleteOptions".to_owned(),
            ),
        ),
    ] {
        assert_eq!(delete_with(&api, &path, &options).await.refusal(), refusal, "{options}");
    }
    let policy = format!("{path}?propagationPolicy=Sideways");
    assert_eq!(api.delete(&policy).await.status, 422);
    let period = format!("{path}?gracePeriodSeconds=soon");
    assert_eq!(
        api.delete(&period).await.refusal().2,
        "strconv.ParseInt: parsing \"soon\": invalid syntax"
    );
    // Any group's options will do, as it was before there was one kind of them.
    let old = json!({ "kind": "DeleteOptions", "apiVersion": "apps/v1" });
    delete_with(&api, &path, &old).await.ok();
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_hold_an_object_until_the_last_is_taken_away() {
    let api = ApiClient::start().await;
    let path = format!("{MAPS}/a");
    api.post(MAPS, &map("a", &["example.com/one", "example.com/two"])).await.ok();
    let going = api.delete(&path).await.ok();
    assert_eq!(going["kind"], "ConfigMap");
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let again = api.delete(&path).await.ok();
    assert_eq!(
        again["metadata"]["resourceVersion"], going["metadata"]["resourceVersion"],
        "nothing new"
    );

    let taken = api.post(MAPS, &map("a", &[])).await.refusal();
    assert_eq!(taken.2, "object is being deleted: configmaps \"a\" already exists");
    let more = json!({ "metadata": { "finalizers": ["example.com/one", "example.com/three"] } });
    let refused = api.merge(&path, &more).await.refusal();
    assert_eq!(
        refused.2,
        "ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"example.com/three\"}"
    );
    // What is going can still be changed, and nothing brings it back.
    let kept = json!({ "metadata": { "finalizers": ["example.com/one"], "deletionTimestamp": null }, "data": { "a": "b" } });
    let changed = api.merge(&path, &kept).await.ok();
    assert!(changed["metadata"]["deletionTimestamp"].is_string());
    let last = api.merge(&path, &json!({ "metadata": { "finalizers": null } })).await.ok();
    assert_eq!(last["kind"], "ConfigMap");
    assert_eq!(api.get(&path).await.status, 404);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_propagation_policy_becomes_a_finalizer_for_the_collector() {
    let api = ApiClient::start().await;
    let path = format!("{MAPS}/a");
    let (orphan, foreground) = (json!(["orphan"]), json!(["foregroundDeletion"]));
    for (options, code, finalizers) in [
        (json!({ "propagationPolicy": "Orphan" }), 200, Some(&orphan)),
        (json!({ "propagationPolicy": "Foreground" }), 200, Some(&foreground)),
        (json!({ "propagationPolicy": "Background" }), 200, None),
        (json!({ "orphanDependents": true }), 200, Some(&orphan)),
        (json!({ "orphanDependents": false }), 200, None),
        (json!({}), 200, None),
    ] {
        api.post(MAPS, &map("a", &[])).await.ok();
        let deleted = delete_with(&api, &path, &options).await;
        assert_eq!(deleted.status.as_u16(), code, "{options}");
        let response = deleted.ok();
        match finalizers {
            Some(finalizers) => {
                assert_eq!(&response["metadata"]["finalizers"], finalizers, "{options}");
                // A later deletion changes the policy of an earlier one while the object waits.
                delete_with(&api, &path, &json!({ "propagationPolicy": "Background" })).await.ok();
            }
            None => assert_eq!(response["kind"], "Status", "{options}"),
        }
        assert_eq!(api.get(&path).await.status, 404, "{options}");
    }
    api.post(MAPS, &map("a", &["example.com/held"])).await.ok();
    let accepted = delete_with(&api, &path, &json!({ "orphanDependents": false })).await;
    assert_eq!(accepted.status, 202, "upstream says so to who asks in the old words");
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    let controller = json!({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": { "name": "rc" },
        "spec": { "selector": { "a": "b" }, "template": {
            "metadata": { "labels": { "a": "b" } },
            "spec": { "containers": [{ "name": "c", "image": "redis" }] },
        } },
    });
    api.post(controllers, &controller).await.ok();
    let old = api.delete(&format!("{controllers}/rc")).await.ok();
    assert_eq!(old["metadata"]["finalizers"], orphan, "core/v1 is older than the collector");
    api.close().await;
}

fn pod(name: &str, node: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "redis" }] },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_pod_gets_its_grace_period_which_can_only_be_shortened() {
    let api = ApiClient::start().await;
    let path = format!("{PODS}/p");
    let period = |object: &Value| object["metadata"]["deletionGracePeriodSeconds"].clone();
    api.post(PODS, &pod("p", Some("n1"))).await.ok();
    let first = api.delete(&path).await.ok();
    assert_eq!(period(&first), 30, "the pod's own");
    assert_eq!(first["metadata"]["generation"], 2);
    for (query, wanted) in [
        ("", 30),
        ("gracePeriodSeconds=60", 30),
        ("gracePeriodSeconds=20", 20),
        ("gracePeriodSeconds=-1", 1),
        ("propagationPolicy=Orphan", 1),
    ] {
        let next = api.delete(&format!("{path}?{query}")).await.ok();
        assert_eq!(period(&next), wanted, "{query}");
        assert!(next["metadata"]["finalizers"].is_null(), "too late for a policy");
    }
    let forced = api.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
    assert_eq!(forced["kind"], "Pod");
    assert_eq!(api.get(&path).await.status, 404);
    for (name, node, phase) in
        [("unscheduled", None, None), ("done", Some("n1"), Some("Succeeded"))]
    {
        let path = format!("{PODS}/{name}");
        api.post(PODS, &pod(name, node)).await.ok();
        if let Some(phase) = phase {
            api.merge(&format!("{path}/status"), &json!({ "status": { "phase": phase } }))
                .await
                .ok();
        }
        api.delete(&path).await.ok();
        assert_eq!(api.get(&path).await.status, 404, "{name} needs no time");
    }
    let held = format!("{PODS}/held");
    let mut object = pod("held", Some("n1"));
    object["metadata"]["finalizers"] = json!(["example.com/held"]);
    api.post(PODS, &object).await.ok();
    let forced = api.delete(&format!("{held}?gracePeriodSeconds=0")).await.ok();
    assert_eq!(period(&forced), 0);
    api.merge(&held, &json!({ "metadata": { "finalizers": null } })).await.ok();
    assert_eq!(api.get(&held).await.status, 404);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_deletes_the_pod_with_the_reason_in_a_condition() {
    let api = ApiClient::start().await;
    api.post(PODS, &pod("p", Some("n1"))).await.ok();
    let eviction = |name: &str, options: Value| json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name }, "deleteOptions": options });
    let path = format!("{PODS}/p/eviction");
    let other = api.post(&path, &eviction("q", json!({}))).await.refusal();
    assert_eq!(other.2, "name in URL does not match name in Eviction object");
    let dry = api.post(&path, &eviction("p", json!({ "dryRun": ["All"] }))).await;
    assert_eq!(dry.status, 201);
    assert!(api.get(&format!("{PODS}/p")).await.ok()["metadata"]["deletionTimestamp"].is_null());
    let evicted = api.post(&path, &eviction("p", json!({ "gracePeriodSeconds": 5 }))).await;
    assert_eq!((evicted.status.as_u16(), &evicted.json()["status"]), (201, &json!("Success")));
    let going = api.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 5);
    let conditions = going["status"]["conditions"].as_array().unwrap();
    let why = conditions.iter().find(|it| it["type"] == "DisruptionTarget").unwrap();
    assert_eq!(why["reason"], "EvictionByEvictionAPI");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminating_namespace_accepts_no_objects_and_waits_for_its_finalizer() {
    let api = ApiClient::start().await;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
    api.post("/api/v1/namespaces", &namespace).await.ok();
    api.post("/api/v1/namespaces/n/configmaps", &map("kept", &[])).await.ok();
    let going = api.delete("/api/v1/namespaces/n").await.ok();
    assert_eq!(going["status"]["phase"], "Terminating");
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    assert!(going["metadata"]["deletionGracePeriodSeconds"].is_null(), "it waits for no time");
    let refused = api.post("/api/v1/namespaces/n/configmaps", &map("new", &[])).await;
    assert_eq!(
        refused.refusal(),
        (403, "Forbidden".into(), "configmaps \"new\" is forbidden: unable to create new content in namespace n because it is being terminated".into())
    );
    assert_eq!(refused.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    api.merge("/api/v1/namespaces/n/configmaps/kept", &json!({ "data": { "a": "b" } })).await.ok();
    let mut last = api.get("/api/v1/namespaces/n").await.ok();
    last["spec"]["finalizers"] = json!([]);
    api.put("/api/v1/namespaces/n/finalize", &last).await.ok();
    assert_eq!(api.get("/api/v1/namespaces/n").await.status, 404);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_deleted_by_selector_and_page_and_dry() {
    let api = ApiClient::start().await;
    for at in 0..6 {
        let mut object = map(&format!("m{at}"), &[]);
        object["metadata"]["labels"] = json!({ "parity": (at % 2).to_string() });
        api.post(MAPS, &object).await.ok();
    }
    let left = async || api.get(MAPS).await.ok()["items"].as_array().unwrap().len();
    for (query, returned, remain) in [
        ("dryRun=All", 6, 6),
        ("labelSelector=parity%3D1", 3, 3),
        ("limit=2", 2, 1),
        ("fieldSelector=metadata.name%3Dnone", 0, 1),
        ("", 1, 0),
    ] {
        let list = api.delete(&format!("{MAPS}?{query}")).await.ok();
        assert_eq!(list["kind"], "ConfigMapList");
        assert_eq!(
            (list["items"].as_array().unwrap().len(), left().await),
            (returned, remain),
            "{query}"
        );
    }
    api.close().await;
}
