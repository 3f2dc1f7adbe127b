//! What nodes and drivers share: names, the pods that drivers wait for, and the tally.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::json;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::cluster::pods::PodEvent;
use crate::cluster::workspace::{RUN_LABEL, Workspace, json_body};
use crate::load::secrets::Secrets;
use crate::load::{Failed, in_row};
use crate::measure::stats::Tally;
use crate::transport::client::{CallError, Client, parse};
use crate::transport::wire::Lines;

pub(super) const REGISTER: usize = 0;
pub(super) const LEASE: usize = 1;
pub(super) const SECRET: usize = 2;
pub(super) const STATUS: usize = 3;
pub(super) const END: usize = 4;
const CREATE: usize = 5;
const DELETE: usize = 6;
pub(super) const HEARTBEAT: usize = 7;
/// From here on rows are made of the ones before.
pub(super) const START: usize = 8;
const GONE: usize = 9;
pub(super) const ROWS: &[&str] = &[
    "node: register",
    "node: renew lease",
    "node: get secret",
    "node: patch pod status",
    "node: confirm deletion",
    "create pod",
    "delete pod",
    "node: report status",
    "pod created → seen running",
    "pod deleted → seen gone",
];

/// Waits for a pod that a driver has asked for; the rest of the cluster must not take longer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Requests of all nodes under way at the same time: what a server lets one client have.
const NODE_REQUESTS_MAX: usize = 128;
/// The same of nodes' status reports, which must not wait for the others.
const HEARTBEATS_MAX: usize = 16;
/// The same of the lease renewals of one account.
pub(super) const RENEWALS_MAX: usize = 16;
/// Keeps pods that are not ours off nodes that run nothing.
pub(super) const TAINT: &str = "coffer-bench.coffer.dev/hollow";

/// Sizes.
pub(super) struct Layout {
    pub(super) nodes: u64,
    pub(super) pods_per_node: u64,
    pub(super) secrets: u64,
    pub(super) lease_every: Duration,
    pub(super) schedule: bool,
}

/// The simulated cluster.
pub(super) struct Cluster {
    pub(super) layout: Layout,
    pub(super) run: String,
    pub(super) secrets: Secrets,
    /// The path of the pods.
    pub(super) pods: String,
    /// Places for the nodes' requests.
    places: Arc<Semaphore>,
    heartbeat_places: Arc<Semaphore>,
    tally: Mutex<Arc<Tally>>,
    registered: AtomicUsize,
    watching: Notify,
    running: Waiting,
    gone: Waiting,
}

/// Who waits for which pod.
#[derive(Default)]
struct Waiting(Mutex<HashMap<String, oneshot::Sender<Instant>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Instant>>> {
        self.0.lock().expect("nothing panics while it holds the waiters")
    }

    fn expect(&self, pod: &str) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(pod.to_owned(), sender);
        receiver
    }

    fn seen(&self, pod: &str, at: Instant) {
        if let Some(waiter) = self.lock().remove(pod) {
            // A waiter that has given up has said so itself.
            let _ = waiter.send(at);
        }
    }
}

impl Cluster {
    pub(super) fn new(workspace: &Workspace, secrets: Secrets, layout: Layout) -> Self {
        Self {
            layout,
            run: workspace.run.clone(),
            secrets,
            pods: workspace.path("pods"),
            places: Arc::new(Semaphore::new(NODE_REQUESTS_MAX)),
            heartbeat_places: Arc::new(Semaphore::new(HEARTBEATS_MAX)),
            tally: Mutex::new(Arc::new(Tally::new(ROWS))),
            registered: AtomicUsize::new(0),
            watching: Notify::new(),
            running: Waiting::default(),
            gone: Waiting::default(),
        }
    }

    /// Places for requests of nodes. The nodes together must not exceed what a server lets one user do,
    /// because they are one; each kubelet of a real cluster is a user of its own.
    pub(super) fn places(&self) -> Arc<Semaphore> {
        self.places.clone()
    }

    /// Places for nodes' status.
    pub(super) fn heartbeat_places(&self) -> Arc<Semaphore> {
        self.heartbeat_places.clone()
    }

