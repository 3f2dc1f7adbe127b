//! Events: what components say about objects, as `kubectl describe` shows it.
//!
//! A part that has something to report puts it into a bounded queue and goes on: that never waits and
//! never fails. One task writes ([`Writer::run`]): the first time as a new Event, a repeat as a higher
//! `count` on the same one, similar ones together, and of one object no more than a few
//! ([`correlator`]). While the API server cannot be reached events wait; the newest are dropped when the
//! queue is full.

mod correlator;
mod recent;

use std::time::Duration;

use coffer_api::status::cut;
use coffer_wire::backoff::{Backoff, Limits};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::correlator::{Correlated, Correlator};
use crate::error;

/// Occurrences that wait to be written.
const QUEUE_LEN_MAX: usize = 1024;
/// How often one event is tried before it is dropped; upstream's number.
const TRIES_MAX: usize = 12;
/// How long the API server may take for a response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Waits between tries.
const RETRY: Limits = Limits::spread(Duration::from_millis(200), Duration::from_secs(10));
/// How long the writer may take to empty its queue at shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Messages beyond this are cut: the API refuses them.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Where events about cluster-scoped objects live.
const CLUSTER_EVENTS_NAMESPACE: &str = coffer_api::well_known::namespace::DEFAULT;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// All is as it should be.
    Normal,
    /// A user may have to act.
    Warning,
}

impl EventType {
    /// As an Event has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened once.
#[derive(Clone, Debug)]
pub struct Occurrence {
    component: &'static str,
    object: ObjectReference,
    type_: EventType,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// The entrance of the queue.
#[derive(Clone, Debug)]
pub struct Sink(mpsc::Sender<Occurrence>);

/// Records events of one component.
#[derive(Clone, Debug)]
pub struct Recorder {
    sink: Sink,
    component: &'static str,
}

/// The exit of the queue.
pub struct Writer {
    client: Client,
    host: Option<String>,
    queue: mpsc::Receiver<Occurrence>,
    correlator: Correlator,
}

/// A sink and the writer behind it. `host` is the node that the component runs for, if there is one.
pub fn channel(client: Client, host: Option<&str>) -> (Sink, Writer) {
    let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
    let host = host.map(str::to_owned);
    (Sink(sender), Writer { client, host, queue, correlator: Correlator::new() })
}

impl Sink {
    /// A recorder for a component.
    pub fn recorder(&self, component: &'static str) -> Recorder {
        Recorder { sink: self.clone(), component }
    }
}

impl Recorder {
    /// Records an event about an object.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        type_: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let meta = object.meta();
        let object = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: None,
        };
        self.record_about(object, type_, reason, message);
    }

    /// Records an event about what a reference names: an object, or a part of one.
    pub fn record_about(
        &self,
        object: ObjectReference,
        type_: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let (component, at) = (self.component, Timestamp::now());
        let message = cut(message.into(), MESSAGE_BYTES_MAX);
        let occurrence = Occurrence { component, object, type_, reason, message, at };
        if self.sink.0.try_send(occurrence).is_err() {
            tracing::debug!(reason, "event dropped: the queue is full");
        }
    }
}

impl Writer {
    /// Takes what was recorded and not written yet, as reason and message: for tests of what records.
    pub fn next_recorded(&mut self) -> Option<(&'static str, String)> {
        self.queue.try_recv().ok().map(|put| (put.reason, put.message))
    }

    /// Writes until all recorders are dropped, or until `shutdown` and a short time to drain.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while let Some(received) = shutdown.run_until_cancelled(self.queue.recv()).await {
            let Some(occurrence) = received else { return };
            if shutdown.run_until_cancelled(self.deliver(&occurrence)).await.is_none() {
                break;
            }
        }
        let drain = async {
            while let Ok(occurrence) = self.queue.try_recv() {
                self.deliver(&occurrence).await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX, drain).await.is_err() {
            tracing::debug!("events were dropped at shutdown");
        }
    }

    async fn deliver(&mut self, occurrence: &Occurrence) {
        let Some(found) = self.correlator.correlate(occurrence, Instant::now()) else { return };
        let mut backoff = Backoff::new(RETRY);
        for _ in 0..TRIES_MAX {
            let writing = self.write(occurrence, &found);
            match tokio::time::timeout(REQUEST_TIMEOUT, writing).await {
                Ok(Ok(())) => return,
                // The namespace is being deleted, say: repeating it does not help.
                Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
                    let (code, refused) = (status.code, &status.reason);
                    tracing::debug!(code, refused, "event rejected by the API server");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::debug!(error = %error::shown(&error), "cannot write an event");
                }
                Err(_) => tracing::debug!("cannot write an event: no response in time"),
            }
            backoff.wait().await;
        }
        tracing::warn!(reason = occurrence.reason, "event dropped: the API server did not take it");
    }

    async fn write(&mut self, occurrence: &Occurrence, found: &Correlated) -> kube::Result<()> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace(occurrence));
        if let Some((name, count)) = &found.repeats {
            let patch = json!({
                "count": count,
                "lastTimestamp": seconds(occurrence.at),
                "message": found.message,
            });
            let patch = Patch::Merge(patch);
            match events.patch(&crate::path::segment(name), &PatchParams::default(), &patch).await {
                // It has reached the end of its time to live.
                Err(error) if error::is_not_found(&error) => {}
                done => return done.map(drop),
            }
        }
        let event = event(occurrence, &found.message, self.host.as_deref());
        let name = event.metadata.name.clone().unwrap_or_default();
        events.create(&PostParams::default(), &event).await?;
        self.correlator.created(&found.key, name);
        Ok(())
    }
}

fn namespace(occurrence: &Occurrence) -> &str {
    occurrence.object.namespace.as_deref().unwrap_or(CLUSTER_EVENTS_NAMESPACE)
}

fn event(occurrence: &Occurrence, message: &str, host: Option<&str>) -> Event {
    let object = occurrence.object.name.as_deref().unwrap_or_default();
    let (component, time) = (occurrence.component.to_owned(), Some(seconds(occurrence.at)));
    Event {
        metadata: ObjectMeta {
            // Upstream's form: unique because no two events of one object are a nanosecond apart.
            name: Some(format!("{object}.{:x}", occurrence.at.as_nanosecond())),
            namespace: Some(namespace(occurrence).to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: occurrence.object.clone(),
        type_: Some(occurrence.type_.as_str().to_owned()),
        reason: Some(occurrence.reason.to_owned()),
        message: Some(cut(message.to_owned(), MESSAGE_BYTES_MAX)),
        source: Some(EventSource {
            component: Some(component.clone()),
            host: host.map(str::to_owned),
        }),
        reporting_component: Some(component),
        reporting_instance: Some(host.unwrap_or_default().to_owned()),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        ..Event::default()
    }
}

/// In whole seconds, as times in objects are.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).expect("a part of a valid time is one"))
}

#[cfg(test)]
mod tests;
