//! A user who may write roles and bindings, and has neither `escalate` nor `bind`, tries to get
//! more than they were given: by the content of roles, and by the other fields of the object.

use coffer_testkit::Attacks;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, RBAC, Reply};

const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings";

/// One way of writing to an object that exists.
#[derive(Clone, Copy, Debug)]
enum Form {
    Put,
    Json,
    Merge,
    Strategic,
    Apply,
}

const FORMS: [Form; 5] = [Form::Put, Form::Json, Form::Merge, Form::Strategic, Form::Apply];

/// What is changed: a field by its JSON pointer, and what it is to be; `null` removes it.
type Change = (&'static str, Value);

/// A merge patch that says the same.
fn merge(change: &Change) -> Value {
    let path = change.0.trim_start_matches('/');
    let nested = |inner: Value, key: &str| json!({ key.replace("~1", "/"): inner });
    path.rsplit('/').fold(change.1.clone(), nested)
}

fn merge_into(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            if !target[key].is_object() {
                target[key] = json!({});
            }
            merge_into(&mut target[key], value);
        }
    }
}

/// Makes a change to an object in one of the ways.
async fn change(caller: &Caller, admin: &Caller, path: &str, form: Form, what: &Change) -> Reply {
    let found = admin.request("GET", path, None).await.body;
    let (mut path, mut method) = (path.to_owned(), "PATCH");
    let (content_type, body) = match form {
        Form::Put => {
            method = "PUT";
            let mut object = found;
            merge_into(&mut object, &merge(what));
            ("application/json", object)
        }
        Form::Json => {
            let mut operations = Vec::new();
            // A JSON patch adds to what is there only.
            let parent = what.0.rsplit_once('/').unwrap().0;
            if found.pointer(parent).is_none() {
                operations.push(json!({ "op": "add", "path": parent, "value": {} }));
            }
            operations.push(match &what.1 {
                Value::Null => json!({ "op": "remove", "path": what.0 }),
                value => json!({ "op": "add", "path": what.0, "value": value }),
            });
            ("application/json-patch+json", operations.into())
        }
        Form::Merge => ("application/merge-patch+json", merge(what)),
        Form::Strategic => ("application/strategic-merge-patch+json", merge(what)),
        Form::Apply => {
            path += "?fieldManager=op&force=true";
            let mut object = json!({
                "apiVersion": found["apiVersion"], "kind": found["kind"],
                "metadata": { "name": found["metadata"]["name"] },
            });
            if !found["roleRef"].is_null() {
                object["roleRef"] = found["roleRef"].clone();
            }
            merge_into(&mut object, &merge(what));
            ("application/apply-patch+yaml", object)
        }
    };
    caller.request_as(method, &path, Some(&body), &[("content-type", content_type)]).await
}

fn rules(verbs: &[&str], resources: &[&str]) -> Value {
    json!([{ "apiGroups": [""], "resources": resources, "verbs": verbs }])
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": RBAC, "kind": kind, "name": role },
        "subjects": [{ "kind": "User", "name": user, "apiGroup": RBAC }],
    })
}

