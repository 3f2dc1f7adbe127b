//! containerd's configuration: `config.toml`, and a `hosts.toml` for each mirrored registry.
//!
//! Pure text, so that a test can read it. The format is version 2, which containerd 1.6 reads and
//! 2.x migrates by itself.

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;

use crate::layout::Layout;

/// The one handler that a RuntimeClass may name. It is also the default for pods without a class.
pub const RUNTIME_HANDLER: &str = "runc";

/// Snapshotters and helpers that Coffer never uses; each would probe the system at start, and
/// `opt` would create /opt/containerd.
const DISABLED_PLUGINS: &[&str] = &[
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// The daemon's configuration. `restrict_oom_score_adj` is for machines where even root lacks
/// CAP_SYS_RESOURCE: without it no container starts there, with it scores are limited. `runc` is the
/// program that runs containers.
pub(crate) fn daemon(
    layout: &Layout,
    cni_plugins: &Path,
    snapshotter: &str,
    runc: &Path,
) -> String {
    let cri = r#"plugins."io.containerd.grpc.v1.cri""#;
    let disabled: Vec<_> = DISABLED_PLUGINS.iter().map(|name| quoted(name)).collect();
    format!(
        r#"# Written by Coffer at every start; changes made here are lost.
version = 2
root = {root}
state = {state}
disabled_plugins = [{disabled}]

[grpc]
  address = {socket}

[debug]
  level = "warn"

[{cri}]
  sandbox_image = {pause}
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  tolerate_missing_hugetlb_controller = true

[{cri}.cni]
  bin_dir = {plugins}
  conf_dir = {cni}

[{cri}.containerd]
  snapshotter = {snapshotter}
  default_runtime_name = {default}

[{cri}.containerd.runtimes.{handler}]
  runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.{handler}.options]
  BinaryName = {runc}

[{cri}.registry]
  config_path = {hosts}
"#,
        root = quoted_path(&layout.root()),
        state = quoted_path(&layout.state()),
        disabled = disabled.join(", "),
        socket = quoted_path(&layout.socket()),
        pause = quoted(crate::pause::REFERENCE),
        plugins = quoted_path(cni_plugins),
        cni = quoted_path(&layout.cni()),
        snapshotter = quoted(snapshotter),
        default = quoted(RUNTIME_HANDLER),
        handler = RUNTIME_HANDLER,
        runc = quoted_path(runc),
        hosts = quoted_path(&layout.hosts()),
    )
}

/// `HOST=URL`: URL is a mirror of the registry HOST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryMirror {
    host: String,
    url: String,
}

/// Why a `HOST=URL` is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseMirrorError {
    /// There is no `=`.
    #[error("expected HOST=URL")]
    NoEquals,
    /// The part before `=` cannot be the host of an image reference.
    #[error("the part before = must be a registry's host, such as docker.io or localhost:5000")]
    Host,
    /// The part after `=` is not http:// or https://.
    #[error("the part after = must be a URL that starts with http:// or https://")]
    Url,
}

impl RegistryMirror {
    /// The host in image references; also the name of its directory.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The contents of the host's `hosts.toml`. If the mirror does not have an image or is not available,
    /// containerd uses the registry itself.
    pub(crate) fn hosts_toml(&self) -> String {
        // Docker Hub's registry does not live at the host that its references name.
        let server = match self.host.as_str() {
            "docker.io" => "https://registry-1.docker.io".to_owned(),
            host => format!("https://{host}"),
        };
        let mut text = String::new();
        let _ = writeln!(text, "server = {}\n", quoted(&server));
        let _ = writeln!(text, "[host.{}]", quoted(&self.url));
        let _ = writeln!(text, "  capabilities = [\"pull\", \"resolve\"]");
        text
    }
}

impl FromStr for RegistryMirror {
    type Err = ParseMirrorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, url) = text.split_once('=').ok_or(ParseMirrorError::NoEquals)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
        if host.is_empty() || host.starts_with('.') || !host.chars().all(plain) {
            return Err(ParseMirrorError::Host);
        }
        let authority =
            url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or("");
        if authority.is_empty() || authority.starts_with('/') || url.contains(char::is_whitespace) {
            return Err(ParseMirrorError::Url);
        }
        Ok(Self { host: host.to_owned(), url: url.trim_end_matches('/').to_owned() })
    }
}

/// A TOML basic string; its escapes are JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_of_docker_hub_falls_back_to_docker_hubs_real_host() {
        let mirror: RegistryMirror = "docker.io=http://127.0.0.1:5000/".parse().unwrap();
        assert_eq!(mirror.host(), "docker.io");
        assert_eq!(
            mirror.hosts_toml(),
            "server = \"https://registry-1.docker.io\"\n\n\
             [host.\"http://127.0.0.1:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
    }

    /// HOST becomes the name of a directory: `../..` must not.
    #[test]
    fn an_invalid_mirror_is_rejected() {
        use ParseMirrorError::*;
        let cases = [
            ("docker.io", NoEquals),
            ("=http://a", Host),
            ("../x=http://a", Host),
            ("a/b=http://a", Host),
            ("docker.io=127.0.0.1:5000", Url),
            ("docker.io=http://", Url),
            ("docker.io=http://a b", Url),
            ("docker.io=ftp://a", Url),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<RegistryMirror>(), Err(error), "{text}");
        }
    }
}
