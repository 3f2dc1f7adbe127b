//! Keys and certificates of the cluster.
//!
//! There are four certificate authorities, one for each purpose:
//!
//! ```text
//! ca                  the API server's serving certificate   verified by clients, kubelets, pods
//! client-ca           client certificates (users)            verified by the API server
//! kubelet-ca          kubelets' serving certificates         verified by the API server
//! kubelet-client-ca   the API server as a kubelet's client   verified by kubelets
//! ```
//!
//! A certificate of one authority is not valid for the purpose of another, whatever names, groups and
//! usages it has: neither a client certificate nor a kubelet's serving certificate can impersonate the API
//! server, and only the API server reaches a kubelet's exec and logs. This does not depend on checks of
//! names, so none can be forgotten.
//!
//! In data directories of earlier versions a single `ca` signed for the first three purposes. It stays the
//! API server's, so that copied kubeconfigs keep working, and a copy of its certificate in `ca-accepted`
//! makes clients and kubelets with certificates from it acceptable until they have new ones or the copy is
//! removed. It signs no more of them.
//!
//! All files are in one directory. They are created at the first start, kept at later ones, and renewed when
//! they expire soon or when their content should change; see `renewal`.

mod authority;
mod credential;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use coffer_api::well_known::user;
use rustix::fs::{FlockOperation, flock};
use time::{Duration, OffsetDateTime};

pub(crate) use authority::Authority;
pub(crate) use credential::{Credential, Profile, Usage, VALIDITY};

use self::authority::{read_if_there, write};
use crate::files;

/// The subdirectory of certificates of authorities that are accepted but no longer sign.
const ACCEPTED: &str = "ca-accepted";
/// The name of the API server's authority.
const SERVER: &str = "ca";
/// The name of the authority of the API's clients.
const CLIENTS: &str = "client-ca";
/// The name of the authority of kubelets' serving certificates.
const KUBELETS: &str = "kubelet-ca";
/// The group whose members may do everything.
const SYSTEM_MASTERS: &str = coffer_api::well_known::group::MASTERS;
/// The group of nodes.
const SYSTEM_NODES: &str = coffer_api::well_known::group::NODES;

/// Why a certificate cannot be read or created. No variant contains key material.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    #[error("cannot {action} {path}")]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot use {path}: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("cannot create {what}: {reason}")]
    Make { what: String, reason: String },
}

/// The authorities of one cluster, and the directory of what they have signed.
pub(crate) struct Pki {
    directory: PathBuf,
    server: Authority,
    clients: Authority,
    kubelets: Authority,
    kubelet_clients: Authority,
    /// CA bundle (PEM) of earlier authorities whose certificates clients and kubelets may still have.
    accepted_pem: String,
    now: OffsetDateTime,
    validity: Duration,
}

impl Pki {
    /// Loads the authorities, or makes them at the first start.
    pub(crate) fn open(directory: &Path) -> Result<Self, PkiError> {
        Self::open_at(directory, OffsetDateTime::now_utc())
    }

    /// The same at a given time: certificates that expire soon after `now` are renewed.
    pub(crate) fn open_at(directory: &Path, now: OffsetDateTime) -> Result<Self, PkiError> {
        private_directory(directory)?;
        let _lock = lock(directory)?;
        accept_earlier(directory)?;
        let authority = |stem, name| Authority::load_or_make(directory, stem, name, now);
        Ok(Self {
            // This one first: a directory that has the others but not this one is of an earlier version.
            clients: authority(CLIENTS, "coffer-clients")?,
            server: authority(SERVER, "kubernetes")?,
            kubelets: authority(KUBELETS, "coffer-kubelets")?,
            kubelet_clients: authority("kubelet-client-ca", "coffer-kubelet-clients")?,
            accepted_pem: accepted(directory)?,
            directory: directory.to_owned(),
            now,
            validity: VALIDITY,
        })
    }

    /// The same with another lifetime of certificates.
    #[must_use]
    pub(crate) fn lasting(self, validity: Duration) -> Self {
        Self { validity, ..self }
    }

