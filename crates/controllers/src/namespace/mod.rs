//! The namespace controller: deletes the objects of a namespace that is being deleted, then finalizes it.
//!
//! It deletes pods first, because the objects that they mount must exist until they have ended, and then all
//! other objects. The inventory knows the kinds; the objects are listed again before the finalizer is
//! removed. Between two rounds it waits until the namespace has lost its last object of a kind: a round lists
//! everything, and ten thousand pods end one by one.

pub(crate) mod plan;

use std::sync::Arc;
use std::time::Duration;

use coffer_api::subresource::SubresourceName;
use coffer_client::path::segment;
use futures::{TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client};

use self::plan::{Findings, Step, is_terminating, plan};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::informer::Cache;
use crate::inventory::{Inventory, Kind, Meta, MetaChange};
use crate::key::ObjectKey;
use crate::queue::Queue;

/// Concurrent deletions in one namespace. The API server commits them together.
const DELETIONS_MAX: usize = 16;
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Deletions come in bursts. A round starts this long after the first one.
const SETTLE: Duration = Duration::from_millis(50);
/// A round is repeated after this long, even without a change.
const ROUND_INTERVAL: Duration = Duration::from_secs(15);

/// Deletes the content of namespaces that are being deleted.
pub(crate) struct Namespaces {
    client: Client,
    namespaces: Cache<Namespace>,
    /// All served kinds, since any of them may have objects in the namespace.
    inventory: Inventory,
    queue: Queue<ObjectKey>,
}

impl Controller for Namespaces {
    const NAME: &'static str = "namespace-controller";
    /// Namespaces emptied concurrently.
    const WORKERS: usize = 4;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own_if::<Namespace>(|change| {
            change.new.as_ref().is_some_and(|namespace| is_terminating(namespace))
        });
        watches.on_any(Self::object_changed);
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        if !self.namespaces.get(key).is_some_and(|namespace| is_terminating(&namespace)) {
            return Ok(Next::Change);
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let fresh = api.get_opt(&key.name).await.map_err(Error::api("get namespace"))?;
        let Some(namespace) = fresh.filter(is_terminating) else { return Ok(Next::Change) };
        let findings = self.empty(&key.name).await;
        match plan(&namespace, &findings, crate::events::now()) {
            Step::Nothing => {}
            Step::Finalize(next) => {
                let (finalize, params) =
                    (SubresourceName::Finalize.as_str(), PostParams::default());
                let done = api.replace_subresource(finalize, &key.name, &params, &*next).await;
                error::ignore_not_found(done).map_err(Error::api("finalize namespace"))?;
            }
            Step::Wait(status) => {
                if let Some(next) = status {
                    let done = api.replace_status(&key.name, &PostParams::default(), &*next).await;
                    let done = error::ignore_not_found(done);
                    done.map_err(Error::api("update namespace status"))?;
                }
                if !findings.failures.is_empty() {
                    return Err(Error::Unfinished("some objects could not be deleted"));
                }
                return Ok(Next::After(ROUND_INTERVAL));
            }
        }
        Ok(Next::Change)
    }
}

impl Namespaces {
    pub(crate) fn new(setup: &mut Setup<'_, Self>) -> Self {
        Self {
            client: setup.client(),
            namespaces: setup.cache(),
            inventory: setup.inventory(),
            queue: setup.queue(),
        }
    }

    /// A namespace that is being deleted may have lost its last object of a kind.
    fn object_changed(&self, kind: &Arc<Kind>, change: &MetaChange<'_>) {
        let Some(namespace) = change.latest().namespace.as_ref().filter(|_| change.new.is_none())
        else {
            return;
        };
        let key = ObjectKey::new("", namespace);
        if !self.namespaces.get(&key).is_some_and(|namespace| is_terminating(&namespace)) {
            return;
        }
        // A kind that is not counted has no number.
        if self.inventory.count(&kind.qualified(), namespace).is_none_or(|left| left == 0) {
            self.queue.add_after(key, SETTLE);
        }
    }

    /// One round: deletes all objects that are not being deleted yet, and counts those that are left.
    async fn empty(&self, namespace: &str) -> Findings {
        let kinds = self.inventory.kinds();
        let namespaced = kinds.iter().filter(|kind| kind.namespaced);
        let (pods, others): (Vec<_>, Vec<_>) = namespaced
            .partition(|kind| kind.resource.group.is_empty() && kind.resource.plural == "pods");
        let mut findings = Findings::default();
        for kind in pods {
            self.empty_of(namespace, kind, &mut findings).await;
        }
        if !findings.remaining.is_empty() {
            return findings;
        }
        for kind in others {
            self.empty_of(namespace, kind, &mut findings).await;
        }
        findings
    }

