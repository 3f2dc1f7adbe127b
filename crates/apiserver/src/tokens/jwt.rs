//! JSON Web Tokens in compact form: `base64url(header).base64url(claims).base64url(signature)`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::TokenError;

/// Which key signed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
}

/// A parsed token whose signature is not verified yet.
pub(crate) struct Parts<'a> {
    /// What the signature is over.
    pub(crate) signed: &'a [u8],
    pub(crate) header: Header,
    pub(crate) signature: Vec<u8>,
    claims: Zeroizing<Vec<u8>>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(token: &'a str) -> Result<Self, TokenError> {
        let malformed = |_| TokenError::Malformed;
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(malformed)?;
        Ok(Self {
            signed: signed.as_bytes(),
            header: serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?,
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(malformed)?,
            claims: Zeroizing::new(URL_SAFE_NO_PAD.decode(claims).map_err(malformed)?),
        })
    }

    /// The issuer that the token names.
    pub(crate) fn issuer(&self) -> Result<String, TokenError> {
        #[derive(Deserialize)]
        struct Issuer {
            iss: String,
        }
        self.claims::<Issuer>().map(|claims| claims.iss)
    }

    pub(crate) fn claims<T: DeserializeOwned>(&self) -> Result<T, TokenError> {
        serde_json::from_slice(&self.claims).map_err(|_| TokenError::Malformed)
    }
}

/// Header and claims, encoded: what is to be signed.
pub(super) fn unsigned<T: Serialize>(header: &Header, claims: &T) -> Zeroizing<String> {
    let encode = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(Zeroizing::new(bytes).as_slice());
    let header = serde_json::to_vec(header).expect("a header has string keys only");
    let claims = serde_json::to_vec(claims).expect("claims have string keys only");
    Zeroizing::new(format!("{}.{}", encode(header), encode(claims)))
}

/// The whole token.
pub(super) fn assemble(unsigned: &str, signature: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
