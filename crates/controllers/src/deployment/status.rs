//! A Deployment's status: counts, and the conditions that `kubectl rollout status` waits for. Pure.

use std::time::Duration;

use coffer_api::condition::{self, Condition as _, ConditionStatus, ConditionType};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::limits::{actual, available, desired, size, total, unavailable_max};

const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// A status under construction.
pub(crate) struct Draft<'a> {
    deployment: &'a Deployment,
    conditions: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl<'a> Draft<'a> {
    /// Starts with the conditions of the present status.
    pub(crate) fn new(deployment: &'a Deployment, now: Timestamp) -> Self {
        let conditions = deployment.status.as_ref().and_then(|status| status.conditions.clone());
        Self { deployment, conditions: conditions.unwrap_or_default(), now }
    }

    /// Sets the progress to unknown when the Deployment is paused, and again when it is resumed: the deadline
    /// counts from then.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        let reason =
            self.get(ConditionType::Progressing).and_then(|condition| condition.reason.as_deref());
        let was_paused = reason == Some(PAUSED);
        if deadline(self.deployment).is_none() || reason == Some(TIMED_OUT) {
            return;
        }
        match (paused, was_paused) {
            (true, false) => self.set(
                ConditionType::Progressing,
                ConditionStatus::Unknown,
                PAUSED,
                "Deployment is paused",
            ),
            (false, true) => self.set(
                ConditionType::Progressing,
                ConditionStatus::Unknown,
                RESUMED,
                "Deployment is resumed",
            ),
            _ => {}
        }
    }

    /// Reports that the new ReplicaSet was created.
    pub(crate) fn set_created(&mut self, set: &str) {
        if deadline(self.deployment).is_some() {
            let message = format!("Created new replica set \"{set}\"");
            self.set(
                ConditionType::Progressing,
                ConditionStatus::True,
                "NewReplicaSetCreated",
                &message,
            );
        }
    }

    /// Reports that the new ReplicaSet existed already, unless progress is reported.
    pub(crate) fn set_found(&mut self, set: &str) {
        if deadline(self.deployment).is_some() && self.get(ConditionType::Progressing).is_none() {
            let message = format!("Found new replica set \"{set}\"");
            self.set(
                ConditionType::Progressing,
                ConditionStatus::True,
                "FoundNewReplicaSet",
                &message,
            );
        }
    }

    /// Reports that the new ReplicaSet could not be created. Returns the message.
    pub(crate) fn set_failed(&mut self, set: &str, why: &str) -> String {
        let message = format!("Failed to create new replica set \"{set}\": {why}");
        if deadline(self.deployment).is_some() {
            self.set(
                ConditionType::Progressing,
                ConditionStatus::False,
                "ReplicaSetCreateError",
                &message,
            );
        }
        message
    }

    /// The status for these ReplicaSets, with unchanged progress.
    pub(crate) fn counted(
        mut self,
        sets: &[&ReplicaSet],
        new: Option<&ReplicaSet>,
    ) -> DeploymentStatus {
        let mut status = self.counts(sets, new);
        self.set_availability(&status);
        status.conditions = self.finished();
        status
    }

    /// The status for these ReplicaSets during a rollout.
    pub(crate) fn rolled(
        mut self,
        sets: &[&ReplicaSet],
        new: Option<&ReplicaSet>,
    ) -> DeploymentStatus {
        let mut status = self.counts(sets, new);
        self.set_availability(&status);
        self.set_progress(&status, new);
        self.set_failures(sets, new);
        status.conditions = self.finished();
        status
    }

    /// The previous status with the conditions that were set.
    pub(crate) fn unchanged(self) -> DeploymentStatus {
        let old = self.deployment.status.clone().unwrap_or_default();
        DeploymentStatus { conditions: self.finished(), ..old }
    }

    fn finished(self) -> Option<Vec<DeploymentCondition>> {
        (!self.conditions.is_empty()).then_some(self.conditions)
    }

    fn counts(&self, sets: &[&ReplicaSet], new: Option<&ReplicaSet>) -> DeploymentStatus {
        let old = self.deployment.status.as_ref();
        let sum = |count: fn(&ReplicaSet) -> i32| total(sets.iter().map(|set| count(set)));
        let some = |count: i32| (count != 0).then_some(count);
        let working = sum(available);
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: some(sum(actual)),
            updated_replicas: some(new.map_or(0, actual)),
            ready_replicas: some(sum(ready)),
            available_replicas: some(working),
            unavailable_replicas: some(sum(size).saturating_sub(working).max(0)),
            collision_count: old.and_then(|old| old.collision_count),
            terminating_replicas: old.and_then(|old| old.terminating_replicas),
            conditions: None,
        }
    }

    fn set_availability(&mut self, status: &DeploymentStatus) {
        let least = desired(self.deployment).saturating_sub(unavailable_max(self.deployment));
        if status.available_replicas.unwrap_or(0) >= least {
            let message = "Deployment has minimum availability.";
            self.set(
                ConditionType::Available,
                ConditionStatus::True,
                "MinimumReplicasAvailable",
                message,
            );
        } else {
            let message = "Deployment does not have minimum availability.";
            self.set(
                ConditionType::Available,
                ConditionStatus::False,
                "MinimumReplicasUnavailable",
                message,
            );
        }
    }

    fn set_progress(&mut self, status: &DeploymentStatus, new: Option<&ReplicaSet>) {
        if deadline(self.deployment).is_none() {
            self.conditions.retain(|condition| !condition.is(ConditionType::Progressing));
            return;
        }
        let reason =
            self.get(ConditionType::Progressing).and_then(|condition| condition.reason.as_deref());
        if status.replicas == status.updated_replicas && reason == Some(COMPLETE) {
            return;
        }
        let subject = match new.and_then(|new| new.metadata.name.as_deref()) {
            Some(name) => format!("ReplicaSet \"{name}\""),
            None => {
                let name = self.deployment.metadata.name.as_deref().unwrap_or_default();
                format!("Deployment \"{name}\"")
            }
        };
        if is_complete(self.deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            self.set(ConditionType::Progressing, ConditionStatus::True, COMPLETE, &message);
        } else if has_progressed(self.deployment, status) {
            // Also if the condition has this reason already: the deadline counts from the last progress.
            let since = self
                .get(ConditionType::Progressing)
                .filter(|condition| condition.holds())
                .and_then(|condition| condition.last_transition_time.clone());
            self.conditions.retain(|condition| !condition.is(ConditionType::Progressing));
            let message = format!("{subject} is progressing.");
            self.set(
                ConditionType::Progressing,
                ConditionStatus::True,
                "ReplicaSetUpdated",
                &message,
            );
            if let (Some(since), Some(condition)) = (since, self.conditions.last_mut()) {
                condition.last_transition_time = Some(since);
            }
        } else if self.timed_out() {
            let message = format!("{subject} has timed out progressing.");
            self.set(ConditionType::Progressing, ConditionStatus::False, TIMED_OUT, &message);
        }
    }

    fn timed_out(&self) -> bool {
        let Some(condition) = self.get(ConditionType::Progressing) else { return false };
        match condition.reason.as_deref() {
            Some(COMPLETE) => false,
            Some(TIMED_OUT) => true,
            _ => time_left(self.deployment, condition, self.now)
                .is_some_and(|left| left.is_negative()),
        }
    }

    fn set_failures(&mut self, sets: &[&ReplicaSet], new: Option<&ReplicaSet>) {
        let failure = |set: &ReplicaSet| -> Option<ReplicaSetCondition> {
            let conditions =
                set.status.iter().flat_map(|status| status.conditions.iter().flatten());
            condition::find(conditions, ConditionType::ReplicaFailure).cloned()
        };
        let found = new.and_then(failure).or_else(|| sets.iter().find_map(|set| failure(set)));
        match found {
            None => {
                self.conditions.retain(|condition| !condition.is(ConditionType::ReplicaFailure))
            }
            Some(failure) => {
                let (reason, message) =
                    (failure.reason.unwrap_or_default(), failure.message.unwrap_or_default());
                self.set_text(ConditionType::ReplicaFailure, &failure.status, &reason, &message);
            }
        }
    }

    fn get(&self, type_: ConditionType) -> Option<&DeploymentCondition> {
        condition::find(&self.conditions, type_)
    }

    fn set(&mut self, type_: ConditionType, status: ConditionStatus, reason: &str, message: &str) {
        self.set_text(type_, status.as_str(), reason, message);
    }

    /// Sets a condition. One with the same status and reason stays as it is, whatever its message.
    fn set_text(&mut self, type_: ConditionType, status: &str, reason: &str, message: &str) {
        let now = Some(Time(self.now));
        let old = self.get(type_);
        if old.is_some_and(|old| old.status == status && old.reason.as_deref() == Some(reason)) {
            return;
        }
        let since = old.filter(|old| old.status == status);
        let since = since.and_then(|old| old.last_transition_time.clone()).or_else(|| now.clone());
        let condition = DeploymentCondition {
            type_: type_.into(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: now,
            last_transition_time: since,
        };
        self.conditions.retain(|condition| !condition.is(type_));
        self.conditions.push(condition);
    }
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

/// Whether all pods are updated and available.
pub(crate) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = desired(deployment);
    let reached = |count: Option<i32>| count.unwrap_or(0) == desired;
    reached(status.updated_replicas)
        && reached(status.replicas)
        && reached(status.available_replicas)
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let none = DeploymentStatus::default();
    let old = deployment.status.as_ref().unwrap_or(&none);
    let outdated = |status: &DeploymentStatus| {
        status.replicas.unwrap_or(0).saturating_sub(status.updated_replicas.unwrap_or(0))
    };
    new.updated_replicas > old.updated_replicas
        || outdated(new) < outdated(old)
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// `progressDeadlineSeconds`. The largest number means no deadline.
fn deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| SignedDuration::from_secs(seconds.into()))
}

