//! Who floods and who is probed: service accounts with tokens, a node with a certificate.
//!
//! Everything is asked for by the Kubernetes API, as an administrator does it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use kube::config::AuthInfo;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde::Deserialize;
use serde_json::json;

use crate::cluster::account::account;
use crate::cluster::workspace::{Workspace, json_body};
use crate::context::Context;
use crate::load::secrets::Secrets;
use crate::options::Protocol;
use crate::transport::client::{Client, parse};
use crate::transport::target::Target;

const CERTIFICATE_REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SELF_REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
/// How long the cluster gets to sign a certificate.
const SIGNING_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// How long the node's certificate is valid: longer than all floods together.
const CREDENTIAL_SECONDS: u64 = 7200;

/// The users whose requests are measured.
pub(super) struct Identities {
    /// May get the secret, and nothing else.
    pub(super) reader: Arc<Target>,
    /// The reader's token, for a kubeconfig.
    pub(super) reader_token: String,
    /// The path of the secret.
    pub(super) secret: String,
    pub(super) secret_name: String,
    /// A node with its certificate.
    pub(super) node: Arc<Target>,
    pub(super) node_name: String,
    /// An anonymous client.
    pub(super) anonymous: Arc<Target>,
}

impl Identities {
    /// Makes them, and the secret that is read.
    pub(super) async fn make(
        context: &Context,
        target: &Arc<Target>,
        workspace: &Workspace,
        node_kubeconfig: Option<&Path>,
    ) -> Result<Self> {
        let secrets = Secrets::new(&workspace.namespace, "flood", context);
        secrets.populate(context, target, 0..1).await?;
        let mut client = Client::connect(target, Protocol::Http1).await?;
        let rules = json!([{
            "apiGroups": [""], "resources": ["secrets"], "resourceNames": [secrets.name(0)],
            "verbs": ["get"],
        }]);
        let reader_token =
            account(&mut client, &workspace.namespace, &workspace.run, "reader", rules)
                .await
                .context("no account to read with")?;
        let node = match node_kubeconfig {
            Some(file) => Target::load(file, None).await?,
            None => node(target, &mut client, &workspace.run).await?,
        };
        let node_name = name_of_node(&node).await?;
        Ok(Self {
            reader: target.with_token(&reader_token).await?.without_resumption(),
            reader_token,
            secret: secrets.path_of(0),
            secret_name: secrets.name(0),
            node: node.without_resumption(),
            node_name,
            anonymous: target.as_user(AuthInfo::default()).await?.without_resumption(),
        })
    }

    /// A kubeconfig for the reader, in a directory that only this user can read.
    pub(super) fn reader_kubeconfig(&self, context: &Context, directory: &Path) -> Result<PathBuf> {
        let file = context.options.kubeconfig.as_ref().context("there is no --kubeconfig")?;
        let mut config = kube::config::Kubeconfig::read_from(file)?;
        for user in &mut config.auth_infos {
            let token = Some(self.reader_token.clone().into());
            user.auth_info = Some(AuthInfo { token, ..Default::default() });
        }
        let path = directory.join("reader.kubeconfig");
        // JSON is YAML.
        std::fs::write(&path, serde_json::to_string(&config)?)?;
        Ok(path)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SelfReview {
    status: SelfReviewStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SelfReviewStatus {
    user_info: User,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

/// Which node the server takes us for.
async fn name_of_node(target: &Arc<Target>) -> Result<String> {
    let mut client = Client::connect(target, Protocol::Http1).await?;
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
    });
    let answer = client.call(Method::POST, SELF_REVIEWS, json_body(&review)).await?;
    let user = parse::<SelfReview>(SELF_REVIEWS, &answer)?.status.user_info.username;
    match user.strip_prefix("system:node:") {
        Some(node) => Ok(node.to_owned()),
        None => bail!("the credentials of the node are those of {user}"),
    }
}

#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    status: SignedStatus,
}

#[derive(Default, Deserialize)]
struct SignedStatus {
    #[serde(default)]
    certificate: Option<String>,
}

/// A node with a certificate that the cluster signs for it.
async fn node(target: &Target, client: &mut Client, run: &str) -> Result<Arc<Target>> {
    let name = format!("coffer-bench-{run}");
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{name}"));
    let request = params.serialize_request(&key)?.pem()?;
    let mut request = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": { "name": name },
        "spec": {
            "request": STANDARD.encode(request),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "expirationSeconds": CREDENTIAL_SECONDS,
            "usages": ["digital signature", "client auth"],
        },
    });
    client.call(Method::POST, CERTIFICATE_REQUESTS, json_body(&request)).await?;
    request["status"] = json!({ "conditions": [{
        "type": "Approved", "status": "True", "reason": "Flood", "message": "a node to probe with",
    }] });
    let path = format!("{CERTIFICATE_REQUESTS}/{name}");
    let approved = client.call(Method::PUT, &format!("{path}/approval"), json_body(&request)).await;
    let signed = match approved {
        Ok(_) => signed(client, &path).await,
        Err(error) => Err(error.into()),
    };
    client.call(Method::DELETE, &path, None).await?;
    let user = AuthInfo {
        client_certificate_data: Some(signed?),
        client_key_data: Some(STANDARD.encode(key.serialize_pem()).into()),
        ..Default::default()
    };
    target.as_user(user).await
}

/// The certificate of an approved request, base64 as kubeconfigs have it.
async fn signed(client: &mut Client, path: &str) -> Result<String> {
    let end = Instant::now() + SIGNING_TIMEOUT;
    while Instant::now() < end {
        let request: Signed = client.get(path).await?;
        if let Some(certificate) = request.status.certificate.filter(|it| !it.is_empty()) {
            return Ok(certificate);
        }
        tokio::time::sleep(POLL).await;
    }
    bail!(
        "the cluster signed no certificate for a node within {} s: start its controllers, or give \
         --node-kubeconfig FILE",
        SIGNING_TIMEOUT.as_secs()
    )
}
