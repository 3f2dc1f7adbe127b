//! The pods of this node: one worker task per pod, found by uid.
//!
//! The source of pods says what should be, the relist says that something changed, and each
//! worker brings its pod from what is to what should be. A worker lives until nothing of its pod
//! is left on the machine, also when the API server has forgotten the pod already.

mod end;
mod error;
mod hosts;
mod messages;
mod mounts;
mod parts;
mod plan;
#[cfg(test)]
mod plan_tests;
mod report;
mod sandbox;
mod start;
mod stop;
mod task;
mod usage;
mod volumes;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::{self, Backoff};
use crate::config::{self, KubernetesService, SecretPlaceholders};
use crate::downward::NodeFacts;
use crate::event::{EventSink, Reason};
use crate::image::Images;
use crate::objects::Objects;
use crate::pod::{self, GRACE_PERIOD_DEFAULT_S, Layout, PodId};
use crate::runtime::{DnsDefaults, Runtime};
use crate::volume::{Protected, Volumes};

/// The grace period of pods that are not known any more.
const GRACE: Duration = Duration::from_secs(GRACE_PERIOD_DEFAULT_S.unsigned_abs());
/// How much longer than the longest grace period the end of all pods may take.
const END_MARGIN: Duration = Duration::from_secs(60);

/// What all pod workers share.
pub(crate) struct Shared {
    pub(crate) node_name: String,
    pub(crate) client: kube::Client,
    pub(crate) runtime: Runtime,
    /// `containerd`, `cri-o`: the scheme of container ids.
    pub(crate) runtime_name: String,
    pub(crate) images: Images,
    pub(crate) objects: Arc<Objects>,
    pub(crate) volumes: Volumes,
    pub(crate) protected: Arc<Protected>,
    pub(crate) events: EventSink,
    pub(crate) layout: Layout,
    pub(crate) dns: DnsDefaults,
    pub(crate) facts: NodeFacts,
    pub(crate) services: Services,
    /// Which handlers of the runtime get placeholders for what comes from Secrets; without it all
    /// get the values.
    pub(crate) placeholders: Option<SecretPlaceholders>,
}

/// The environment variables that every container gets.
pub(crate) struct Services {
    pods: Vec<(String, String)>,
    host_network: Vec<(String, String)>,
}

impl Services {
    pub(crate) fn new(service: &KubernetesService) -> Self {
        Self {
            pods: config::service_variables(service.pods.as_ref()),
            host_network: config::service_variables(service.host_network.as_ref()),
        }
    }

    /// Those of a pod's containers.
    pub(crate) fn of(&self, pod: &Pod) -> &[(String, String)] {
        if pod::uses_host_network(pod::spec(pod)) { &self.host_network } else { &self.pods }
    }
}

/// What should become of a pod.
#[derive(Clone, Default)]
pub(crate) struct Desired {
    /// As its source has it, or had it last. None for a pod that was found only here.
    pub(crate) pod: Option<Arc<Pod>>,
    /// Its source has it no more.
    pub(crate) is_gone: bool,
    /// The kubelet ends with its pods and does not wait for the API server.
    pub(crate) is_leaving: bool,
}

/// Who wants a pod here.
#[derive(Clone)]
enum Origin {
    ApiServer,
    /// A manifest. The API shows a mirror of it; `recheck` is notified when that may have been removed.
    Manifest {
        recheck: Arc<Notify>,
    },
}

struct Handle {
    id: PodId,
    origin: Origin,
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
}

/// All pod workers.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    handles: Mutex<HashMap<String, Handle>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Counts the workers that came to their end.
    finished: watch::Sender<u64>,
}

