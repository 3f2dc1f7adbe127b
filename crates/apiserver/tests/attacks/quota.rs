//! A namespace gets no more than its quotas say, whatever its pods write into their amounts.

use coffer_testkit::Attacks;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cluster::{Caller, Cluster, Reply};

/// As much as its quota counts it with, many times over: three of them were below nothing once.
const ABSURD: &str = "170e36";

fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

fn pod(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec })
}

fn asking(cpu: &str) -> Value {
    let resources = json!({ "requests": { "cpu": cpu } });
    json!({ "containers": [{ "name": "c", "image": "i", "resources": resources }] })
}

async fn limit(admin: &Caller, namespace: &str, hard: Value) {
    let path = format!("/api/v1/namespaces/{namespace}/resourcequotas");
    admin.make(&path, json!({ "metadata": { "name": "q" }, "spec": { "hard": hard } })).await;
}

fn is_refused(reply: &Reply, why: &str) -> bool {
    matches!(reply.code, 403 | 422) && reply.message().contains(why)
}

/// What is beyond the quota, and why it is refused.
fn beyond() -> Vec<(&'static str, Value, &'static str)> {
    let container = |name: &str, resources: Value| json!({ "name": name, "image": "i", "resources": resources });
    let silent = |name: &str| container(name, json!({}));
    let amounts = |cpu: &str, memory: &str| json!({ "cpu": cpu, "memory": memory });
    let large = || container("c", json!({ "limits": amounts("64", "100Gi") }));
    let fits = json!({ "limits": amounts("1", "3Gi"), "requests": amounts("1", "1Gi") });
    let spec =
        |containers: Value, whole: Value| json!({ "containers": containers, "resources": whole });
    vec![
        ("nothing", spec(json!([silent("c")]), Value::Null), "must specify"),
        ("nothing as a whole", spec(json!([silent("c")]), json!({})), "must specify"),
        ("empty requests", spec(json!([silent("c")]), json!({ "requests": {} })), "must specify"),
        (
            "another resource as a whole",
            spec(json!([silent("c")]), json!({ "requests": { "memory": "1Mi" } })),
            "must specify limits.memory for: c; requests.cpu for: c",
        ),
        (
            "less as a whole than its container",
            spec(json!([large()]), json!({ "limits": amounts("1m", "1Mi") })),
            "exceeded quota: q, requested: limits.memory=100Gi,requests.cpu=64",
        ),
        (
            "no limits but as a whole, and two containers",
            spec(json!([silent("c"), silent("d")]), fits),
            "exceeded quota: q, requested: limits.memory=6Gi",
        ),
        ("absurdly much", asking(ABSURD), "must specify limits.memory for: c"),
        (
            "absurdly much and a little",
            spec(
                json!([
                    container("c", json!({ "limits": amounts(ABSURD, "1Mi") })),
                    container("d", json!({ "limits": amounts("1n", "1Mi") })),
                ]),
                Value::Null,
            ),
            "exceeded quota: q, requested: requests.cpu=",
        ),
        (
            "less than nothing",
            spec(
                json!([container("c", json!({ "limits": amounts("-1000", "1Mi") }))]),
                Value::Null,
            ),
            "quota usage is negative for resource(s): cpu,limits.cpu,requests.cpu",
        ),
        (
            "less than nothing as a whole",
            spec(
                json!([container("c", json!({ "limits": amounts("1", "1Mi") }))]),
                json!({ "requests": { "cpu": "-1" } }),
            ),
            "quota usage is negative for resource(s): cpu,requests.cpu",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pods_take_more_than_their_namespaces_quota() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut attacks = Attacks::group("pods beyond their namespace's ResourceQuota");
    for name in ["x", "y", "z"] {
        admin.make(&pods("b"), pod(name, &asking(ABSURD))).await;
    }
    limit(admin, "a", json!({ "requests.cpu": "4", "limits.memory": "4Gi" })).await;
    limit(admin, "b", json!({ "requests.cpu": "4" })).await;
    for (what, spec, why) in beyond() {
        for query in ["", "?dryRun=All"] {
            let path = format!("{}{query}", pods("a"));
            let reply = admin.request("POST", &path, Some(&pod("p", &spec))).await;
            attacks.attempt(what, is_refused(&reply, why), (reply.code, reply.message()));
        }
    }

    // What is taken away leaves no more room than there was.
    let full = "exceeded quota: q, requested: requests.cpu=3";
    let reply = admin.request("POST", &pods("b"), Some(&pod("p", &asking("3")))).await;
    attacks.attempt("next to absurd pods", is_refused(&reply, full), reply.message());
    for name in ["x", "y", "z"] {
        let path = format!("{}/{name}?gracePeriodSeconds=0", pods("b"));
        assert_eq!(admin.request("DELETE", &path, None).await.code, 200);
    }
    admin.make(&pods("b"), pod("p", &asking("3"))).await;
    let reply = admin.request("POST", &pods("b"), Some(&pod("r", &asking("3")))).await;
    attacks.attempt("after absurd pods", is_refused(&reply, full), reply.message());

    // Pods that need less than nothing make no room for others while they are judged.
    let path = format!("{}/p?gracePeriodSeconds=0", pods("b"));
    assert_eq!(admin.request("DELETE", &path, None).await.code, 200);
    let mut race = JoinSet::new();
    for number in 0..60 {
        let user = cluster.user("racer", &format!("racer-{number}"), &["system:masters"]).await;
        let cpu = if number % 3 == 0 { "3" } else { "-1000" };
        let body = pod(&format!("r{number}"), &asking(cpu));
        race.spawn(async move { user.request("POST", &pods("b"), Some(&body)).await.code });
    }
    let made = race.join_all().await.into_iter().filter(|code| *code == 201).count();
    attacks.attempt("a race with less than nothing", made == 1, made);
    attacks.finish();

    let fits = json!({ "containers": [{ "name": "c", "image": "i" }], "resources": {
        "requests": { "cpu": "2", "memory": "1Gi" }, "limits": { "memory": "3Gi" } } });
    admin.make(&pods("a"), pod("fits", &fits)).await;
}
