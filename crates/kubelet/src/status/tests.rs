//! Statuses of pods in every state that users meet, as users will see them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Probed, SecretsFinding, View, Waiting, compute, recall};
use crate::runtime::{Container, ContainerState, Observed, Sandbox};

struct Case {
    pod: Pod,
    observed: Observed,
    known: PodStatus,
    waiting: BTreeMap<String, Waiting>,
    messages: BTreeMap<String, String>,
    probes: BTreeMap<String, Probed>,
    secrets: Option<SecretsFinding>,
    is_ending: bool,
}

impl Case {
    fn new(spec: Value) -> Self {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec});
        Self {
            pod: serde_json::from_value(pod).expect("a pod"),
            observed: Observed::default(),
            known: PodStatus::default(),
            waiting: BTreeMap::new(),
            messages: BTreeMap::new(),
            probes: BTreeMap::new(),
            secrets: None,
            is_ending: false,
        }
    }

    fn in_sandbox(mut self) -> Self {
        let (id, ips) = ("s".to_owned(), vec!["10.1.0.2".to_owned()]);
        let sandbox = Sandbox {
            id,
            attempt: 0,
            ready: true,
            created_at_ns: 1,
            ips,
            placeholders: false,
            handler: String::new(),
        };
        self.observed.sandboxes = vec![sandbox];
        self
    }

    fn with(mut self, name: &str, attempt: u32, state: ContainerState, code: i32) -> Self {
        let container = Container {
            id: format!("{name}{attempt}"),
            sandbox: "s".to_owned(),
            name: name.to_owned(),
            attempt,
            state,
            created_at_ns: 1,
            started_at_ns: 1_800_000_000_000_000_000,
            finished_at_ns: 1_800_000_001_000_000_000,
            exit_code: code,
            reason: String::new(),
            message: String::new().into(),
            image: "docker.io/library/i:latest".to_owned(),
            image_ref: "sha256:1".to_owned(),
            hash: String::new(),
            log_path: String::new(),
            grace_period_s: 30,
        };
        self.observed.containers.insert(0, container);
        self
    }

    fn waiting(mut self, name: &str, reason: &'static str, message: &str) -> Self {
        let waiting = Waiting { reason, message: message.to_owned() };
        self.waiting.insert(name.to_owned(), waiting);
        self
    }

    fn status(&self) -> Value {
        let mut observed = self.observed.clone();
        recall(&self.known, &mut observed);
        let view = View {
            pod: &self.pod,
            known: &self.known,
            observed: &observed,
            waiting: &self.waiting,
            messages: &self.messages,
            probes: &self.probes,
            failure: None,
            secrets: self.secrets.as_ref(),
            is_ending: self.is_ending,
            host_ip: [192, 0, 2, 1].into(),
            runtime_name: "containerd",
            now: Timestamp::from_second(1_800_000_010).expect("a time"),
        };
        serde_json::to_value(compute(&view)).expect("a status")
    }
}

fn condition<'a>(status: &'a Value, name: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().expect("conditions");
    conditions.iter().find(|condition| condition["type"] == name).expect("the condition")
}

fn one() -> Value {
    json!({"containers": [{"name": "c", "image": "i"}]})
}

fn policy(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]})
}

#[test]
fn a_pod_whose_volumes_are_not_there_is_being_created() {
    let status = Case::new(one()).status();
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(condition(&status, "PodReadyToStartContainers")["status"], "False");
    assert_eq!(condition(&status, "Initialized")["status"], "True");
    let ready = condition(&status, "Ready");
    assert_eq!(ready["reason"], "ContainersNotReady");
    assert_eq!(ready["message"], "containers with unready status: [c]");
    assert_eq!(status["hostIP"], "192.0.2.1");
    assert_eq!(status["startTime"], "2027-01-15T08:00:10Z");
}

#[test]
fn a_running_pod_has_its_address_and_is_ready() {
    let status = Case::new(one()).in_sandbox().with("c", 0, ContainerState::Running, 0).status();
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.1.0.2");
    assert_eq!(status["podIPs"], json!([{"ip": "10.1.0.2"}]));
    let container = &status["containerStatuses"][0];
    assert_eq!(container["containerID"], "containerd://c0");
    assert_eq!(container["state"], json!({"running": {"startedAt": "2027-01-15T08:00:00Z"}}));
    assert_eq!((&container["ready"], &container["started"]), (&json!(true), &json!(true)));
    assert_eq!(condition(&status, "Ready")["status"], "True");
    assert_eq!(condition(&status, "Ready").get("reason"), None);
}

#[test]
fn a_container_that_is_not_ready_keeps_its_pod_from_being_so() {
    let mut case = Case::new(one()).in_sandbox().with("c", 0, ContainerState::Running, 0);
    case.probes.insert("c".to_owned(), Probed { ready: false, started: true });
    let status = case.status();
    assert_eq!(status["phase"], "Running");
    assert_eq!(condition(&status, "ContainersReady")["status"], "False");
}