fn time_left(
    deployment: &Deployment,
    condition: &DeploymentCondition,
    now: Timestamp,
) -> Option<SignedDuration> {
    let Time(since) = condition.last_update_time.as_ref()?;
    Some(deadline(deployment)? - now.duration_since(*since))
}

/// When to check again whether a rollout is stuck, if nothing changes before.
pub(crate) fn recheck_after(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let conditions = status.conditions.iter().flatten();
    let condition = condition::find(conditions, ConditionType::Progressing)?;
    let over = [Some(TIMED_OUT), Some(COMPLETE), Some(PAUSED)];
    if is_complete(deployment, status) || over.contains(&condition.reason.as_deref()) {
        return None;
    }
    let left = time_left(deployment, condition, now)?;
    // One second more, because the deadline must have passed.
    Some(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).expect("a time")
    }

    fn deployment(status: Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "generation": 1 },
            "spec": { "replicas": 2, "selector": {}, "template": {},
                      "progressDeadlineSeconds": 60 },
            "status": status }))
        .expect("a deployment")
    }

    fn set(size: i32, actual: i32, available: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": { "name": "web-abc" }, "spec": { "replicas": size, "selector": {} },
            "status": { "replicas": actual, "readyReplicas": available,
                        "availableReplicas": available } }))
        .expect("a set")
    }

    fn shown(status: &DeploymentStatus, type_: ConditionType) -> (String, String, String) {
        let conditions = status.conditions.iter().flatten();
        let condition = condition::find(conditions, type_).expect("the condition");
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        (condition.status.clone(), text(&condition.reason), text(&condition.message))
    }

    fn is(status: &str, reason: &str, message: &str) -> (String, String, String) {
        (status.to_owned(), reason.to_owned(), message.to_owned())
    }

    #[test]
    fn the_conditions_follow_a_rollout_from_its_creation_to_its_completion() {
        let mut deployment = deployment(json!({}));
        let new = set(2, 0, 0);
        let mut draft = Draft::new(&deployment, at(0));
        draft.set_created("web-abc");
        let status = draft.rolled(&[&new], Some(&new));
        let created = is("True", "NewReplicaSetCreated", "Created new replica set \"web-abc\"");
        assert_eq!(shown(&status, ConditionType::Progressing), created);
        let unavailable = "Deployment does not have minimum availability.";
        let unavailable = is("False", "MinimumReplicasUnavailable", unavailable);
        assert_eq!(shown(&status, ConditionType::Available), unavailable);
        assert_eq!(recheck_after(&deployment, &status, at(0)), Some(Duration::from_secs(61)));

        deployment.status = Some(status);
        let new = set(2, 2, 1);
        let status = Draft::new(&deployment, at(10)).rolled(&[&new], Some(&new));
        let progressing = is("True", "ReplicaSetUpdated", "ReplicaSet \"web-abc\" is progressing.");
        assert_eq!(shown(&status, ConditionType::Progressing), progressing);
        assert_eq!(status.unavailable_replicas, Some(1));
        let condition = &status.conditions.as_ref().expect("conditions")[1];
        assert_eq!(condition.last_transition_time, Some(Time(at(0))), "True since then");
        assert_eq!(condition.last_update_time, Some(Time(at(10))), "the deadline counts from here");

        deployment.status = Some(status);
        let new = set(2, 2, 2);
        let status = Draft::new(&deployment, at(20)).rolled(&[&new], Some(&new));
        let complete = is(
            "True",
            "NewReplicaSetAvailable",
            "ReplicaSet \"web-abc\" has successfully progressed.",
        );
        assert_eq!(shown(&status, ConditionType::Progressing), complete);
        let available =
            is("True", "MinimumReplicasAvailable", "Deployment has minimum availability.");
        assert_eq!(shown(&status, ConditionType::Available), available);
        assert_eq!(recheck_after(&deployment, &status, at(20)), None);
    }

    #[test]
    fn a_rollout_that_makes_no_progress_times_out() {
        let mut deployment = deployment(json!({}));
        let new = set(2, 2, 0);
        let mut draft = Draft::new(&deployment, at(0));
        draft.set_found("web-abc");
        deployment.status = Some(draft.rolled(&[&new], Some(&new)));
        let status = |second| Draft::new(&deployment, at(second)).rolled(&[&new], Some(&new));
        assert_eq!(shown(&status(60), ConditionType::Progressing).1, "ReplicaSetUpdated");
        let timed_out = is(
            "False",
            "ProgressDeadlineExceeded",
            "ReplicaSet \"web-abc\" has timed out progressing.",
        );
        assert_eq!(shown(&status(61), ConditionType::Progressing), timed_out);
    }

    #[test]
    fn a_paused_rollout_does_not_time_out() {
        let mut deployment = deployment(json!({}));
        let mut draft = Draft::new(&deployment, at(0));
        draft.set_paused(true);
        deployment.status = Some(draft.unchanged());
        let status = deployment.status.clone().expect("a status");
        assert_eq!(
            shown(&status, ConditionType::Progressing),
            is("Unknown", "DeploymentPaused", "Deployment is paused")
        );
        assert_eq!(recheck_after(&deployment, &status, at(0)), None);
        let mut draft = Draft::new(&deployment, at(100));
        draft.set_paused(false);
        let resumed = is("Unknown", "DeploymentResumed", "Deployment is resumed");
        assert_eq!(shown(&draft.unchanged(), ConditionType::Progressing), resumed);
    }

    #[test]
    fn the_failure_of_a_set_is_copied_to_the_deployment() {
        let deployment = deployment(json!({}));
        let mut new = set(2, 0, 0);
        new.status.as_mut().expect("a status").conditions =
            serde_json::from_value(json!([{ "type": "ReplicaFailure", "status": "True",
                "reason": "FailedCreate", "message": "exceeded quota" }]))
            .expect("conditions");
        let status = Draft::new(&deployment, at(0)).rolled(&[&new], Some(&new));
        assert_eq!(
            shown(&status, ConditionType::ReplicaFailure),
            is("True", "FailedCreate", "exceeded quota")
        );
    }
}
