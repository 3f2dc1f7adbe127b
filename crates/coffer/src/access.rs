//! Identity and access as the command line has them: token keys in the data directory, their
//! rotation, and the flags.
//!
//! The signing key is `pki/sa.key`, as in kubeadm. Earlier keys are in `pki/sa-accepted/`: their tokens
//! are valid until the key is removed. A running server follows both, so that a rotation needs no restart
//! and invalidates no token.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use coffer_apiserver::tokens::{ServiceAccountKeys, TokenKeys, generate_signing_key};
use coffer_apiserver::{AccessConfig, OidcConfig, PodSecurityLevel, SecretUseCheck, TokenFile};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::data_dir::pki_of;
use crate::files;

const SIGNING: &str = "sa.key";
const ACCEPTED: &str = "sa-accepted";
/// How often a running server checks for changed keys.
const POLL: Duration = Duration::from_secs(1);

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

/// Rotate the key that signs service account tokens. A running server uses the new key within a second.
/// Tokens signed with earlier keys stay valid.
#[derive(Debug, Args)]
pub(crate) struct RotateOptions {
    /// The data directory of the API server.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/coffer")]
    pub(crate) data_dir: PathBuf,
    /// Also remove all keys before the current one: their tokens become invalid, those of the current key
    /// stay valid.
    #[arg(long)]
    pub(crate) drop_old: bool,
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
            service_account_keys: Some(self.keys(pki)?),
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

    fn keys(&self, pki: &Path) -> Result<ServiceAccountKeys> {
        let mut keys = load_or_make(pki)?;
        if let Some(path) = &self.service_account_signing_key_file {
            keys.accepted_pem.push(std::mem::replace(&mut keys.signing_pem, read_key(path)?));
        }
        for path in &self.service_account_key_file {
            keys.accepted_pem.push(read_key(path)?);
        }
        Ok(keys)
    }
}

/// Follows the keys on disk, so that a rotation needs no restart.
pub(crate) struct KeyFollower {
    options: AccessOptions,
    pki: PathBuf,
    keys: TokenKeys,
}

impl KeyFollower {
    /// Follows the keys of a directory for a server.
    pub(crate) fn new(options: &AccessOptions, pki: PathBuf, keys: TokenKeys) -> Self {
        Self { options: options.clone(), pki, keys }
    }

    /// Reloads the server's keys whenever those on disk change, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut seen = None;
        let mut follower = self;
        let mut ticks = tokio::time::interval(POLL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let check = tokio::task::spawn_blocking(move || {
                let now = stamps(&follower.pki);
                // The server has loaded the keys that were there at first.
                if seen.as_ref().is_some_and(|seen| *seen != now) {
                    follower.reload();
                }
                (follower, Some(now))
            });
            // An error means that the runtime is shutting down.
            let Ok((same, now)) = check.await else { return };
            (follower, seen) = (same, now);
        }
    }

    fn reload(&self) {
        let read = self.options.keys(&self.pki);
        match read.and_then(|keys| Ok(self.keys.replace(&keys)?)) {
            Ok(()) => tracing::info!("service account keys reloaded"),
            Err(error) => {
                let error = crate::report::one_line(&error);
                tracing::error!(error, "cannot reload service account keys");
            }
        }
    }
}

/// The `rotate-token-key` verb.
pub(crate) fn rotate(options: &RotateOptions) -> Result<()> {
    let pki = pki_of(&options.data_dir);
    let signing = pki.join(SIGNING);
    let accepted = pki.join(ACCEPTED);
    let old = read_key(&signing)?;
    if options.drop_old {
        for path in accepted_files(&pki)? {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    files::private_directory(&accepted)
        .with_context(|| format!("cannot make {}", accepted.display()))?;
    // The old key is accepted under its new name before the new key replaces it, so that its tokens
    // are valid at every moment and after every crash.
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    write(&accepted.join(format!("{}.key", since.as_nanos())), &old)?;
    write(&signing, &generate_signing_key()?)
}

fn load_or_make(pki: &Path) -> Result<ServiceAccountKeys> {
    let path = pki.join(SIGNING);
    let signing_pem = match fs::read(&path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = generate_signing_key()?;
            write(&path, &made)?;
            made
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let accepted_pem =
        accepted_files(pki)?.iter().map(|path| read_key(path)).collect::<Result<_>>()?;
    Ok(ServiceAccountKeys { signing_pem, accepted_pem })
}

/// Complete key files; one that is being written has another extension.
fn accepted_files(pki: &Path) -> Result<Vec<PathBuf>> {
    let directory = pki.join(ACCEPTED);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", directory.display()));
        }
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "key" || it == "pub"))
        .collect();
    paths.sort();
    Ok(paths)
}

/// Changes whenever a key file changes.
fn stamps(pki: &Path) -> Vec<(PathBuf, Option<SystemTime>)> {
    let mut paths = vec![pki.join(SIGNING)];
    paths.extend(accepted_files(pki).unwrap_or_default());
    let stamp = |path: PathBuf| {
        let changed = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        (path, changed)
    };
    paths.into_iter().map(stamp).collect()
}

fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Zeroizing::new(bytes))
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write_private(path, bytes).with_context(|| format!("cannot write {}", path.display()))
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

    #[test]
    fn a_rotation_keeps_earlier_keys_unless_drop_old_is_given() {
        let data = tempfile::tempdir().unwrap();
        let pki = pki_of(data.path());
        files::private_directory(&pki).unwrap();
        let first = load_or_make(&pki).unwrap().signing_pem;
        assert_eq!(load_or_make(&pki).unwrap().signing_pem, first, "a second start keeps it");
        let options = |drop_old| RotateOptions { data_dir: data.path().to_owned(), drop_old };
        let before = stamps(&pki);
        rotate(&options(false)).unwrap();
        assert_ne!(stamps(&pki), before);
        let second = load_or_make(&pki).unwrap();
        assert_ne!(second.signing_pem, first);
        assert_eq!(second.accepted_pem, [first]);
        rotate(&options(true)).unwrap();
        let third = load_or_make(&pki).unwrap();
        assert_eq!(third.accepted_pem, [second.signing_pem]);
    }
}
