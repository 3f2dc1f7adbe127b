//! Mallory writes pods and everything that pods are made from, and may use no secret. The account
//! `app` lists `db`. An attempt succeeds where a pod of hers, or one that runs what she wrote, has it.

use coffer_testkit::Attacks;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, RBAC, bind};

const PODS: &str = "/api/v1/namespaces/a/pods";
const ACCOUNTS: &str = "/api/v1/namespaces/a/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/a/secrets";
const ATTACH: &str = "coffer.dev/attach-secrets";
const GRANTED: &str = "coffer.dev/granted-secrets";

/// The kinds with templates.
#[derive(Clone, Copy, Debug)]
struct Kind {
    api_version: &'static str,
    kind: &'static str,
    path: &'static str,
}

const DEPLOYMENT: Kind = Kind {
    api_version: "apps/v1",
    kind: "Deployment",
    path: "/apis/apps/v1/namespaces/a/deployments",
};
const REPLICA_SET: Kind = Kind {
    api_version: "apps/v1",
    kind: "ReplicaSet",
    path: "/apis/apps/v1/namespaces/a/replicasets",
};
const REPLICATION_CONTROLLER: Kind = Kind {
    api_version: "v1",
    kind: "ReplicationController",
    path: "/api/v1/namespaces/a/replicationcontrollers",
};
/// No controller makes pods from it, but what reads one does.
const POD_TEMPLATE: Kind =
    Kind { api_version: "v1", kind: "PodTemplate", path: "/api/v1/namespaces/a/podtemplates" };
const KINDS: [Kind; 3] = [DEPLOYMENT, REPLICA_SET, REPLICATION_CONTROLLER];
const KINDS_WITH_TEMPLATE: [Kind; 4] =
    [DEPLOYMENT, REPLICA_SET, REPLICATION_CONTROLLER, POD_TEMPLATE];

impl Kind {
    fn object(self, name: &str, template: &Value) -> Value {
        let mut template = template.clone();
        template["metadata"]["labels"] = json!({ "app": name });
        if self.kind == "PodTemplate" {
            return json!({
                "apiVersion": self.api_version, "kind": self.kind,
                "metadata": { "name": name }, "template": template,
            });
        }
        let labels = json!({ "app": name });
        let selector = match self.kind {
            "ReplicationController" => labels,
            _ => json!({ "matchLabels": labels }),
        };
        json!({
            "apiVersion": self.api_version, "kind": self.kind,
            "metadata": { "name": name },
            "spec": { "replicas": 1, "selector": selector, "template": template },
        })
    }

