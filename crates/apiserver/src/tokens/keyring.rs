//! The keys of service account tokens: one signs, all verify. RS256 and ES256, PEM in.
//!
//! A key's id is upstream's: the SHA-256 of its public half as SubjectPublicKeyInfo, base64url. So a
//! token of a kube-apiserver with the same key is verified here, and the other way round.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_wire::pem;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde::Serialize;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::TokenError;
use super::jwt::{self, Header, Parts};

/// PEM keys of service account tokens.
#[derive(Clone)]
pub struct ServiceAccountKeys {
    /// The private key new tokens are signed with: PKCS#8 (P-256 or RSA) or PKCS#1 (RSA).
    pub signing_pem: Zeroizing<Vec<u8>>,
    /// Further keys, private or public, whose tokens are still accepted; each may hold several.
    pub accepted_pem: Vec<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for ServiceAccountKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServiceAccountKeys(1 + {})", self.accepted_pem.len())
    }
}

/// Why a key cannot be used. Never holds a byte of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM, or no key in it.
    #[error("the service account key file holds no usable {0} key")]
    Unusable(&'static str),
    /// A kind of key that tokens are not signed with here.
    #[error("service account keys are RSA of at least 2048 bits or P-256")]
    Unsupported,
    /// This server has no key to sign with.
    #[error("this server has no key to sign tokens with")]
    NoKey,
    /// The system gave no randomness.
    #[error("cannot generate a key")]
    Random,
}

/// A new P-256 key, PKCS#8 in PEM.
///
/// # Errors
/// [`KeyError::Random`].
pub fn generate_signing_key() -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
        .map_err(|_| KeyError::Random)?;
    Ok(pem::encode("PRIVATE KEY", document.as_ref()))
}

enum Signer {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

enum Public {
    /// An uncompressed point.
    Ec(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

struct Verifier {
    id: String,
    public: Public,
}

/// One key that signs, and all that verify.
#[derive(Default)]
pub(crate) struct Keyring {
    signer: Option<(Signer, String)>,
    verifiers: Vec<Verifier>,
}

impl Keyring {
    pub(super) fn new(keys: &ServiceAccountKeys) -> Result<Self, KeyError> {
        let key = PrivateKeyDer::from_pem_slice(&keys.signing_pem)
            .map_err(|_| KeyError::Unusable("private"))?;
        let signer = Signer::parse(&key)?;
        let verifier = Verifier::of(signer.public());
        let id = verifier.id.clone();
        let mut ring = Self { signer: Some((signer, id)), verifiers: vec![verifier] };
        for pem in &keys.accepted_pem {
            ring.accept(pem)?;
        }
        Ok(ring)
    }

    /// Adds every key of a PEM text.
    fn accept(&mut self, pem: &[u8]) -> Result<(), KeyError> {
        let mut found = Vec::new();
        for key in PrivateKeyDer::pem_slice_iter(pem).flatten() {
            found.push(Signer::parse(&key)?.public());
        }
        for key in SubjectPublicKeyInfoDer::pem_slice_iter(pem).flatten() {
            found.push(Public::parse(&key)?);
        }
        if found.is_empty() {
            return Err(KeyError::Unusable("public"));
        }
        for verifier in found.into_iter().map(Verifier::of) {
            if !self.verifiers.iter().any(|known| known.id == verifier.id) {
                self.verifiers.push(verifier);
            }
        }
        Ok(())
    }

    pub(super) fn signs(&self) -> bool {
        self.signer.is_some()
    }

    pub(super) fn sign<T: Serialize>(&self, claims: &T) -> Result<Zeroizing<String>, KeyError> {
        let (signer, id) = self.signer.as_ref().ok_or(KeyError::NoKey)?;
        let header = Header { alg: signer.algorithm().to_owned(), kid: Some(id.clone()) };
        let unsigned = jwt::unsigned(&header, claims);
        Ok(jwt::assemble(&unsigned, &signer.sign(unsigned.as_bytes())?))
    }

    /// Whether one of the keys signed this.
    pub(super) fn verify(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        let named = |verifier: &&Verifier| match &parts.header.kid {
            Some(id) if !id.is_empty() => verifier.id == *id,
            _ => true,
        };
        let good = self.verifiers.iter().filter(named).any(|verifier| verifier.holds(parts));
        if good { Ok(()) } else { Err(TokenError::Signature) }
    }

    /// The public keys, as RFC 7517 has them.
    pub(super) fn jwks(&self) -> Value {
        json!({ "keys": self.verifiers.iter().map(Verifier::jwk).collect::<Vec<_>>() })
    }

    /// The algorithms tokens are signed with, each once.
    pub(super) fn algorithms(&self) -> Vec<&'static str> {
        let mut all: Vec<&str> = self.verifiers.iter().map(|it| it.public.algorithm()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Signer {
    fn parse(key: &PrivateKeyDer<'_>) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        match key {
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
                ec.map(Self::Ec)
                    .or_else(|_| RsaKeyPair::from_pkcs8(der).map(Self::Rsa))
                    .map_err(|_| KeyError::Unsupported)
            }
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der())
                .map(Self::Rsa)
                .map_err(|_| KeyError::Unsupported),
            _ => Err(KeyError::Unsupported),
        }
    }

    fn public(&self) -> Public {
        match self {
            Self::Ec(key) => Public::Ec(key.public_key().as_ref().to_vec()),
            Self::Rsa(key) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::from(key.public_key());
                Public::Rsa { n, e }
            }
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| KeyError::Random),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| KeyError::Random)?;
                Ok(signature)
            }
        }
    }
}

