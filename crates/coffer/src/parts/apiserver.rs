//! The API server on the embedded store, with the certificates and kubeconfigs around it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use coffer_apiserver::{Config, Server};
use coffer_store::embedded::{Embedded, Options};
use coffer_store::sealed::Sealed;
use tokio_util::sync::CancellationToken;

use crate::cli::ApiserverOptions;
use crate::data_dir::DataDir;
use crate::reach::{self, Reach};
use crate::renewal::{ClusterCredentials, OwnNode};
use crate::signals;
use crate::token_keys::KeyFollower;

/// A server that listens and is not yet served, and the store under it.
pub(crate) struct ApiServer {
    server: Server,
    store: Embedded,
    keys: KeyFollower,
    credentials: ClusterCredentials,
    address: SocketAddr,
}

/// The API server alone, until a signal.
pub(crate) async fn run(options: ApiserverOptions) -> Result<()> {
    let data = DataDir::lock(&options.data_dir)?;
    let shutdown = signals::shutdown()?;
    coffer_net::descriptors::raise();
    let reach = Reach::of(options.bind_address, options.advertise_address, None);
    let server = ApiServer::build(&options, &data, &reach, None).await?;
    #[expect(clippy::print_stdout, reason = "the line that other programs wait for")]
    {
        println!("apiserver is ready: {}", server.url());
    }
    server.run(shutdown).await
}

impl ApiServer {
    /// Opens the store and the port, and writes the kubeconfigs of the administrator and of the
    /// parts that every cluster has, and of the kubelet if there is a node.
    pub(crate) async fn build(
        options: &ApiserverOptions,
        data: &DataDir,
        reach: &Reach,
        node: Option<OwnNode>,
    ) -> Result<Self> {
        let mut addresses = vec![options.bind_address];
        addresses.extend(reach.pods);
        let credentials =
            ClusterCredentials::new(data, addresses, options.signing.duration(), node);
        let pki = credentials.pki()?;
        let (serving, kubelet_client) = credentials.server(&pki)?;
        let directory = data.store();
        let limits = Options { quota_bytes: options.quota_backend_bytes, ..Options::default() };
        let open = move || Embedded::open(&directory, limits);
        let store = tokio::task::spawn_blocking(open).await??;
        let prefixes = coffer_apiserver::sealed_prefixes();
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        let sealed = Sealed::open(store.clone(), &data.sealing_key(), &prefixes).await?;
        let config = Config {
            bind: SocketAddr::new(options.bind_address, options.secure_port),
            serving,
            client_ca_pem: pki.client_ca_pem().into_bytes(),
            kubelet_client: Some(kubelet_client),
            store: Arc::new(sealed),
            access: options.access.config(&data.pki(), pki.ca_pem().as_bytes())?,
        };
        let mut server = Server::build(config).await?;
        if let Some(network) = reach.network {
            server.serve_network(network)?;
        }
        let key_files = options.access.key_files(&data.pki());
        let keys = KeyFollower::new(key_files, server.token_keys());
        let address = reach::local(server.local_addr()?);
        let built = Self { server, store, keys, credentials, address };
        built.credentials.write_node_certificate(&pki)?;
        built.credentials.write_kubeconfigs(&pki, &built.url())?;
        Ok(built)
    }

    /// Where clients on this machine reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same, as kubeconfigs have it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Serves until `shutdown`, then closes the store.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let stop = shutdown.child_token();
        let url = self.url();
        let keys = tokio::spawn(self.keys.run(stop.clone()));
        let renewal = tokio::spawn(self.credentials.renew_until(
            self.server.certificates(),
            url,
            stop.clone(),
        ));
        let outcome = self.server.run(shutdown).await.context("the API server failed");
        stop.cancel();
        let _ = tokio::join!(keys, renewal);
        self.store.shutdown().await;
        outcome
    }
}
