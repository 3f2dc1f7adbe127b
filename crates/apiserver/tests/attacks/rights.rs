//! Rights that are small to write and slow to evaluate: roles of many rules, bound many times. An attempt
//! succeeds where a request gets no response while others of the same user are evaluated, where a response
//! is out of proportion, or where it is the wrong one.

use std::time::Duration;

use coffer_testkit::Attacks;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cluster::{Caller, Cluster, RBAC};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";
const SECRETS: &str = "/api/v1/namespaces/a/secrets";
const PODS: &str = "/api/v1/namespaces/a/pods";

/// Rules in a role that is just small enough to be stored.
const RULES: usize = 14_000;
/// Bindings of one role.
const TIMES: usize = 40;
/// How long a response is waited for: a bound of the test, far below what a scan would take and far
/// above what is measured.
const PATIENCE: Duration = Duration::from_secs(60);

fn one_name_each(verb: &str, resource: &str) -> Value {
    let rule = |n: usize| {
        json!({
            "apiGroups": [""], "resources": [resource], "verbs": [verb], "resourceNames": [format!("n{n}")],
        })
    };
    (0..RULES).map(rule).collect()
}

fn role(name: &str, rules: Value) -> Value {
    json!({ "metadata": { "name": name }, "rules": rules })
}

fn binding(name: &str, role: &str, subjects: Value) -> Value {
    json!({
        "metadata": { "name": name }, "subjects": subjects,
        "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": role },
    })
}

fn group(name: &str) -> Value {
    json!({ "kind": "Group", "name": name, "apiGroup": RBAC })
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "name": name, "apiGroup": RBAC })
}

/// The response, or code 0 for none in time.
async fn response_to(
    who: &Caller,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, String, Value) {
    match tokio::time::timeout(PATIENCE, who.request(method, path, body)).await {
        Ok(reply) => (reply.code, reply.message().to_owned(), reply.body),
        Err(_) => (0, "no response".to_owned(), Value::Null),
    }
}

