//! The API server: HTTPS in front of a [`Store`](coffer_store::Store).
//!
//! One request goes one way: tls → authn → authz → admission → registry → (cache | store) →
//! encode. Each step hands the next a value that only it can make (`Identity`, `Permit`,
//! `Admitted`), so none can be left out. Nothing here knows nodes, containers or schedules; those
//! parts are clients like any other.
//!
//! The modules are floors, each of which knows only those below: `serve` and `request`; `handlers`;
//! `core`; `admission` and `registry`; `cache`, `object` and the store.

mod access;
mod admission;
mod authn;
mod authz;
mod body;
mod cache;
mod call;
mod certificates;
mod clock;
mod core;
mod deadline;
mod decode;
mod discovery;
mod encode;
mod encoded;
mod encoding;
mod executor;
mod failure;
mod fair_queue;
mod handlers;
mod health;
mod identity;
mod kubelets;
mod limits;
mod listen;
mod managed;
mod memory_pool;
mod object;
pub mod openapi;
mod openapi_routes;
mod options;
mod registry;
mod representation;
mod request;
mod respond;
mod reviews;
mod scale;
mod serve;
mod tasks;
mod tls;
pub mod tokens;
mod tunnels;

use std::net::SocketAddr;
use std::sync::Arc;

use coffer_api::status::Failure;
use coffer_net::descriptors;
use coffer_store::Store;
use tokio_util::sync::CancellationToken;

pub use access::AccessConfig;
pub use admission::SecretUseCheck;
pub use authn::{OidcConfig, OidcError, TokenFile, TokenFileError};
pub use certificates::Certificates;
pub use coffer_api::pod_security::Level as PodSecurityLevel;
pub use listen::ClientNetwork;
pub use tls::{KeyPair, TlsError};

use crate::admission::{Admission, AdmissionConfig};
use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::cache::Cache;
use crate::core::Core;
use crate::handlers::Handlers;
use crate::kubelets::Kubelets;
use crate::limits::Limits;
use crate::listen::Listeners;
use crate::object::Resources;
use crate::registry::Registry;
use crate::serve::Service;
use crate::tasks::Tasks;
use crate::tokens::Authority;
use crate::tunnels::Tunnels;

/// What a server is built from.
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The serving certificate.
    pub serving: KeyPair,
    /// Certificates that client certificates must be signed by, PEM.
    pub client_ca_pem: Vec<u8>,
    /// The certificate shown to kubelets, and the CA theirs must be signed by, PEM. Without it
    /// exec, attach, port-forward and logs are refused.
    pub kubelet_client: Option<(KeyPair, Vec<u8>)>,
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// Identity and access.
    pub access: AccessConfig,
}

/// Why a server could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A key of service account tokens cannot be used.
    #[error(transparent)]
    TokenKey(#[from] tokens::KeyError),
    /// The OpenID Connect issuer cannot be trusted as configured.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// The store cannot be read.
    #[error("cannot load the store: {0}")]
    Load(String),
    /// The namespaces every cluster has cannot be created.
    #[error("cannot create namespace {name}: {failure}")]
    Namespace {
        /// Which.
        name: &'static str,
        /// Why.
        failure: Failure,
    },
    /// The roles and bindings every cluster has cannot be created.
    #[error("cannot create the default roles: {0}")]
    Roles(Failure),
    /// The priority classes every cluster has cannot be created.
    #[error("cannot create the system priority classes: {0}")]
    PriorityClasses(Failure),
}

/// A server that listens, not yet accepting.
pub struct Server {
    listeners: Listeners,
    certificates: Certificates,
    cache: Arc<Cache>,
    handlers: Arc<Handlers>,
    tasks: Tasks,
}

/// What the store must encrypt before it reaches the disk: what the keys of these objects begin with, as
/// the kinds declare it.
pub fn sealed_prefixes() -> Vec<String> {
    Resources::all().sealed_prefixes()
}

