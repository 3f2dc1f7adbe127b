//! Disruption budgets: counts the pods that each budget selects, and writes how many of them may be evicted.
//!
//! The API server's `eviction` subresource decrements that number and adds the pods that it will delete to
//! `disruptedPods`. Here they do not count as healthy, unless they are not deleted in time. A status is
//! written at the version that was counted, so that no concurrent eviction is overwritten.

pub(crate) mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_api::kinds;
use coffer_api::status::GroupResource;
use coffer_api::well_known::api_group;
use coffer_client::path::segment;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client};

use self::plan::{Plan, Scale, failed, plan, selector_text};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::events::{EventType, Recorder};
use crate::informer::{Cache, Change, Index, IndexBy, Watched};
use crate::key::ObjectKey;
use crate::owner::controller_of;
use crate::pod::{Pod, is_ready};
use crate::queue::Queue;
use crate::selection::{LabelKey, Selectors, label_keys, selector_keys, selects};

/// Upstream's component of the events.
const COMPONENT: &str = "controllermanager";

/// Writes how many pods of each budget may be disrupted.
pub(crate) struct Disruption {
    client: Client,
    budgets: Cache<PodDisruptionBudget>,
    budgets_by_label: Index<PodDisruptionBudget, ByLabel>,
    selectors: Selectors<PodDisruptionBudget>,
    pods: Cache<Pod>,
    pods_by_label: Index<Pod, ByLabel>,
    controllers: Cache<ReplicationController>,
    sets: Cache<ReplicaSet>,
    deployments: Cache<Deployment>,
    recorder: Recorder,
    queue: Queue<ObjectKey>,
}

/// Pods by namespace and each of their labels, budgets by the values that their selector asks for of one label:
/// a budget finds its pods, and a pod its budgets, among few others.
pub(crate) struct ByLabel;

impl IndexBy<Pod> for ByLabel {
    type Key = LabelKey;

    fn keys(pod: &Pod, each: &mut dyn FnMut(LabelKey)) {
        label_keys(&pod.metadata).filter(|(_, label)| label.is_some()).for_each(each);
    }
}

impl IndexBy<PodDisruptionBudget> for ByLabel {
    type Key = LabelKey;

    fn keys(budget: &PodDisruptionBudget, each: &mut dyn FnMut(LabelKey)) {
        selector_keys(budget).into_iter().for_each(each);
    }
}

impl Controller for Disruption {
    const NAME: &'static str = "disruption-controller";
    /// Upstream's number.
    const WORKERS: usize = 1;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<PodDisruptionBudget>();
        watches.on::<Pod>(Self::pod_changed);
        watches.on::<ReplicationController>(Self::scale_changed);
        watches.on::<ReplicaSet>(Self::scale_changed);
        watches.on::<Deployment>(Self::scale_changed);
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let Some(budget) = self.budgets.get(key) else {
            self.selectors.forget(key);
            return Ok(Next::Change);
        };
        let now = Timestamp::now();
        match self.count(&budget, now) {
            Ok(plan) => {
                self.record(&budget, &plan);
                self.write(key, &budget, plan.status).await?;
                Ok(Next::after(plan.recheck_after))
            }
            Err(why) => {
                tracing::debug!(%key, why, "the pods of a disruption budget cannot be counted");
                self.write(key, &budget, failed(&budget, &why, now)).await?;
                Ok(Next::Change)
            }
        }
    }
}

impl Disruption {
    pub(crate) fn new(setup: &mut Setup<'_, Self>) -> Self {
        Self {
            client: setup.client(),
            budgets: setup.cache(),
            budgets_by_label: setup.index(),
            selectors: Selectors::default(),
            pods: setup.cache(),
            pods_by_label: setup.index(),
            controllers: setup.cache(),
            sets: setup.cache(),
            deployments: setup.cache(),
            recorder: setup.recorder(COMPONENT),
            queue: setup.queue(),
        }
    }

    /// Plans for a budget. A failure is recorded as an event.
    fn count(&self, budget: &Arc<PodDisruptionBudget>, now: Timestamp) -> Result<Plan, String> {
        let warn = |reason, message| {
            self.recorder.record(&**budget, EventType::Warning, reason, message);
        };
        let pods = self.selected(budget).inspect_err(|why| {
            warn("NoPods", format!("Failed to get pods: {why}"));
        })?;
        if pods.is_empty() {
            let message = "No matching pods found";
            self.recorder.record(&**budget, EventType::Normal, "NoPods", message);
        }
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        plan(budget, &pods, |owner| self.scale_of(namespace, owner), now).inspect_err(|why| {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            warn("CalculateExpectedPodCountFailed", message);
        })
    }

