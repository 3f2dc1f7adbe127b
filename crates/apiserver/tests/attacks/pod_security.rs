//! A user who may create pods gets what the namespace's Pod Security Standard allows and no more,
//! whichever way they write.

use coffer_apiserver::{AccessConfig, PodSecurityLevel};
use coffer_testkit::Attacks;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Caller, Cluster, Reply};
use crate::support::{self, TestServer};

const NAMESPACES: &str = "/api/v1/namespaces";
const LEVEL: &str = "pod-security.kubernetes.io/enforce";

fn pods(namespace: &str) -> String {
    format!("{NAMESPACES}/{namespace}/pods")
}

/// A pod that `restricted` allows.
fn hardened(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "initContainers": [container("i")],
            "containers": [container("c")],
        },
    })
}

fn container(name: &str) -> Value {
    json!({
        "name": name, "image": "i",
        "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
        },
    })
}

fn plain(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    })
}

/// Puts a value at a place; `containers.0.x`.
fn with(object: &Value, path: &str, value: Value) -> Value {
    let mut changed = object.clone();
    let mut at = &mut changed["spec"];
    for step in path.split('.') {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[step],
        };
    }
    *at = value;
    changed
}

/// A namespace with labels, and the accounts that its pods run as.
async fn namespace(admin: &Caller, name: &str, labels: Value) {
    admin.make(NAMESPACES, json!({ "metadata": { "name": name, "labels": labels } })).await;
    let accounts = format!("{NAMESPACES}/{name}/serviceaccounts");
    for account in ["default", "app"] {
        let body = json!({ "metadata": { "name": account } });
        let reply = admin.request("POST", &accounts, Some(&body)).await;
        assert!(matches!(reply.code, 201 | 409), "{}", reply.message());
    }
}

async fn typed(
    caller: &Caller,
    method: &str,
    path: &str,
    content: &'static str,
    body: &Value,
) -> Reply {
    caller.request_as(method, path, Some(body), &[("content-type", content)]).await
}

fn is_refused(reply: &Reply, level: &str) -> bool {
    let violates = format!("violates PodSecurity \"{level}:latest\": ");
    reply.code == 403 && reply.message().contains(&violates)
}

/// What `baseline` refuses, by place: of the pod, and of a container.
fn of_pods() -> Vec<(&'static str, Value)> {
    vec![
        ("hostNetwork", json!(true)),
        ("hostPID", json!(true)),
        ("hostIPC", json!(true)),
        ("volumes", json!([{ "name": "v", "hostPath": { "path": "/" } }])),
        (
            "volumes",
            json!([{ "name": "e", "emptyDir": {} }, { "name": "v", "hostPath": { "path": "/etc", "type": "Directory" } }]),
        ),
        ("securityContext.seccompProfile", json!({ "type": "Unconfined" })),
        ("securityContext.appArmorProfile", json!({ "type": "Unconfined" })),
        ("securityContext.seLinuxOptions", json!({ "type": "spc_t" })),
        ("securityContext.seLinuxOptions", json!({ "user": "system_u" })),
        ("securityContext.seLinuxOptions", json!({ "role": "system_r" })),
        ("securityContext.windowsOptions", json!({ "hostProcess": true })),
        ("securityContext.sysctls", json!([{ "name": "kernel.msgmax", "value": "1" }])),
        (
            "securityContext.sysctls",
            json!([{ "name": "kernel.shm_rmid_forced", "value": "1" }, { "name": "net.core.somaxconn", "value": "1" }]),
        ),
    ]
}

fn of_containers() -> Vec<(&'static str, Value)> {
    vec![
        ("securityContext", json!({ "privileged": true })),
        ("securityContext.capabilities", json!({ "drop": ["ALL"], "add": ["SYS_ADMIN"] })),
        ("securityContext.capabilities", json!({ "drop": ["ALL"], "add": ["NET_RAW"] })),
        ("securityContext.capabilities", json!({ "drop": ["ALL"], "add": ["CAP_CHOWN"] })),
        ("securityContext.capabilities", json!({ "drop": ["ALL"], "add": ["ALL"] })),
        ("securityContext.seccompProfile", json!({ "type": "Unconfined" })),
        ("securityContext.appArmorProfile", json!({ "type": "Unconfined" })),
        ("securityContext.seLinuxOptions", json!({ "type": "spc_t" })),
        ("securityContext.windowsOptions", json!({ "hostProcess": true })),
        ("ports", json!([{ "containerPort": 80, "hostPort": 80 }])),
        ("livenessProbe", json!({ "httpGet": { "port": 1, "host": "169.254.169.254" } })),
        ("lifecycle", json!({ "postStart": { "httpGet": { "port": 1, "host": "10.0.0.1" } } })),
    ]
}

