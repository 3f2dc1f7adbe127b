//! HTTP itself: what is negotiated, how responses are written, and what a URL may look like.

use std::io::Read as _;

use http::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, JSON, Response};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

async fn accepting(api: &ApiClient, path: &str, accept: &str) -> Response {
    api.send(Method::GET, path, &[("accept", accept)], "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_gets_the_form_it_prefers_or_406() {
    let api = ApiClient::start().await;
    api.post(MAPS, &map("a", json!({ "k": "v" }))).await.ok();
    let one = format!("{MAPS}/a");
    let (json_type, yaml_type) = ("application/json", "application/yaml");
    for (accept, path, media) in [
        ("", &*one, json_type),
        ("*/*", &*one, json_type),
        ("application/json", &*one, json_type),
        ("application/yaml", &*one, yaml_type),
        ("application/yaml", MAPS, yaml_type),
        ("application/vnd.kubernetes.protobuf, application/json", &*one, json_type),
        ("application/json;q=0.1, application/yaml;q=0.9", &*one, yaml_type),
        ("application/json;stream=watch", &*one, json_type),
        ("text/html, */*;q=0.8", &*one, json_type),
    ] {
        let response = accepting(&api, path, accept).await;
        assert_eq!(
            (response.status.as_u16(), response.header("content-type")),
            (200, media),
            "{accept}"
        );
    }
    let yaml = accepting(&api, MAPS, "application/yaml").await.text();
    assert!(yaml.contains("kind: ConfigMapList") && yaml.contains("k: v"), "{yaml}");
    for (accept, query) in [
        ("text/html", ""),
        ("application/vnd.kubernetes.protobuf", ""),
        ("application/json;as=Gizmo;g=meta.k8s.io;v=v1", ""),
        ("application/yaml", "?watch=1"),
    ] {
        let refused = accepting(&api, &format!("{MAPS}{query}"), accept).await;
        let (code, reason, message) = match accept {
            "application/yaml" => {
                let text = refused.text();
                let reason = text.lines().find_map(|line| line.strip_prefix("reason: "));
                (refused.status.as_u16(), reason.unwrap_or_default().to_owned(), text)
            }
            _ => refused.refusal(),
        };
        assert_eq!((code, &*reason), (406, "NotAcceptable"), "{accept}");
        assert!(message.contains("only the following media types are accepted: "), "{message}");
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_metadata_come_in_both_versions_that_clients_know() {
    let api = ApiClient::start().await;
    api.post(MAPS, &map("a", json!({ "k": "v" }))).await.ok();
    for version in ["v1", "v1beta1"] {
        let form = |kind: &str| format!("application/json;as={kind};g=meta.k8s.io;v={version}");
        let api_version = format!("meta.k8s.io/{version}");
        let table = accepting(&api, MAPS, &form("Table")).await.ok();
        assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!(api_version)));
        let columns = table["columnDefinitions"].as_array().unwrap();
        assert_eq!(columns[0]["name"], "Name");
        assert_eq!(columns.len(), table["rows"][0]["cells"].as_array().unwrap().len());
        let object = &table["rows"][0]["object"];
        assert_eq!(
            (&object["kind"], &object["data"]),
            (&json!("PartialObjectMetadata"), &Value::Null)
        );
        assert_eq!(object["apiVersion"], api_version);

        let list = accepting(&api, MAPS, &form("PartialObjectMetadataList")).await.ok();
        assert_eq!(list["kind"], "PartialObjectMetadataList");
        assert_eq!(list["items"][0]["apiVersion"], api_version);
        assert_eq!(list["items"][0]["data"], Value::Null);
        let one = accepting(&api, &format!("{MAPS}/a"), &form("PartialObjectMetadata")).await.ok();
        assert_eq!(
            (&one["kind"], &one["metadata"]["name"]),
            (&json!("PartialObjectMetadata"), &json!("a"))
        );
    }
    for (include, has) in [("None", "none"), ("Metadata", "metadata"), ("Object", "data")] {
        let path = format!("{MAPS}?includeObject={include}");
        let table =
            accepting(&api, &path, "application/json;as=Table;g=meta.k8s.io;v=v1").await.ok();
        let object = &table["rows"][0]["object"];
        assert_eq!(object.is_null(), has == "none", "{include}");
        assert_eq!(object["data"].is_object(), has == "data", "{include}");
    }
    api.close().await;
}

/// Every verb that returns an object returns it in the form that the client asks for.
#[tokio::test(flavor = "multi_thread")]
async fn writes_return_the_form_that_is_asked_for_too() {
    let api = ApiClient::start().await;
    let one = format!("{MAPS}/a");
    let accept = ("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let object = map("a", json!({ "k": "v" }));
    let merge = ("content-type", "application/merge-patch+json");
    let patch = json!({ "metadata": { "finalizers": ["example.com/held"] } }).to_string();
    for (method, path, media, body) in [
        (Method::POST, MAPS, JSON, object.to_string()),
        (Method::PUT, &one, JSON, object.to_string()),
        (Method::PATCH, &one, merge, patch),
        (Method::GET, &one, JSON, String::new()),
        (Method::DELETE, &one, JSON, String::new()),
    ] {
        let response = api.send(method.clone(), path, &[accept, media], body).await.ok();
        assert_eq!(response["kind"], "PartialObjectMetadata", "{method}");
        assert_eq!(response["data"], Value::Null, "{method}");
    }
    let all = ("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let list = api.send(Method::DELETE, MAPS, &[all], "").await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    let watch =
        api.send(Method::GET, &format!("{MAPS}?watch=1&timeoutSeconds=1"), &[accept], "").await;
    let event: Value = serde_json::from_str(watch.text().lines().next().unwrap()).unwrap();
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(event["object"]["data"], Value::Null);
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_as_table_has_columns_once_and_a_row_for_each_event() {
    let api = ApiClient::start().await;
    for name in ["a", "b"] {
        api.post(MAPS, &map(name, json!({}))).await.ok();
    }
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true");
    let response = accepting(&api, &path, "application/json;as=Table;g=meta.k8s.io;v=v1").await;
    let events: Vec<Value> =
        response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 3, "two objects and a bookmark: {events:?}");
    let columns = |event: &Value| event["object"]["columnDefinitions"].as_array().unwrap().len();
    assert!(columns(&events[0]) > 0 && columns(&events[1]) == 0);
    for event in &events {
        assert_eq!(event["object"]["kind"], "Table");
        assert_eq!(event["object"]["rows"].as_array().unwrap().len(), 1);
    }
    assert_eq!(events[2]["type"], "BOOKMARK");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_indented_json_and_programs_do_not() {
    let api = ApiClient::start().await;
    api.post(MAPS, &map("a", json!({ "k": "v" }))).await.ok();
    let one = format!("{MAPS}/a");
    for (path, agent, indented) in [
        (one.clone(), "curl/7.88.1", true),
        (one.clone(), "Mozilla/5.0 (X11)", true),
        (one.clone(), "kubectl/v1.32", false),
        (format!("{one}?pretty=true"), "kubectl/v1.32", true),
        (format!("{one}?pretty=false"), "curl/7.88.1", false),
        (MAPS.to_owned(), "curl/7.88.1", true),
        ("/api/v1".to_owned(), "curl/7.88.1", true),
        (format!("{MAPS}/none"), "curl/7.88.1", true),
    ] {
        let response = api.send(Method::GET, &path, &[("user-agent", agent)], "").await;
        assert_eq!(response.text().starts_with("{\n  \""), indented, "{path} {agent}");
        response.json();
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_responses_are_compressed_and_say_so() {
    let api = ApiClient::start().await;
    let big = "x".repeat(200 * 1024);
    api.post(MAPS, &map("a", json!({ "k": big }))).await.ok();
    for (path, accept, encoding, gzip) in [
        (format!("{MAPS}/a"), "application/json", "gzip", true),
        (format!("{MAPS}/a"), "application/json", "identity", false),
        (format!("{MAPS}/a"), "application/yaml", "deflate, gzip", true),
        (MAPS.to_owned(), "application/json", "gzip", true),
        (MAPS.to_owned(), "application/json;as=Table;g=meta.k8s.io;v=v1", "gzip", false),
        ("/api/v1/namespaces/kube-system".to_owned(), "application/json", "gzip", false),
    ] {
        let headers = [("accept", accept), ("accept-encoding", encoding)];
        let response = api.send(Method::GET, &path, &headers, "").await;
        assert_eq!(
            response.header("content-encoding"),
            if gzip { "gzip" } else { "" },
            "{path} {accept}"
        );
        if gzip {
            assert_eq!(response.header("vary"), "Accept-Encoding");
            let mut plain = String::new();
            flate2::read::GzDecoder::new(&response.body[..]).read_to_string(&mut plain).unwrap();
            assert!(plain.contains(&big), "{path} {accept}");
        }
    }
    api.close().await;
}

/// Small responses have a length, so that the simplest client knows where they end.
#[tokio::test(flavor = "multi_thread")]
async fn small_responses_have_a_length() {
    let api = ApiClient::start().await;
    for path in ["/api/v1/namespaces/default", "/api/v1/namespaces", "/api", "/version"] {
        let response = api.get(path).await;
        assert_eq!(response.header("content-length"), response.body.len().to_string(), "{path}");
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_json_or_yaml_and_others_get_415() {
    let api = ApiClient::start().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yam}\ndata: {a: b,}\n";
    for media in ["application/yaml", "application/yaml; charset=utf-8"] {
        let (path, headers) = (format!("{MAPS}?dryRun=All"), [("content-type", media)]);
        let made = api.send(Method::POST, &path, &headers, yaml).await;
        assert_eq!(made.ok()["data"]["a"], "b");
    }
    let bare = json!({ "metadata": { "name": "bare" } }).to_string();
    let made = api.send(Method::POST, MAPS, &[], bare).await.ok();
    assert_eq!(made["kind"], "ConfigMap", "kind and version follow from the path");
    for (method, path, media) in [
        (Method::POST, MAPS, "text/plain"),
        (Method::POST, MAPS, "application/merge-patch+json"),
        (Method::PATCH, "/api/v1/namespaces/default/configmaps/bare", "application/json"),
        (Method::PATCH, "/api/v1/namespaces/default/configmaps/bare", "text/plain"),
    ] {
        let refused = api.send(method.clone(), path, &[("content-type", media)], "{}").await;
        let (code, reason, message) = refused.refusal();
        assert_eq!((code, &*reason), (415, "UnsupportedMediaType"), "{method} {media}");
        assert!(message.starts_with("the body of the request was in an unknown format - accepted media types include: application/json"), "{message}");
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_without_a_verb_are_405_and_unknown_paths_404() {
    let api = ApiClient::start().await;
    for (method, path, code) in [
        (Method::HEAD, MAPS, 405),
        (Method::OPTIONS, MAPS, 405),
        (Method::PUT, MAPS, 405),
        (Method::PATCH, MAPS, 405),
        (Method::POST, "/api/v1/namespaces/default/configmaps/x", 405),
        (Method::POST, "/api/v1/configmaps", 405),
        (Method::DELETE, "/api/v1/configmaps", 405),
        (Method::DELETE, "/api/v1/namespaces", 405),
        (Method::POST, "/api/v1/watch/configmaps", 405),
        (Method::POST, "/version", 405),
        (Method::GET, "/api/v1/configmaps/x", 404),
        (Method::GET, "/api/v1/namespaces/default/configmaps/x/y", 404),
        (Method::GET, "/api/v1/namespaces/default/configmaps/x/status", 404),
        (Method::GET, "/api/v2", 404),
        (Method::GET, "/api/v1/gizmos", 404),
        (Method::GET, "/apis/gizmo.example.com", 404),
        (Method::GET, "/apis/gizmo.example.com/v1/gizmos", 404),
        (Method::GET, "/apis/apps/v2/deployments", 404),
        (Method::GET, "//api/v1/configmaps", 404),
        (Method::GET, "/api//v1", 404),
        (Method::GET, "/nothing", 404),
        (Method::GET, "/livez/nothing", 404),
        (Method::GET, "/api/v1/configmaps/", 200),
        (Method::GET, "/api/v1/namespaces/default/", 200),
        (Method::GET, "/api/", 200),
        (Method::GET, "/apis/apps/v1/", 200),
        (Method::HEAD, "/healthz", 200),
        (Method::GET, "/livez/ping", 200),
    ] {
        let response = api.send(method.clone(), path, &[JSON], "").await;
        assert_eq!(response.status.as_u16(), code, "{method} {path}: {}", response.text());
    }
    api.close().await;
}

/// Unknown parameters are ignored, as upstream ignores them; known ones are parsed as Go parses them.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_parameters_are_ignored_and_known_ones_are_checked() {
    let api = ApiClient::start().await;
    assert_eq!(api.get(&format!("{MAPS}?gizmo=1&timeout=30s&foo=bar")).await.status, 200);
    for (query, message) in [
        ("limit=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("limit=", "strconv.ParseInt: parsing \"\": invalid syntax"),
        (
            "limit=99999999999999999999",
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
        ),
        ("watch=1&timeoutSeconds=soon", "strconv.ParseInt: parsing \"soon\": invalid syntax"),
        (
            "timeout=soon",
            "invalid timeout specified in the request URL - time: invalid duration \"soon\"",
        ),
    ] {
        let refused = api.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(refused.refusal(), (400, "BadRequest".into(), message.into()), "{query}");
    }
    let exported = api.get("/api/v1/namespaces/default?export=true").await;
    assert_eq!(
        exported.refusal().2,
        "the export parameter, deprecated since v1.14, is no longer supported"
    );
    api.close().await;
}

/// kubectl asks for hundreds of names in one selector; a URL beyond reason is refused and the
/// server lives.
#[tokio::test(flavor = "multi_thread")]
async fn long_urls_are_served_and_endless_ones_are_refused() {
    let api = ApiClient::start().await;
    let names: Vec<String> = (0..2000).map(|at| format!("name-{at:06}")).collect();
    let selector = format!("n%20in%20({})", names.join(","));
    let listed = api.get(&format!("{MAPS}?labelSelector={selector}")).await;
    assert_eq!(listed.status, 200);
    let endless = format!("/api/v1/configmaps?x={}", "a".repeat(60_000));
    assert_eq!(api.get(&endless).await.status, 200);
    let absurd = raw(&api, "a".repeat(2 << 20)).await;
    assert!(absurd.is_empty() || absurd.starts_with("HTTP/1.1 4"), "{absurd}");
    assert_eq!(api.get("/healthz").await.status, 200);
    api.close().await;
}

/// A request that no client library would build; the first line of the response.
async fn raw(api: &ApiClient, path: String) -> String {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
    let stream = api.server.tls("kubernetes-admin", &[b"http/1.1"]).await;
    let (reader, mut writer) = tokio::io::split(stream);
    let request = format!("GET /{path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    // The server may stop reading before all of it is sent.
    let _ = writer.write_all(request.as_bytes()).await;
    let mut line = String::new();
    let _ = tokio::io::BufReader::new(reader).read_line(&mut line).await;
    line
}

/// One connection carries many requests one after another, and over HTTP/2 at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_http_2_is_spoken() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let api = ApiClient::start().await;
    let request = |version| {
        http::Request::get(format!("https://{}/version", api.server.address))
            .version(version)
            .header("host", "localhost")
            .body(Full::<bytes::Bytes>::default())
            .unwrap()
    };
    let io = TokioIo::new(api.server.tls("kubernetes-admin", &[b"http/1.1"]).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let running = tokio::spawn(connection);
    for _ in 0..3 {
        let response = sender.send_request(request(http::Version::HTTP_11)).await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_11));
        response.into_body().collect().await.unwrap();
        sender.ready().await.unwrap();
    }
    running.abort();
    let io = TokioIo::new(api.server.tls("kubernetes-admin", &[b"h2", b"http/1.1"]).await);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let running = tokio::spawn(connection);
    let many = (0..50).map(|_| {
        let mut sender = sender.clone();
        let request = request(http::Version::HTTP_2);
        async move { sender.send_request(request).await.unwrap().status().as_u16() }
    });
    assert_eq!(futures::future::join_all(many).await, vec![200; 50]);
    running.abort();
    api.close().await;
}

/// kubectl keeps discovery on disk and asks whether it is still so.
#[tokio::test(flavor = "multi_thread")]
async fn aggregated_discovery_has_an_etag_that_returns_304() {
    let api = ApiClient::start().await;
    for version in ["v2", "v2beta1"] {
        let accept = format!(
            "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
        );
        for path in ["/api", "/apis"] {
            let first = accepting(&api, path, &accept).await;
            let tag = first.header("etag").to_owned();
            assert_eq!(first.header("vary"), "Accept");
            assert_eq!(first.json()["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
            let headers = [("accept", &*accept), ("if-none-match", &*tag)];
            let again = api.send(Method::GET, path, &headers, "").await;
            assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{path}");
        }
    }
    let plain = accepting(&api, "/apis", "application/json").await.ok();
    assert_eq!(plain["kind"], "APIGroupList");
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_one_word_or_each_check_by_name() {
    let api = ApiClient::start().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(api.get(path).await.text(), "ok");
    }
    let verbose = api.get("/readyz?verbose&exclude=etcd&exclude=gizmo").await.text();
    assert_eq!(
        verbose,
        "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n[+]informer-sync ok\n[+]shutdown ok\nwarn: some health checks cannot be excluded: no matches for \"gizmo\"\nreadyz check passed\n"
    );
    api.close().await;
}

/// New kubectls keep each document of OpenAPI v3 for as long as its address stays the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_openapi_document_may_be_kept_at_the_address_that_names_its_hash() {
    let api = ApiClient::start().await;
    let index = api.get("/openapi/v3").await.ok();
    let address = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (path, hash) = address.split_once("?hash=").expect("an address with a hash");
    let kept = api.get(address).await;
    assert_eq!(kept.header("cache-control"), "public, immutable");
    assert_eq!((kept.header("vary"), kept.header("etag")), ("Accept", &*format!("\"{hash}\"")));
    assert!(kept.header("expires").ends_with(" GMT"), "{}", kept.header("expires"));
    assert_eq!(kept.ok()["info"]["title"], "Kubernetes");

    let old = api.get(&format!("{path}?hash=0123")).await;
    assert_eq!((old.status.as_u16(), old.header("location")), (301, address));
    let plain = api.get(path).await;
    assert_eq!((plain.status.as_u16(), plain.header("cache-control")), (200, "no-cache, private"));
    api.close().await;
}
