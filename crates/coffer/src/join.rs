//! How a node joins a cluster: it requests its first client certificate with a bootstrap token, and each
//! further one with the certificate before it.
//!
//! The key never leaves the machine: only a certificate signing request and a certificate are sent. The
//! certificate and its key are in the node's kubeconfig, which is replaced atomically.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_api::condition::{Condition as _, ConditionType};
use coffer_api::well_known;
use coffer_controllers::KUBELET_CLIENT;
use coffer_wire::backoff::{Backoff, Limits};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Config};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::kubeconfig::Login;
use crate::pki::Credential;
use crate::{client, files, kubeconfig};

/// How long the cluster may take to approve and sign a request; it may have to be approved by hand.
const SIGNING_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// A request that is approved automatically completes within this time.
const AUTOMATIC_SIGNING_MAX: Duration = Duration::from_secs(10);
/// A certificate is renewed when this part of its lifetime is over.
const RENEW_AT: f64 = 0.8;
/// How long to wait before a failed renewal is retried. Spread: nodes lose the API server together.
const RETRY: Limits = Limits::spread(Duration::from_secs(5), Duration::from_secs(60));
/// Maximum time between checks: clocks are set, machines are suspended.
const CHECK_PERIOD_MAX: Duration = Duration::from_secs(600);

/// A node's kubeconfig, whose certificate is renewed before it expires. Clients follow the file.
pub(crate) struct Membership {
    node: String,
    kubeconfig: PathBuf,
}

impl Membership {
    /// Uses the node's kubeconfig. If it does not exist or its certificate has expired, a new one is
    /// requested with the bootstrap kubeconfig first.
    pub(crate) async fn enter(kubeconfig: &Path, bootstrap: &Path, node: &str) -> Result<Self> {
        if !is_valid(kubeconfig).await {
            tracing::info!(node, "requesting a client certificate from the cluster");
            let config = client::config(bootstrap).await?;
            renew(&config, kubeconfig, node).await.context("cannot join the cluster")?;
        }
        Ok(Self { node: node.to_owned(), kubeconfig: kubeconfig.to_owned() })
    }

    /// Renews the certificate before it expires, until `stop`.
    pub(crate) async fn renew_until(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(RETRY);
        let kept = async {
            loop {
                match self.renew_when_due().await {
                    Ok(wait) => {
                        backoff.reset();
                        tokio::time::sleep(wait).await;
                    }
                    Err(error) => {
                        let error = crate::report::one_line(&error);
                        tracing::warn!(error, "cannot renew the node's certificate, retrying");
                        backoff.wait().await;
                    }
                }
            }
        };
        stop.run_until_cancelled(kept).await;
    }

    /// Renews if it is time; returns how long to wait until the next check.
    async fn renew_when_due(&self) -> Result<Duration> {
        let config = client::config(&self.kubeconfig).await?;
        let (begin, end) = validity(&config).context("the kubeconfig has no certificate")?;
        let due = begin + (end - begin) * RENEW_AT;
        let left = due - OffsetDateTime::now_utc();
        if let Ok(left) = Duration::try_from(left)
            && !left.is_zero()
        {
            return Ok(left.min(CHECK_PERIOD_MAX));
        }
        renew(&config, &self.kubeconfig, &self.node).await?;
        tracing::info!(node = self.node, "renewed the node's certificate");
        Ok(Duration::ZERO)
    }
}

/// Whether a kubeconfig exists and its certificate has not expired.
async fn is_valid(kubeconfig: &Path) -> bool {
    if !kubeconfig.exists() {
        return false;
    }
    let Ok(config) = client::config(kubeconfig).await else { return false };
    validity(&config).is_some_and(|(_, end)| end > OffsetDateTime::now_utc())
}

/// The validity period of the client certificate of a configuration.
fn validity(config: &Config) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let auth = &config.auth_info;
    let pem = match (&auth.client_certificate_data, &auth.client_certificate) {
        (Some(data), _) => STANDARD.decode(data).ok()?,
        (None, Some(path)) => std::fs::read(path).ok()?,
        (None, None) => return None,
    };
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let validity = pem.parse_x509().ok()?.validity().clone();
    Some((validity.not_before.to_datetime(), validity.not_after.to_datetime()))
}

/// Requests a node's certificate with the credentials in `config`, and writes the node's kubeconfig.
async fn renew(config: &Config, kubeconfig: &Path, node: &str) -> Result<()> {
    let user = well_known::user::of_node(node);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user.as_str());
    params.distinguished_name.push(DnType::OrganizationName, well_known::group::NODES);
    let pem = params.serialize_request(&key)?.pem()?;
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("node-csr-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: KUBELET_CLIENT.to_owned(),
            usages: Some(vec!["digital signature".to_owned(), "client auth".to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let requests = Api::<CertificateSigningRequest>::all(client::connecting(config.clone())?);
    let made = requests.create(&PostParams::default(), &request).await?;
    let name = made.metadata.name.unwrap_or_default();
    let decided = tokio::time::timeout(SIGNING_TIMEOUT, outcome(requests, &name))
        .await
        .with_context(|| format!("certificate signing request {name} was not signed in time"))??;
    let status = decided.and_then(|request| request.status).unwrap_or_default();
    let Some(certificate) = status.certificate else {
        bail!("certificate signing request {name} was denied: {}", reason(&status));
    };
    let cert_pem = String::from_utf8(certificate.0).context("the certificate is not PEM")?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    // Both are in the kubeconfig itself.
    let (cert_path, key_path) = (kubeconfig.to_owned(), kubeconfig.to_owned());
    let credential = Credential { cert_pem, key_pem, cert_path, key_path };
    let server = config.cluster_url.to_string();
    let login = Login::Certificate(&credential);
    let text =
        kubeconfig::render(&user, server.trim_end_matches('/'), &client::ca_pem(config)?, &login);
    let path = kubeconfig.to_owned();
    let write = spawn_blocking(move || {
        // It often is in the kubelet's root directory, which the kubelet creates later.
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        files::write_private(&path, text.as_bytes())
    });
    write.await?.with_context(|| format!("cannot write {}", kubeconfig.display()))
}

/// Waits until a request is signed or denied; logs a warning if it has to be approved by hand.
async fn outcome(
    requests: Api<CertificateSigningRequest>,
    name: &str,
) -> Result<Option<CertificateSigningRequest>> {
    let decided = await_condition(requests, name, is_decided);
    tokio::pin!(decided);
    if let Ok(decided) = tokio::time::timeout(AUTOMATIC_SIGNING_MAX, &mut decided).await {
        return Ok(decided?);
    }
    tracing::warn!(
        "certificate signing request {name} is pending; `kubectl describe csr {name}` says why, `kubectl certificate approve {name}` approves it"
    );
    Ok(decided.await?)
}

type Status = k8s_openapi::api::certificates::v1::CertificateSigningRequestStatus;

fn is_decided(request: Option<&CertificateSigningRequest>) -> bool {
    let Some(status) = request.and_then(|request| request.status.as_ref()) else { return false };
    let issued = status.certificate.as_ref().is_some_and(|certificate| !certificate.0.is_empty());
    let ended = [ConditionType::Denied, ConditionType::Failed];
    let mut conditions = status.conditions.iter().flatten();
    issued || conditions.any(|condition| ended.iter().any(|ended| condition.is(*ended)))
}

fn reason(status: &Status) -> String {
    let last = status.conditions.iter().flatten().next_back();
    last.and_then(|condition| condition.message.clone()).unwrap_or_default()
}
