//! The usage of all namespaces, kept by the cache's events: objects are counted as they are created and
//! deleted, so that admission reads none.
//!
//! Counts are of all namespaces. What pods ask for is kept only where a quota has been asked about a
//! pod: from then on each change of a pod there is read once, after the cache has let go of its lock and
//! before its revision counts as applied.

use std::collections::HashMap;
use std::sync::Arc;

use coffer_api::kinds::Pod;
use coffer_api::quota::{PodUsage, Quota};
use coffer_api::redact;
use coffer_api::status::Failure;
use k8s_openapi::api::core::v1::ResourceQuota;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::Notify;

use super::namespace::{KindId, Namespace};
use crate::cache::{CacheEvent, CachedObject, Facts, Observer, Scope};
use crate::object::{Resource, Resources};

/// Bytes of pods that are read before other tasks may run.
const PIECE_BYTES: usize = 256 * 1024;

/// What quotas are not about, as upstream has it: recording events must not fail for want of room.
const UNCOUNTED: &[&str] = &["events"];

/// All namespaces.
pub(super) struct Ledger {
    /// Kinds that quotas may be about, as they name them: `secrets.`, `deployments.apps`.
    kinds: HashMap<String, KindId>,
    namespaces: RwLock<HashMap<String, Arc<Shared>>>,
}

/// One namespace, for all that work with it.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<Namespace>,
    /// Notified when a reservation ends.
    pub(super) ended: Notify,
    /// Held by the task that reads the namespace's pods, so that they are read once.
    reading: tokio::sync::Mutex<()>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, Namespace> {
        self.state.lock()
    }
}

impl Ledger {
    /// A ledger that observes all kinds that quotas may be about.
    pub(super) fn observing(resources: &Resources) -> Arc<Self> {
        let counted = |resource: &&Arc<Resource>| {
            let info = resource.info;
            info.namespaced && resource.is_stored_form() && !UNCOUNTED.contains(&info.plural)
        };
        let counted: Vec<_> = resources.iter().filter(counted).collect();
        let name = |(at, resource): (usize, &&Arc<Resource>)| {
            (resource.group_resource().qualified(), KindId(at))
        };
        let kinds = counted.iter().enumerate().map(name).collect();
        let ledger = Arc::new(Self { kinds, namespaces: RwLock::default() });
        for (at, resource) in counted.into_iter().enumerate() {
            let role = if resource.is::<Pod>() {
                Role::Pods
            } else if resource.is::<ResourceQuota>() {
                Role::Quotas
            } else {
                Role::Other
            };
            let follower = Follower { ledger: ledger.clone(), kind: KindId(at), role };
            resource.shard().observe(Arc::new(follower));
        }
        ledger
    }

    /// The kind of this name in quotas, if they may be about it.
    pub(super) fn kind(&self, resource: &str) -> Option<KindId> {
        self.kinds.get(resource).copied()
    }

    /// A namespace that has quotas.
    pub(super) fn with_quotas(&self, namespace: &str) -> Option<Arc<Shared>> {
        self.get(namespace).filter(|shared| shared.state().has_quotas())
    }

    fn get(&self, namespace: &str) -> Option<Arc<Shared>> {
        let namespaces = self.namespaces.read();
        namespaces.get(namespace).cloned()
    }

    fn entry(&self, namespace: &str) -> Arc<Shared> {
        if let Some(shared) = self.get(namespace) {
            return shared;
        }
        let mut namespaces = self.namespaces.write();
        namespaces.entry(namespace.to_owned()).or_default().clone()
    }

    /// Forgets a namespace of which there is nothing to know.
    fn forget_empty(&self, namespace: &str) {
        let mut namespaces = self.namespaces.write();
        let empty = |shared: &Arc<Shared>| {
            // A task that holds it may be about to fill it.
            Arc::strong_count(shared) == 1 && shared.state().is_empty()
        };
        if namespaces.get(namespace).is_some_and(empty) {
            namespaces.remove(namespace);
        }
    }

