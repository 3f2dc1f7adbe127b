//! What to do next for a pod, from what it should be and what there is. Pure.
//!
//! A plan holds what can be done now; when it was done, whatever came of it, the worker looks
//! again and plans again, until nothing is left to do.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container as Spec, PodSpec};
use tokio::time::Instant;

use crate::pod::{self, RestartPolicy};
use crate::runtime::{Container, ContainerState, Observed, container_hash};
use crate::status::{self, Waiting};

/// Dead containers of one name that are kept, for `lastState` and `kubectl logs --previous`.
const DEAD_CONTAINERS_KEPT: usize = 1;

/// How many containers a pod may have: each round looks at all of them, several times.
const CONTAINERS_MAX: usize = 500;

/// Why nothing is done for a pod that has more containers than are looked after.
pub(crate) fn too_many_containers(spec: &PodSpec) -> Option<String> {
    let count = pod::all_containers(spec).count();
    (count > CONTAINERS_MAX).then(|| {
        format!(
            "error syncing pod: it has {count} containers; no more than {CONTAINERS_MAX} are run"
        )
    })
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    SetUpVolumes,
    /// Unmounts the volumes of a pod that has run to its end.
    ReleaseVolumes,
    CreateSandbox {
        attempt: u32,
    },
    StopSandbox {
        id: String,
    },
    RemoveSandbox {
        id: String,
    },
    Start {
        name: String,
        attempt: u32,
        sandbox: String,
    },
    Stop {
        container: Stop,
    },
    /// Removes a dead container and its log.
    Remove {
        id: String,
        log_path: String,
    },
}

/// A container to stop, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) why: StopReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The spec has another image for it.
    DefinitionChanged,
    /// Its sandbox no longer exists.
    SandboxGone,
    /// The pod has come to its end.
    PodOver,
    /// A probe found it dead.
    Unhealthy,
}

/// What keeps a container from being started just now.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) until: Instant,
    /// The [`container_hash`] of what was held: a container with another image need not wait.
    pub(crate) definition: String,
    pub(crate) waiting: Waiting,
}

/// What the worker remembers between plans.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) volumes_ready: bool,
    pub(crate) volumes_released: bool,
    pub(crate) volumes_hold: Option<Instant>,
    pub(crate) sandbox_hold: Option<Instant>,
    pub(crate) holds: BTreeMap<String, Hold>,
    /// Running containers, by id, that a probe found dead.
    pub(crate) unhealthy: Vec<String>,
}

/// What to do now, and when to look again if nothing happens before.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake: Option<Instant>,
}

impl Plan {
    fn just(actions: Vec<Action>) -> Self {
        Self { actions, wake: None }
    }

    fn wait_until(until: Option<Instant>) -> Self {
        Self { actions: Vec::new(), wake: until }
    }
}

/// What a pod that should run is to do next. `is_over` says that its phase is final already.
pub(crate) fn plan(
    spec: &PodSpec,
    is_over: bool,
    observed: &Observed,
    progress: &Progress,
    now: Instant,
) -> Plan {
    let tidy = tidy(observed);
    if !tidy.is_empty() {
        return Plan::just(tidy);
    }
    let sandbox = observed.sandbox();
    let wanted = wanted(spec, observed, sandbox.map(|sandbox| sandbox.id.as_str()));
    if is_over || matches!(wanted, Wanted::Over) {
        return over(observed, progress);
    }
    let Some(sandbox) = sandbox else { return new_sandbox(observed, progress, now) };

    let stops = stops(spec, observed, &sandbox.id, progress);
    if !stops.is_empty() {
        return Plan::just(stops);
    }
    let Wanted::Start(wanted) = wanted else { return Plan::default() };
    start(&wanted, observed, &sandbox.id, progress, now)
}

/// Removes what no client will ask about again.
fn tidy(observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut dead: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, container) in observed.containers.iter().enumerate() {
        let is_latest = !observed.containers[..at].iter().any(|newer| newer.name == container.name);
        if is_latest || container.state != ContainerState::Exited {
            continue;
        }
        let seen = dead.entry(&container.name).or_default();
        *seen += 1;
        if *seen > DEAD_CONTAINERS_KEPT {
            let log_path = container.log_path.clone();
            actions.push(Action::Remove { id: container.id.clone(), log_path });
        }
    }
    for sandbox in observed.sandboxes.iter().skip(1) {
        if sandbox.ready {
            actions.push(Action::StopSandbox { id: sandbox.id.clone() });
        } else if !observed.containers.iter().any(|container| container.sandbox == sandbox.id) {
            actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
        }
    }
    actions
}

/// What of the spec should be started.
enum Wanted<'s> {
    Start(Vec<&'s Spec>),
    /// Nothing will ever run again.
    Over,
}

fn wanted<'s>(spec: &'s PodSpec, observed: &Observed, sandbox: Option<&str>) -> Wanted<'s> {
    let policy = RestartPolicy::of(spec);
    // Every sandbox initializes again: what an init container prepared may be lost with it.
    let here = |name: &str| {
        observed.latest(name).filter(|container| Some(container.sandbox.as_str()) == sandbox)
    };
    let finished = |container: &Container| {
        container.state == ContainerState::Exited && !policy.restarts_after(container.exit_code)
    };
    let all_finished =
        spec.containers.iter().all(|main| observed.latest(&main.name).is_some_and(finished));
    if all_finished {
        return Wanted::Over;
    }
    if !status::initialized(spec, here) {
        return next_init(spec, policy, here);
    }
    let sidecars = pod::init_containers(spec).iter().filter(|init| pod::is_sidecar(init));
    let mains =
        spec.containers.iter().filter(|main| !observed.latest(&main.name).is_some_and(finished));
    let idle = |spec: &&Spec| !here(&spec.name).is_some_and(Container::is_running);
    Wanted::Start(sidecars.chain(mains).filter(idle).collect())
}

