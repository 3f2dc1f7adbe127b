//! What a worker remembers between rounds, by what it is about.
//!
//! What the plan reads is [`Progress`](super::plan::Progress); the rest is here: the secrets of the
//! pod's volumes, its containers, its status, and how long each thing that fails has still to wait.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::usage::Usage;
use super::{Desired, Origin, messages};
use crate::backoff::{self, Backoff};
use crate::objects::{ObjectKey, Objects, Subscription, Version};
use crate::pod::PodId;
use crate::probe::Probes;
use crate::status::report::Reporter;

/// How many objects one pod watches for because it cannot go on without them.
const AWAITED_MAX: usize = 64;

/// What the pod should be, and what tells that something of it changed.
pub(super) struct PodInput {
    pub(super) desired: watch::Receiver<Desired>,
    /// The runtime shows it otherwise than before, or a probe does.
    pub(super) wake: Arc<Notify>,
    /// Whether a manifest is the pod's source.
    pub(super) is_static: bool,
    pub(super) awaited: Awaited,
}

/// Objects that the pod cannot go on without.
#[derive(Default)]
pub(super) struct Awaited(Vec<AwaitedObject>);

struct AwaitedObject {
    key: ObjectKey,
    subscription: Subscription,
    seen: Option<Version>,
}

impl Awaited {
    /// Watches for an object, so that the pod goes on as soon as it changes from what was `seen`.
    pub(super) fn add(&mut self, objects: &Objects, key: &ObjectKey, seen: Option<Version>) {
        self.0.retain(|awaited| awaited.key != *key);
        // Beyond it the back-off alone says when it is tried again.
        if self.0.len() >= AWAITED_MAX {
            return;
        }
        let subscription = objects.watch(key);
        self.0.push(AwaitedObject { key: key.clone(), subscription, seen });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Waits until one of them changed; for ever where there is none.
    pub(super) async fn any_changed(&mut self) {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        let changes = self.0.iter_mut().map(|it| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(it.subscription.changed_from(it.seen.as_ref()))
        });
        futures::future::select_all(changes).await;
    }
}

/// The secrets and tokens in the pod's volumes.
#[derive(Default)]
pub(super) struct VolumeState {
    pub(super) usage: Usage,
    /// Whether the snapshot may record what `usage` does not know.
    pub(super) usage_is_old: bool,
    /// A pod that follows its secrets looks at them again then.
    pub(super) refresh_hold: Option<Instant>,
    pub(super) tokens_due: Option<Instant>,
}

/// What is known of the pod's containers and not from the runtime.
#[derive(Default)]
pub(super) struct Containers {
    /// How long the next restart waits, by container name.
    pub(super) crashes: BTreeMap<String, Backoff>,
    /// Termination messages, by container id.
    pub(super) messages: BTreeMap<String, String>,
    /// By container id.
    pub(super) probes: BTreeMap<String, Probes>,
}

/// The pod's status and who reports it.
pub(super) struct Reporting {
    /// None once there is no object to report about, and for a pod that is only on this machine.
    pub(super) reporter: Option<Reporter>,
    /// What was reported last.
    pub(super) known: PodStatus,
}

impl Reporting {
    pub(super) fn new(
        client: &kube::Client,
        id: &PodId,
        pod: Option<Arc<Pod>>,
        origin: &Origin,
    ) -> Self {
        let known = pod.as_ref().and_then(|pod| pod.status.clone()).unwrap_or_default();
        let reporter = pod.map(|pod| match origin {
            Origin::ApiServer => Reporter::new(client.clone(), id.clone(), &pod),
            Origin::Manifest { recheck } => {
                Reporter::mirrored(client.clone(), pod, recheck.clone())
            }
        });
        Self { reporter, known }
    }

    pub(super) fn containers(&self) -> Containers {
        Containers { messages: messages::reported(&self.known), ..Default::default() }
    }
}

/// How long what failed has still to wait, one for each thing that fails for reasons of its own.
pub(super) struct Backoffs {
    /// Setting up volumes.
    pub(super) volumes: Backoff,
    /// Following secrets.
    pub(super) refresh: Backoff,
    pub(super) tokens: Backoff,
    pub(super) sandbox: Backoff,
    /// A container's configuration, creation and start.
    pub(super) config: Backoff,
    /// The runtime cannot be reached.
    pub(super) outage: Backoff,
    /// A round that ended early for any other reason.
    pub(super) sync: Backoff,
}

impl Default for Backoffs {
    fn default() -> Self {
        Self {
            volumes: Backoff::new(backoff::VOLUME),
            refresh: Backoff::new(backoff::VOLUME),
            tokens: Backoff::new(backoff::VOLUME),
            sandbox: Backoff::new(backoff::RUNTIME),
            config: Backoff::new(backoff::CONTAINER_CONFIG),
            outage: Backoff::new(backoff::OUTAGE),
            sync: Backoff::new(backoff::SYNC),
        }
    }
}