    /// Reads the pods that a namespace has, if that was not done before. It reads each once; from then
    /// on the cache's events tell what changes.
    ///
    /// # Errors
    /// 500 for a stored pod that cannot be read.
    pub(super) async fn read_pods(
        &self,
        shared: &Shared,
        pods: &Resource,
        namespace: &str,
    ) -> Result<(), Failure> {
        let _reading = shared.reading.lock().await;
        loop {
            {
                let mut state = shared.state();
                if state.pods_are_complete() {
                    return Ok(());
                }
                state.begin_pods();
            }
            // The follower reports each change from here on.
            let (found, _) = pods.shard().list(&pods.collection(namespace), &Scope::All);
            let mut piece = 0;
            for object in found {
                if shared.state().knows_pod(&object.key, object.revision) {
                    continue;
                }
                piece += object.bytes.len();
                if piece > PIECE_BYTES {
                    piece = 0;
                    tokio::task::yield_now().await;
                }
                let usage = read(&object.bytes).map_err(|error| {
                    Failure::internal(format!("stored pod: {}", redact::json(&error)))
                })?;
                shared.state().set_pod(&object.key, object.revision, Some(usage));
            }
            if shared.state().complete_pods() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
thread_local! {
    /// How many pods this thread has read.
    pub(super) static PODS_READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn read(bytes: &[u8]) -> Result<PodUsage, serde_json::Error> {
    #[cfg(test)]
    PODS_READ.set(PODS_READ.get() + 1);
    PodUsage::read(bytes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Pods,
    Quotas,
    Other,
}

/// Tells the ledger of one kind.
struct Follower {
    ledger: Arc<Ledger>,
    kind: KindId,
    role: Role,
}

impl Follower {
    fn quota(object: &CachedObject) -> Option<Quota> {
        serde_json::from_slice::<ResourceQuota>(&object.bytes).ok().map(Quota::of)
    }

    fn quota_changed(shared: &Shared, event: &CacheEvent) {
        let name = &event.subject().name;
        match event.new.as_deref().map(Self::quota) {
            Some(quota) => shared.state().set_quota(name, quota),
            None => shared.state().remove_quota(name),
        }
    }

    fn pod_changed(shared: &Shared, event: &CacheEvent) {
        if !shared.state().tracks_pods() {
            return;
        }
        let usage = event.new.as_ref().map(|new| read(&new.bytes)).transpose();
        let (key, mut state) = (&event.subject().key, shared.state());
        match usage {
            Ok(usage) => state.set_pod(key, event.revision, usage),
            // The next request reads all pods, and fails because of this one.
            Err(_) => state.forget_pods(),
        }
    }
}

impl Observer for Follower {
    fn reset(&self, objects: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut quotas = Vec::new();
        for (object, _) in objects {
            *counts.entry(&object.namespace).or_default() += 1;
            if self.role == Role::Quotas {
                quotas.push((object, Self::quota(object)));
            }
        }
        let known: Vec<String> = {
            let namespaces = self.ledger.namespaces.read();
            namespaces.keys().cloned().collect()
        };
        for namespace in &known {
            let Some(shared) = self.ledger.get(namespace) else { continue };
            let mut state = shared.state();
            state.set_count(self.kind, 0);
            match self.role {
                Role::Pods => state.forget_pods(),
                Role::Quotas => state.remove_quotas(),
                Role::Other => {}
            }
        }
        for (namespace, count) in counts {
            self.ledger.entry(namespace).state().set_count(self.kind, count);
        }
        for (object, quota) in quotas {
            self.ledger.entry(&object.namespace).state().set_quota(&object.name, quota);
        }
        for namespace in &known {
            self.ledger.forget_empty(namespace);
        }
    }

    fn changed(&self, _: &CacheEvent, _: Option<&Facts>) {}

    fn applied(&self, event: &CacheEvent) {
        let (before, after) = (event.old.is_some(), event.new.is_some());
        if before == after && self.role == Role::Other {
            return;
        }
        let namespace = &event.subject().namespace;
        let shared = self.ledger.entry(namespace);
        match self.role {
            Role::Pods => Self::pod_changed(&shared, event),
            Role::Quotas => Self::quota_changed(&shared, event),
            Role::Other => {}
        }
        if before != after {
            shared.state().count(self.kind, after);
        }
        if !after {
            drop(shared);
            self.ledger.forget_empty(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use coffer_api::quota::Totals;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn object(kind: &str, name: &str, revision: u64, value: &Value) -> Arc<CachedObject> {
        Arc::new(CachedObject {
            key: format!("/registry/{kind}/n/{name}").into(),
            revision,
            bytes: value.to_string().into(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            fields: Vec::new(),
            is_decoded: true,
        })
    }

    const SCOPES: [&str; 6] = [
        "BestEffort",
        "NotBestEffort",
        "Terminating",
        "NotTerminating",
        "PriorityClass",
        "CrossNamespacePodAffinity",
    ];

    fn quota(scope: usize) -> Value {
        let hard =
            json!({ "pods": "9", "count/pods": "9", "requests.cpu": "9", "limits.memory": "9" });
        let spec = match SCOPES.get(scope) {
            Some(scope) => json!({ "hard": hard, "scopes": [scope] }),
            None => json!({ "hard": hard, "scopeSelector": { "matchExpressions": [
                { "scopeName": "PriorityClass", "operator": "NotIn", "values": ["low"] }] } }),
        };
        json!({ "metadata": { "name": format!("q{scope}") }, "spec": spec })
    }

    /// A pod that differs from others in all that quotas look at.
    fn pod() -> impl Strategy<Value = Value> {
        let phase = prop::sample::select(vec!["Pending", "Running", "Succeeded", "Failed"]);
        let cpu = prop::option::of(0..3_u32);
        let class = prop::option::of(prop::sample::select(vec!["low", "high"]));
        let deadline = prop::option::of(1..3_i64);
        (phase, cpu, class, deadline, any::<bool>()).prop_map(
            |(phase, cpu, class, deadline, near)| {
                let resources = cpu.map(|cpu| {
                    json!({ "requests": { "cpu": format!("{}m", cpu * 250) },
                            "limits": { "memory": format!("{cpu}Gi") } })
                });
                let affinity = near.then(|| {
                    json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                        { "topologyKey": "k", "namespaces": ["other"] }] } })
                });
                json!({
                    "metadata": { "name": "p" },
                    "spec": {
                        "containers": [{ "name": "c", "resources": resources.unwrap_or(json!({})) }],
                        "priorityClassName": class, "activeDeadlineSeconds": deadline,
                        "affinity": affinity,
                    },
                    "status": { "phase": phase },
                })
            },
        )
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Creates or updates the pod of a number.
        Pod(u8, Value),
        DeletePod(u8),
        /// Creates a quota, or takes it away.
        Quota(usize),
        /// Begins to read the namespace's pods, and reads them up to here only later.
        Begin,
        Reload,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..6_u8, pod()).prop_map(|(number, pod)| Step::Pod(number, pod)),
            3 => (0..6_u8).prop_map(Step::DeletePod),
            1 => (0..=SCOPES.len()).prop_map(Step::Quota),
            1 => Just(Step::Begin),
            1 => Just(Step::Reload),
        ]
    }

    /// A namespace as the cache would have it, and the ledger that follows it.
    struct Model {
        ledger: Arc<Ledger>,
        followers: [Follower; 2],
        objects: [BTreeMap<String, Arc<CachedObject>>; 2],
        revision: u64,
        /// Pods as they were when reading began.
        unread: Option<Vec<Arc<CachedObject>>>,
    }

    const PODS: usize = 0;
    const QUOTAS: usize = 1;

    impl Model {
        fn new() -> Self {
            let kinds = [
                ("pods.".to_owned(), KindId(PODS)),
                ("resourcequotas.".to_owned(), KindId(QUOTAS)),
            ];
            let ledger = Arc::new(Ledger { kinds: kinds.into(), namespaces: RwLock::default() });
            let follower =
                |kind, role| Follower { ledger: ledger.clone(), kind: KindId(kind), role };
            let followers = [follower(PODS, Role::Pods), follower(QUOTAS, Role::Quotas)];
            Self { ledger, followers, objects: Default::default(), revision: 0, unread: None }
        }

        fn write(&mut self, kind: usize, name: &str, value: Option<&Value>) {
            self.revision += 1;
            let plural = ["pods", "resourcequotas"][kind];
            let new = value.map(|value| object(plural, name, self.revision, value));
            let old = match &new {
                Some(new) => self.objects[kind].insert(name.to_owned(), new.clone()),
                None => self.objects[kind].remove(name),
            };
            if old.is_some() || new.is_some() {
                self.followers[kind].applied(&CacheEvent { revision: self.revision, old, new });
            }
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Pod(number, pod) => self.write(PODS, &format!("p{number}"), Some(&pod)),
                Step::DeletePod(number) => self.write(PODS, &format!("p{number}"), None),
                Step::Quota(scope) => {
                    let name = format!("q{scope}");
                    let there = self.objects[QUOTAS].contains_key(&name);
                    self.write(QUOTAS, &name, (!there).then(|| quota(scope)).as_ref());
                }
                Step::Begin => {
                    let shared = self.ledger.entry("n");
                    shared.state().begin_pods();
                    self.unread = Some(self.objects[PODS].values().cloned().collect());
                }
                Step::Reload => {
                    for kind in [PODS, QUOTAS] {
                        let mut all = self.objects[kind].values().map(|object| (&**object, None));
                        self.followers[kind].reset(&mut all);
                    }
                    self.unread = None;
                }
            }
        }

        /// Reads what was there when reading began, as it was then.
        fn read_pods(&mut self) -> Arc<Shared> {
            let shared = self.ledger.entry("n");
            if !shared.state().tracks_pods() || self.unread.is_none() {
                self.take(Step::Begin);
            }
            for object in self.unread.take().unwrap_or_default() {
                let usage = read(&object.bytes).expect("a pod");
                shared.state().set_pod(&object.key, object.revision, Some(usage));
            }
            assert!(shared.state().complete_pods());
            shared
        }

        fn recount(&self) -> (BTreeMap<String, Totals>, HashMap<KindId, usize>) {
            let pods: Vec<PodUsage> = self.objects[PODS]
                .values()
                .map(|pod| PodUsage::of(&serde_json::from_slice(&pod.bytes).expect("a pod")))
                .collect();
            let totals = self.objects[QUOTAS].iter().map(|(name, quota)| {
                let quota = Follower::quota(quota).expect("a quota");
                let counted = pods.iter().filter(|pod| pod.is_in_scope(quota.spec()));
                (name.clone(), Totals::of(counted))
            });
            let counts = [PODS, QUOTAS].map(|kind| (KindId(kind), self.objects[kind].len()));
            (totals.collect(), counts.into_iter().filter(|(_, count)| *count > 0).collect())
        }
    }

    proptest! {
        #[test]
        fn counters_are_what_a_recount_finds_after_any_writes(
            before in prop::collection::vec(step(), 0..30),
            after in prop::collection::vec(step(), 0..30),
        ) {
            let mut model = Model::new();
            before.into_iter().for_each(|step| model.take(step));
            for step in after {
                let shared = model.read_pods();
                prop_assert_eq!(shared.state().state(), model.recount());
                model.take(step);
            }
            let shared = model.read_pods();
            prop_assert_eq!(shared.state().state(), model.recount());
        }
    }

    #[test]
    fn a_namespace_without_objects_and_quotas_is_forgotten() {
        let mut model = Model::new();
        model.write(PODS, "p", Some(&json!({ "spec": { "containers": [] } })));
        model.write(QUOTAS, "q0", Some(&quota(0)));
        assert!(model.ledger.with_quotas("n").is_some());
        model.write(QUOTAS, "q0", None);
        assert!(model.ledger.with_quotas("n").is_none());
        model.write(PODS, "p", None);
        assert!(model.ledger.get("n").is_none());
    }
}
