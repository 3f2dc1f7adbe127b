//! Lists: which state `resourceVersion` and its companions mean, pages, selectors.

use coffer_store::Store as _;
use serde_json::{Value, json};

use crate::client::ApiClient;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, step: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "step": step.to_string(), "parity": (step % 2).to_string() } },
        "data": { "step": step.to_string() },
    })
}

async fn fill(api: &ApiClient, count: usize) {
    for step in 0..count {
        api.post(MAPS, &map(&format!("m{step:03}"), step)).await.ok();
    }
}

/// Writes more than the cache remembers of a kind, elsewhere.
async fn outlive_history(api: &ApiClient) {
    let store = api.server.store();
    let writes = (0..5000).map(|at| {
        let object = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"m{at}","namespace":"elsewhere","uid":"u{at}"}}}}"#
        );
        let key = format!("/registry/configmaps/elsewhere/m{at}");
        async move { store.create(&key, coffer_store::Value::new(object.into_bytes())).await.unwrap() }
    });
    futures::future::join_all(writes).await;
    api.get(&format!("{MAPS}?limit=1")).await.ok();
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn version(list: &Value) -> u64 {
    list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// The table of "Resource versions" in the API concepts: what each combination means for a list.
#[tokio::test(flavor = "multi_thread")]
async fn each_combination_of_list_parameters_means_what_the_table_says() {
    let api = ApiClient::start().await;
    fill(&api, 4).await;
    let old = version(&api.get(MAPS).await.ok());
    api.delete(&format!("{MAPS}/m001")).await.ok();
    let new = version(&api.get(MAPS).await.ok());
    assert!(new > old);
    let (before, after) = (4, 3);
    enum Is {
        State(usize),
        Invalid(&'static str),
        Bad(&'static str),
    }
    use Is::{Bad, Invalid, State};
    let forbidden = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
    let exact_zero = "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
    let continued = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided";
    let unknown = "resourceVersionMatch: Unsupported value: \"Some\": supported values: \"Exact\", \"NotOlderThan\", \"\"";
    let first = api.get(&format!("{MAPS}?limit=1")).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let cases = [
        (String::new(), State(after)),
        ("resourceVersion=0".into(), State(after)),
        (format!("resourceVersion={old}"), State(after)),
        (format!("resourceVersion={new}"), State(after)),
        ("limit=9".into(), State(after)),
        // Any state is the cache's, which is not paged.
        ("limit=1&resourceVersion=0".into(), State(after)),
        ("limit=1&resourceVersion=0&resourceVersionMatch=NotOlderThan".into(), State(after)),
        // A page of a version, without resourceVersionMatch, is exactly that version.
        (format!("limit=9&resourceVersion={old}"), State(before)),
        ("resourceVersionMatch=Exact".into(), Invalid(forbidden)),
        ("resourceVersionMatch=Exact&resourceVersion=0".into(), Invalid(exact_zero)),
        (format!("resourceVersionMatch=Exact&resourceVersion={old}"), State(before)),
        (format!("resourceVersionMatch=Exact&limit=9&resourceVersion={old}"), State(before)),
        (format!("resourceVersionMatch=Exact&resourceVersion={new}"), State(after)),
        ("resourceVersionMatch=NotOlderThan".into(), Invalid(forbidden)),
        ("resourceVersionMatch=NotOlderThan&resourceVersion=0".into(), State(after)),
        (format!("resourceVersionMatch=NotOlderThan&resourceVersion={old}"), State(after)),
        (format!("resourceVersionMatch=NotOlderThan&limit=9&resourceVersion={old}"), State(after)),
        (format!("resourceVersionMatch=Some&resourceVersion={old}"), Invalid(unknown)),
        (format!("continue={token}&resourceVersion=0"), State(after - 1)),
        (
            format!("continue={token}&resourceVersion={old}"),
            Bad("specifying resource version is not allowed when using continue"),
        ),
        (
            format!("continue={token}&resourceVersion={old}&resourceVersionMatch=Exact"),
            Invalid(continued),
        ),
        (
            "sendInitialEvents=true".into(),
            Invalid("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        ),
        (
            "resourceVersion=-1".into(),
            Bad(
                "invalid resource version: resourceVersion: Invalid value: \"-1\": strconv.ParseUint: parsing \"-1\": invalid syntax",
            ),
        ),
    ];
    for (query, wanted) in cases {
        let response = api.get(&format!("{MAPS}?{query}")).await;
        match wanted {
            State(count) => assert_eq!(names(&response.ok()).len(), count, "{query}"),
            Invalid(why) => {
                let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {why}");
                assert_eq!(response.refusal(), (422, "Invalid".into(), message), "{query}");
            }
            Bad(why) => {
                assert_eq!(response.refusal(), (400, "BadRequest".into(), why.into()), "{query}")
            }
        }
    }
    api.close().await;
}

/// A version that does not exist yet: the client gets a retry hint, in the words client-go knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_the_future_is_waited_for_and_then_timed_out() {
    let api = ApiClient::start().await;
    let now = version(&api.get(MAPS).await.ok());
    api.post(MAPS, &map("a", 0)).await.ok();
    let paths = ["", "/a", "?resourceVersionMatch=Exact"].map(|what| {
        let separator = if what.contains('?') { '&' } else { '?' };
        format!("{MAPS}{what}{separator}resourceVersion={}", now + 1000)
    });
    let responses = futures::future::join_all(paths.iter().map(|path| api.get(path))).await;
    for (query, response) in paths.iter().zip(responses) {
        let status = response.json();
        assert_eq!(
            (response.status.as_u16(), &status["reason"]),
            (504, &json!("Timeout")),
            "{query}"
        );
        assert!(
            status["message"]
                .as_str()
                .unwrap()
                .starts_with("Timeout: Too large resource version: ")
        );
        assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(response.header("retry-after"), "1");
    }
    // An object is never older than what it is asked for.
    for version in ["0".to_owned(), now.to_string(), (now + 1).to_string()] {
        api.get(&format!("{MAPS}/a?resourceVersion={version}")).await.ok();
    }
    let nonsense = api.get(&format!("{MAPS}/a?resourceVersion=x")).await.refusal();
    assert_eq!(
        (nonsense.0, &*nonsense.2),
        (
            400,
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax"
        )
    );
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_with_a_selector_are_complete_and_have_no_remaining_count() {
    let api = ApiClient::start().await;
    fill(&api, 25).await;
    for (selector, wanted) in
        [("", 25), ("labelSelector=parity%3D1", 12), ("fieldSelector=metadata.name!%3Dm000", 24)]
    {
        for limit in [1, 4, 7, 100] {
            let (mut seen, mut token, mut first_version) = (Vec::new(), String::new(), None);
            loop {
                let path = format!("{MAPS}?limit={limit}&continue={token}&{selector}");
                let page = api.get(&path).await.ok();
                let meta = &page["metadata"];
                assert_eq!(*first_version.get_or_insert(version(&page)), version(&page));
                assert!(names(&page).len() <= limit);
                seen.extend(names(&page));
                token = meta["continue"].as_str().unwrap_or_default().to_owned();
                let remaining = &meta["remainingItemCount"];
                if selector.is_empty() && !token.is_empty() {
                    assert_eq!(*remaining, json!(wanted - seen.len()));
                } else {
                    assert!(remaining.is_null(), "{remaining}");
                }
                if token.is_empty() {
                    break;
                }
                // Nothing of this is in the state that is paged through.
                api.post(MAPS, &map(&format!("late-{}", rand::random::<u64>()), 1)).await.ok();
            }
            let unique: std::collections::BTreeSet<_> = seen.iter().collect();
            assert_eq!((seen.len(), unique.len()), (wanted, wanted), "{selector} {limit}");
            api.delete(&format!(
                "{MAPS}?labelSelector=step%3D1,parity%3D1&fieldSelector=metadata.name!%3Dm001"
            ))
            .await
            .ok();
        }
    }
    api.close().await;
}

/// History is compacted between two pages: 410, with a token that continues in the newest state.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_continue_token_comes_with_one_for_the_newest_state() {
    let api = ApiClient::start().await;
    fill(&api, 6).await;
    let first = api.get(&format!("{MAPS}?limit=2")).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let old = version(&first);
    api.delete(&format!("{MAPS}/m003")).await.ok();
    api.post(MAPS, &map("m9", 9)).await.ok();
    let newest = api.server.store().revision().await.unwrap();
    api.server.store().compact(newest).await.unwrap();
    // The store has forgotten it, the cache has not.
    let second = api.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["m002", "m003"]);
    outlive_history(&api).await;

    let expired = api.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    let (code, reason, message) = expired.refusal();
    assert_eq!((code, &*reason), (410, "Expired"));
    assert!(message.starts_with("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response"), "{message}");
    let mut token = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let mut seen = names(&first);
    while !token.is_empty() {
        let page = api.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
        seen.extend(names(&page));
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!(seen, ["m000", "m001", "m002", "m004", "m005", "m9"]);

    let exact = api.get(&format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
    let wanted = "The resourceVersion for the provided list is too old.";
    assert_eq!(exact.refusal(), (410, "Expired".into(), wanted.into()));
    api.close().await;
}

/// Which fields each kind can be selected by, and in which words the others are refused.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_can_be_selected_by_its_own_fields() {
    let api = ApiClient::start().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" },
        "type": "kubernetes.io/basic-auth", "stringData": { "username": "u" },
    });
    api.post("/api/v1/namespaces/default/secrets", &secret).await.ok();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "redis" }] },
    });
    api.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": { "unschedulable": true } });
    api.post("/api/v1/nodes", &node).await.ok();
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e" }, "reason": "Tested", "type": "Warning",
        "involvedObject": { "kind": "Pod", "namespace": "default", "name": "p", "uid": "u1" },
    });
    api.post("/api/v1/namespaces/default/events", &event).await.ok();
    for (path, selector, count) in [
        ("/api/v1/secrets", "type=kubernetes.io/basic-auth", 1),
        ("/api/v1/secrets", "type=Opaque", 0),
        ("/api/v1/secrets", "metadata.namespace=default,metadata.name=s", 1),
        ("/api/v1/pods", "spec.nodeName=n1", 1),
        ("/api/v1/pods", "spec.nodeName=", 0),
        ("/api/v1/pods", "status.phase=Pending,spec.restartPolicy=Always", 1),
        ("/api/v1/pods", "status.phase!=Pending", 0),
        ("/api/v1/pods", "spec.schedulerName=default-scheduler,spec.serviceAccountName=", 1),
        ("/api/v1/nodes", "spec.unschedulable=true", 1),
        ("/api/v1/namespaces", "status.phase=Active,metadata.name=default", 1),
        (
            "/api/v1/events",
            "involvedObject.name=p,involvedObject.kind=Pod,involvedObject.uid=u1",
            1,
        ),
        ("/api/v1/events", "type=Warning,reason=Tested", 1),
        ("/api/v1/events", "type=Normal", 0),
        ("/apis/events.k8s.io/v1/events", "regarding.name=p", 1),
    ] {
        let selector = selector.replace('=', "%3D");
        let listed = api.get(&format!("{path}?fieldSelector={selector}")).await.ok();
        assert_eq!(names(&listed).len(), count, "{path} {selector}");
    }
    for (path, selector, message) in [
        ("/api/v1/secrets", "data.x=1", "field label not supported: data.x"),
        ("/api/v1/pods", "spec.x=1", "field label not supported: spec.x"),
        (
            "/api/v1/configmaps",
            "data.x=1",
            "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        ("/api/v1/pods", "nonsense", "invalid selector: 'nonsense'; can't understand 'nonsense'"),
    ] {
        let refused =
            api.get(&format!("{path}?fieldSelector={}", selector.replace('=', "%3D"))).await;
        assert_eq!(
            refused.refusal(),
            (400, "BadRequest".into(), message.into()),
            "{path} {selector}"
        );
    }
    let refused = api.get("/api/v1/pods?labelSelector=a%20in%20(b").await.refusal();
    assert_eq!((refused.0, &*refused.1), (400, "BadRequest"));
    assert!(refused.2.starts_with("unable to parse requirement: "), "{}", refused.2);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_has_items() {
    let api = ApiClient::start().await;
    let list = api.get(MAPS).await.ok();
    assert_eq!(list["items"], json!([]));
    let elsewhere = api.get("/api/v1/namespaces/no-such-namespace/configmaps").await.ok();
    assert_eq!(elsewhere["items"], json!([]), "a namespace that does not exist lists as empty");
    api.close().await;
}
