//! Deletion of namespaces and of owners against a real API server over TLS.

mod cluster;

use cluster::{Cluster, within};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

/// All owners and dependents of these tests are config maps.
struct ConfigMaps(Cluster);

impl ConfigMaps {
    fn of(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.0.client.clone(), namespace)
    }

    async fn create(&self, name: &str, meta: Value) -> ConfigMap {
        let mut object = json!({ "metadata": meta });
        object["metadata"]["name"] = name.into();
        let object = serde_json::from_value(object).unwrap();
        self.of("default").create(&PostParams::default(), &object).await.unwrap()
    }

    async fn deleted(&self, object: &ConfigMap) {
        let meta = &object.metadata;
        let (name, uid) = (meta.name.as_deref().unwrap(), meta.uid.as_deref().unwrap());
        within(name, await_condition(self.of("default"), name, conditions::is_deleted(uid))).await;
    }
}

fn owned_by(owners: &[&ConfigMap], blocks: bool) -> Value {
    let references: Vec<Value> = owners
        .iter()
        .map(|owner| {
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name,
                    "uid": owner.metadata.uid, "blockOwnerDeletion": blocks })
        })
        .collect();
    json!({ "ownerReferences": references })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_is_emptied_and_removed() {
    let maps_of = ConfigMaps(Cluster::start().await);
    let namespaces: Api<Namespace> = Api::all(maps_of.0.client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": "doomed" } })).unwrap();
    let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let maps = maps_of.of("doomed");
    for at in 0..40 {
        let map = json!({ "metadata": { "name": format!("map-{at}") }, "data": { "a": "b" } });
        let map = serde_json::from_value(map).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(maps_of.0.client.clone(), "doomed");
    let account = serde_json::from_value(json!({ "metadata": { "name": "robot" } })).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();

    namespaces.delete("doomed", &DeleteParams::default()).await.unwrap();
    let uid = namespace.metadata.uid.unwrap();
    within(
        "the namespace is removed",
        await_condition(namespaces, "doomed", conditions::is_deleted(&uid)),
    )
    .await;
    assert!(maps.list(&Default::default()).await.unwrap().items.is_empty());
    assert!(accounts.list(&Default::default()).await.unwrap().items.is_empty());
    maps_of.0.stop().await;
}

/// Names of disruption budgets may have characters that mean something in a URL.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_objects_whose_names_need_escaping_is_removed() {
    let cluster = Cluster::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": "odd" } })).unwrap();
    let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let budgets = Api::<PodDisruptionBudget>::namespaced(cluster.client.clone(), "odd");
    for name in ["a", "a?b", "a b", "a#b"] {
        let budget = json!({ "metadata": { "name": name }, "spec": { "minAvailable": 1,
            "selector": { "matchLabels": { "app": "web" } } } });
        let budget = serde_json::from_value(budget).unwrap();
        budgets.create(&PostParams::default(), &budget).await.unwrap();
    }
    namespaces.delete("odd", &DeleteParams::default()).await.unwrap();
    let uid = namespace.metadata.uid.unwrap();
    within("the namespace goes", await_condition(namespaces, "odd", conditions::is_deleted(&uid)))
        .await;
    assert!(budgets.list(&Default::default()).await.unwrap().items.is_empty());
    cluster.stop().await;
}

/// An object has a user's finalizer. The namespace is removed when the finalizer is.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_waits_for_the_finalizers_of_its_content_and_reports_them() {
    let maps_of = ConfigMaps(Cluster::start().await);
    let namespaces: Api<Namespace> = Api::all(maps_of.0.client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": "held" } })).unwrap();
    let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let maps = maps_of.of("held");
    let map = json!({ "metadata": { "name": "m", "finalizers": ["example.com/guard"] } });
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();

    namespaces.delete("held", &DeleteParams::default()).await.unwrap();
    let says = |namespace: Option<&Namespace>| {
        let status = namespace.and_then(|namespace| namespace.status.as_ref());
        status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|condition| {
            condition.type_ == "NamespaceFinalizersRemaining"
                && condition.message.as_deref()
                    == Some(
                        "Some content in the namespace has finalizers remaining: \
                         example.com/guard in 1 resource instances",
                    )
        })
    };
    within("the condition", await_condition(namespaces.clone(), "held", says)).await;

    let release = kube::api::Patch::Merge(json!({ "metadata": { "finalizers": [] } }));
    maps.patch("m", &Default::default(), &release).await.unwrap();
    let uid = namespace.metadata.uid.unwrap();
    within(
        "the namespace is removed",
        await_condition(namespaces, "held", conditions::is_deleted(&uid)),
    )
    .await;
    maps_of.0.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_of_deleted_owners_are_deleted_recursively() {
    let maps_of = ConfigMaps(Cluster::start().await);
    let first = maps_of.create("first", json!({})).await;
    let second = maps_of.create("second", json!({})).await;
    let both = maps_of.create("both", owned_by(&[&first, &second], false)).await;
    let only = maps_of.create("only", owned_by(&[&first], false)).await;
    let grandchild = maps_of.create("grandchild", owned_by(&[&only], false)).await;
    let maps = maps_of.of("default");

    maps.delete("first", &DeleteParams::background()).await.unwrap();
    maps_of.deleted(&only).await;
    maps_of.deleted(&grandchild).await;
    let disowned = |map: Option<&ConfigMap>| {
        let owners = map.and_then(|map| map.metadata.owner_references.as_ref());
        owners.is_some_and(|owners| owners.len() == 1)
    };
    within("one owner is left", await_condition(maps.clone(), "both", disowned)).await;

    maps.delete("second", &DeleteParams::background()).await.unwrap();
    maps_of.deleted(&both).await;
    maps_of.0.stop().await;
}

/// The owner reference of a new object has the name of an existing object and another uid.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_owner_never_existed_is_deleted() {
    let maps_of = ConfigMaps(Cluster::start().await);
    let real = maps_of.create("real", json!({})).await;
    let mut other = real.clone();
    other.metadata.uid = Some("00000000-0000-0000-0000-000000000000".to_owned());
    let child = maps_of.create("child", owned_by(&[&other], false)).await;
    maps_of.deleted(&child).await;
    assert!(maps_of.of("default").get_opt("real").await.unwrap().is_some());
    maps_of.0.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_deletion_deletes_the_owner_last() {
    let maps_of = ConfigMaps(Cluster::start().await);
    let owner = maps_of.create("owner", json!({})).await;
    let mut meta = owned_by(&[&owner], true);
    meta["finalizers"] = json!(["example.com/slow"]);
    let slow = maps_of.create("slow", meta).await;
    let quick = maps_of.create("quick", owned_by(&[&owner], true)).await;
    let maps = maps_of.of("default");

    maps.delete("owner", &DeleteParams::foreground()).await.unwrap();
    maps_of.deleted(&quick).await;
    let marked =
        |map: Option<&ConfigMap>| map.is_some_and(|map| map.metadata.deletion_timestamp.is_some());
    within("it is being deleted", await_condition(maps.clone(), "slow", marked)).await;
    let waiting = maps.get("owner").await.unwrap();
    assert!(waiting.metadata.finalizers.unwrap().contains(&"foregroundDeletion".to_owned()));

    let release = kube::api::Patch::Merge(json!({ "metadata": { "finalizers": [] } }));
    maps.patch("slow", &Default::default(), &release).await.unwrap();
    maps_of.deleted(&slow).await;
    maps_of.deleted(&owner).await;
    maps_of.0.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_of_an_orphaning_deletion_are_kept() {
    let maps_of = ConfigMaps(Cluster::start().await);
    let owner = maps_of.create("owner", json!({})).await;
    maps_of.create("child", owned_by(&[&owner], true)).await;
    let maps = maps_of.of("default");
    maps.delete("owner", &DeleteParams::orphan()).await.unwrap();
    maps_of.deleted(&owner).await;
    let child = maps.get("child").await.unwrap();
    assert!(child.metadata.owner_references.unwrap_or_default().is_empty());
    assert!(child.metadata.deletion_timestamp.is_none());
    maps_of.0.stop().await;
}