    fn selected(&self, budget: &Arc<PodDisruptionBudget>) -> Result<Vec<Arc<Pod>>, String> {
        let selector = self.selectors.of(budget);
        let mut found = match selector_keys(&**budget).as_slice() {
            [(namespace, None)] => self.pods.in_namespace(namespace),
            keys => self.pods_by_label.get_all(keys),
        };
        let mut wrong = None;
        found.retain(|pod| {
            selects(&selector, &pod.metadata).unwrap_or_else(|why| {
                wrong = Some(why);
                false
            })
        });
        wrong.map_or(Ok(found), Err)
    }

    fn record(&self, budget: &PodDisruptionBudget, plan: &Plan) {
        if plan.has_unmanaged {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selector = selector.map(selector_text).unwrap_or_default();
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            self.recorder.record(budget, EventType::Warning, "UnmanagedPods", message);
        }
        for pod in &plan.not_deleted {
            let budget = ObjectKey::of(budget);
            let message = format!("Pod was expected by PDB {budget} to be deleted but it wasn't");
            self.recorder.record(&**pod, EventType::Warning, "NotDeleted", message);
        }
    }

    async fn write(
        &self,
        key: &ObjectKey,
        budget: &PodDisruptionBudget,
        status: Option<PodDisruptionBudgetStatus>,
    ) -> Result<(), Error> {
        if status.is_none() {
            return Ok(());
        }
        let next = PodDisruptionBudget { status, ..budget.clone() };
        let api = Api::<PodDisruptionBudget>::namespaced(self.client.clone(), &key.namespace);
        let done = api.replace_status(&segment(&key.name), &PostParams::default(), &next).await;
        error::ignore_not_found(done).map_err(Error::api("update the status of a budget"))
    }

    /// The scale of a pod's controller; that of the Deployment for a pod of its ReplicaSet.
    ///
    /// # Errors
    /// The controller's kind has no scale.
    fn scale_of(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<Scale>, String> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, owner.kind.as_str()) {
            ("", "ReplicationController") => Ok(scale(&self.controllers, namespace, owner)),
            (api_group::APPS, "Deployment") => Ok(scale(&self.deployments, namespace, owner)),
            (api_group::APPS, "ReplicaSet") => {
                let Some(set) = find(&self.sets, namespace, owner) else { return Ok(None) };
                let deployment = controller_of(&set.metadata).filter(|owner| {
                    owner.kind == "Deployment" && owner.api_version.starts_with("apps/")
                });
                let scale_of_it =
                    deployment.and_then(|owner| scale(&self.deployments, namespace, owner));
                Ok(scale_of_it.or_else(|| Some(set.scale())))
            }
            (group, kind) => {
                let known = kinds::ALL.iter().find(|info| info.group == group && info.kind == kind);
                Err(match known {
                    Some(info) => {
                        let resource = GroupResource { group, resource: info.plural };
                        format!("{resource} does not implement the scale subresource")
                    }
                    None => {
                        let version = &owner.api_version;
                        format!("no matches for kind {kind:?} in version {version:?}")
                    }
                })
            }
        }
    }

    /// Adds the budgets of a pod whose labels, deletion, readiness or controller have changed.
    fn pod_changed(&self, change: &Change<Pod>) {
        let namespace = change.latest().metadata.namespace.as_deref().unwrap_or_default();
        if self.budgets.count_in(namespace) == 0 {
            return;
        }
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && counts_as(old) == counts_as(new)
        {
            return;
        }
        for side in [&change.old, &change.new].into_iter().flatten() {
            self.queue_for(&side.metadata);
        }
    }

    /// Adds the budgets of the pods of a controller whose scale has changed, found by its template's labels.
    /// Upstream reads a scale only when a pod changes and may use an old number.
    fn scale_changed<K: Scaled>(&self, change: &Change<K>) {
        let meta = change.latest().meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        if self.budgets.count_in(namespace) == 0 {
            return;
        }
        let counts_as = |side: &Option<Arc<K>>| {
            let side = side.as_ref()?;
            Some((side.scale(), controller_of(side.meta()).map(|owner| owner.uid.clone())))
        };
        if counts_as(&change.old) == counts_as(&change.new) {
            return;
        }
        for side in [&change.old, &change.new].into_iter().flatten() {
            let template = side.template().and_then(|template| template.metadata.as_ref());
            let labels = template.and_then(|metadata| metadata.labels.clone());
            let namespace = side.meta().namespace.clone();
            self.queue_for(&ObjectMeta { namespace, labels, ..ObjectMeta::default() });
        }
    }

    /// Adds the budgets that select objects with these labels.
    fn queue_for(&self, meta: &ObjectMeta) {
        let keys: Vec<LabelKey> = label_keys(meta).collect();
        for budget in self.budgets_by_label.get_all(&keys) {
            // A malformed selector may select it.
            if selects(&self.selectors.of(&budget), meta).unwrap_or(true) {
                self.queue.add(ObjectKey::of(&*budget));
            }
        }
    }
}

