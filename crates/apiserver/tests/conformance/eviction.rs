//! Evictions under disruption budgets: what the budgets' status allows, and how an eviction changes it.
//! There is no controller here; the tests write the status.

use serde_json::{Value, json};

use crate::client::{ApiClient, Response};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// A pod with the label `app: web`, in a phase and ready or not.
async fn pod(api: &ApiClient, name: &str, phase: &str, ready: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "web" } },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "redis" }] },
    });
    api.post(PODS, &pod).await.ok();
    let status = json!({ "status": { "phase": phase,
        "conditions": [{ "type": "Ready", "status": ready }] } });
    api.merge(&format!("{PODS}/{name}/status"), &status).await.ok();
}

/// A budget for those pods, with the status of a controller that has counted them.
async fn budget(api: &ApiClient, name: &str, spec: Value, status: Value) {
    let mut spec = spec;
    spec["selector"] = json!({ "matchLabels": { "app": "web" } });
    let budget = json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": name }, "spec": spec });
    api.post(BUDGETS, &budget).await.ok();
    api.merge(&format!("{BUDGETS}/{name}/status"), &json!({ "status": status })).await.ok();
}

fn allows(number: i32) -> Value {
    json!({ "observedGeneration": 1, "disruptionsAllowed": number, "currentHealthy": 2 + number,
        "desiredHealthy": 2, "expectedPods": 3 })
}

async fn evict(api: &ApiClient, name: &str, options: Value) -> Response {
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": name }, "deleteOptions": options });
    api.post(&format!("{PODS}/{name}/eviction"), &eviction).await
}

async fn status(api: &ApiClient, budget: &str) -> Value {
    api.get(&format!("{BUDGETS}/{budget}")).await.ok()["status"].clone()
}

async fn is_going(api: &ApiClient, pod: &str) -> bool {
    let response = api.get(&format!("{PODS}/{pod}")).await;
    response.status == 404 || !response.ok()["metadata"]["deletionTimestamp"].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_takes_a_disruption_and_is_refused_when_none_is_left() {
    let api = ApiClient::start().await;
    pod(&api, "a", "Running", "True").await;
    pod(&api, "b", "Running", "True").await;
    budget(&api, "web", json!({ "minAvailable": 2 }), allows(1)).await;
    let dry = evict(&api, "a", json!({ "dryRun": ["All"] })).await;
    assert_eq!((dry.status.as_u16(), is_going(&api, "a").await), (201, false));
    assert_eq!(status(&api, "web").await["disruptionsAllowed"], 1, "a dry run takes none");

    evict(&api, "a", json!({})).await.ok();
    assert!(is_going(&api, "a").await);
    let left = status(&api, "web").await;
    assert_eq!(left["disruptionsAllowed"], 0);
    assert!(left["disruptedPods"]["a"].is_string(), "{left}");
    let condition = &left["conditions"][0];
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("False"), &json!("InsufficientPods"))
    );

    api.merge(&format!("{BUDGETS}/web/status"), &json!({ "status": { "currentHealthy": 2 } }))
        .await
        .ok();
    for options in [json!({}), json!({ "dryRun": ["All"] }), json!({ "gracePeriodSeconds": 0 })] {
        let refused = evict(&api, "b", options).await;
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        assert_eq!(refused.refusal(), (429, "TooManyRequests".into(), message.into()));
        assert_eq!(
            refused.json()["details"]["causes"],
            json!([{ "reason": "DisruptionBudget",
                "message": "The disruption budget web needs 2 healthy pods and has 2 currently" }])
        );
        assert_eq!(refused.header("retry-after"), "");
    }
    let left = api.get(&format!("{PODS}/b")).await.ok();
    assert!(!left["status"]["conditions"].to_string().contains("DisruptionTarget"), "{left}");
    // What is evicted already asks no budget.
    evict(&api, "a", json!({})).await.ok();
    api.close().await;
}