impl Workers {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let finished = watch::channel(0).0;
        Arc::new(Self { shared, handles: Mutex::default(), tasks, stop, finished })
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.handles.lock()
    }

    /// A pod is, or has become, this.
    pub(crate) fn apply(self: &Arc<Self>, pod: Pod) {
        let Some(id) = PodId::of(&pod) else {
            tracing::warn!(
                name = pod.metadata.name,
                "ignoring pod: its UID is not a valid file name"
            );
            return;
        };
        let desired = Desired { pod: Some(Arc::new(pod)), ..Default::default() };
        self.send(id, desired, Origin::ApiServer);
    }

    /// A manifest asks for this pod.
    pub(crate) fn apply_static(self: &Arc<Self>, pod: Pod) {
        let Some(id) = PodId::of(&pod) else { return };
        let desired = Desired { pod: Some(Arc::new(pod)), ..Default::default() };
        self.send(id, desired, Origin::Manifest { recheck: Arc::default() });
    }

    /// The mirror of a static pod no longer exists, or is not what it was. `false` if it is a mirror of
    /// nothing that runs here.
    pub(crate) fn recheck_mirror(&self, namespace: &str, name: &str) -> bool {
        let handles = self.handles();
        let found = handles.values().find_map(|handle| match &handle.origin {
            Origin::Manifest { recheck }
                if handle.id.namespace() == namespace && handle.id.name() == name =>
            {
                Some(recheck)
            }
            _ => None,
        });
        found.inspect(|recheck| recheck.notify_one()).is_some()
    }

    /// The uids of the static pods.
    pub(crate) fn statics(&self) -> Vec<String> {
        let handles = self.handles();
        let fixed =
            handles.iter().filter(|(_, handle)| matches!(handle.origin, Origin::Manifest { .. }));
        fixed.map(|(uid, _)| uid.clone()).collect()
    }

    /// Tells of every pod of which nothing is left.
    pub(crate) fn finished(&self) -> watch::Receiver<u64> {
        self.finished.subscribe()
    }

    /// The API server has a pod no more.
    pub(crate) fn removed(self: &Arc<Self>, uid: &str) {
        let handles = self.handles();
        if let Some(handle) = handles.get(uid) {
            handle.desired.send_modify(|desired| desired.is_gone = true);
        }
    }

    /// A pod was found on this machine that the API server does not have.
    pub(crate) fn orphan(self: &Arc<Self>, id: PodId) {
        tracing::info!(pod = %id, "stopping an orphaned pod");
        self.send(id, Desired { is_gone: true, ..Default::default() }, Origin::ApiServer);
    }

    fn send(self: &Arc<Self>, id: PodId, desired: Desired, origin: Origin) {
        let mut handles = self.handles();
        if let Some(handle) = handles.get(id.uid()) {
            handle.desired.send_replace(desired);
            return;
        }
        let (sender, receiver) = watch::channel(desired);
        let wake = Arc::new(Notify::new());
        let worker = {
            let (shared, id) = (self.shared.clone(), id.clone());
            let (wake, origin) = (wake.clone(), origin.clone());
            move || {
                task::Worker::new(
                    shared.clone(),
                    id.clone(),
                    receiver.clone(),
                    wake.clone(),
                    &origin,
                )
            }
        };
        let handle = Handle { id: id.clone(), origin, desired: sender, wake };
        handles.insert(id.uid().to_owned(), handle);
        let workers = Arc::downgrade(self);
        let stop = self.stop.clone();
        let events = self.shared.events.clone();
        self.tasks.spawn(async move {
            let work = contained(&id, &events, || worker().run());
            if stop.run_until_cancelled(work).await.is_none() {
                return;
            }
            if let Some(workers) = workers.upgrade() {
                workers.handles().remove(id.uid());
                workers.finished.send_modify(|finished| *finished += 1);
            }
        });
    }

    /// Something of a pod changed in the runtime.
    pub(crate) fn wake(&self, uid: &str) {
        if let Some(handle) = self.handles().get(uid) {
            handle.wake.notify_one();
        }
    }

    /// The uids of all pods that the API server is the source of.
    pub(crate) fn uids(&self) -> Vec<String> {
        let handles = self.handles();
        let theirs =
            handles.iter().filter(|(_, handle)| matches!(handle.origin, Origin::ApiServer));
        theirs.map(|(uid, _)| uid.clone()).collect()
    }

    /// All pods, as the API server has them.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        let handles = self.handles();
        handles
            .values()
            .filter_map(|handle| handle.desired.borrow().pod.as_deref().cloned())
            .collect()
    }

    /// A pod by name, as the API server has it; the newest, should there be two.
    pub(crate) fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Found> {
        let handles = self.handles();
        let mut found = handles.values().filter(|handle| {
            handle.id.namespace() == namespace
                && handle.id.name() == name
                && uid.is_none_or(|uid| handle.id.uid() == uid)
        });
        let first = found.next()?;
        let handle =
            found.fold(first, |best, next| if best.desired.borrow().is_gone { next } else { best });
        let pod = handle.desired.borrow().pod.clone()?;
        Some(Found { id: handle.id.clone(), pod })
    }

    /// Ends every pod on the node; for `--stop-pods-on-exit`.
    pub(crate) async fn end_all(&self, tell: impl FnOnce(Duration)) {
        let mut grace = Duration::ZERO;
        for handle in self.handles().values() {
            handle.desired.send_modify(|desired| {
                desired.is_gone = true;
                desired.is_leaving = true;
                grace = grace.max(desired.pod.as_deref().map_or(GRACE, task::grace_period));
            });
        }
        self.tasks.close();
        let limit = grace.saturating_add(END_MARGIN);
        tell(limit);
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::error!(left = self.tasks.len(), waited = ?limit, "pods did not stop in time, leaving them");
        }
    }

    /// Stops working and leaves the pods as they are.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Does a pod's work to its end, and begins again where it panics: a fault that one pod brings out is
