//! Keys of an issuer as RFC 7517 has them, and what they can verify. Kinds that nothing here can
//! verify with are passed over: an issuer may publish keys for others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    UnparsedPublicKey,
};
use serde::Deserialize;

use crate::tokens::jwt::Parts;

/// A way to sign, by its name in a token's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
}

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 => return None,
        })
    }
}

/// A set of keys, as an issuer publishes it.
#[derive(Deserialize)]
pub(super) struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A key that can verify.
pub(super) struct Key {
    id: String,
    /// The one algorithm that it is for, if it says so.
    only: Option<String>,
    material: Material,
}

enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { algorithm: Algorithm, verifier: &'static EcdsaVerificationAlgorithm, point: Vec<u8> },
}

impl JwkSet {
    pub(super) fn into_keys(self) -> Vec<Key> {
        self.keys.into_iter().filter_map(Key::of).collect()
    }
}

impl Key {
    fn of(jwk: Jwk) -> Option<Self> {
        if jwk.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<&String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Material::Rsa { n: bytes(jwk.n.as_ref())?, e: bytes(jwk.e.as_ref())? },
            ("EC", Some(curve)) => {
                let (algorithm, verifier, width) = match curve {
                    "P-256" => (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED, 32),
                    "P-384" => (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED, 48),
                    _ => return None,
                };
                let (x, y) = (bytes(jwk.x.as_ref())?, bytes(jwk.y.as_ref())?);
                if x.len() != width || y.len() != width {
                    return None;
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                Material::Ec { algorithm, verifier, point }
            }
            _ => return None,
        };
        Some(Self { id: jwk.kid.unwrap_or_default(), only: jwk.alg, material })
    }

    /// Whether a token that names a key by this id, or none, may be this key's.
    pub(super) fn is_named(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| id.is_empty() || id == self.id)
    }

    /// Whether this key signed the token.
    pub(super) fn verifies(&self, parts: &Parts<'_>, with: Algorithm) -> bool {
        if self.only.as_ref().is_some_and(|only| Algorithm::named(only) != Some(with)) {
            return false;
        }
        let (message, signature) = (parts.signed, parts.signature.as_slice());
        match &self.material {
            Material::Rsa { n, e } => with.rsa().is_some_and(|parameters| {
                PublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            Material::Ec { algorithm, verifier, point } => {
                *algorithm == with
                    && UnparsedPublicKey::new(*verifier, point).verify(message, signature).is_ok()
            }
        }
    }
}
