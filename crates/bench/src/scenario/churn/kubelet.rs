//! A kubelet in all but containers: the requests that a node makes, when it makes them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Barrier, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::cluster::{Cluster, END, HEARTBEAT, LEASE, REGISTER, SECRET, STATUS, TAINT};
use crate::cluster::pods::{PodEvent, PodSeen};
use crate::cluster::workspace::{LEASES, RUN_LABEL, json_body};
use crate::transport::client::{CallError, Client, MERGE_PATCH, STRATEGIC_PATCH, parse};
use crate::transport::wire::{Lines, List, is_error_event};

/// How often a node reports its status when nothing has changed: upstream's
/// nodeStatusReportFrequency.
const STATUS_EVERY: Duration = Duration::from_secs(300);

/// One node.
pub(super) struct Kubelet {
    number: u64,
    name: String,
    caller: Caller,
}

/// Makes a node's requests, each in its turn.
struct Caller {
    cluster: Arc<Cluster>,
    client: Client,
    places: Arc<Semaphore>,
}

/// What a node tells the server of itself, however long its pods keep it busy: a kubelet does both
/// concurrently, too, and one that is late with it is thought dead.
struct Heart {
    name: String,
    renewer: Caller,
    reporter: Caller,
    beats: Heartbeats,
}

/// When a node tells the server that it is there. The nodes of a cluster are spread over the time
/// between two, as those that were started one after the other are.
struct Heartbeats {
    lease: Interval,
    status: Interval,
}

