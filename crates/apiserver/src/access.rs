//! What an operator decides about identity and access.

use coffer_api::pod_security::Level;

use crate::admission::SecretUseCheck;
use crate::authn::{OidcConfig, TokenFile};
use crate::tokens::ServiceAccountKeys;

/// Identity and access, with defaults that are safe.
#[derive(Debug, Default)]
pub struct AccessConfig {
    /// Keys of service account tokens. Without any, none is issued and none accepted.
    pub service_account_keys: Option<ServiceAccountKeys>,
    /// `iss` of tokens (`--service-account-issuer`); upstream's usual value where absent.
    pub service_account_issuer: Option<String>,
    /// Where others find the keys (`--service-account-jwks-uri`); below the issuer where absent.
    pub service_account_jwks_uri: Option<String>,
    /// How long a token lives at most, in seconds (`--service-account-max-token-expiration`); longer
    /// ones are shortened.
    pub service_account_max_token_expiration_s: Option<i64>,
    /// The audiences that tokens for this server have (`--api-audiences`); the issuer where empty.
    pub api_audiences: Vec<String>,
    /// `--token-auth-file`, read.
    pub token_file: TokenFile,
    /// An OpenID Connect issuer whose tokens are accepted.
    pub oidc: Option<OidcConfig>,
    /// Refuses requests without credentials, instead of serving them as `system:anonymous`.
    pub refuse_anonymous: bool,
    /// Whether pods get a service account, its token and its secrets. Needs the controllers that
    /// make the default accounts; without them no pod could be made.
    pub service_account_admission: bool,
    /// The CA certificate that token Secrets carry as `ca.crt`, PEM.
    pub root_ca_pem: Vec<u8>,
    /// Whether creating a pod that references a secret requires permission on that secret
    /// (`--secret-use-check`).
    pub secret_use_check: SecretUseCheck,
    /// What pods may ask of nodes in namespaces without an enforce label
    /// (`--pod-security-default`).
    pub pod_security_default: Level,
}
