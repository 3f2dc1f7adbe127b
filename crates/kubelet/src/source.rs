//! Which pods the API server wants here: a watch of the pods that are bound to this node.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;

use coffer_api::condition::{self, Condition as _, ConditionStatus, ConditionType};
use coffer_api::kinds::pod::is_mirror;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;

use crate::backoff::{self, Backoff};
use crate::objects::root_cause;
use crate::pod::{self, PodId};
use crate::status::mirror;
use crate::worker::{self, Workers};

/// Feeds the pod workers until dropped.
///
/// What earlier kubelets left behind is judged once the first list is complete and every source of
/// static pods was read, and not before: while one of them cannot be reached, everything that runs
/// keeps running.
pub(crate) async fn run(workers: Arc<Workers>, mut statics_ready: watch::Receiver<bool>) {
    let shared = workers.shared().clone();
    let pods: Api<Pod> = Api::all(shared.client.clone());
    let ours = format!("spec.nodeName={}", shared.node_name);
    let mut events = pin!(watcher(pods, watcher::Config::default().fields(&ours)));
    let mut backoff = Backoff::new(backoff::API);
    let mut source = Source::new(workers);
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => return,
                Some(Ok(event)) => {
                    if matches!(event, Event::InitDone) {
                        backoff.reset();
                    }
                    source.take(event).await;
                }
                Some(Err(error)) => {
                    tracing::debug!(cause = root_cause(&error), "pod watch interrupted");
                    backoff.wait().await;
                }
            },
            true = is_true(&mut statics_ready), if !source.statics_known => {
                source.statics_known = true;
                source.judge().await;
            }
        }
    }
}

/// Waits for a yes; `false` if there will be none. (What the channel lends must not be kept.)
async fn is_true(answer: &mut watch::Receiver<bool>) -> bool {
    answer.wait_for(|answer| *answer).await.is_ok()
}

/// What is known of the pods that are bound to this node.
struct Source {
    workers: Arc<Workers>,
    /// The uids of the list that is coming, or came last.
    listed: HashSet<String>,
    /// Mirror pods that came before it was known which static pods there are.
    mirrors: Vec<Pod>,
    is_listed: bool,
    statics_known: bool,
    is_judged: bool,
}

impl Source {
    fn new(workers: Arc<Workers>) -> Self {
        Self {
            workers,
            listed: HashSet::new(),
            mirrors: Vec::new(),
            is_listed: false,
            statics_known: false,
            is_judged: false,
        }
    }

    async fn take(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => {
                self.listed.clear();
                self.mirrors.clear();
            }
            Event::InitApply(pod) | Event::Apply(pod) if is_mirror(&pod) => {
                if self.is_judged {
                    tend_mirror(&self.workers, &pod).await;
                } else {
                    self.mirrors.push(pod);
                }
            }
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.workers.apply(slim(pod));
            }
            Event::InitDone => {
                for uid in self.workers.uids().iter().filter(|uid| !self.listed.contains(*uid)) {
                    self.workers.removed(uid);
                }
                self.is_listed = true;
                self.judge().await;
            }
            Event::Apply(pod) => self.workers.apply(slim(pod)),
            Event::Delete(pod) if is_mirror(&pod) => {
                let (namespace, name) = names(&pod);
                self.workers.recheck_mirror(namespace, name);
            }
            Event::Delete(pod) => {
                if let Some(uid) = &pod.metadata.uid {
                    self.workers.removed(uid);
                }
            }
        }
    }

    /// Once everything that should be here is known, takes away what is here besides.
    async fn judge(&mut self) {
        if self.is_judged || !self.is_listed || !self.statics_known {
            return;
        }
        self.is_judged = true;
        let mut known = std::mem::take(&mut self.listed);
        known.extend(self.workers.statics());
        judge_orphans(&self.workers, &known).await;
        for mirror in std::mem::take(&mut self.mirrors) {
            tend_mirror(&self.workers, &mirror).await;
        }
    }
}

fn names(pod: &Pod) -> (&str, &str) {
    let meta = &pod.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Removes the mirror of a static pod that no longer exists; has one that is being deleted recreated.
async fn tend_mirror(workers: &Arc<Workers>, mirror: &Pod) {
    let (namespace, name) = names(mirror);
    if !pod::is_terminating(mirror) && workers.find(namespace, name, None).is_some() {
        // Another writer may have said that it is not ready: then what we know is written again.
        if says_unready(mirror) {
            workers.recheck_mirror(namespace, name);
        }
        return;
    }
    if workers.recheck_mirror(namespace, name) {
        return;
    }
    let pods: Api<Pod> = Api::namespaced(workers.shared().client.clone(), namespace);
    if let Err(error) = mirror::remove(&pods, mirror).await {
        tracing::debug!(cause = root_cause(&error), "mirror pod not removed yet");
    }
}

fn says_unready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    condition::find(conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.state() == ConditionStatus::False)
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
                tracing::warn!(%error, "cannot list pods to find orphans, retrying");
                backoff.wait().await;
            }
        }
    };
    let orphans: Vec<PodId> =
        running.into_values().filter(|id| !listed.contains(id.uid())).collect();
    let mut known: HashSet<&str> = listed.iter().map(String::as_str).collect();
    known.extend(orphans.iter().map(PodId::uid));
    match worker::directories(&shared.layout).await {
        Ok(directories) => {
            for (uid, _) in directories.iter().filter(|(uid, _)| !known.contains(uid.as_str())) {
                // Its name is nowhere written; the uid leads to all that is left of it.
                if let Some(id) = PodId::new("unknown", "unknown", uid) {
                    workers.orphan(id);
                }
            }
        }
        Err(error) => tracing::warn!(%error, "cannot list pod directories to find orphans"),
    }
    orphans.into_iter().for_each(|id| workers.orphan(id));
}
