use std::sync::Arc;
use std::time::Duration;

use coffer_api::kinds::{ResourceQuota, Secret, Served};
use coffer_store::embedded::{Embedded, Options};
use coffer_store::{Store, Value};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::ledger::PODS_READ;
use super::*;
use crate::object::Object;

/// How long a test checks that a create waits.
const WAIT: Duration = Duration::from_millis(100);

struct Setup {
    quotas: Arc<Quotas>,
    resources: Arc<Resources>,
    cache: Arc<Cache>,
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    _dir: TempDir,
}

impl Setup {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(&dir.path().join("db"), Options::default());
        let store: Arc<dyn Store> = Arc::new(store.expect("a store"));
        let resources = Arc::new(Resources::all());
        let cache = Cache::load(store.clone(), resources.sources()).await;
        let cache = Arc::new(cache.expect("an empty store"));
        resources.attach(&cache);
        let quotas = Arc::new(Quotas::new(resources.clone(), cache.clone(), Default::default()));
        let shutdown = CancellationToken::new();
        tokio::spawn({
            let (cache, shutdown) = (cache.clone(), shutdown.clone());
            async move { cache.follow(shutdown).await }
        });
        Self { quotas, resources, cache, store, shutdown, _dir: dir }
    }

    fn pod(&self, name: &str) -> Box<dyn Object> {
        self.object::<Pod>(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "n" },
            "spec": { "containers": [{ "name": "c", "image": "i" }] },
        }))
    }

    fn object<K: Served>(&self, value: &serde_json::Value) -> Box<dyn Object> {
        self.resources.of::<K>().parse(value.to_string().as_bytes()).expect("an object")
    }

    async fn put<K: Served>(&self, object: &dyn Object) -> Result<Revision, StoreError> {
        let name = object.meta().name.clone().expect("a name");
        let key = self.resources.of::<K>().key("n", &name);
        self.store.create(&key, Value::new(object.encode().to_vec())).await
    }

    async fn quota(&self, hard: serde_json::Value) {
        let quota = self.object::<ResourceQuota>(&json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": { "name": "q", "namespace": "n" }, "spec": { "hard": hard },
        }));
        self.put::<ResourceQuota>(&*quota).await.expect("a quota");
        self.cache.fresh().await.expect("the cache follows");
    }

    async fn reserve(&self, name: &str) -> Result<QuotaReservation, Failure> {
        self.quotas.reserve(self.resources.of::<Pod>(), &*self.pod(name)).await
    }

    /// A reservation that is asked for on a task of its own.
    fn reserving(&self, name: &str) -> tokio::task::JoinHandle<Result<QuotaReservation, Failure>> {
        let (quotas, resources, pod) =
            (self.quotas.clone(), self.resources.clone(), self.pod(name));
        tokio::spawn(async move { quotas.reserve(resources.of::<Pod>(), &*pod).await })
    }

    async fn write(
        &self,
        reservation: &mut QuotaReservation,
        name: &str,
    ) -> Result<Revision, StoreError> {
        let key = self.resources.of::<Pod>().key("n", name);
        let (store, value) = (self.store.clone(), self.pod(name).encode().to_vec());
        let write = async move { store.create(&key, Value::new(value)).await };
        reservation.hold_during(write).await.expect("the server runs")
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn message(refused: Result<QuotaReservation, Failure>) -> String {
    refused.err().expect("refused").message
}

const FULL: &str =
    "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";

#[tokio::test]
async fn a_create_among_many_pods_reads_no_other_pod() {
    let setup = Setup::new().await;
    for number in 0..50 {
        let pod = setup.pod(&format!("old-{number}"));
        setup.put::<Pod>(&*pod).await.expect("a pod");
    }
    setup.quota(json!({ "pods": "1000", "count/pods": "1000" })).await;
    let mut reservation = setup.reserve("first").await.expect("room");
    assert_eq!(PODS_READ.get(), 50, "once, when the first quota is asked");
    setup.write(&mut reservation, "first").await.expect("written");
    for number in 0..10 {
        let name = format!("new-{number}");
        setup.cache.fresh().await.expect("the cache follows");
        let before = PODS_READ.get();
        let mut reservation = setup.reserve(&name).await.expect("room");
        assert_eq!(PODS_READ.get(), before, "admission reads no pod");
        setup.write(&mut reservation, &name).await.expect("written");
        setup.cache.fresh().await.expect("the cache follows");
        assert_eq!(PODS_READ.get(), before + 1, "the new pod is counted, and no other is read");
    }
}

#[tokio::test]
async fn of_two_creates_for_the_last_place_one_waits_and_is_refused() {
    let setup = Setup::new().await;
    setup.quota(json!({ "pods": "1" })).await;
    let mut first = setup.reserve("a").await.expect("room");
    let mut second = setup.reserving("b");
    assert!(tokio::time::timeout(WAIT, &mut second).await.is_err(), "it waits for the first");
    setup.write(&mut first, "a").await.expect("written");
    assert_eq!(message(second.await.expect("no panic")), FULL);
    assert_eq!(message(setup.reserve("b").await), FULL);
}

#[tokio::test]
async fn a_create_that_is_abandoned_or_fails_gives_its_place_back() {
    let setup = Setup::new().await;
    setup.quota(json!({ "pods": "2" })).await;
    setup.put::<Pod>(&*setup.pod("taken")).await.expect("a pod");
    let abandoned = setup.reserve("a").await.expect("room");
    let mut waiting = setup.reserving("b");
    assert!(tokio::time::timeout(WAIT, &mut waiting).await.is_err(), "the quota is full");
    drop(abandoned);
    let mut failing = waiting.await.expect("no panic").expect("the place is free again");
    // Its name is taken; the reservation stays for another try, and goes with the request.
    let failed = setup.write(&mut failing, "taken").await;
    assert!(matches!(failed, Err(StoreError::Exists { .. })));
    let mut waiting = setup.reserving("c");
    assert!(tokio::time::timeout(WAIT, &mut waiting).await.is_err());
    drop(failing);
    assert!(waiting.await.expect("no panic").is_ok());
}

/// The client disconnects while its object is being written: the reservation is kept until the write has ended.
#[tokio::test]
async fn a_write_whose_caller_disconnects_is_counted() {
    let setup = Setup::new().await;
    setup.quota(json!({ "pods": "1" })).await;
    let mut reservation = setup.reserve("a").await.expect("room");
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let (store, pod) = (setup.store.clone(), setup.pod("a"));
    let key = setup.resources.of::<Pod>().key("n", "a");
    let write = async move {
        begun.await.expect("the test goes on");
        store.create(&key, Value::new(pod.encode().to_vec())).await
    };
    let mut write = Box::pin(reservation.hold_during(write));
    assert!(tokio::time::timeout(WAIT, &mut write).await.is_err());
    drop(write);
    drop(reservation);
    let mut second = setup.reserving("b");
    assert!(tokio::time::timeout(WAIT, &mut second).await.is_err(), "the write is under way");
    begin.send(()).expect("the write waits");
    assert_eq!(message(second.await.expect("no panic")), FULL);
}

/// The cache is behind: what is written and not yet in it is in no count, but in its reservation.
#[tokio::test]
async fn objects_that_are_written_and_not_yet_seen_hold_their_places() {
    let setup = Setup::new().await;
    setup.quota(json!({ "pods": "20" })).await;
    let mut racers = Vec::new();
    for number in 0..60 {
        let (quotas, resources) = (setup.quotas.clone(), setup.resources.clone());
        let (store, pod) = (setup.store.clone(), setup.pod(&format!("r{number}")));
        racers.push(tokio::spawn(async move {
            let pods = resources.of::<Pod>();
            let mut reservation = quotas.reserve(pods, &*pod).await?;
            let key = pods.key("n", &format!("r{number}"));
            let value = Value::new(pod.encode().to_vec());
            let write = async move { store.create(&key, value).await };
            reservation
                .hold_during(write)
                .await
                .expect("the server runs")
                .map_err(Failure::internal)
        }));
    }
    let mut made = 0;
    for racer in racers {
        match racer.await.expect("no panic") {
            Ok(_) => made += 1,
            Err(failure) => assert!(failure.message.contains("used: pods=20"), "{failure:?}"),
        }
    }
    assert_eq!(made, 20);
}

#[tokio::test]
async fn ended_and_deleted_pods_free_their_quota_and_other_kinds_are_counted_without_decoding() {
    let setup = Setup::new().await;
    setup.quota(json!({ "pods": "1", "count/secrets": "1", "secrets": "1" })).await;
    let mut reservation = setup.reserve("a").await.expect("room");
    let revision = setup.write(&mut reservation, "a").await.expect("written");
    assert_eq!(message(setup.reserve("b").await), FULL);
    let key = setup.resources.of::<Pod>().key("n", "a");
    let ended = setup.object::<Pod>(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "namespace": "n" },
        "spec": { "containers": [{ "name": "c", "image": "i" }] }, "status": { "phase": "Failed" },
    }));
    let value = Value::new(ended.encode().to_vec());
    let revision = setup.store.update(&key, value, revision).await.expect("updated");
    drop(setup.reserve("b").await.expect("a pod that has ended holds no place"));
    setup.store.delete(&key, revision).await.expect("deleted");

    let secret = setup.object::<Secret>(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "namespace": "n" } }));
    let secrets = setup.resources.of::<Secret>();
    let first = setup.put::<Secret>(&*secret).await.expect("a secret");
    let refused = setup.quotas.reserve(secrets, &*secret).await;
    assert_eq!(
        message(refused),
        "secrets \"s\" is forbidden: exceeded quota: q, requested: count/secrets=1,secrets=1, used: \
         count/secrets=1,secrets=1, limited: count/secrets=1,secrets=1"
    );
    setup.store.delete(&secrets.key("n", "s"), first).await.expect("deleted");
    assert!(setup.quotas.reserve(secrets, &*secret).await.is_ok());
}
