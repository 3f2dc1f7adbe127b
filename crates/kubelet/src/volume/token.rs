//! Service account tokens in projected volumes, which expire and are replaced in time.
//!
//! Tokens are made for one pod and are not Secrets: the snapshot rule is not for them. A new one
//! takes the place of the old one by the rename of `..data`, with every other file of the volume
//! as it was.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::payload::{FilePath, Payload};
use super::spec::{self, FileSource, VolumeKind};
use super::writer::{self, Ownership};
use crate::mount::tmpfs;
use crate::pod::Layout;
use crate::snapshot::{Snapshot, Superseded};

/// Upstream replaces a token after this part of its life, and at the latest after a day.
const REPLACED_AFTER_PERCENT: i64 = 80;
const REPLACED_AFTER_MAX_S: i64 = 24 * 60 * 60;
/// How far the API server's clock may be behind.
const CLOCKS_DIFFER_MAX_S: i64 = 60 * 60;

/// A token file of a pod.
pub(super) struct TokenFile<'a> {
    /// The volume.
    pub(super) volume: PathBuf,
    /// The file in it.
    pub(super) path: &'a str,
    pub(super) audience: Option<&'a str>,
    pub(super) expiration_s: i64,
}

/// All token files of a pod.
pub(super) fn files<'a>(layout: &Layout, uid: &str, spec: &'a PodSpec) -> Vec<TokenFile<'a>> {
    let mut found = Vec::new();
    for (name, kind) in spec::volumes(spec) {
        let volume = kind.path(layout, uid, name);
        let VolumeKind::Files(files) = kind else { continue };
        for source in files.sources {
            if let FileSource::Token { audience, expiration_s, path } = source {
                found.push(TokenFile { volume: volume.clone(), path, audience, expiration_s });
            }
        }
    }
    found
}

impl TokenFile<'_> {
    /// How long until the token should be replaced; zero if it should be now.
    pub(super) fn due_in(&self, now: Timestamp) -> io::Result<Duration> {
        let file = self.volume.join(self.path);
        let token = Zeroizing::new(fs::read_to_string(&file)?);
        let (issued, life) = match claims(&token) {
            Some(claims) => (claims.iat, claims.exp.saturating_sub(claims.iat)),
            // Not a token of the kind that says so itself: what was asked for, since it came.
            None => (fs::metadata(&file)?.mtime(), self.expiration_s),
        };
        let kept = (life.saturating_mul(REPLACED_AFTER_PERCENT) / 100).min(REPLACED_AFTER_MAX_S);
        let left = issued.saturating_add(kept).saturating_sub(now.as_second());
        Ok(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    }

    /// Puts another token into its place. The old one stays in the snapshot while it is good for
    /// anything: a program may still print it.
    pub(super) fn replace(
        &self,
        token: &str,
        snapshot: &Snapshot,
        owner: Ownership,
    ) -> io::Result<()> {
        let present = present(&self.volume)?;
        let path = FilePath::parse(self.path).map_err(io::Error::other)?;
        let now = Timestamp::now().as_second();
        snapshot.forget_tokens(|old| is_expired(old, now))?;
        let old = present.get(path.as_str()).map(|(_, old)| (Superseded::Token, old.as_slice()));
        snapshot.keep_superseded(old.into_iter())?;
        let mut payload = Payload::default();
        for (name, (mode, bytes)) in &present {
            let bytes = if name == path.as_str() { token.as_bytes() } else { bytes.as_slice() };
            payload.add(name, *mode, Cow::Borrowed(bytes)).map_err(io::Error::other)?;
        }
        let size = payload.size();
        tmpfs::resize(&self.volume, tmpfs::used(&self.volume)? + size)?;
        writer::write(File::open(&self.volume)?.as_fd(), &payload, owner)?;
        tmpfs::shrink(&self.volume, size);
        Ok(())
    }
}

pub(super) type Present = BTreeMap<String, (i32, Zeroizing<Vec<u8>>)>;

/// Every file that a volume holds now, by its path, with its mode.
pub(super) fn present(volume: &Path) -> io::Result<Present> {
    let mut present = Present::new();
    read_all(&fs::canonicalize(volume.join("..data"))?, "", &mut present)?;
    Ok(present)
}

