//! The namespace controller: empties a namespace that is being deleted, then lets it go.
//!
//! Pods first, because what they mount must outlive them, and then everything else, found through
//! the inventory and listed afresh before the finalizer is removed. Between rounds it waits
//! for the watch to say that something in the namespace has gone.

pub mod plan;

use std::sync::Arc;
use std::time::Duration;

use futures::{TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use self::plan::{Findings, Step, is_ours, plan};
use crate::error::{self, Error};
use crate::informer::Cache;
use crate::inventory::{Inventory, Kind, Meta};
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::queue::Queue;

const NAME: &str = "namespace-controller";
/// Namespaces emptied at once.
const WORKERS: usize = 4;
/// Deletions under way at once in one namespace; the API server commits them together.
const DELETIONS_MAX: usize = 16;
/// Objects listed at a time.
const PAGE: u32 = 500;
/// Removals come in bursts; one round answers for a burst.
const SETTLE: Duration = Duration::from_millis(50);
/// A round is repeated after this long even if no watch says anything.
const ROUND_INTERVAL: Duration = Duration::from_secs(15);

/// Runs the namespace controller alone until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let mut manager = Manager::new(client);
    register(&mut manager);
    manager.run(shutdown).await;
}

/// Adds the namespace controller to a manager.
pub fn register(manager: &mut Manager) {
    let controller = Arc::new(Controller {
        client: manager.client(),
        namespaces: manager.informer::<Namespace>().cache(),
        inventory: manager.inventory().inventory(),
        queue: Queue::default(),
    });
    let queue = controller.queue.clone();
    manager.informer::<Namespace>().on_change(move |change| {
        if change.new.as_ref().is_some_and(|namespace| is_ours(namespace)) {
            queue.add(ObjectKey::of(&**change.latest()));
        }
    });
    let this = controller.clone();
    manager.inventory().on_change(move |_, change| {
        let Some(namespace) = &change.latest().metadata.namespace else { return };
        let key = ObjectKey::new("", namespace);
        let ending = |namespace: &Arc<Namespace>| is_ours(namespace);
        if change.is_delete() && this.namespaces.get(&key).as_ref().is_some_and(ending) {
            this.queue.add_after(key, SETTLE);
        }
    });
    let (this, queue) = (controller.clone(), controller.queue.clone());
    let ready = async move {
        this.namespaces.synced().await;
        // A kind that is not known yet might hold objects.
        this.inventory.synced().await;
    };
    manager.add_controller(NAME, WORKERS, queue, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

struct Controller {
    client: Client,
    namespaces: Cache<Namespace>,
    inventory: Inventory,
    queue: Queue<ObjectKey>,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Error> {
        if !self.namespaces.get(key).is_some_and(|namespace| is_ours(&namespace)) {
            return Ok(());
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let fresh = api.get_opt(&key.name).await.map_err(Error::api("get namespace"))?;
        let Some(namespace) = fresh.filter(is_ours) else { return Ok(()) };
        let findings = self.empty(&key.name).await;
        match plan(&namespace, &findings, crate::events::now()) {
            Step::Nothing => {}
            Step::Finalize(next) => {
                let params = PostParams::default();
                let done = api.replace_subresource("finalize", &key.name, &params, &*next).await;
                absent_is_fine(done).map_err(Error::api("finalize namespace"))?;
            }
            Step::Wait(status) => {
                if let Some(next) = status {
                    let done = api.replace_status(&key.name, &PostParams::default(), &*next).await;
                    absent_is_fine(done).map_err(Error::api("update namespace status"))?;
                }
                if !findings.failures.is_empty() {
                    return Err(Error::Unfinished("some objects could not be deleted"));
                }
                self.queue.add_after(key.clone(), ROUND_INTERVAL);
            }
        }
        Ok(())
    }

    /// One round: asks for the deletion of all that is not going yet, and counts what is left.
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
        let going = delete_all(&api, list_all(&api).await?).await?;
        if !going {
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

/// Deletes objects that are not being deleted yet, each one that was seen and no other of its
/// name. One by one, not as a collection: the answer to that is the objects, secrets among them.
/// Answers whether there were any at all.
async fn delete_all(api: &Api<Meta>, objects: Vec<Meta>) -> Result<bool, kube::Error> {
    let any = !objects.is_empty();
    let fresh = objects.into_iter().filter(|one| one.metadata.deletion_timestamp.is_none());
    stream::iter(fresh.map(Ok))
        .try_for_each_concurrent(DELETIONS_MAX, |object: Meta| async move {
            let name = object.metadata.name.unwrap_or_default();
            let uid = Preconditions { uid: object.metadata.uid, resource_version: None };
            let params = DeleteParams::background().preconditions(uid);
            match api.delete(&name, &params).await {
                Err(error) if error::is_not_found(&error) || error::is_conflict(&error) => Ok(()),
                other => other.map(drop),
            }
        })
        .await?;
    Ok(any)
}

fn absent_is_fine<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if error::is_not_found(&error) => Ok(()),
        other => other.map(drop),
    }
}
