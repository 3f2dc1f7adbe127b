//! The namespace controller: empties a namespace that is being deleted, then lets it go.
//!
//! Pods first, because what they mount must outlive them, and then everything else, found through
//! the inventory and listed afresh before the finalizer is removed. Between rounds it waits
//! for the watch to say that something in the namespace has gone.

pub(crate) mod plan;

use std::sync::Arc;
use std::time::Duration;

use coffer_api::subresource::SubresourceName;
use futures::{TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client};

use self::plan::{Findings, Step, is_ours, plan};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::informer::Cache;
use crate::inventory::{Inventory, Kind, Meta, MetaChange};
use crate::key::ObjectKey;
use crate::queue::Queue;

/// Deletions under way at once in one namespace; the API server commits them together.
const DELETIONS_MAX: usize = 16;
/// Objects listed at a time.
const PAGE: u32 = 500;
/// Removals come in bursts; one round follows a burst.
const SETTLE: Duration = Duration::from_millis(50);
/// A round is repeated after this long even if no watch says anything.
const ROUND_INTERVAL: Duration = Duration::from_secs(15);

/// Empties namespaces that are being deleted.
pub(crate) struct Namespaces {
    client: Client,
    namespaces: Cache<Namespace>,
    /// A kind that is not known yet might hold objects.
    inventory: Inventory,
    queue: Queue<ObjectKey>,
}

impl Controller for Namespaces {
    const NAME: &'static str = "namespace-controller";
    /// Namespaces emptied at once.
    const WORKERS: usize = 4;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own_if::<Namespace>(|change| {
            change.new.as_ref().is_some_and(|namespace| is_ours(namespace))
        });
        watches.on_any(Self::object_changed);
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        if !self.namespaces.get(key).is_some_and(|namespace| is_ours(&namespace)) {
            return Ok(Next::Change);
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let fresh = api.get_opt(&key.name).await.map_err(Error::api("get namespace"))?;
        let Some(namespace) = fresh.filter(is_ours) else { return Ok(Next::Change) };
        let findings = self.empty(&key.name).await;
        match plan(&namespace, &findings, crate::events::now()) {
            Step::Nothing => {}
            Step::Finalize(next) => {
                let (finalize, params) = (SubresourceName::Finalize.as_str(), PostParams::default());
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

    /// Something in a namespace that is being deleted has gone.
    fn object_changed(&self, _: &Arc<Kind>, change: &MetaChange<'_>) {
        let Some(namespace) = change.latest().namespace.as_ref().filter(|_| change.new.is_none())
        else {
            return;
        };
        let key = ObjectKey::new("", namespace);
        if self.namespaces.get(&key).is_some_and(|namespace| is_ours(&namespace)) {
            self.queue.add_after(key, SETTLE);
        }
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
/// name. One by one, not as a collection: the response to that is the objects, secrets among them.
/// Returns whether there were any at all.
async fn delete_all(api: &Api<Meta>, objects: Vec<Meta>) -> Result<bool, kube::Error> {
    let any = !objects.is_empty();
    let fresh = objects.into_iter().filter(|one| one.metadata.deletion_timestamp.is_none());
    stream::iter(fresh.map(Ok))
        .try_for_each_concurrent(DELETIONS_MAX, |object: Meta| async move {
            let name = object.metadata.name.unwrap_or_default();
            let uid = Preconditions { uid: object.metadata.uid, resource_version: None };
            let params = DeleteParams::background().preconditions(uid);
            error::ignore_recreated(api.delete(&name, &params).await)
        })
        .await?;
    Ok(any)
}
