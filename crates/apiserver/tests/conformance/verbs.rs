//! Every verb of every resource that discovery lists, from one table: nothing that is announced is
//! missing, and nothing is served that is not announced.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, JSON, Response};

/// One resource and an object of it.
struct Row {
    /// `api/v1` or `apis/GROUP/VERSION`.
    root: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    /// The object without apiVersion, kind and metadata.
    rest: Value,
    /// What is written through `status`, if the kind has one.
    status: Option<Value>,
}

impl Row {
    fn collection(&self) -> String {
        let scope = if self.namespaced { "namespaces/default/" } else { "" };
        format!("/{}/{scope}{}", self.root, self.plural)
    }

    fn object(&self, name: &str) -> Value {
        let version = self.root.split_once('/').map(|(_, version)| version).unwrap();
        let mut object = self.rest.clone();
        object["apiVersion"] = version.into();
        object["kind"] = self.kind.into();
        object["metadata"] = json!({ "name": name, "labels": { "table": "yes" } });
        if self.plural == "certificatesigningrequests" {
            object["metadata"]["annotations"] = json!({});
        }
        object
    }
}

fn row(root: &'static str, plural: &'static str, kind: &'static str, rest: Value) -> Row {
    Row { root, plural, kind, namespaced: true, rest, status: None }
}

fn template() -> Value {
    json!({
        "metadata": { "labels": { "app": "a" } },
        "spec": { "containers": [{ "name": "c", "image": "redis" }] },
    })
}

fn table() -> Vec<Row> {
    let (core, apps, rbac) = ("api/v1", "apis/apps/v1", "apis/rbac.authorization.k8s.io/v1");
    let selector = json!({ "matchLabels": { "app": "a" } });
    let rule = json!([{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }]);
    let role = |kind: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "view" });
    let wide = |row: Row| Row { namespaced: false, ..row };
    let with_status = |row: Row, status: Value| Row { status: Some(status), ..row };
    vec![
        row(core, "configmaps", "ConfigMap", json!({ "data": { "a": "b" } })),
        row(core, "secrets", "Secret", json!({ "stringData": { "a": "b" } })),
        row(core, "serviceaccounts", "ServiceAccount", json!({})),
        row(
            core,
            "events",
            "Event",
            json!({ "involvedObject": { "kind": "Pod", "namespace": "default", "name": "p" } }),
        ),
        with_status(
            wide(row(core, "namespaces", "Namespace", json!({}))),
            json!({ "phase": "Active" }),
        ),
        with_status(
            wide(row(core, "nodes", "Node", json!({}))),
            json!({ "nodeInfo": { "kubeletVersion": "v1" } }),
        ),
        row(
            core,
            "limitranges",
            "LimitRange",
            json!({ "spec": { "limits": [{ "type": "Container", "max": { "cpu": "1" } }] } }),
        ),
        row(core, "podtemplates", "PodTemplate", json!({ "template": template() })),
        with_status(
            row(core, "pods", "Pod", json!({ "spec": template()["spec"] })),
            json!({ "phase": "Running" }),
        ),
        with_status(
            row(
                core,
                "resourcequotas",
                "ResourceQuota",
                json!({ "spec": { "hard": { "pods": "5" } } }),
            ),
            json!({ "used": { "pods": "1" }, "hard": { "pods": "5" } }),
        ),
        with_status(
            row(
                core,
                "replicationcontrollers",
                "ReplicationController",
                json!({ "spec": { "replicas": 1, "selector": { "app": "a" }, "template": template() } }),
            ),
            json!({ "replicas": 1 }),
        ),
        with_status(
            row(
                apps,
                "deployments",
                "Deployment",
                json!({ "spec": { "selector": selector, "template": template() } }),
            ),
            json!({ "replicas": 1 }),
        ),
        with_status(
            row(
                apps,
                "replicasets",
                "ReplicaSet",
                json!({ "spec": { "selector": selector, "template": template() } }),
            ),
            json!({ "replicas": 1 }),
        ),
        row(
            "apis/coordination.k8s.io/v1",
            "leases",
            "Lease",
            json!({ "spec": { "holderIdentity": "me" } }),
        ),
        row(
            "apis/events.k8s.io/v1",
            "events",
            "Event",
            json!({
                "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c",
                "reportingInstance": "c-1", "action": "Testing", "reason": "Tested", "type": "Normal",
                "regarding": { "kind": "Pod", "namespace": "default", "name": "p" },
            }),
        ),
        with_status(
            row(
                "apis/policy/v1",
                "poddisruptionbudgets",
                "PodDisruptionBudget",
                json!({ "spec": { "minAvailable": "50%", "selector": selector } }),
            ),
            json!({ "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2 }),
        ),
        wide(row(
            "apis/node.k8s.io/v1",
            "runtimeclasses",
            "RuntimeClass",
            json!({ "handler": "runsc" }),
        )),
        wide(row(
            "apis/scheduling.k8s.io/v1",
            "priorityclasses",
            "PriorityClass",
            json!({ "value": 1000 }),
        )),
        wide(row(rbac, "clusterroles", "ClusterRole", json!({ "rules": rule }))),
        wide(row(
            rbac,
            "clusterrolebindings",
            "ClusterRoleBinding",
            json!({ "roleRef": role("ClusterRole") }),
        )),
        row(rbac, "roles", "Role", json!({ "rules": rule })),
        row(rbac, "rolebindings", "RoleBinding", json!({ "roleRef": role("ClusterRole") })),
        with_status(
            wide(row(
                "apis/certificates.k8s.io/v1",
                "certificatesigningrequests",
                "CertificateSigningRequest",
                json!({ "spec": {
                    "request": certificate_request(), "usages": ["client auth"],
                    "signerName": "example.com/signer",
                } }),
            )),
            json!({ "conditions": [{ "type": "Failed", "status": "True", "reason": "Tested" }] }),
        ),
    ]
}

fn certificate_request() -> String {
    use base64::Engine as _;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "someone");
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    base64::engine::general_purpose::STANDARD.encode(pem)
}