    fn at(self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

/// A template that runs as an account.
fn template(account: &str) -> Value {
    json!({ "metadata": {}, "spec": {
        "serviceAccountName": account, "containers": [{ "name": "c", "image": "i" }],
    } })
}

fn annotated(mut template: Value, key: &str, value: &str) -> Value {
    template["metadata"]["annotations"] = json!({ key: value });
    template
}

fn naming(mut template: Value, secret: &str) -> Value {
    template["spec"]["volumes"] = json!([{ "name": "v", "secret": { "secretName": secret } }]);
    template
}

/// A cluster whose controllers are played by the test.
struct Setup {
    cluster: Cluster,
    mallory: Caller,
    control: Caller,
}

impl Setup {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        let mallory = cluster.user("mallory", "mallory", &[]).await;
        let control = cluster.user("control", "system:kube-controller-manager", &[]).await;
        let rule = |groups: Value, resources: Value| json!({ "apiGroups": groups, "verbs": ["*"], "resources": resources });
        let rules = json!([
            rule(
                json!([""]),
                json!([
                    "pods",
                    "pods/ephemeralcontainers",
                    "pods/status",
                    "pods/binding",
                    "replicationcontrollers",
                    "replicationcontrollers/scale",
                    "replicationcontrollers/status",
                    "serviceaccounts",
                    "podtemplates",
                ])
            ),
            rule(
                json!(["apps"]),
                json!([
                    "deployments",
                    "deployments/scale",
                    "deployments/status",
                    "replicasets",
                    "replicasets/scale",
                    "replicasets/status",
                ])
            ),
        ]);
        let setup = Self { cluster, mallory, control };
        setup.role("writer", "mallory", rules).await;
        setup.account("app", &["db"]).await;
        setup
    }

    fn admin(&self) -> &Caller {
        &self.cluster.admin
    }

    async fn role(&self, name: &str, user: &str, rules: Value) {
        let at = |plural: &str| format!("/apis/{RBAC}/v1/namespaces/a/{plural}");
        let role = json!({ "metadata": { "name": name }, "rules": rules });
        self.admin().make(&at("roles"), role).await;
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": name },
            "subjects": [{ "kind": "User", "name": user, "apiGroup": RBAC }],
        });
        self.admin().make(&at("rolebindings"), binding).await;
    }

    /// Makes or changes an account so that it lists these secrets.
    async fn account(&self, name: &str, secrets: &[&str]) {
        let listed: Vec<Value> = secrets.iter().map(|name| json!({ "name": name })).collect();
        let account = json!({ "metadata": { "name": name }, "secrets": listed });
        let reply = self.admin().request("POST", ACCOUNTS, Some(&account)).await;
        if reply.code == 409 {
            let reply =
                self.admin().request("PUT", &format!("{ACCOUNTS}/{name}"), Some(&account)).await;
            assert_eq!(reply.code, 200, "{}", reply.message());
        }
    }

    async fn get(&self, at: &str) -> Value {
        let reply = self.admin().request("GET", at, None).await;
        assert_eq!(reply.code, 200, "{at}: {}", reply.message());
        reply.body
    }

    /// The ReplicaSet that the Deployment's controller makes, or brings back.
    async fn replica_set(&self, deployment: &str) -> Option<String> {
        let owner = self.get(&DEPLOYMENT.at(deployment)).await;
        let mut set = REPLICA_SET.object(deployment, &owner["spec"]["template"]);
        set["metadata"] = json!({
            "generateName": format!("{deployment}-"), "ownerReferences": [reference(DEPLOYMENT, &owner)],
        });
        let reply = self.control.request("POST", REPLICA_SET.path, Some(&set)).await;
        (reply.code == 201).then(|| reply.body["metadata"]["name"].as_str().unwrap().to_owned())
    }

    /// The pod that a controller makes from an object, or its refusal.
    async fn pod(&self, kind: Kind, name: &str) -> Value {
        let mut owner = self.get(&kind.at(name)).await;
        let mut of = kind;
        if kind.kind == "Deployment" {
            let Some(set) = self.replica_set(name).await else { return json!("no replica set") };
            (owner, of) = (self.get(&REPLICA_SET.at(&set)).await, REPLICA_SET);
        }
        let reply = self.control.request("POST", PODS, Some(&pod_of(of, &owner))).await;
        if reply.code == 201 { reply.body } else { json!({ "refused": reply.body["message"] }) }
    }

    /// Whether a pod that a controller makes from an object gets the secret.
    async fn gets(&self, kind: Kind, name: &str) -> bool {
        has(&self.pod(kind, name).await, "db")
    }
}

/// A controller's reference to the owner.
fn reference(kind: Kind, owner: &Value) -> Value {
    json!({
        "apiVersion": kind.api_version, "kind": kind.kind, "controller": true,
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
    })
}

fn pod_of(kind: Kind, owner: &Value) -> Value {
    let template = &owner["spec"]["template"];
    json!({
        "metadata": {
            "generateName": "made-", "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": [reference(kind, owner)],
        },
        "spec": template["spec"],
    })
}

/// Whether a pod has a secret, in any place.
fn has(pod: &Value, secret: &str) -> bool {
    let spec = pod["spec"].to_string();
    spec.contains(&format!("\"secretName\":{secret:?}"))
        || spec.contains(&format!("{{\"name\":{secret:?}}}"))
}

/// The ways to write a change to an object that exists.
#[derive(Clone, Copy, Debug)]
enum Form {
    Put,
    Json,
    Merge,
    Strategic,
    Apply,
}

const FORMS: [Form; 5] = [Form::Put, Form::Json, Form::Merge, Form::Strategic, Form::Apply];

