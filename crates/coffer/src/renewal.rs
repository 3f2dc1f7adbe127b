//! Certificates of the cluster's own parts, exchanged before they end, while everything runs.
//!
//! What is near its end is made anew on disk, as at a start; then the server is told, clients follow
//! their kubeconfigs, and the kubelet beside the server, a process of its own, follows its files.
//! Nothing is restarted and no connection is cut.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use coffer_apiserver::{Certificates, KeyPair};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::data_dir::DataDir;
use crate::pki::{Credential, Pki};
use crate::{files, kubeconfig};

/// Certificates are looked at this often in their time, and no less often than hourly.
const LOOKS: u32 = 100;
const LOOK_MAX: Duration = Duration::from_secs(3600);
const LOOK_MIN: Duration = Duration::from_millis(50);

/// The node of `coffer up`.
#[derive(Clone, Debug)]
pub(crate) struct OwnNode {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// What a server's data directory must have on disk for its parts to know each other.
#[derive(Debug)]
pub(crate) struct Papers {
    /// Addresses that the server is reached at.
    pub(crate) addresses: Vec<IpAddr>,
    /// How long certificates are good for.
    pub(crate) validity: time::Duration,
    /// The node beside the server.
    pub(crate) node: Option<OwnNode>,
    pki: PathBuf,
    kubeconfigs: Vec<(&'static str, PathBuf)>,
}

/// The name of the kubelet's kubeconfig.
pub(crate) const KUBELET: &str = "kubelet";
const ADMIN: &str = "kubernetes-admin";
const SCHEDULER: &str = "scheduler";
const CONTROLLER_MANAGER: &str = "controller-manager";

impl Papers {
    pub(crate) fn new(
        data: &DataDir,
        addresses: Vec<IpAddr>,
        validity: time::Duration,
        node: Option<OwnNode>,
    ) -> Self {
        let mut kubeconfigs = vec![(ADMIN, data.admin_kubeconfig())];
        let parts =
            [SCHEDULER, CONTROLLER_MANAGER].into_iter().chain(node.as_ref().map(|_| KUBELET));
        kubeconfigs.extend(parts.map(|part| (part, data.kubeconfig(part))));
        Self { addresses, validity, node, pki: data.pki(), kubeconfigs }
    }

    /// The authorities, as they are now.
    pub(crate) fn pki(&self) -> Result<Pki> {
        Ok(Pki::open(&self.pki)?.lasting(self.validity))
    }

    /// What the server shows to its clients, and to kubelets.
    pub(crate) fn server(&self, pki: &Pki) -> Result<(KeyPair, (KeyPair, Vec<u8>))> {
        let serving = key_pair(&pki.apiserver(&self.addresses)?);
        let to_kubelets = key_pair(&pki.apiserver_kubelet_client()?);
        Ok((serving, (to_kubelets, pki.kubelet_ca_pem().into_bytes())))
    }

    /// Makes what the node beside the server shows, unless it stands already. Before the server runs
    /// and in [`Papers::keep`] only: certificate and key have one writer at a time, and whoever else
    /// needs them finds them there.
    pub(crate) fn write_node_certificate(&self, pki: &Pki) -> Result<()> {
        if let Some(node) = &self.node {
            pki.kubelet_server(&self.pki, &node.name, &node.addresses)?;
        }
        Ok(())
    }

    /// Writes the kubeconfigs for a server at `url` unless they stand already.
    pub(crate) fn write_kubeconfigs(&self, pki: &Pki, url: &str) -> Result<()> {
        for (part, path) in &self.kubeconfigs {
            let credential = self.credential(pki, part)?;
            let text = kubeconfig::render(part, url, pki.ca_pem(), &credential);
            if std::fs::read(path)
                .is_ok_and(|bytes| Zeroizing::new(bytes).as_slice() == text.as_bytes())
            {
                continue;
            }
            let directory = path.parent().map_or(Ok(()), files::private_directory);
            directory
                .and_then(|()| files::write_private(path, text.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn credential(&self, pki: &Pki, part: &str) -> Result<Credential> {
        Ok(match (part, &self.node) {
            (KUBELET, Some(node)) => pki.kubelet_client(&node.name)?,
            (SCHEDULER, _) => pki.scheduler()?,
            (CONTROLLER_MANAGER, _) => pki.controller_manager()?,
            _ => pki.admin()?,
        })
    }

    /// Renews what is near its end, for as long as the server runs.
    pub(crate) async fn keep(self, server: Certificates, url: String, stop: CancellationToken) {
        let part = Duration::try_from(self.validity).unwrap_or(LOOK_MAX) / LOOKS;
        let mut ticks = tokio::time::interval(part.clamp(LOOK_MIN, LOOK_MAX));
        let mut shown = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.renew(&server, &url, &mut shown) {
                let error = format!("{error:#}");
                tracing::error!(error, "certificates are not renewed");
            }
        }
    }

    /// `shown` are the two certificates that the server shows.
    fn renew(
        &self,
        server: &Certificates,
        url: &str,
        shown: &mut Option<[Vec<u8>; 2]>,
    ) -> Result<()> {
        let pki = self.pki()?;
        let (serving, kubelets) = self.server(&pki)?;
        let now = [serving.cert_pem.clone(), kubelets.0.cert_pem.clone()];
        if shown.as_ref() != Some(&now) {
            server.replace(&serving, Some(&kubelets))?;
            *shown = Some(now);
        }
        self.write_node_certificate(&pki)?;
        self.write_kubeconfigs(&pki, url)
    }
}

fn key_pair(credential: &Credential) -> KeyPair {
    KeyPair {
        cert_pem: credential.cert_pem.clone().into_bytes(),
        key_pem: Zeroizing::new(credential.key_pem.as_bytes().to_vec()),
    }
}
