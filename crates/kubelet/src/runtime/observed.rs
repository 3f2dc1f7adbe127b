//! What the runtime has of a pod: sandboxes and containers, newest first.

use std::collections::{BTreeMap, HashMap};

use k8s_cri::v1 as cri;

use super::labels;
use super::{Runtime, RuntimeError, call};
use crate::pod::{GRACE_PERIOD_DEFAULT_S, PodId};
use crate::redact::Foreign;

/// A pod's sandboxes and containers at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Newest first.
    pub(crate) sandboxes: Vec<Sandbox>,
    /// Newest first; several of one name are its restarts.
    pub(crate) containers: Vec<Container>,
}

/// A pod sandbox: what holds the pod's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    pub(crate) created_at_ns: i64,
    /// None on the host's network.
    pub(crate) ips: Vec<String>,
    /// Its containers get values instead of placeholders.
    pub(crate) placeholders: bool,
    /// The runtime's handler that it was made with; empty for the usual one.
    pub(crate) handler: String,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerState {
    Created,
    Running,
    Exited,
    Unknown,
}

/// One start of one container of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox: String,
    pub(crate) name: String,
    /// How often it had been restarted before: its `restartCount`.
    pub(crate) attempt: u32,
    pub(crate) state: ContainerState,
    pub(crate) created_at_ns: i64,
    pub(crate) started_at_ns: i64,
    pub(crate) finished_at_ns: i64,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    /// Why it did not start, say, in the runtime's words.
    pub(crate) message: Foreign,
    pub(crate) image: String,
    pub(crate) image_ref: String,
    /// See [`container_hash`](super::container_hash).
    pub(crate) hash: String,
    pub(crate) log_path: String,
    pub(crate) grace_period_s: i64,
}

impl Observed {
    /// The newest container of that name.
    pub(crate) fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The one before the newest.
    pub(crate) fn previous(&self, name: &str) -> Option<&Container> {
        self.containers.iter().filter(|container| container.name == name).nth(1)
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.state == ContainerState::Running)
    }

    /// The containers that the runtime itself reported. The others are known from the pod's status,
    /// and that alone must not lead to any action.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| !container.sandbox.is_empty())
    }

    /// The ids of all that the runtime holds of the pod.
    pub(crate) fn ids(&self) -> Vec<String> {
        let sandboxes = self.sandboxes.iter().map(|sandbox| &sandbox.id);
        sandboxes.chain(self.held().map(|container| &container.id)).cloned().collect()
    }

    /// The sandbox that the pod lives in, if it does.
    pub(crate) fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }
}

impl Container {
    pub(crate) fn is_running(&self) -> bool {
        self.state == ContainerState::Running
    }
}

