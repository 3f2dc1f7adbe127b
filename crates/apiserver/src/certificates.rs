//! The certificates that a running server presents, replaced while it runs: connections made from then on
//! see the new ones, those that are open go on.

use parking_lot::RwLock;
use std::sync::Arc;

use crate::tls::{self, KeyPair, TlsError};

/// The certificate shown to kubelets, and the CA theirs must be signed by, PEM.
type KubeletClient = (KeyPair, Vec<u8>);

/// Replaces the certificates of a running server.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    client_ca_pem: Vec<u8>,
    state: RwLock<State>,
}

#[derive(Clone)]
struct State {
    serving: Arc<rustls::ServerConfig>,
    kubelets: Option<Arc<rustls::ClientConfig>>,
}

impl State {
    fn new(
        serving: &KeyPair,
        client_ca_pem: &[u8],
        kubelets: Option<&KubeletClient>,
    ) -> Result<Self, TlsError> {
        let kubelets =
            kubelets.map(|(pair, ca)| tls::kubelet_client_config(pair, ca)).transpose()?;
        Ok(Self { serving: tls::server_config(serving, client_ca_pem)?, kubelets })
    }
}

impl Certificates {
    pub(crate) fn new(
        serving: &KeyPair,
        client_ca_pem: Vec<u8>,
        kubelets: Option<&KubeletClient>,
    ) -> Result<Self, TlsError> {
        let state = RwLock::new(State::new(serving, &client_ca_pem, kubelets)?);
        Ok(Self(Arc::new(Inner { client_ca_pem, state })))
    }

    /// Presents these from here on. The CA of client certificates does not change.
    ///
    /// # Errors
    /// [`TlsError`]; the ones in use stay then.
    pub fn replace(
        &self,
        serving: &KeyPair,
        kubelets: Option<&KubeletClient>,
    ) -> Result<(), TlsError> {
        let state = State::new(serving, &self.0.client_ca_pem, kubelets)?;
        *self.0.state.write() = state;
        Ok(())
    }

    fn current(&self) -> State {
        self.0.state.read().clone()
    }

    /// How connections are accepted now.
    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.current().serving.into()
    }

    /// How kubelets are dialled now; `None` where this server has no certificate for them.
    pub(crate) fn kubelets(&self) -> Option<Arc<rustls::ClientConfig>> {
        self.current().kubelets
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates(..)")
    }
}
