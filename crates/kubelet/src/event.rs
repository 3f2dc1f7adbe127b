//! Events: what people read in `kubectl describe`.
//!
//! A part that has an event puts it into a bounded queue and goes on. One task writes: the
//! first time as a new Event, a repeat as a higher `count` on the same one. Events over
//! an object's rate limit are dropped, as in upstream's spam filter. While the API server cannot be
//! reached events wait, and the newest are dropped when the queue is full.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::backoff::{self, Backoff};
use crate::objects::root_cause;
use crate::pod::PodId;

/// Occurrences that wait to be written.
const QUEUE_LEN_MAX: usize = 1000;
/// Events whose repeats are counted; beyond it the oldest gets a new Event when it repeats.
const KNOWN_MAX: usize = 1024;
/// How often one event is tried before it is dropped; upstream's number.
const TRIES_MAX: usize = 12;
/// How long the API server may take for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The spam filter: this many at once, and then one per interval, for each object.
const BURST: f64 = 25.0;
const REFILL_INTERVAL: Duration = Duration::from_secs(300);
/// Messages beyond this are cut: the API refuses them.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Why an event is written; upstream's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    PullingImage,
    PulledImage,
    FailedToPullImage,
    FailedToInspectImage,
    ErrImageNeverPull,
    BackOffPullImage,
    FailedToRetrieveImagePullSecret,
    CreatedContainer,
    StartedContainer,
    FailedToCreateContainer,
    KillingContainer,
    BackOffStartContainer,
    FailedCreatePodSandBox,
    SandboxChanged,
    FailedMountVolume,
    FailedKillPod,
    FailedSync,
    Unhealthy,
    FailedValidation,
    FailedPostStartHook,
    FailedPreStopHook,
    InvalidEnvironmentVariableNames,
    StartingKubelet,
    NodeReady,
    NodeNotReady,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::PullingImage => "Pulling",
            Self::PulledImage => "Pulled",
            Self::FailedToPullImage | Self::FailedToCreateContainer => "Failed",
            Self::FailedToInspectImage => "InspectFailed",
            Self::ErrImageNeverPull => "ErrImageNeverPull",
            Self::BackOffPullImage | Self::BackOffStartContainer => "BackOff",
            Self::FailedToRetrieveImagePullSecret => "FailedToRetrieveImagePullSecret",
            Self::CreatedContainer => "Created",
            Self::StartedContainer => "Started",
            Self::KillingContainer => "Killing",
            Self::FailedCreatePodSandBox => "FailedCreatePodSandBox",
            Self::SandboxChanged => "SandboxChanged",
            Self::FailedMountVolume => "FailedMount",
            Self::FailedKillPod => "FailedKillPod",
            Self::FailedSync => "FailedSync",
            Self::Unhealthy => "Unhealthy",
            Self::FailedValidation => "FailedValidation",
            Self::FailedPostStartHook => "FailedPostStartHook",
            Self::FailedPreStopHook => "FailedPreStopHook",
            Self::InvalidEnvironmentVariableNames => "InvalidEnvironmentVariableNames",
            Self::StartingKubelet => "Starting",
            Self::NodeReady => "NodeReady",
            Self::NodeNotReady => "NodeNotReady",
        }
    }

    fn event_type(self) -> &'static str {
        match self {
            Self::PullingImage
            | Self::PulledImage
            | Self::BackOffPullImage
            | Self::CreatedContainer
            | Self::StartedContainer
            | Self::KillingContainer
            | Self::SandboxChanged
            | Self::StartingKubelet
            | Self::NodeReady
            | Self::NodeNotReady => "Normal",
            _ => "Warning",
        }
    }
}

/// Something that happened once.
struct Occurrence {
    object: ObjectReference,
    reason: Reason,
    message: String,
    at: Timestamp,
}

/// Where occurrences are put. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EventSink(mpsc::Sender<Occurrence>);

impl EventSink {
    /// Something about a pod.
    pub(crate) fn pod(&self, pod: &PodId, reason: Reason, message: String) {
        self.put(pod.reference(), reason, message);
    }

    /// Something about a container, by its field path: `spec.containers{name}`.
    pub(crate) fn container(&self, pod: &PodId, field: &str, reason: Reason, message: String) {
        let object = ObjectReference { field_path: Some(field.to_owned()), ..pod.reference() };
        self.put(object, reason, message);
    }

    /// Something about this node. Upstream puts the name where the uid belongs, and `kubectl
    /// describe node` looks for that.
    pub(crate) fn node(&self, name: &str, reason: Reason, message: String) {
        let object = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..Default::default()
        };
        self.put(object, reason, message);
    }

    /// Something about an object that is nowhere but here.
    pub(crate) fn object(&self, object: ObjectReference, reason: Reason, message: String) {
        self.put(object, reason, message);
    }

    fn put(&self, object: ObjectReference, reason: Reason, mut message: String) {
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX - 3));
            message.push_str("...");
        }
        let occurrence = Occurrence { object, reason, message, at: Timestamp::now() };
        if self.0.try_send(occurrence).is_err() {
            tracing::debug!(reason = reason.as_str(), "event dropped: the queue is full");
        }
    }
}

/// What makes two occurrences the same event.
#[derive(Clone, PartialEq, Eq, Hash)]
struct EventKey {
    object: String,
    reason: Reason,
    message: String,
}

struct Known {
    name: String,
    count: i32,
}

