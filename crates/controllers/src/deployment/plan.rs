//! The next step of a Deployment: which ReplicaSets to create, scale and delete, and the status. Pure: from
//! one observation to all writes of one step.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::limits::{actual, desired, is_rolling, size, total};
use super::revision::{
    DESIRED_REPLICAS, REVISION, TEMPLATE_HASH, annotate_new, annotate_replicas, find_new, number,
    revision, template_hash,
};
use super::sizes::{age_key, new_size, old_sizes, scaled_sizes};
use super::status::{Draft, is_complete, recheck_after};
use crate::owner::controller_ref;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Create the ReplicaSet of the current template.
    Create(Box<ReplicaSet>),
    /// Update a ReplicaSet; with its size before and after, if that changes.
    Update(Box<ReplicaSet>, Option<(i32, i32)>),
    /// Delete a ReplicaSet beyond the history limit.
    Delete(Box<ReplicaSet>),
    /// Annotate the Deployment with its revision.
    Annotate(String),
    /// Write the status.
    Status(Box<DeploymentStatus>),
}

/// All writes of one step, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The writes.
    pub(crate) actions: Vec<Action>,
    /// When to reconcile again without a change, to detect that the rollout makes no progress.
    pub(crate) recheck_after: Option<Duration>,
}

/// Plans the next step. `sets` are the Deployment's ReplicaSets, `running` the uids of those with pods that
/// have not ended.
pub(crate) fn plan(
    deployment: &Deployment,
    mut sets: Vec<ReplicaSet>,
    running: &HashSet<String>,
    now: Timestamp,
) -> Plan {
    sets.sort_by_key(age_key);
    let step = Step {
        deployment,
        before: sets.clone(),
        sets,
        new: None,
        created: false,
        deleted: Vec::new(),
        draft: Draft::new(deployment, now),
        now,
    };
    step.run(running)
}

struct Step<'a> {
    deployment: &'a Deployment,
    /// The ReplicaSets as observed, from old to new.
    before: Vec<ReplicaSet>,
    /// The same as they shall be. One that is created comes last.
    sets: Vec<ReplicaSet>,
    /// The index of the one with the current template.
    new: Option<usize>,
    created: bool,
    deleted: Vec<usize>,
    draft: Draft<'a>,
    now: Timestamp,
}

/// What is updated in the status.
#[derive(Clone, Copy)]
enum StatusScope {
    /// The numbers of pods.
    Counts,
    /// The numbers of pods and the progress of the rollout.
    Progress,
}

