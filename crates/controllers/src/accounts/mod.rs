//! Service accounts: `default` in every namespace, a token Secret for every account, and the CA
//! certificate that their holders check the API server with.

pub mod default_account;
pub mod root_ca;
pub mod tokens;

use coffer_wire::pem;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::manager::Manager;

/// What the controllers must be told, because the API does not say it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The CA certificate of the API server, PEM: what pods check it with. Without it neither
    /// `kube-root-ca.crt` nor the `ca.crt` of token Secrets is written.
    pub root_ca_pem: Option<Vec<u8>>,
}

impl Options {
    /// The CA that this process itself checks the API server with.
    pub fn of_config(config: &kube::Config) -> Self {
        let certificates = config.root_cert.as_deref().unwrap_or_default();
        let all: Vec<u8> =
            certificates.iter().flat_map(|der| pem::encode("CERTIFICATE", der).to_vec()).collect();
        Self { root_ca_pem: (!all.is_empty()).then_some(all) }
    }
}

/// Runs the controllers of service accounts until `shutdown`.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) {
    let mut manager = Manager::new(client);
    register(&mut manager, &options);
    manager.run(shutdown).await;
}

/// Adds the controllers of service accounts to a manager.
pub fn register(manager: &mut Manager, options: &Options) {
    default_account::register(manager);
    tokens::register(manager, options);
    if let Some(pem) = &options.root_ca_pem {
        root_ca::register(manager, pem);
    }
}
