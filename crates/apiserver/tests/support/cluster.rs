//! Two namespaces, two nodes, and a caller of every sort.

#![allow(dead_code)]

use coffer_apiserver::AccessConfig;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{self, TestServer};

/// A client with an identity, and its name in tables.
pub(crate) struct Caller {
    pub(crate) name: &'static str,
    client: kube::Client,
}

/// The response to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) body: Value,
    /// Of the Warning headers.
    pub(crate) warnings: Vec<String>,
}

impl Reply {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Caller {
    pub(crate) fn new(name: &'static str, client: kube::Client) -> Self {
        Self { name, client }
    }

    /// Sends a request and reads the whole response, which must not be a watch's.
    pub(crate) async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.request_as(method, path, body, &[]).await
    }

    /// Sends a request with further headers.
    pub(crate) async fn request_as(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        self.send(method, path, body, content_type, headers).await
    }

    /// Sends a request with a body of a media type.
    pub(crate) async fn request_typed(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        content_type: &str,
    ) -> Reply {
        self.send(method, path, Some(body), content_type, &[]).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        content_type: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = Request::builder().method(method.parse::<Method>().unwrap()).uri(path);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", content_type);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let response = self.client.send(request.body(body.into()).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|it| it.to_str().unwrap().to_owned()).collect();
        if path.contains("watch=true") && code == 200 {
            return Reply { code, body: Value::Null, warnings };
        }
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Reply { code, body: serde_json::from_slice(&bytes).unwrap_or_default(), warnings }
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let request = Request::get(path).body(kube::client::Body::empty()).unwrap();
        let response = self.client.send(request).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        Watch { body: response.into_body(), read: Vec::new() }
    }

    /// Creates what must be created.
    pub(crate) async fn make(&self, path: &str, body: Value) -> Value {
        let reply = self.request("POST", path, Some(&body)).await;
        assert!(matches!(reply.code, 200 | 201), "{path}: {} {}", reply.code, reply.message());
        reply.body
    }
}

/// A watch under way.
pub(crate) struct Watch {
    body: kube::client::Body,
    read: Vec<u8>,
}

impl Watch {
    /// The next event; `None` once the server has ended the watch.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.ok()?;
            self.read.extend_from_slice(frame.data_ref()?);
        }
    }
}

/// A server with the test's world in it.
pub(crate) struct Cluster {
    pub(crate) server: TestServer,
    pub(crate) admin: Caller,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let access = AccessConfig { service_account_admission: true, ..support::access() };
        Self::on(TestServer::start_with(TempDir::new().unwrap(), access).await).await
    }

    pub(crate) async fn on(server: TestServer) -> Self {
        let admin = Caller::new("admin", server.admin().await);
        for namespace in ["a", "b"] {
            // As the controllers would.
            let meta = json!({ "metadata": { "name": namespace } });
            admin.make("/api/v1/namespaces", meta).await;
            let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
            for name in ["default", "app"] {
                let account = json!({ "metadata": { "name": name } });
                let reply = admin.request("POST", &accounts, Some(&account)).await;
                assert!(matches!(reply.code, 201 | 409), "{}", reply.message());
            }
            for secret in ["db", "other"] {
                admin
                    .make(&format!("/api/v1/namespaces/{namespace}/secrets"), self::secret(secret))
                    .await;
            }
            let node = format!("node-{namespace}");
            admin.make("/api/v1/nodes", json!({ "metadata": { "name": node } })).await;
            let pods = format!("/api/v1/namespaces/{namespace}/pods");
            admin.make(&pods, pod(&format!("p{namespace}"), "db")).await;
            bind(&admin, namespace, &format!("p{namespace}"), &node).await;
        }
        let give = |name: &str, role: &str, subject: Value| {
            json!({
                "metadata": { "name": name },
                "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": role },
                "subjects": [subject],
            })
        };
        let bindings = format!("/apis/{RBAC}/v1/namespaces/a/rolebindings");
        let alice = json!({ "kind": "User", "name": "alice", "apiGroup": RBAC });
        admin.make(&bindings, give("alice", "view", alice)).await;
        let app = json!({ "kind": "ServiceAccount", "name": "app", "namespace": "a" });
        admin.make(&bindings, give("app", "edit", app)).await;
        Self { server, admin }
    }

    /// A user with a certificate.
    pub(crate) async fn user(&self, name: &'static str, user: &str, groups: &[&str]) -> Caller {
        Caller::new(name, self.server.client(user, groups).await)
    }

    pub(crate) async fn node(&self, name: &'static str) -> Caller {
        self.user(name, &format!("system:node:{name}"), &["system:nodes"]).await
    }

    /// An account, by a token made for it.
    pub(crate) async fn account(
        &self,
        name: &'static str,
        namespace: &str,
        account: &str,
    ) -> Caller {
        let token = self.token(namespace, account, json!({})).await;
        Caller::new(name, self.server.bearer(Some(&token)))
    }

    /// A token of an account.
    pub(crate) async fn token(&self, namespace: &str, account: &str, spec: Value) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let made = self.admin.make(&path, json!({ "spec": spec })).await;
        made["status"]["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn anonymous(&self) -> Caller {
        Caller::new("anonymous", self.server.bearer(None))
    }
}

pub(crate) const RBAC: &str = "rbac.authorization.k8s.io";

pub(crate) fn secret(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "stringData": { "password": "hunter2" } })
}

pub(crate) fn pod(name: &str, secret: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "serviceAccountName": "app",
            "containers": [{ "name": "c", "image": "i" }],
            "volumes": [{ "name": "v", "secret": { "secretName": secret } }],
        },
    })
}

pub(crate) async fn bind(admin: &Caller, namespace: &str, pod: &str, node: &str) {
    let target = json!({ "apiVersion": "v1", "kind": "Node", "name": node });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding");
    admin.make(&path, json!({ "metadata": { "name": pod }, "target": target })).await;
}