fn read_all(directory: &Path, prefix: &str, present: &mut Present) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            read_all(&entry.path(), &format!("{path}/"), present)?;
        } else {
            let mode = i32::try_from(metadata.mode() & 0o777).unwrap_or_default();
            present.insert(path, (mode, Zeroizing::new(fs::read(entry.path())?)));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
}

/// What a JWT says of its life. Nothing is verified: it came from the API server.
fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
    serde_json::from_slice(&bytes).ok()
}

/// Whether a token has expired by any clock.
fn is_expired(token: &[u8], now: i64) -> bool {
    let claims = std::str::from_utf8(token).ok().and_then(claims);
    claims.is_some_and(|claims| claims.exp.saturating_add(CLOCKS_DIFFER_MAX_S) < now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::tmpfs::Size;
    use coffer_testkit::in_namespace;

    fn token(iat: i64, exp: i64) -> String {
        let payload = serde_json::json!({"iat": iat, "exp": exp, "sub": "x"}).to_string();
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn written(volume: &Path, token: &str) {
        let mut payload = Payload::default();
        payload.add("token", 0o644, Cow::Borrowed(token.as_bytes())).expect("valid");
        payload.add("sub/ca.crt", 0o400, Cow::Borrowed(b"\x00ca")).expect("valid");
        let root = File::open(volume).expect("opened");
        writer::write(root.as_fd(), &payload, Ownership::default()).expect("written");
    }

    #[test]
    fn a_token_is_due_after_most_of_its_life_and_at_the_latest_after_a_day() {
        let volume = tempfile::tempdir().expect("a directory");
        let file = TokenFile {
            volume: volume.path().to_owned(),
            path: "token",
            audience: None,
            expiration_s: 600,
        };
        let due = |token: &str, now: i64| {
            written(volume.path(), token);
            let now = Timestamp::from_second(now).expect("a time");
            file.due_in(now).expect("readable").as_secs()
        };
        assert_eq!(due(&token(1000, 2000), 1000), 800);
        assert_eq!(due(&token(1000, 2000), 1801), 0);
        assert_eq!(due(&token(1000, 1000 + 365 * 86400), 1000), 86400);
        let opaque = due("opaque", Timestamp::now().as_second());
        assert!((479..=480).contains(&opaque), "{opaque}");
    }

    #[test]
    fn the_other_files_of_a_volume_stay_as_they_are() {
        in_namespace(|| {
            let volume = tempfile::tempdir().expect("a directory");
            let size = Size { bytes: 3 * 4096, inodes: Some(12) };
            let options = tmpfs::Options { size, root_mode: 0o755, exec: false };
            tmpfs::Detached::new(options).expect("made").attach(volume.path()).expect("mounted");
            let old = token(1000, 2000);
            written(volume.path(), &old);
            let memory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
            let layout = Layout::new(memory.path());
            fs::create_dir_all(layout.snapshot("u")).expect("made");
            let snapshot = Snapshot::of(&layout, "u");
            let file = TokenFile {
                volume: volume.path().to_owned(),
                path: "token",
                audience: None,
                expiration_s: 600,
            };
            let replaced = file.replace(&"n".repeat(9000), &snapshot, Ownership::default());
            let mut kept = Vec::new();
            snapshot.each_value(|value| kept.push(value.to_vec())).expect("readable");
            // The next renewal forgets it, because it has expired.
            let again = file.replace("m", &snapshot, Ownership::default());
            let mut kept_then = Vec::new();
            snapshot.each_value(|value| kept_then.push(value.to_vec())).expect("readable");
            let last = file.replace(&"n".repeat(9000), &snapshot, Ownership::default());
            let token = fs::read(volume.path().join("token"));
            let ca = fs::read(volume.path().join("sub/ca.crt"));
            let mode =
                fs::metadata(volume.path().join("sub/ca.crt")).map(|found| found.mode() & 0o777);
            crate::mount::mountinfo::unmount_below(volume.path()).expect("unmounted");
            replaced.and(again).and(last).expect("replaced");
            assert_eq!(kept, [old.as_bytes()]);
            assert_eq!(kept_then, ["n".repeat(9000).as_bytes()]);
            assert_eq!(token.expect("a file").len(), 9000);
            assert_eq!(ca.expect("a file"), b"\x00ca");
            assert_eq!(mode.expect("a file"), 0o400);
        });
    }
}