/// Writes what is put into the sink.
pub(crate) struct EventWriter {
    queue: mpsc::Receiver<Occurrence>,
    client: kube::Client,
    host: String,
    known: HashMap<EventKey, Known>,
    order: VecDeque<EventKey>,
    buckets: HashMap<String, Bucket>,
}

/// A sink and the writer behind it.
pub(crate) fn channel(client: kube::Client, host: &str) -> (EventSink, EventWriter) {
    let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
    let writer = EventWriter {
        queue,
        client,
        host: host.to_owned(),
        known: HashMap::new(),
        order: VecDeque::new(),
        buckets: HashMap::new(),
    };
    (EventSink(sender), writer)
}

impl EventWriter {
    /// What was put and not written yet.
    #[cfg(test)]
    pub(crate) fn next_put(&mut self) -> Option<(Reason, String)> {
        self.queue.try_recv().ok().map(|put| (put.reason, put.message))
    }

    /// Runs until the last sink is gone and everything is written.
    pub(crate) async fn run(mut self) {
        while let Some(occurrence) = self.queue.recv().await {
            let object = object_key(&occurrence.object);
            if self.takes(&object) {
                self.deliver(object, occurrence).await;
            }
        }
    }

    fn takes(&mut self, object: &str) -> bool {
        let now = Instant::now();
        if self.buckets.len() >= KNOWN_MAX {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        self.buckets.entry(object.to_owned()).or_insert_with(|| Bucket::new(now)).take(now)
    }

    async fn deliver(&mut self, object: String, occurrence: Occurrence) {
        let key =
            EventKey { object, reason: occurrence.reason, message: occurrence.message.clone() };
        let mut backoff = Backoff::new(backoff::API);
        for _ in 0..TRIES_MAX {
            let writing = self.write(&key, &occurrence);
            let Ok(written) = tokio::time::timeout(REQUEST_TIMEOUT, writing).await else {
                continue;
            };
            match written {
                Ok(()) => return,
                Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                    // The namespace is going away, say: repeating it does not help.
                    tracing::debug!(
                        code = status.code,
                        reason = status.reason,
                        "event rejected by the API server"
                    );
                    return;
                }
                Err(error) => tracing::debug!(cause = root_cause(&error), "cannot write an event"),
            }
            backoff.wait().await;
        }
    }

    async fn write(&mut self, key: &EventKey, occurrence: &Occurrence) -> kube::Result<()> {
        let namespace = occurrence.object.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if let Some(known) = self.known.get_mut(key) {
            let patch = serde_json::json!({
                "count": known.count + 1,
                "lastTimestamp": Time(occurrence.at),
            });
            let patched =
                events.patch(&known.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            match patched {
                Ok(_) => {
                    known.count += 1;
                    return Ok(());
                }
                // It has reached the end of its time to live.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let event = self.event(occurrence, namespace);
        let name = event.metadata.name.clone().unwrap_or_default();
        events.create(&PostParams::default(), &event).await?;
        self.remember(key.clone(), Known { name, count: 1 });
        Ok(())
    }

    fn event(&self, occurrence: &Occurrence, namespace: &str) -> Event {
        let object = occurrence.object.name.as_deref().unwrap_or_default();
        let name = format!("{object}.{:x}", occurrence.at.as_nanosecond());
        let component = "kubelet".to_owned();
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.to_owned()),
                ..Default::default()
            },
            involved_object: occurrence.object.clone(),
            reason: Some(occurrence.reason.as_str().to_owned()),
            message: Some(occurrence.message.clone()),
            type_: Some(occurrence.reason.event_type().to_owned()),
            first_timestamp: Some(Time(occurrence.at)),
            last_timestamp: Some(Time(occurrence.at)),
            count: Some(1),
            source: Some(EventSource {
                component: Some(component.clone()),
                host: Some(self.host.clone()),
            }),
            reporting_component: Some(component),
            reporting_instance: Some(self.host.clone()),
            ..Default::default()
        }
    }

    fn remember(&mut self, key: EventKey, known: Known) {
        if self.known.insert(key.clone(), known).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > KNOWN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

fn object_key(object: &ObjectReference) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&object.uid), part(&object.field_path))
}

/// A token bucket.
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.duration_since(self.filled).as_secs_f64() / REFILL_INTERVAL.as_secs_f64();
        self.tokens = (self.tokens + passed).min(BURST);
        self.filled = now;
    }

    fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let takes = self.tokens >= 1.0;
        if takes {
            self.tokens -= 1.0;
        }
        takes
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_over_the_rate_limit_are_dropped_then_resume() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let taken = (0..100).filter(|_| bucket.take(start)).count();
        assert_eq!(taken, 25);
        assert!(!bucket.take(start + REFILL_INTERVAL / 2));
        assert!(bucket.take(start + REFILL_INTERVAL * 2));
    }

    #[tokio::test]
    async fn a_message_is_cut_to_what_the_api_takes_at_a_character() {
        let (sender, mut queue) = mpsc::channel(1);
        let id = PodId::new("ns", "p", "u").expect("valid");
        EventSink(sender).pod(&id, Reason::FailedMountVolume, "ä".repeat(1000));
        let occurrence = queue.recv().await.expect("one was put");
        assert!(occurrence.message.len() <= MESSAGE_BYTES_MAX);
        assert!(occurrence.message.ends_with("ä..."));
    }
}