impl Step<'_> {
    fn run(mut self, running: &HashSet<String>) -> Plan {
        if self.deployment.metadata.deletion_timestamp.is_some() {
            self.new = self.position();
            return self.finish(StatusScope::Counts);
        }
        let paused = self.deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
        self.draft.set_paused(paused);
        if paused || self.was_scaled() {
            return self.scale(paused);
        }
        if is_rolling(self.deployment) { self.roll() } else { self.recreate(running) }
    }

    /// Whether the Deployment itself was scaled after its ReplicaSets.
    fn was_scaled(&self) -> bool {
        let desired = i64::from(desired(self.deployment));
        self.sets.iter().filter(|set| size(set) > 0).any(|set| {
            let annotated = number(set.metadata.annotations.as_ref(), DESIRED_REPLICAS);
            annotated.is_some_and(|annotated| annotated != desired)
        })
    }

    fn scale(mut self, paused: bool) -> Plan {
        self.find();
        let sizes = scaled_sizes(self.deployment, &self.references(), self.new);
        for (at, wanted) in sizes.into_iter().enumerate() {
            if size(&self.sets[at]) > 0 || wanted > 0 {
                self.resize(at, wanted);
            }
        }
        if paused {
            self.delete_surplus();
        }
        self.finish(StatusScope::Counts)
    }

    fn roll(mut self) -> Plan {
        let new = self.find_or_create();
        let all = total(self.sets.iter().map(size));
        let wanted = new_size(self.deployment, size(&self.sets[new]), all);
        if wanted != size(&self.sets[new]) {
            self.resize(new, wanted);
            return self.finish(StatusScope::Progress);
        }
        let old: Vec<usize> = (0..self.sets.len()).filter(|at| *at != new).collect();
        let old_sets: Vec<&ReplicaSet> = old.iter().map(|at| &self.sets[*at]).collect();
        let sizes = old_sizes(self.deployment, &self.sets[new], &old_sets);
        let mut shrunk = false;
        for (at, wanted) in old.into_iter().zip(sizes) {
            if wanted != size(&self.sets[at]) {
                self.resize(at, wanted);
                shrunk = true;
            }
        }
        if !shrunk && self.is_complete() {
            self.delete_surplus();
        }
        self.finish(StatusScope::Progress)
    }

    fn recreate(mut self, running: &HashSet<String>) -> Plan {
        self.find();
        let old: Vec<usize> = (0..self.sets.len()).filter(|at| Some(*at) != self.new).collect();
        let active: Vec<usize> =
            old.iter().copied().filter(|at| size(&self.sets[*at]) > 0).collect();
        if !active.is_empty() {
            active.into_iter().for_each(|at| self.resize(at, 0));
            return self.finish(StatusScope::Progress);
        }
        let has_pods = |at: &usize| {
            self.sets[*at].metadata.uid.as_ref().is_some_and(|uid| running.contains(uid))
        };
        if old.iter().any(has_pods) {
            return self.finish(StatusScope::Progress);
        }
        let new = self.find_or_create();
        if size(&self.sets[new]) != desired(self.deployment) {
            self.resize(new, desired(self.deployment));
        } else if self.is_complete() {
            self.delete_surplus();
        }
        self.finish(StatusScope::Progress)
    }

    /// Finds the new ReplicaSet and brings its annotations up to date.
    fn find(&mut self) {
        self.new = self.position();
        let Some(new) = self.new else { return };
        let next = self.next_revision();
        annotate_new(self.deployment, &mut self.sets[new], next, false);
        if let Some(spec) = &mut self.sets[new].spec {
            let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
            if spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
                spec.min_ready_seconds = min_ready;
            }
        }
        let name = self.sets[new].metadata.name.clone().unwrap_or_default();
        self.draft.set_found(&name);
    }

    fn find_or_create(&mut self) -> usize {
        if self.new.is_none() {
            self.find();
        }
        if let Some(new) = self.new {
            return new;
        }
        let all = total(self.sets.iter().map(size));
        let mut set = new_set(self.deployment);
        annotate_new(self.deployment, &mut set, self.next_revision(), true);
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(new_size(self.deployment, 0, all));
        }
        self.draft.set_created(set.metadata.name.as_deref().unwrap_or_default());
        self.sets.push(set);
        self.created = true;
        let new = self.sets.len() - 1;
        self.new = Some(new);
        new
    }

    fn position(&self) -> Option<usize> {
        let found = find_new(self.deployment, &self.sets)?;
        self.sets.iter().position(|set| std::ptr::eq(set, found))
    }

    fn next_revision(&self) -> i64 {
        let old = self.sets.iter().enumerate().filter(|(at, _)| Some(*at) != self.new);
        let newest = old.map(|(_, set)| revision(set.metadata.annotations.as_ref())).max();
        newest.unwrap_or(0).saturating_add(1)
    }

    fn resize(&mut self, at: usize, wanted: i32) {
        let set = &mut self.sets[at];
        set.spec.get_or_insert_default().replicas = Some(wanted);
        annotate_replicas(self.deployment, set);
    }

    fn is_complete(&self) -> bool {
        let status = self.deployment.status.as_ref();
        status.is_some_and(|status| is_complete(self.deployment, status))
    }

    /// Deletes the oldest ReplicaSets beyond `revisionHistoryLimit`, if they have no pods.
    fn delete_surplus(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else { return };
        let mut old: Vec<usize> = (0..self.sets.len())
            .filter(|at| Some(*at) != self.new)
            .filter(|at| self.sets[*at].metadata.deletion_timestamp.is_none())
            .collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|at| revision(self.sets[*at].metadata.annotations.as_ref()));
        old.truncate(surplus);
        old.retain(|at| {
            let set = &self.sets[*at];
            let observed = set.status.as_ref().and_then(|status| status.observed_generation);
            actual(set) == 0 && size(set) == 0 && set.metadata.generation <= observed
        });
        self.deleted = old;
    }

    fn references(&self) -> Vec<&ReplicaSet> {
        self.sets.iter().collect()
    }

    /// The writes of the step in order: ReplicaSets that grow before those that shrink, the status last.
    fn finish(self, scope: StatusScope) -> Plan {
        let kept: Vec<&ReplicaSet> = (0..self.sets.len())
            .filter(|at| !self.deleted.contains(at))
            .map(|at| &self.sets[at])
            .collect();
        let new = self.new.map(|at| &self.sets[at]);
        let old_revision = self.deployment.metadata.annotations.as_ref();
        let old_revision = old_revision.and_then(|all| all.get(REVISION)).cloned();
        let new_revision = new.and_then(|set| set.metadata.annotations.as_ref()?.get(REVISION));
        let annotate = new_revision.filter(|new| Some(*new) != old_revision.as_ref()).cloned();
        let status = match scope {
            StatusScope::Counts => self.draft.counted(&kept, new),
            StatusScope::Progress => self.draft.rolled(&kept, new),
        };

        let mut actions = Vec::new();
        if let Some(set) = new.filter(|_| self.created) {
            actions.push(Action::Create(Box::new(set.clone())));
        }
        let mut updates: Vec<(i32, Action)> = self
            .before
            .iter()
            .zip(&self.sets)
            .filter(|(before, set)| before != set)
            .map(|(before, set)| {
                let (from, to) = (size(before), size(set));
                let scaled = (from != to).then_some((from, to));
                (from.saturating_sub(to), Action::Update(Box::new(set.clone()), scaled))
            })
            .collect();
        updates.sort_by_key(|(shrinks_by, _)| *shrinks_by);
        actions.extend(updates.into_iter().map(|(_, update)| update));
        let deleted =
            self.deleted.iter().map(|at| Action::Delete(Box::new(self.sets[*at].clone())));
        actions.extend(deleted);
        actions.extend(annotate.map(Action::Annotate));
        let recheck_after = recheck_after(self.deployment, &status, self.now);
        if self.deployment.status.as_ref() != Some(&status) {
            actions.push(Action::Status(Box::new(status)));
        }
        Plan { actions, recheck_after }
    }
}

/// A ReplicaSet of the current template, without pods.
fn new_set(deployment: &Deployment) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions.unwrap_or(0));
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(TEMPLATE_HASH.to_owned(), hash.clone());
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_ref(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests;
