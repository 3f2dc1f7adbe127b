//! How a node becomes a member of a cluster and stays one: a bootstrap token gets it a certificate,
//! that certificate the next.
//!
//! The key never leaves the machine: what travels is a request signed with it, and a certificate.
//! The certificate and key are kept in the node's kubeconfig, which is replaced as a whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use coffer_controllers::{KUBELET_CLIENT, Signer, SigningAuthority};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Config};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::pki::{self, Credential};
use crate::{files, kubeconfig, parts};

/// How long the cluster may take to approve and sign. People may have to.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// A request that is approved automatically is answered sooner than this.
const ANSWER_SOON: Duration = Duration::from_secs(10);
/// A new certificate is asked for when this part of the present one's life is over.
const ROTATE_AT: f64 = 0.8;
/// How long to wait before asking again after a rotation failed.
const RETRY: Duration = Duration::from_secs(60);
/// Longest sleep at a time: clocks are set, machines are suspended.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// Makes a bootstrap token, and prints the kubeconfig that a new node joins with.
#[derive(Debug, Args)]
pub(crate) struct BootstrapOptions {
    /// The kubeconfig of an administrator.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/coffer/admin.kubeconfig")]
    pub(crate) kubeconfig: PathBuf,
    /// How long the token is good for, in hours.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub(crate) ttl_hours: u32,
}

/// The authorities whose files are in a directory of keys.
pub(crate) fn signer_in(directory: &Path) -> Result<Signer> {
    let [clients, kubelets] = pki::signing_files(directory);
    signer((&clients.0, &clients.1), Some((&kubelets.0, &kubelets.1)))
}

/// The authorities of a certificate and a key each: the one for clients, and, if there is one, the
/// one for what kubelets serve with.
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

/// A node's kubeconfig, whose certificate is exchanged in time. Clients follow the file.
pub(crate) struct Membership {
    node: String,
    kubeconfig: PathBuf,
}

impl Membership {
    /// Uses the node's kubeconfig; one that is not there, or whose certificate has ended, is made
    /// with the bootstrap kubeconfig first.
    pub(crate) async fn enter(kubeconfig: &Path, bootstrap: &Path, node: &str) -> Result<Self> {
        if !is_good(kubeconfig).await {
            tracing::info!(node, "asking the cluster for a certificate");
            let config = parts::config(bootstrap).await?;
            renew(&config, kubeconfig, node).await.context("cannot join the cluster")?;
        }
        Ok(Self { node: node.to_owned(), kubeconfig: kubeconfig.to_owned() })
    }

    /// Exchanges the certificate in time, until `stop`.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let kept = async {
            loop {
                match self.rotate_when_due().await {
                    Ok(wait) => tokio::time::sleep(wait).await,
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::warn!(error, "the node's certificate is not exchanged yet");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(kept).await;
    }

    /// Rotates if it is time; answers how long to wait before looking again.
    async fn rotate_when_due(&self) -> Result<Duration> {
        let config = parts::config(&self.kubeconfig).await?;
        let (begin, end) = validity(&config).context("the kubeconfig has no certificate")?;
        let due = begin + (end - begin) * ROTATE_AT;
        let left = due - OffsetDateTime::now_utc();
        if let Ok(left) = Duration::try_from(left)
            && !left.is_zero()
        {
            return Ok(left.min(LOOK_AGAIN));
        }
        renew(&config, &self.kubeconfig, &self.node).await?;
        tracing::info!(node = self.node, "the node's certificate is exchanged");
        Ok(Duration::ZERO)
    }
}

/// Whether a kubeconfig is there and its certificate is good now.
async fn is_good(kubeconfig: &Path) -> bool {
    if !kubeconfig.exists() {
        return false;
    }
    let Ok(config) = parts::config(kubeconfig).await else { return false };
    validity(&config).is_some_and(|(_, end)| end > OffsetDateTime::now_utc())
}

/// From when until when the client certificate of a configuration is good.
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

/// Asks, as whoever `config` is, for a node's certificate, and writes the node's kubeconfig.
async fn renew(config: &Config, kubeconfig: &Path, node: &str) -> Result<()> {
    let user = format!("system:node:{node}");
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user.as_str());
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
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
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, answer(requests, &name))
        .await
        .with_context(|| format!("certificate request {name} is not answered"))??;
    let status = answered.and_then(|request| request.status).unwrap_or_default();
    let Some(certificate) = status.certificate else {
        bail!("certificate request {name} is refused: {}", refusal(&status));
    };
    let cert_pem = String::from_utf8(certificate.0).context("the certificate is not PEM")?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    // Both are in the kubeconfig itself.
    let (cert_path, key_path) = (kubeconfig.to_owned(), kubeconfig.to_owned());
    let credential = Credential { cert_pem, key_pem, cert_path, key_path };
    let server = config.cluster_url.to_string();
    let text =
        kubeconfig::render(&user, server.trim_end_matches('/'), &ca_pem(config)?, &credential);
    // It often is in the kubelet's root directory, which the kubelet makes later.
    kubeconfig
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| files::write_private(kubeconfig, text.as_bytes()))
        .with_context(|| format!("cannot write {}", kubeconfig.display()))
}