impl Public {
    fn parse(der: &SubjectPublicKeyInfoDer<'_>) -> Result<Self, KeyError> {
        let (_, info) =
            SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Unusable("public"))?;
        match info.parsed().map_err(|_| KeyError::Unusable("public"))? {
            PublicKey::RSA(key) => Ok(Self::Rsa {
                n: unsigned_bytes(key.modulus).to_vec(),
                e: unsigned_bytes(key.exponent).to_vec(),
            }),
            // P-256 is the only curve whose uncompressed points have this length.
            PublicKey::EC(point) if point.data().len() == EC_POINT_BYTES => {
                Ok(Self::Ec(point.data().to_vec()))
            }
            _ => Err(KeyError::Unsupported),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES256",
            Self::Rsa { .. } => "RS256",
        }
    }

    /// SubjectPublicKeyInfo, DER.
    fn info(&self) -> Vec<u8> {
        match self {
            Self::Ec(point) => [EC_INFO_HEAD, point].concat(),
            Self::Rsa { n, e } => {
                let key = der(0x30, &[der_integer(n), der_integer(e)].concat());
                let bits = der(0x03, &[&[0], key.as_slice()].concat());
                der(0x30, &[RSA_ALGORITHM, &bits].concat())
            }
        }
    }
}

/// 0x04, x, y.
const EC_POINT_BYTES: usize = 65;
/// SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING (65 bytes follow) }
const EC_INFO_HEAD: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// SEQUENCE { rsaEncryption, NULL }
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

fn unsigned_bytes(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    &integer[zeros..]
}

fn der_integer(value: &[u8]) -> Vec<u8> {
    let value = unsigned_bytes(value);
    let negative = value.first().is_none_or(|byte| byte & 0x80 != 0);
    let padded = if negative { [&[0], value].concat() } else { value.to_vec() };
    der(0x02, &padded)
}

/// Tag, length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = unsigned_bytes(&length);
    let mut out = vec![tag];
    match content.len() {
        0..128 => out.push(content.len() as u8),
        _ => {
            out.push(0x80 | length.len() as u8);
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(content);
    out
}

impl Verifier {
    fn of(public: Public) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, &public.info());
        Self { id: URL_SAFE_NO_PAD.encode(digest), public }
    }

    fn holds(&self, parts: &Parts<'_>) -> bool {
        // The algorithm is the key's, never the token's choice.
        if parts.header.alg != self.public.algorithm() {
            return false;
        }
        let (message, signature) = (parts.signed, parts.signature.as_slice());
        match &self.public {
            Public::Ec(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
            Public::Rsa { n, e } => {
                let parameters: &signature::RsaParameters = &RSA_PKCS1_2048_8192_SHA256;
                PublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
        }
    }

    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match &self.public {
            Public::Ec(point) => {
                let (x, y) = point[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) })
            }
            Public::Rsa { n, e } => json!({ "kty": "RSA", "n": text(n), "e": text(e) }),
        };
        key["use"] = "sig".into();
        key["kid"] = self.id.clone().into();
        key["alg"] = self.public.algorithm().into();
        key
    }
}