impl Server {
    /// Listens, loads the cache from the store, and makes the namespaces every cluster has.
    ///
    /// # Errors
    /// [`BuildError`]; nothing is left running then.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let certificates = Certificates::new(
            &config.serving,
            config.client_ca_pem,
            config.kubelet_client.as_ref(),
        )?;
        let access = config.access;
        let tokens = Arc::new(Authority::new(
            access.service_account_keys.as_ref(),
            access.service_account_issuer,
            access.api_audiences,
            access.service_account_jwks_uri,
        )?);
        let anonymous = !access.refuse_anonymous;
        let authenticator =
            Authenticator::new(tokens.clone(), access.token_file, access.oidc, anonymous)?;
        let address = config.bind;
        let listeners =
            Listeners::bind(address).map_err(|source| BuildError::Bind { address, source })?;
        let resources = Arc::new(Resources::all());
        let cache = Cache::load(config.store.clone(), resources.sources())
            .await
            .map_err(|error| BuildError::Load(error.to_string()))?;
        resources.attach(&cache);
        let cache = Arc::new(cache);
        let tasks = Tasks::default();
        let (authorizer, permit) = Authorizer::new(&resources, cache.clone());
        let authorizer = Arc::new(authorizer);
        let admission = Admission::new(
            AdmissionConfig {
                service_account_admission: access.service_account_admission,
                root_ca_pem: access.root_ca_pem,
                secret_use_check: access.secret_use_check,
                pod_security_default: access.pod_security_default,
            },
            resources.clone(),
            cache.clone(),
            authorizer.clone(),
            tokens,
            tasks.background.clone(),
        );
        let registry = Registry::new(config.store, cache.clone(), resources);
        let serving = tasks.serving.clone();
        let outgoing = descriptors::outgoing_now(usize::MAX);
        let handlers = Arc::new(Handlers {
            core: Core::new(registry, admission, authorizer, permit),
            authenticator,
            token_lifetime_max_s: access.service_account_max_token_expiration_s,
            executor: Default::default(),
            kubelets: Kubelets::new(certificates.clone(), serving.clone()),
            tunnels: Tunnels::new(outgoing, serving.clone()),
            shutdown: serving.stop().clone(),
        });
        Ok(Self { listeners, certificates, cache, handlers, tasks })
    }

    /// Listens for the clients of a network, too, at this machine's address on it, which need not
    /// be there yet, and at the same port.
    ///
    /// # Errors
    /// [`BuildError::Bind`].
    pub fn serve_network(&mut self, network: ClientNetwork) -> Result<(), BuildError> {
        let address = SocketAddr::from((network.address, 0));
        self.listeners.add(network).map_err(|source| BuildError::Bind { address, source })
    }

    /// The keys of service account tokens, to be rotated while it runs.
    pub fn token_keys(&self) -> tokens::TokenKeys {
        self.handlers.authenticator.tokens.keys()
    }

    /// The certificates that it shows, to be replaced while it runs.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's error.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listeners.local_addr()
    }

    /// Serves until `shutdown` is cancelled and requests under way have ended. Nothing of the server is
    /// left then, also where it could not start.
    ///
    /// # Errors
    /// [`BuildError::Namespace`], [`BuildError::Roles`] and [`BuildError::PriorityClasses`] where the store
    /// refuses the first writes.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), BuildError> {
        let Self { listeners, certificates, cache, handlers, tasks } = self;
        tasks.cache.spawn_to_end({
            let (cache, stop) = (cache.clone(), tasks.cache.stop().clone());
            async move { cache.follow(stop).await }
        });
        tasks.cache.spawn(async move { cache.end_late_watchers().await });
        let prepared = prepare(&handlers.core).await;
        if prepared.is_ok() {
            tasks.background.spawn_to_end({
                let (handlers, stop) = (handlers.clone(), tasks.background.stop().clone());
                async move { core::aggregate::follow(&handlers.core, &stop).await }
            });
            tasks.background.spawn({
                let handlers = handlers.clone();
                async move { core::expire::expire_events(&handlers.core).await }
            });
            let limits = Limits::default();
            let service = Service { handlers, limits, tasks: tasks.serving.clone() };
            let serving = serve::run(listeners, certificates, Arc::new(service));
            shutdown.run_until_cancelled(serving).await;
        }
        tasks.end().await;
        prepared
    }
}

/// Makes what every cluster has, before the first request.
async fn prepare(core: &Core) -> Result<(), BuildError> {
    let created = core::namespaces::create(core).await;
    created.map_err(|(name, failure)| BuildError::Namespace { name, failure })?;
    tokio::try_join!(
        async { core::roles::reconcile(core).await.map_err(BuildError::Roles) },
        async { core::priority_classes::create(core).await.map_err(BuildError::PriorityClasses) },
    )
    .map(drop)
}
