//! Keys and certificates: who in the cluster can prove to be whom.
//!
//! There are two authorities. `ca` signs the server's certificate, the kubelet's serving
//! certificate and every client of the API. `kubelet-client-ca` signs one certificate only, the one
//! that the API server shows to kubelets, and is the only authority that kubelets trust for
//! clients. So that nobody but the API server reaches a kubelet's exec and logs is a matter of
//! signatures: a kubelet cannot be persuaded by a certificate that is good for the API, whatever
//! its name or group, and no check of names can be forgotten.
//!
//! Everything lies in one directory with kubeadm's file names, is made at the first start, kept at
//! later ones, and made anew when it is near its end or no longer says what it should; see `renewal`
//! for who looks.

mod authority;
mod credential;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};

pub(crate) use authority::Authority;
pub(crate) use credential::{Credential, Profile, Usage, VALIDITY};

use crate::files;

/// The group whose members may do everything.
const SYSTEM_MASTERS: &str = "system:masters";

/// Why there is no certificate. No variant holds key material.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    #[error("cannot {action} {path}")]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is not usable: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("cannot make {what}: {reason}")]
    Make { what: String, reason: String },
}

/// The authorities of one cluster, and the directory of what they have signed.
pub(crate) struct Pki {
    directory: PathBuf,
    cluster: Authority,
    kubelet_clients: Authority,
    now: OffsetDateTime,
    validity: Duration,
}

impl Pki {
    /// Loads the authorities, or makes them at the first start.
    pub(crate) fn open(directory: &Path) -> Result<Self, PkiError> {
        Self::open_at(directory, OffsetDateTime::now_utc())
    }

    fn open_at(directory: &Path, now: OffsetDateTime) -> Result<Self, PkiError> {
        private_directory(directory)?;
        let authority = |stem, name| Authority::load_or_make(directory, stem, name, now);
        Ok(Self {
            cluster: authority("ca", "kubernetes")?,
            kubelet_clients: authority("kubelet-client-ca", "coffer-kubelet-clients")?,
            directory: directory.to_owned(),
            now,
            validity: VALIDITY,
        })
    }

    /// The same with another time that certificates are good for.
    #[must_use]
    pub(crate) fn lasting(self, validity: Duration) -> Self {
        Self { validity, ..self }
    }

    /// What certificates of the API server, the kubelets and all clients are checked against.
    pub(crate) fn ca_pem(&self) -> &str {
        self.cluster.cert_pem()
    }

    /// What kubelets check their clients against.
    pub(crate) fn kubelet_client_ca_path(&self) -> &Path {
        self.kubelet_clients.cert_path()
    }

    /// The API server's certificate for HTTPS, good for the names that clients in and around a
    /// cluster use, and for `addresses`.
    pub(crate) fn apiserver(&self, addresses: &[IpAddr]) -> Result<Credential, PkiError> {
        let mut names: Vec<String> = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "127.0.0.1",
            "::1",
            // The address that upstream gives the service `kubernetes`; nothing else may have it.
            "10.96.0.1",
        ]
        .map(str::to_owned)
        .into();
        let named = addresses.iter().filter(|address| !address.is_unspecified());
        names.extend(named.map(IpAddr::to_string));
        self.cluster_signed("apiserver", "kube-apiserver", None, Usage::Server(names))
    }

    /// What the API server shows to kubelets.
    pub(crate) fn apiserver_kubelet_client(&self) -> Result<Credential, PkiError> {
        let profile = Profile {
            stem: "apiserver-kubelet-client",
            common_name: "kube-apiserver-kubelet-client".to_owned(),
            organization: Some(SYSTEM_MASTERS),
            usage: Usage::Client,
            validity: self.validity,
        };
        profile.load_or_make(&self.directory, &self.kubelet_clients, self.now)
    }

    /// The administrator.
    pub(crate) fn admin(&self) -> Result<Credential, PkiError> {
        self.cluster_signed("admin", "kubernetes-admin", Some(SYSTEM_MASTERS), Usage::Client)
    }

    /// The scheduler, as a client of the API.
    pub(crate) fn scheduler(&self) -> Result<Credential, PkiError> {
        self.cluster_signed("scheduler", "system:kube-scheduler", None, Usage::Client)
    }

    /// The controllers, as a client of the API.
    pub(crate) fn controller_manager(&self) -> Result<Credential, PkiError> {
        let name = "system:kube-controller-manager";
        self.cluster_signed("controller-manager", name, None, Usage::Client)
    }

    /// A node's kubelet, as a client of the API.
    pub(crate) fn kubelet_client(&self, node: &str) -> Result<Credential, PkiError> {
        let name = format!("system:node:{node}");
        self.cluster_signed("kubelet-client", &name, Some("system:nodes"), Usage::Client)
    }

    /// A node's kubelet, as a server. Its files lie in `directory`: several nodes may share the
    /// authorities, each has its own key.
    pub(crate) fn kubelet_server(
        &self,
        directory: &Path,
        node: &str,
        addresses: &[IpAddr],
    ) -> Result<Credential, PkiError> {
        private_directory(directory)?;
        let mut names = vec![node.to_owned(), "localhost".to_owned()];
        names.extend(addresses.iter().map(IpAddr::to_string));
        let profile = Profile {
            stem: "kubelet",
            common_name: format!("system:node:{node}"),
            organization: Some("system:nodes"),
            usage: Usage::Server(names),
            validity: self.validity,
        };
        profile.load_or_make(directory, &self.cluster, self.now)
    }

    fn cluster_signed(
        &self,
        stem: &'static str,
        common_name: &str,
        organization: Option<&'static str>,
        usage: Usage,
    ) -> Result<Credential, PkiError> {
        let (common_name, validity) = (common_name.to_owned(), self.validity);
        let profile = Profile { stem, common_name, organization, usage, validity };
        profile.load_or_make(&self.directory, &self.cluster, self.now)
    }
}

