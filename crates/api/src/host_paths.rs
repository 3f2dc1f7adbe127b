//! Host paths that no pod reaches without a right of its own: what the node and its control plane
//! keep there is worth every secret of the cluster.
//!
//! The API server judges paths by their text, before a pod is made; the kubelet judges what they
//! resolve to on its machine, and knows further directories of its own. Both ask here.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::PodSpec;

/// The API group of the right.
pub const GROUP: &str = "coffer.dev";
/// Its resource. Nothing is stored there.
pub const RESOURCE: &str = "hostpaths";
/// Its verb.
pub const VERB: &str = "use";
/// On a pod, or on an object with a pod template: who wrote it has the right. The API server alone
/// sets it; what clients send is replaced.
pub const GRANTED: &str = "coffer.dev/granted-host-paths";

/// Directories and sockets of container runtimes and kubelets, and of control planes, by absolute
/// path. `/var/run` is a link to `/run` nearly everywhere, and both are listed.
pub const PROTECTED: [&str; 25] = [
    "/var/lib/coffer",
    "/run/containerd",
    "/var/run/containerd",
    "/var/lib/containerd",
    "/run/k3s",
    "/var/run/k3s",
    "/run/crio",
    "/var/run/crio",
    "/var/lib/crio",
    "/var/lib/containers",
    "/run/docker",
    "/var/run/docker",
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/cri-dockerd.sock",
    "/var/run/cri-dockerd.sock",
    "/run/dockershim.sock",
    "/var/run/dockershim.sock",
    "/var/lib/docker",
    "/run/runc",
    "/var/run/runc",
    "/var/lib/kubelet",
    "/var/lib/etcd",
    "/etc/kubernetes",
    "/proc",
];
/// Directories of which every entry with [`RUN_PREFIX`] is protected.
const RUN: [&str; 2] = ["/run", "/var/run"];
/// Coffer's own directories below `/run`.
const RUN_PREFIX: &str = "coffer-";

/// Whether one path lies within the other, either way round: a mount of either shows the other.
pub fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Whether a path, as it is written or as it was resolved, is, contains or lies within a protected
/// place that every node has. One with `..` in it, or that is not absolute, counts as such.
pub fn is_protected(path: &Path) -> bool {
    let Some(path) = plain(path) else { return true };
    let mut runs = RUN.iter().map(Path::new);
    let coffers = |run: &Path| {
        let below = path.strip_prefix(run).ok().and_then(|rest| rest.components().next());
        below.is_some_and(|first| first.as_os_str().to_string_lossy().starts_with(RUN_PREFIX))
    };
    PROTECTED.iter().any(|protected| overlap(&path, Path::new(protected)))
        || runs.any(|run| coffers(run) || run.starts_with(&path))
}

/// The path without `.` and doubled slashes.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::Normal(_) => plain.push(component),
            Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    plain.is_absolute().then_some(plain)
}

/// The host paths of a spec, as they are written.
pub fn of(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let volumes = spec.volumes.iter().flatten();
    volumes.filter_map(|volume| volume.host_path.as_ref()).map(|host| host.path.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_contains_or_lies_within_a_protected_place_is_protected() {
        for path in [
            "/",
            "//",
            "/.",
            "/run",
            "/run/",
            "/var",
            "/var/run",
            "/var/lib",
            "/./var//lib/",
            "/etc",
            "/etc/kubernetes/pki",
            "/run/coffer-0a1b2c/containerd.sock",
            "/var/run/coffer-x",
            "/run/containerd/containerd.sock",
            "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db",
            "/var/lib/kubelet/pods",
            "/var/lib/coffer/pki",
            "/proc",
            "/proc/1/root",
            "/tmp/../run",
            "run",
            "",
        ] {
            assert!(is_protected(Path::new(path)), "{path:?}");
        }
    }

    #[test]
    fn other_host_paths_are_not() {
        for path in [
            "/tmp",
            "/var/log",
            "/var/log/pods",
            "/srv/data",
            "/dev/fuse",
            "/sys",
            "/etc/localtime",
            "/var/lib/postgres",
            "/run/other",
            "/run/xcoffer-a",
            "/var/lib/containerd2",
        ] {
            assert!(!is_protected(Path::new(path)), "{path:?}");
        }
    }
}
