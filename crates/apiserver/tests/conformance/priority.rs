//! PriorityClass: what pods get of one, and the classes that every cluster has.

use serde_json::{Value, json};

use crate::client::ApiClient;

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, class: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": { "priorityClassName": class, "containers": [{ "name": "c", "image": "i" }] } })
}

fn class(name: &str, value: i32) -> Value {
    json!({ "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": { "name": name }, "value": value })
}

/// Class, priority and policy.
fn priority(pod: &Value) -> [Value; 3] {
    ["priorityClassName", "priority", "preemptionPolicy"].map(|field| pod["spec"][field].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_the_priority_of_their_class_or_of_the_default() {
    let api = ApiClient::start().await;
    let lower = json!("PreemptLowerPriority");
    let made = api.post(PODS, &pod("none", "")).await.ok();
    assert_eq!(priority(&made), [Value::Null, json!(0), lower.clone()]);
    let made = api.post(PODS, &pod("critical", "system-node-critical")).await.ok();
    assert_eq!(
        priority(&made),
        [json!("system-node-critical"), json!(2_000_001_000), lower.clone()]
    );
    let refused = api.post(PODS, &pod("high", "high")).await;
    let message = "pods \"high\" is forbidden: no PriorityClass with name high was found";
    assert_eq!(refused.refusal(), (403, "Forbidden".to_owned(), message.to_owned()));

    // From the moment that a class is created.
    let mut high = class("high", 1000);
    high["preemptionPolicy"] = json!("Never");
    let created = api.post(CLASSES, &high).await.ok();
    assert_eq!(
        (&created["metadata"]["generation"], &created["preemptionPolicy"]),
        (&json!(1), &json!("Never"))
    );
    let made = api.post(PODS, &pod("high", "high")).await.ok();
    assert_eq!(priority(&made), [json!("high"), json!(1000), json!("Never")]);
    let mut usual = class("usual", -5);
    usual["globalDefault"] = json!(true);
    api.post(CLASSES, &usual).await.ok();
    let made = api.post(PODS, &pod("usual", "")).await.ok();
    assert_eq!(priority(&made), [json!("usual"), json!(-5), lower]);
    // And until it is deleted; pods keep what they got.
    api.delete(&format!("{CLASSES}/high")).await.ok();
    assert_eq!(api.post(PODS, &pod("late", "high")).await.status, 403);
    assert_eq!(priority(&api.get(&format!("{PODS}/high")).await.ok())[1], json!(1000));
    api.delete(&format!("{CLASSES}/usual")).await.ok();
    let made = api.post(PODS, &pod("after", "")).await.ok();
    assert_eq!(priority(&made)[1], json!(0));
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cluster_has_the_system_classes_and_lists_them_by_their_short_name() {
    let api = ApiClient::start().await;
    let list = api.get(CLASSES).await.ok();
    let found: Vec<(&str, i64)> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| {
            (class["metadata"]["name"].as_str().unwrap(), class["value"].as_i64().unwrap())
        })
        .collect();
    let expected =
        [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
    assert_eq!(found, expected);
    let resources = api.get("/apis/scheduling.k8s.io/v1").await.ok();
    let resource = &resources["resources"][0];
    assert_eq!((&resource["shortNames"], &resource["namespaced"]), (&json!(["pc"]), &json!(false)));
    api.close().await;
}
