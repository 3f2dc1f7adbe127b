//! Events of a kubelet: which there are, and what they are about. They are written by
//! [`coffer_client::events`].

use coffer_client::events::{self, EventType, Recorder, Writer};
use k8s_openapi::api::core::v1::ObjectReference;
use tokio_util::sync::CancellationToken;

use crate::pod::PodId;

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

    fn event_type(self) -> EventType {
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
            | Self::NodeNotReady => EventType::Normal,
            _ => EventType::Warning,
        }
    }
}

/// Where events are put. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EventSink(Recorder);

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

    fn put(&self, object: ObjectReference, reason: Reason, message: String) {
        self.0.record_about(object, reason.event_type(), reason.as_str(), message);
    }
}

/// Writes what is put into the sink.
pub(crate) struct EventWriter(Writer);

/// A sink and the writer behind it.
pub(crate) fn channel(client: kube::Client, host: &str) -> (EventSink, EventWriter) {
    let (sink, writer) = events::channel(client, Some(host));
    (EventSink(sink.recorder("kubelet")), EventWriter(writer))
}

impl EventWriter {
    /// What was put and not written yet.
    #[cfg(test)]
    pub(crate) fn next_put(&mut self) -> Option<(&'static str, String)> {
        self.0.next_recorded()
    }

    /// Runs until the last sink is dropped and everything is written.
    pub(crate) async fn run(self) {
        self.0.run(CancellationToken::new()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients and people look for these words.
    #[test]
    fn each_reason_has_upstreams_text_and_type() {
        for (reason, text, type_) in [
            (Reason::PullingImage, "Pulling", "Normal"),
            (Reason::PulledImage, "Pulled", "Normal"),
            (Reason::FailedToPullImage, "Failed", "Warning"),
            (Reason::FailedToInspectImage, "InspectFailed", "Warning"),
            (Reason::ErrImageNeverPull, "ErrImageNeverPull", "Warning"),
            (Reason::BackOffPullImage, "BackOff", "Normal"),
            (Reason::FailedToRetrieveImagePullSecret, "FailedToRetrieveImagePullSecret", "Warning"),
            (Reason::CreatedContainer, "Created", "Normal"),
            (Reason::StartedContainer, "Started", "Normal"),
            (Reason::FailedToCreateContainer, "Failed", "Warning"),
            (Reason::KillingContainer, "Killing", "Normal"),
            (Reason::BackOffStartContainer, "BackOff", "Warning"),
            (Reason::FailedCreatePodSandBox, "FailedCreatePodSandBox", "Warning"),
            (Reason::SandboxChanged, "SandboxChanged", "Normal"),
            (Reason::FailedMountVolume, "FailedMount", "Warning"),
            (Reason::FailedKillPod, "FailedKillPod", "Warning"),
            (Reason::FailedSync, "FailedSync", "Warning"),
            (Reason::Unhealthy, "Unhealthy", "Warning"),
            (Reason::FailedValidation, "FailedValidation", "Warning"),
            (Reason::FailedPostStartHook, "FailedPostStartHook", "Warning"),
            (Reason::FailedPreStopHook, "FailedPreStopHook", "Warning"),
            (Reason::InvalidEnvironmentVariableNames, "InvalidEnvironmentVariableNames", "Warning"),
            (Reason::StartingKubelet, "Starting", "Normal"),
            (Reason::NodeReady, "NodeReady", "Normal"),
            (Reason::NodeNotReady, "NodeNotReady", "Normal"),
        ] {
            assert_eq!((reason.as_str(), reason.event_type().as_str()), (text, type_));
        }
    }
}