    async fn empty_of(&self, namespace: &str, kind: &Kind, findings: &mut Findings) {
        if let Err(error) = self.try_empty_of(namespace, kind, findings).await {
            findings.failures.push(format!("{}: {}", kind.qualified(), error::message(&error)));
        }
    }

    async fn try_empty_of(
        &self,
        namespace: &str,
        kind: &Kind,
        findings: &mut Findings,
    ) -> Result<(), kube::Error> {
        let api = kind.api(self.client.clone(), namespace);
        let any = delete_all(&api, list_all(&api).await?).await?;
        if !any {
            return Ok(());
        }
        for object in list_all(&api).await? {
            *findings.remaining.entry(kind.qualified()).or_default() += 1;
            for finalizer in object.metadata.finalizers.iter().flatten() {
                *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
        }
        Ok(())
    }
}

async fn list_all(api: &Api<Meta>) -> Result<Vec<Meta>, kube::Error> {
    let mut all = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = ListParams::default().limit(PAGE).continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Deletes objects that are not being deleted yet, with their uid as precondition. They are deleted one by
/// one, not as a collection, because the response to that contains the objects, secrets included. Returns
/// whether there were any objects.
async fn delete_all(api: &Api<Meta>, objects: Vec<Meta>) -> Result<bool, kube::Error> {
    let any = !objects.is_empty();
    let fresh = objects.into_iter().filter(|one| one.metadata.deletion_timestamp.is_none());
    stream::iter(fresh.map(Ok))
        .try_for_each_concurrent(DELETIONS_MAX, |object: Meta| async move {
            let name = object.metadata.name.unwrap_or_default();
            let uid = Preconditions { uid: object.metadata.uid, resource_version: None };
            let params = DeleteParams::background().preconditions(uid);
            error::ignore_recreated(api.delete(&segment(&name), &params).await)
        })
        .await?;
    Ok(any)
}

#[cfg(test)]
mod tests {
    use kube::Resource as _;
    use serde_json::json;

    use super::*;
    use crate::informer::Informer;
    use crate::inventory::Watcher;
    use crate::pod::Pod;
    use crate::queue::WorkQueue as _;
    use crate::testing::Api as Server;

    /// Longer than any wait of the queue.
    const WAIT: Duration = Duration::from_secs(10);
    const PODS: usize = 1000;

    /// Each removal of a pod brought a round that listed all the others, twice.
    #[tokio::test(start_paused = true)]
    async fn the_last_pods_removal_begins_a_round_and_no_other_does() {
        let server = Server::responding(|line| match line {
            "GET /api/v1/namespaces/ns" => Some(json!({ "metadata": { "name": "ns" } })),
            _ => None,
        });
        let mut informer = Informer::<Pod>::trimming(|_| {});
        let pods = informer.cache();
        let mut watcher = Watcher::default();
        watcher.subscribe(&mut informer);
        let controller = Namespaces {
            client: server.client(),
            namespaces: Cache::default(),
            inventory: watcher.inventory(),
            queue: Queue::default(),
        };
        let namespace = json!({
            "metadata": { "name": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "finalizers": ["kubernetes"] },
        });
        controller.namespaces.insert(serde_json::from_value(namespace).expect("a namespace"));
        let name = |at: usize| format!("p{at}");
        for at in 0..PODS {
            let pod = json!({ "metadata": { "namespace": "ns", "name": name(at) } });
            pods.insert(serde_json::from_value(pod).expect("a pod"));
        }
        let kind = controller.inventory.kinds().remove(0);
        let remove = |at: usize| {
            for change in pods.remove(&ObjectKey::new("ns", name(at))) {
                let old = change.old.as_ref().map(|pod| pod.meta());
                controller.object_changed(&kind, &MetaChange { old, new: None });
            }
        };
        (1..PODS).for_each(&remove);
        let round = tokio::time::timeout(WAIT, controller.queue.next()).await;
        assert!(round.is_err(), "a round although a pod is left");
        remove(0);
        let key = tokio::time::timeout(WAIT, controller.queue.next()).await.expect("a round");
        controller.reconcile(&key).await.expect("reconciled");
        assert_eq!(server.lines(), ["GET /api/v1/namespaces/ns"]);
    }
}
