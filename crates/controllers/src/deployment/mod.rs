//! Deployments: gradually replaces the pods of one template by those of another, and keeps the templates for
//! rollbacks.
//!
//! A Deployment owns one ReplicaSet per template and only sets their sizes; the ReplicaSet controller creates
//! and deletes the pods. Each reconciliation makes one step ([`plan`]), whose changes come back through the
//! watches and start the next one.

pub(crate) mod limits;
pub(crate) mod plan;
pub(crate) mod revision;
pub(crate) mod sizes;
pub(crate) mod status;

use std::collections::HashSet;
use std::sync::Arc;

use coffer_api::kinds::pod::same_template;
use coffer_api::selector::LabelSelector;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use serde_json::json;

use self::limits::{is_rolling, size};
use self::plan::{Action, plan};
use self::revision::REVISION;
use self::status::Draft;
use crate::claim::{BySelector, Claim, ClaimKey, Claimable, Claimer, claim, is_alive, may_claim};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::events::{EventType, Recorder, now};
use crate::informer::{Cache, Change, Index};
use crate::key::ObjectKey;
use crate::owner::{adoption, controller_of, controller_ref, is_controlled_by, release};
use crate::pod::{Pod, is_terminal};
use crate::queue::Queue;
use crate::selection::{Selectors, label_keys};

/// Rolls Deployments out.
pub(crate) struct Deployments {
    client: Client,
    deployments: Cache<Deployment>,
    /// Deployments that might adopt a ReplicaSet.
    adopters: Index<Deployment, BySelector>,
    selectors: Selectors<Deployment>,
    sets: Cache<ReplicaSet>,
    claimable_sets: Index<ReplicaSet, Claimable>,
    pods: Index<Pod, Claimable>,
    recorder: Recorder,
    queue: Queue<ObjectKey>,
}

impl Controller for Deployments {
    const NAME: &'static str = "deployment-controller";
    /// Upstream's `--concurrent-deployment-syncs`.
    const WORKERS: usize = 5;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<Deployment>();
        watches.on::<ReplicaSet>(Self::set_changed);
        watches.on::<Pod>(Self::pod_changed);
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let Some(mut deployment) = self.deployments.get(key) else {
            self.selectors.forget(key);
            return Ok(Next::Change);
        };
        let selector = deployment.selector()?;
        if selector.is_empty() {
            let message =
                "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.record(&*deployment, EventType::Warning, "SelectingAll", message);
            return Ok(Next::Change);
        }
        let sets = self.claim(&deployment, &selector, key).await?;
        let running = self.running(&deployment, &sets);
        let plan = plan(&deployment, sets, &running, now());
        for action in plan.actions {
            self.apply(&mut deployment, key, action).await?;
        }
        Ok(Next::after(plan.recheck_after))
    }
}

impl Deployments {
    pub(crate) fn new(setup: &mut Setup<'_, Self>) -> Self {
        Self {
            client: setup.client(),
            deployments: setup.cache(),
            adopters: setup.index(),
            selectors: Selectors::default(),
            sets: setup.cache(),
            claimable_sets: setup.index(),
            pods: setup.index(),
            recorder: setup.recorder(Self::NAME),
            queue: setup.queue(),
        }
    }

    fn set_changed(&self, change: &Change<ReplicaSet>) {
        for side in [&change.old, &change.new].into_iter().flatten() {
            if let Some(owner) = self.owner_of(&side.metadata) {
                self.queue.add(owner);
            }
        }
        let set = change.latest();
        if change.is_delete() || controller_of(&set.metadata).is_some() {
            return;
        }
        let keys: Vec<_> = label_keys(&set.metadata).collect();
        for deployment in self.adopters.get_all(&keys) {
            if may_claim(&self.selectors.of(&deployment), &set.metadata) {
                self.queue.add(ObjectKey::of(&*deployment));
            }
        }
    }