/// What discovery lists below a root: resource (or resource/subresource) to verbs.
async fn discovered(api: &ApiClient, root: &str) -> BTreeMap<String, BTreeSet<String>> {
    let list = api.get(&format!("/{root}")).await.ok();
    let of = |resource: &Value| {
        let verbs = resource["verbs"].as_array().unwrap().iter();
        let verbs = verbs.map(|verb| verb.as_str().unwrap().to_owned()).collect();
        (resource["name"].as_str().unwrap().to_owned(), verbs)
    };
    list["resources"].as_array().unwrap().iter().map(of).collect()
}

async fn roots(api: &ApiClient) -> Vec<String> {
    let groups = api.get("/apis").await.ok();
    let mut roots = vec!["api/v1".to_owned()];
    for group in groups["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            roots.push(format!("apis/{}", version["groupVersion"].as_str().unwrap()));
        }
    }
    roots
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_and_discovery_list_the_same_resources() {
    let api = ApiClient::start().await;
    let table: BTreeSet<String> =
        table().iter().map(|row| format!("{}/{}", row.root, row.plural)).collect();
    let mut listed = BTreeSet::new();
    for root in roots(&api).await {
        for (name, verbs) in discovered(&api, &root).await {
            // Reviews are asked, not kept; what is below an object has its own test.
            if verbs.contains("list") && !name.contains('/') {
                listed.insert(format!("{root}/{name}"));
            }
        }
    }
    assert_eq!(table, listed);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_that_discovery_lists_works_on_every_kind() {
    let api = ApiClient::start().await;
    let mut wrong = Vec::new();
    for row in table() {
        let mut verbs = discovered(&api, row.root).await[row.plural].clone();
        // A right that roles give, and no request.
        if row.plural == "secrets" {
            assert!(verbs.remove("use"));
        }
        let mut life = Life { api: &api, row: &row, done: BTreeSet::new(), wrong: Vec::new() };
        life.live().await;
        wrong.append(&mut life.wrong);
        let done: BTreeSet<String> = life.done.into_iter().map(str::to_owned).collect();
        if done != verbs {
            wrong.push(format!("{}: did {done:?}, listed {verbs:?}", row.plural));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    api.close().await;
}

/// One object's life through all verbs.
struct Life<'a> {
    api: &'a ApiClient,
    row: &'a Row,
    done: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

impl Life<'_> {
    /// Records a verb that returned what it should.
    fn note(&mut self, verb: &'static str, what: &str, response: &Response, code: u16) -> bool {
        self.done.insert(verb);
        let good = response.status.as_u16() == code;
        if !good {
            let resource = format!("{} {}", self.row.root, self.row.plural);
            self.wrong.push(format!("{resource} {what}: {} {}", response.status, response.text()));
        }
        good
    }

    async fn live(&mut self) {
        let (api, collection) = (self.api, self.row.collection());
        let path = format!("{collection}/one");
        let created = api.post(&collection, &self.row.object("one")).await;
        if !self.note("create", "create", &created, 201) {
            return;
        }
        let version = created.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        self.read(&collection, &path, &version).await;
        self.change(&path).await;
        self.status(&path).await;
        // No collector runs here, and a ReplicationController would wait for one by default.
        let deleted = api.delete(&format!("{path}?propagationPolicy=Background")).await;
        self.note("delete", "delete", &deleted, 200);
        if self.row.plural == "namespaces" {
            let refused = api.delete(&collection).await;
            assert_eq!(refused.status, 405, "a collection of namespaces cannot be deleted");
            return;
        }
        let deleted = api.get(&path).await;
        if deleted.status != 404 {
            self.wrong.push(format!("{path}: still there: {}", deleted.text()));
        }
        for name in ["two", "three"] {
            let created = api.post(&collection, &self.row.object(name)).await;
            self.note("create", "create again", &created, 201);
        }
        let deleted = api
            .delete(&format!("{collection}?labelSelector=table=yes&propagationPolicy=Background"))
            .await;
        if self.note("deletecollection", "deletecollection", &deleted, 200) {
            assert_eq!(deleted.json()["items"].as_array().unwrap().len(), 2, "{path}");
        }
        let left = api.get(&format!("{collection}?labelSelector=table=yes")).await.ok();
        assert_eq!(left["items"], json!([]), "{path}");
    }

    async fn read(&mut self, collection: &str, path: &str, version: &str) {
        let got = self.api.get(path).await;
        if self.note("get", "get", &got, 200) {
            let (kind, found) = (self.row.kind, got.json());
            assert_eq!((&found["kind"], &found["metadata"]["name"]), (&json!(kind), &json!("one")));
        }
        let listed = self.api.get(collection).await;
        if self.note("list", "list", &listed, 200) {
            let list = listed.json();
            assert_eq!(list["kind"], format!("{}List", self.row.kind));
            let names = list["items"].as_array().unwrap().iter();
            let mut names = names.map(|item| item["metadata"]["name"].as_str().unwrap());
            assert!(names.any(|name| name == "one"), "{list}");
        }
        // From just before the creation: the first event is the object's own.
        let before = version.parse::<u64>().unwrap() - 1;
        let watch = format!("{collection}?watch=1&resourceVersion={before}");
        let event = self.api.first_event(&watch).await;
        self.done.insert("watch");
        let found = (&event["type"], &event["object"]["metadata"]["name"]);
        assert_eq!(found, (&json!("ADDED"), &json!("one")));
        for (as_kind, kind) in
            [("Table", "Table"), ("PartialObjectMetadata", "PartialObjectMetadata")]
        {
            let accept = format!("application/json;as={as_kind};g=meta.k8s.io;v=v1");
            let shown = self.api.send(Method::GET, path, &[("accept", &accept)], "").await;
            if self.note("get", as_kind, &shown, 200) {
                assert_eq!(shown.json()["kind"], kind);
            }
        }
    }

    async fn change(&mut self, path: &str) {
        let mut object = self.api.get(path).await.ok();
        object["metadata"]["labels"]["put"] = "1".into();
        let put = self.api.put(path, &object).await;
        self.note("update", "update", &put, 200);
        let patches = [
            (
                "application/strategic-merge-patch+json",
                json!({ "metadata": { "labels": { "p": "s" } } }),
            ),
            ("application/merge-patch+json", json!({ "metadata": { "labels": { "m": "m" } } })),
            (
                "application/json-patch+json",
                json!([{ "op": "add", "path": "/metadata/labels/j", "value": "j" }]),
            ),
        ];
        for (media, patch) in patches {
            let headers = [("content-type", media)];
            let patched = self.api.send(Method::PATCH, path, &headers, patch.to_string()).await;
            self.note("patch", media, &patched, 200);
        }
        let mut wanted = self.row.object("one");
        wanted["metadata"] = json!({ "name": "one", "labels": { "a": "a" } });
        // A secret's stringData is written and never read: nothing that can be owned.
        for field in ["stringData", "spec", "eventTime"] {
            wanted.as_object_mut().unwrap().remove(field);
        }
        for field in [
            "involvedObject",
            "regarding",
            "rules",
            "roleRef",
            "data",
            "reportingController",
            "reportingInstance",
            "action",
            "reason",
            "type",
        ] {
            wanted.as_object_mut().unwrap().remove(field);
        }
        let applied = self.api.apply(&format!("{path}?fieldManager=m&force=true"), &wanted).await;
        self.note("patch", "apply", &applied, 200);
        let labels = self.api.get(path).await.ok()["metadata"]["labels"].clone();
        for (label, value) in
            [("table", "yes"), ("put", "1"), ("p", "s"), ("m", "m"), ("j", "j"), ("a", "a")]
        {
            if labels[label] != value {
                self.wrong.push(format!("{path}: label {label} is {}", labels[label]));
            }
        }
    }

    async fn status(&mut self, path: &str) {
        let Some(status) = self.row.status.clone() else {
            assert_eq!(self.api.get(&format!("{path}/status")).await.status, 404, "{path}");
            return;
        };
        let before = self.api.get(path).await.ok();
        // Through the object's own endpoint the status is not written.
        let ignored = self.api.merge(path, &json!({ "status": status })).await.ok();
        assert_eq!(ignored["status"], before["status"], "{path}");
        let sub = format!("{path}/status");
        let patched = self
            .api
            .merge(&sub, &json!({ "status": status, "metadata": { "labels": { "s": "no" } } }))
            .await;
        if !self.note("patch", "status", &patched, 200) {
            return;
        }
        let after = self.api.get(&sub).await.ok();
        for (field, value) in status.as_object().unwrap() {
            if field == "conditions" {
                assert_eq!(after["status"][field][0]["type"], value[0]["type"], "{path}");
            } else if field != "nodeInfo" {
                assert_eq!(&after["status"][field], value, "{path}");
            }
        }
        assert_eq!(after["spec"], before["spec"], "{path}: status writes no spec");
        let put = self.api.put(&sub, &after).await;
        self.note("update", "status put", &put, 200);
    }
}

/// Upstream's `AllowCreateOnUpdate`: components that write leases, events and roles need not know
/// whether they exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_of_a_missing_object_creates_it_for_some_kinds_and_is_404_for_others() {
    const MADE: [&str; 8] = [
        "api/v1/limitranges",
        "apis/coordination.k8s.io/v1/leases",
        "api/v1/events",
        "apis/events.k8s.io/v1/events",
        "apis/rbac.authorization.k8s.io/v1/clusterroles",
        "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "apis/rbac.authorization.k8s.io/v1/roles",
        "apis/rbac.authorization.k8s.io/v1/rolebindings",
    ];
    let api = ApiClient::start().await;
    for row in table() {
        let path = format!("{}/put", row.collection());
        let which = format!("{}/{}", row.root, row.plural);
        let mut object = row.object("put");
        if !MADE.contains(&&*which) {
            let group = row.root.strip_prefix("apis/").and_then(|root| root.split_once('/'));
            let group = group.map_or(String::new(), |(group, _)| format!(".{group}"));
            let why = format!("{}{group} \"put\" not found", row.plural);
            let refused = api.put(&path, &object).await.refusal();
            assert_eq!(refused, (404, "NotFound".into(), why), "{which}");
            continue;
        }
        // The version and the uid of an earlier one do not count.
        object["metadata"]["resourceVersion"] = "7".into();
        object["metadata"]["uid"] = "earlier".into();
        let dry = api.put(&format!("{path}?dryRun=All"), &object).await;
        assert_eq!(dry.status, 201, "{which}: {}", dry.text());
        assert_eq!(api.get(&path).await.status, 404, "{which}");
        let made = api.put(&path, &object).await;
        assert_eq!(made.status, 201, "{which}: {}", made.text());
        let made = made.json();
        assert_ne!(made["metadata"]["uid"], "earlier", "{which}");
        assert_eq!(api.get(&path).await.ok()["metadata"], made["metadata"], "{which}");
        // Events have two endpoints, and are the same behind both.
        api.delete(&path).await.ok();
    }
    api.close().await;
}

/// Subresources: what each returns where no kubelet runs. 404 and 405 would mean that discovery lists too
/// much.
#[tokio::test(flavor = "multi_thread")]
async fn every_subresource_that_discovery_lists_is_served() {
    let api = ApiClient::start().await;
    for row in table() {
        // The two forms of events are one resource.
        if row.root != "apis/events.k8s.io/v1" {
            api.post(&row.collection(), &row.object("one")).await.ok();
        }
    }
    let mut wrong = Vec::new();
    for root in roots(&api).await {
        for (name, verbs) in discovered(&api, &root).await {
            let Some((plural, sub)) = name.split_once('/') else { continue };
            let table = table();
            let row = table.iter().find(|row| (row.root, row.plural) == (&*root, plural)).unwrap();
            let path = format!("{}/one/{sub}", row.collection());
            for verb in &verbs {
                let (method, headers, body) = request(verb, sub, &api, &path).await;
                let response = api.send(method, &path, &[headers], body.to_string()).await;
                // There is no kubelet behind the tunnels.
                let tunnel = matches!(sub, "exec" | "attach" | "portforward" | "log");
                let code = response.status.as_u16();
                if matches!(code, 404 | 405 | 415) || (code == 500 && !tunnel) {
                    wrong.push(format!("{verb} {path}: {} {}", response.status, response.text()));
                }
            }
            if !verbs.contains("patch") {
                let headers = [("content-type", "application/merge-patch+json")];
                let refused = api.send(Method::PATCH, &path, &headers, "{}").await;
                assert_eq!(refused.status, 405, "PATCH {path}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    api.close().await;
}

async fn request(
    verb: &str,
    sub: &str,
    api: &ApiClient,
    path: &str,
) -> (Method, (&'static str, &'static str), Value) {
    match verb {
        "get" => (Method::GET, JSON, json!({})),
        "update" => {
            let current =
                api.get(if sub == "finalize" { path.trim_end_matches("/finalize") } else { path });
            (Method::PUT, JSON, current.await.json())
        }
        "patch" => (Method::PATCH, ("content-type", "application/merge-patch+json"), json!({})),
        _ => {
            let body = match sub {
                "binding" => json!({
                    "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "one" },
                    "target": { "kind": "Node", "name": "one" },
                }),
                "eviction" => json!({
                    "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "one" },
                }),
                "token" => json!({
                    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {},
                }),
                _ => json!({}),
            };
            (Method::POST, JSON, body)
        }
    }
}

/// A right in one namespace must not reach objects that are in none.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_scoped_resources_are_not_found_below_a_namespace() {
    let api = ApiClient::start().await;
    for row in table().iter().filter(|row| !row.namespaced) {
        let below = format!("/{}/namespaces/default/{}", row.root, row.plural);
        for (method, path) in [
            (Method::GET, below.clone()),
            (Method::GET, format!("{below}?watch=1")),
            (Method::POST, below.clone()),
            (Method::DELETE, below.clone()),
            (Method::GET, format!("{below}/one")),
            (Method::PUT, format!("{below}/one")),
        ] {
            let body = row.object("one").to_string();
            let response = api.send(method.clone(), &path, &[JSON], body).await;
            assert_eq!(response.status, 404, "{method} {path}");
        }
    }
    api.close().await;
}

/// The reviews, which are asked and not kept.
#[tokio::test(flavor = "multi_thread")]
async fn reviews_take_create_and_nothing_else() {
    let api = ApiClient::start().await;
    for root in ["apis/authentication.k8s.io/v1", "apis/authorization.k8s.io/v1"] {
        for (name, verbs) in discovered(&api, root).await {
            assert_eq!(verbs, BTreeSet::from(["create".to_owned()]), "{name}");
            let scope = if name.starts_with("local") { "namespaces/default/" } else { "" };
            let path = format!("/{root}/{scope}{name}");
            for method in [Method::GET, Method::PUT, Method::DELETE] {
                let refused = api.send(method.clone(), &path, &[JSON], "{}").await;
                assert_eq!(refused.status, 405, "{method} {path}");
            }
            if path.contains("authorization.k8s.io") && !path.contains("rules") {
                let named = json!({ "metadata": { "name": "x" }, "spec": {} });
                let refused = api.post(&path, &named).await.refusal();
                let why = "metadata: Invalid value: {\"name\":\"x\"}: must be empty";
                assert!(refused.0 == 422 && refused.2.contains(why), "{path}: {}", refused.2);
            }
            // There are no columns to show a question in.
            let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
            let headers = [JSON, ("accept", table)];
            let refused = api.send(Method::POST, &path, &headers, "{}").await;
            assert_eq!(refused.status, 406, "{path}");
        }
    }
    api.close().await;
}
