//! ResourceQuota: what is refused for want of room, and in which words.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::client::ApiClient;

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn quota(name: &str, hard: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": name },
            "spec": { "hard": hard } })
}

fn secret(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } })
}

fn pod(name: &str, resources: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_objects_are_made_than_a_quota_allows_however_many_try_concurrently() {
    let api = ApiClient::start().await;
    api.post(QUOTAS, &quota("few", json!({ "secrets": "3", "count/configmaps": "1" }))).await.ok();
    let racers: Vec<Value> = (0..30).map(|number| secret(&format!("s{number}"))).collect();
    let responses = join_all(racers.iter().map(|secret| api.post(SECRETS, secret))).await;
    let made = responses.iter().filter(|response| response.status == 201).count();
    assert_eq!(made, 3);
    let words = |name: &str| {
        format!(
            "secrets \"{name}\" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=3, limited: secrets=3"
        )
    };
    for (response, secret) in
        responses.iter().zip(&racers).filter(|(response, _)| response.status != 201)
    {
        let name = secret["metadata"]["name"].as_str().unwrap();
        assert_eq!(response.refusal(), (403, "Forbidden".to_owned(), words(name)));
    }
    // Neither an apply nor a rehearsal gets around it, and a generated name is reported by its prefix.
    let applied = format!("{SECRETS}/late?fieldManager=me");
    assert_eq!(api.apply(&applied, &secret("late")).await.refusal().2, words("late"));
    let dry = api.post(&format!("{SECRETS}?dryRun=All"), &secret("dry")).await;
    assert_eq!(dry.refusal().2, words("dry"));
    let unnamed =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "generateName": "g-" } });
    assert_eq!(api.post(SECRETS, &unnamed).await.refusal().2, words("g-"));

    let first = responses.iter().position(|response| response.status == 201).unwrap();
    assert_eq!(api.delete(&format!("{SECRETS}/s{first}")).await.status, 200);
    assert_eq!(api.post(SECRETS, &secret("next")).await.status, 201, "there is room immediately");
    let elsewhere = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "x" } });
    let other = "/api/v1/namespaces/kube-public/secrets";
    assert_eq!(api.post(other, &elsewhere).await.status, 201);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_say_what_they_need_and_get_no_more_than_there_is() {
    let api = ApiClient::start().await;
    let hard = json!({ "requests.cpu": "1", "limits.memory": "1Gi", "pods": "2" });
    api.post(QUOTAS, &quota("room", hard)).await.ok();
    let asks = |cpu: &str| json!({ "requests": { "cpu": cpu }, "limits": { "memory": "256Mi" } });
    let refused = api.post(PODS, &pod("silent", json!({}))).await;
    assert_eq!(
        refused.refusal().2,
        "pods \"silent\" is forbidden: failed quota: room: must specify limits.memory for: c; requests.cpu for: c"
    );
    assert_eq!(api.post(PODS, &pod("one", asks("750m"))).await.status, 201);
    let refused = api.post(PODS, &pod("two", asks("500m"))).await;
    assert_eq!(
        refused.refusal().2,
        "pods \"two\" is forbidden: exceeded quota: room, requested: requests.cpu=500m, used: requests.cpu=750m, limited: requests.cpu=1"
    );
    assert_eq!(api.post(PODS, &pod("three", asks("250m"))).await.status, 201);
    let refused = api.post(PODS, &pod("four", asks("1m"))).await;
    assert!(refused.refusal().2.contains("requested: pods=1,requests.cpu=1m, used: pods=2,"));

    // A pod that has ended holds nothing.
    let status = json!({ "status": { "phase": "Succeeded" } });
    api.merge(&format!("{PODS}/one/status"), &status).await.ok();
    assert_eq!(api.post(PODS, &pod("five", asks("750m"))).await.status, 201);
    api.close().await;
}
