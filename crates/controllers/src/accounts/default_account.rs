//! The service account `default` of every namespace: the identity of pods that name no account.

use coffer_api::phase::NamespacePhase;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::controller::{Controller, Next, Setup, Watches, namespace_key};
use crate::error::{self, Error};
use crate::informer::{Cache, Change};
use crate::key::ObjectKey;
use crate::queue::Queue;

/// The account's name.
const DEFAULT: &str = coffer_api::well_known::DEFAULT_SERVICE_ACCOUNT;

/// Creates the account `default` where it is missing.
pub(crate) struct DefaultAccounts {
    client: Client,
    namespaces: Cache<Namespace>,
    accounts: Cache<ServiceAccount>,
    /// Names of namespaces.
    queue: Queue<ObjectKey>,
}

impl Controller for DefaultAccounts {
    const NAME: &'static str = "service-account-controller";
    const WORKERS: usize = 2;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<Namespace>();
        watches.on::<ServiceAccount>(Self::account_changed);
    }

    async fn reconcile(&self, namespace: &ObjectKey) -> Result<Next, Error> {
        let found = self.namespaces.get(namespace);
        let exists = self.accounts.contains(&ObjectKey::new(&namespace.name, DEFAULT));
        if exists || !found.is_some_and(|namespace| is_active(&namespace)) {
            return Ok(Next::Change);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some(DEFAULT.to_owned()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &namespace.name);
        let done = api.create(&PostParams::default(), &account).await;
        error::ignore_uncreatable(done).map_err(Error::api("create the default account"))?;
        Ok(Next::Change)
    }
}

impl DefaultAccounts {
    pub(crate) fn new(setup: &mut Setup<'_, Self>) -> Self {
        Self {
            client: setup.client(),
            namespaces: setup.cache(),
            accounts: setup.cache(),
            queue: setup.queue(),
        }
    }

    fn account_changed(&self, change: &Change<ServiceAccount>) {
        let account = change.latest();
        if change.is_delete() && account.metadata.name.as_deref() == Some(DEFAULT) {
            self.queue.add(namespace_key(&**account));
        }
    }
}

/// Whether objects can be created in the namespace.
pub(super) fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
        && NamespacePhase::of(namespace) != Some(NamespacePhase::Terminating)
}