    /// What is counted now.
    pub(super) fn tally(&self) -> Arc<Tally> {
        self.tally.lock().expect("nothing panics while it holds the tally").clone()
    }

    /// Begins to count again; returns what has been counted.
    pub(super) fn next_tally(&self) -> Arc<Tally> {
        let mut tally = self.tally.lock().expect("nothing panics while it holds the tally");
        std::mem::replace(&mut tally, Arc::new(Tally::new(ROWS)))
    }

    pub(super) fn registered(&self) -> usize {
        self.registered.load(Ordering::Relaxed)
    }

    pub(super) fn register(&self) {
        self.registered.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until [`follow`] sees pods.
    pub(super) async fn watching(&self) {
        self.watching.notified().await;
    }

    pub(super) fn node_name(&self, number: u64) -> String {
        format!("coffer-bench-{}-{number:05}", self.run)
    }

    fn pod_name(number: u64) -> String {
        format!("pod-{number:07}")
    }

    fn pod(&self, number: u64) -> serde_json::Value {
        let secret = self.secrets.name(number % self.layout.secrets);
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": Self::pod_name(number), "labels": { RUN_LABEL: self.run } },
            "spec": {
                "automountServiceAccountToken": false,
                "tolerations": [{ "key": TAINT, "operator": "Exists" }],
                "containers": [{
                    "name": "main", "image": "hollow",
                    "volumeMounts": [{ "name": "s", "mountPath": "/etc/s", "readOnly": true }],
                }],
                "volumes": [{ "name": "s", "secret": { "secretName": secret } }],
            },
        });
        if self.layout.schedule {
            pod["spec"]["nodeSelector"] = json!({ RUN_LABEL: self.run });
        } else {
            pod["spec"]["nodeName"] = self.node_name(number % self.layout.nodes).into();
        }
        pod
    }

    /// Creates a pod and waits until it is seen running.
    pub(super) async fn start_pod(&self, client: &mut Client, number: u64) -> Result<(), Failed> {
        let (name, tally) = (Self::pod_name(number), self.tally());
        let running = self.running.expect(&name);
        let body = self.pod(number);
        let start = Instant::now();
        let created = client.call(Method::POST, &self.pods, json_body(&body)).await;
        created.map_err(in_row(CREATE))?;
        tally.record(CREATE, start.elapsed());
        let at = wait(running, &name, "running").await.map_err(in_row(START))?;
        tally.record(START, at - start);
        Ok(())
    }

    /// Deletes a pod and waits until it is seen to be removed.
    pub(super) async fn delete_pod(&self, client: &mut Client, number: u64) -> Result<(), Failed> {
        let (name, tally) = (Self::pod_name(number), self.tally());
        let gone = self.gone.expect(&name);
        let path = format!("{}/{name}", self.pods);
        let start = Instant::now();
        client.call(Method::DELETE, &path, None).await.map_err(in_row(DELETE))?;
        tally.record(DELETE, start.elapsed());
        let at = wait(gone, &name, "gone").await.map_err(in_row(GONE))?;
        tally.record(GONE, at - start);
        Ok(())
    }
}

async fn wait(
    seen: oneshot::Receiver<Instant>,
    pod: &str,
    what: &str,
) -> Result<Instant, CallError> {
    match tokio::time::timeout(TIMEOUT, seen).await {
        Ok(Ok(at)) => Ok(at),
        _ => Err(CallError::Answer {
            path: pod.to_owned(),
            reason: format!("not seen {what} within {} s", TIMEOUT.as_secs()),
        }),
    }
}

/// Sees all pods, as the drivers do.
pub(super) async fn follow(cluster: Arc<Cluster>, mut client: Client) -> Result<()> {
    let path = format!("{}?watch=1", cluster.pods);
    let body = client.open(&path).await.context("pods cannot be watched")?;
    cluster.watching.notify_one();
    let mut lines = Lines::new(body);
    while let Some(line) = lines.next().await {
        let event: PodEvent = parse(&path, &line)?;
        let now = Instant::now();
        let name = &event.object.metadata.name;
        if event.kind == "DELETED" {
            cluster.gone.seen(name, now);
        } else if event.object.status.phase == "Running" {
            cluster.running.seen(name, now);
        }
    }
    Ok(())
}
