//! A real API server over TLS with the controllers and the scheduler as its clients. A task writes what
//! kubelets would report.

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::fmt::Debug;
use std::time::Duration;

use coffer_controllers::Options;
use coffer_testkit::apiserver::TestServer;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Enough for a slow machine. A wait ends as soon as its condition holds.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// The future's value, or a panic that says what was waited for.
pub async fn within<T, E: Debug>(what: &str, wait: impl Future<Output = Result<T, E>>) -> T {
    match tokio::time::timeout(WAIT_MAX, wait).await {
        Ok(done) => done.expect(what),
        Err(_) => panic!("timed out waiting for: {what}"),
    }
}

pub struct Cluster {
    /// A client in the group `system:masters`.
    pub client: Client,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    server: TestServer,
}

impl Cluster {
    /// A server alone.
    pub async fn bare() -> Self {
        let server = TestServer::start().await;
        let client = server.admin().await;
        Self { client, shutdown: CancellationToken::new(), tasks: JoinSet::new(), server }
    }

    /// A server and all controllers, without the scheduler.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// The same with other options.
    pub async fn with(options: Options) -> Self {
        let mut cluster = Self::bare().await;
        // With the rights of controllers only.
        let client = cluster.server.client("system:kube-controller-manager", &[]).await;
        let root_ca_pem = Some(cluster.server.ca_pem.clone().into());
        let options = Options { root_ca_pem, ..options };
        let manager = coffer_controllers::controller_manager(client, options);
        let shutdown = cluster.shutdown.clone();
        cluster.tasks.spawn(async move { manager.run(shutdown).await.expect("no panic") });
        cluster
    }

    /// Adds the scheduler.
    pub async fn with_scheduler(mut self) -> Self {
        let client = self.server.client("system:kube-scheduler", &[]).await;
        let shutdown = self.shutdown.clone();
        let scheduler = coffer_controllers::scheduler(client);
        self.tasks.spawn(async move { scheduler.run(shutdown).await.expect("no panic") });
        self
    }

    /// Adds kubelets of all nodes: a bound pod becomes ready, unless its image is `broken`, and a pod that is
    /// being deleted ends.
    pub fn with_kubelets(mut self) -> Self {
        let (client, shutdown) = (self.client.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            let pods = Api::<Pod>::all(client.clone());
            let pods = watcher(pods, watcher::Config::default()).default_backoff();
            let mut pods = std::pin::pin!(pods.touched_objects());
            while let Some(Some(pod)) = shutdown.run_until_cancelled(pods.next()).await {
                if let Ok(pod) = pod {
                    report(&client, &pod).await;
                }
            }
        });
        self
    }

    /// Registers a node that is ready.
    pub async fn node(&self, name: &str, extra: Value) -> Node {
        let mut node = json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
            "status": {
                "capacity": { "cpu": "4", "memory": "8Gi", "pods": "110" },
                "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" },
                "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
            },
        });
        merge(&mut node, extra);
        self.create(&Api::<Node>::all(self.client.clone()), node).await
    }

    /// Creates an object from its manifest.
    pub async fn create<K>(&self, api: &Api<K>, object: Value) -> K
    where
        K: kube::Resource + serde::de::DeserializeOwned + serde::Serialize + Clone + Debug,
    {
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    pub fn namespaced<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// A client with a bearer token.
    pub fn bearer(&self, token: &str) -> Client {
        self.server.bearer(Some(token))
    }

    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let output = self.server.kubectl(arguments, input).await;
        let (out, err) = (output.stdout, output.stderr);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(output.status.success(), "kubectl {arguments:?}: {}", text(err));
        text(out)
    }

    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.unwrap();
            }
        };
        tokio::time::timeout(WAIT_MAX, all).await.expect("all tasks end at shutdown");
        self.server.stop().await;
    }
}

pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Reports what a kubelet would report of the pod next.
async fn report(client: &Client, pod: &Pod) {
    let Some(spec) = pod.spec.as_ref().filter(|spec| spec.node_name.is_some()) else { return };
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
        return;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_available = spec.containers[0].image.as_deref() != Some("broken");
    if phase != Some("Pending") {
        return;
    }
    let ready = if is_available { "True" } else { "False" };
    let status = json!({ "status": { "phase": "Running", "conditions": [
        { "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
    let patch = Patch::Strategic(status);
    let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
}