impl Form {
    /// Makes the template of an object that of `wanted`.
    async fn write(self, caller: &Caller, at: &str, wanted: &Value) -> (u16, Value) {
        let place = if wanted["spec"].is_null() { "/template" } else { "/spec/template" };
        let template = wanted.pointer(place).expect("all these kinds have one").clone();
        let patch = |template: Value| match place {
            "/template" => json!({ "template": template }),
            _ => json!({ "spec": { "template": template } }),
        };
        let (method, path, body, media) = match self {
            Self::Put => ("PUT", at.to_owned(), wanted.clone(), "application/json"),
            Self::Json => {
                let op = json!([{ "op": "replace", "path": place, "value": template }]);
                ("PATCH", at.to_owned(), op, "application/json-patch+json")
            }
            Self::Merge => {
                let mut template = template;
                // What is not said stays in a merge.
                for key in [ATTACH, "kubernetes.io/config.mirror"] {
                    let annotations = &mut template["metadata"]["annotations"];
                    if annotations.get(key).is_none() {
                        annotations[key] = Value::Null;
                    }
                }
                ("PATCH", at.to_owned(), patch(template), "application/merge-patch+json")
            }
            Self::Strategic => {
                let mut template = template;
                template["$patch"] = "replace".into();
                let media = "application/strategic-merge-patch+json";
                ("PATCH", at.to_owned(), patch(template), media)
            }
            Self::Apply => {
                let path = format!("{at}?fieldManager=mallory&force=true");
                ("PATCH", path, wanted.clone(), "application/apply-patch+yaml")
            }
        };
        let reply = caller.request_typed(method, &path, &body, media).await;
        (reply.code, reply.body)
    }
}

/// A template that is harmless when it is checked and gets the secret after a change of annotations.
#[tokio::test(flavor = "multi_thread")]
async fn annotations_that_change_after_the_check_give_no_secret() {
    let mut attacks = Attacks::group("a template's annotations changed after it was checked");
    let setup = Setup::new().await;
    let mut count = 0;
    for kind in KINDS {
        for form in FORMS {
            for (key, value) in [(ATTACH, "false"), ("kubernetes.io/config.mirror", "x")] {
                count += 1;
                let name = format!("thief{count}");
                let quiet = kind.object(&name, &annotated(template("app"), key, value));
                // A later apply without the annotation removes it.
                let made = match form {
                    Form::Apply => {
                        Form::Apply.write(&setup.mallory, &kind.at(&name), &quiet).await.0
                    }
                    _ => setup.mallory.request("POST", kind.path, Some(&quiet)).await.code,
                };
                let mut loud = kind.object(&name, &template("app"));
                if matches!(form, Form::Put) {
                    loud["metadata"]["annotations"] = json!({ GRANTED: "*" });
                }
                let changed = form.write(&setup.mallory, &kind.at(&name), &loud).await;
                let there = setup.admin().request("GET", &kind.at(&name), None).await.code == 200;
                let got = there && setup.gets(kind, &name).await;
                let refused = matches!(made, 403 | 422) || matches!(changed.0, 403 | 422);
                attacks.attempt(
                    &format!("{} by {form:?}, {key}", kind.kind),
                    refused && !got,
                    (made, &changed, got),
                );
            }
        }
    }
    attacks.finish();
}

/// Every way to write a template that names a secret, or runs as an account that lists one.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_with_a_secret_is_refused_by_every_kind_and_write() {
    let mut attacks = Attacks::group("a template with a secret, by every kind and write");
    let setup = Setup::new().await;
    let env = json!([{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } }]);
    let mut by_env = template("default");
    by_env["spec"]["containers"][0]["env"] = env;
    let mut at_node = naming(template("default"), "db");
    at_node["spec"]["nodeName"] = "mallorys-node".into();
    let mut tolerates = naming(template("default"), "db");
    tolerates["spec"]["tolerations"] = json!([{ "operator": "Exists" }]);
    let live = annotated(naming(template("default"), "db"), "coffer.dev/secret-update", "live");
    let cdi = annotated(naming(template("default"), "db"), "cdi.k8s.io/x", "vendor.com/device=spy");
    let wanted = [
        ("names it", "new", naming(template("default"), "db")),
        ("names it in the environment", "new", by_env),
        ("runs as its account", "new", template("app")),
        ("sends it to a node", "old", at_node),
        ("tolerates a node's taint", "old", tolerates),
        ("follows it", "old", live),
        ("hands it to a device", "old", cdi),
    ];
    let mut count = 0;
    for kind in KINDS_WITH_TEMPLATE {
        for (what, over, wanted) in &wanted {
            for form in FORMS {
                count += 1;
                let name = format!("t{count}");
                let before = match *over {
                    "old" => kind.object(&name, &naming(template("default"), "db")),
                    _ => kind.object(&name, &template("default")),
                };
                setup.admin().make(kind.path, before).await;
                let loud = kind.object(&name, wanted);
                let (code, said) = form.write(&setup.mallory, &kind.at(&name), &loud).await;
                attacks.attempt(
                    &format!("{} {what} by {form:?}", kind.kind),
                    code == 403,
                    (code, said),
                );
            }
            if *over == "new" {
                let loud = kind.object(&format!("new{count}"), wanted);
                let reply = setup.mallory.request("POST", kind.path, Some(&loud)).await;
                attacks.attempt(
                    &format!("{} {what} by POST", kind.kind),
                    reply.code == 403,
                    &reply,
                );
                let at = kind.at(&format!("new{count}"));
                let applied = Form::Apply.write(&setup.mallory, &at, &loud).await;
                attacks.attempt(
                    &format!("{} {what}, applied new", kind.kind),
                    applied.0 == 403,
                    applied,
                );
            }
        }
    }
    attacks.finish();
}