/// The init container whose turn it is.
fn next_init<'s, 'o>(
    spec: &'s PodSpec,
    policy: RestartPolicy,
    here: impl Fn(&str) -> Option<&'o Container>,
) -> Wanted<'s> {
    for init in pod::init_containers(spec) {
        let Some(container) = here(&init.name) else { return Wanted::Start(vec![init]) };
        match container.state {
            ContainerState::Running if pod::is_sidecar(init) => {}
            ContainerState::Running => return Wanted::Start(Vec::new()),
            ContainerState::Exited if pod::is_sidecar(init) => return Wanted::Start(vec![init]),
            ContainerState::Exited if container.exit_code == 0 => {}
            ContainerState::Exited if policy == RestartPolicy::Never => return Wanted::Over,
            _ => return Wanted::Start(vec![init]),
        }
    }
    Wanted::Start(Vec::new())
}

/// Ends what still runs, gives the network back, and lets the secrets go.
fn over(observed: &Observed, progress: &Progress) -> Plan {
    let running: Vec<_> =
        observed.running().map(|container| stop(container, StopReason::PodOver)).collect();
    if !running.is_empty() {
        return Plan::just(running);
    }
    if let Some(sandbox) = observed.sandbox() {
        return Plan::just(vec![Action::StopSandbox { id: sandbox.id.clone() }]);
    }
    if !progress.volumes_released {
        return Plan::just(vec![Action::ReleaseVolumes]);
    }
    Plan::default()
}

fn stop(container: &Container, why: StopReason) -> Action {
    let (id, name) = (container.id.clone(), container.name.clone());
    Action::Stop { container: Stop { id, name, why } }
}

/// The way to a sandbox: volumes first, so that nothing is started that cannot go on.
fn new_sandbox(observed: &Observed, progress: &Progress, now: Instant) -> Plan {
    let stranded: Vec<_> =
        observed.running().map(|container| stop(container, StopReason::SandboxGone)).collect();
    if !stranded.is_empty() {
        return Plan::just(stranded);
    }
    if !progress.volumes_ready {
        return match progress.volumes_hold.filter(|until| *until > now) {
            Some(until) => Plan::wait_until(Some(until)),
            None => Plan::just(vec![Action::SetUpVolumes]),
        };
    }
    if let Some(until) = progress.sandbox_hold.filter(|until| *until > now) {
        return Plan::wait_until(Some(until));
    }
    let newest = observed.sandboxes.first();
    let attempt = newest.map_or(0, |newest| newest.attempt.saturating_add(1));
    // A sandbox that is not ready may still hold an address.
    let mut actions: Vec<_> =
        newest.map(|newest| Action::StopSandbox { id: newest.id.clone() }).into_iter().collect();
    actions.push(Action::CreateSandbox { attempt });
    Plan::just(actions)
}

/// Containers that run and should not, or not so.
fn stops(spec: &PodSpec, observed: &Observed, sandbox: &str, progress: &Progress) -> Vec<Action> {
    let mut actions = Vec::new();
    for container in observed.running() {
        let definition = pod::all_containers(spec).find(|spec| spec.name == container.name);
        let changed = definition.is_none_or(|definition| {
            !container.hash.is_empty() && container.hash != container_hash(definition)
        });
        if container.sandbox != sandbox {
            actions.push(stop(container, StopReason::SandboxGone));
        } else if changed {
            actions.push(stop(container, StopReason::DefinitionChanged));
        } else if progress.unhealthy.contains(&container.id) {
            actions.push(stop(container, StopReason::Unhealthy));
        }
    }
    actions
}

fn start(
    wanted: &[&Spec],
    observed: &Observed,
    sandbox: &str,
    progress: &Progress,
    now: Instant,
) -> Plan {
    let mut actions = Vec::new();
    let mut wake: Option<Instant> = None;
    for spec in wanted {
        let hold = progress.holds.get(&spec.name);
        let hold = hold.filter(|hold| hold.definition == container_hash(spec));
        if let Some(until) = hold.map(|hold| hold.until).filter(|until| *until > now) {
            wake = Some(wake.map_or(until, |wake| wake.min(until)));
            continue;
        }
        let mut attempt = 0;
        if let Some(latest) = observed.latest(&spec.name) {
            attempt = latest.attempt.saturating_add(1);
            match latest.state {
                // Made and never started, by a kubelet that ended in between: make it again.
                ContainerState::Created => {
                    attempt = latest.attempt;
                    let log_path = latest.log_path.clone();
                    actions.push(Action::Remove { id: latest.id.clone(), log_path });
                }
                // The runtime has lost sight of it: end it for certain before the next one.
                ContainerState::Unknown => actions.push(stop(latest, StopReason::SandboxGone)),
                ContainerState::Running | ContainerState::Exited => {}
            }
        }
        let (name, sandbox) = (spec.name.clone(), sandbox.to_owned());
        actions.push(Action::Start { name, attempt, sandbox });
    }
    // With volumes lost (the machine was restarted under a running sandbox) they come first.
    if !actions.is_empty() && !progress.volumes_ready {
        return match progress.volumes_hold.filter(|until| *until > now) {
            Some(until) => Plan::wait_until(Some(until)),
            None => Plan::just(vec![Action::SetUpVolumes]),
        };
    }
    let wake = if actions.is_empty() { wake } else { None };
    Plan { actions, wake }
}
