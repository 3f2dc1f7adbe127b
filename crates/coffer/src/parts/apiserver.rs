//! The API server on the embedded store, with the certificates and kubeconfigs around it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use coffer_apiserver::{Config, KeyPair, Server};
use coffer_store::embedded::{Embedded, Options};
use coffer_store::sealed::Sealed;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::access::KeyFollower;
use crate::cli::ApiserverOptions;
use crate::data_dir::DataDir;
use crate::pki::{Credential, Pki};
use crate::reach::{self, Reach};
use crate::{files, kubeconfig, signals};

/// What is sealed before it reaches the disk.
const SEALED_PREFIXES: &[&str] = &["/registry/secrets/"];

/// A server that listens and is not yet served, and the store under it.
pub(crate) struct ApiServer {
    server: Server,
    store: Embedded,
    keys: KeyFollower,
    address: SocketAddr,
}

/// The API server alone, until a signal.
pub(crate) async fn run(options: ApiserverOptions) -> Result<()> {
    let data = DataDir::hold(&options.data_dir)?;
    let shutdown = signals::shutdown()?;
    let pki = Pki::open(&data.pki())?;
    let reach = Reach::of(options.bind_address, options.advertise_address, None);
    let server = ApiServer::build(&options, &data, &pki, &reach).await?;
    server.write_kubeconfigs(&data, &pki)?;
    #[expect(clippy::print_stdout, reason = "the line that other programs wait for")]
    {
        println!("apiserver is ready: {}", server.url());
    }
    server.run(shutdown).await
}

impl ApiServer {
    /// Opens the store and the port.
    pub(crate) async fn build(
        options: &ApiserverOptions,
        data: &DataDir,
        pki: &Pki,
        reach: &Reach,
    ) -> Result<Self> {
        let directory = data.store();
        let open = move || Embedded::open(&directory, Options::default());
        let store = tokio::task::spawn_blocking(open).await??;
        let sealed = Sealed::open(store.clone(), &data.sealing_key(), SEALED_PREFIXES).await?;
        let mut addresses = vec![options.bind_address];
        addresses.extend(reach.pods);
        let config = Config {
            bind: SocketAddr::new(options.bind_address, options.secure_port),
            serving: key_pair(pki.apiserver(&addresses)?),
            client_ca_pem: pki.ca_pem().as_bytes().to_vec(),
            kubelet_client: Some((
                key_pair(pki.apiserver_kubelet_client()?),
                pki.ca_pem().as_bytes().to_vec(),
            )),
            store: Arc::new(sealed),
            access: options.access.config(&data.pki(), pki.ca_pem().as_bytes())?,
        };
        let mut server = Server::build(config).await?;
        if let Some(network) = reach.network {
            server.serve_network(network)?;
        }
        let keys = KeyFollower::new(&options.access, data.pki(), server.token_keys());
        let address = reach::local(server.local_addr()?);
        Ok(Self { server, store, keys, address })
    }

    /// Where clients on this machine reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same, as kubeconfigs have it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Writes the kubeconfigs of the administrator and of the parts that every cluster has.
    pub(crate) fn write_kubeconfigs(&self, data: &DataDir, pki: &Pki) -> Result<()> {
        let admin = pki.admin()?;
        let text = kubeconfig::render("kubernetes-admin", &self.url(), pki.ca_pem(), &admin);
        let path = data.admin_kubeconfig();
        files::write_private(&path, text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.write_kubeconfig(data, pki, "scheduler", &pki.scheduler()?)?;
        self.write_kubeconfig(data, pki, "controller-manager", &pki.controller_manager()?)
    }

    /// Writes the kubeconfig of one part.
    pub(crate) fn write_kubeconfig(
        &self,
        data: &DataDir,
        pki: &Pki,
        part: &str,
        credential: &Credential,
    ) -> Result<()> {
        let path = data.kubeconfig(part);
        let text = kubeconfig::render(part, &self.url(), pki.ca_pem(), credential);
        path.parent()
            .map_or(Ok(()), files::private_directory)
            .and_then(|()| files::write_private(&path, text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Serves until `shutdown`, then closes the store.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let stop = shutdown.child_token();
        let keys = tokio::spawn(self.keys.run(stop.clone()));
        let outcome = self.server.run(shutdown).await.context("the API server failed");
        stop.cancel();
        let _ = keys.await;
        self.store.shutdown().await;
        outcome
    }
}

fn key_pair(credential: Credential) -> KeyPair {
    KeyPair {
        cert_pem: credential.cert_pem.into_bytes(),
        key_pem: Zeroizing::new(credential.key_pem.as_bytes().to_vec()),
    }
}
