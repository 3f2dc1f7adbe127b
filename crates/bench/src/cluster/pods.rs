//! Pods on real nodes: made, watched until they run, removed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::workspace::{RUN_LABEL, Workspace};
use crate::transport::client::{Client, parse};
use crate::transport::wire::{Condition, Event, Lines, Meta};

/// What a pod event says, as far as it matters here.
pub(crate) type PodEvent = Event<PodSeen>;

/// What a pod says of itself, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PodSeen {
    #[serde(default)]
    pub(crate) metadata: Meta,
    #[serde(default)]
    pub(crate) spec: Spec,
    #[serde(default)]
    pub(crate) status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) node_name: Option<String>,
    pub(crate) volumes: Vec<Volume>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Volume {
    pub(crate) secret: Option<SecretVolume>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SecretVolume {
    pub(crate) secret_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) phase: String,
    pub(crate) message: String,
    pub(crate) conditions: Vec<Condition>,
}

impl Status {
    /// Whether its containers are ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.conditions.iter().any(Condition::is_ready)
    }
}

/// When a pod was first seen to have come so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) scheduled: Option<Instant>,
    pub(crate) running: Option<Instant>,
    pub(crate) gone: Option<Instant>,
    failed: Option<String>,
}

/// The pods of a namespace, as they are seen.
pub(crate) struct Board {
    seen: watch::Receiver<HashMap<String, Seen>>,
    watcher: JoinHandle<()>,
}

impl Drop for Board {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Board {
    /// Watches the pods of a namespace from now on.
    pub(crate) async fn open(mut client: Client, workspace: &Workspace) -> Result<Self> {
        let path = format!("{}?watch=1", workspace.path("pods"));
        let body = client.open(&path).await?;
        let (sender, seen) = watch::channel(HashMap::new());
        let watcher = tokio::spawn(async move {
            let mut lines = Lines::new(body);
            while let Some(line) = lines.next().await {
                let Ok(event) = parse::<PodEvent>(&path, &line) else { break };
                let now = Instant::now();
                sender.send_modify(|all| note(all, &event, now));
            }
            drop(client);
        });
        Ok(Self { seen, watcher })
    }

    /// Waits until a pod has come as far as `far` says; returns when it was first seen there.
    pub(crate) async fn until(
        &mut self,
        pod: &str,
        what: &str,
        timeout: Duration,
        far: fn(&Seen) -> Option<Instant>,
    ) -> Result<Instant> {
        let there = |all: &HashMap<String, Seen>| {
            all.get(pod).is_some_and(|seen| far(seen).is_some() || seen.failed.is_some())
        };
        let waited = tokio::time::timeout(timeout, self.seen.wait_for(there)).await;
        let all = match waited {
            Ok(all) => all.context("the server ended the watch of pods")?,
            Err(_) => bail!("pod {pod} was not {what} within {} s", timeout.as_secs()),
        };
        let seen = &all[pod];
        match (far(seen), &seen.failed) {
            (Some(at), _) => Ok(at),
            (None, message) => {
                bail!("pod {pod} failed: {}", message.as_deref().unwrap_or_default())
            }
        }
    }
}

fn note(all: &mut HashMap<String, Seen>, event: &PodEvent, now: Instant) {
    let seen = all.entry(event.object.metadata.name.clone()).or_default();
    let PodSeen { spec, status, .. } = &event.object;
    if event.kind == "DELETED" {
        seen.gone.get_or_insert(now);
    }
    if spec.node_name.is_some() {
        seen.scheduled.get_or_insert(now);
    }
    match status.phase.as_str() {
        "Running" => {
            seen.running.get_or_insert(now);
        }
        "Failed" if seen.running.is_none() => {
            seen.failed.get_or_insert_with(|| status.message.clone());
        }
        _ => {}
    }
}

/// A pod that mounts a secret and does nothing.
pub(crate) fn pod(name: &str, image: &str, secret: Option<&str>, run: &str) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { RUN_LABEL: run } },
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "3600"],
            }],
        },
    });
    if let Some(secret) = secret {
        pod["spec"]["volumes"] = json!([{ "name": "s", "secret": { "secretName": secret } }]);
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{ "name": "s", "mountPath": "/etc/s", "readOnly": true }]);
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> PodEvent {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_first_sight_of_each_step_counts() {
        let mut all = HashMap::new();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let pending = event(r#"{"type":"ADDED","object":{"metadata":{"name":"p"}}}"#);
        let bound = event(
            r#"{"type":"MODIFIED","object":{"metadata":{"name":"p"},"spec":{"nodeName":"n"}}}"#,
        );
        let running = event(
            r#"{"type":"MODIFIED","object":{"metadata":{"name":"p"},"spec":{"nodeName":"n"},"status":{"phase":"Running"}}}"#,
        );
        let gone = event(r#"{"type":"DELETED","object":{"metadata":{"name":"p"}}}"#);
        for (ms, event) in [(1, &pending), (2, &bound), (3, &running), (4, &running), (5, &gone)] {
            note(&mut all, event, at(ms));
        }
        let seen = &all["p"];
        assert_eq!(seen.scheduled, Some(at(2)));
        assert_eq!(seen.running, Some(at(3)));
        assert_eq!(seen.gone, Some(at(5)));
    }

    #[test]
    fn a_pod_mounts_the_secret_it_is_given_and_no_token() {
        let with = pod("p", "busybox", Some("s1"), "r");
        assert_eq!(with["spec"]["volumes"][0]["secret"]["secretName"], "s1");
        assert_eq!(with["spec"]["automountServiceAccountToken"], false);
        assert!(pod("p", "busybox", None, "r")["spec"].get("volumes").is_none());
    }
}
