//! The namespace a run works in, and what it makes outside of it: all labelled, all removed.
//!
//! Removal does not rely on the cluster having a namespace controller (an API server alone has
//! none): the collections are emptied first, and a namespace without a controller is finished here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::load::secrets;
use crate::options::Protocol;
use crate::transport::client::{self, APPLICATION_JSON, CallError, Client};
use crate::transport::target::Target;

/// The label of everything that a run makes.
pub(crate) const RUN_LABEL: &str = "coffer-bench.coffer.dev/run";
/// How long the cluster's own controller gets to finish the namespace once it is empty.
const CONTROLLER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long pods get to end.
const PODS_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// What else is emptied before the namespace goes; there are few of each.
const COLLECTIONS: [&str; 8] = [
    "/api/v1/namespaces/{}/configmaps",
    "/api/v1/namespaces/{}/events",
    "/api/v1/namespaces/{}/resourcequotas",
    "/api/v1/namespaces/{}/serviceaccounts",
    "/apis/apps/v1/namespaces/{}/deployments",
    "/apis/apps/v1/namespaces/{}/replicasets",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
];
/// The namespace of nodes' leases.
pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Where nodes have their leases.
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// What simulated nodes leave outside the run's namespace, with the accounts that renew their leases.
const SIMULATED: [&str; 5] = [
    LEASES,
    "/api/v1/nodes",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-node-lease/rolebindings",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-node-lease/roles",
    "/api/v1/namespaces/kube-node-lease/serviceaccounts",
];
/// Clients that delete: one request to delete 50,000 objects takes longer than servers let it.
const DELETERS: usize = 32;
/// Objects listed at a time to be deleted.
const DELETE_PAGE: usize = 500;

/// A namespace of our own.
pub(crate) struct Workspace {
    pub(crate) namespace: String,
    pub(crate) run: String,
    /// Whether there are simulated nodes and their leases to be removed, too.
    pub(crate) simulated: bool,
    target: Arc<Target>,
    client: Client,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Workspace {
    /// Makes it.
    pub(crate) async fn create(target: &Arc<Target>) -> Result<Self> {
        let mut client = Client::connect(target, Protocol::Http1).await?;
        let run = format!("{:08x}", secrets::random() as u32);
        let namespace = format!("coffer-bench-{run}");
        let body = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": namespace, "labels": { RUN_LABEL: run } },
        });
        let made = client.call(Method::POST, "/api/v1/namespaces", json_body(&body)).await;
        made.context("cannot make a namespace to work in")?;
        Ok(Self { namespace, run, simulated: false, target: target.clone(), client })
    }

    /// The path of a collection in it.
    pub(crate) fn path(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// The account that pods run as, which a cluster without controllers does not make by itself.
    pub(crate) async fn ensure_default_account(&mut self) -> Result<()> {
        let body = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" },
        });
        let path = self.path("serviceaccounts");
        match self.client.call(Method::POST, &path, json_body(&body)).await {
            Err(error) if !error.is(StatusCode::CONFLICT) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes everything that the run has made.
    pub(crate) async fn remove(mut self) -> Result<()> {
        let namespace = self.namespace.clone();
        self.try_remove().await.with_context(|| {
            format!("not all of namespace {namespace} was removed: kubectl delete ns {namespace}")
        })
    }

    async fn try_remove(&mut self) -> Result<()> {
        // First, so that no controller fills again what is emptied, such as the default account.
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        gone_is_fine(self.client.call(Method::DELETE, &path, None).await)?;
        self.end_pods().await?;
        self.delete_each(&self.path("secrets"), "", "").await?;
        for collection in COLLECTIONS {
            self.empty(&collection.replace("{}", &self.namespace)).await?;
        }
        if self.simulated {
            let selector = format!("&labelSelector={RUN_LABEL}%3D{}", self.run);
            for path in SIMULATED {
                self.delete_each(path, &selector, "").await?;
            }
        }
        if self.is_gone(&path, CONTROLLER_TIMEOUT).await? {
            return Ok(());
        }
        let body = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": self.namespace }, "spec": { "finalizers": [] },
        });
        let finalize = format!("{path}/finalize");
        gone_is_fine(self.client.call(Method::PUT, &finalize, json_body(&body)).await)?;
        if !self.is_gone(&path, CONTROLLER_TIMEOUT).await? {
            bail!("it was not deleted in time");
        }
        Ok(())
    }

    /// Deletes the objects of a collection one by one, in pages, by many clients.
    async fn delete_each(&mut self, path: &str, selector: &str, options: &str) -> Result<()> {
        loop {
            let page = format!("{path}?limit={DELETE_PAGE}{selector}");
            let listed: Listed = self.client.get(&page).await?;
            if listed.items.is_empty() {
                return Ok(());
            }
            let clients = listed.items.len().min(DELETERS);
            let clients = client::connect(&self.target, Protocol::Http1, clients, 1).await?;
            let share = listed.items.len().div_ceil(DELETERS);
            let mut names = listed.items.into_iter().map(|item| item.metadata.name);
            let mut deleting = JoinSet::new();
            for mut client in clients {
                let mine: Vec<_> = names.by_ref().take(share).collect();
                let (path, options) = (path.to_owned(), options.to_owned());
                deleting.spawn(async move {
                    for name in mine {
                        let path = format!("{path}/{name}{options}");
                        gone_is_fine(client.call(Method::DELETE, &path, None).await)?;
                    }
                    Ok::<_, CallError>(())
                });
            }
            while let Some(ended) = deleting.join_next().await {
                ended??;
            }
        }
    }

    /// Pods on real nodes end in their own time; on simulated nodes no kubelet ends them.
    async fn end_pods(&mut self) -> Result<()> {
        let path = self.path("pods");
        if !self.simulated {
            self.empty(&path).await?;
            if self.is_empty(&path, PODS_TIMEOUT).await? {
                return Ok(());
            }
        }
        self.delete_each(&path, "", "?gracePeriodSeconds=0").await
    }

    async fn empty(&mut self, path: &str) -> Result<()> {
        Ok(gone_is_fine(self.client.call(Method::DELETE, path, None).await)?)
    }

    async fn is_empty(&mut self, path: &str, timeout: Duration) -> Result<bool> {
        let end = Instant::now() + timeout;
        loop {
            let listed: Listed = self.client.get(&format!("{path}?limit=1")).await?;
            if listed.items.is_empty() || Instant::now() >= end {
                return Ok(listed.items.is_empty());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn is_gone(&mut self, path: &str, timeout: Duration) -> Result<bool> {
        let end = Instant::now() + timeout;
        loop {
            match self.client.call(Method::GET, path, None).await {
                Err(error) if error.is(StatusCode::NOT_FOUND) => return Ok(true),
                Err(error) => return Err(error.into()),
                Ok(_) if Instant::now() >= end => return Ok(false),
                Ok(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// A value as the body of a request.
pub(crate) fn json_body(value: &serde_json::Value) -> Option<(&'static str, Bytes)> {
    Some((APPLICATION_JSON, value.to_string().into()))
}

fn gone_is_fine(answer: Result<Bytes, CallError>) -> Result<(), CallError> {
    match answer {
        Err(error) if !error.is(StatusCode::NOT_FOUND) => Err(error),
        _ => Ok(()),
    }
}
