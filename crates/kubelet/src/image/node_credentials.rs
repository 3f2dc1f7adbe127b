//! The node's own credentials, which are for all its pods: a docker client's file, read where
//! upstream's kubelet reads it, again for each pull, so that a rotated password is the next one used.
//!
//! The first file that has credentials counts. `config.json` is looked for in the kubelet's root
//! directory, its working directory, `$HOME/.docker` and `/.docker`; then the old `.dockercfg` in
//! the root directory, the working directory, `$HOME` and `/`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::credential::Source;
use super::docker_config::{self, Entry};
use super::keyring::Keyring;

/// A larger file is not read; upstream reads 10 MiB from the network and any file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub(super) struct NodeCredentials {
    files: Vec<(PathBuf, Form)>,
}

#[derive(Clone, Copy)]
enum Form {
    ConfigJson,
    Cfg,
}

impl NodeCredentials {
    pub(super) fn new(root_dir: &Path, home: Option<&Path>) -> Self {
        let root = Path::new("/");
        let config_json = [
            Some(root_dir.to_owned()),
            Some(PathBuf::new()),
            home.map(|home| home.join(".docker")),
            Some(root.join(".docker")),
        ];
        let cfg = [
            Some(root_dir.to_owned()),
            Some(PathBuf::new()),
            home.map(Path::to_owned),
            Some(root.to_owned()),
        ];
        let config_json = config_json
            .into_iter()
            .flatten()
            .map(|directory| (directory.join("config.json"), Form::ConfigJson));
        let cfg =
            cfg.into_iter().flatten().map(|directory| (directory.join(".dockercfg"), Form::Cfg));
        Self { files: config_json.chain(cfg).collect() }
    }

    /// What the node has now.
    pub(super) fn keyring(&self) -> Keyring {
        let mut keyring = Keyring::default();
        let found = self.files.iter().find_map(|(path, form)| read(path, *form));
        keyring.add(found.unwrap_or_default(), &Source::Node);
        keyring
    }
}

/// `None` where the next file has to be looked at, as upstream does also for one that is malformed.
fn read(path: &Path, form: Form) -> Option<Vec<Entry>> {
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "registry credentials not read");
            return None;
        }
    };
    let parsed = match form {
        Form::ConfigJson => docker_config::parse_config_json(&bytes),
        Form::Cfg => docker_config::parse_cfg(&bytes).map(Some),
    };
    parsed.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "registry credentials not read");
        None
    })
}

fn read_bytes(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    if length > FILE_BYTES_MAX {
        return Err(std::io::Error::other("the file is too long"));
    }
    // Sized immediately: a growing buffer leaves copies behind.
    let capacity = usize::try_from(length + 1).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_api::image_name::ImageName;

    fn user(credentials: &NodeCredentials) -> Option<String> {
        let image = ImageName::parse("r.io/app").expect("valid");
        let keyring = credentials.keyring();
        let found = keyring.lookup(&image);
        found.first().map(|credential| credential.username().expose().to_owned())
    }

    #[test]
    fn the_first_file_with_credentials_counts_and_is_read_again() {
        let root = tempfile::tempdir().expect("a directory");
        let home = tempfile::tempdir().expect("a directory");
        let credentials = NodeCredentials::new(root.path(), Some(home.path()));
        assert_eq!(user(&credentials), None);

        // base64 of old:p, docker:p, node:p
        std::fs::write(root.path().join(".dockercfg"), r#"{"r.io":{"auth":"b2xkOnA="}}"#)
            .expect("written");
        assert_eq!(user(&credentials).as_deref(), Some("old"));
        std::fs::create_dir(home.path().join(".docker")).expect("made");
        let docker = home.path().join(".docker/config.json");
        std::fs::write(docker, r#"{"auths":{"r.io":{"auth":"ZG9ja2VyOnA="}}}"#).expect("written");
        assert_eq!(user(&credentials).as_deref(), Some("docker"));
        let node = root.path().join("config.json");
        std::fs::write(&node, "not JSON").expect("written");
        assert_eq!(user(&credentials).as_deref(), Some("docker"));
        std::fs::write(&node, r#"{"auths":{"r.io":{"auth":"bm9kZTpw"}}}"#).expect("written");
        assert_eq!(user(&credentials).as_deref(), Some("node"));
    }
}
