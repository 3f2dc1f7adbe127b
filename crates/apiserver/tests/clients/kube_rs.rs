//! kube-rs: a reflector that follows secrets through everything, and a controller that finishes what
//! it owns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use crate::support::TestServer;

fn secret(name: &str, value: &str) -> Secret {
    serde_json::from_value(json!({ "metadata": { "name": name }, "stringData": { "k": value } }))
        .unwrap()
}

/// What the reflector holds in the end is what a list holds, by name and version.
#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_ends_with_what_is_there_however_it_lists() {
    let server = TestServer::start().await;
    let api: Api<Secret> = Api::default_namespaced(server.admin().await);
    api.create(&PostParams::default(), &secret("before", "1")).await.unwrap();
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
        watcher::Config::default().page_size(1),
        watcher::Config::default().any_semantic(),
    ] {
        let (store, writer) = reflector::store::<Secret>();
        let stream =
            reflector(writer, watcher(api.clone(), config)).default_backoff().touched_objects();
        let following = tokio::spawn(stream.for_each(|_| async {}));
        store.wait_until_ready().await.unwrap();
        for at in 0..10 {
            let name = format!("s{at}");
            api.create(&PostParams::default(), &secret(&name, "1")).await.unwrap();
            let patch = json!({ "stringData": { "k": "2" } });
            api.patch(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await.unwrap();
            if at % 2 == 0 {
                api.delete(&name, &DeleteParams::default()).await.unwrap();
            }
        }
        let list = api.list(&ListParams::default()).await.unwrap();
        let versions = |secrets: &mut dyn Iterator<Item = &Secret>| -> BTreeMap<String, String> {
            secrets.map(|one| (one.name_any(), one.resource_version().unwrap())).collect()
        };
        let wanted = versions(&mut list.items.iter());
        assert_eq!(wanted.len(), 6);
        let reached = async {
            while versions(&mut store.state().iter().map(|one| &**one)) != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("it catches up");
        following.abort();
        for name in wanted.keys().filter(|name| *name != "before") {
            api.delete(name, &DeleteParams::default()).await.unwrap();
        }
    }
    server.stop().await;
}

/// A client that requests metadata only is sent no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_watch_carries_no_payload() {
    let server = TestServer::start().await;
    let api: Api<Secret> = Api::default_namespaced(server.admin().await);
    api.create(&PostParams::default(), &secret("a", "CANARY")).await.unwrap();
    let names: Api<kube::core::PartialObjectMeta<Secret>> =
        Api::default_namespaced(server.admin().await);
    let mut seen = watcher(names, watcher::Config::default()).applied_objects().boxed();
    let first = seen.try_next().await.unwrap().unwrap();
    assert_eq!(first.name_any(), "a");
    assert!(!serde_json::to_string(&first).unwrap().contains("Q0FOQVJZ"));
    server.stop().await;
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Fault(Box<dyn std::error::Error + Send + Sync>);

/// One Secret for each ConfigMap, by server-side apply; both end together through a finalizer.
async fn reconcile(map: Arc<ConfigMap>, client: Arc<kube::Client>) -> Result<Action, Fault> {
    let maps: Api<ConfigMap> = Api::default_namespaced((*client).clone());
    let secrets: Api<Secret> = Api::default_namespaced((*client).clone());
    finalizer(&maps, "example.com/pair", map, |event| async move {
        match event {
            Event::Apply(map) => {
                let owned = json!({
                    "apiVersion": "v1", "kind": "Secret",
                    "metadata": { "name": map.name_any(), "ownerReferences": [map.controller_owner_ref(&()).unwrap()] },
                    "stringData": map.data,
                });
                let params = PatchParams::apply("pair").force();
                secrets.patch(&map.name_any(), &params, &Patch::Apply(&owned)).await?;
            }
            Event::Cleanup(map) => {
                secrets.delete(&map.name_any(), &DeleteParams::default()).await?;
            }
        }
        Ok::<_, kube::Error>(Action::await_change())
    })
    .await
    .map_err(|error| Fault(error.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_keeps_what_it_owns_and_cleans_up_after_it() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let controller = Controller::new(maps.clone(), watcher::Config::default())
        .owns(secrets.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(50)), Arc::new(client));
    let running = tokio::spawn(controller.for_each(|_| async {}));
    let map: ConfigMap =
        serde_json::from_value(json!({ "metadata": { "name": "a" }, "data": { "k": "1" } }))
            .unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let value = |wanted: &'static str| {
        let secrets = secrets.clone();
        async move {
            loop {
                let found = secrets.get_opt("a").await.unwrap().and_then(|secret| secret.data);
                if found.is_some_and(|data| data["k"].0 == wanted.as_bytes()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, value("1")).await.expect("the secret is made");
    let patch = json!({ "data": { "k": "2" } });
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    tokio::time::timeout(patience, value("2")).await.expect("the secret follows");
    secrets.delete("a", &DeleteParams::default()).await.unwrap();
    tokio::time::timeout(patience, value("2")).await.expect("the secret is made again");
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let deleted = async {
        while maps.get_opt("a").await.unwrap().is_some()
            || secrets.get_opt("a").await.unwrap().is_some()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(patience, deleted).await.expect("both are deleted");
    running.abort();
    server.stop().await;
}
