//! Static pods: those that no API server gave, from a directory, a URL, or the kubelet's server.
//!
//! Each source says what it has as a whole list; this is the one place that compares the lists with
//! what runs. A manifest that changes is another pod: the old one ends before the new one, of the
//! same name, begins. In the API each is shown by a mirror pod, which its reporter keeps.

mod file;
mod manifest;
mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use tokio::sync::{mpsc, watch};

use self::manifest::Refused;
pub(crate) use self::manifest::{ManifestError, ManifestSource};
pub use self::url::ManifestUrlError;
use crate::config::StaticPodsConfig;
use crate::event::{EventSink, Reason};
use crate::worker::Workers;

/// Lists that wait to be looked at.
const UPDATES_MAX: usize = 16;

/// What one source has now.
struct Listing {
    source: ManifestSource,
    pods: Vec<Pod>,
}

/// Static pods of this node.
pub(crate) struct Statics {
    config: StaticPodsConfig,
    url: Option<url::Source>,
    input: Input,
    listings: mpsc::Receiver<Listing>,
    /// The sources that were read once. Before all were, nothing that runs is an orphan.
    ready: watch::Sender<bool>,
}

/// The kubelet's own server, as a source: pods by their names.
#[derive(Clone)]
pub(crate) struct Input {
    pods: Arc<parking_lot::Mutex<BTreeMap<(String, String), Pod>>>,
    intake: Intake,
}

impl Input {
    /// Runs the pod of a manifest from now on, in place of one of the same name.
    pub(crate) async fn put(&self, manifest: &[u8]) -> Result<Pod, ManifestError> {
        let mut read = manifest::read(manifest, ManifestSource::Api, "", &self.intake.node);
        let pod = read.swap_remove(0).map_err(|refused| {
            self.intake.refuse("request", &refused);
            refused.error
        })?;
        self.pods().insert(key(&pod), pod.clone());
        self.send().await;
        Ok(pod)
    }

    /// Ends a pod that came by this source. `false` if there is none of that name.
    pub(crate) async fn remove(&self, namespace: &str, name: &str) -> bool {
        let removed = self.pods().remove(&(namespace.to_owned(), name.to_owned())).is_some();
        if removed {
            self.send().await;
        }
        removed
    }

    fn pods(&self) -> parking_lot::MutexGuard<'_, BTreeMap<(String, String), Pod>> {
        self.pods.lock()
    }

    async fn send(&self) {
        let pods = self.pods().values().cloned().collect();
        self.intake.list(pods).await;
    }
}

fn key(pod: &Pod) -> (String, String) {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    (part(&pod.metadata.namespace), part(&pod.metadata.name))
}

impl Statics {
    pub(crate) fn open(
        node: &str,
        events: EventSink,
        config: StaticPodsConfig,
    ) -> Result<Self, ManifestUrlError> {
        let url = config.manifest_url.as_deref().map(url::Source::open).transpose()?;
        let (sender, listings) = mpsc::channel(UPDATES_MAX);
        let intake = Intake { source: ManifestSource::Api, node: node.to_owned(), events, sender };
        let input = Input { pods: Arc::default(), intake };
        let ready = watch::channel(false).0;
        Ok(Self { config, url, input, listings, ready })
    }

    pub(crate) fn input(&self) -> Input {
        self.input.clone()
    }

    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Runs what the sources have, until dropped.
    pub(crate) async fn run(mut self, workers: Arc<Workers>) {
        let mut unread = BTreeSet::new();
        let reading = {
            let intake = |source| Intake { source, ..self.input.intake.clone() };
            let file = self.config.manifest_path.take().map(|path| {
                unread.insert(ManifestSource::File);
                file::run(path, intake(ManifestSource::File))
            });
            let url = self.url.take().map(|source| {
                unread.insert(ManifestSource::Url);
                url::run(source, intake(ManifestSource::Url))
            });
            async move {
                tokio::join!(maybe(file), maybe(url));
            }
        };
        tokio::select! {
            () = reading => {}
            () = self.compare(workers, unread) => {}
        }
    }

    async fn compare(mut self, workers: Arc<Workers>, mut unread: BTreeSet<ManifestSource>) {
        let mut finished = workers.finished();
        let mut listed: BTreeMap<ManifestSource, Vec<Pod>> = BTreeMap::new();
        self.ready.send_replace(unread.is_empty());
        loop {
            tokio::select! {
                listing = self.listings.recv() => {
                    let Some(listing) = listing else { return };
                    unread.remove(&listing.source);
                    listed.insert(listing.source, listing.pods);
                }
                changed = finished.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            reconcile(&workers, &listed);
            // After what was read was passed on: from now on it is known.
            self.ready.send_replace(unread.is_empty());
        }
    }
}

async fn maybe(part: Option<impl Future<Output = ()>>) {
    match part {
        Some(part) => part.await,
        None => std::future::pending().await,
    }
}

/// Ends what is listed no more, and begins what is new as soon as its name is free.
fn reconcile(workers: &Arc<Workers>, listed: &BTreeMap<ManifestSource, Vec<Pod>>) {
    let wanted: Vec<&Pod> = listed.values().flatten().collect();
    let uids: BTreeSet<&str> =
        wanted.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
    for uid in workers.statics() {
        if !uids.contains(uid.as_str()) {
            workers.removed(&uid);
        }
    }
    for pod in wanted {
        let (namespace, name) = key(pod);
        if workers.find(&namespace, &name, None).is_none() {
            workers.apply_static(pod.clone());
        }
    }
}

/// What a source puts its manifests into.
#[derive(Clone)]
struct Intake {
    source: ManifestSource,
    node: String,
    events: EventSink,
    sender: mpsc::Sender<Listing>,
}

impl Intake {
    /// The pods of one manifest; what is refused is said.
    fn pods(&self, bytes: &[u8], place: &str) -> Vec<Pod> {
        let read = manifest::read(bytes, self.source, place, &self.node);
        read.into_iter()
            .filter_map(|pod| pod.map_err(|refused| self.refuse(place, &refused)).ok())
            .collect()
    }

    fn refuse(&self, place: &str, refused: &Refused) {
        let error = &refused.error;
        tracing::error!(manifest = place, source = self.source.as_str(), %error, "manifest refused");
        if refused.name.is_empty() {
            return;
        }
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(refused.namespace.clone()),
            name: Some(refused.name.clone()),
            ..Default::default()
        };
        let message = format!(
            "Error validating pod {}_{} from {}, ignoring: {error}",
            refused.name,
            refused.namespace,
            self.source.as_str()
        );
        self.events.object(object, Reason::FailedValidation, message);
    }

    async fn list(&self, pods: Vec<Pod>) {
        // The receiver lives as long as the kubelet runs.
        let _ = self.sender.send(Listing { source: self.source, pods }).await;
    }
}