/// A caller who may do everything to roles and bindings but escalate and bind, and may read pods.
async fn operator(cluster: &Cluster) -> Caller {
    let given = json!({
        "metadata": { "name": "rbac-operator" },
        "rules": [
            {
                "apiGroups": [RBAC],
                "resources": ["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
                "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
            },
            { "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] },
        ],
    });
    cluster.admin.make(CLUSTER_ROLES, given).await;
    let bound = binding("rbac-operator", "ClusterRole", "rbac-operator", "op");
    cluster.admin.make(CLUSTER_BINDINGS, bound).await;
    cluster.user("op", "op", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_of_a_role_or_binding_gives_more_than_its_writer_has() {
    let cluster = Cluster::start().await;
    let (op, admin) = (operator(&cluster).await, &cluster.admin);
    let powerful = |name: &str| json!({ "metadata": { "name": name }, "rules": rules(&["get"], &["secrets"]) });
    admin.make(ROLES, powerful("powerful")).await;
    admin.make(BINDINGS, binding("powerful", "Role", "powerful", "friend")).await;
    admin.make(BINDINGS, binding("all", "ClusterRole", "cluster-admin", "friend")).await;

    let label = |to: &str| -> Change {
        let pointer: &'static str = match to {
            "view" => "/metadata/labels/rbac.authorization.k8s.io~1aggregate-to-view",
            _ => "/metadata/labels/rbac.authorization.k8s.io~1aggregate-to-edit",
        };
        (pointer, "true".into())
    };
    let everything = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    let everyones = json!({ "clusterRoleSelectors": [{}] });
    let me = json!([{ "kind": "User", "name": "op", "apiGroup": RBAC }]);
    let note: Change = ("/metadata/annotations/note", "mine".into());
    let changes: Vec<(String, Change)> = vec![
        (format!("{CLUSTER_ROLES}/cluster-admin"), label("view")),
        (format!("{CLUSTER_ROLES}/cluster-admin"), label("edit")),
        (format!("{CLUSTER_ROLES}/system:controller:namespace-controller"), label("view")),
        (format!("{CLUSTER_ROLES}/rbac-operator"), ("/rules", everything.clone())),
        (format!("{CLUSTER_ROLES}/rbac-operator"), ("/aggregationRule", everyones.clone())),
        (format!("{CLUSTER_ROLES}/view"), ("/aggregationRule", everyones)),
        (format!("{CLUSTER_ROLES}/view"), ("/rules", everything.clone())),
        (format!("{CLUSTER_ROLES}/view"), note.clone()),
        (format!("{ROLES}/powerful"), note.clone()),
        (format!("{ROLES}/powerful"), ("/rules", everything)),
        (format!("{BINDINGS}/powerful"), ("/subjects", me.clone())),
        (format!("{BINDINGS}/powerful"), note.clone()),
        (format!("{BINDINGS}/all"), ("/subjects", me.clone())),
        (format!("{BINDINGS}/all"), note.clone()),
        (format!("{CLUSTER_BINDINGS}/cluster-admin"), ("/subjects", me)),
        (format!("{CLUSTER_BINDINGS}/cluster-admin"), note),
    ];
    let mut attacks = Attacks::group("roles and bindings: more than their writer has");
    for (path, what) in &changes {
        for form in FORMS {
            let reply = change(&op, admin, path, form, what).await;
            let attack = format!("{form:?} {path} {}", what.0);
            attacks.attempt(&attack, reply.code == 403, (reply.code, reply.message()));
        }
    }
    // Freezing a default role. An apply removes only what its manager owns.
    for form in [Form::Put, Form::Json, Form::Merge, Form::Strategic] {
        let what = ("/aggregationRule", Value::Null);
        let reply = change(&op, admin, &format!("{CLUSTER_ROLES}/view"), form, &what).await;
        let refused = reply.message().ends_with("to use the aggregationRule")
            || reply.message().contains("attempting to grant");
        attacks.attempt(&format!("{form:?} freezes view"), refused, reply.message());
    }
    // New ones, by each way there is to make one.
    let kinds = [
        (CLUSTER_ROLES, "ClusterRole", powerful("new")),
        (ROLES, "Role", powerful("new")),
        (BINDINGS, "RoleBinding", binding("new", "ClusterRole", "cluster-admin", "op")),
        (BINDINGS, "RoleBinding", binding("new", "Role", "powerful", "op")),
        (CLUSTER_BINDINGS, "ClusterRoleBinding", binding("new", "ClusterRole", "view", "op")),
        (
            CLUSTER_ROLES,
            "ClusterRole",
            json!({
                "metadata": { "name": "new" },
                "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { "a": "b" } }] },
            }),
        ),
    ];
    for (collection, kind, mut object) in kinds {
        object["apiVersion"] = format!("{RBAC}/v1").into();
        object["kind"] = kind.into();
        let path = format!("{collection}/new");
        let apply = [("content-type", "application/apply-patch+yaml")];
        let replies = [
            op.request("POST", collection, Some(&object)).await,
            op.request("PUT", &path, Some(&object)).await,
            op.request_as("PATCH", &format!("{path}?fieldManager=op"), Some(&object), &apply).await,
        ];
        for (form, reply) in ["POST", "PUT", "apply"].iter().zip(replies) {
            let attack = format!("{form} of a new {kind}");
            attacks.attempt(&attack, reply.code == 403, (reply.code, reply.message()));
        }
    }
    // What it would all have come to.
    let alice = cluster.user("alice", "alice", &[]).await;
    for (who, caller) in [("op", &op), ("a viewer", &alice)] {
        let reply = caller.request("GET", "/api/v1/namespaces/a/secrets/db", None).await;
        attacks.attempt(&format!("{who} reads a secret"), reply.code == 403, reply.code);
    }
    attacks.finish();
}

/// The garbage collector has no role's rights, and must be able to take an owner or a finalizer off.
#[tokio::test(flavor = "multi_thread")]
async fn finalizers_and_owners_can_be_changed_and_own_rights_can_be_granted() {
    let cluster = Cluster::start().await;
    let (op, admin) = (operator(&cluster).await, &cluster.admin);
    admin.make(BINDINGS, binding("all", "ClusterRole", "cluster-admin", "friend")).await;
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "pa", "uid": "u" }]);
    let changes: [Change; 4] = [
        ("/metadata/finalizers", json!(["example.com/hold"])),
        ("/metadata/ownerReferences", owner),
        ("/metadata/finalizers", Value::Null),
        ("/metadata/ownerReferences", Value::Null),
    ];
    for path in [format!("{CLUSTER_ROLES}/view"), format!("{BINDINGS}/all")] {
        for form in [Form::Put, Form::Json, Form::Merge, Form::Strategic] {
            for what in &changes {
                let reply = change(&op, admin, &path, form, what).await;
                assert_eq!(reply.code, 200, "{form:?} {path}: {}", reply.message());
            }
        }
    }
    let own = json!({
        "metadata": {
            "name": "pod-reader", "labels": { format!("{RBAC}/aggregate-to-view"): "true" },
        },
        "rules": rules(&["get"], &["pods"]),
    });
    op.make(CLUSTER_ROLES, own).await;
    let note: Change = ("/metadata/annotations/note", "mine".into());
    for form in FORMS {
        let reply = change(&op, admin, &format!("{CLUSTER_ROLES}/pod-reader"), form, &note).await;
        assert_eq!(reply.code, 200, "{form:?}: {}", reply.message());
    }
}