/// All evict concurrently; a compare-and-swap allows as many as the budget has.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_evictions_take_no_more_than_the_budget_allows() {
    const PODS_MAX: usize = 12;
    const ALLOWED: usize = 5;
    let api = ApiClient::start().await;
    for at in 0..PODS_MAX {
        pod(&api, &format!("p{at}"), "Running", "True").await;
    }
    budget(&api, "web", json!({ "minAvailable": 2 }), allows(5)).await;
    let all = (0..PODS_MAX).map(|at| {
        let api = &api;
        async move { evict(api, &format!("p{at}"), json!({})).await.status.as_u16() }
    });
    let codes = futures::future::join_all(all).await;
    let count = |code: u16| codes.iter().filter(|found| **found == code).count();
    assert_eq!((count(201), count(429)), (ALLOWED, PODS_MAX - ALLOWED), "{codes:?}");
    let mut going = 0;
    for at in 0..PODS_MAX {
        going += usize::from(is_going(&api, &format!("p{at}")).await);
    }
    let left = status(&api, "web").await;
    assert_eq!((going, &left["disruptionsAllowed"]), (ALLOWED, &json!(0)));
    assert_eq!(left["disruptedPods"].as_object().unwrap().len(), ALLOWED);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_was_not_counted_since_it_changed_lets_no_pod_go_yet() {
    let api = ApiClient::start().await;
    pod(&api, "a", "Running", "True").await;
    budget(&api, "web", json!({ "minAvailable": 1 }), allows(2)).await;
    api.merge(&format!("{BUDGETS}/web"), &json!({ "spec": { "minAvailable": 3 } })).await.ok();
    let refused = evict(&api, "a", json!({})).await;
    assert_eq!((refused.refusal().0, refused.header("retry-after")), (429, "10"));
    let cause = &refused.json()["details"]["causes"][0];
    let why = "The disruption budget web is still being processed by the server.";
    assert_eq!((&cause["reason"], &cause["message"]), (&json!("DisruptionBudget"), &json!(why)));
    assert!(!is_going(&api, "a").await);
    assert_eq!(status(&api, "web").await["disruptionsAllowed"], 2);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_two_budgets_guard_is_not_evicted() {
    let api = ApiClient::start().await;
    pod(&api, "a", "Running", "True").await;
    budget(&api, "one", json!({}), allows(1)).await;
    budget(&api, "two", json!({}), allows(1)).await;
    let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    assert_eq!(evict(&api, "a", json!({})).await.refusal(), (500, String::new(), why.into()));
    assert!(!is_going(&api, "a").await);
    // One of another namespace is not asked.
    api.delete(&format!("{BUDGETS}/two")).await.ok();
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
    api.post("/api/v1/namespaces", &namespace).await.ok();
    let other = json!({ "metadata": { "name": "x" }, "spec": { "selector": {} } });
    api.post("/apis/policy/v1/namespaces/n/poddisruptionbudgets", &other).await.ok();
    evict(&api, "a", json!({})).await.ok();
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_not_running_ignore_budgets_and_unready_ones_follow_its_policy() {
    let api = ApiClient::start().await;
    budget(&api, "web", json!({ "minAvailable": 9 }), allows(0)).await;
    let short = json!({ "status": { "currentHealthy": 1, "desiredHealthy": 2 } });
    let enough = json!({ "status": { "currentHealthy": 2, "desiredHealthy": 2 } });
    for (name, phase, ready, health, policy, code) in [
        ("pending", "Pending", "False", &short, Value::Null, 201),
        ("done", "Succeeded", "False", &short, Value::Null, 201),
        ("failed", "Failed", "False", &short, Value::Null, 201),
        ("short", "Running", "False", &short, Value::Null, 429),
        ("enough", "Running", "False", &enough, Value::Null, 201),
        ("healthy", "Running", "True", &enough, Value::Null, 429),
        ("named", "Running", "False", &short, json!("IfHealthyBudget"), 429),
        ("always", "Running", "False", &short, json!("AlwaysAllow"), 201),
        ("ready", "Running", "True", &short, json!("AlwaysAllow"), 429),
    ] {
        pod(&api, name, phase, ready).await;
        let spec = json!({ "spec": { "unhealthyPodEvictionPolicy": policy } });
        let changed = api.merge(&format!("{BUDGETS}/web"), &spec).await.ok();
        let mut health = health.clone();
        health["status"]["observedGeneration"] = changed["metadata"]["generation"].clone();
        api.merge(&format!("{BUDGETS}/web/status"), &health).await.ok();
        let response = evict(&api, name, json!({})).await;
        assert_eq!(response.status.as_u16(), code, "{name}: {}", response.text());
        assert_eq!(is_going(&api, name).await, code == 201, "{name}");
    }
    let left = status(&api, "web").await;
    assert!(left["disruptedPods"].is_null(), "nothing was taken: {left}");
    api.close().await;
}

/// A precondition that does not hold costs the budget nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_of_another_version_of_the_pod_takes_nothing() {
    let api = ApiClient::start().await;
    pod(&api, "a", "Running", "True").await;
    budget(&api, "web", json!({}), allows(1)).await;
    for preconditions in [json!({ "uid": "x" }), json!({ "resourceVersion": "1" })] {
        let refused = evict(&api, "a", json!({ "preconditions": preconditions })).await;
        assert_eq!(refused.refusal().0, 409);
    }
    assert_eq!(status(&api, "web").await["disruptionsAllowed"], 1);
    let meta = api.get(&format!("{PODS}/a")).await.ok()["metadata"].clone();
    let same = json!({ "uid": meta["uid"], "resourceVersion": meta["resourceVersion"] });
    evict(&api, "a", json!({ "preconditions": same })).await.ok();
    assert!(is_going(&api, "a").await);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_in_the_version_of_earlier_clients_is_honoured() {
    let api = ApiClient::start().await;
    pod(&api, "a", "Running", "True").await;
    let of = |version: &str| json!({ "apiVersion": version, "kind": "Eviction", "metadata": { "name": "a" } });
    let path = format!("{PODS}/a/eviction");
    let unknown = api.post(&path, &of("policy/v1alpha1")).await;
    assert_eq!((unknown.status.as_u16(), is_going(&api, "a").await), (400, false));
    let earlier = api.post(&path, &of("policy/v1beta1")).await;
    assert_eq!((earlier.status.as_u16(), is_going(&api, "a").await), (201, true));
}
