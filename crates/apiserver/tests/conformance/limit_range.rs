//! LimitRange: what containers get, and what is refused in which words.

use serde_json::{Value, json};

use crate::client::ApiClient;

const RANGES: &str = "/api/v1/namespaces/default/limitranges";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn range(name: &str, limits: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": name },
            "spec": { "limits": limits } })
}

fn pod(name: &str, resources: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_the_defaults_before_quotas_count_it() {
    let api = ApiClient::start().await;
    let created = api
        .post(RANGES, &range("sizes", json!([{ "type": "Container", "max": { "cpu": "1000m" } }])))
        .await
        .ok();
    let limits = &created["spec"]["limits"][0];
    let one = json!({ "cpu": "1" });
    assert_eq!((&limits["default"], &limits["defaultRequest"]), (&one, &one));
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "q" },
                        "spec": { "hard": { "limits.cpu": "1" } } });
    api.post(QUOTAS, &quota).await.ok();
    let made = api.post(PODS, &pod("first", json!({}))).await.ok();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "1" } })
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    assert_eq!(made["status"]["qosClass"], "Burstable");
    let full = api.post(PODS, &pod("second", json!({}))).await;
    assert_eq!(
        full.refusal().2,
        "pods \"second\" is forbidden: exceeded quota: q, requested: limits.cpu=1, used: limits.cpu=1, limited: limits.cpu=1"
    );
    // What was applied is applied again without a change of what the server gave.
    let applied = format!("{PODS}/first?fieldManager=me&force=true");
    let again = api.apply(&applied, &pod("first", json!({}))).await.ok();
    assert_eq!(again["spec"], made["spec"]);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_beyond_the_limits_is_refused_with_upstreams_message_until_they_change() {
    let api = ApiClient::start().await;
    let limits = json!([{ "type": "Container", "max": { "cpu": "1", "memory": "1Gi" } }]);
    api.post(RANGES, &range("sizes", limits)).await.ok();
    let two = json!({ "limits": { "cpu": "2" } });
    let refused = api.post(PODS, &pod("p", two.clone())).await;
    let message = "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    assert_eq!(refused.refusal(), (403, "Forbidden".to_owned(), message.to_owned()));
    let both = json!({ "limits": { "cpu": "2", "memory": "2Gi" } });
    assert_eq!(
        api.post(PODS, &pod("p", both)).await.refusal().2,
        "pods \"p\" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Container is 1Gi, but limit is 2Gi]"
    );
    let wider = json!({ "spec": { "limits": [{ "type": "Container", "max": { "cpu": "2" } }] } });
    api.merge(&format!("{RANGES}/sizes"), &wider).await.ok();
    api.post(PODS, &pod("p", two)).await.ok();
    api.delete(&format!("{RANGES}/sizes")).await.ok();
    api.post(PODS, &pod("q", json!({ "limits": { "cpu": "3" } }))).await.ok();
    // A PUT to a name that does not exist creates, as upstream.
    let put = api.put(&format!("{RANGES}/put"), &range("put", json!([]))).await;
    assert_eq!(put.status, 201);
    api.close().await;
}
