//! Authentication and authorization as the command line has them: the flags, and the server's
//! configuration that they make. The keys of service account tokens are in [`crate::token_keys`].

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use coffer_apiserver::{AccessConfig, OidcConfig, PodSecurityLevel, SecretUseCheck, TokenFile};
use zeroize::Zeroizing;

use crate::token_keys::KeyFiles;

/// Flags about authentication and authorization.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccessOptions {
    /// The issuer of service account tokens, and the default audience of the API.
    #[arg(long, value_name = "URL")]
    pub(crate) service_account_issuer: Option<String>,
    /// The audiences of the API in tokens. The default is the issuer. May be repeated.
    #[arg(long, value_name = "AUDIENCE", value_delimiter = ',')]
    pub(crate) api_audiences: Vec<String>,
    /// Maximum lifetime of a service account token, such as 8760h or 24h; at least 1h. A request for a
    /// longer lifetime is shortened, with a warning.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = token_duration)]
    pub(crate) service_account_max_token_expiration: TokenDuration,
    /// The private key (PEM) to sign service account tokens with, instead of the one in the data
    /// directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_signing_key_file: Option<PathBuf>,
    /// An additional key (PEM, private or public) to verify service account tokens with. May be
    /// repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_key_file: Vec<PathBuf>,
    /// A CSV file of static tokens: token, user, uid and groups.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) oidc: OidcOptions,
    /// Allow anonymous requests, as user system:anonymous.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) anonymous_auth: bool,
    /// Require permission on a Secret to create pods that reference it.
    #[arg(long, value_name = "MODE", value_enum, default_value = "enforce")]
    pub(crate) secret_use_check: UseCheck,
    /// The Pod Security Standard (privileged, baseline or restricted) for namespaces without the label
    /// pod-security.kubernetes.io/enforce. Kubernetes' default is privileged.
    #[arg(long, value_name = "LEVEL", value_parser = PodSecurityLevel::parse)]
    #[arg(default_value = "baseline")]
    pub(crate) pod_security_default: PodSecurityLevel,
}

/// An OpenID Connect issuer whose tokens are accepted.
#[derive(Clone, Debug, Args)]
pub(crate) struct OidcOptions {
    /// The URL of the OpenID Connect issuer; only the https scheme is accepted.
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub(crate) oidc_issuer_url: Option<String>,
    /// The client ID that tokens must be issued for.
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub(crate) oidc_client_id: Option<String>,
    /// The claim to use as the user name.
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub(crate) oidc_username_claim: String,
    /// The prefix of user names; - for no prefix. The default is the issuer URL and #, or no prefix if
    /// the claim is email.
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) oidc_username_prefix: Option<String>,
    /// The claim to use as the user's groups: a string or an array of strings.
    #[arg(long, value_name = "CLAIM")]
    pub(crate) oidc_groups_claim: Option<String>,
    /// The prefix of group names.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub(crate) oidc_groups_prefix: String,
    /// A claim that tokens must have, with its value. May be repeated.
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',', value_parser = claim)]
    pub(crate) oidc_required_claim: Vec<(String, String)>,
    /// The accepted signing algorithms: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "RS256")]
    pub(crate) oidc_signing_algs: Vec<String>,
    /// CA bundle (PEM) for the issuer's TLS certificate. The default is the system's CA bundle.
    #[arg(long, value_name = "FILE")]
    pub(crate) oidc_ca_file: Option<PathBuf>,
}

impl OidcOptions {
    fn config(&self) -> Result<Option<OidcConfig>> {
        let (Some(issuer_url), Some(client_id)) = (&self.oidc_issuer_url, &self.oidc_client_id)
        else {
            return Ok(None);
        };
        let ca = self.oidc_ca_file.as_ref();
        let ca_pem = ca.map(|path| read_text(path).map(String::into_bytes)).transpose()?;
        Ok(Some(OidcConfig {
            issuer_url: issuer_url.clone(),
            client_id: client_id.clone(),
            username_claim: self.oidc_username_claim.clone(),
            username_prefix: self.oidc_username_prefix.clone(),
            groups_claim: self.oidc_groups_claim.clone(),
            groups_prefix: self.oidc_groups_prefix.clone(),
            required_claims: self.oidc_required_claim.iter().cloned().collect(),
            signing_algs: self.oidc_signing_algs.clone(),
            ca_pem,
        }))
    }
}

/// The lifetime of a token, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenDuration(i64);

fn token_duration(text: &str) -> Result<TokenDuration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    let seconds = parsed.as_secs();
    if !(3600..=1 << 32).contains(&seconds) {
        return Err("must be between 1 hour and 2^32 seconds".to_owned());
    }
    Ok(TokenDuration(seconds))
}

fn claim(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("expected CLAIM=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// How the permission to use Secrets is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UseCheck {
    /// No check: users who may create pods may use every Secret of the namespace, as in Kubernetes.
    Off,
    /// Allow, but return a warning.
    Warn,
    /// Reject pods that use a Secret without permission.
    Enforce,
}

impl AccessOptions {
    /// The server's configuration; `pki` is the directory of keys, `root_ca_pem` what clients check
    /// the server with.
    pub(crate) fn config(&self, pki: &Path, root_ca_pem: &[u8]) -> Result<AccessConfig> {
        let token_file = match &self.token_auth_file {
            Some(path) => {
                let text = Zeroizing::new(read_text(path)?);
                TokenFile::parse(&text).with_context(|| path.display().to_string())?
            }
            None => TokenFile::default(),
        };
        Ok(AccessConfig {
            service_account_keys: Some(self.key_files(pki).load()?),
            service_account_issuer: self.service_account_issuer.clone(),
            service_account_max_token_expiration_s: Some(
                self.service_account_max_token_expiration.0,
            ),
            api_audiences: self.api_audiences.clone(),
            token_file,
            oidc: self.oidc.config()?,
            refuse_anonymous: !self.anonymous_auth,
            service_account_admission: true,
            root_ca_pem: root_ca_pem.to_vec(),
            secret_use_check: match self.secret_use_check {
                UseCheck::Off => SecretUseCheck::Off,
                UseCheck::Warn => SecretUseCheck::Warn,
                UseCheck::Enforce => SecretUseCheck::Enforce,
            },
            pod_security_default: self.pod_security_default,
            ..AccessConfig::default()
        })
    }

    /// The files of the keys of service account tokens.
    pub(crate) fn key_files(&self, pki: &Path) -> KeyFiles {
        KeyFiles {
            pki: pki.to_owned(),
            signing: self.service_account_signing_key_file.clone(),
            accepted: self.service_account_key_file.clone(),
        }
    }
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_lifetimes_outside_an_hour_and_the_upstream_maximum_are_rejected() {
        for (text, seconds) in [("1h", 3600), ("8760h", 31_536_000), ("4294967296s", 1 << 32)] {
            assert_eq!(token_duration(text).unwrap().0, seconds, "{text}");
        }
        for text in ["59m", "0s", "-1h", "4294967297s", "forever", ""] {
            assert!(token_duration(text).is_err(), "{text}");
        }
    }
}
