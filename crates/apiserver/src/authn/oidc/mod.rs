//! OpenID Connect: ID tokens of one issuer that the operator trusts (`--oidc-issuer-url` and its
//! companions), with upstream's rules.
//!
//! The issuer is asked for its keys when its first token comes, not at the start: a cluster does not
//! wait for its identity provider. `keys` keeps what it said, `fetch` is how it is asked.

mod fetch;
mod jwk;
mod keys;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::fetch::Fetcher;
use self::jwk::Algorithm;
use self::keys::IssuerKeys;
use crate::identity::{AUTHENTICATED, Identity};
use crate::tokens::TokenError;
use crate::tokens::jwt::Parts;

/// How far the clock of an issuer may be before ours, in seconds, where a token says from when on it
/// is good.
const NOT_BEFORE_LEEWAY_S: f64 = 300.0;
/// The claim whose value is a name without a prefix, because it is unique in itself.
const EMAIL: &str = "email";

/// An issuer, and what its claims mean here. Field by field upstream's flag of the same name.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// `--oidc-issuer-url`
    pub issuer_url: String,
    /// `--oidc-client-id`
    pub client_id: String,
    /// `--oidc-username-claim`
    pub username_claim: String,
    /// `--oidc-username-prefix`; `-` for no prefix. Where absent, `ISSUER#` for all claims but `email`.
    pub username_prefix: Option<String>,
    /// `--oidc-groups-claim`
    pub groups_claim: Option<String>,
    /// `--oidc-groups-prefix`
    pub groups_prefix: String,
    /// `--oidc-required-claim`
    pub required_claims: BTreeMap<String, String>,
    /// `--oidc-signing-algs`
    pub signing_algs: Vec<String>,
    /// The file of `--oidc-ca-file`, read; the system's authorities where absent.
    pub ca_pem: Option<Vec<u8>>,
}

/// An issuer that cannot be trusted as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// Not a URL, or one by which anyone on the network path could supply keys.
    #[error("'oidc-issuer-url' ({0:?}) has invalid scheme, require 'https'")]
    Scheme(String),
    /// A token without an audience would be accepted from any client.
    #[error("oidc-issuer-url and oidc-client-id must be specified together")]
    NoClient,
    /// The issuer of this cluster's own tokens.
    #[error("the issuer {0:?} is the cluster's own")]
    Own(String),
    /// An algorithm that is not known or cannot be verified here.
    #[error("oidc: unsupported signing alg: {0:?}")]
    Algorithm(String),
    /// The authorities cannot be used.
    #[error("oidc-ca-file: {0}")]
    Authorities(String),
}

