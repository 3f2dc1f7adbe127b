//! The keys of service account tokens: on disk, rotated, and followed by a running server.
//!
//! The signing key is `pki/sa.key`, as in kubeadm. Earlier keys are in `pki/sa-accepted/`: their tokens
//! are valid until the key is removed. A running server follows both, so that a rotation needs no restart
//! and invalidates no token.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::Args;
use coffer_apiserver::tokens::{ServiceAccountKeys, TokenKeys, generate_signing_key};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::data_dir::pki_of;
use crate::files;

const SIGNING: &str = "sa.key";
const ACCEPTED: &str = "sa-accepted";
/// How often a running server checks for changed keys.
const POLL: Duration = Duration::from_secs(1);

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

/// The files of a server's keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyFiles {
    /// The directory that keys are rotated in.
    pub(crate) pki: PathBuf,
    /// The key to sign with instead of the one in the directory.
    pub(crate) signing: Option<PathBuf>,
    /// Additional keys to verify with.
    pub(crate) accepted: Vec<PathBuf>,
}

impl KeyFiles {
    /// Reads the keys; makes the directory's signing key if there is none.
    pub(crate) fn load(&self) -> Result<ServiceAccountKeys> {
        let mut keys = load_or_make(&self.pki)?;
        if let Some(path) = &self.signing {
            keys.accepted_pem.push(std::mem::replace(&mut keys.signing_pem, read_key(path)?));
        }
        for path in &self.accepted {
            keys.accepted_pem.push(read_key(path)?);
        }
        Ok(keys)
    }
}

/// Follows the keys on disk, so that a rotation needs no restart.
pub(crate) struct KeyFollower {
    key_files: KeyFiles,
    keys: TokenKeys,
}

impl KeyFollower {
    /// Follows the files of the keys of a server.
    pub(crate) fn new(key_files: KeyFiles, keys: TokenKeys) -> Self {
        Self { key_files, keys }
    }

    /// Reloads the server's keys whenever those on disk change, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut seen = None;
        let mut follower = self;
        let mut ticks = tokio::time::interval(POLL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let check = tokio::task::spawn_blocking(move || {
                let now = stamps(&follower.key_files.pki);
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
        let read = self.key_files.load();
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

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write_private(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
