//! Which pod: its identity, where its things lie on this machine, and the readings of its spec
//! that several parts share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use coffer_api::kinds::pod::is_sidecar;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodSpec};

/// Seconds a container gets to end by itself where its pod does not say.
pub(crate) const GRACE_PERIOD_DEFAULT_S: i64 = 30;

/// A pod that the API server gave us, by name and by uid. Cheap to clone.
///
/// The parts have been checked to be usable as one path component each, since they become
/// directory names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PodId(Arc<Identity>);

#[derive(PartialEq, Eq, Hash)]
struct Identity {
    namespace: String,
    name: String,
    uid: String,
}

impl PodId {
    /// `None` where a part is missing or would not be a file name.
    pub(crate) fn new(namespace: &str, name: &str, uid: &str) -> Option<Self> {
        let usable = [namespace, name, uid].iter().all(|part| is_path_component(part));
        usable.then(|| {
            Self(Arc::new(Identity {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: uid.to_owned(),
            }))
        })
    }

    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        Self::new(meta.namespace.as_deref()?, meta.name.as_deref()?, meta.uid.as_deref()?)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.0.namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn uid(&self) -> &str {
        &self.0.uid
    }

    /// What an event about this pod is about.
    pub(crate) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(self.namespace().to_owned()),
            name: Some(self.name().to_owned()),
            uid: Some(self.uid().to_owned()),
            ..Default::default()
        }
    }
}

/// Upstream's `format.Pod`: `name_namespace(uid)`.
impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}({})", self.name(), self.namespace(), self.uid())
    }
}

impl fmt::Debug for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a name can be one component of a path, and nothing but that.
pub(crate) fn is_path_component(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0'])
}

/// Where this kubelet keeps what belongs to pods.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: Arc<Path>,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// `<root>/pods`, one directory per pod uid in it.
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// Where a volume is, by the plugin's directory name (`kubernetes.io~secret`) and its own.
    pub(crate) fn volume(&self, uid: &str, plugin: &str, volume: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(plugin).join(volume)
    }

    /// The tmpfs with the pod's secret versions and environment values; no container sees it.
    pub(crate) fn snapshot(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("snapshot")
    }

    /// Bind mounts for `subPath`.
    pub(crate) fn sub_path(&self, uid: &str, volume: &str, container: &str, at: usize) -> PathBuf {
        self.pod(uid).join("volume-subpaths").join(volume).join(container).join(at.to_string())
    }

    pub(crate) fn etc_hosts(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// The directory of the files behind containers' `terminationMessagePath`; a tmpfs of its own for
    /// a pod that has Secrets: what a program writes into it may be one.
    pub(crate) fn termination_messages(&self, uid: &str, in_memory: bool) -> PathBuf {
        self.pod(uid).join(if in_memory { "messages" } else { "containers" })
    }

    /// Where the file of one start of a container may be.
    pub(crate) fn termination_logs(
        &self,
        uid: &str,
        container: &str,
        attempt: u32,
    ) -> [PathBuf; 2] {
        [true, false].map(|in_memory| {
            let directory = self.termination_messages(uid, in_memory);
            directory.join(container).join(attempt.to_string())
        })
    }

    pub(crate) fn all_logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// `<root>/logs/<namespace>_<name>_<uid>`, named as upstream names it under /var/log/pods.
    pub(crate) fn logs(&self, pod: &PodId) -> PathBuf {
        let name = format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid());
        self.all_logs().join(name)
    }
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub(crate) fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    pub(crate) fn restarts_after(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// The spec, or one without containers for a pod that has none: nothing is run for it.
pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static NONE: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&NONE)
}

pub(crate) fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// Every container of the spec in the order in which they are started.
pub(crate) fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    init_containers(spec).iter().chain(&spec.containers)
}

/// Whether the API server wants this pod removed.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(crate) fn uses_host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_that_would_leave_its_directory_is_refused() {
        assert!(PodId::new("ns", "pod", "12-34").is_some());
        for uid in ["", "..", "a/b", "a\0"] {
            assert!(PodId::new("ns", "pod", uid).is_none(), "{uid:?}");
        }
    }

    #[test]
    fn a_pod_is_written_as_upstream_writes_it() {
        let id = PodId::new("myns", "mypod", "u-1").expect("the parts are valid");
        assert_eq!(id.to_string(), "mypod_myns(u-1)");
    }
}