/// Every piece of another identity is a right of its own, and to one name.
#[tokio::test(flavor = "multi_thread")]
async fn impersonation_gives_no_more_than_was_granted() {
    let cluster = Cluster::start().await;
    let given = json!({
        "metadata": { "name": "becomes" },
        "rules": [
            {
                "apiGroups": [""], "resources": ["users"], "resourceNames": ["alice"],
                "verbs": ["impersonate"],
            },
            {
                "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"],
                "verbs": ["impersonate"],
            },
            {
                "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["app"],
                "verbs": ["impersonate"],
            },
            {
                "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/team"],
                "resourceNames": ["blue"], "verbs": ["impersonate"],
            },
        ],
    });
    cluster.admin.make(CLUSTER_ROLES, given).await;
    // The account in one namespace only.
    cluster.admin.make(BINDINGS, binding("becomes", "ClusterRole", "becomes", "eve")).await;
    let users = json!({
        "metadata": { "name": "becomes-users" },
        "rules": [{
            "apiGroups": [""], "resources": ["users"], "resourceNames": ["alice"],
            "verbs": ["impersonate"],
        }, {
            "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"],
            "verbs": ["impersonate"],
        }, {
            "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/team"],
            "resourceNames": ["blue"], "verbs": ["impersonate"],
        }],
    });
    cluster.admin.make(CLUSTER_ROLES, users).await;
    let bound = binding("becomes-users", "ClusterRole", "becomes-users", "eve");
    cluster.admin.make(CLUSTER_BINDINGS, bound).await;
    let eve = cluster.user("eve", "eve", &[]).await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let (user, group) = ("impersonate-user", "impersonate-group");
    let app = "system:serviceaccount:a:app";
    for allowed in [
        &[(user, "alice")][..],
        &[(user, "alice"), (group, "dev"), ("impersonate-extra-team", "blue")],
        &[(user, app)],
    ] {
        let reply = eve.request_as("POST", path, Some(&review), allowed).await;
        assert_eq!(reply.code, 201, "{allowed:?}: {}", reply.message());
    }
    let mut attacks = Attacks::group("impersonation: more than was given");
    for headers in [
        &[(user, "kubernetes-admin")][..],
        &[(user, "Alice")],
        &[(user, "alice"), (user, "kubernetes-admin")],
        &[(user, "alice"), (group, "system:masters")],
        &[(user, "alice"), (group, "dev"), (group, "system:masters")],
        &[(user, "alice"), (group, "system:nodes")],
        &[(user, "alice"), ("impersonate-uid", "1")],
        &[(user, "alice"), ("impersonate-extra-team", "red")],
        &[(user, "alice"), ("impersonate-extra-team", "blue"), ("impersonate-extra-team", "red")],
        &[(user, "alice"), ("impersonate-extra-scopes", "blue")],
        &[(user, "alice"), ("impersonate-extra-te%61m%2fx", "blue")],
        &[(user, "system:node:node-a"), (group, "system:nodes")],
        &[(user, "system:serviceaccount:b:app")],
        &[(user, "system:serviceaccount:a:default")],
        &[(user, "system:serviceaccount:a:app:x")],
        &[(user, "system:serviceaccount:a")],
        &[(user, "system:serviceaccount::app")],
        &[(user, app), (group, "system:masters")],
        &[(user, app), (group, "system:serviceaccounts:b")],
        &[(group, "system:masters")],
        &[("impersonate-uid", "1")],
        &[("impersonate-extra-team", "blue")],
        &[(user, "")],
    ] {
        let reply = eve.request_as("POST", path, Some(&review), headers).await;
        let own = reply.body["status"]["userInfo"]["username"] == "eve";
        attacks.attempt(&format!("{headers:?}"), reply.code >= 400 || own, reply);
    }
    attacks.finish();
}

