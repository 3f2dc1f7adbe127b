//! Conditions in the status of an object: their types, their three states, and how they are looked up.

use k8s_openapi::api::apps::v1::{DeploymentCondition, ReplicaSetCondition};
use k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition;
use k8s_openapi::api::core::v1::{
    NamespaceCondition, NodeCondition, PodCondition, ReplicationControllerCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1;

text_enum! {
    /// What a condition is about.
    ///
    /// A pod's readiness gates name further ones, which are texts of their authors.
    pub enum ConditionType {
        /// Pod: it can serve. Node: its kubelet is healthy and takes pods.
        Ready = "Ready",
        /// Pod: its init containers have completed.
        Initialized = "Initialized",
        /// Pod: all its containers are ready.
        ContainersReady = "ContainersReady",
        /// Pod: it has a node.
        PodScheduled = "PodScheduled",
        /// Pod: its sandbox and volumes are there.
        PodReadyToStartContainers = "PodReadyToStartContainers",
        /// Pod: it is about to be ended by something other than its own end.
        DisruptionTarget = "DisruptionTarget",
        /// Pod: it uses the newest version of each of its secrets.
        SecretsCurrent = "coffer.dev/SecretsCurrent",
        /// Node: it is short of memory.
        MemoryPressure = "MemoryPressure",
        /// Node: it is short of disk space.
        DiskPressure = "DiskPressure",
        /// Node: it is short of process ids.
        PidPressure = "PIDPressure",
        /// Node: its network is not set up.
        NetworkUnavailable = "NetworkUnavailable",
        /// Deployment: the rollout moves on.
        Progressing = "Progressing",
        /// Deployment: enough replicas are available.
        Available = "Available",
        /// Workloads: a replica could not be created or deleted.
        ReplicaFailure = "ReplicaFailure",
        /// PodDisruptionBudget: a pod may be evicted.
        DisruptionAllowed = "DisruptionAllowed",
        /// CertificateSigningRequest: it may be signed.
        Approved = "Approved",
        /// CertificateSigningRequest: it may not be signed.
        Denied = "Denied",
        /// CertificateSigningRequest: the signer could not sign it.
        Failed = "Failed",
        /// Namespace: its objects could not be listed.
        NamespaceDeletionDiscoveryFailure = "NamespaceDeletionDiscoveryFailure",
        /// Namespace: a resource's group and version cannot be understood.
        NamespaceDeletionGroupVersionParsingFailure = "NamespaceDeletionGroupVersionParsingFailure",
        /// Namespace: objects could not be deleted.
        NamespaceDeletionContentFailure = "NamespaceDeletionContentFailure",
        /// Namespace: objects are left.
        NamespaceContentRemaining = "NamespaceContentRemaining",
        /// Namespace: objects are left because of their finalizers.
        NamespaceFinalizersRemaining = "NamespaceFinalizersRemaining",
    }
}

text_enum! {
    /// Whether a condition holds.
    pub enum ConditionStatus {
        /// It holds.
        True = "True",
        /// It does not.
        False = "False",
        /// It is not known.
        Unknown = "Unknown",
    }
}

impl ConditionStatus {
    /// The three texts in the order in which upstream's validation lists them.
    pub const TEXTS: [&'static str; 3] =
        [Self::False.as_str(), Self::True.as_str(), Self::Unknown.as_str()];
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// An entry of a `status.conditions`, whatever kind it belongs to.
pub trait Condition {
    /// Its `type`.
    fn type_text(&self) -> &str;
    /// Its `status`.
    fn status_text(&self) -> &str;

    /// Whether it is of this type.
    fn is(&self, type_: ConditionType) -> bool {
        self.type_text() == type_.as_str()
    }

    /// Its status; what is not one of the three is [`ConditionStatus::Unknown`].
    fn state(&self) -> ConditionStatus {
        ConditionStatus::parse(self.status_text()).unwrap_or(ConditionStatus::Unknown)
    }

    /// Whether it holds.
    fn holds(&self) -> bool {
        self.state() == ConditionStatus::True
    }
}

macro_rules! conditions {
    ($($condition:ty),+ $(,)?) => {$(
        impl Condition for $condition {
            fn type_text(&self) -> &str {
                &self.type_
            }

            fn status_text(&self) -> &str {
                &self.status
            }
        }
    )+};
}

conditions!(
    CertificateSigningRequestCondition,
    DeploymentCondition,
    NamespaceCondition,
    NodeCondition,
    PodCondition,
    ReplicaSetCondition,
    ReplicationControllerCondition,
    v1::Condition,
);

/// The condition of a type: `find(status.conditions.iter().flatten(), ConditionType::Ready)`.
pub fn find<'a, C: Condition>(
    conditions: impl IntoIterator<Item = &'a C>,
    type_: ConditionType,
) -> Option<&'a C> {
    conditions.into_iter().find(|condition| condition.is(type_))
}

/// Whether the condition of a type is there and holds.
pub fn is_true<'a, C: Condition + 'a>(
    conditions: impl IntoIterator<Item = &'a C>,
    type_: ConditionType,
) -> bool {
    find(conditions, type_).is_some_and(Condition::holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str) -> PodCondition {
        PodCondition { type_: type_.to_owned(), status: status.to_owned(), ..Default::default() }
    }

    #[test]
    fn a_condition_holds_only_if_its_status_is_true() {
        for (status, holds) in
            [("True", true), ("False", false), ("Unknown", false), ("true", false)]
        {
            let all = [condition("Initialized", "True"), condition("Ready", status)];
            assert_eq!(is_true(&all, ConditionType::Ready), holds, "{status}");
        }
        assert!(!is_true(&[condition("ready", "True")], ConditionType::Ready));
    }

    #[test]
    fn types_have_different_texts() {
        let mut texts: Vec<_> = ConditionType::ALL.iter().map(|one| one.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), ConditionType::ALL.len());
    }
}
