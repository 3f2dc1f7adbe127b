//! Lists and watches: what a watcher sees is what the store holds, in order and once.

mod support;

use std::collections::BTreeMap;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use support::TestServer;

const WRITERS: usize = 8;
const WRITES: usize = 40;

fn config_map(name: &str, step: usize) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "parity": if step.is_multiple_of(2) { "even" } else { "odd" } } },
        "data": { "step": step.to_string() },
    }))
    .unwrap()
}

/// Lines of a raw watch until one names `last`.
async fn raw_watch(client: &kube::Client, query: &str, until: &str) -> Vec<Value> {
    let uri = format!("/api/v1/namespaces/default/configmaps?watch=1&{query}");
    let request = http::Request::get(uri).body(Vec::new()).unwrap();
    let mut lines = client.request_stream(request).await.unwrap().lines();
    let mut events = Vec::new();
    while let Some(line) = lines.try_next().await.unwrap() {
        let event: Value = serde_json::from_str(&line).unwrap();
        let done = event["object"]["metadata"]["name"] == until || event["type"] == "ERROR";
        events.push(event);
        if done {
            break;
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_under_concurrent_writers_ends_with_what_the_store_holds() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let start = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let watchers: Vec<_> = (0..4)
        .map(|_| {
            let (client, start) = (client.clone(), start.clone());
            tokio::spawn(async move {
                raw_watch(&client, &format!("resourceVersion={start}"), "end-of-test").await
            })
        })
        .collect();
    let writers = (0..WRITERS).map(|writer| {
        let api = api.clone();
        async move {
            let name = format!("w{writer}");
            for step in 0..WRITES {
                let params = PostParams::default();
                match step % 5 {
                    0 => drop(api.create(&params, &config_map(&name, step)).await.unwrap()),
                    4 => drop(api.delete(&name, &DeleteParams::default()).await.unwrap()),
                    _ => drop(api.replace(&name, &params, &config_map(&name, step)).await.unwrap()),
                }
            }
            api.create(&PostParams::default(), &config_map(&name, 1000 + writer)).await.unwrap();
        }
    });
    futures::future::join_all(writers).await;
    api.create(&PostParams::default(), &config_map("end-of-test", 0)).await.unwrap();

    let listed = api.list(&ListParams::default()).await.unwrap();
    let held: BTreeMap<String, String> = listed
        .items
        .into_iter()
        .map(|map| (map.metadata.name.unwrap(), map.metadata.resource_version.unwrap()))
        .collect();
    assert_eq!(held.len(), WRITERS + 1);
    for watcher in watchers {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let mut last = 0;
        for event in watcher.await.unwrap() {
            let meta = &event["object"]["metadata"];
            let (name, version) =
                (meta["name"].as_str().unwrap(), meta["resourceVersion"].as_str().unwrap());
            let revision: u64 = version.parse().unwrap();
            assert!(revision > last, "revision {revision} after {last}");
            last = revision;
            match event["type"].as_str().unwrap() {
                "ADDED" => assert!(seen.insert(name.into(), version.into()).is_none(), "{name}"),
                "MODIFIED" => assert!(seen.insert(name.into(), version.into()).is_some(), "{name}"),
                "DELETED" => assert!(seen.remove(name).is_some(), "{name}"),
                other => panic!("{other}"),
            }
        }
        assert_eq!(seen, held);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_leaves_a_selector_is_deleted_for_its_watcher() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let params = PostParams::default();
    api.create(&params, &config_map("moving", 0)).await.unwrap();
    api.replace("moving", &params, &config_map("moving", 1)).await.unwrap();
    api.replace("moving", &params, &config_map("moving", 2)).await.unwrap();
    api.create(&params, &config_map("end", 0)).await.unwrap();
    let start = "1";
    let query = format!("resourceVersion={start}&labelSelector=parity%3Deven");
    let events = raw_watch(&client, &query, "end").await;
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ADDED", "DELETED", "ADDED", "ADDED"]);
    assert_eq!(events[1]["object"]["data"]["step"], "0", "the last state it could see");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_list_ends_its_initial_events_with_a_marked_bookmark() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    api.create(&PostParams::default(), &config_map("a", 0)).await.unwrap();
    let config = watcher::Config::default().streaming_lists();
    let mut events = watcher(api, config).boxed();
    let mut names = Vec::new();
    while let Some(event) = events.try_next().await.unwrap() {
        match event {
            watcher::Event::InitApply(map) => names.push(map.metadata.name.unwrap()),
            watcher::Event::InitDone => break,
            _ => {}
        }
    }
    assert_eq!(names, ["a"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_recovers_from_a_resource_version_that_is_too_old() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    api.create(&PostParams::default(), &config_map("before", 0)).await.unwrap();
    let dir = server.stop().await;
    // A new process remembers no event before its start.
    let server = TestServer::start_in(dir).await;
    let client = server.admin().await;
    let events = raw_watch(&client, "resourceVersion=1", "before").await;
    assert_eq!(events[0]["type"], "ERROR");
    assert_eq!(
        (&events[0]["object"]["code"], &events[0]["object"]["reason"]),
        (&json!(410), &json!("Expired"))
    );
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let first = watcher(api, watcher::Config::default()).applied_objects().boxed().next().await;
    assert_eq!(first.unwrap().unwrap().metadata.name.unwrap(), "before");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_one_state_whatever_is_written_between_them() {
    let server = TestServer::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin().await);
    let params = PostParams::default();
    for at in 0..10 {
        api.create(&params, &config_map(&format!("c{at}"), at)).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(4)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(6));
    api.delete("c5", &DeleteParams::default()).await.unwrap();
    api.create(&params, &config_map("c4-new", 0)).await.unwrap();
    api.replace("c9", &params, &config_map("c9", 99)).await.unwrap();
    let mut names: Vec<_> =
        first.items.iter().map(|map| map.metadata.name.clone().unwrap()).collect();
    let mut next = first.metadata.continue_.clone();
    let mut last_step = String::new();
    while let Some(token) = next.take().filter(|token| !token.is_empty()) {
        let page = api.list(&ListParams::default().limit(4).continue_token(&token)).await.unwrap();
        assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
        for map in &page.items {
            names.push(map.metadata.name.clone().unwrap());
            last_step.clone_from(&map.data.as_ref().unwrap()["step"]);
        }
        next.clone_from(&page.metadata.continue_);
    }
    assert_eq!(names, (0..10).map(|at| format!("c{at}")).collect::<Vec<_>>());
    assert_eq!(last_step, "9", "the state of the first page");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_lost_the_race_is_a_conflict_and_a_patch_without_version_is_not() {
    let server = TestServer::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin().await);
    let params = PostParams::default();
    let first = api.create(&params, &config_map("c", 0)).await.unwrap();
    api.replace("c", &params, &config_map("c", 1)).await.unwrap();
    let Err(kube::Error::Api(stale)) = api.replace("c", &params, &first).await else {
        panic!("a stale write was accepted");
    };
    assert_eq!((stale.code, stale.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let patches = (0..16).map(|at| {
        let api = api.clone();
        async move {
            let patch = json!({ "data": { format!("k{at}"): "v" } });
            api.patch("c", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        }
    });
    futures::future::join_all(patches).await;
    assert_eq!(api.get("c").await.unwrap().data.unwrap().len(), 17);
    server.stop().await;
}
