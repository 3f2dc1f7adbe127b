//! Identity and access as the command line has them: token keys in the data directory, their
//! rotation, and the flags.
//!
//! The key that signs is `pki/sa.key`, as kubeadm names it. Keys before it are in
//! `pki/sa-accepted/`: their tokens are good until the key is removed. A server that runs follows
//! both, so that a rotation takes no restart and ends no valid token.

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
/// How often a running server looks for changed keys.
const POLL: Duration = Duration::from_secs(1);

/// Flags about who is let in, and as whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccessOptions {
    /// What tokens of service accounts say issued them, and the audience of the API itself.
    #[arg(long, value_name = "URL")]
    pub(crate) service_account_issuer: Option<String>,
    /// What the API is to a token's audience; the issuer if not given. May be repeated.
    #[arg(long, value_name = "AUDIENCE", value_delimiter = ',')]
    pub(crate) api_audiences: Vec<String>,
    /// How long a token of a service account is good for at most: 8760h, 24h. One that is asked for
    /// longer is shortened, with a warning. No less than an hour.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = token_duration)]
    pub(crate) service_account_max_token_expiration: TokenDuration,
    /// A key to sign tokens with (PEM), instead of the one in the data directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_signing_key_file: Option<PathBuf>,
    /// A further key, private or public, whose tokens are good. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_key_file: Vec<PathBuf>,
    /// Static tokens: a CSV of token, user, uid and groups.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) oidc: OidcOptions,
    /// Let those in who prove no name, as system:anonymous.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) anonymous_auth: bool,
    /// Whether making a pod that uses a secret takes the right to use that secret.
    #[arg(long, value_name = "MODE", value_enum, default_value = "enforce")]
    pub(crate) secret_use_check: UseCheck,
    /// The Pod Security Standard (privileged, baseline or restricted) that pods must meet in
    /// namespaces without the label pod-security.kubernetes.io/enforce. Kubernetes has privileged.
    #[arg(long, value_name = "LEVEL", value_parser = PodSecurityLevel::parse)]
    #[arg(default_value = "baseline")]
    pub(crate) pod_security_default: PodSecurityLevel,
}

/// An OpenID Connect issuer whose tokens are good, too.
#[derive(Clone, Debug, Args)]
pub(crate) struct OidcOptions {
    /// The issuer, by its https URL. Takes tokens that say it issued them, signed by its keys.
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub(crate) oidc_issuer_url: Option<String>,
    /// The client that tokens must be issued to.
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub(crate) oidc_client_id: Option<String>,
    /// The claim that is the user's name.
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub(crate) oidc_username_claim: String,
    /// Stands before users' names; - for nothing. The issuer and # if not given, unless the claim
    /// is email.
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) oidc_username_prefix: Option<String>,
    /// The claim that is the user's groups, a text or a list of texts.
    #[arg(long, value_name = "CLAIM")]
    pub(crate) oidc_groups_claim: Option<String>,
    /// Stands before groups' names.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub(crate) oidc_groups_prefix: String,
    /// A claim that tokens must have with this value. May be repeated.
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',', value_parser = claim)]
    pub(crate) oidc_required_claim: Vec<(String, String)>,
    /// Algorithms that tokens may be signed by: RS256, RS384, RS512, PS256, PS384, PS512, ES256,
    /// ES384.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "RS256")]
    pub(crate) oidc_signing_algs: Vec<String>,
    /// What must have signed the issuer's certificate (PEM); the system's authorities if not given.
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

/// The life of a token, in seconds.
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

/// What the right to use a secret is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UseCheck {
    /// Whoever may make pods may use every secret of the namespace.
    Off,
    /// As off, with a warning.
    Warn,
    /// Who may not use a secret makes no pod that does.
    Enforce,
}

/// Makes a new key to sign tokens of service accounts with. A server that runs takes it up at once;
/// tokens of the keys before stay good.
#[derive(Debug, Args)]
pub(crate) struct RotateOptions {
    /// The data directory of the API server.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/coffer")]
    pub(crate) data_dir: PathBuf,
    /// Also forget all keys before the present one: their tokens end, the present key's stay good.
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

/// Follows the keys on disk, so that a rotation takes no restart.
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

    /// Exchanges the server's keys whenever those on disk change, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut seen = stamps(&self.pki);
        let mut ticks = tokio::time::interval(POLL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = stamps(&self.pki);
            if now == seen {
                continue;
            }
            seen = now;
            let read = self.options.keys(&self.pki);
            match read.and_then(|keys| Ok(self.keys.replace(&keys)?)) {
                Ok(()) => tracing::info!("service account keys exchanged"),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "service account keys not exchanged");
                }
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
    // Accepted under its new name before it stops to sign under the old one: at no moment, and
    // after no crash, is a token of it refused.
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

/// Whole key files; one that is being written has another ending.
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

/// What tells that some key has changed.
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
    fn tokens_last_between_an_hour_and_the_longest_that_can_be_asked_for() {
        for (text, seconds) in [("1h", 3600), ("8760h", 31_536_000), ("4294967296s", 1 << 32)] {
            assert_eq!(token_duration(text).unwrap().0, seconds, "{text}");
        }
        for text in ["59m", "0s", "-1h", "4294967297s", "forever", ""] {
            assert!(token_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rotation_keeps_the_key_before_until_it_is_told_to_drop_it() {
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
