//! The API server: HTTPS in front of a [`Store`](coffer_store::Store).
//!
//! One request goes one way: tls → authn → authz → admission → registry → (cache | store) →
//! encode. Each step hands the next a value that only it can make (`Identity`, `Permit`,
//! `Admitted`), so none can be left out. Nothing here knows nodes, containers or schedules; those
//! parts are clients like any other.

mod access;
mod admission;
mod authn;
mod authz;
mod body;
mod cache;
mod certificates;
mod deadline;
mod decode;
mod discovery;
mod encoded;
mod encoding;
mod handlers;
mod health;
mod lanes;
mod limits;
mod listen;
mod managed;
mod object;
pub mod openapi;
mod openapi_routes;
mod options;
mod present;
mod proxy;
mod registry;
mod request;
mod respond;
mod reviews;
mod scale;
mod serve;
mod tls;
pub mod tokens;
mod turns;

use std::net::SocketAddr;
use std::sync::Arc;

use coffer_api::pod_security;
use coffer_api::status::Failure;
use coffer_store::Store;
use k8s_openapi::api::core::v1::Namespace;
use tokio_util::sync::CancellationToken;

pub use access::AccessConfig;
pub use admission::SecretUseCheck;
pub use authn::{OidcConfig, OidcError, TokenFile, TokenFileError};
pub use certificates::Certificates;
pub use coffer_api::pod_security::Level as PodSecurityLevel;
pub use listen::ClientNetwork;
pub use tls::{KeyPair, TlsError};

use crate::authn::{Authenticator, AuthenticatorError};
use crate::authz::{Authorizer, Permit};
use crate::handlers::Handlers;
use crate::listen::Listeners;
use crate::object::Resources;
use crate::proxy::Kubelets;
use crate::registry::Registry;
use crate::serve::Service;

/// Namespaces every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

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
    /// Who is let in, and as whom.
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
        /// What the system said.
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
    /// The namespaces every cluster has cannot be made.
    #[error("cannot make namespace {name}: {failure}")]
    Namespace {
        /// Which.
        name: &'static str,
        /// Why.
        failure: Failure,
    },
    /// The roles and bindings every cluster has cannot be made.
    #[error("cannot make the default roles: {0}")]
    Roles(Failure),
}

/// A server that listens, not yet accepting.
pub struct Server {
    listeners: Listeners,
    certificates: Certificates,
    handlers: Arc<Handlers>,
    shutdown: CancellationToken,
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
        let mut access = config.access;
        let authenticator = Authenticator::new(&mut access).map_err(|error| match error {
            AuthenticatorError::Key(error) => BuildError::TokenKey(error),
            AuthenticatorError::Oidc(error) => BuildError::Oidc(error),
        })?;
        let address = config.bind;
        let listeners =
            Listeners::bind(address).map_err(|source| BuildError::Bind { address, source })?;
        let resources = Resources::all();
        let cache = cache::Cache::load(config.store.clone(), resources.sources())
            .await
            .map_err(|error| BuildError::Load(error.to_string()))?;
        resources.attach(&cache);
        let cache = Arc::new(cache);
        let authorizer = Authorizer::new(&resources, cache.clone());
        let registry = Registry { store: config.store, cache, resources };
        let shutdown = CancellationToken::new();
        let handlers = Arc::new(Handlers {
            registry,
            authenticator,
            authorizer,
            access,
            quota_turns: Default::default(),
            lanes: Default::default(),
            kubelets: Kubelets(certificates.clone()),
            shutdown: shutdown.clone(),
        });
        Ok(Self { listeners, certificates, handlers, shutdown })
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

    /// The keys of service account tokens, to be exchanged while it runs.
    pub fn token_keys(&self) -> tokens::TokenKeys {
        self.handlers.authenticator.tokens.keys()
    }

    /// The certificates that it shows, to be exchanged while it runs.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listeners.local_addr()
    }

    /// Serves until `shutdown` is cancelled and requests under way have ended.
    ///
    /// # Errors
    /// [`BuildError::Namespace`] where the store refuses the first writes.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), BuildError> {
        let Self { listeners, certificates, handlers, shutdown: own } = self;
        let follower = tokio::spawn({
            let (handlers, stop) = (handlers.clone(), own.clone());
            async move { handlers.registry.cache.follow(stop).await }
        });
        make_namespaces(&handlers).await?;
        authz::rbac::bootstrap::reconcile(&handlers).await.map_err(BuildError::Roles)?;
        let aggregator =
            tokio::spawn(authz::rbac::aggregate::follow(handlers.clone(), own.clone()));
        let sweeper = tokio::spawn({
            let handlers = handlers.clone();
            async move { registry::expire_events(&handlers.registry).await }
        });
        let stalled = tokio::spawn({
            let cache = handlers.registry.cache.clone();
            async move { cache.end_late_watchers().await }
        });
        let service =
            Arc::new(Service { handlers, limits: Default::default(), shutdown: own.clone() });
        let serving = serve::run(listeners, certificates, service);
        tokio::pin!(serving);
        tokio::select! {
            () = shutdown.cancelled() => own.cancel(),
            () = &mut serving => {}
        }
        // Ends at once where it has ended: only then was `own` cancelled by somebody else.
        serving.await;
        sweeper.abort();
        stalled.abort();
        let _ = tokio::join!(follower, aggregator);
        Ok(())
    }
}

/// Makes the namespaces every cluster has. What runs in kube-system is the cluster's own and may ask
/// anything of nodes; a label says so, which an operator may set to something else.
async fn make_namespaces(handlers: &Handlers) -> Result<(), BuildError> {
    let resource = handlers.registry.resources.core("namespaces").clone();
    for name in NAMESPACES {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        let mut object: Box<dyn object::Object> = Box::new(namespace);
        object.set_defaults();
        allow_everything(&mut *object);
        let admitted = handlers
            .admission()
            .create(&Permit::server_itself(), &resource, object)
            .map_err(|failure| BuildError::Namespace { name, failure })?;
        match handlers.registry.create(&resource, admitted, false, None).await {
            Err(failure) if failure.reason == "AlreadyExists" => {
                label_existing(handlers, &resource, name)
                    .await
                    .map_err(|failure| BuildError::Namespace { name, failure })?;
            }
            Err(failure) => return Err(BuildError::Namespace { name, failure }),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Gives kube-system its level where it has none; whether it had none.
fn allow_everything(namespace: &mut dyn object::Object) -> bool {
    let meta = namespace.meta_mut();
    let labels = meta.labels.get_or_insert_default();
    if meta.name.as_deref() != Some("kube-system") || labels.contains_key(pod_security::ENFORCE) {
        return false;
    }
    labels.insert(pod_security::ENFORCE.to_owned(), PodSecurityLevel::Privileged.name().to_owned());
    true
}

/// For data directories from before there was such a label.
async fn label_existing(
    handlers: &Handlers,
    resource: &object::Resource,
    name: &str,
) -> Result<(), Failure> {
    let mut found = resource.parse(&handlers.registry.get(resource, "", name).await?.bytes)?;
    if !allow_everything(&mut *found) {
        return Ok(());
    }
    let change = |old: &dyn object::Object| {
        let mut namespace = resource.parse(&old.encode())?;
        allow_everything(&mut *namespace);
        let permit = Permit::server_itself();
        let object = handlers.admission().update(&permit, resource, namespace, old)?;
        Ok(registry::Change { object, expected: None })
    };
    handlers.registry.update(resource, ("", name), None, false, change).await.map(drop)
}