type CountsAs<'a> = (Option<&'a BTreeMap<String, String>>, bool, bool, Option<&'a str>);

fn counts_as(pod: &Pod) -> CountsAs<'_> {
    let meta = &pod.metadata;
    let owner = controller_of(meta).map(|owner| owner.uid.as_str());
    (meta.labels.as_ref(), meta.deletion_timestamp.is_some(), is_ready(pod), owner)
}

/// A kind with a `scale` subresource.
trait Scaled: Watched {
    fn replicas(&self) -> Option<i32>;
    fn template(&self) -> Option<&PodTemplateSpec>;

    fn scale(&self) -> Scale {
        let uid = self.meta().uid.clone().unwrap_or_default();
        Scale { uid, replicas: self.replicas().unwrap_or(1) }
    }
}

macro_rules! scaled {
    ($($kind:ty),+) => {$(
        impl Scaled for $kind {
            fn replicas(&self) -> Option<i32> {
                self.spec.as_ref()?.replicas
            }

            fn template(&self) -> Option<&PodTemplateSpec> {
                kinds::Kind::pod_template(self)
            }
        }
    )+};
}

scaled!(Deployment, ReplicaSet, ReplicationController);

/// The object that an owner reference refers to.
fn find<K: Watched>(cache: &Cache<K>, namespace: &str, owner: &OwnerReference) -> Option<Arc<K>> {
    let found = cache.get(&ObjectKey::new(namespace, &owner.name))?;
    (found.meta().uid.as_ref() == Some(&owner.uid)).then_some(found)
}

