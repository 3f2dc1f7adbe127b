//! A token server of the distribution project's protocol: a registry sends clients here for a
//! token, which is for one scope, and a client shows its name and password here and only here.
//!
//! Tokens are JWTs signed with ES256 by a key whose certificate the registry trusts (`x5c`).

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::seen::{Log, SeenCredential};
use super::serve::{Served, serve};

/// Who tokens are from, and for whom.
pub(super) const ISSUER: &str = "coffer-testkit";
pub(super) const SERVICE: &str = "registry.test";
const TOKEN_LIFE_S: u64 = 300;

/// A running token server; dropping it ends it.
pub struct TokenServer {
    served: Served,
    signer: Arc<Signer>,
    log: Log,
}

/// The key that signs tokens, and the certificate for it.
pub(super) struct Signer {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
    file: NamedTempFile,
}

impl TokenServer {
    /// Starts one that knows this user. Anyone gets a token, but only the user's opens anything.
    ///
    /// # Errors
    /// When a key cannot be made or there is no free port.
    pub async fn start(user: &str, password: &str) -> Result<Self> {
        let signer = Arc::new(Signer::new()?);
        let log = Log::default();
        let known = SeenCredential::Basic(format!("{user}:{password}"));
        let handler = {
            let (signer, log) = (signer.clone(), log.clone());
            move |request: Request<Incoming>| {
                let (signer, log, known) = (signer.clone(), log.clone(), known.clone());
                async move { answer(&signer, &log, &known, request).await }
            }
        };
        let served = serve(Ipv4Addr::LOCALHOST.into(), None, handler).await?;
        Ok(Self { served, signer, log })
    }

    /// All credentials that it was sent so far, each once.
    pub fn credentials(&self) -> Vec<SeenCredential> {
        self.log.credentials()
    }

    pub(super) fn realm(&self) -> String {
        format!("http://{}/token", self.served.address())
    }

    pub(super) fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }
}

impl Signer {
    fn new() -> Result<Self> {
        let pair = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![ISSUER.to_owned()])?.self_signed(&pair)?;
        let file = tempfile::Builder::new().prefix("coffer-token-").suffix(".pem").tempfile()?;
        std::fs::write(file.path(), certificate.pem())?;
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &pair.serialize_der(), &SystemRandom::new())
            .map_err(|_| anyhow!("ring does not take the key"))?;
        Ok(Self { key, certificate: certificate.der().to_vec(), file })
    }

    /// What the registry has to trust.
    pub(super) fn certificate_path(&self) -> &Path {
        self.file.path()
    }

    /// A token for these scopes: `{type, name, actions}` each.
    pub(super) fn token(&self, access: &[Value]) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let head = json!({
            "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)],
        });
        let claims = json!({
            "iss": ISSUER, "sub": "", "aud": SERVICE, "iat": now, "nbf": now - 10,
            "exp": now + TOKEN_LIFE_S, "jti": format!("{now}"), "access": access,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| anyhow!("ring does not sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

async fn answer(
    signer: &Signer,
    log: &Log,
    known: &SeenCredential,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    // Clients that have a password ask by OAuth2, with a form; by the older way, with a query.
    let form = match parts.method {
        Method::POST => body.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
        _ => Bytes::copy_from_slice(parts.uri.query().unwrap_or_default().as_bytes()),
    };
    let fields: Vec<_> = form_urlencoded::parse(&form).into_owned().collect();
    let field = |wanted: &str| {
        fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let by_form = field("username")
        .zip(field("password"))
        .map(|(user, password)| SeenCredential::Basic(format!("{user}:{password}")));
    let credential = SeenCredential::of(&parts.headers).or(by_form);
    log.add(&parts.method, &parts.uri, credential.clone());
    let access = match credential {
        Some(given) if given == *known => scopes(&fields),
        Some(_) => return respond(StatusCode::UNAUTHORIZED, &json!({"details": "who are you?"})),
        None => Vec::new(),
    };
    match signer.token(&access) {
        Ok(token) => respond(
            StatusCode::OK,
            &json!({ "token": token, "access_token": token, "expires_in": TOKEN_LIFE_S }),
        ),
        Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, &json!(error.to_string())),
    }
}

/// `scope`, once or more; several in one are separated by spaces.
fn scopes(fields: &[(String, String)]) -> Vec<Value> {
    let wanted = fields.iter().filter(|(name, _)| name == "scope");
    let scope = |text: &str| {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let actions: Vec<_> = actions.split(',').collect();
        Some(json!({ "type": kind, "name": name, "actions": actions }))
    };
    wanted.flat_map(|(_, value)| value.split(' ')).filter_map(scope).collect()
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