    /// The Recreate strategy waits until the last old pod has ended.
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        if !change.is_delete() && !is_terminal(pod) {
            return;
        }
        let Some(owner) = controller_of(&pod.metadata).filter(|o| o.kind == "ReplicaSet") else {
            return;
        };
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let set = self.sets.get(&ObjectKey::new(namespace, &owner.name));
        let set = set.filter(|set| set.metadata.uid.as_ref() == Some(&owner.uid));
        if let Some(owner) = set.and_then(|set| self.owner_of(&set.metadata)) {
            self.queue.add(owner);
        }
    }

    fn owner_of(&self, set: &ObjectMeta) -> Option<ObjectKey> {
        let owner = controller_of(set).filter(|owner| owner.kind == "Deployment")?;
        let key = ObjectKey::new(set.namespace.clone().unwrap_or_default(), &owner.name);
        let deployment = self.deployments.get(&key)?;
        (deployment.metadata.uid.as_ref() == Some(&owner.uid)).then_some(key)
    }

    /// The ReplicaSets of a Deployment, after adopting and releasing those that need it.
    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &LabelSelector,
        key: &ObjectKey,
    ) -> Result<Vec<ReplicaSet>, Error> {
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let mut claimed = Vec::new();
        for set in self.claimable_sets.get_all(&ClaimKey::of(deployment)) {
            let set_uid = set.metadata.uid.as_deref();
            match claim(&deployment.metadata, selector, &set.metadata) {
                Claim::Keep => claimed.push(ReplicaSet::clone(&set)),
                Claim::Ignore => {}
                Claim::Release => {
                    self.patch_set(key, &set, &release(uid, set_uid)).await?;
                }
                Claim::Adopt if is_alive(&self.client, deployment).await? => {
                    let patch = adoption(&controller_ref(deployment), set_uid);
                    claimed.extend(self.patch_set(key, &set, &patch).await?);
                }
                Claim::Adopt => {}
            }
        }
        Ok(claimed)
    }

    /// Patches a ReplicaSet's owners. None if it no longer exists or was recreated.
    async fn patch_set(
        &self,
        key: &ObjectKey,
        set: &ReplicaSet,
        patch: &Patch<serde_json::Value>,
    ) -> Result<Option<ReplicaSet>, Error> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        match self.sets_of(key).patch(name, &PatchParams::default(), patch).await {
            Ok(patched) => Ok(Some(patched)),
            Err(error) if error::is_not_found(&error) || error::is_invalid(&error) => Ok(None),
            Err(error) => Err(Error::api("change the owners of a replica set")(error)),
        }
    }

    /// Uids of the ReplicaSets with pods that have not ended. Only the Recreate strategy needs them.
    fn running(&self, deployment: &Deployment, sets: &[ReplicaSet]) -> HashSet<String> {
        if is_rolling(deployment) {
            return HashSet::new();
        }
        let uids = sets.iter().filter_map(|set| set.metadata.uid.clone());
        uids.filter(|uid| {
            let pods = self.pods.get(&ClaimKey::ControlledBy(uid.clone()));
            pods.iter().any(|pod| !is_terminal(pod))
        })
        .collect()
    }

    /// Applies one action. `deployment` gets the metadata that the action has written, so that a later write
    /// of the same step conflicts only with writes of other clients.
    async fn apply(
        &self,
        deployment: &mut Arc<Deployment>,
        key: &ObjectKey,
        action: Action,
    ) -> Result<(), Error> {
        match action {
            Action::Create(set) => self.create(deployment, key, *set).await,
            Action::Update(set, scaled) => self.update(deployment, key, &set, scaled).await,
            Action::Delete(set) => self.delete(key, &set).await,
            Action::Annotate(revision) => {
                let uid = &deployment.metadata.uid;
                let meta = json!({ "uid": uid, "annotations": { REVISION: revision } });
                let patch = Patch::Merge(json!({ "metadata": meta }));
                let api = self.deployments_of(key);
                // Through the status, which keeps annotations, too: no change of the spec is counted, as upstream.
                let done = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
                let written =
                    done.map_err(Error::api("annotate the deployment with its revision"))?;
                Arc::make_mut(deployment).metadata = written.metadata;
                Ok(())
            }
            Action::Status(status) => self.write_status(deployment, key, *status).await,
        }
    }

    async fn create(
        &self,
        deployment: &Deployment,
        key: &ObjectKey,
        set: ReplicaSet,
    ) -> Result<(), Error> {
        let name = set.metadata.name.clone().unwrap_or_default();
        let error = match self.sets_of(key).create(&PostParams::default(), &set).await {
            Ok(created) => {
                if size(&created) > 0 {
                    self.record_scaled(deployment, &name, (0, size(&created)));
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if error::is_already_exists(&error) {
            return self.resolve_collision(deployment, key, &set).await;
        }
        if error::is_namespace_terminating(&error) {
            return Ok(());
        }
        let mut draft = Draft::new(deployment, now());
        let message = draft.set_failed(&name, &error::message(&error));
        self.recorder.record(deployment, EventType::Warning, "FailedCreate", message);
        self.write_status(deployment, key, draft.unchanged()).await?;
        Err(Error::api("create replica set")(error))
    }

    /// The name is in use: by the ReplicaSet that an earlier attempt created, or by one with another template
    /// of the same hash; then the next attempt uses another name.
    async fn resolve_collision(
        &self,
        deployment: &Deployment,
        key: &ObjectKey,
        set: &ReplicaSet,
    ) -> Result<(), Error> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let found = self.sets_of(key).get_opt(name).await;
        let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone());
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let ours = found.map_err(Error::api("get replica set"))?.is_some_and(|found| {
            let same = template(&found).zip(template(set));
            is_controlled_by(&found.metadata, uid)
                && same.is_some_and(|(found, wanted)| same_template(&found, &wanted))
        });
        if !ours {
            let mut status = deployment.status.clone().unwrap_or_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
            self.write_status(deployment, key, status).await?;
        }
        Err(Error::Unfinished("the name of the new replica set is in use"))
    }

    async fn update(
        &self,
        deployment: &Deployment,
        key: &ObjectKey,
        set: &ReplicaSet,
        scaled: Option<(i32, i32)>,
    ) -> Result<(), Error> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let done = self.sets_of(key).replace(name, &PostParams::default(), set).await;
        done.map_err(Error::api("update replica set"))?;
        if let Some(scaled) = scaled {
            self.record_scaled(deployment, name, scaled);
        }
        Ok(())
    }

    fn record_scaled(&self, deployment: &Deployment, set: &str, (from, to): (i32, i32)) {
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        self.recorder.record(deployment, EventType::Normal, "ScalingReplicaSet", message);
    }

    async fn delete(&self, key: &ObjectKey, set: &ReplicaSet) -> Result<(), Error> {
        let meta = set.meta();
        let same = Preconditions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
        };
        let params = DeleteParams::background().preconditions(same);
        let name = meta.name.as_deref().unwrap_or_default();
        let done = self.sets_of(key).delete(name, &params).await;
        error::ignore_not_found(done).map_err(Error::api("delete replica set"))
    }

    /// Writes the status only. The object is sent with the `resourceVersion` at which it was read: without
    /// one, the write would revert metadata that another client has changed since.
    async fn write_status(
        &self,
        deployment: &Deployment,
        key: &ObjectKey,
        status: DeploymentStatus,
    ) -> Result<(), Error> {
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let next = Deployment { status: Some(status), ..deployment.clone() };
        let params = PostParams::default();
        let done = self.deployments_of(key).replace_status(&key.name, &params, &next).await;
        error::ignore_not_found(done).map_err(Error::api("update status"))
    }

    fn deployments_of(&self, key: &ObjectKey) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    fn sets_of(&self, key: &ObjectKey) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}