    /// CA bundle for the API server's serving certificate.
    pub(crate) fn ca_pem(&self) -> &str {
        self.server.cert_pem()
    }

    /// CA bundle for client certificates.
    pub(crate) fn client_ca_pem(&self) -> String {
        format!("{}{}", self.clients.cert_pem(), self.accepted_pem)
    }

    /// CA bundle for kubelets' serving certificates.
    pub(crate) fn kubelet_ca_pem(&self) -> String {
        format!("{}{}", self.kubelets.cert_pem(), self.accepted_pem)
    }

    /// The file with the CA bundle for kubelets' clients.
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
        let profile = self.profile("apiserver", "kube-apiserver", None, Usage::Server(names));
        profile.load_or_make(&self.directory, &self.server, self.now)
    }

    /// The API server's client certificate for kubelets.
    pub(crate) fn apiserver_kubelet_client(&self) -> Result<Credential, PkiError> {
        let name = "kube-apiserver-kubelet-client";
        let group = Some(SYSTEM_MASTERS);
        let profile = self.profile("apiserver-kubelet-client", name, group, Usage::Client);
        profile.load_or_make(&self.directory, &self.kubelet_clients, self.now)
    }

    /// The administrator.
    pub(crate) fn admin(&self) -> Result<Credential, PkiError> {
        self.client("admin", "kubernetes-admin", Some(SYSTEM_MASTERS))
    }

    /// The scheduler, as a client of the API.
    pub(crate) fn scheduler(&self) -> Result<Credential, PkiError> {
        self.client("scheduler", user::KUBE_SCHEDULER, None)
    }

    /// The controllers, as a client of the API.
    pub(crate) fn controller_manager(&self) -> Result<Credential, PkiError> {
        self.client("controller-manager", user::KUBE_CONTROLLER_MANAGER, None)
    }

    /// A node's kubelet, as a client of the API.
    pub(crate) fn kubelet_client(&self, node: &str) -> Result<Credential, PkiError> {
        self.client("kubelet-client", &user::of_node(node), Some(SYSTEM_NODES))
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
        let (name, usage) = (user::of_node(node), Usage::Server(names));
        let profile = self.profile("kubelet", &name, Some(SYSTEM_NODES), usage);
        profile.load_or_make(directory, &self.kubelets, self.now)
    }

    /// A client of the API.
    fn client(
        &self,
        stem: &'static str,
        user: &str,
        group: Option<&'static str>,
    ) -> Result<Credential, PkiError> {
        let profile = self.profile(stem, user, group, Usage::Client);
        profile.load_or_make(&self.directory, &self.clients, self.now)
    }

    fn profile(
        &self,
        stem: &'static str,
        common_name: &str,
        organization: Option<&'static str>,
        usage: Usage,
    ) -> Profile {
        let (common_name, validity) = (common_name.to_owned(), self.validity);
        Profile { stem, common_name, organization, usage, validity }
    }
}

/// The certificates and keys of the authorities that sign certificate signing requests: for client
/// certificates and for kubelets' serving certificates.
pub(crate) fn signing_files(directory: &Path) -> [(PathBuf, PathBuf); 2] {
    [CLIENTS, KUBELETS]
        .map(|stem| (directory.join(format!("{stem}.crt")), directory.join(format!("{stem}.key"))))
}

/// Locks the directory until the file is dropped: a server and a kubelet that start at the same time would
/// each create authorities.
fn lock(directory: &Path) -> Result<std::fs::File, PkiError> {
    let lock = || {
        let file = std::fs::File::open(directory)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    };
    lock().map_err(|source| PkiError::File { action: "lock", path: directory.to_owned(), source })
}

/// Accepts certificates of a directory's single authority of an earlier version, before the others are
/// created.
fn accept_earlier(directory: &Path) -> Result<(), PkiError> {
    let path = |stem: &str| directory.join(format!("{stem}.crt"));
    let Some(earlier) = read_if_there(&path(SERVER))? else { return Ok(()) };
    if path(CLIENTS).exists() {
        return Ok(());
    }
    let accepted = directory.join(ACCEPTED);
    private_directory(&accepted)?;
    tracing::warn!(
        directory = %accepted.display(),
        "creating separate certificate authorities for clients and kubelets; certificates of the earlier authority stay accepted"
    );
    write(&accepted.join(format!("{SERVER}.crt")), earlier.as_bytes())
}

