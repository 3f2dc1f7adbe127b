//! The certificate authorities that sign certificate signing requests, from files.

use std::path::Path;

use anyhow::{Context, Result};
use coffer_controllers::{Signer, SigningAuthority};
use zeroize::Zeroizing;

use crate::pki;

/// The certificate authorities in a `pki` directory.
pub(crate) fn signer_in(directory: &Path) -> Result<Signer> {
    let [clients, kubelets] = pki::signing_files(directory);
    signer((&clients.0, &clients.1), Some((&kubelets.0, &kubelets.1)))
}

/// Certificate authorities from files with a certificate and a key: for client certificates and, optionally,
/// for kubelets' serving certificates.
pub(crate) fn signer(
    clients: (&Path, &Path),
    kubelet_serving: Option<(&Path, &Path)>,
) -> Result<Signer> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path);
        text.map(Zeroizing::new).with_context(|| format!("cannot read {}", path.display()))
    };
    let load = |(certificate, key): (&Path, &Path)| {
        let authority = SigningAuthority::new(&read(certificate)?, &read(key)?);
        authority.with_context(|| certificate.display().to_string())
    };
    Ok(Signer::new(load(clients)?, kubelet_serving.map(load).transpose()?)?)
}
