//! A node under test: an API server, a fake runtime, and a kubelet that can be stopped and started.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use coffer_kubelet::{Config, Kubelet, OnExit, ServerConfig};
use coffer_testkit::apiserver::TestServer;
use coffer_testkit::cri::FakeCri;
use coffer_testkit::{eventually, in_namespace_as};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node as NodeObject, Pod, Secret};
use k8s_openapi::{ByteString, NamespaceResourceScope};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for a slow machine; every wait ends as soon as its condition holds.
const TIMEOUT: Duration = Duration::from_secs(60);
const NODE: &str = "node-1";

/// Runs a test on a node of its own, as root of its own mount namespace.
pub(crate) fn on_node<F: AsyncFnOnce(&mut Node)>(test: F) {
    in_namespace_as(std::any::type_name::<F>(), || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().expect("threads");
        runtime.block_on(async {
            let mut node = Node::start().await;
            test(&mut node).await;
            node.stop_kubelet().await;
        });
    });
}

/// The node under test.
pub(crate) struct Node {
    pub(crate) cri: FakeCri,
    pub(crate) client: Client,
    server: TestServer,
    directory: TempDir,
    kubelet: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Node {
    async fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let server = TestServer::start().await;
        let client = server.admin().await;
        let cri = FakeCri::start(directory.path());
        let mut node = Self { cri, client, server, directory, kubelet: None };
        node.start_kubelet().await;
        node.ready(true).await;
        node
    }

