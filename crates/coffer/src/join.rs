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
use clap::Args;
use coffer_api::condition::{Condition as _, ConditionType};
use coffer_api::well_known;
use coffer_controllers::{KUBELET_CLIENT, Signer, SigningAuthority};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Config};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::kubeconfig::Login;
use crate::pki::{self, Credential};
use crate::{client, files, kubeconfig};

/// How long the cluster may take to approve and sign a request; it may have to be approved by hand.
const SIGNING_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// A request that is approved automatically completes within this time.
const AUTOMATIC_SIGNING_MAX: Duration = Duration::from_secs(10);
/// A certificate is renewed when this part of its lifetime is over.
const RENEW_AT: f64 = 0.8;
/// How long to wait before a failed renewal is retried.
const RETRY: Duration = Duration::from_secs(60);
/// Maximum lifetime of a bootstrap token, in hours.
const TTL_HOURS_MAX: i64 = 87_600;
/// Maximum time between checks: clocks are set, machines are suspended.
const CHECK_PERIOD_MAX: Duration = Duration::from_secs(600);

/// Create a bootstrap token, and print a kubeconfig with it for a new node.
#[derive(Debug, Args)]
pub(crate) struct BootstrapOptions {
    /// The kubeconfig of an administrator.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/coffer/admin.kubeconfig")]
    pub(crate) kubeconfig: PathBuf,
    /// Lifetime of the token, such as 24h or 30m.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = ttl)]
    ttl: SignedDuration,
    /// The former flag for the lifetime, in hours.
    #[arg(long, value_name = "HOURS", hide = true, conflicts_with = "ttl")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=TTL_HOURS_MAX))]
    ttl_hours: Option<u32>,
}

impl BootstrapOptions {
    fn ttl(&self) -> SignedDuration {
        self.ttl_hours.map_or(self.ttl, |hours| SignedDuration::from_hours(hours.into()))
    }
}

fn ttl(text: &str) -> Result<SignedDuration, String> {
    let ttl: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    if !ttl.is_positive() || ttl > SignedDuration::from_hours(TTL_HOURS_MAX) {
        return Err(format!("must be greater than 0 and at most {TTL_HOURS_MAX}h"));
    }
    Ok(ttl)
}

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
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let kept = async {
            loop {
                match self.renew_when_due().await {
                    Ok(wait) => tokio::time::sleep(wait).await,
                    Err(error) => {
                        let error = crate::report::one_line(&error);
                        tracing::warn!(error, "cannot renew the node's certificate, retrying");
                        tokio::time::sleep(RETRY).await;
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
    let requests = Api::<CertificateSigningRequest>::all(Client::try_from(config.clone())?);
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
    let text = kubeconfig::render(&user, server.trim_end_matches('/'), &ca_pem(config)?, &login);
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

/// The certificates that a configuration trusts, PEM.
fn ca_pem(config: &Config) -> Result<String> {
    let pem = coffer_controllers::Options::of_config(config).root_ca_pem;
    let pem = pem.context("the kubeconfig has no certificate authority")?;
    String::from_utf8(pem).context("the certificate authority is not PEM")
}

/// The `bootstrap-kubeconfig` verb.
pub(crate) async fn bootstrap(options: BootstrapOptions) -> Result<()> {
    let config = client::config(&options.kubeconfig).await?;
    let (id, secret) = (random(6), random(16));
    let end = Timestamp::now() + options.ttl();
    let object = Zeroizing::new(serde_json::to_vec(&serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("bootstrap-token-{}", id.as_str()) },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": id.as_str(),
            "token-secret": secret.as_str(),
            "expiration": Timestamp::from_second(end.as_second())?.to_string(),
            "usage-bootstrap-authentication": "true",
        },
    }))?);
    let request = http::Request::post("/api/v1/namespaces/kube-system/secrets")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_vec())?;
    let client = Client::try_from(config.clone())?;
    client.request_text(request).await.context("cannot create the token")?;
    let token = Zeroizing::new(format!("{}.{}", id.as_str(), secret.as_str()));
    let server = config.cluster_url.to_string();
    #[expect(clippy::print_stdout, reason = "what the verb is for")]
    {
        let (server, login) = (server.trim_end_matches('/'), Login::Token(&token));
        print!("{}", *kubeconfig::render("bootstrap", server, &ca_pem(&config)?, &login));
    }
    Ok(())
}

/// Letters and digits, as bootstrap tokens have them.
fn random(length: usize) -> Zeroizing<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let character = |_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]);
    Zeroizing::new((0..length).map(character).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: BootstrapOptions,
    }

    #[test]
    fn a_token_lifetime_is_a_bounded_duration_and_the_former_flag_still_works() {
        let ttl = |flags: &[&str]| {
            let line = Line::try_parse_from([&["coffer"], flags].concat());
            line.map(|line| line.options.ttl()).ok()
        };
        assert_eq!(ttl(&[]), Some(SignedDuration::from_hours(24)));
        assert_eq!(ttl(&["--ttl", "90m"]), Some(SignedDuration::from_mins(90)));
        assert_eq!(ttl(&["--ttl-hours", "48"]), Some(SignedDuration::from_hours(48)));
        for flags in [
            &["--ttl", "0s"][..],
            &["--ttl", "-1h"],
            &["--ttl", "87601h"],
            &["--ttl", "soon"],
            &["--ttl-hours", "0"],
            &["--ttl-hours", "4294967295"],
            &["--ttl", "1h", "--ttl-hours", "1"],
        ] {
            assert_eq!(ttl(flags), None, "{flags:?}");
        }
    }
}
