//! What the fake runtime has: sandboxes, containers, images. Plain data, no protocol.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_cri::v1 as cri;

use super::call::Recorded;

/// How many calls are recorded; a test that makes more has gone wild.
const RECORDED_MAX: usize = 100_000;

/// A sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// What it was made from.
    pub config: cri::PodSandboxConfig,
    /// The handler that its RuntimeClass names.
    pub handler: String,
    /// Whether it runs.
    pub ready: bool,
    /// Its address.
    pub ip: String,
    pub(super) created_at_ns: i64,
}

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its sandbox's id.
    pub sandbox: String,
    /// What it was made from.
    pub config: cri::ContainerConfig,
    /// Created, running, exited.
    pub state: cri::ContainerState,
    /// How it ended.
    pub exit: Exit,
    pub(super) log_path: String,
    pub(super) created_at_ns: i64,
    pub(super) started_at_ns: i64,
    pub(super) finished_at_ns: i64,
}

/// How a container ends.
#[derive(Clone, Debug, Default)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// The runtime's word for it: `OOMKilled`, `Error`.
    pub reason: String,
    /// The runtime's explanation.
    pub message: String,
    /// How long ago: what has waited since need not wait again.
    pub ago: Duration,
}

impl Exit {
    /// Just now, with a code.
    pub fn code(code: i32) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        Self { code, reason: reason.to_owned(), ..Self::default() }
    }

    /// The same, some time ago.
    #[must_use]
    pub fn ago(mut self, ago: Duration) -> Self {
        self.ago = ago;
        self
    }
}

impl Sandbox {
    /// The pod's name.
    pub fn pod(&self) -> &str {
        self.config.metadata.as_ref().map_or("", |meta| &meta.name)
    }

    /// Which sandbox of the pod it is, from 0.
    pub fn attempt(&self) -> u32 {
        self.config.metadata.as_ref().map_or(0, |meta| meta.attempt)
    }
}

impl Container {
    /// Its name in the pod's spec.
    pub fn name(&self) -> &str {
        self.config.metadata.as_ref().map_or("", |meta| &meta.name)
    }

    /// Which start of the container it is, from 0.
    pub fn attempt(&self) -> u32 {
        self.config.metadata.as_ref().map_or(0, |meta| meta.attempt)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == cri::ContainerState::ContainerRunning
    }

    pub(super) fn finish(&mut self, exit: Exit) {
        if self.state == cri::ContainerState::ContainerExited {
            return;
        }
        self.state = cri::ContainerState::ContainerExited;
        let ago = i64::try_from(exit.ago.as_nanos()).unwrap_or(i64::MAX);
        // What has started later than it ended would be no container.
        self.finished_at_ns = now_ns().saturating_sub(ago);
        self.started_at_ns = self.started_at_ns.min(self.finished_at_ns);
        self.exit = exit;
    }
}

/// All that the runtime has.
pub(super) struct State {
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    pub(super) containers: BTreeMap<String, Container>,
    /// Ids by name.
    pub(super) images: BTreeMap<String, String>,
    /// Image names that no registry has.
    pub(super) missing_images: Vec<String>,
    pub(super) recorded: Vec<Recorded>,
    /// `RuntimeReady` and `NetworkReady`.
    pub(super) conditions: Vec<cri::RuntimeCondition>,
    /// `pod/container`s that do not end by their stop signal.
    pub(super) stubborn: Vec<String>,
    /// What commands in containers return, by `pod/container`; others succeed.
    pub(super) exec: HashMap<String, (i32, String)>,
    made: u64,
}

impl Default for State {
    fn default() -> Self {
        let condition = |name: &str| cri::RuntimeCondition {
            r#type: name.to_owned(),
            status: true,
            ..Default::default()
        };
        Self {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            missing_images: Vec::new(),
            recorded: Vec::new(),
            conditions: vec![condition("RuntimeReady"), condition("NetworkReady")],
            stubborn: Vec::new(),
            exec: HashMap::new(),
            made: 0,
        }
    }
}

impl State {
    /// An id that nothing else on the machine has, as long as a real one.
    pub(super) fn new_id(&mut self) -> String {
        self.made += 1;
        format!("fa4e{:08x}{:020x}{:032x}", std::process::id(), now_ns(), self.made)
    }

    pub(super) fn new_ip(&self) -> String {
        format!("192.0.2.{}", self.made % 250 + 1)
    }

    pub(super) fn record(&mut self, recorded: Recorded) {
        assert!(self.recorded.len() < RECORDED_MAX, "more calls than any test makes");
        self.recorded.push(recorded);
    }

    pub(super) fn pod_of(&self, sandbox: &str) -> String {
        self.sandboxes.get(sandbox).map_or("", |sandbox| sandbox.pod()).to_owned()
    }

    /// `pod/container`.
    pub(super) fn path_of(&self, container: &str) -> String {
        let Some(container) = self.containers.get(container) else { return String::new() };
        format!("{}/{}", self.pod_of(&container.sandbox), container.name())
    }

    /// Ends what runs in a sandbox, and the sandbox.
    pub(super) fn stop_sandbox(&mut self, id: &str) {
        for container in self.containers.values_mut().filter(|it| it.sandbox == id) {
            container.finish(Exit::code(137));
        }
        if let Some(sandbox) = self.sandboxes.get_mut(id) {
            sandbox.ready = false;
        }
    }

    pub(super) fn image_id(&self, name: &str) -> Option<String> {
        let by_id = || self.images.values().find(|id| *id == name);
        self.images.get(name).or_else(by_id).cloned()
    }
}

pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