/// that pod's alone. What the panic says is not repeated: it may quote anything.
async fn contained<F: Future<Output = ()>>(
    id: &PodId,
    events: &EventSink,
    mut work: impl FnMut() -> F,
) {
    let mut backoff = Backoff::new(backoff::PANIC);
    while AssertUnwindSafe(async { work().await }).catch_unwind().await.is_err() {
        tracing::error!(pod = %id, "pod worker panicked, restarting it: this is a bug");
        let message = "error syncing pod: the kubelet failed while it worked on the pod".to_owned();
        events.pod(id, Reason::FailedSync, message);
        backoff.wait().await;
    }
}

/// A pod that was asked for by name.
pub(crate) struct Found {
    pub(crate) id: PodId,
    pub(crate) pod: Arc<Pod>,
}

/// Pod directories of an earlier process, by uid.
pub(crate) async fn directories(layout: &Layout) -> std::io::Result<Vec<(String, PathBuf)>> {
    let layout = layout.clone();
    let read = tokio::task::spawn_blocking(move || read_directories(&layout)).await;
    read.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

fn read_directories(layout: &Layout) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(layout.pods()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A pod that brings out a fault must not take the other pods' workers along, nor be forgotten.
    #[tokio::test(start_paused = true)]
    async fn work_that_panics_is_begun_again_after_a_while_and_an_event_says_so() {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no server"))
        });
        let client = kube::Client::new(service, "default");
        let (events, mut writer) = crate::event::channel(client, "node");
        let id = PodId::new("ns", "p", "u").expect("an identity");
        let tries = AtomicU32::new(0);
        let began = tokio::time::Instant::now();
        contained(&id, &events, || async {
            let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
            assert!(!first, "a fault");
        })
        .await;
        assert_eq!(tries.load(Ordering::Relaxed), 2);
        assert!(began.elapsed() >= backoff::PANIC.initial);
        let (reason, message) = writer.next_put().expect("an event");
        assert_eq!(reason, "FailedSync");
        assert!(!message.contains("a fault"), "{message}");
    }
}
