//! Plans for pods in every state that a kubelet meets.

use std::time::Duration;

use serde_json::json;

use super::plan::*;
use crate::pod::RestartPolicy;
use crate::runtime::{Container, ContainerState, Observed, Sandbox, container_hash};
use crate::status::Waiting;
use k8s_openapi::api::core::v1::PodSpec;
use tokio::time::Instant;

fn spec(value: serde_json::Value) -> PodSpec {
    serde_json::from_value(value).expect("a spec")
}

fn simple(policy: &str) -> PodSpec {
    spec(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}))
}

fn sandbox(attempt: u32, ready: bool) -> Sandbox {
    let id = format!("s{attempt}");
    Sandbox {
        id,
        attempt,
        ready,
        created_at_ns: 1,
        ips: Vec::new(),
        placeholders: false,
        handler: String::new(),
    }
}

fn container(
    name: &str,
    sandbox: &str,
    attempt: u32,
    state: ContainerState,
    code: i32,
) -> Container {
    let definition = k8s_openapi::api::core::v1::Container {
        name: name.to_owned(),
        image: Some("i".to_owned()),
        ..Default::default()
    };
    Container {
        id: format!("{name}-{attempt}"),
        sandbox: sandbox.to_owned(),
        name: name.to_owned(),
        attempt,
        state,
        created_at_ns: 1,
        started_at_ns: 1,
        finished_at_ns: 1,
        exit_code: code,
        reason: String::new(),
        message: String::new().into(),
        image: "i".to_owned(),
        image_ref: "i".to_owned(),
        hash: container_hash(&definition),
        log_path: format!("{name}/{attempt}.log"),
        grace_period_s: 30,
    }
}

fn ready() -> Progress {
    Progress { volumes_ready: true, ..Default::default() }
}

fn actions(spec: &PodSpec, observed: &Observed, progress: &Progress) -> Vec<Action> {
    plan(spec, false, observed, progress, Instant::now()).actions
}

fn start(name: &str, attempt: u32, sandbox: &str) -> Action {
    Action::Start { name: name.to_owned(), attempt, sandbox: sandbox.to_owned() }
}

#[test]
fn volumes_come_before_the_sandbox_and_the_sandbox_before_containers() {
    let spec = simple("Always");
    let nothing = Observed::default();
    assert_eq!(actions(&spec, &nothing, &Progress::default()), [Action::SetUpVolumes]);
    assert_eq!(actions(&spec, &nothing, &ready()), [Action::CreateSandbox { attempt: 0 }]);
    let observed = Observed { sandboxes: vec![sandbox(0, true)], containers: vec![] };
    assert_eq!(actions(&spec, &observed, &ready()), [start("c", 0, "s0")]);
}

#[test]
fn a_pod_that_waits_for_its_volumes_starts_nothing() {
    let until = Instant::now() + Duration::from_secs(5);
    let progress = Progress { volumes_hold: Some(until), ..Default::default() };
    let plan = plan(&simple("Always"), false, &Observed::default(), &progress, Instant::now());
    assert_eq!((plan.actions, plan.wake), (vec![], Some(until)));
}

#[test]
fn a_running_pod_is_left_alone_also_by_a_kubelet_that_knows_nothing_of_it() {
    let observed = Observed {
        sandboxes: vec![sandbox(0, true)],
        containers: vec![container("c", "s0", 0, ContainerState::Running, 0)],
    };
    assert_eq!(actions(&simple("Always"), &observed, &Progress::default()), []);
}

#[test]
fn the_restart_policy_decides_what_follows_an_exit() {
    for (policy, code, restarts) in [
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::Always, 1, true),
        (RestartPolicy::OnFailure, 0, false),
        (RestartPolicy::OnFailure, 1, true),
        (RestartPolicy::Never, 0, false),
        (RestartPolicy::Never, 1, false),
    ] {
        let observed = Observed {
            sandboxes: vec![sandbox(0, true)],
            containers: vec![container("c", "s0", 3, ContainerState::Exited, code)],
        };
        let actions = actions(&simple(&format!("{policy:?}")), &observed, &ready());
        let expected = if restarts {
            start("c", 4, "s0")
        } else {
            Action::StopSandbox { id: "s0".to_owned() }
        };
        assert_eq!(actions, [expected], "{policy:?} {code}");
    }
}

#[test]
fn a_container_in_back_off_waits_and_the_plan_says_how_long() {
    let observed = Observed {
        sandboxes: vec![sandbox(0, true)],
        containers: vec![container("c", "s0", 0, ContainerState::Exited, 1)],
    };
    let until = Instant::now() + Duration::from_secs(10);
    let waiting = Waiting { reason: "CrashLoopBackOff", message: String::new() };
    let mut progress = ready();
    let definition = container_hash(&simple("Always").containers[0]);
    progress.holds.insert("c".to_owned(), Hold { until, definition, waiting });
    let waits = plan(&simple("Always"), false, &observed, &progress, Instant::now());
    assert_eq!((waits.actions, waits.wake), (vec![], Some(until)));
    let fixed = spec(json!({"containers": [{"name": "c", "image": "another"}]}));
    let starts = plan(&fixed, false, &observed, &progress, Instant::now());
    assert_eq!(starts.actions, [start("c", 1, "s0")]);
}

