//! The two kinds that keep a number of equal pods. They differ only in their selectors and names.

use coffer_api::condition::{self, Condition as _, ConditionStatus, ConditionType};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
    ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use super::plan::Counts;
use crate::claim::Claimer;

/// Why pods could not be created or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaFailure {
    /// `FailedCreate` or `FailedDelete`.
    pub(crate) reason: &'static str,
    /// The API server's message.
    pub(crate) message: String,
}

/// A kind whose objects keep pods.
pub(crate) trait Replicator: Claimer + Serialize {
    /// The component of the events.
    const CONTROLLER: &'static str;

    /// The requested number of pods.
    fn replicas(&self) -> usize;
    /// How long a pod must be ready to be available.
    fn min_ready_seconds(&self) -> i32;
    /// The template of new pods.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The object with a status of these counts, if its status differs.
    fn with_status(
        &self,
        counts: Counts,
        failure: Option<&ReplicaFailure>,
        now: Timestamp,
    ) -> Option<Self>;
}

fn at_least_none(replicas: Option<i32>) -> usize {
    // The default is 1. Validation rejects negative numbers.
    usize::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

/// The kinds have types of their own for the same fields.
macro_rules! replicator {
    ($kind:ident, $controller:literal, $status:ident { $($own:ident),* }, $condition:ident) => {
        impl Replicator for $kind {
            const CONTROLLER: &'static str = $controller;

            fn replicas(&self) -> usize {
                at_least_none(self.spec.as_ref().and_then(|spec| spec.replicas))
            }

            fn min_ready_seconds(&self) -> i32 {
                self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
            }

            fn template(&self) -> Option<&PodTemplateSpec> {
                self.spec.as_ref()?.template.as_ref()
            }

            fn with_status(
                &self,
                counts: Counts,
                failure: Option<&ReplicaFailure>,
                now: Timestamp,
            ) -> Option<Self> {
                let old = self.status.as_ref();
                let mut conditions =
                    old.and_then(|status| status.conditions.clone()).unwrap_or_default();
                let found = condition::find(&conditions, ConditionType::ReplicaFailure).is_some();
                match failure {
                    None => conditions.retain(|condition| !condition.is(ConditionType::ReplicaFailure)),
                    // The first message is kept, so that repeated failures with different messages do not
                    // rewrite the status each time.
                    Some(_) if found => {}
                    Some(failure) => conditions.push($condition {
                        type_: ConditionType::ReplicaFailure.into(),
                        status: ConditionStatus::True.into(),
                        reason: Some(failure.reason.to_owned()),
                        message: Some(failure.message.clone()),
                        last_transition_time: Some(Time(now)),
                    }),
                }
                let some = |count: i32| Some(count).filter(|count| *count != 0);
                let status = $status {
                    replicas: counts.replicas,
                    fully_labeled_replicas: some(counts.fully_labeled),
                    ready_replicas: some(counts.ready),
                    available_replicas: some(counts.available),
                    observed_generation: self.metadata.generation,
                    conditions: (!conditions.is_empty()).then_some(conditions),
                    $($own: old.and_then(|old| old.$own),)*
                };
                (old != Some(&status)).then(|| Self { status: Some(status), ..self.clone() })
            }
        }
    };
}

replicator!(
    ReplicaSet,
    "replicaset-controller",
    ReplicaSetStatus { terminating_replicas },
    ReplicaSetCondition
);
replicator!(
    ReplicationController,
    "replication-controller",
    ReplicationControllerStatus {},
    ReplicationControllerCondition
);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_written_only_when_it_has_changed() {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let rs: ReplicaSet = serde_json::from_value(json!({
            "metadata": { "generation": 3 },
            "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } } },
        }))
        .expect("a replica set");
        let counts = Counts { replicas: 2, fully_labeled: 2, ready: 1, available: 0 };
        let written = rs.with_status(counts, None, now).expect("a first status");
        assert_eq!(
            serde_json::to_value(&written.status).expect("a status"),
            json!({ "replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 1,
                    "observedGeneration": 3 }),
        );
        assert_eq!(written.with_status(counts, None, now), None);

        let failure =
            ReplicaFailure { reason: "FailedCreate", message: "quota exceeded".to_owned() };
        let failed = written.with_status(counts, Some(&failure), now).expect("a failure");
        let other = ReplicaFailure { reason: "FailedCreate", message: "quota still".to_owned() };
        assert_eq!(failed.with_status(counts, Some(&other), now), None);
        assert_eq!(failed.with_status(counts, None, now), Some(written));
    }
}
