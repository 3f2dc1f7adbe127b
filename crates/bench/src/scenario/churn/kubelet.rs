//! A kubelet in all but containers: the requests that a node makes, when it makes them.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use super::cluster::{Cluster, END, LEASE, REGISTER, SECRET, STATUS, TAINT};
use crate::client::{CallError, Client, MERGE_PATCH, STRATEGIC_PATCH, parse};
use crate::pods::{Lines, Meta, PodEvent, PodSeen};
use crate::workspace::{LEASES, RUN_LABEL, json_body};

/// One node.
pub(super) struct Kubelet {
    cluster: Arc<Cluster>,
    name: String,
    client: Client,
}

#[derive(Deserialize)]
struct PodList {
    metadata: Meta,
    items: Vec<PodSeen>,
}

impl Kubelet {
    pub(super) fn new(cluster: Arc<Cluster>, number: u64, client: Client) -> Self {
        let name = cluster.node_name(number);
        Self { cluster, name, client }
    }

    /// Registers, then serves its pods until its watch ends.
    pub(super) async fn run(mut self, mut watch: Client, ready: Arc<Barrier>) -> Result<()> {
        self.register().await.with_context(|| format!("node {} cannot register", self.name))?;
        let selector = format!("fieldSelector=spec.nodeName%3D{}", self.name);
        let list: PodList = self.client.get(&format!("/api/v1/pods?{selector}")).await?;
        let from = &list.metadata.resource_version;
        let path = format!("/api/v1/pods?watch=1&{selector}&resourceVersion={from}");
        let mut lines = Lines::new(watch.open(&path).await?);
        self.cluster.register();
        ready.wait().await;
        for pod in &list.items {
            self.sync(pod).await;
        }
        let mut renewals = tokio::time::interval(self.cluster.layout.lease_every);
        renewals.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                line = lines.next() => {
                    let Some(line) = line else { bail!("the watch of node {} ended", self.name) };
                    let event: PodEvent = parse(&path, &line)?;
                    if matches!(event.kind.as_str(), "ADDED" | "MODIFIED") {
                        self.sync(&event.object).await;
                    }
                }
                _ = renewals.tick() => self.renew().await,
            }
        }
    }

    /// A request that is counted. Its failure is counted, too, and does not end the node, as it
    /// would not end a kubelet.
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

    /// A request in its turn: the nodes together must not exceed what a server lets one user do.
    async fn placed(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Bytes, CallError> {
        let _place = self.cluster.places.acquire().await.expect("the semaphore is never closed");
        self.client.call(method, path, body).await
    }

    async fn register(&mut self) -> Result<(), CallError> {
        let start = Instant::now();
        let node = node(&self.name, &self.cluster.run, self.cluster.layout.pods_per_node);
        self.placed(Method::POST, "/api/v1/nodes", json_body(&node)).await?;
        let path = format!("/api/v1/nodes/{}/status", self.name);
        let status = json!({ "status": node["status"] });
        let body = Some((STRATEGIC_PATCH, status.to_string().into()));
        self.placed(Method::PATCH, &path, body).await?;
        let lease = lease(&self.name, &self.cluster.run);
        match self.placed(Method::POST, LEASES, json_body(&lease)).await {
            Err(error) if !error.is(StatusCode::CONFLICT) => return Err(error),
            _ => {}
        }
        self.cluster.tally().record(REGISTER, start.elapsed());
        Ok(())
    }

    async fn renew(&mut self) {
        let path = format!("{LEASES}/{}", self.name);
        let patch = json!({ "spec": { "renewTime": now() } });
        let body = Some((MERGE_PATCH, patch.to_string().into()));
        self.request(LEASE, Method::PATCH, &path, body).await;
    }

    /// Does for a pod what is to be done now.
    async fn sync(&mut self, pod: &PodSeen) {
        let path = format!("{}/{}", self.cluster.pods, pod.metadata.name);
        if pod.metadata.deletion_timestamp.is_some() {
            let now =
                json!({ "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0 });
            self.request(END, Method::DELETE, &path, json_body(&now)).await;
        } else if !matches!(pod.status.phase.as_str(), "Running" | "Succeeded" | "Failed") {
            let secrets = pod.spec.volumes.iter().filter_map(|volume| volume.secret.as_ref());
            for secret in secrets {
                let path = format!("{}/{}", self.cluster.secrets.path, secret.secret_name);
                if self.request(SECRET, Method::GET, &path, None).await.is_none() {
                    return;
                }
            }
            let body = Some((STRATEGIC_PATCH, running().to_string().into()));
            self.request(STATUS, Method::PATCH, &format!("{path}/status"), body).await;
        }
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

fn node(name: &str, run: &str, pods: u64) -> Value {
    let amounts = json!({ "cpu": "64", "memory": "256Gi", "pods": pods.to_string() });
    let mut ready = condition("Ready", "KubeletReady");
    ready["lastHeartbeatTime"] = ready["lastTransitionTime"].clone();
    ready["message"] = "kubelet is posting ready status".into();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                RUN_LABEL: run, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            },
        },
        "spec": { "taints": [{ "key": TAINT, "effect": "NoSchedule" }] },
        "status": { "capacity": amounts, "allocatable": amounts, "conditions": [ready] },
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
