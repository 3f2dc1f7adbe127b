//! A namespace's limits hold for every pod that is made in it, whatever it is made by.

use coffer_testkit::Attacks;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, Reply};

const PODS: &str = "/api/v1/namespaces/a/pods";
const RANGES: &str = "/api/v1/namespaces/a/limitranges";

fn pod(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec })
}

fn container(name: &str, resources: Value) -> Value {
    json!({ "name": name, "image": "i", "resources": resources })
}

async fn apply(caller: &Caller, path: &str, body: &Value) -> Reply {
    let content = [("content-type", "application/apply-patch+yaml")];
    caller
        .request_as("PATCH", &format!("{path}?fieldManager=m&force=true"), Some(body), &content)
        .await
}

/// What is beyond the limits, in one place or another.
fn beyond() -> Vec<(&'static str, Value)> {
    let small = || container("c", json!({ "limits": { "cpu": "500m" } }));
    let large = |name: &str| container(name, json!({ "limits": { "cpu": "2" } }));
    let mut sidecar = large("s");
    sidecar["restartPolicy"] = "Always".into();
    let many: Vec<Value> = (0..4)
        .map(|at| container(&format!("c{at}"), json!({ "limits": { "cpu": "1" } })))
        .collect();
    vec![
        ("a container", json!({ "containers": [large("c")] })),
        ("the second container", json!({ "containers": [small(), large("d")] })),
        ("an init container", json!({ "containers": [small()], "initContainers": [large("i")] })),
        ("a sidecar", json!({ "containers": [small()], "initContainers": [sidecar] })),
        ("many that are small", json!({ "containers": many })),
        (
            "a request alone",
            json!({ "containers": [container("c", json!({ "requests": { "cpu": "2" } }))] }),
        ),
        (
            "another spelling of two",
            json!({ "containers": [container("c", json!({ "limits": { "cpu": "0.002k" } }))] }),
        ),
        (
            "a thousandth more",
            json!({ "containers": [container("c", json!({ "limits": { "cpu": "1.0001" } }))] }),
        ),
        (
            "more than 64 bits",
            json!({ "containers": [container("c", json!({ "limits": { "cpu": "1e30" } }))] }),
        ),
        (
            "less than the least",
            json!({ "containers": [container("c", json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "1m" } }))] }),
        ),
        (
            "nothing of what is limited without a default",
            json!({ "containers": [container("c", json!({ "limits": { "cpu": "1", "memory": "1Mi" } }))] }),
        ),
        (
            "a wide ratio",
            json!({ "containers": [container("c", json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "100m" } }))] }),
        ),
        (
            "the pod as a whole",
            json!({ "containers": [small()], "resources": { "limits": { "cpu": "4" } } }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pod_goes_beyond_its_namespaces_limits() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut attacks = Attacks::group("a pod beyond its namespace's LimitRange");
    let range = json!({
        "metadata": { "name": "sizes" },
        "spec": { "limits": [
            { "type": "Container", "max": { "cpu": "1" }, "min": { "cpu": "50m" }, "maxLimitRequestRatio": { "cpu": "2" },
              "defaultRequest": { "cpu": "500m" } },
            { "type": "Pod", "max": { "cpu": "3" } },
        ] },
    });
    admin.make(RANGES, range).await;
    let storage = json!({
        "metadata": { "name": "storage" },
        "spec": { "limits": [{ "type": "Pod", "max": { "memory": "1Gi", "ephemeral-storage": "1Gi" } }] },
    });
    admin.make(RANGES, storage).await;
    let app = cluster.account("a/app", "a", "app").await;
    let kept = json!({ "containers": [container("c", json!({ "limits": { "cpu": "1", "memory": "1Mi", "ephemeral-storage": "1Mi" } }))] });
    admin.make(PODS, pod("kept", &kept)).await;

    for (at, (what, spec)) in beyond().into_iter().enumerate() {
        let name = format!("p{at}");
        let body = pod(&name, &spec);
        // Each for its own reason, not for what the other range wants.
        let why = match what {
            "nothing of what is limited without a default" => {
                "maximum ephemeral-storage usage per Pod is 1Gi.  No limit is specified"
            }
            _ => "cpu",
        };
        let refused = |reply: &Reply| reply.code == 403 && reply.message().contains(why);
        for (who, caller) in [("admin", admin), ("edit", &app)] {
            let reply = caller.request("POST", PODS, Some(&body)).await;
            attacks.attempt(&format!("POST of {what} by {who}"), refused(&reply), &reply);
        }
        let reply = admin.request("POST", &format!("{PODS}?dryRun=All"), Some(&body)).await;
        attacks.attempt(&format!("dry run of {what}"), refused(&reply), &reply);
        let reply = apply(admin, &format!("{PODS}/{name}"), &body).await;
        attacks.attempt(&format!("apply of {what}"), refused(&reply), &reply);
        let mut mirror = body.clone();
        mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
        mirror["spec"]["nodeName"] = "node-a".into();
        let reply = admin.request("POST", PODS, Some(&mirror)).await;
        attacks.attempt(&format!("a mirror pod of {what}"), refused(&reply), &reply);
        let mut said = body.clone();
        said["metadata"]["annotations"] = json!({ "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu limit for container c" });
        let reply = admin.request("POST", PODS, Some(&said)).await;
        attacks.attempt(&format!("{what} with the annotation"), refused(&reply), &reply);
        // An existing pod cannot be changed to it.
        let path = format!("{PODS}/kept");
        let mut resources = spec["containers"][0]["resources"].clone();
        resources["limits"]["memory"] = "2Gi".into();
        let change = json!({ "spec": { "containers": [container("c", resources)] } });
        let reply = admin.request("PATCH", &path, Some(&change)).await;
        attacks.attempt(&format!("PATCH to {what}"), reply.code == 422, &reply);
        let reply = admin.request("PATCH", &format!("{path}/resize"), Some(&change)).await;
        attacks.attempt(&format!("resize to {what}"), reply.code == 404, &reply);
    }
    let debug = json!({ "spec": { "ephemeralContainers": [
        { "name": "e", "image": "i", "resources": { "limits": { "cpu": "2" } } }] } });
    let reply =
        admin.request("PATCH", &format!("{PODS}/kept/ephemeralcontainers"), Some(&debug)).await;
    attacks.attempt("an ephemeral container", reply.code == 422, &reply);

    // A user with `edit` in the namespace reads its limits and does not write them.
    let viewer = cluster.user("alice", "alice", &[]).await;
    for caller in [&app, &viewer] {
        let name = caller.name;
        assert_eq!(caller.request("GET", RANGES, None).await.code, 200);
        let path = format!("{RANGES}/sizes");
        let wider = json!({ "metadata": { "name": "sizes" }, "spec": { "limits": [] } });
        for (verb, at, body) in [
            ("POST", RANGES, Some(&wider)),
            ("PUT", &path, Some(&wider)),
            ("PATCH", &path, Some(&wider)),
            ("DELETE", &path, None),
            ("DELETE", RANGES, None),
        ] {
            let reply = caller.request(verb, at, body).await;
            attacks.attempt(
                &format!("{verb} of a LimitRange by {name}"),
                reply.code == 403,
                &reply,
            );
        }
    }
    attacks.finish();
}
