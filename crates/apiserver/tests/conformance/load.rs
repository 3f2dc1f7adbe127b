//! Many clients and many objects: none starves the others, and nothing is too long to list.

use std::time::{Duration, Instant};

use bytes::Bytes;
use coffer_store::Store as _;
use http::Method;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::client::{ApiClient, send};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Requests of one client that never end: more than it may have under way, over several
/// connections.
const CONNECTIONS: usize = 6;
const REQUESTS: usize = 200;

type Pending = StreamBody<futures::stream::Pending<Result<Frame<Bytes>, std::io::Error>>>;

/// A connection with as many requests as it carries, each of which waits for its body. Codes of
/// those that get a response all the same go to `codes`.
async fn stuck(
    api: &ApiClient,
    user: &str,
    codes: mpsc::UnboundedSender<u16>,
) -> SendRequest<Pending> {
    let io = TokioIo::new(api.server.tls(user, &[b"h2"]).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..REQUESTS {
        sender.ready().await.unwrap();
        let request = http::Request::post(format!("https://{}{MAPS}", api.server.address))
            .header("content-type", "application/json")
            .body(StreamBody::new(futures::stream::pending()))
            .unwrap();
        let (sent, codes) = (sender.send_request(request), codes.clone());
        tokio::spawn(async move {
            if let Ok(response) = sent.await {
                let _ = codes.send(response.status().as_u16());
            }
        });
    }
    sender
}

/// One client floods: what is too much gets 429 with Retry-After, and another client is served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_floods_gets_429_and_another_is_served() {
    let api = ApiClient::start().await;
    let flooder = api.server.client("flooder", &["system:masters"]).await;
    let (codes, mut responses) = mpsc::unbounded_channel();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(stuck(&api, "flooder", codes.clone()).await);
    }
    // Those that are too many get 429 immediately; the rest fill every place there is.
    assert_eq!(responses.recv().await, Some(429));
    let refused = send(&flooder, Method::GET, MAPS, &[], "").await;
    assert_eq!(refused.header("retry-after"), "1");
    let (code, reason, message) = refused.refusal();
    assert_eq!((code, &*reason), (429, "TooManyRequests"));
    assert_eq!(message, "Too many requests, please try again later.");
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(api.get(MAPS).await.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let watch =
        send(&flooder, Method::GET, &format!("{MAPS}?watch=1&timeoutSeconds=1"), &[], "").await;
    assert_eq!(watch.status, 200, "a watch does not count as a request under way");
    drop(held);
    api.close().await;
}

const COUNT: usize = 10_000;

/// Objects as another server on the same store writes them: this is about reading.
async fn fill(api: &ApiClient) {
    let store = api.server.store();
    let numbers: Vec<usize> = (0..COUNT).collect();
    for some in numbers.chunks(500) {
        let writes = some.iter().map(|at| {
            let object = format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"m{at:05}","namespace":"default","uid":"u{at}","labels":{{"tenth":"{}"}}}},"data":{{"k":"{}"}}}}"#,
                at % 10,
                "v".repeat(1000)
            );
            let key = format!("/registry/configmaps/default/m{at:05}");
            async move { store.create(&key, coffer_store::Value::new(object.into_bytes())).await.unwrap() }
        });
        futures::future::join_all(writes).await;
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_objects_are_listed_whole_in_pages_and_as_a_table() {
    let api = ApiClient::start().await;
    let watcher = Watcher::open(&api).await;
    fill(&api).await;
    let whole = names(&api.get(MAPS).await.ok());
    assert_eq!(whole.len(), COUNT);
    assert!(whole.is_sorted());
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{MAPS}?limit=500&continue={token}")).await.ok();
        paged.extend(names(&page));
        match page["metadata"]["continue"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(paged, whole);
    let tenth = api.get(&format!("{MAPS}?labelSelector=tenth%3D3")).await.ok();
    assert_eq!(names(&tenth).len(), COUNT / 10);
    let accept = ("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    let table = api.send(Method::GET, &format!("{MAPS}?limit=500"), &[accept], "").await.ok();
    assert_eq!(table["rows"].as_array().unwrap().len(), 500);
    let zipped = api.send(Method::GET, MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    watcher.was_let_go(&api).await;
    api.close().await;
}

/// A watch whose client does not read.
struct Watcher(Box<dyn futures::AsyncBufRead + Send + Unpin>);

impl Watcher {
    async fn open(api: &ApiClient) -> Self {
        let request = http::Request::get(format!("{MAPS}?watch=1&resourceVersion=1"));
        let stream = api.client.request_stream(request.body(Vec::new()).unwrap()).await.unwrap();
        Self(Box::new(stream))
    }

    /// The watch ends, so that the server does not run out of memory: queued events come, then the end, and a
    /// resumed watch gets 410.
    async fn was_let_go(self, api: &ApiClient) {
        use futures::{AsyncBufReadExt as _, StreamExt as _};
        let (mut lines, mut last, mut count) = (self.0.lines(), String::new(), 0);
        while let Some(Ok(line)) = lines.next().await {
            let event: Value = serde_json::from_str(&line).unwrap();
            last = event["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            count += 1;
        }
        assert!((1..COUNT).contains(&count), "{count} events for a watcher that does not read");
        let resumed = api.first_event(&format!("{MAPS}?watch=1&resourceVersion={last}")).await;
        assert_eq!((&resumed["type"], &resumed["object"]["code"]), (&json!("ERROR"), &json!(410)));
        assert_eq!(resumed["object"]["reason"], "Expired");
    }
}