#[test]
fn a_crashing_container_waits_with_its_end_as_the_last_state() {
    let case = Case::new(one()).in_sandbox().with("c", 2, ContainerState::Exited, 7).waiting(
        "c",
        "CrashLoopBackOff",
        "back-off 20s",
    );
    let status = case.status();
    assert_eq!(status["phase"], "Running");
    let container = &status["containerStatuses"][0];
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}});
    assert_eq!(container["state"], waiting);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 7);
    assert_eq!(container["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(container["restartCount"], 2);
}

#[test]
fn a_pod_that_has_run_to_its_end_has_succeeded_or_failed_for_good() {
    for (restart, code, phase, reason) in [
        ("Never", 0, "Succeeded", "PodCompleted"),
        ("Never", 3, "Failed", "PodFailed"),
        ("OnFailure", 0, "Succeeded", "PodCompleted"),
    ] {
        let mut case =
            Case::new(policy(restart)).in_sandbox().with("c", 0, ContainerState::Exited, code);
        case.messages.insert("c0".to_owned(), "bye".to_owned());
        let status = case.status();
        assert_eq!(status["phase"], phase, "{restart} {code}");
        assert_eq!(condition(&status, "Ready")["reason"], reason);
        let ended = &status["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["reason"], if code == 0 { "Completed" } else { "Error" });
        assert_eq!(ended["message"], "bye");

        case.known.phase = Some(phase.to_owned());
        case.observed = Observed::default();
        assert_eq!(case.status()["phase"], phase, "also when the runtime has forgotten it");
    }
    let failing =
        Case::new(policy("OnFailure")).in_sandbox().with("c", 0, ContainerState::Exited, 1);
    assert_eq!(failing.status()["phase"], "Running");
}

#[test]
fn a_pod_that_initializes_says_so() {
    let spec = json!({"initContainers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}]});
    let case = Case::new(spec.clone()).in_sandbox().with("a", 0, ContainerState::Exited, 0);
    let status = case.status();
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(status["initContainerStatuses"][0]["ready"], true);
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized["reason"], "ContainersNotInitialized");
    assert_eq!(initialized["message"], "containers with incomplete status: [b]");

    let mut never = spec;
    never["restartPolicy"] = json!("Never");
    let failed = Case::new(never).in_sandbox().with("a", 0, ContainerState::Exited, 1);
    assert_eq!(failed.status()["phase"], "Failed");
}

#[test]
fn a_deleted_pod_ends_as_its_containers_did() {
    for (code, phase) in [(0, "Succeeded"), (137, "Failed")] {
        let mut case = Case::new(one()).in_sandbox().with("c", 0, ContainerState::Exited, code);
        case.is_ending = true;
        let status = case.status();
        assert_eq!(status["phase"], phase);
        assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], code);
    }
}

#[test]
fn what_was_reported_of_a_lost_container_is_not_forgotten() {
    let mut case = Case::new(one());
    let known = json!({"phase": "Running", "startTime": "2027-01-01T00:00:00Z",
        "conditions": [{"type": "Initialized", "status": "True",
            "lastTransitionTime": "2027-01-01T00:00:01Z"}],
        "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true,
            "containerID": "containerd://c4", "restartCount": 4,
            "state": {"running": {"startedAt": "2027-01-01T00:00:02Z"}}}]});
    case.known = serde_json::from_value(known).expect("a status");
    let status = case.status();
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["startTime"], "2027-01-01T00:00:00Z");
    assert_eq!(condition(&status, "Initialized")["lastTransitionTime"], "2027-01-01T00:00:01Z");
    let container = &status["containerStatuses"][0];
    assert_eq!(container["restartCount"], 4);
    assert_eq!(container["containerID"], "containerd://c4");
    assert_eq!(container["state"]["terminated"]["reason"], "ContainerStatusUnknown");
    assert_eq!(container["state"]["terminated"]["exitCode"], 137);
    assert_eq!(container["ready"], false);
}

#[test]
fn a_container_that_the_runtime_has_forgotten_is_as_it_was_reported() {
    let mut case = Case::new(policy("OnFailure"));
    let ended = json!({"exitCode": 0, "reason": "Completed", "message": "bye",
        "containerID": "containerd://c1", "startedAt": "2027-01-01T00:00:02Z",
        "finishedAt": "2027-01-01T00:00:03Z"});
    let known = json!({"phase": "Running", "containerStatuses": [{"name": "c", "image": "i",
        "imageID": "", "ready": false, "containerID": "containerd://c1", "restartCount": 1,
        "state": {"terminated": ended}}]});
    case.known = serde_json::from_value(known).expect("a status");
    case.messages.insert("c1".to_owned(), "bye".to_owned());
    let status = case.status();
    assert_eq!(status["phase"], "Succeeded");
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"], ended);
    assert_eq!(status["containerStatuses"][0]["restartCount"], 1);
}

#[test]
fn stale_secrets_are_named_in_a_condition_of_our_own() {
    let mut case = Case::new(one()).in_sandbox().with("c", 0, ContainerState::Running, 0);
    let conditions = case.status()["conditions"].to_string();
    assert!(!conditions.contains("SecretsCurrent"), "a pod without secrets has no such condition");
    case.secrets = Some(SecretsFinding { stale: String::new() });
    assert_eq!(condition(&case.status(), "coffer.dev/SecretsCurrent")["status"], "True");
    case.secrets = Some(SecretsFinding { stale: "secret \"s\" was deleted".to_owned() });
    let status = case.status();
    let condition = condition(&status, "coffer.dev/SecretsCurrent");
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("False"), &json!("SecretsChanged"))
    );
}