/// Ann is the namespace's administrator: she writes its roles and bindings, and can give what she has.
#[tokio::test(flavor = "multi_thread")]
async fn slow_rights_checks_do_not_delay_other_users() {
    let cluster = Cluster::start().await;
    let (admin, ann) = (&cluster.admin, cluster.user("ann", "ann", &[]).await);
    let mut attacks = Attacks::group("rights that take time");
    let mut ann_is_admin = binding("ann", "admin", json!([user("ann")]));
    ann_is_admin["roleRef"]["kind"] = "ClusterRole".into();
    admin.make(BINDINGS, ann_is_admin).await;

    // An empty role, bound many times to all users, and filled afterwards.
    ann.make(ROLES, role("many", json!([]))).await;
    for n in 0..TIMES {
        let everybody = json!([group("system:authenticated"), user("ann")]);
        ann.make(BINDINGS, binding(&format!("many-{n}"), "many", everybody)).await;
    }
    let many = role("many", one_name_each("get", "pods"));
    let (code, message, _) = response_to(&ann, "PUT", &format!("{ROLES}/many"), Some(&many)).await;
    attacks.attempt("a role is filled", code == 200, message);
    let (code, message, _) =
        response_to(&ann, "POST", ROLES, Some(&role("more", many["rules"].clone()))).await;
    attacks.attempt("a role of what its writer has", code == 201, message);

    // One's own rights, many times over, in one response.
    let ask = json!({ "spec": { "namespace": "a" } });
    let path = format!("{REVIEWS}/selfsubjectrulesreviews");
    let (code, message, body) = response_to(&ann, "POST", &path, Some(&ask)).await;
    let shown = body["status"]["resourceRules"].as_array().map_or(0, Vec::len);
    let proportionate = code == 201 && (RULES..2 * RULES).contains(&shown);
    attacks.attempt("the list of one's rights", proportionate, (code, message, shown));

    // Each binding is checked against all that the writer has and all that the role holds.
    admin.make(ROLES, role("unheld", one_name_each("get", "nodes"))).await;
    let mut flood = JoinSet::new();
    for n in 0..6 {
        let client = cluster.user("ann", "ann", &[]).await;
        let (name, held) = (format!("flood-{n}"), n % 2 == 0);
        let given = if held { "many" } else { "unheld" };
        let body = binding(&name, given, json!([user("friend")]));
        flood.spawn(async move {
            let (code, message, _) = response_to(&client, "POST", BINDINGS, Some(&body)).await;
            (held, code, message)
        });
    }
    let bob = cluster.user("bob", "bob", &[]).await;
    let (health, ..) = response_to(&bob, "GET", "/healthz", None).await;
    let (list, ..) = response_to(&bob, "GET", SECRETS, None).await;
    attacks.attempt("others meanwhile", (health, list) == (200, 403), (health, list));
    while let Some(done) = flood.join_next().await {
        let (held, code, message) = done.unwrap();
        let (expected, denial) = if held {
            (201, String::new())
        } else {
            let denial = "is attempting to grant RBAC permissions not currently held:\n\
                {APIGroups:[\"\"], Resources:[\"nodes\"], ResourceNames:[\"n0\"], Verbs:[\"get\"]}\n";
            (403, denial.to_owned())
        };
        let right = code == expected && message.contains(&denial);
        let start: String = message.chars().take(300).collect();
        attacks.attempt(&format!("a binding, held: {held}"), right, (code, start));
    }

    // Every user's requests are evaluated by the rules that all users are given.
    for (path, expected) in [("n13999", 404), ("n14000", 403), ("n", 403)] {
        let (code, message, _) = response_to(&bob, "GET", &format!("{PODS}/{path}"), None).await;
        attacks.attempt(&format!("pod {path} of everybody's"), code == expected, message);
    }

    // A pod with many secrets. Uma makes pods, and uses the secrets that the role names, which an administrator gave her.
    let makes = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["create"] }]);
    admin.make(ROLES, role("makes", makes)).await;
    admin.make(BINDINGS, binding("uma", "makes", json!([user("uma")]))).await;
    admin.make(ROLES, role("uses", one_name_each("use", "secrets"))).await;
    for n in 0..TIMES {
        let uses = binding(&format!("uma-uses-{n}"), "uses", json!([user("uma")]));
        admin.make(BINDINGS, uses).await;
    }
    let uma = cluster.user("uma", "uma", &[]).await;
    for (first, expected) in [("n0", 201), ("zzz", 403)] {
        let names = (1..300).map(|n| format!("n{n}")).chain([first.to_owned()]);
        let secrets: Vec<Value> = names.map(|name| json!({ "name": name })).collect();
        let pod = json!({
            "metadata": { "name": format!("pod-{first}") },
            "spec": { "containers": [{ "name": "c", "image": "i" }], "imagePullSecrets": secrets },
        });
        let (code, message, _) = response_to(&uma, "POST", PODS, Some(&pod)).await;
        attacks.attempt(&format!("a pod with 300 secrets and {first}"), code == expected, message);
    }

    // Many groups against many subjects.
    let subjects: Value = (0..10_000).map(|n| group(&format!("g{n}"))).collect();
    for n in 0..3 {
        let body = binding(&format!("groups-{n}"), "uses", subjects.clone());
        admin.make(BINDINGS, body).await;
    }
    let groups: Vec<String> = (0..2_000).map(|n| format!("h{n}")).collect();
    for (group, expected) in [("g9999", true), ("g10000", false)] {
        let mut all = groups.clone();
        all.push(group.to_owned());
        let review = json!({ "spec": {
            "user": "x", "groups": all,
            "resourceAttributes": {
                "namespace": "a", "verb": "use", "resource": "secrets", "name": "n9",
            },
        } });
        let path =
            "/apis/authorization.k8s.io/v1/namespaces/a/localsubjectaccessreviews".to_owned();
        let (code, message, body) = response_to(&ann, "POST", &path, Some(&review)).await;
        let right = code == 201 && body["status"]["allowed"] == expected;
        attacks.attempt(&format!("2,000 groups and {group}"), right, (code, message));
    }

    // Lists that would be multiplied with each other.
    let many = |word: &str| (0..5_000).map(|n| format!("{word}{n}")).collect::<Vec<_>>();
    let product = json!([{
        "apiGroups": many("g"), "resources": many("r"), "verbs": many("v"),
    }]);
    let (code, message, _) =
        response_to(&ann, "POST", ROLES, Some(&role("product", product.clone()))).await;
    let denial = "is attempting to grant RBAC permissions not currently held";
    let refused = code == 403 && message.contains(denial) && message.len() < 1024 * 1024;
    attacks.attempt("a rule of long lists", refused, (code, message.len()));
    let (code, message, _) =
        response_to(admin, "POST", CLUSTER_ROLES, Some(&role("product", product))).await;
    attacks.attempt("the same by who has everything", code == 201, (code, message));
    let mut bound = binding("product", "product", json!([group("system:authenticated")]));
    bound["roleRef"]["kind"] = "ClusterRole".into();
    admin.make(BINDINGS, bound).await;
    for (resource, expected) in [("r4999", true), ("r5000", false)] {
        let review = json!({ "spec": { "resourceAttributes": {
            "namespace": "a", "verb": "v7", "group": "g7", "resource": resource,
        } } });
        let path = format!("{REVIEWS}/selfsubjectaccessreviews");
        let (code, message, body) = response_to(&bob, "POST", &path, Some(&review)).await;
        let right = code == 201 && body["status"]["allowed"] == expected;
        attacks.attempt(&format!("{resource} of long lists"), right, (code, message));
    }
    attacks.finish();
}