/// `escalate` and `bind` are on the names, and the kinds, that they were given for.
#[tokio::test(flavor = "multi_thread")]
async fn escalate_and_bind_on_one_name_are_not_on_another() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let on = |verb: &str, resource: &str, name: &str| {
        json!({
            "apiGroups": [RBAC], "resources": [resource], "resourceNames": [name], "verbs": [verb],
        })
    };
    let given = json!({
        "metadata": { "name": "sue" },
        "rules": [
            {
                "apiGroups": [RBAC],
                "resources": ["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
                "verbs": ["get", "create", "update", "patch"],
            },
            on("escalate", "clusterroles", "mine"),
            on("escalate", "roles", "own"),
            on("bind", "clusterroles", "view"),
            on("bind", "roles", "powerful"),
        ],
    });
    admin.make(CLUSTER_ROLES, given).await;
    admin.make(CLUSTER_BINDINGS, binding("sue", "ClusterRole", "sue", "sue")).await;
    let named = |name: &str| json!({ "metadata": { "name": name }, "rules": rules(&["get"], &["secrets"]) });
    // The names that `bind` is given for, of the other kind.
    admin.make(CLUSTER_ROLES, named("powerful")).await;
    admin.make(ROLES, named("view")).await;
    admin.make(ROLES, named("powerful")).await;
    admin.make(BINDINGS, binding("all", "ClusterRole", "cluster-admin", "friend")).await;
    let sue = cluster.user("sue", "sue", &[]).await;
    sue.make(CLUSTER_ROLES, named("mine")).await;
    sue.make(BINDINGS, binding("view", "ClusterRole", "view", "sue")).await;
    sue.make(BINDINGS, binding("powerful", "Role", "powerful", "friend")).await;

    let mut attacks = Attacks::group("escalate and bind: other names than were given");
    let generated =
        json!({ "metadata": { "generateName": "mine" }, "rules": rules(&["get"], &["secrets"]) });
    for (collection, object) in [
        (CLUSTER_ROLES, named("other")),
        (CLUSTER_ROLES, named("own")),
        (CLUSTER_ROLES, named("Mine")),
        (CLUSTER_ROLES, named("mine2")),
        (CLUSTER_ROLES, generated),
        (ROLES, named("other")),
        (ROLES, named("mine")),
        (BINDINGS, binding("x", "ClusterRole", "cluster-admin", "sue")),
        (BINDINGS, binding("x", "ClusterRole", "powerful", "sue")),
        (BINDINGS, binding("x", "Role", "view", "sue")),
        (BINDINGS, binding("x", "ClusterRole", "mine", "sue")),
        (CLUSTER_BINDINGS, binding("x", "ClusterRole", "edit", "sue")),
        (CLUSTER_BINDINGS, binding("x", "ClusterRole", "powerful", "sue")),
    ] {
        let reply = sue.request("POST", collection, Some(&object)).await;
        let attack = format!("POST {collection} {object}");
        attacks.attempt(&attack, reply.code == 403, (reply.code, reply.message()));
        let Some(name) = object["metadata"]["name"].as_str() else { continue };
        let reply = sue.request("PUT", &format!("{collection}/{name}"), Some(&object)).await;
        let attack = format!("PUT {collection} {object}");
        attacks.attempt(&attack, reply.code == 403, (reply.code, reply.message()));
    }
    for (path, patch) in [
        (format!("{CLUSTER_ROLES}/edit"), json!({ "metadata": { "labels": { "a": "b" } } })),
        (format!("{ROLES}/view"), json!({ "metadata": { "labels": { "a": "b" } } })),
        (
            format!("{BINDINGS}/all"),
            json!({ "subjects": [{ "kind": "User", "name": "sue", "apiGroup": RBAC }] }),
        ),
        (
            format!("{BINDINGS}/view"),
            json!({ "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": "edit" } }),
        ),
        (
            format!("{BINDINGS}/powerful"),
            json!({ "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": "powerful" } }),
        ),
    ] {
        let reply = sue.request("PATCH", &path, Some(&patch)).await;
        let attack = format!("PATCH {path} {patch}");
        attacks.attempt(&attack, reply.code == 403, (reply.code, reply.message()));
    }
    attacks.finish();
}