    /// The kubelet's root directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("kubelet")
    }

    pub(crate) async fn start_kubelet(&mut self) {
        self.start_kubelet_that(OnExit::LeavePods).await;
    }

    /// Starts a kubelet that leaves its pods, or ends them, when it is stopped.
    pub(crate) async fn start_kubelet_that(&mut self, on_exit: OnExit) {
        let pair = self.server.serving_certificate();
        let write = |name: &str, bytes: &[u8]| {
            let path = self.directory.path().join(name);
            std::fs::write(&path, bytes).expect("writable");
            path
        };
        let server = ServerConfig {
            address: "127.0.0.1:0".parse().expect("an address"),
            tls_cert_file: write("tls.crt", &pair.cert_pem),
            tls_private_key_file: write("tls.key", &pair.key_pem),
            client_ca_file: write("ca.crt", self.server.ca_pem.as_bytes()),
        };
        let client = self.server.client(&format!("system:node:{NODE}"), &["system:nodes"]).await;
        let config = Config::new(NODE, self.root(), self.cri.endpoint(), client, server);
        let kubelet = Kubelet::build(config).await.expect("a kubelet");
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(kubelet.run(stop, on_exit, |_| ()));
        self.kubelet = Some((shutdown, task));
    }

    /// Ends the kubelet.
    pub(crate) async fn stop_kubelet(&mut self) {
        let Some((shutdown, task)) = self.kubelet.take() else { return };
        shutdown.cancel();
        within("the kubelet ends", task).await.expect("it does not panic");
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates a pod on this node. Of the spec, what is not given is one container `c`.
    pub(crate) async fn create(&self, name: &str, spec: Value) -> Pod {
        let mut whole = json!({
            "nodeName": NODE,
            "containers": [{ "name": "c", "image": "registry.test/app:1" }],
        });
        merge(&mut whole, spec);
        let pod = json!({ "metadata": { "name": name }, "spec": whole });
        let pod = serde_json::from_value(pod).expect("a pod");
        self.api().create(&PostParams::default(), &pod).await.expect("created")
    }

    pub(crate) async fn secret(&self, name: &str, key: &str, value: &str) -> Secret {
        let data = [(key.to_owned(), ByteString(value.as_bytes().to_vec()))];
        let secret =
            Secret { metadata: named(name), data: Some(data.into()), ..Default::default() };
        self.api().create(&PostParams::default(), &secret).await.expect("created")
    }

    pub(crate) async fn config_map(&self, name: &str, key: &str, value: &str) -> ConfigMap {
        let data = [(key.to_owned(), value.to_owned())];
        let map =
            ConfigMap { metadata: named(name), data: Some(data.into()), ..Default::default() };
        self.api().create(&PostParams::default(), &map).await.expect("created")
    }

    pub(crate) async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = self.api();
        let patched = api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        patched.expect("patched");
    }

    /// Asks for a pod's deletion.
    pub(crate) async fn delete(&self, name: &str, grace_s: u32) {
        let params = DeleteParams::default().grace_period(grace_s);
        self.api::<Pod>().delete(name, &params).await.expect("deleted");
    }

    /// Waits until the API shows a pod so.
    pub(crate) async fn until(&self, name: &str, what: &str, is_so: impl Fn(&Pod) -> bool) -> Pod {
        let is_so = |pod: Option<&Pod>| pod.is_some_and(&is_so);
        let waited = tokio::time::timeout(TIMEOUT, await_condition(self.api(), name, is_so));
        match waited.await {
            Ok(pod) => pod.expect("the watch works").expect("the pod is there"),
            Err(_) => {
                let pod: Option<Pod> = self.api().get_opt(name).await.expect("readable");
                let (events, calls) = (self.events(name).await, self.cri.lines());
                panic!("waited in vain: {what}\n{pod:#?}\n{events:#?}\n{calls:#?}");
            }
        }
    }

    pub(crate) async fn running(&self, name: &str) -> Pod {
        self.until(name, "the pod is ready", |pod| condition(pod, "Ready") == Some("True")).await
    }

    /// Waits until a container of the pod waits for a reason. Returns the message.
    pub(crate) async fn waiting(&self, name: &str, reason: &str) -> String {
        let waits = |pod: &Pod| waiting(pod).is_some_and(|(found, _)| found == reason);
        let pod = self.until(name, reason, waits).await;
        waiting(&pod).map(|(_, message)| message.to_owned()).unwrap_or_default()
    }

    /// Waits until a pod's object no longer exists.
    pub(crate) async fn removed(&self, name: &str) {
        let gone = await_condition(self.api::<Pod>(), name, |pod: Option<&Pod>| pod.is_none());
        if tokio::time::timeout(TIMEOUT, gone).await.is_err() {
            let (events, calls) = (self.events(name).await, self.cri.lines());
            panic!("timed out waiting: {name} is deleted\n{events:#?}\n{calls:#?}");
        }
    }

    /// Waits until the node is ready, or is not. Returns the condition's message.
    pub(crate) async fn ready(&self, is_ready: bool) -> String {
        let wanted = if is_ready { "True" } else { "False" };
        let found = |node: &NodeObject| {
            let conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
            let mut ready = conditions.into_iter().filter(|found| found.type_ == "Ready");
            ready.next().filter(|found| found.status == wanted).cloned()
        };
        let is_so = |node: Option<&NodeObject>| node.is_some_and(|node| found(node).is_some());
        let nodes: Api<NodeObject> = Api::all(self.client.clone());
        let node = within("the node's condition", await_condition(nodes, NODE, is_so)).await;
        let condition = found(&node.expect("the watch works").expect("the node is there"));
        condition.and_then(|found| found.message).unwrap_or_default()
    }

    /// `Reason: message` of the events about a pod.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
        let events = self.api::<Event>().list(&about).await.expect("listed");
        let text = |event: Event| {
            let (reason, message) = (event.reason.unwrap_or_default(), event.message);
            format!("{reason}: {}", message.unwrap_or_default())
        };
        events.items.into_iter().map(text).collect()
    }

    /// Waits for an event about a pod that begins so. Returns all of it.
    pub(crate) async fn event(&self, name: &str, begin: &str) -> String {
        eventually(format!("the event {begin:?}"), async || {
            let events = self.events(name).await;
            let found = events.iter().find(|event| event.starts_with(begin)).cloned();
            found.ok_or(events)
        })
        .await
    }

    /// Waits until the runtime shows something.
    pub(crate) async fn runtime(&self, what: &str, is_so: impl Fn(&FakeCri) -> bool) {
        if tokio::time::timeout(TIMEOUT, self.cri.until(is_so)).await.is_err() {
            panic!("waited in vain: {what}\n{:#?}", self.cri.lines());
        }
    }

    /// Mounts below the kubelet's root directory.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let root = self.root().display().to_string();
        let target = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
        text.lines().map(target).filter(|target| target.starts_with(&root)).collect()
    }

    /// The directory of a pod's volumes and snapshot.
    pub(crate) fn pod_directory(&self, pod: &Pod) -> PathBuf {
        self.root().join("pods").join(pod.metadata.uid.as_deref().expect("a uid"))
    }
}

/// The future's value, or a panic that says what was waited for.
pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(TIMEOUT, wait).await;
    waited.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

fn named(name: &str) -> kube::core::ObjectMeta {
    kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() }
}

/// A volume `v` of the secret `s`, mounted in the container `c`.
pub(crate) fn with_secret() -> Value {
    json!({
        "containers": [{ "name": "c", "image": "registry.test/app:1",
            "volumeMounts": [{ "name": "v", "mountPath": "/etc/s" }] }],
        "volumes": [{ "name": "v", "secret": { "secretName": "s" } }],
    })
}

pub(crate) fn condition<'p>(pod: &'p Pod, name: &str) -> Option<&'p str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|found| found.type_ == name).map(|found| found.status.as_str())
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// How often the pod's first container was started again.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.and_then(|all| all.first()).map_or(0, |first| first.restart_count)
}

fn waiting(pod: &Pod) -> Option<(&str, &str)> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let waiting = statuses.first()?.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default()))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