/// The secret, or the account, comes after the template.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_secrets_that_come_later_give_no_secret() {
    let mut attacks = Attacks::group("an account or secret that comes after the template");
    let setup = Setup::new().await;
    for kind in KINDS {
        let name = |case: &str| format!("{case}-{}", kind.kind.to_lowercase());
        // No account yet.
        let (case, account) = (name("no-account"), name("later"));
        setup.mallory.make(kind.path, kind.object(&case, &template(&account))).await;
        setup.account(&account, &["db"]).await;
        let got = setup.pod(kind, &case).await;
        attacks.attempt(&case, !has(&got, "db"), got);

        // An account that lists nothing yet.
        let (case, account) = (name("plain"), name("plain-account"));
        setup.account(&account, &[]).await;
        setup.mallory.make(kind.path, kind.object(&case, &template(&account))).await;
        setup.account(&account, &["db"]).await;
        let got = setup.pod(kind, &case).await;
        attacks.attempt(&case, !has(&got, "db"), got);
        // Her own writes, which need no right, add nothing.
        let restart = annotated(template(&account), "kubectl.kubernetes.io/restartedAt", "now");
        let restarted =
            Form::Merge.write(&setup.mallory, &kind.at(&case), &kind.object(&case, &restart)).await;
        let got = setup.pod(kind, &case).await;
        attacks.attempt(&format!("{case} restarted"), restarted.0 == 200 && !has(&got, "db"), got);
        // Nor does the administrator's scaling and labelling of her program.
        for body in [
            json!({ "spec": { "replicas": 2 } }),
            json!({ "metadata": { "labels": { "x": "y" } } }),
        ] {
            setup.admin().request("PATCH", &kind.at(&case), Some(&body)).await;
            let got = setup.pod(kind, &case).await;
            attacks.attempt(
                &format!("{case} with the administrator's {body}"),
                !has(&got, "db"),
                got,
            );
        }

        // The account lists a secret that does not exist.
        let (case, account) = (name("missing"), name("missing-account"));
        let secret = name("missing-secret");
        setup.account(&account, &[&secret]).await;
        let reply = setup
            .mallory
            .request("POST", kind.path, Some(&kind.object(&case, &template(&account))))
            .await;
        attacks.attempt(&case, reply.code == 403, &reply);

        // The secret is deleted and made again; the account turned the attaching off, then on.
        let (case, account) = (name("off"), name("off-account"));
        let off = |value: &str| {
            json!({
                "metadata": { "name": account, "annotations": { ATTACH: value } }, "secrets": [{ "name": "db" }],
            })
        };
        setup.admin().make(ACCOUNTS, off("false")).await;
        setup.mallory.make(kind.path, kind.object(&case, &template(&account))).await;
        let at = format!("{ACCOUNTS}/{account}");
        assert_eq!(setup.admin().request("PUT", &at, Some(&off("true"))).await.code, 200);
        let got = setup.pod(kind, &case).await;
        attacks.attempt(&case, !has(&got, "db"), got);

        // The account is deleted and made again, as another one.
        let (case, account) = (name("again"), name("again-account"));
        setup.account(&account, &[]).await;
        setup.mallory.make(kind.path, kind.object(&case, &template(&account))).await;
        setup.admin().request("DELETE", &format!("{ACCOUNTS}/{account}"), None).await;
        setup.account(&account, &["db"]).await;
        let got = setup.pod(kind, &case).await;
        attacks.attempt(&case, !has(&got, "db"), got);

        // The account's annotation is wrong, so that no pod can be made for now.
        let (case, account) = (name("wrong"), name("wrong-account"));
        let wrong = json!({
            "metadata": { "name": account, "annotations": { "coffer.dev/mount-path": "not/absolute" } },
            "secrets": [{ "name": "db" }],
        });
        setup.admin().make(ACCOUNTS, wrong).await;
        let reply = setup
            .mallory
            .request("POST", kind.path, Some(&kind.object(&case, &template(&account))))
            .await;
        attacks.attempt(&case, reply.code == 403, &reply);

        // Pull secrets are on another list.
        let (case, account) = (name("pull"), name("pull-account"));
        setup.account(&account, &[]).await;
        setup.mallory.make(kind.path, kind.object(&case, &template(&account))).await;
        let pull =
            json!({ "metadata": { "name": account }, "imagePullSecrets": [{ "name": "db" }] });
        let at = format!("{ACCOUNTS}/{account}");
        assert_eq!(setup.admin().request("PUT", &at, Some(&pull)).await.code, 200);
        let got = setup.pod(kind, &case).await;
        attacks.attempt(&case, !has(&got, "db"), got);
    }
    // A secret that was a token, and was made again as something else.
    let token = json!({ "metadata": { "name": "was-token", "annotations": { "kubernetes.io/service-account.name": "app" } },
        "type": "kubernetes.io/service-account-token" });
    setup.admin().make(SECRETS, token).await;
    setup.account("tokens", &["was-token"]).await;
    setup.mallory.make(DEPLOYMENT.path, DEPLOYMENT.object("token", &template("tokens"))).await;
    setup.admin().request("DELETE", &format!("{SECRETS}/was-token"), None).await;
    setup.admin().make(SECRETS, crate::cluster::secret("was-token")).await;
    let got = setup.pod(DEPLOYMENT, "token").await;
    attacks.attempt("a token that became a password", !has(&got, "was-token"), got);
    attacks.finish();
}