/// Waits until a request is answered; says so if that takes a person.
async fn answer(
    requests: Api<CertificateSigningRequest>,
    name: &str,
) -> Result<Option<CertificateSigningRequest>> {
    let answered = await_condition(requests, name, is_answered);
    tokio::pin!(answered);
    if let Ok(answered) = tokio::time::timeout(ANSWER_SOON, &mut answered).await {
        return Ok(answered?);
    }
    tracing::warn!(
        "certificate request {name} waits for approval; `kubectl describe csr {name}` says why, `kubectl certificate approve {name}` approves it"
    );
    Ok(answered.await?)
}

type Status = k8s_openapi::api::certificates::v1::CertificateSigningRequestStatus;

fn is_answered(request: Option<&CertificateSigningRequest>) -> bool {
    let Some(status) = request.and_then(|request| request.status.as_ref()) else { return false };
    let issued = status.certificate.as_ref().is_some_and(|certificate| !certificate.0.is_empty());
    let ended = |kind: &str| matches!(kind, "Denied" | "Failed");
    issued || status.conditions.iter().flatten().any(|condition| ended(&condition.type_))
}

fn refusal(status: &Status) -> String {
    let last = status.conditions.iter().flatten().next_back();
    last.and_then(|condition| condition.message.clone()).unwrap_or_default()
}

/// The certificates that a configuration trusts, PEM.
fn ca_pem(config: &Config) -> Result<String> {
    let pem = coffer_controllers::Options::of_config(config).root_ca_pem;
    let pem = pem.context("the kubeconfig names no certificate authority")?;
    String::from_utf8(pem).context("the certificate authority is not PEM")
}

/// The `bootstrap-kubeconfig` verb.
pub(crate) async fn bootstrap(options: BootstrapOptions) -> Result<()> {
    let config = parts::config(&options.kubeconfig).await?;
    let (id, secret) = (random(6), random(16));
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(options.ttl_hours.into());
    let object = Zeroizing::new(serde_json::to_vec(&serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("bootstrap-token-{}", id.as_str()) },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": id.as_str(),
            "token-secret": secret.as_str(),
            "expiration": jiff::Timestamp::from_second(end.as_second())?.to_string(),
            "usage-bootstrap-authentication": "true",
        },
    }))?);
    let request = http::Request::post("/api/v1/namespaces/kube-system/secrets")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_vec())?;
    let client = Client::try_from(config.clone())?;
    client.request_text(request).await.context("cannot make the token")?;
    let token = Zeroizing::new(format!("{}.{}", id.as_str(), secret.as_str()));
    let server = config.cluster_url.to_string();
    #[expect(clippy::print_stdout, reason = "what the verb is for")]
    {
        println!(
            "apiVersion: v1\nkind: Config\ncurrent-context: bootstrap\n\
             clusters:\n- name: coffer\n  cluster:\n    server: {}\n    certificate-authority-data: {}\n\
             users:\n- name: bootstrap\n  user:\n    token: {}\n\
             contexts:\n- name: bootstrap\n  context:\n    cluster: coffer\n    user: bootstrap",
            server.trim_end_matches('/'),
            STANDARD.encode(ca_pem(&config)?),
            token.as_str(),
        );
    }
    Ok(())
}

/// Letters and digits, as bootstrap tokens have them.
fn random(length: usize) -> Zeroizing<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let character = |_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]);
    Zeroizing::new((0..length).map(character).collect())
}
