//! An OpenID Connect issuer over HTTPS: its discovery document, its keys, and tokens of any content.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::registry::PrivateCa;
use crate::registry::serve::{Served, serve};

/// A running issuer; dropping it ends it.
pub struct OidcIssuer {
    served: Served,
    ca: PrivateCa,
    state: Arc<Mutex<State>>,
}

struct State {
    key: EcdsaKeyPair,
    key_id: String,
    rotations: usize,
    /// How often its keys were asked for.
    asked: usize,
    /// It is unavailable.
    is_down: bool,
}

impl OidcIssuer {
    /// Starts one with a key.
    ///
    /// # Errors
    /// When a key cannot be made or there is no free port.
    pub async fn start() -> Result<Self> {
        let state = State {
            key: new_key()?,
            key_id: "key-0".to_owned(),
            rotations: 0,
            asked: 0,
            is_down: false,
        };
        let state = Arc::new(Mutex::new(state));
        let ca = PrivateCa::new()?;
        let ip = Ipv4Addr::LOCALHOST.into();
        let answering = state.clone();
        let handler = move |request: Request<Incoming>| {
            let response = answer(&mut answering.lock(), &request);
            async move { response }
        };
        let served = serve(ip, Some(ca.server(ip)?), handler).await?;
        Ok(Self { served, ca, state })
    }

    /// What its tokens say issued them.
    pub fn url(&self) -> String {
        format!("https://{}", self.served.address())
    }

    /// A caller that trusts this authority can speak with it.
    pub fn ca(&self) -> &PrivateCa {
        &self.ca
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.state.lock().asked
    }

    /// Makes it unavailable, or available again.
    pub fn set_down(&self, is_down: bool) {
        self.state.lock().is_down = is_down;
    }

    /// Rotates its key; the earlier one is no longer published.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn rotate(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.key = new_key()?;
        state.rotations += 1;
        state.key_id = format!("key-{}", state.rotations);
        Ok(())
    }

    /// A token with these claims, signed with its key.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn token(&self, claims: &Value) -> Result<String> {
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": self.state.lock().key_id });
        self.token_with(&header, claims)
    }

    /// The same with a header of the caller's, whatever it says.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn token_with(&self, header: &Value, claims: &Value) -> Result<String> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self
            .state
            .lock()
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| anyhow!("ring does not sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn new_key() -> Result<EcdsaKeyPair> {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
        .map_err(|_| anyhow!("no key could be made"))?;
    EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random)
        .map_err(|_| anyhow!("ring does not take the key"))
}

fn answer(state: &mut State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    let issuer = format!("https://{}", host.unwrap_or_default());
    let (status, body) = match request.uri().path() {
        _ if state.is_down => (StatusCode::SERVICE_UNAVAILABLE, json!("come back later")),
        "/.well-known/openid-configuration" => {
            (StatusCode::OK, json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }))
        }
        "/keys" => {
            state.asked += 1;
            let point = state.key.public_key().as_ref();
            let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let own = json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": state.key_id,
                "x": text(&point[1..33]), "y": text(&point[33..]),
            });
            // Issuers publish keys for others, too, which a client has to pass over.
            let other = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "other" });
            (StatusCode::OK, json!({ "keys": [other, own] }))
        }
        _ => (StatusCode::NOT_FOUND, json!("no such page")),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
}