/// The certificates in [`ACCEPTED`], one after the other.
fn accepted(directory: &Path) -> Result<String, PkiError> {
    let path = directory.join(ACCEPTED);
    let unreadable = |source| PkiError::File { action: "read", path: path.clone(), source };
    let entries = match path.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        // A file that is being written has another extension.
        if path.extension().is_some_and(|extension| extension == "crt") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut all = String::new();
    for path in paths {
        all.push_str(&read_if_there(&path)?.unwrap_or_default());
    }
    Ok(all)
}

fn private_directory(path: &Path) -> Result<(), PkiError> {
    files::private_directory(path).map_err(|source| PkiError::File {
        action: "create directory",
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
        assert_eq!(first.client_ca_pem(), again.client_ca_pem());
        assert_eq!(first.kubelet_ca_pem(), again.kubelet_ca_pem());
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
    fn only_the_owner_can_read_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pki");
        Pki::open(&path).unwrap().admin().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for entry in path.read_dir().unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }
    }

    /// A year after the first start the certificates must not expire unnoticed.
    #[test]
    fn a_certificate_that_expires_soon_is_renewed_by_the_same_authority() {
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

    /// A crash between the two renames of a renewal leaves a new key with an old certificate.
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
        for name in ["ca.key", "client-ca.key", "kubelet-ca.key", "kubelet-client-ca.key"] {
            let (path, aside) = (directory.path().join(name), directory.path().join("aside"));
            std::fs::rename(&path, &aside).unwrap();
            let error = Pki::open(directory.path()).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
            std::fs::rename(&aside, &path).unwrap();
        }
    }

    /// Each authority has signed its own and nothing that another one's trust is for.
    #[test]
    fn what_one_authority_has_signed_no_other_has() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let all = [&pki.server, &pki.clients, &pki.kubelets, &pki.kubelet_clients];
        let signed = |credential: Credential| {
            all.map(|authority| authority.has_signed(&credential.cert_pem))
        };
        let clients =
            [pki.admin(), pki.scheduler(), pki.controller_manager(), pki.kubelet_client("n")];
        for client in clients {
            assert_eq!(signed(client.unwrap()), [false, true, false, false]);
        }
        assert_eq!(signed(pki.apiserver(&[]).unwrap()), [true, false, false, false]);
        let serving = pki.kubelet_server(directory.path(), "n", &[ADDRESS]).unwrap();
        assert_eq!(signed(serving), [false, false, true, false]);
        let shown = pki.apiserver_kubelet_client().unwrap();
        assert_eq!(signed(shown), [false, false, false, true]);
        assert_eq!(pki.client_ca_pem(), pki.clients.cert_pem());
        assert_eq!(pki.kubelet_ca_pem(), pki.kubelets.cert_pem());
    }

    /// A data directory of a version with a single authority.
    #[test]
    fn certificates_of_the_single_earlier_authority_are_accepted_until_its_copy_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let now = OffsetDateTime::now_utc();
        let earlier = Authority::load_or_make(path, SERVER, "kubernetes", now).unwrap();
        let before = earlier.cert_pem().to_owned();
        let pki = Pki::open(path).unwrap();
        assert_eq!(pki.ca_pem(), before);
        let accepted = |pki: &Pki| {
            [pki.client_ca_pem(), pki.kubelet_ca_pem()].map(|all| all.contains(&before))
        };
        assert_eq!(accepted(&pki), [true, true]);
        assert!(!earlier.has_signed(&pki.admin().unwrap().cert_pem));
        assert_eq!(accepted(&Pki::open(path).unwrap()), [true, true], "a second start");
        std::fs::remove_file(path.join(ACCEPTED).join("ca.crt")).unwrap();
        assert_eq!(accepted(&Pki::open(path).unwrap()), [false, false]);
    }
}
