//! Events: what controllers tell people about objects, as `kubectl describe` shows it.
//!
//! Recording never waits and never fails: notes go through a bounded channel to one writer, which
//! drops them when it is full. A note that repeats counts up the event that is there instead of
//! adding another, so that a pod that cannot be scheduled leaves one event with a count.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error;

/// Notes waiting for the writer.
const NOTES_MAX: usize = 1024;
/// Events remembered, to count repetitions.
const REMEMBERED_MAX: usize = 4096;
/// How long the writer may take to empty its channel at shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Where events about cluster-scoped objects live.
const CLUSTER_EVENTS_NAMESPACE: &str = "default";

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    /// All is as it should be.
    Normal,
    /// Somebody may have to look.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What is repeated when a note repeats.
#[derive(Clone, Debug, PartialEq)]
struct Note {
    component: &'static str,
    object: ObjectReference,
    type_: EventType,
    reason: &'static str,
    message: String,
}

/// The entrance of the channel.
#[derive(Clone, Debug)]
pub(crate) struct Sink(mpsc::Sender<Note>);

/// Records events of one component.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    sink: Sink,
    component: &'static str,
}

/// The exit of the channel; [`Writer::run`] it.
pub(crate) struct Writer {
    client: Client,
    notes: mpsc::Receiver<Note>,
}

/// A sink, and the writer behind it.
pub(crate) fn channel(client: Client) -> (Sink, Writer) {
    let (sender, notes) = mpsc::channel(NOTES_MAX);
    (Sink(sender), Writer { client, notes })
}

impl Sink {
    /// A recorder for a component.
    pub(crate) fn recorder(&self, component: &'static str) -> Recorder {
        Recorder { sink: self.clone(), component }
    }
}

impl Recorder {
    /// Records an event about an object.
    pub(crate) fn record<K: Resource<DynamicType = ()>>(
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
        let note =
            Note { component: self.component, object, type_, reason, message: message.into() };
        if self.sink.0.try_send(note).is_err() {
            tracing::debug!(reason, "an event was dropped, the writer is behind");
        }
    }
}

/// An event that has been written.
struct Written {
    note: Note,
    name: String,
    count: i32,
}

impl Writer {
    /// Writes until all recorders are gone, or until `shutdown` and a short time to drain.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut written = VecDeque::new();
        loop {
            tokio::select! {
                note = self.notes.recv() => match note {
                    Some(note) => self.write(note, &mut written).await,
                    None => return,
                },
                () = shutdown.cancelled() => break,
            }
        }
        let drain = async {
            while let Ok(note) = self.notes.try_recv() {
                self.write(note, &mut written).await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX, drain).await.is_err() {
            tracing::debug!("events were dropped at shutdown");
        }
    }

    async fn write(&self, note: Note, written: &mut VecDeque<Written>) {
        let result = match written.iter_mut().find(|earlier| repeats(&earlier.note, &note)) {
            Some(earlier) => {
                earlier.count += 1;
                let result = self.count_up(earlier).await;
                match result {
                    Err(error) if error::is_not_found(&error) => {
                        // It has expired since: begin again.
                        earlier.count = 1;
                        self.create(&note).await.map(|name| earlier.name = name)
                    }
                    other => other,
                }
            }
            None => self.create(&note).await.map(|name| {
                if written.len() == REMEMBERED_MAX {
                    written.pop_front();
                }
                written.push_back(Written { note: note.clone(), name, count: 1 });
            }),
        };
        match result {
            // Nobody can read an event in a namespace that is going away.
            Err(error)
                if error::is_not_found(&error) || error::is_namespace_terminating(&error) => {}
            Err(error) => {
                tracing::warn!(reason = note.reason, error = %error::shown(&error), "event not written");
            }
            Ok(()) => {}
        }
    }

    async fn count_up(&self, earlier: &Written) -> Result<(), kube::Error> {
        let patch = json!({ "count": earlier.count, "lastTimestamp": Time(now()) });
        self.api(&earlier.note)
            .patch(&earlier.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(drop)
    }

    async fn create(&self, note: &Note) -> Result<String, kube::Error> {
        let event = event(note, Timestamp::now());
        let name = event.metadata.name.clone().expect("set by event()");
        self.api(note).create(&PostParams::default(), &event).await.map(|_| name)
    }

    fn api(&self, note: &Note) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace(note))
    }
}

fn namespace(note: &Note) -> &str {
    note.object.namespace.as_deref().unwrap_or(CLUSTER_EVENTS_NAMESPACE)
}

/// The same object changes its resourceVersion between two notes that say the same.
fn repeats(earlier: &Note, note: &Note) -> bool {
    let same_object = |a: &ObjectReference, b: &ObjectReference| {
        a.uid == b.uid && a.kind == b.kind && a.name == b.name && a.namespace == b.namespace
    };
    earlier.component == note.component
        && earlier.type_ == note.type_
        && earlier.reason == note.reason
        && earlier.message == note.message
        && same_object(&earlier.object, &note.object)
}

fn event(note: &Note, at: Timestamp) -> Event {
    let object = note.object.name.as_deref().unwrap_or_default();
    let time = Some(Time(seconds(at)));
    Event {
        metadata: ObjectMeta {
            // Upstream's form: unique because no two events of one object are a nanosecond apart.
            name: Some(format!("{object}.{:x}", at.as_nanosecond())),
            namespace: Some(namespace(note).to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: note.object.clone(),
        type_: Some(note.type_.as_str().to_owned()),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.clone()),
        source: Some(EventSource { component: Some(note.component.to_owned()), host: None }),
        reporting_component: Some(note.component.to_owned()),
        reporting_instance: Some(String::new()),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        ..Event::default()
    }
}

/// The present in whole seconds, as timestamps in objects are.
pub(crate) fn now() -> Timestamp {
    seconds(Timestamp::now())
}

fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).expect("a part of a valid time is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str, version: &str) -> Note {
        Note {
            component: "default-scheduler",
            object: ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some("myns".into()),
                name: Some("mypod".into()),
                resource_version: Some(version.into()),
                ..ObjectReference::default()
            },
            type_: EventType::Normal,
            reason: "Scheduled",
            message: message.into(),
        }
    }

    #[test]
    fn a_note_repeats_whatever_the_version_of_its_object() {
        assert!(repeats(&note("a", "1"), &note("a", "2")));
        assert!(!repeats(&note("a", "1"), &note("b", "1")));
    }

    #[test]
    fn an_event_is_written_as_upstream_writes_it() {
        let at = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let event = serde_json::to_value(event(&note("assigned", "7"), at)).unwrap();
        assert_eq!(
            event,
            json!({
                "apiVersion": "v1", "kind": "Event",
                "metadata": { "name": "mypod.188672520bc76500", "namespace": "myns" },
                "involvedObject": { "kind": "Pod", "namespace": "myns", "name": "mypod",
                                    "resourceVersion": "7" },
                "type": "Normal", "reason": "Scheduled", "message": "assigned",
                "source": { "component": "default-scheduler" },
                "reportingComponent": "default-scheduler", "reportingInstance": "",
                "count": 1,
                "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
            }),
        );
    }
}