/// Authenticates tokens of one issuer.
pub(crate) struct Oidc {
    config: OidcConfig,
    algorithms: Vec<Algorithm>,
    prefix: String,
    keys: IssuerKeys,
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig, own_issuer: &str) -> Result<Self, OidcError> {
        let issuer = &config.issuer_url;
        if config.client_id.is_empty() {
            return Err(OidcError::NoClient);
        }
        if issuer == own_issuer {
            return Err(OidcError::Own(issuer.clone()));
        }
        let algorithms = config
            .signing_algs
            .iter()
            .map(|name| Algorithm::named(name).ok_or_else(|| OidcError::Algorithm(name.clone())));
        let algorithms = algorithms.collect::<Result<_, _>>()?;
        let prefix = match config.username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) if !prefix.is_empty() => prefix.to_owned(),
            _ if config.username_claim == EMAIL => String::new(),
            _ => format!("{issuer}#"),
        };
        let keys = IssuerKeys::new(issuer, Fetcher::new(issuer, config.ca_pem.as_deref())?);
        Ok(Self { config, algorithms, prefix, keys })
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// [`TokenError::OtherIssuer`] for another issuer's.
    pub(crate) async fn owner(&self, token: &str, now_s: i64) -> Result<Identity, TokenError> {
        let parts = Parts::of(token)?;
        if parts.issuer()? != self.config.issuer_url {
            return Err(TokenError::OtherIssuer);
        }
        // The operator decides which algorithms are accepted, never the token.
        let algorithm = Algorithm::named(&parts.header.alg)
            .filter(|named| self.algorithms.contains(named))
            .ok_or(TokenError::Signature)?;
        let claims: Map<String, Value> = parts.claims()?;
        self.check(&claims, now_s)?;
        let identity = self.identity(&claims)?;
        self.keys.verify(&parts, algorithm).await?;
        Ok(identity)
    }

    fn check(&self, claims: &Map<String, Value>, now_s: i64) -> Result<(), TokenError> {
        let client = &self.config.client_id;
        let for_us = match claims.get("aud") {
            Some(Value::String(one)) => one == client,
            Some(Value::Array(all)) => all.iter().any(|one| one == client),
            _ => false,
        };
        if !for_us {
            return Err(TokenError::Audience);
        }
        let time = |name: &str| claims.get(name).and_then(Value::as_f64);
        // Seconds since 1970 are far from where a float loses them.
        #[expect(clippy::cast_precision_loss)]
        let now = now_s as f64;
        let ended = time("exp").is_none_or(|end| end <= now);
        let begun = match claims.get("nbf") {
            None => true,
            Some(_) => time("nbf").is_some_and(|begin| begin <= now + NOT_BEFORE_LEEWAY_S),
        };
        if ended || !begun {
            return Err(TokenError::Time);
        }
        for (name, wanted) in &self.config.required_claims {
            if claims.get(name).and_then(Value::as_str) != Some(wanted) {
                return Err(TokenError::Claim(name.clone()));
            }
        }
        Ok(())
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, TokenError> {
        let OidcConfig { username_claim, groups_claim, groups_prefix, .. } = &self.config;
        let wrong = |name: &str| TokenError::Claim(name.to_owned());
        let name = claims.get(username_claim).and_then(Value::as_str);
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| wrong(username_claim))?;
        if username_claim == EMAIL
            && claims.get("email_verified").is_some_and(|verified| verified != true)
        {
            return Err(wrong("email_verified"));
        }
        let mut groups = Vec::new();
        let found = groups_claim.as_ref().and_then(|claim| Some((claim, claims.get(claim)?)));
        match found {
            None | Some((_, Value::Null)) => {}
            Some((_, Value::String(one))) => groups.push(format!("{groups_prefix}{one}")),
            Some((claim, Value::Array(all))) => {
                for one in all {
                    let one = one.as_str().ok_or_else(|| wrong(claim))?;
                    groups.push(format!("{groups_prefix}{one}"));
                }
            }
            Some((claim, _)) => return Err(wrong(claim)),
        }
        groups.push(AUTHENTICATED.to_owned());
        let user = format!("{}{name}", self.prefix);
        Ok(Identity { user, groups, ..Identity::default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> OidcConfig {
        OidcConfig {
            issuer_url: "https://id.example.org".into(),
            client_id: "coffer".into(),
            username_claim: "sub".into(),
            username_prefix: None,
            groups_claim: Some("groups".into()),
            groups_prefix: "oidc:".into(),
            required_claims: BTreeMap::new(),
            signing_algs: vec!["RS256".into()],
            ca_pem: None,
        }
    }

    fn read(config: OidcConfig, claims: Value) -> Result<Identity, TokenError> {
        let oidc = Oidc::new(config, "https://own").unwrap();
        let claims = claims.as_object().unwrap();
        oidc.check(claims, 1000)?;
        oidc.identity(claims)
    }

    #[test]
    fn names_are_prefixed_as_upstream_prefixes_them() {
        let claims = json!({ "aud": "coffer", "exp": 2000, "sub": "7", "email": "a@b" });
        let name = |claim: &str, prefix: Option<&str>| {
            let username_prefix = prefix.map(str::to_owned);
            let config = OidcConfig { username_claim: claim.into(), username_prefix, ..config() };
            read(config, claims.clone()).unwrap().user
        };
        assert_eq!(name("sub", None), "https://id.example.org#7");
        assert_eq!(name("sub", Some("")), "https://id.example.org#7");
        assert_eq!(name("sub", Some("-")), "7");
        assert_eq!(name("sub", Some("oidc:")), "oidc:7");
        assert_eq!(name("email", None), "a@b");
        assert_eq!(name("email", Some("oidc:")), "oidc:a@b");
    }

    #[test]
    fn claims_of_an_unexpected_type_are_refused_or_ignored() {
        let with = |name: &str, value: Value| {
            let mut claims = json!({ "aud": ["x", "coffer"], "exp": 2000, "sub": "7" });
            claims[name] = value;
            claims
        };
        let groups = |value: Value| read(config(), with("groups", value)).map(|it| it.groups);
        assert_eq!(groups(json!("a")).unwrap(), ["oidc:a", "system:authenticated"]);
        assert_eq!(groups(json!(["a", "b"])).unwrap()[..2], ["oidc:a", "oidc:b"]);
        assert_eq!(groups(json!([1])), Err(TokenError::Claim("groups".into())));
        assert_eq!(groups(json!({})), Err(TokenError::Claim("groups".into())));
        for (name, value, error) in [
            ("aud", json!("other"), TokenError::Audience),
            ("aud", json!(7), TokenError::Audience),
            ("exp", json!(1000), TokenError::Time),
            ("exp", json!("2000"), TokenError::Time),
            ("nbf", json!(1301), TokenError::Time),
            ("nbf", json!("soon"), TokenError::Time),
            ("sub", json!(""), TokenError::Claim("sub".into())),
            ("sub", json!(7), TokenError::Claim("sub".into())),
        ] {
            assert_eq!(read(config(), with(name, value)), Err(error), "{name}");
        }
        assert!(read(config(), with("nbf", json!(1300))).is_ok());
        let mail = OidcConfig { username_claim: EMAIL.into(), ..config() };
        for (verified, good) in [(json!(true), true), (json!(false), false), (json!("true"), false)]
        {
            let mut claims = with("email", json!("a@b"));
            claims["email_verified"] = verified;
            assert_eq!(read(mail.clone(), claims).is_ok(), good);
        }
        let required = BTreeMap::from([("hd".to_owned(), "example.org".to_owned())]);
        let strict = OidcConfig { required_claims: required, ..config() };
        assert!(read(strict.clone(), with("hd", json!("example.org"))).is_ok());
        let error = Err(TokenError::Claim("hd".into()));
        assert_eq!(read(strict.clone(), with("hd", json!("example.com"))), error);
        assert_eq!(read(strict, with("x", json!(1))), error);
    }

    #[test]
    fn an_issuer_that_cannot_be_trusted_is_refused_at_the_start() {
        let error = |config| Oidc::new(config, "https://own").err().unwrap();
        let plain = "http://id.example.org".to_owned();
        let found = error(OidcConfig { issuer_url: plain.clone(), ..config() });
        assert_eq!(found, OidcError::Scheme(plain));
        assert_eq!(error(OidcConfig { client_id: String::new(), ..config() }), OidcError::NoClient);
        let own = "https://own".to_owned();
        let found = error(OidcConfig { issuer_url: own.clone(), ..config() });
        assert_eq!(found, OidcError::Own(own));
        for name in ["none", "HS256", "ES512", "rs256"] {
            let config = OidcConfig { signing_algs: vec![name.into()], ..config() };
            assert_eq!(error(config), OidcError::Algorithm(name.into()));
        }
        let config = OidcConfig { ca_pem: Some(b"junk".to_vec()), ..config() };
        assert!(matches!(error(config), OidcError::Authorities(_)));
    }
}