fn scale<K: Scaled>(cache: &Cache<K>, namespace: &str, owner: &OwnerReference) -> Option<Scale> {
    find(cache, namespace, owner).map(|found| found.scale())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use coffer_api::kinds::KindInfo;
    use coffer_api::subresource::SubresourceName;
    use serde_json::{Value, json};

    use super::*;
    use crate::events;
    use crate::testing::Api as Server;

    fn controller(client: Client) -> Disruption {
        let (budgets, pods) = (Cache::<PodDisruptionBudget>::default(), Cache::<Pod>::default());
        let (sink, _) = events::channel(client.clone());
        Disruption {
            client,
            budgets_by_label: budgets.index(),
            selectors: Selectors::default(),
            budgets,
            pods_by_label: pods.index(),
            pods,
            controllers: Cache::default(),
            sets: Cache::default(),
            deployments: Cache::default(),
            recorder: sink.recorder(COMPONENT),
            queue: Queue::default(),
        }
    }

    fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).expect("an object")
    }

    fn budget(name: &str, selector: Value) -> PodDisruptionBudget {
        object(json!({ "metadata": { "namespace": "ns", "name": name, "generation": 1 },
            "spec": { "maxUnavailable": 1, "selector": selector } }))
    }

    fn owned(kind: &str, name: &str) -> Value {
        json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name,
            "controller": true }])
    }

    fn pod(name: &str, label: &str, set: &str, ready: &str) -> Pod {
        object(json!({
            "metadata": { "namespace": "ns", "name": name, "uid": name, "labels": { "app": label },
                "ownerReferences": owned("ReplicaSet", set) },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
        }))
    }

    fn set(name: &str, label: &str, replicas: i32, deployment: Option<&str>) -> ReplicaSet {
        let owners = deployment.map_or(json!([]), |name| owned("Deployment", name));
        object(json!({
            "metadata": { "namespace": "ns", "name": name, "uid": name, "ownerReferences": owners },
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": label } },
                "template": { "metadata": { "labels": { "app": label } } } },
        }))
    }

    fn deployment(name: &str, replicas: i32) -> Deployment {
        object(json!({
            "metadata": { "namespace": "ns", "name": name, "uid": name },
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } },
                "template": { "metadata": { "labels": { "app": name } } } },
        }))
    }

    /// The namespace has ten thousand other pods and three of the budget.
    #[tokio::test]
    async fn a_reconcile_visits_the_budgets_own_pods_and_no_others() {
        let server = Server::responding(|_| Some(json!({ "metadata": {} })));
        let controller = controller(server.client());
        for at in 0..10_000 {
            controller.pods.insert(pod(&format!("other-{at}"), "db", "db", "True"));
        }
        for at in 0..3 {
            controller.pods.insert(pod(&format!("web-{at}"), "web", "web-1", "True"));
        }
        controller.sets.insert(set("web-1", "web", 3, Some("web")));
        controller.deployments.insert(deployment("web", 3));
        controller.budgets.insert(budget("b", json!({ "matchLabels": { "app": "web" } })));
        let before = controller.pods.visited();
        let key = ObjectKey::new("ns", "b");
        assert_eq!(controller.reconcile(&key).await.expect("reconciled"), Next::Change);
        assert_eq!(controller.pods.visited() - before, 3);
        let path = "/apis/policy/v1/namespaces/ns/poddisruptionbudgets/b/status";
        assert_eq!(server.lines(), [format!("PUT {path}")]);
    }

    /// Its status was written to another path, so that its pods were never counted.
    #[tokio::test]
    async fn the_status_of_a_budget_is_written_under_its_name_whatever_characters_it_has() {
        let server = Server::responding(|_| Some(json!({ "metadata": {} })));
        let controller = controller(server.client());
        for name in ["a b", "a?b", "a#b"] {
            controller.budgets.insert(budget(name, json!({})));
            controller.reconcile(&ObjectKey::new("ns", name)).await.expect("reconciled");
        }
        let line =
            |name| format!("PUT /apis/policy/v1/namespaces/ns/poddisruptionbudgets/{name}/status");
        assert_eq!(server.lines(), ["a%20b", "a%3Fb", "a%23b"].map(line));
    }

    #[tokio::test]
    async fn an_empty_selector_selects_all_pods_and_an_absent_one_no_pod() {
        let controller = controller(crate::testing::unreachable_client());
        controller.pods.insert(pod("a", "web", "s", "True"));
        controller.pods.insert(pod("b", "db", "s", "True"));
        let names = |selector: Value| {
            let budget = Arc::new(budget("b", selector));
            let pods = controller.selected(&budget).expect("readable");
            pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(json!({})), ["a", "b"]);
        assert!(names(Value::Null).is_empty());
        let not_db = json!([{ "key": "app", "operator": "NotIn", "values": ["db"] }]);
        assert_eq!(names(json!({ "matchExpressions": not_db })), ["a"]);
        let odd = json!([{ "key": "app", "operator": "Odd" }]);
        let odd = budget("b", json!({ "matchExpressions": odd }));
        assert!(controller.selected(&Arc::new(odd)).is_err());
    }

    /// A namespace with ten thousand other pods, and a budget whose selector has no label but an expression.
    #[tokio::test]
    async fn a_budget_with_a_list_of_values_reads_and_follows_the_pods_with_one_of_them_only() {
        use crate::queue::WorkQueue as _;

        let controller = controller(crate::testing::unreachable_client());
        for at in 0..10_000 {
            controller.pods.insert(pod(&format!("other-{at}"), "db", "db", "True"));
        }
        controller.pods.insert(pod("web-1", "web", "s", "True"));
        controller.pods.insert(pod("api-1", "api", "s", "True"));
        let listed = json!([{ "key": "app", "operator": "In", "values": ["web", "api"] }]);
        for change in controller.budgets.insert(budget("b", json!({ "matchExpressions": listed })))
        {
            let budget = change.new.expect("it is new");
            let before = controller.pods.visited();
            assert_eq!(controller.selected(&budget).expect("readable").len(), 2);
            assert_eq!(controller.pods.visited() - before, 2);
        }
        let before = controller.budgets.visited();
        for change in controller.pods.insert(pod("other-0", "db", "db", "False")) {
            controller.pod_changed(&change);
        }
        assert_eq!(controller.budgets.visited() - before, 0, "it is not about such pods");
        for ready in ["False", "True", "False"] {
            for change in controller.pods.insert(pod("api-1", "api", "s", ready)) {
                controller.pod_changed(&change);
            }
        }
        assert_eq!(controller.selectors.compiled(), 1, "once, and not at each pod");
        let key = futures::FutureExt::now_or_never(controller.queue.next());
        assert_eq!(key, Some(ObjectKey::new("ns", "b")));
    }

    #[tokio::test]
    async fn a_change_of_a_pod_or_of_a_scale_adds_the_budgets_that_count_it() {
        use crate::queue::WorkQueue as _;

        let controller = controller(crate::testing::unreachable_client());
        for (name, selector) in [
            ("web", json!({ "matchLabels": { "app": "web" } })),
            ("db", json!({ "matchLabels": { "app": "db" } })),
            ("all", json!({})),
            ("none", Value::Null),
        ] {
            controller.budgets.insert(budget(name, selector));
        }
        let ready = async || {
            let mut names = BTreeSet::new();
            while let Some(key) = futures::FutureExt::now_or_never(controller.queue.next()) {
                names.insert(key.name.clone());
                controller.queue.done(key, Ok(Next::Change));
            }
            names.into_iter().collect::<Vec<_>>()
        };
        let change = |pod: Pod| {
            for change in controller.pods.insert(pod) {
                controller.pod_changed(&change);
            }
        };
        change(pod("p", "web", "s", "False"));
        assert_eq!(ready().await, ["all", "web"]);
        let mut restarted = pod("p", "web", "s", "False");
        restarted.metadata.resource_version = Some("2".to_owned());
        change(restarted);
        assert!(ready().await.is_empty(), "it counts as before");
        change(pod("p", "web", "s", "True"));
        assert_eq!(ready().await, ["all", "web"]);
        change(pod("p", "db", "s", "True"));
        assert_eq!(ready().await, ["all", "db", "web"]);
        let mut foreign = pod("q", "web", "s", "True");
        foreign.metadata.namespace = Some("other".to_owned());
        change(foreign);
        assert!(ready().await.is_empty());

        let scaled = |size: i32| {
            for change in controller.sets.insert(set("web-1", "web", size, None)) {
                controller.scale_changed(&change);
            }
        };
        scaled(3);
        assert_eq!(ready().await, ["all", "web"]);
        scaled(3);
        assert!(ready().await.is_empty());
        scaled(4);
        assert_eq!(ready().await, ["all", "web"]);
    }

    #[tokio::test]
    async fn a_scale_is_that_of_the_deployment_or_of_the_set_itself() {
        let controller = controller(crate::testing::unreachable_client());
        controller.deployments.insert(deployment("web", 7));
        controller.sets.insert(set("web-1", "web", 3, Some("web")));
        controller.sets.insert(set("lost-1", "lost", 4, Some("lost")));
        controller.sets.insert(set("alone", "alone", 5, None));
        let found = |kind: &str, name: &str, uid: &str| {
            let version = if kind == "ReplicaSet" { "apps/v1" } else { "batch/v1" };
            let owner: OwnerReference =
                object(json!({ "apiVersion": version, "kind": kind, "name": name, "uid": uid }));
            controller.scale_of("ns", &owner)
        };
        let scale = |uid: &str, replicas| Ok(Some(Scale { uid: uid.to_owned(), replicas }));
        assert_eq!(found("ReplicaSet", "web-1", "web-1"), scale("web", 7));
        assert_eq!(found("ReplicaSet", "lost-1", "lost-1"), scale("lost-1", 4));
        assert_eq!(found("ReplicaSet", "alone", "alone"), scale("alone", 5));
        assert_eq!(found("ReplicaSet", "alone", "recreated"), Ok(None));
        assert_eq!(found("ReplicaSet", "deleted", "deleted"), Ok(None));
        let unknown = "no matches for kind \"Gadget\" in version \"batch/v1\"";
        assert_eq!(found("Gadget", "g", "g"), Err(unknown.to_owned()));
    }

    /// A kind with a scale that is missing here would have budgets that allow no eviction.
    #[tokio::test]
    async fn every_kind_with_a_scale_is_looked_up_and_others_are_refused() {
        let controller = controller(crate::testing::unreachable_client());
        let found = |info: &KindInfo| {
            let owner: OwnerReference = object(json!({ "apiVersion": info.api_version(),
                "kind": info.kind, "name": "x", "uid": "x" }));
            controller.scale_of("ns", &owner)
        };
        for info in kinds::ALL {
            let has_scale = info.subresource(SubresourceName::Scale).is_some();
            assert_eq!(found(info).is_ok(), has_scale, "{} {:?}", info.kind, found(info));
        }
        let node = kinds::ALL.iter().find(|info| info.kind == "Node").expect("served");
        assert_eq!(found(node), Err("nodes does not implement the scale subresource".to_owned()));
    }
}
