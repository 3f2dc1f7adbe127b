//! ResourceQuota: what is refused for want of room, and in which words.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::door::Door;

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
    let door = Door::open().await;
    door.post(QUOTAS, &quota("few", json!({ "secrets": "3", "count/configmaps": "1" }))).await.ok();
    let racers: Vec<Value> = (0..30).map(|number| secret(&format!("s{number}"))).collect();
    let answers = join_all(racers.iter().map(|secret| door.post(SECRETS, secret))).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 3);
    let words = |name: &str| {
        format!(
            "secrets \"{name}\" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=3, limited: secrets=3"
        )
    };
    for (answer, secret) in answers.iter().zip(&racers).filter(|(answer, _)| answer.status != 201) {
        let name = secret["metadata"]["name"].as_str().unwrap();
        assert_eq!(answer.refusal(), (403, "Forbidden".to_owned(), words(name)));
    }
    // Neither an apply nor a rehearsal gets around it, and a generated name is reported by its prefix.
    let applied = format!("{SECRETS}/late?fieldManager=me");
    assert_eq!(door.apply(&applied, &secret("late")).await.refusal().2, words("late"));
    let dry = door.post(&format!("{SECRETS}?dryRun=All"), &secret("dry")).await;
    assert_eq!(dry.refusal().2, words("dry"));
    let unnamed =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "generateName": "g-" } });
    assert_eq!(door.post(SECRETS, &unnamed).await.refusal().2, words("g-"));

    let first = answers.iter().position(|answer| answer.status == 201).unwrap();
    assert_eq!(door.delete(&format!("{SECRETS}/s{first}")).await.status, 200);
    assert_eq!(door.post(SECRETS, &secret("next")).await.status, 201, "there is room immediately");
    let elsewhere = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "x" } });
    let other = "/api/v1/namespaces/kube-public/secrets";
    assert_eq!(door.post(other, &elsewhere).await.status, 201);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_say_what_they_need_and_get_no_more_than_there_is() {
    let door = Door::open().await;
    let hard = json!({ "requests.cpu": "1", "limits.memory": "1Gi", "pods": "2" });
    door.post(QUOTAS, &quota("room", hard)).await.ok();
    let asks = |cpu: &str| json!({ "requests": { "cpu": cpu }, "limits": { "memory": "256Mi" } });
    let refused = door.post(PODS, &pod("silent", json!({}))).await;
    assert_eq!(
        refused.refusal().2,
        "pods \"silent\" is forbidden: failed quota: room: must specify limits.memory for: c; requests.cpu for: c"
    );
    assert_eq!(door.post(PODS, &pod("one", asks("750m"))).await.status, 201);
    let refused = door.post(PODS, &pod("two", asks("500m"))).await;
    assert_eq!(
        refused.refusal().2,
        "pods \"two\" is forbidden: exceeded quota: room, requested: requests.cpu=500m, used: requests.cpu=750m, limited: requests.cpu=1"
    );
    assert_eq!(door.post(PODS, &pod("three", asks("250m"))).await.status, 201);
    let refused = door.post(PODS, &pod("four", asks("1m"))).await;
    assert!(refused.refusal().2.contains("requested: pods=1,requests.cpu=1m, used: pods=2,"));

    // A pod that has ended holds nothing.
    let status = json!({ "status": { "phase": "Succeeded" } });
    door.merge(&format!("{PODS}/one/status"), &status).await.ok();
    assert_eq!(door.post(PODS, &pod("five", asks("750m"))).await.status, 201);
    door.close().await;
}