/// What only `restricted` refuses.
fn of_restricted() -> Vec<(&'static str, Value)> {
    vec![
        ("securityContext.runAsNonRoot", json!(null)),
        ("securityContext.runAsNonRoot", json!(false)),
        ("securityContext.runAsUser", json!(0)),
        ("securityContext.seccompProfile", json!(null)),
        ("securityContext", json!({})),
        ("securityContext", json!(null)),
        ("volumes", json!([{ "name": "v", "nfs": { "server": "s", "path": "/" } }])),
        ("containers.0.securityContext", json!(null)),
        ("containers.0.securityContext", json!({})),
        ("containers.0.securityContext.allowPrivilegeEscalation", json!(null)),
        ("containers.0.securityContext.allowPrivilegeEscalation", json!(true)),
        ("containers.0.securityContext.capabilities", json!({})),
        ("containers.0.securityContext.capabilities", json!({ "drop": ["NET_RAW"] })),
        ("containers.0.securityContext.capabilities", json!({ "drop": ["ALL"], "add": ["CHOWN"] })),
        ("containers.0.securityContext.runAsNonRoot", json!(false)),
        ("containers.0.securityContext.runAsUser", json!(0)),
        ("initContainers.0.securityContext", json!(null)),
        ("initContainers.0.securityContext.runAsUser", json!(0)),
        ("initContainers.0.securityContext.runAsNonRoot", json!(false)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_level_forbids_is_refused_in_every_list_of_containers() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    namespace(admin, "strict", json!({ LEVEL: "restricted" })).await;
    namespace(admin, "open", json!({ LEVEL: "privileged" })).await;
    let mut attacks = Attacks::group("a pod beyond its namespace's Pod Security Standard");
    let mut refused = |what: &str, level: &str, reply: &Reply| {
        attacks.attempt(what, is_refused(reply, level), reply);
    };
    // Namespace "a" has no label: the default, baseline, counts.
    for (path, value) in of_pods() {
        let pod = with(&plain("p"), path, value.clone());
        let reply = admin.request("POST", &pods("a"), Some(&pod)).await;
        refused(&format!("{path} {value}"), "baseline", &reply);
        let allowed =
            admin.request("POST", &format!("{}?dryRun=All", pods("open")), Some(&pod)).await;
        assert_eq!(allowed.code, 201, "{path} {value}: {}", allowed.message());
    }
    for (path, value) in of_containers() {
        for list in ["containers", "initContainers"] {
            // A hook or a probe is of an init container only where it goes on running.
            let mut pod = hardened("p");
            pod["spec"]["initContainers"][0]["restartPolicy"] = json!("Always");
            let member = format!("{list}.0.{path}");
            let pod = with(&pod, &member, value.clone());
            let reply = admin.request("POST", &pods("a"), Some(&pod)).await;
            refused(&format!("{member} {value}"), "baseline", &reply);
            let allowed = format!("{}?dryRun=All", pods("open"));
            let allowed = admin.request("POST", &allowed, Some(&pod)).await;
            assert_eq!(allowed.code, 201, "{member} {value}: {}", allowed.message());
        }
    }
    // In a user namespace that no pod has here.
    let unmasked = with(&hardened("p"), "hostUsers", json!(false));
    let unmasked = with(&unmasked, "containers.0.securityContext.procMount", json!("Unmasked"));
    let reply = admin.request("POST", &pods("a"), Some(&unmasked)).await;
    refused("procMount Unmasked", "baseline", &reply);
    let mut annotated = plain("p");
    annotated["metadata"]["annotations"] =
        json!({ "container.apparmor.security.beta.kubernetes.io/c": "unconfined" });
    let reply = admin.request("POST", &pods("a"), Some(&annotated)).await;
    refused("AppArmor by annotation", "baseline", &reply);
    for (path, value) in of_restricted() {
        let pod = with(&hardened("p"), path, value.clone());
        let reply = admin.request("POST", &pods("strict"), Some(&pod)).await;
        refused(&format!("{path} {value}"), "restricted", &reply);
        let allowed = admin.request("POST", &format!("{}?dryRun=All", pods("a")), Some(&pod)).await;
        assert_eq!(allowed.code, 201, "{path} {value}: {}", allowed.message());
    }
    let root = with(&hardened("p"), "hostUsers", json!(false));
    let root = with(&root, "securityContext.runAsUser", json!(0));
    let reply = admin.request("POST", &pods("strict"), Some(&root)).await;
    refused("root with hostUsers", "restricted", &reply);
    let reply = admin.request("POST", &pods("strict"), Some(&plain("p"))).await;
    refused("a plain pod", "restricted", &reply);
    attacks.finish();
    admin.make(&pods("strict"), hardened("p")).await;
    admin.make(&pods("a"), plain("fine")).await;
}

fn privileged(name: &str) -> Value {
    with(&plain(name), "containers.0.securityContext", json!({ "privileged": true }))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_to_write_goes_around_the_standard() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let app = cluster.account("a/app", "a", "app").await;
    let mut attacks = Attacks::group("ways to write a pod around its Pod Security Standard");
    let path = pods("a");
    let one = |name: &str| format!("{}/{name}", pods("a"));
    let apply = "application/apply-patch+yaml";
    // For any caller.
    for (who, caller) in [("admin", admin), ("edit", &app)] {
        let reply = caller.request("POST", &path, Some(&privileged("x"))).await;
        let expected = "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set securityContext.privileged=true)";
        attacks.attempt(
            &format!("POST as {who}"),
            reply.code == 403 && reply.message() == expected,
            &reply,
        );
    }
    let controller = cluster.user("control", "system:kube-controller-manager", &[]).await;
    let reply = controller.request("POST", &path, Some(&privileged("x"))).await;
    attacks.attempt("POST as a controller", reply.code == 403, &reply);
    let reply = admin.request("POST", &format!("{path}?dryRun=All"), Some(&privileged("x"))).await;
    attacks.attempt("dry run", is_refused(&reply, "baseline"), &reply);
    let mut generated = privileged("");
    generated["metadata"] = json!({ "generateName": "g-" });
    let reply = admin.request("POST", &path, Some(&generated)).await;
    attacks.attempt("generateName", is_refused(&reply, "baseline"), &reply);
    let yaml = "application/yaml";
    let reply = typed(admin, "POST", &path, yaml, &privileged("x")).await;
    attacks.attempt("YAML", is_refused(&reply, "baseline"), &reply);
    let reply =
        typed(admin, "PATCH", &format!("{}?fieldManager=m", one("x")), apply, &privileged("x"))
            .await;
    attacks.attempt("apply that creates", is_refused(&reply, "baseline"), &reply);
    let reply = admin.request("PUT", &one("x"), Some(&privileged("x"))).await;
    attacks.attempt("PUT that creates", reply.code == 404, &reply);
    // A mirror pod, by a user and by a node.
    let mut mirror = privileged("m-node-a");
    mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
    mirror["spec"]["nodeName"] = "node-a".into();
    let reply = admin.request("POST", &path, Some(&mirror)).await;
    attacks.attempt("a mirror pod by a user", is_refused(&reply, "baseline"), &reply);
    let node = cluster.node("node-a").await;
    let owner = admin.request("GET", "/api/v1/nodes/node-a", None).await.body;
    mirror["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": "node-a", "uid": owner["metadata"]["uid"],
        "controller": true,
    }]);
    let reply = node.request("POST", &path, Some(&mirror)).await;
    attacks.attempt("a mirror pod by its node", is_refused(&reply, "baseline"), &reply);
    // kubectl debug node/NAME.
    let debug = json!({
        "metadata": { "generateName": "node-debugger-" },
        "spec": {
            "nodeName": "node-a", "hostIPC": true, "hostNetwork": true, "hostPID": true,
            "restartPolicy": "Never",
            "volumes": [{ "name": "host-root", "hostPath": { "path": "/" } }],
            "containers": [{ "name": "debugger", "image": "i",
                             "volumeMounts": [{ "name": "host-root", "mountPath": "/host" }] }],
        },
    });
    let reply = admin.request("POST", &path, Some(&debug)).await;
    let expected = "pods \"node-debugger-\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true, hostPID=true, hostIPC=true), hostPath volumes (volume \"host-root\")";
    attacks.attempt("kubectl debug node", reply.message() == expected, &reply);

    // An existing pod.
    admin.make(&path, plain("there")).await;
    let stored = || async { admin.request("GET", &one("there"), None).await.body };
    let context = json!({ "privileged": true });
    let change = json!({ "spec": { "containers": [{ "name": "c", "image": "i", "securityContext": context }] } });
    for content in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        for below in ["", "/status"] {
            let reply =
                typed(admin, "PATCH", &format!("{}{below}", one("there")), content, &change).await;
            let after = stored().await["spec"]["containers"][0]["securityContext"].clone();
            attacks.attempt(&format!("PATCH{below} {content}"), after.is_null(), &reply);
        }
    }
    let operation = json!([{ "op": "add", "path": "/spec/hostPID", "value": true }]);
    let reply =
        typed(admin, "PATCH", &one("there"), "application/json-patch+json", &operation).await;
    attacks.attempt("JSON patch", matches!(reply.code, 403 | 422), &reply);
    for below in ["", "/status"] {
        let mut whole = stored().await;
        whole["spec"]["hostPID"] = json!(true);
        let reply = admin.request("PUT", &format!("{}{below}", one("there")), Some(&whole)).await;
        attacks.attempt(
            &format!("PUT{below}"),
            stored().await["spec"]["hostPID"].is_null(),
            &reply,
        );
    }
    // Ephemeral containers.
    for (at, (path, value)) in of_containers().into_iter().enumerate() {
        if !path.starts_with("securityContext") {
            continue;
        }
        let named = json!({ "spec": [{ "name": format!("e{at}"), "image": "i" }] });
        let added = with(&named, &format!("0.{path}"), value.clone())["spec"].clone();
        let body = json!({ "spec": { "ephemeralContainers": added } });
        let strategic = "application/strategic-merge-patch+json";
        let place = format!("{}/ephemeralcontainers", one("there"));
        let reply = typed(admin, "PATCH", &place, strategic, &body).await;
        let what = format!("ephemeral container by PATCH: {path} {value}");
        attacks.attempt(&what, is_refused(&reply, "baseline"), &reply);
        let mut whole = stored().await;
        whole["spec"]["ephemeralContainers"] = body["spec"]["ephemeralContainers"].clone();
        let reply = admin.request("PUT", &place, Some(&whole)).await;
        let what = format!("ephemeral container by PUT: {path} {value}");
        attacks.attempt(&what, is_refused(&reply, "baseline"), &reply);
    }
    let whole = stored().await;
    let reply = admin.request("PUT", &format!("{}/resize", one("there")), Some(&whole)).await;
    attacks.attempt("resize, which is not served", reply.code == 404, &reply);
    assert!(stored().await["spec"]["ephemeralContainers"].is_null());
    attacks.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_users_who_may_update_the_namespace_set_its_level() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let app = cluster.account("a/app", "a", "app").await;
    let mut attacks = Attacks::group("loosening a namespace's Pod Security Standard");
    let a = format!("{NAMESPACES}/a");
    let loose = json!({ "metadata": { "labels": { LEVEL: "privileged" } } });
    let node = cluster.node("node-a").await;
    for (who, caller) in [("edit", &app), ("a node", &node)] {
        for below in ["", "/status"] {
            let reply = caller.request("PATCH", &format!("{a}{below}"), Some(&loose)).await;
            attacks.attempt(&format!("PATCH{below} as {who}"), reply.code == 403, &reply);
        }
        let mut whole = admin.request("GET", &a, None).await.body;
        whole["metadata"]["labels"][LEVEL] = "privileged".into();
        for below in ["", "/finalize"] {
            let reply = caller.request("PUT", &format!("{a}{below}"), Some(&whole)).await;
            attacks.attempt(&format!("PUT{below} as {who}"), reply.code == 403, &reply);
        }
        let body = json!({ "metadata": { "name": "own", "labels": { LEVEL: "privileged" } } });
        let reply = caller.request("POST", NAMESPACES, Some(&body)).await;
        attacks.attempt(&format!("a namespace of one's own as {who}"), reply.code == 403, &reply);
    }
    // Labels that say nothing are refused, and where they are stored they count as restricted.
    let label = |name: &str, value: &str| json!({ "metadata": { "labels": { format!("pod-security.kubernetes.io/{name}"): value } } });
    for (name, value, detail) in [
        ("enforce", "Privileged", "must be one of privileged, baseline, restricted"),
        ("enforce", "", "must be one of privileged, baseline, restricted"),
        ("enforce", "none", "must be one of privileged, baseline, restricted"),
        ("audit", "x", "must be one of privileged, baseline, restricted"),
        ("warn", "x", "must be one of privileged, baseline, restricted"),
        ("enforce-version", "1.0", "must be \"latest\" or \"v1.x\""),
        ("enforce-version", "v0.9", "must be \"latest\" or \"v1.x\""),
        ("enforce-version", "", "must be \"latest\" or \"v1.x\""),
        ("audit-version", "v1.x", "must be \"latest\" or \"v1.x\""),
        ("warn-version", "newest", "must be \"latest\" or \"v1.x\""),
    ] {
        let path = format!("metadata.labels[pod-security.kubernetes.io/{name}]");
        let text = format!("{path}: Invalid value: {value:?}: {detail}");
        let reply = admin.request("PATCH", &a, Some(&label(name, value))).await;
        let expected = format!("Namespace \"a\" is invalid: {text}");
        let refused = reply.code == 422
            && reply.message() == expected
            && reply.body["details"]["causes"][0]["field"] == path.as_str();
        attacks.attempt(&format!("PATCH {name}={value}"), refused, &reply);
        let mut whole = label(name, value);
        whole["metadata"]["name"] = "fresh".into();
        let reply = admin.request("POST", NAMESPACES, Some(&whole)).await;
        let expected = format!("Namespace \"fresh\" is invalid: {text}");
        attacks.attempt(&format!("POST {name}={value}"), reply.message() == expected, &reply);
    }
    attacks.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_system_is_privileged_by_a_label_that_an_operator_may_change() {
    let server = TestServer::start_with(TempDir::new().unwrap(), support::access()).await;
    let admin = Caller::new("admin", server.admin().await);
    let path = format!("{NAMESPACES}/kube-system");
    let level = |reply: &Reply| reply.body["metadata"]["labels"][LEVEL].clone();
    assert_eq!(level(&admin.request("GET", &path, None).await), "privileged");
    admin.make(&pods("kube-system"), privileged("p")).await;
    assert_eq!(
        level(&admin.request("GET", &format!("{NAMESPACES}/default"), None).await),
        Value::Null
    );
    // As in a data directory from before there was the label.
    let without = json!({ "metadata": { "labels": { LEVEL: null } } });
    let reply = admin.request("PATCH", &path, Some(&without)).await;
    assert_eq!((reply.code, level(&reply)), (200, Value::Null));
    drop(admin);
    let server = TestServer::start_with(server.stop().await, support::access()).await;
    let admin = Caller::new("admin", server.admin().await);
    assert_eq!(level(&admin.request("GET", &path, None).await), "privileged");
    let own = json!({ "metadata": { "labels": { LEVEL: "baseline" } } });
    assert_eq!(admin.request("PATCH", &path, Some(&own)).await.code, 200);
    drop(admin);
    let server = TestServer::start_with(server.stop().await, support::access()).await;
    let admin = Caller::new("admin", server.admin().await);
    assert_eq!(level(&admin.request("GET", &path, None).await), "baseline");
    let reply = admin.request("POST", &pods("kube-system"), Some(&privileged("q"))).await;
    assert!(is_refused(&reply, "baseline"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_and_tightened_namespaces_return_warnings() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let selector = json!({ "matchLabels": { "a": "b" } });
    let template =
        json!({ "metadata": { "labels": { "a": "b" } }, "spec": privileged("x")["spec"] });
    let warning = |level: &str, detail: &str| {
        let text = format!("would violate PodSecurity \"{level}:latest\": {detail}");
        format!("299 - {:?}", text)
    };
    let detail = "privileged (container \"c\" must not set securityContext.privileged=true)";
    for (group, plural, spec) in [
        ("apis/apps/v1", "deployments", json!({ "selector": selector, "template": template })),
        ("apis/apps/v1", "replicasets", json!({ "selector": selector, "template": template })),
        (
            "api/v1",
            "replicationcontrollers",
            json!({ "selector": { "a": "b" }, "template": template }),
        ),
    ] {
        let path = format!("/{group}/namespaces/a/{plural}");
        let body = json!({ "metadata": { "name": "w" }, "spec": spec });
        let reply = admin.request("POST", &path, Some(&body)).await;
        assert_eq!(
            (reply.code, reply.warnings),
            (201, vec![warning("baseline", detail)]),
            "{plural}"
        );
        let label = json!({ "metadata": { "labels": { "x": "y" } } });
        let reply = admin.request("PATCH", &format!("{path}/w"), Some(&label)).await;
        assert_eq!(
            (reply.code, reply.warnings),
            (200, vec![warning("baseline", detail)]),
            "{plural}"
        );
        let reply = admin
            .request(
                "PATCH",
                &format!("{path}/w/scale"),
                Some(&json!({ "spec": { "replicas": 2 } })),
            )
            .await;
        assert_eq!((reply.code, reply.warnings.len()), (200, 0), "{plural}");
    }
    // A pod that is admitted may still get a warning.
    namespace(
        admin,
        "soft",
        json!({ LEVEL: "privileged", "pod-security.kubernetes.io/warn": "baseline" }),
    )
    .await;
    for name in ["b", "a", "c"] {
        let reply = admin.request("POST", &pods("soft"), Some(&privileged(name))).await;
        assert_eq!((reply.code, reply.warnings), (201, vec![warning("baseline", detail)]));
    }
    let network = with(&plain("n"), "hostNetwork", json!(true));
    admin.make(&pods("soft"), network).await;
    let path = format!("{NAMESPACES}/soft");
    let to = |level: &str| json!({ "metadata": { "labels": { LEVEL: level } } });
    let reply = admin.request("PATCH", &path, Some(&to("baseline"))).await;
    let expected: Vec<String> = [
        "existing pods in namespace \"soft\" violate the new PodSecurity enforce level \"baseline:latest\"",
        "a (and 2 other pods): privileged",
        "n: host namespaces",
    ]
    .iter()
    .map(|text| format!("299 - {text:?}"))
    .collect();
    assert_eq!((reply.code, reply.warnings), (200, expected));
    assert!(admin.request("PATCH", &path, Some(&to("privileged"))).await.warnings.is_empty());
    assert!(
        admin
            .request(
                "PATCH",
                &format!("{path}?dryRun=All"),
                Some(&json!({ "metadata": { "labels": { "x": "y" } } }))
            )
            .await
            .warnings
            .is_empty()
    );

    // Pods from before: what does not change what they run may be written, an image may not.
    admin.request("PATCH", &path, Some(&to("baseline"))).await;
    let label = json!({ "metadata": { "labels": { "x": "y" }, "annotations": { "x": "y" } } });
    let pod = format!("{}/a", pods("soft"));
    assert_eq!(admin.request("PATCH", &pod, Some(&label)).await.code, 200);
    let status = json!({ "status": { "message": "m" } });
    assert_eq!(admin.request("PATCH", &format!("{pod}/status"), Some(&status)).await.code, 200);
    let image = json!([{ "op": "replace", "path": "/spec/containers/0/image", "value": "other" }]);
    let reply = typed(admin, "PATCH", &pod, "application/json-patch+json", &image).await;
    assert!(is_refused(&reply, "baseline"), "{reply:?}");
    crate::cluster::bind(admin, "soft", "a", "node-a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_is_the_operators() {
    for (level, codes) in [
        (PodSecurityLevel::Privileged, [201, 201, 201]),
        (PodSecurityLevel::Baseline, [403, 201, 201]),
        (PodSecurityLevel::Restricted, [403, 403, 201]),
    ] {
        let access = AccessConfig { pod_security_default: level, ..support::access() };
        let server = TestServer::start_with(TempDir::new().unwrap(), access).await;
        let admin = Caller::new("admin", server.admin().await);
        for (pod, code) in [privileged("a"), plain("b"), hardened("c")].iter().zip(codes) {
            let reply = admin.request("POST", &pods("default"), Some(pod)).await;
            assert_eq!(reply.code, code, "{level:?}: {}", reply.message());
        }
    }
}