impl Heartbeats {
    fn new(cluster: &Cluster, number: u64) -> Self {
        let share = number as f64 / cluster.layout.nodes.max(1) as f64;
        let every = |period: Duration| {
            let mut ticks = interval_at(Instant::now() + period.mul_f64(share), period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let lease = every(cluster.layout.lease_every);
        Self { lease, status: every(STATUS_EVERY) }
    }
}

impl Kubelet {
    pub(super) fn new(cluster: Arc<Cluster>, number: u64, client: Client) -> Self {
        let name = cluster.node_name(number);
        let places = cluster.places();
        Self { number, name, caller: Caller { cluster, client, places } }
    }

    /// Registers, then serves its pods until the server cannot be reached. Where the server ends the
    /// watch, it lists and watches again, as a kubelet does.
    pub(super) async fn run(
        mut self,
        mut watch: Client,
        reports: Client,
        (renewals, renewal_places): (Client, Arc<Semaphore>),
        ready: Arc<Barrier>,
    ) -> Result<()> {
        self.register().await.with_context(|| format!("node {} cannot register", self.name))?;
        let cluster = self.caller.cluster.clone();
        let beats = Heartbeats::new(&cluster, self.number);
        let places = cluster.heartbeat_places();
        let reporter = Caller { cluster: cluster.clone(), client: reports, places };
        let renewer = Caller { cluster, client: renewals, places: renewal_places };
        let heart = Heart { name: self.name.clone(), renewer, reporter, beats };
        tokio::select! {
            ended = self.serve_on(&mut watch, ready) => ended,
            never = heart.beat() => match never {},
        }
    }

    async fn serve_on(&mut self, watch: &mut Client, ready: Arc<Barrier>) -> Result<()> {
        let mut ready = Some(ready);
        loop {
            self.serve(watch, ready.take()).await?;
        }
    }

    /// Serves its pods until its watch ends.
    async fn serve(&mut self, watch: &mut Client, ready: Option<Arc<Barrier>>) -> Result<()> {
        let selector = format!("fieldSelector=spec.nodeName%3D{}", self.name);
        // In its turn, too, because all nodes do this when they start.
        let path = format!("/api/v1/pods?{selector}");
        let list: List<PodSeen> =
            parse(&path, &self.caller.placed(Method::GET, &path, None).await?)?;
        let from = &list.metadata.resource_version;
        let path = format!("/api/v1/pods?watch=1&{selector}&resourceVersion={from}");
        let mut lines = Lines::new(watch.open(&path).await?);
        if let Some(ready) = ready {
            self.caller.cluster.register();
            ready.wait().await;
        }
        for pod in &list.items {
            self.sync(pod).await;
        }
        while let Some(line) = lines.next().await.filter(|line| !is_error_event(line)) {
            let event: PodEvent = parse(&path, &line)?;
            if matches!(event.kind.as_str(), "ADDED" | "MODIFIED") {
                self.sync(&event.object).await;
            }
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<(), CallError> {
        let start = Instant::now();
        let node =
            node(&self.name, &self.caller.cluster.run, self.caller.cluster.layout.pods_per_node);
        self.caller.placed(Method::POST, "/api/v1/nodes", json_body(&node)).await?;
        let path = format!("/api/v1/nodes/{}/status", self.name);
        let status = json!({ "status": node["status"] });
        let body = Some((STRATEGIC_PATCH, status.to_string().into()));
        self.caller.placed(Method::PATCH, &path, body).await?;
        let lease = lease(&self.name, &self.caller.cluster.run);
        match self.caller.placed(Method::POST, LEASES, json_body(&lease)).await {
            Err(error) if !error.is(StatusCode::CONFLICT) => return Err(error),
            _ => {}
        }
        self.caller.cluster.tally().record(REGISTER, start.elapsed());
        Ok(())
    }

    /// Does for a pod what is to be done now.
    async fn sync(&mut self, pod: &PodSeen) {
        let path = format!("{}/{}", self.caller.cluster.pods, pod.metadata.name);
        if pod.metadata.deletion_timestamp.is_some() {
            let now =
                json!({ "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0 });
            self.caller.request(END, Method::DELETE, &path, json_body(&now)).await;
        } else if pod.status.phase == "Running" && !pod.status.is_ready() {
            // The cluster thought this node lost.
            let body = Some((STRATEGIC_PATCH, running().to_string().into()));
            self.caller.request(STATUS, Method::PATCH, &format!("{path}/status"), body).await;
        } else if !matches!(pod.status.phase.as_str(), "Running" | "Succeeded" | "Failed") {
            let secrets = pod.spec.volumes.iter().filter_map(|volume| volume.secret.as_ref());
            for secret in secrets {
                let path = format!("{}/{}", self.caller.cluster.secrets.path, secret.secret_name);
                if self.caller.request(SECRET, Method::GET, &path, None).await.is_none() {
                    return;
                }
            }
            let body = Some((STRATEGIC_PATCH, running().to_string().into()));
            self.caller.request(STATUS, Method::PATCH, &format!("{path}/status"), body).await;
        }
    }
}

impl Caller {
    /// A request that is counted. Its failure is counted, too, and does not end the node, as it
    /// does not end a kubelet.
    async fn request(
        &mut self,
        row: usize,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Option<Bytes> {
        let start = Instant::now();
        let answer = self.placed(method, path, body).await;
        let tally = self.cluster.tally();
        match answer {
            Ok(bytes) => {
                tally.record(row, start.elapsed());
                Some(bytes)
            }
            Err(error) => {
                tally.fail(row, &error.label());
                None
            }
        }
    }

    /// A request in its turn.
    async fn placed(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Bytes, CallError> {
        let _place = self.places.acquire().await.expect("the semaphores are never closed");
        self.client.call(method, path, body).await
    }
}

impl Heart {
    async fn beat(mut self) -> Infallible {
        loop {
            tokio::select! {
                _ = self.beats.lease.tick() => self.renew().await,
                _ = self.beats.status.tick() => self.report().await,
            }
        }
    }

    async fn renew(&mut self) {
        let path = format!("{LEASES}/{}", self.name);
        let patch = json!({ "spec": { "renewTime": now() } });
        let body = Some((MERGE_PATCH, patch.to_string().into()));
        self.renewer.request(LEASE, Method::PATCH, &path, body).await;
    }

    /// Tells the server of itself, which it does also when nothing has changed.
    async fn report(&mut self) {
        let path = format!("/api/v1/nodes/{}/status", self.name);
        let status = json!({ "status": { "conditions": [ready()] } });
        let body = Some((STRATEGIC_PATCH, status.to_string().into()));
        self.reporter.request(HEARTBEAT, Method::PATCH, &path, body).await;
    }
}

fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

fn condition(kind: &str, reason: &str) -> Value {
    let now = format!("{:.0}", jiff::Timestamp::now());
    json!({
        "type": kind, "status": "True", "reason": reason, "lastTransitionTime": now,
    })
}

/// The condition of a node that runs.
fn ready() -> Value {
    let mut ready = condition("Ready", "KubeletReady");
    ready["lastHeartbeatTime"] = ready["lastTransitionTime"].clone();
    ready["message"] = "kubelet is posting ready status".into();
    ready
}

fn node(name: &str, run: &str, pods: u64) -> Value {
    let amounts = json!({ "cpu": "64", "memory": "256Gi", "pods": pods.to_string() });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                RUN_LABEL: run, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            },
        },
        "spec": { "taints": [{ "key": TAINT, "effect": "NoSchedule" }] },
        "status": { "capacity": amounts, "allocatable": amounts, "conditions": [ready()] },
    })
}

fn lease(name: &str, run: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": name, "labels": { RUN_LABEL: run } },
        "spec": { "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now() },
    })
}

/// The status of a pod whose one container runs.
fn running() -> Value {
    let now = format!("{:.0}", jiff::Timestamp::now());
    let condition =
        |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now });
    json!({ "status": {
        "phase": "Running", "podIP": "10.0.0.1", "hostIP": "10.0.0.1", "startTime": now,
        "conditions": [
            condition("Initialized"), condition("Ready"), condition("ContainersReady"),
            condition("PodScheduled"),
        ],
        "containerStatuses": [{
            "name": "main", "image": "hollow", "imageID": "hollow", "ready": true, "started": true,
            "restartCount": 0, "containerID": "hollow://0",
            "state": { "running": { "startedAt": now } },
        }],
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_the_api_has_them() {
        let lease = lease("n", "r");
        let renewed = lease["spec"]["renewTime"].as_str().unwrap();
        assert_eq!(renewed.len(), "2026-01-01T00:00:00.000000Z".len(), "{renewed}");
        let ready = condition("Ready", "KubeletReady");
        let since = ready["lastTransitionTime"].as_str().unwrap();
        assert_eq!(since.len(), "2026-01-01T00:00:00Z".len(), "{since}");
    }

    #[test]
    fn a_node_keeps_other_pods_away_and_carries_its_run() {
        let node = node("n", "r", 110);
        assert_eq!(node["spec"]["taints"][0]["effect"], "NoSchedule");
        assert_eq!(node["metadata"]["labels"][RUN_LABEL], "r");
        assert_eq!(node["status"]["capacity"]["pods"], "110");
    }
}
