//! Which pods this node should run: a watch of the pods that are bound to it.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};

use crate::backoff::{self, Backoff};
use crate::objects::root_cause;
use crate::pod::PodId;
use crate::worker::{self, Workers};

/// Feeds the pod workers until dropped.
///
/// What earlier kubelets left behind is judged once the first list is complete, and not before:
/// while the API server cannot be reached, everything that runs keeps running.
pub(crate) async fn run(workers: Arc<Workers>) {
    let shared = workers.shared().clone();
    let pods: Api<Pod> = Api::all(shared.client.clone());
    let ours = format!("spec.nodeName={}", shared.node_name);
    let mut events = pin!(watcher(pods, watcher::Config::default().fields(&ours)));
    let mut backoff = Backoff::new(backoff::API);
    let mut listed = HashSet::new();
    let mut orphans_judged = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.extend(pod.metadata.uid.clone());
                workers.apply(slim(pod));
            }
            Ok(Event::InitDone) => {
                backoff.reset();
                for uid in workers.uids().iter().filter(|uid| !listed.contains(*uid)) {
                    workers.gone(uid);
                }
                if !orphans_judged {
                    orphans_judged = true;
                    judge_orphans(&workers, &listed).await;
                }
            }
            Ok(Event::Apply(pod)) => workers.apply(slim(pod)),
            Ok(Event::Delete(pod)) => {
                if let Some(uid) = &pod.metadata.uid {
                    workers.gone(uid);
                }
            }
            Err(error) => {
                tracing::debug!(cause = root_cause(&error), "the watch of pods was interrupted");
                backoff.wait().await;
            }
        }
    }
}

/// Drops what no part of the kubelet reads.
fn slim(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod
}

/// Ends what is on this machine of pods that the API server does not have.
async fn judge_orphans(workers: &Arc<Workers>, listed: &HashSet<String>) {
    let shared = workers.shared();
    let mut backoff = Backoff::new(backoff::RUNTIME);
    let running = loop {
        match shared.runtime.pods().await {
            Ok(running) => break running,
            Err(error) => {
                tracing::warn!(%error, "cannot look for orphaned pods yet");
                backoff.wait().await;
            }
        }
    };
    let orphans: Vec<PodId> =
        running.into_values().filter(|id| !listed.contains(id.uid())).collect();
    let mut known: HashSet<&str> = listed.iter().map(String::as_str).collect();
    known.extend(orphans.iter().map(PodId::uid));
    match worker::directories(&shared.layout) {
        Ok(directories) => {
            for (uid, _) in directories.iter().filter(|(uid, _)| !known.contains(uid.as_str())) {
                // Its name is nowhere written; the uid leads to all that is left of it.
                if let Some(id) = PodId::new("unknown", "unknown", uid) {
                    workers.orphan(id);
                }
            }
        }
        Err(error) => tracing::warn!(%error, "cannot look for orphaned volumes"),
    }
    orphans.into_iter().for_each(|id| workers.orphan(id));
}
