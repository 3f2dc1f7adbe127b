//! `pods/eviction`: a deletion that says why, and that disruption budgets may refuse.
//!
//! What the budgets say is decided in [`crate::core::disruption`]. A pod whose state decided (not
//! started, not ready) is deleted only if it has not changed.

use coffer_api::condition::{Condition as _, ConditionStatus, ConditionType};
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use coffer_api::subresource::SubresourceName;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::Eviction;

use super::Handlers;
use crate::body::{MediaType, Payload};
use crate::call::Call;
use crate::core::disruption::{EvictionAllowed, ignores_budgets, is_terminating, not_counted};
use crate::failure::same_namespace;
use crate::object::Object;
use crate::options::{WriteOptions, dry_run};
use crate::registry::{Change, DeleteOptions, preconditions};
use crate::respond::{self, Response};
use crate::{body, decode, managed};

/// Tries at a pod that changes while it is checked; upstream's `EvictionsRetry`.
const TRIES: usize = 20;
/// What is posted.
const KIND: (&str, &str) = ("Eviction", "policy/v1");
/// What kubectl before 1.22 sends; upstream's endpoint accepts both.
const EARLIER: &[&str] = &["policy/v1beta1"];

impl Handlers {
    /// Evicts the pod that the path names.
    pub(super) async fn post_eviction(
        &self,
        call: &Call,
        payload: Payload,
    ) -> Result<Response, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let media = MediaType::of_object(&call.headers)?;
        let bytes = body::take(payload)?;
        let validation = options.field_validation;
        let (eviction, warnings): (Eviction, _) =
            decode::value_and_warnings(&bytes, media, KIND, EARLIER, validation)?;
        if eviction.metadata.name.as_deref() != Some(&call.path.name) {
            let why = "name in URL does not match name in Eviction object";
            return Err(Failure::bad_request(why));
        }
        same_namespace(&eviction.metadata, &call.path.namespace)?;
        let mut delete = eviction.delete_options.unwrap_or_default();
        if dry_run(&call.query).is_ok_and(|asked| asked) {
            delete.dry_run = Some(vec!["All".to_owned()]);
        }
        let delete = DeleteOptions::from_api(delete)?;
        self.evict(call, &options, &delete).await?;
        let mut response = respond::created(call.accept.syntax);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    /// Deletes the pod if no budget selects it or its budget allows the eviction. Where the client names no
    /// version of the pod, one that changes meanwhile is checked again.
    async fn evict(
        &self,
        call: &Call,
        options: &WriteOptions,
        asked: &DeleteOptions,
    ) -> Result<(), Failure> {
        let (resource, namespace, name) =
            (&*call.resource, &*call.path.namespace, &*call.path.name);
        // A caller who may not delete the pod takes nothing of a budget, either.
        self.core.admission.admit_delete(&call.permit, resource, namespace, name)?;
        let is_race = |failure: &Failure| {
            asked.resource_version.is_none() && failure.reason == Reason::Conflict
        };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let found = self.core.registry.get(resource, namespace, name).await?;
            let object = resource.parse(&found.bytes)?;
            preconditions(resource, name, object.meta(), asked)?;
            let pod = object.pod().ok_or_else(|| Failure::internal("not a pod"))?;
            // The pod that is checked, and no other one of its name.
            let mut delete = DeleteOptions { uid: pod.metadata.uid.clone(), ..asked.clone() };
            let mut as_checked = || {
                let version = pod.metadata.resource_version.clone();
                delete.resource_version = delete.resource_version.take().or(version);
            };
            if ignores_budgets(pod) {
                if !is_terminating(pod) {
                    as_checked();
                }
                match self.delete_disrupted(call, options, delete).await {
                    Err(failure) if is_race(&failure) && tries > 0 => continue,
                    done => return done,
                }
            }
            let allowed = self.core.take_disruption(pod, asked.dry_run).await?;
            if matches!(allowed, EvictionAllowed::Unready(_)) {
                as_checked();
            }
            return match (self.delete_disrupted(call, options, delete).await, allowed) {
                (Err(failure), EvictionAllowed::Unready(budget)) if is_race(&failure) => {
                    Err(not_counted(&budget))
                }
                (done, _) => done,
            };
        }
    }

    /// Marks the pod as disrupted and deletes it.
    async fn delete_disrupted(
        &self,
        call: &Call,
        options: &WriteOptions,
        mut delete: DeleteOptions,
    ) -> Result<(), Failure> {
        if !delete.dry_run {
            let version = self.record_disruption(call, options, &delete).await?;
            // What held of the pod before that holds of what that made of it.
            delete.resource_version = delete.resource_version.and(version);
        }
        let (resource, namespace, name) =
            (&*call.resource, &*call.path.namespace, &*call.path.name);
        let admitted = self.core.admission.admit_delete(&call.permit, resource, namespace, name)?;
        self.core.registry.persist_delete(admitted, &delete).await.map(drop)
    }

    /// Writes the condition by which the pod's owner tells a disruption from a failure, to the pod that
    /// is meant. Returns the version that it then has.
    async fn record_disruption(
        &self,
        call: &Call,
        options: &WriteOptions,
        delete: &DeleteOptions,
    ) -> Result<Option<String>, Failure> {
        let (resource, target) = (&*call.resource, (&*call.path.namespace, &*call.path.name));
        let writer = managed::writer(call, options);
        let change = |old: &dyn Object| {
            preconditions(resource, target.1, old.meta(), delete)?;
            let mut pod = resource.parse(&old.encode())?;
            disrupt(&mut *pod);
            writer.track(&mut *pod, Some(old))?;
            let object = self.core.admission.admit_update(&call.permit, resource, pod, old)?;
            Ok(Change { object, expected: None })
        };
        let registry = &self.core.registry;
        let written = registry
            .persist_update(resource, target, Some(SubresourceName::Status), false, change)
            .await?;
        Ok(resource.parse(&written.bytes)?.meta().resource_version.clone())
    }
}

fn disrupt(object: &mut dyn Object) {
    let Some(pod) = object.of_kind_mut::<Pod>() else { return };
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| !condition.is(ConditionType::DisruptionTarget));
    conditions.push(PodCondition {
        type_: ConditionType::DisruptionTarget.into(),
        status: ConditionStatus::True.into(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        last_transition_time: Some(crate::clock::now()),
        ..Default::default()
    });
}