/// The record itself, owners, and old templates of people with rights.
#[tokio::test(flavor = "multi_thread")]
async fn forged_grants_owners_and_rollbacks_give_no_secret() {
    let mut attacks = Attacks::group("a forged grant, owner or rollback");
    let setup = Setup::new().await;
    setup.account("plain", &[]).await;
    // The record, by every write.
    for kind in KINDS {
        for form in FORMS {
            let name = format!("forged-{form:?}-{}", kind.kind).to_lowercase();
            let mut object = kind.object(&name, &template("plain"));
            object["metadata"]["annotations"] =
                json!({ GRANTED: "*", "coffer.dev/granted-host-paths": "true" });
            object["spec"]["template"]["metadata"]["annotations"] =
                json!({ GRANTED: "*", "x": "y" });
            let made = setup.mallory.request("POST", kind.path, Some(&object)).await;
            let written = form.write(&setup.mallory, &kind.at(&name), &object).await;
            let patch = json!({ "metadata": { "annotations": { GRANTED: "*" } } });
            setup.mallory.request("PATCH", &kind.at(&name), Some(&patch)).await;
            setup
                .mallory
                .request("PATCH", &format!("{}/status", kind.at(&name)), Some(&patch))
                .await;
            let stored = setup.get(&kind.at(&name)).await;
            let annotations = &stored["metadata"]["annotations"];
            let clean = annotations[GRANTED] == "[]"
                && annotations["coffer.dev/granted-host-paths"].is_null()
                && !stored["metadata"]["managedFields"]
                    .to_string()
                    .contains(&format!("f:{GRANTED}\":{{}},\"f:coffer"));
            attacks.attempt(&name, made.code == 201 && written.0 == 200 && clean, stored);
            let removed = json!({ "metadata": { "annotations": { GRANTED: null } } });
            setup.mallory.request("PATCH", &kind.at(&name), Some(&removed)).await;
            let stored = setup.get(&kind.at(&name)).await;
            attacks.attempt(
                &format!("{name} taken away"),
                stored["metadata"]["annotations"][GRANTED] == "[]",
                stored,
            );
        }
    }
    setup.account("plain", &["db"]).await;

    // An owner that is the administrator's, named by mallory.
    setup.admin().make(DEPLOYMENT.path, DEPLOYMENT.object("admins", &template("app"))).await;
    let admins = setup.get(&DEPLOYMENT.at("admins")).await;
    let set = setup.replica_set("admins").await.expect("the controller may");
    let set = setup.get(&REPLICA_SET.at(&set)).await;
    let mut forged = pod_of(REPLICA_SET, &set);
    let reply = setup.mallory.request("POST", PODS, Some(&forged)).await;
    attacks.attempt("a pod of the administrator's ReplicaSet", reply.code == 403, &reply);
    forged["spec"] = template("app")["spec"].clone();
    forged["spec"]["containers"][0]["image"] = "evil".into();
    for (who, caller) in [("mallory", &setup.mallory), ("a controller", &setup.control)] {
        let reply = caller.request("POST", PODS, Some(&forged)).await;
        attacks.attempt(
            &format!("another program in such a pod, by {who}"),
            !has(&reply.body, "db"),
            &reply,
        );
    }
    let mut own = REPLICA_SET.object("own", &template("plain"));
    own["metadata"]["ownerReferences"] = json!([reference(DEPLOYMENT, &admins)]);
    let reply = setup.mallory.request("POST", REPLICA_SET.path, Some(&own)).await;
    attacks.attempt("a ReplicaSet of the administrator's Deployment", reply.code == 403, &reply);
    // One whose account lists nothing yet, so that nothing is refused; a controller writes it.
    setup.account("empty", &[]).await;
    let mut own = REPLICA_SET.object("own", &template("empty"));
    own["metadata"]["ownerReferences"] = json!([reference(DEPLOYMENT, &admins)]);
    setup.mallory.make(REPLICA_SET.path, own).await;
    setup.account("empty", &["db"]).await;
    let scale = json!({ "spec": { "replicas": 2 } });
    assert_eq!(
        setup.control.request("PATCH", &REPLICA_SET.at("own"), Some(&scale)).await.code,
        200
    );
    let got = setup.pod(REPLICA_SET, "own").await;
    attacks.attempt(
        "a ReplicaSet with that owner, scaled by the controller",
        !has(&got, "db"),
        got,
    );

    // A controller's pod of an owner that does not exist, or another one.
    for (what, uid) in [
        ("another owner of that name", json!("00000000-0000-0000-0000-000000000000")),
        ("none", Value::Null),
    ] {
        let mut pod = pod_of(REPLICA_SET, &set);
        pod["metadata"]["ownerReferences"][0]["uid"] = uid.clone();
        if uid.is_null() {
            pod["metadata"]["ownerReferences"] = Value::Null;
        }
        let reply = setup.control.request("POST", PODS, Some(&pod)).await;
        attacks.attempt(&format!("a controller's pod of {what}"), !has(&reply.body, "db"), &reply);
        pod["spec"] = naming(template("plain"), "db")["spec"].clone();
        let reply = setup.control.request("POST", PODS, Some(&pod)).await;
        attacks.attempt(&format!("one that names it, of {what}"), reply.code == 403, &reply);
    }

    // Back to what the administrator ran: by mallory's own write, with or without the list.
    setup.account("then", &["db"]).await;
    setup.admin().make(DEPLOYMENT.path, DEPLOYMENT.object("back", &template("then"))).await;
    let old = setup.replica_set("back").await.expect("the controller may");
    let mut other = template("then");
    other["spec"]["containers"][0]["image"] = "j".into();
    let written = Form::Put
        .write(setup.admin(), &DEPLOYMENT.at("back"), &DEPLOYMENT.object("back", &other))
        .await;
    assert_eq!(written.0, 200);
    let undo = Form::Json
        .write(
            &setup.mallory,
            &DEPLOYMENT.at("back"),
            &DEPLOYMENT.object("back", &template("then")),
        )
        .await;
    attacks.attempt("a rollback to the administrator's template", undo.0 == 403, undo);
    setup.account("then", &[]).await;
    let undo = Form::Json
        .write(
            &setup.mallory,
            &DEPLOYMENT.at("back"),
            &DEPLOYMENT.object("back", &template("then")),
        )
        .await;
    assert_eq!(undo.0, 200, "{}", undo.1);
    setup.account("then", &["db"]).await;
    let scale = json!({ "spec": { "replicas": 3 } });
    assert_eq!(setup.control.request("PATCH", &REPLICA_SET.at(&old), Some(&scale)).await.code, 200);
    let got = setup.pod(REPLICA_SET, &old).await;
    attacks.attempt(
        "the old ReplicaSet after a rollback that took no right",
        !has(&got, "db"),
        got,
    );

    // Orphans of the administrator's: adopted by mallory's Deployment, changed by her.
    setup.admin().make(REPLICA_SET.path, REPLICA_SET.object("orphan", &template("app"))).await;
    setup.mallory.make(DEPLOYMENT.path, DEPLOYMENT.object("orphan", &template("default"))).await;
    let adopter = setup.get(&DEPLOYMENT.at("orphan")).await;
    let adopt = json!({ "metadata": { "ownerReferences": [reference(DEPLOYMENT, &adopter)] } });
    assert_eq!(
        setup.control.request("PATCH", &REPLICA_SET.at("orphan"), Some(&adopt)).await.code,
        200
    );
    let mut evil = REPLICA_SET.object("orphan", &template("app"));
    evil["spec"]["template"]["spec"]["containers"][0]["image"] = "evil".into();
    for form in FORMS {
        let written = form.write(&setup.mallory, &REPLICA_SET.at("orphan"), &evil).await;
        attacks.attempt(
            &format!("an adopted ReplicaSet changed by {form:?}"),
            written.0 == 403,
            written,
        );
    }
    // While a Deployment is paused its template can be written, and is checked.
    let mut paused = DEPLOYMENT.object("paused", &template("default"));
    paused["spec"]["paused"] = true.into();
    setup.mallory.make(DEPLOYMENT.path, paused.clone()).await;
    paused["spec"]["template"] =
        DEPLOYMENT.object("paused", &template("app"))["spec"]["template"].clone();
    let reply = setup.mallory.request("PUT", &DEPLOYMENT.at("paused"), Some(&paused)).await;
    attacks.attempt("a paused Deployment", reply.code == 403, &reply);
    for kind in KINDS {
        let reply = setup
            .mallory
            .request(
                "POST",
                &format!("{}?dryRun=All", kind.path),
                Some(&kind.object("dry", &template("app"))),
            )
            .await;
        attacks.attempt(&format!("a dry run of a {}", kind.kind), reply.code == 403, &reply);
    }
    attacks.finish();
}

