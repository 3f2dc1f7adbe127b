//! Where a pod or a namespace is in its life.

use k8s_openapi::api::core::v1::{Namespace, Pod};

text_enum! {
    /// `status.phase` of a pod.
    pub enum PodPhase {
        /// Not all its containers were started yet.
        Pending = "Pending",
        /// At least one container runs or is restarted.
        Running = "Running",
        /// All its containers have ended well and stay so.
        Succeeded = "Succeeded",
        /// All its containers have ended, one of them badly, and stay so.
        Failed = "Failed",
        /// Its node cannot be asked. No kubelet reports it any more.
        Unknown = "Unknown",
    }
}

impl PodPhase {
    /// A pod's phase. None where it is not set or is a text that Kubernetes does not know.
    pub fn of(pod: &Pod) -> Option<Self> {
        pod.status.as_ref()?.phase.as_deref().and_then(Self::parse)
    }

    /// Whether no pod leaves this phase.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

text_enum! {
    /// `status.phase` of a namespace.
    pub enum NamespacePhase {
        /// It takes objects.
        Active = "Active",
        /// It is being deleted, and its objects with it.
        Terminating = "Terminating",
    }
}

impl NamespacePhase {
    /// A namespace's phase. None where it is not set or is a text that Kubernetes does not know.
    pub fn of(namespace: &Namespace) -> Option<Self> {
        namespace.status.as_ref()?.phase.as_deref().and_then(Self::parse)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodStatus;

    use super::*;

    #[test]
    fn only_pods_that_have_ended_are_terminal() {
        let phase = |text: Option<&str>| {
            let phase = text.map(str::to_owned);
            let status = PodStatus { phase, ..Default::default() };
            PodPhase::of(&Pod { status: Some(status), ..Default::default() })
        };
        for (text, terminal) in [
            (Some("Pending"), false),
            (Some("Running"), false),
            (Some("Succeeded"), true),
            (Some("Failed"), true),
            (Some("failed"), false),
            (None, false),
        ] {
            assert_eq!(phase(text).is_some_and(PodPhase::is_terminal), terminal, "{text:?}");
        }
        assert_eq!(PodPhase::of(&Pod::default()), None);
    }
}