impl Runtime {
    /// Looks at one pod.
    pub(crate) async fn observe(&self, id: &PodId) -> Result<Observed, RuntimeError> {
        let selector: HashMap<_, _> = [
            (labels::POD_UID.to_owned(), id.uid().to_owned()),
            (labels::NODE.to_owned(), self.node.to_string()),
        ]
        .into();
        let mut observed = Observed::default();
        let sandboxes = self.list_sandboxes(selector.clone()).await?;
        let containers = self.list_containers(selector).await?;
        self.seen.note(id.uid(), &sandboxes, &containers);
        for sandbox in sandboxes {
            observed.sandboxes.push(self.sandbox(sandbox).await?);
        }
        for container in containers {
            let status = self.container(&container.id).await?;
            let sandbox = container.pod_sandbox_id;
            observed.containers.extend(status.map(|status| Container { sandbox, ..status }));
        }
        observed
            .sandboxes
            .sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at_ns)));
        observed.containers.sort_by_key(|container| {
            std::cmp::Reverse((container.attempt, container.created_at_ns))
        });
        Ok(observed)
    }

    /// The pod has no worker any more.
    pub(crate) fn forget(&self, id: &PodId) {
        self.seen.forget(id.uid());
    }

    /// The id of one start of a container, while it runs.
    pub(crate) async fn running_container(
        &self,
        uid: &str,
        name: &str,
        attempt: u32,
    ) -> Result<Option<String>, RuntimeError> {
        let mut selector = self.own();
        selector.insert(labels::POD_UID.to_owned(), uid.to_owned());
        selector.insert(labels::CONTAINER_NAME.to_owned(), name.to_owned());
        let running = cri::ContainerState::ContainerRunning as i32;
        let found = self.list_containers(selector).await?.into_iter().find(|found| {
            let is_it = found.metadata.as_ref().is_some_and(|meta| meta.attempt == attempt);
            is_it && found.state == running
        });
        Ok(found.map(|found| found.id))
    }

    /// Every pod that this node's kubelets have left in the runtime.
    pub(crate) async fn pods(&self) -> Result<BTreeMap<String, PodId>, RuntimeError> {
        let mut pods = BTreeMap::new();
        let sandboxes =
            self.list_sandboxes(self.own()).await?.into_iter().map(|found| found.labels);
        let containers =
            self.list_containers(self.own()).await?.into_iter().map(|found| found.labels);
        for labels in sandboxes.chain(containers) {
            let label = |key| labels.get(key).map(String::as_str).unwrap_or_default();
            let id = PodId::new(
                label(labels::POD_NAMESPACE),
                label(labels::POD_NAME),
                label(labels::POD_UID),
            );
            pods.extend(id.map(|id| (id.uid().to_owned(), id)));
        }
        Ok(pods)
    }

    /// Selects what carries this node's label.
    pub(super) fn own(&self) -> HashMap<String, String> {
        [(labels::NODE.to_owned(), self.node.to_string())].into()
    }

    pub(super) async fn list_sandboxes(
        &self,
        label_selector: HashMap<String, String>,
    ) -> Result<Vec<cri::PodSandbox>, RuntimeError> {
        let filter = cri::PodSandboxFilter { label_selector, ..Default::default() };
        let ask = cri::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_pod_sandbox(call(ask)).await?.into_inner().items)
    }

    pub(super) async fn list_containers(
        &self,
        label_selector: HashMap<String, String>,
    ) -> Result<Vec<cri::Container>, RuntimeError> {
        let filter = cri::ContainerFilter { label_selector, ..Default::default() };
        let ask = cri::ListContainersRequest { filter: Some(filter) };
        Ok(self.runtime.clone().list_containers(call(ask)).await?.into_inner().containers)
    }

    async fn sandbox(&self, listed: cri::PodSandbox) -> Result<Sandbox, RuntimeError> {
        let ready = listed.state == cri::PodSandboxState::SandboxReady as i32;
        let mut sandbox = Sandbox {
            attempt: listed.metadata.map(|meta| meta.attempt).unwrap_or_default(),
            ready,
            created_at_ns: listed.created_at,
            ips: Vec::new(),
            placeholders: labels::has_placeholders(&listed.labels),
            handler: listed.runtime_handler,
            id: listed.id,
        };
        if !ready {
            return Ok(sandbox);
        }
        let ask =
            cri::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), verbose: false };
        match self.runtime.clone().pod_sandbox_status(call(ask)).await.map_err(RuntimeError::from) {
            Ok(answer) => {
                let network = answer.into_inner().status.and_then(|status| status.network);
                if let Some(network) = network.filter(|network| !network.ip.is_empty()) {
                    sandbox.ips.push(network.ip);
                    sandbox.ips.extend(network.additional_ips.into_iter().map(|more| more.ip));
                }
            }
            Err(RuntimeError::NotFound(_)) => sandbox.ready = false,
            Err(error) => return Err(error),
        }
        Ok(sandbox)
    }

    /// A container's status; `None` if it no longer exists.
    pub(crate) async fn container(&self, id: &str) -> Result<Option<Container>, RuntimeError> {
        let ask = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        match self.runtime.clone().container_status(call(ask)).await.map_err(RuntimeError::from) {
            Ok(answer) => Ok(answer.into_inner().status.map(container)),
            Err(RuntimeError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// `OOMKilled`, `ContainerCannotRun`: a reason is not longer than a few words.
const REASON_LEN_MAX: usize = 64;

/// How containerd words that it gave up a start in the middle: the call ended, or with it the shim that
/// was being started.
const INTERRUPTED: [&str; 2] =
    ["context canceled", "failed to start shim: start failed: : signal: killed"];

/// Whether the start of a container was cut off because the kubelet that asked for it died.
///
/// containerd reports it as exited with code 128, which a pod that does not restart would fail
/// by. Runtimes that word it differently give the pod a restart, or that failure.
fn was_interrupted(status: &cri::ContainerStatus) -> bool {
    status.started_at == 0
        && status.reason == "StartError"
        && INTERRUPTED.iter().any(|words| status.message.contains(words))
}

fn container(status: cri::ContainerStatus) -> Container {
    let annotation = |key| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let metadata = status.metadata.clone().unwrap_or_default();
    Container {
        name: status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or(metadata.name),
        attempt: annotation(labels::RESTART_COUNT).parse().unwrap_or(metadata.attempt),
        hash: annotation(labels::HASH).to_owned(),
        grace_period_s: annotation(labels::GRACE_PERIOD).parse().unwrap_or(GRACE_PERIOD_DEFAULT_S),
        state: match cri::ContainerState::try_from(status.state) {
            // As good as only created: it never ran, and not for a reason of its own.
            Ok(cri::ContainerState::ContainerExited) if was_interrupted(&status) => {
                ContainerState::Created
            }
            Ok(cri::ContainerState::ContainerCreated) => ContainerState::Created,
            Ok(cri::ContainerState::ContainerRunning) => ContainerState::Running,
            Ok(cri::ContainerState::ContainerExited) => ContainerState::Exited,
            Ok(cri::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
        },
        image: status.image.map(|image| image.image).unwrap_or_default(),
        id: status.id,
        // Not part of a status, only of a listing.
        sandbox: String::new(),
        created_at_ns: status.created_at,
        started_at_ns: status.started_at,
        finished_at_ns: status.finished_at,
        exit_code: status.exit_code,
        reason: reason(status.reason),
        message: status.message.into(),
        image_ref: status.image_ref,
        log_path: status.log_path,
    }
}

/// One word, as the API wants it; a runtime that has none to say says nothing.
fn reason(text: String) -> String {
    let is_word = text.len() <= REASON_LEN_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_word { text } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_whose_start_was_cut_off_has_not_run() {
        let exited = cri::ContainerStatus {
            state: cri::ContainerState::ContainerExited as i32,
            exit_code: 128,
            reason: "StartError".to_owned(),
            message: "failed to create containerd task: context canceled: unknown".to_owned(),
            ..Default::default()
        };
        assert_eq!(container(exited.clone()).state, ContainerState::Created);
        let message = "failed to create containerd task: failed to start shim: start failed: : \
                       signal: killed: unknown";
        let killed = cri::ContainerStatus { message: message.to_owned(), ..exited.clone() };
        assert_eq!(container(killed).state, ContainerState::Created);
        let failed = cri::ContainerStatus { message: "no such file".to_owned(), ..exited.clone() };
        assert_eq!(container(failed).state, ContainerState::Exited);
        let ran = cri::ContainerStatus { started_at: 1, ..exited };
        assert_eq!(container(ran).state, ContainerState::Exited);
    }
}