/// Changes of existing pods that have the secret.
#[tokio::test(flavor = "multi_thread")]
async fn existing_pods_with_a_secret_cannot_be_changed_by_another_user() {
    let mut attacks = Attacks::group("a change of another user's pod with a secret");
    let setup = Setup::new().await;
    let mut pod = json!({ "metadata": { "name": "p", "annotations": { "cmd": "true" } }, "spec": template("app")["spec"] });
    let field = json!({ "fieldRef": { "fieldPath": "metadata.annotations['cmd']" } });
    pod["spec"]["containers"][0]["env"] = json!([{ "name": "CMD", "valueFrom": field }]);
    setup.admin().make(PODS, pod.clone()).await;
    let at = format!("{PODS}/p");
    assert!(has(&setup.get(&at).await, "db"));
    let tolerations = json!([{ "key": "evil", "operator": "Exists" }]);
    let ephemeral =
        json!({ "spec": { "ephemeralContainers": [{ "name": "e", "image": "evil" }] } });
    let annotations =
        |key: &str, value: &str| json!({ "metadata": { "annotations": { key: value } } });
    for (what, sub, body) in [
        ("image", "", json!({ "spec": { "containers": [{ "name": "c", "image": "evil" }] } })),
        ("tolerations", "", json!({ "spec": { "tolerations": tolerations } })),
        ("live update", "", annotations("coffer.dev/secret-update", "live")),
        ("live update by status", "/status", annotations("coffer.dev/secret-update", "live")),
        ("a command in an annotation", "", annotations("cmd", "cat /s/*")),
        ("a command in an annotation by status", "/status", annotations("cmd", "cat /s/*")),
        (
            "an annotation for the runtime",
            "",
            annotations("io.kubernetes.cri.untrusted-workload", "true"),
        ),
        ("an ephemeral container", "/ephemeralcontainers", ephemeral),
    ] {
        for media in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
            let reply =
                setup.mallory.request_typed("PATCH", &format!("{at}{sub}"), &body, media).await;
            attacks.attempt(&format!("{what} by {media}"), reply.code == 403, &reply);
        }
        let mut whole = setup.get(&at).await;
        merge(&mut whole, &body);
        let reply = setup.mallory.request("PUT", &format!("{at}{sub}"), Some(&whole)).await;
        attacks.attempt(&format!("{what} by PUT"), reply.code == 403, &reply);
    }
    let binding = json!({ "metadata": { "name": "p", "annotations": { "cmd": "cat /s/*" } },
        "target": { "apiVersion": "v1", "kind": "Node", "name": "node-a" } });
    let reply = setup.mallory.request("POST", &format!("{at}/binding"), Some(&binding)).await;
    attacks.attempt("a command by the binding's annotations", reply.code == 403, &reply);
    // An account's list, and where it is mounted.
    let path = json!({ "metadata": { "annotations": { "coffer.dev/mount-path": "/usr/share/nginx/html" } } });
    let reply = setup.mallory.request("PATCH", &format!("{ACCOUNTS}/app"), Some(&path)).await;
    attacks.attempt("another mount path of an account's secrets", reply.code == 403, &reply);
    let listed = json!({ "secrets": [{ "name": "db" }, { "name": "other" }] });
    let reply = setup.mallory.request("PATCH", &format!("{ACCOUNTS}/app"), Some(&listed)).await;
    attacks.attempt("another secret on an account's list", reply.code == 403, &reply);
    let again = json!({ "metadata": { "name": "again" }, "spec": template("app")["spec"] });
    let reply = setup.mallory.request("POST", PODS, Some(&again)).await;
    attacks.attempt("a pod of the account", reply.code == 403, &reply);
    attacks.finish();
}