#[test]
fn a_lost_sandbox_is_replaced_with_everything_in_it() {
    let spec = simple("Always");
    let running = container("c", "s0", 0, ContainerState::Running, 0);
    let stranded = Observed { sandboxes: vec![sandbox(0, false)], containers: vec![running] };
    let Action::Stop { container: stopped } = &actions(&spec, &stranded, &ready())[0] else {
        panic!("the stranded container is stopped first");
    };
    assert_eq!(stopped.why, StopReason::SandboxGone);

    let exited = container("c", "s0", 0, ContainerState::Exited, 137);
    let empty = Observed { sandboxes: vec![sandbox(0, false)], containers: vec![exited.clone()] };
    let expected =
        [Action::StopSandbox { id: "s0".to_owned() }, Action::CreateSandbox { attempt: 1 }];
    assert_eq!(actions(&spec, &empty, &ready()), expected);

    let renewed =
        Observed { sandboxes: vec![sandbox(1, true), sandbox(0, false)], containers: vec![exited] };
    assert_eq!(actions(&spec, &renewed, &ready()), [start("c", 1, "s1")]);
}

#[test]
fn init_containers_run_one_after_the_other_before_the_main_ones() {
    let spec = spec(json!({
        "initContainers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}],
    }));
    let with = |containers| Observed { sandboxes: vec![sandbox(0, true)], containers };
    let init = |name, state, code| container(name, "s0", 0, state, code);
    assert_eq!(actions(&spec, &with(vec![]), &ready()), [start("a", 0, "s0")]);
    let running = with(vec![init("a", ContainerState::Running, 0)]);
    assert_eq!(actions(&spec, &running, &ready()), []);
    let failed = with(vec![init("a", ContainerState::Exited, 1)]);
    assert_eq!(actions(&spec, &failed, &ready()), [start("a", 1, "s0")]);
    let one = with(vec![init("a", ContainerState::Exited, 0)]);
    assert_eq!(actions(&spec, &one, &ready()), [start("b", 0, "s0")]);
    let both =
        with(vec![init("a", ContainerState::Exited, 0), init("b", ContainerState::Exited, 0)]);
    assert_eq!(actions(&spec, &both, &ready()), [start("c", 0, "s0")]);
}

#[test]
fn a_sidecar_stays_up_with_the_main_containers_and_ends_with_them() {
    let spec = spec(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "c", "image": "i"}],
    }));
    let with = |containers| Observed { sandboxes: vec![sandbox(0, true)], containers };
    let up = container("side", "s0", 0, ContainerState::Running, 0);
    let down = container("side", "s0", 0, ContainerState::Exited, 1);
    let main = |state| container("c", "s0", 0, state, 0);
    assert_eq!(actions(&spec, &with(vec![up.clone()]), &ready()), [start("c", 0, "s0")]);
    let crashed = with(vec![down, main(ContainerState::Running)]);
    assert_eq!(actions(&spec, &crashed, &ready()), [start("side", 1, "s0")]);
    let done = with(vec![up, main(ContainerState::Exited)]);
    let Action::Stop { container } = &actions(&spec, &done, &ready())[0] else {
        panic!("the sidecar is stopped");
    };
    assert_eq!((container.name.as_str(), container.why), ("side", StopReason::PodOver));
}

#[test]
fn a_pod_that_failed_to_initialize_and_does_not_restart_is_over() {
    let spec = spec(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "a", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}],
    }));
    let observed = Observed {
        sandboxes: vec![sandbox(0, true)],
        containers: vec![container("a", "s0", 0, ContainerState::Exited, 1)],
    };
    assert_eq!(actions(&spec, &observed, &ready()), [Action::StopSandbox { id: "s0".to_owned() }]);
}

#[test]
fn a_finished_pod_lets_its_secrets_go_once() {
    let observed = Observed {
        sandboxes: vec![sandbox(0, false)],
        containers: vec![container("c", "s0", 0, ContainerState::Exited, 0)],
    };
    let spec = simple("Never");
    assert_eq!(actions(&spec, &observed, &ready()), [Action::ReleaseVolumes]);
    let released = Progress { volumes_released: true, ..Default::default() };
    assert_eq!(actions(&spec, &observed, &released), []);
}

#[test]
fn a_container_that_was_made_and_not_started_is_recreated() {
    let observed = Observed {
        sandboxes: vec![sandbox(0, true)],
        containers: vec![container("c", "s0", 2, ContainerState::Created, 0)],
    };
    let removed = Action::Remove { id: "c-2".to_owned(), log_path: "c/2.log".to_owned() };
    assert_eq!(actions(&simple("Always"), &observed, &ready()), [removed, start("c", 2, "s0")]);
}

#[test]
fn a_changed_image_takes_a_new_container() {
    let spec = spec(json!({"containers": [{"name": "c", "image": "other"}]}));
    let observed = Observed {
        sandboxes: vec![sandbox(0, true)],
        containers: vec![container("c", "s0", 0, ContainerState::Running, 0)],
    };
    let Action::Stop { container } = &actions(&spec, &observed, &ready())[0] else {
        panic!("the container is stopped");
    };
    assert_eq!(container.why, StopReason::DefinitionChanged);
}

#[test]
fn one_dead_container_is_kept_and_older_ones_are_removed() {
    let observed = Observed {
        sandboxes: vec![sandbox(0, true)],
        containers: vec![
            container("c", "s0", 3, ContainerState::Running, 0),
            container("c", "s0", 2, ContainerState::Exited, 1),
            container("c", "s0", 1, ContainerState::Exited, 1),
        ],
    };
    let removed = Action::Remove { id: "c-1".to_owned(), log_path: "c/1.log".to_owned() };
    assert_eq!(actions(&simple("Always"), &observed, &ready()), [removed]);
}

#[test]
fn a_pod_with_too_many_containers_is_not_worked_on() {
    let of = |count: usize| {
        let containers: Vec<_> = (0..count).map(|n| json!({"name": format!("c{n}")})).collect();
        too_many_containers(&spec(json!({"containers": containers})))
    };
    assert_eq!(of(500), None);
    let expected = "error syncing pod: it has 501 containers; no more than 500 are run";
    assert_eq!(of(501).as_deref(), Some(expected));
}
