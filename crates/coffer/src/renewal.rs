//! The certificates of the cluster's own parts, which are renewed before they expire.
//!
//! A certificate that expires soon is created again on disk, as at a start. The API server then loads its
//! own, clients follow their kubeconfigs, and the kubelet of `coffer up`, a separate process, follows its
//! files. Nothing is restarted and no connection is closed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use coffer_apiserver::{Certificates, KeyPair};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::data_dir::DataDir;
use crate::kubeconfig::Login;
use crate::pki::{Credential, Pki};
use crate::{files, kubeconfig};

/// Certificates are checked this many times during their lifetime, …
const CHECKS: u32 = 100;
/// … and at least this often, …
const CHECK_PERIOD_MAX: Duration = Duration::from_secs(3600);
/// … but not more often than this.
const CHECK_PERIOD_MIN: Duration = Duration::from_millis(50);

/// The node of `coffer up`.
#[derive(Clone, Debug)]
pub(crate) struct OwnNode {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The certificates and kubeconfigs in a data directory, with which the cluster's parts identify
/// themselves to each other.
#[derive(Debug)]
pub(crate) struct ClusterCredentials {
    /// The addresses of the API server.
    addresses: Vec<IpAddr>,
    /// The lifetime of certificates.
    validity: time::Duration,
    /// The node of `coffer up`, if there is one.
    node: Option<OwnNode>,
    pki: PathBuf,
    kubeconfigs: Vec<(&'static str, PathBuf)>,
}

/// The name of the kubelet's kubeconfig.
pub(crate) const KUBELET: &str = "kubelet";
const ADMIN: &str = "kubernetes-admin";
const SCHEDULER: &str = "scheduler";
const CONTROLLER_MANAGER: &str = "controller-manager";

impl ClusterCredentials {
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

    /// The certificate authorities, as they are now.
    pub(crate) fn pki(&self) -> Result<Pki> {
        self.pki_at(OffsetDateTime::now_utc())
    }

    fn pki_at(&self, now: OffsetDateTime) -> Result<Pki> {
        Ok(Pki::open_at(&self.pki, now)?.lasting(self.validity))
    }

    /// The API server's certificates: the serving one, and the one for kubelets with the CA bundle for
    /// theirs.
    pub(crate) fn server(&self, pki: &Pki) -> Result<(KeyPair, (KeyPair, Vec<u8>))> {
        let serving = key_pair(&pki.apiserver(&self.addresses)?);
        let kubelet_client = key_pair(&pki.apiserver_kubelet_client()?);
        Ok((serving, (kubelet_client, pki.kubelet_ca_pem().into_bytes())))
    }

    /// Creates the serving certificate of the node of `coffer up`, unless a valid one exists. To be called
    /// only before the server runs and in [`ClusterCredentials::keep`], so that certificate and key have one
    /// writer at a time; other code reads them from disk.
    pub(crate) fn write_node_certificate(&self, pki: &Pki) -> Result<()> {
        if let Some(node) = &self.node {
            pki.kubelet_server(&self.pki, &node.name, &node.addresses)?;
        }
        Ok(())
    }

    /// Writes the kubeconfigs for a server at `url`, unless they are up to date.
    pub(crate) fn write_kubeconfigs(&self, pki: &Pki, url: &str) -> Result<()> {
        for (part, path) in &self.kubeconfigs {
            let credential = self.credential(pki, part)?;
            let text =
                kubeconfig::render(part, url, pki.ca_pem(), &Login::Certificate(&credential));
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

    /// Renews certificates that expire soon, until `stop`.
    pub(crate) async fn renew_until(
        self,
        server: Certificates,
        url: String,
        stop: CancellationToken,
    ) {
        let period = Duration::try_from(self.validity).unwrap_or(CHECK_PERIOD_MAX) / CHECKS;
        let mut ticks = tokio::time::interval(period.clamp(CHECK_PERIOD_MIN, CHECK_PERIOD_MAX));
        let mut renewal = Renewal { credentials: self, server, url, loaded: None };
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            // Keys are generated and files are synced.
            let outcome = spawn_blocking(move || {
                let outcome = renewal.run();
                (renewal, outcome)
            });
            // An error means that the runtime is shutting down.
            let Ok((same, outcome)) = outcome.await else { return };
            renewal = same;
            if let Err(error) = outcome {
                let error = crate::report::one_line(&error);
                tracing::error!(error, "cannot renew certificates");
            }
        }
    }
}

/// The renewal of a running server's certificates.
struct Renewal {
    credentials: ClusterCredentials,
    server: Certificates,
    url: String,
    /// The two certificates that the server has loaded, if it was by this.
    loaded: Option<[Vec<u8>; 2]>,
}

impl Renewal {
    /// Blocks.
    fn run(&mut self) -> Result<()> {
        let pki = self.credentials.pki()?;
        let (serving, kubelets) = self.credentials.server(&pki)?;
        let present = [serving.cert_pem.clone(), kubelets.0.cert_pem.clone()];
        if self.loaded.as_ref() != Some(&present) {
            self.server.replace(&serving, Some(&kubelets))?;
            self.loaded = Some(present);
        }
        self.credentials.write_node_certificate(&pki)?;
        self.credentials.write_kubeconfigs(&pki, &self.url)
    }
}

fn key_pair(credential: &Credential) -> KeyPair {
    KeyPair {
        cert_pem: credential.cert_pem.clone().into_bytes(),
        key_pem: Zeroizing::new(credential.key_pem.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use super::*;

    const LIFETIME: time::Duration = time::Duration::hours(10);
    const FILES: [&str; 10] = [
        "pki/apiserver.crt",
        "pki/apiserver-kubelet-client.crt",
        "pki/admin.crt",
        "pki/scheduler.crt",
        "pki/controller-manager.crt",
        "pki/kubelet-client.crt",
        "pki/kubelet.crt",
        "admin.kubeconfig",
        "kubeconfig/scheduler.kubeconfig",
        "kubeconfig/kubelet.kubeconfig",
    ];

    /// When a certificate expires.
    fn end_of(path: &Path) -> OffsetDateTime {
        let text = std::fs::read(path).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&text).unwrap();
        pem.parse_x509().unwrap().validity().not_after.to_datetime()
    }

    #[test]
    fn every_certificate_is_renewed_when_less_than_a_fifth_of_its_lifetime_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::lock(&directory.path().join("data")).unwrap();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let node = OwnNode { name: "node".to_owned(), addresses: vec![address] };
        let credentials =
            ClusterCredentials::new(&data, vec![address], LIFETIME, Some(node.clone()));
        let start = OffsetDateTime::now_utc();
        let files_at = |now| {
            let pki = credentials.pki_at(now).unwrap();
            credentials.server(&pki).unwrap();
            credentials.write_node_certificate(&pki).unwrap();
            credentials.write_kubeconfigs(&pki, "https://127.0.0.1:6443").unwrap();
            FILES.map(|name| std::fs::read(data.path().join(name)).unwrap())
        };
        let first = files_at(start);
        assert!(files_at(start + LIFETIME * 0.79) == first, "four fifths are not over");
        let late = start + LIFETIME * 0.81;
        let renewed = files_at(late);
        for ((name, before), after) in FILES.iter().zip(first).zip(renewed) {
            assert_ne!(before, after, "{name}");
        }
        for name in FILES.iter().filter(|name| name.ends_with(".crt")) {
            let end = end_of(&data.path().join(name));
            assert!(end > late + LIFETIME * 0.99, "{name} expires at {end}");
        }
    }
}