fn private_directory(path: &Path) -> Result<(), PkiError> {
    files::private_directory(path).map_err(|source| PkiError::File {
        action: "make directory",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn a_second_start_keeps_every_key() {
        let directory = tempfile::tempdir().unwrap();
        let first = Pki::open(directory.path()).unwrap();
        let again = Pki::open(directory.path()).unwrap();
        assert_eq!(first.ca_pem(), again.ca_pem());
        assert_eq!(first.kubelet_clients.cert_pem(), again.kubelet_clients.cert_pem());
        let both = |of: fn(&Pki) -> Credential| (of(&first).cert_pem, of(&again).cert_pem);
        for (before, after) in [
            both(|pki| pki.apiserver(&[ADDRESS]).unwrap()),
            both(|pki| pki.apiserver_kubelet_client().unwrap()),
            both(|pki| pki.admin().unwrap()),
            both(|pki| pki.kubelet_server(&pki.directory, "node", &[ADDRESS]).unwrap()),
        ] {
            assert_eq!(before, after);
        }
    }

    #[test]
    fn nobody_but_the_owner_can_read_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pki");
        Pki::open(&path).unwrap().admin().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for entry in path.read_dir().unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }
    }

    /// A year after the first start nobody remembers that there are certificates.
    #[test]
    fn a_certificate_near_its_end_is_made_anew_by_the_same_authority() {
        let directory = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let of = |pki: &Pki| pki.admin().unwrap().cert_pem;
        let first = Pki::open_at(directory.path(), now).unwrap();
        let original = of(&first);
        let later = Pki::open_at(directory.path(), now + Duration::days(200)).unwrap();
        assert_eq!(of(&later), original);
        let late = Pki::open_at(directory.path(), now + Duration::days(340)).unwrap();
        assert_eq!(late.ca_pem(), first.ca_pem());
        assert_ne!(of(&late), original);
    }

    #[test]
    fn a_new_address_makes_a_new_serving_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let here = pki.apiserver(&[ADDRESS]).unwrap().cert_pem;
        assert_eq!(pki.apiserver(&[ADDRESS]).unwrap().cert_pem, here);
        let elsewhere = pki.apiserver(&["192.0.2.8".parse().unwrap()]).unwrap().cert_pem;
        assert_ne!(elsewhere, here);
    }

    /// A crash between the two renames of a renewal leaves a new key beside an old certificate.
    #[test]
    fn a_key_that_does_not_fit_its_certificate_is_replaced_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let before = pki.admin().unwrap();
        let other = pki.scheduler().unwrap();
        files::write_private(&directory.path().join("admin.key"), other.key_pem.as_bytes())
            .unwrap();
        let after = pki.admin().unwrap();
        assert_ne!(after.cert_pem, before.cert_pem);
        assert_ne!(*after.key_pem, *other.key_pem);
    }

    #[test]
    fn a_lost_authority_key_is_an_error_and_never_a_new_authority() {
        let directory = tempfile::tempdir().unwrap();
        Pki::open(directory.path()).unwrap();
        std::fs::remove_file(directory.path().join("ca.key")).unwrap();
        let error = Pki::open(directory.path()).err().unwrap().to_string();
        assert!(error.contains("ca.key"), "{error}");
    }

    #[test]
    fn what_the_api_server_shows_to_kubelets_is_not_signed_for_the_api() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let shown = pki.apiserver_kubelet_client().unwrap();
        assert!(pki.kubelet_clients.has_signed(&shown.cert_pem));
        assert!(!pki.cluster.has_signed(&shown.cert_pem));
        assert!(!pki.kubelet_clients.has_signed(&pki.admin().unwrap().cert_pem));
    }
}