fn merge(into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| merge(&mut into[key], value))
        }
        Value::Array(items) if into.is_array() && items[0]["name"] == "c" => {
            merge(&mut into[0], &items[0])
        }
        other => *into = other.clone(),
    }
}

/// Everyday writes are accepted.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_take_no_right_and_writes_with_the_right_are_accepted() {
    let setup = Setup::new().await;
    let admin = setup.admin();
    for kind in KINDS {
        let name = format!("legit-{}", kind.kind.to_lowercase());
        // Written before the account exists, by a user who may use everything: order does not matter.
        admin.make(kind.path, kind.object(&name, &template(&name))).await;
        assert_eq!(setup.get(&kind.at(&name)).await["metadata"]["annotations"][GRANTED], "*");
        setup.account(&name, &["db"]).await;
        assert!(setup.gets(kind, &name).await, "{name}");
        // Mallory scales, labels, restarts; the grant stays, whatever the account lists meanwhile.
        setup.account(&name, &["db", "other"]).await;
        let scale = json!({ "spec": { "replicas": 3 } });
        for sub in ["", "/scale"] {
            let reply = setup
                .mallory
                .request("PATCH", &format!("{}{sub}", kind.at(&name)), Some(&scale))
                .await;
            assert_eq!(reply.code, 200, "{name}{sub}: {}", reply.message());
        }
        let restart = json!({ "spec": { "template": { "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": "now" } } } } });
        for body in [json!({ "metadata": { "labels": { "x": "y" } } }), restart] {
            let reply = setup.mallory.request("PATCH", &kind.at(&name), Some(&body)).await;
            assert_eq!(reply.code, 200, "{name}: {}", reply.message());
        }
        assert!(setup.gets(kind, &name).await, "{name} after a restart");
    }
    // For a user who may use one secret, that one is recorded.
    let rules = json!([{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["use"], "resourceNames": ["db"] }]);
    setup.role("use-db", "mallory", rules).await;
    setup.account("two", &["db"]).await;
    let made =
        setup.mallory.make(DEPLOYMENT.path, DEPLOYMENT.object("two", &template("two"))).await;
    assert_eq!(made["metadata"]["annotations"][GRANTED], "[\"db\"]");
    assert!(!made["metadata"]["managedFields"].to_string().contains("granted"));
    setup.account("two", &["db", "other"]).await;
    let pod = setup.pod(DEPLOYMENT, "two").await;
    assert!(has(&pod, "db") && !has(&pod, "other"), "{pod}");
    // The administrator's restart gives what is listed by now.
    let restart =
        json!({ "spec": { "template": { "metadata": { "annotations": { "r": "1" } } } } });
    assert_eq!(admin.request("PATCH", &DEPLOYMENT.at("two"), Some(&restart)).await.code, 200);
    let pod = setup.pod(DEPLOYMENT, "two").await;
    assert!(has(&pod, "db") && has(&pod, "other"), "{pod}");
    // An apply of the same intent conflicts with nothing and changes nothing.
    let mut intent = DEPLOYMENT.object("applied", &template("two"));
    intent["metadata"]["annotations"] = json!({ "own": "x" });
    let first = Form::Apply.write(admin, &DEPLOYMENT.at("applied"), &intent).await;
    let second = admin
        .request_typed(
            "PATCH",
            &format!("{}?fieldManager=mallory", DEPLOYMENT.at("applied")),
            &intent,
            "application/apply-patch+yaml",
        )
        .await;
    assert_eq!((first.0, second.code), (201, 200), "{}", second.message());
    assert_eq!(first.1["metadata"]["resourceVersion"], second.body["metadata"]["resourceVersion"]);
    bind(admin, "a", pod["metadata"]["name"].as_str().unwrap(), "node-a").await;
}
