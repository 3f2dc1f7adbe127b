//! Watches: where they begin, what they carry, and how they end.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::ApiClient;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": { "a": "b" } } })
}

/// All events of a watch that ends by itself after a second.
async fn events(api: &ApiClient, query: &str) -> Vec<(String, String)> {
    let response = api.get(&format!("{MAPS}?watch=true&timeoutSeconds=1&{query}")).await;
    assert_eq!(response.status, 200, "{query}: {}", response.text());
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let meta = &event["object"]["metadata"];
        let marked = meta["annotations"]["k8s.io/initial-events-end"] == "true";
        let name = if marked { "end" } else { meta["name"].as_str().unwrap_or_default() };
        (event["type"].as_str().unwrap().to_owned(), name.to_owned())
    };
    response.text().lines().map(event).collect()
}

fn shown(events: &[(String, String)]) -> Vec<String> {
    events.iter().map(|(kind, name)| format!("{kind} {name}").trim_end().to_owned()).collect()
}

/// The rows of "Semantics for watch" and of streaming lists, as the API concepts have them.
#[tokio::test(flavor = "multi_thread")]
async fn each_combination_of_watch_parameters_begins_where_the_table_says() {
    let api = ApiClient::start().await;
    api.post(MAPS, &map("a")).await.ok();
    let made = api.post(MAPS, &map("b")).await.ok();
    let of_b: u64 = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let list = "resourceVersionMatch=NotOlderThan";
    let cases = [
        (String::new(), &["ADDED a", "ADDED b"][..]),
        ("resourceVersion=0".into(), &["ADDED a", "ADDED b"]),
        (format!("resourceVersion={}", of_b - 1), &["ADDED b"]),
        (format!("resourceVersion={of_b}"), &[]),
        ("allowWatchBookmarks=true".into(), &["ADDED a", "ADDED b", "BOOKMARK"]),
        (format!("resourceVersion={of_b}&allowWatchBookmarks=true"), &["BOOKMARK"]),
        (
            format!("sendInitialEvents=true&{list}&allowWatchBookmarks=true"),
            &["ADDED a", "ADDED b", "BOOKMARK end", "BOOKMARK"],
        ),
        (
            format!(
                "sendInitialEvents=true&{list}&allowWatchBookmarks=true&resourceVersion={of_b}"
            ),
            &["ADDED a", "ADDED b", "BOOKMARK end", "BOOKMARK"],
        ),
        // Without bookmarks the end of the initial state is not marked.
        (format!("sendInitialEvents=true&{list}"), &["ADDED a", "ADDED b"]),
        (format!("sendInitialEvents=false&{list}"), &[]),
        (format!("sendInitialEvents=false&{list}&resourceVersion=0"), &[]),
        (format!("sendInitialEvents=false&{list}&resourceVersion={}", of_b - 1), &["ADDED b"]),
        ("labelSelector=a!%3Db".into(), &[]),
        ("fieldSelector=metadata.name%3Db".into(), &["ADDED b"]),
    ];
    let door_of = &api;
    let checks = cases.iter().map(|(query, wanted)| async move {
        assert_eq!(shown(&events(door_of, query).await), *wanted, "{query}");
    });
    futures::future::join_all(checks).await;
    for (query, why) in [
        (
            "sendInitialEvents=true",
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (
            "resourceVersionMatch=Exact&sendInitialEvents=true",
            "[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]",
        ),
    ] {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
        let refused = api.get(&format!("{MAPS}?watch=1&{query}")).await;
        assert_eq!(refused.refusal(), (422, "Invalid".into(), message), "{query}");
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_watched_by_field_selector_by_its_path_and_by_the_old_path() {
    let api = ApiClient::start().await;
    for name in ["a", "b"] {
        api.post(MAPS, &map(name)).await.ok();
    }
    let paths = [
        format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da&timeoutSeconds=1"),
        format!("{MAPS}/a?watch=1&timeoutSeconds=1"),
        "/api/v1/watch/namespaces/default/configmaps/a?timeoutSeconds=1".to_owned(),
        "/api/v1/watch/configmaps?fieldSelector=metadata.name%3Da&timeoutSeconds=1".to_owned(),
    ];
    let texts = futures::future::join_all(paths.iter().map(|path| api.get(path))).await;
    for (path, text) in paths.iter().zip(texts) {
        let event: Value = serde_json::from_str(text.text().trim_end()).unwrap();
        assert_eq!(event["object"]["metadata"]["name"], "a", "{path}");
    }
    let refused = api
        .get("/api/v1/watch/namespaces/default/configmaps/a?fieldSelector=metadata.name%3Db")
        .await
        .refusal();
    assert_eq!(refused.2, "fieldSelector metadata.name doesn't match requested name");
    api.close().await;
}

/// A watch may begin at a later version than the current one: it omits events before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_the_future_waits_for_it() {
    let api = ApiClient::start().await;
    let made = api.post(MAPS, &map("a")).await.ok();
    let now: u64 = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let query = format!("resourceVersion={}", now + 2);
    let watch = events(&api, &query);
    let write = async {
        // The watch need not be there yet: what it may not see it does not see either way.
        for name in ["b", "c", "d", "e"] {
            api.post(MAPS, &map(name)).await.ok();
        }
    };
    let (seen, ()) = tokio::join!(watch, write);
    assert_eq!(shown(&seen), ["ADDED d", "ADDED e"]);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_its_client_wants_it_to() {
    let api = ApiClient::start().await;
    for (seconds, shortest, longest) in [("1", 900, 4000), ("-5", 0, 900)] {
        let began = Instant::now();
        api.get(&format!("{MAPS}?watch=1&timeoutSeconds={seconds}")).await;
        let took = began.elapsed().as_millis();
        assert!((shortest..longest).contains(&took), "{seconds}: {took} ms");
    }
    api.close().await;
}

/// A bookmark's version is one to go on from: everything before it has been sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_bookmark_carries_the_version_of_the_whole_store() {
    let api = ApiClient::start().await;
    let other = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" } });
    let made = api.post("/api/v1/namespaces/default/secrets", &other).await.ok();
    let newest: u64 = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=1&resourceVersion=1");
    let text = api.get(&path).await.text();
    let event: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(event["type"], "BOOKMARK");
    let object = &event["object"];
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(version >= newest, "{version} {newest}");
    api.close().await;
}
