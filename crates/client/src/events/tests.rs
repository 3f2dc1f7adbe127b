use std::collections::VecDeque;
use std::sync::Arc;

use http::{Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tower::service_fn;

use super::*;

/// What a server was asked: method, path and body.
type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

/// A client of a server that responds with these codes, one after the other, and 200 after that.
fn client(codes: &[u16]) -> (Client, Asked) {
    let asked = Asked::default();
    let codes = Arc::new(Mutex::new(codes.iter().copied().collect::<VecDeque<_>>()));
    let record = asked.clone();
    let service = service_fn(move |request: Request<Body>| {
        let (record, codes) = (record.clone(), codes.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let path = parts.uri.path().to_owned();
            record.lock().push((parts.method.to_string(), path, body.clone()));
            let code = codes.lock().pop_front().unwrap_or(200);
            let answer = if code == 200 {
                json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": "written" },
                    "involvedObject": {} })
            } else {
                json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
                    "message": "no", "reason": if code == 404 { "NotFound" } else { "" } })
            };
            let answer = Body::from(answer.to_string().into_bytes());
            let answer = Response::builder().status(code).body(answer);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer?)
        }
    });
    (Client::new(service, "n"), asked)
}

fn pod() -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some("myns".to_owned()),
        name: Some("mypod".to_owned()),
        resource_version: Some("7".to_owned()),
        ..ObjectReference::default()
    }
}

/// Records messages about one pod, writes them, and returns what the server was asked.
async fn written(messages: &[&str], codes: &[u16]) -> Vec<(String, String, Value)> {
    let (client, asked) = client(codes);
    let (sink, writer) = channel(client, None);
    let recorder = sink.recorder("default-scheduler");
    for message in messages {
        recorder.record_about(pod(), EventType::Normal, "Scheduled", *message);
    }
    drop((sink, recorder));
    writer.run(CancellationToken::new()).await;
    let asked = asked.lock();
    asked.clone()
}

#[test]
fn an_event_is_written_as_upstream_writes_it() {
    let occurrence = Occurrence {
        component: "default-scheduler",
        object: pod(),
        type_: EventType::Normal,
        reason: "Scheduled",
        message: "assigned".to_owned(),
        at: "2026-01-01T00:00:00.5Z".parse().unwrap(),
    };
    let expected = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "name": "mypod.188672520bc76500", "namespace": "myns" },
        "involvedObject": { "kind": "Pod", "namespace": "myns", "name": "mypod",
                            "resourceVersion": "7" },
        "type": "Normal", "reason": "Scheduled", "message": "assigned",
        "source": { "component": "default-scheduler" },
        "reportingComponent": "default-scheduler", "reportingInstance": "",
        "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    assert_eq!(serde_json::to_value(event(&occurrence, "assigned", None)).unwrap(), expected);
    let of_a_node = event(&occurrence, "assigned", Some("node"));
    assert_eq!(of_a_node.reporting_instance.as_deref(), Some("node"));
    assert_eq!(of_a_node.source.and_then(|source| source.host).as_deref(), Some("node"));
}

#[tokio::test]
async fn a_repeat_counts_up_the_event_that_is_there() {
    let asked = written(&["a", "a", "b"], &[]).await;
    let methods: Vec<_> = asked.iter().map(|(method, ..)| method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "POST"]);
    let name = asked[0].2["metadata"]["name"].as_str().unwrap();
    assert_eq!(asked[1].1, format!("/api/v1/namespaces/myns/events/{name}"));
    assert_eq!((&asked[1].2["count"], &asked[1].2["message"]), (&json!(2), &json!("a")));
}

#[tokio::test]
async fn an_event_that_has_expired_is_created_again_with_a_new_count() {
    let asked = written(&["a", "a", "a"], &[200, 404]).await;
    let methods: Vec<_> = asked.iter().map(|(method, ..)| method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "POST", "PATCH"]);
    assert_eq!((&asked[2].2["count"], &asked[3].2["count"]), (&json!(1), &json!(2)));
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_is_tried_again_and_a_refusal_is_final() {
    assert_eq!(written(&["a"], &[500, 503, 200]).await.len(), 3);
    assert_eq!(written(&["a"], &[403]).await.len(), 1);
    assert_eq!(written(&["a"], &[500; 40]).await.len(), TRIES_MAX);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_a_writer_whose_server_fails() {
    let (client, _) = client(&[500; 100]);
    let (sink, writer) = channel(client, None);
    let recorder = sink.recorder("kubelet");
    recorder.record_about(pod(), EventType::Warning, "Failed", "a");
    recorder.record_about(pod(), EventType::Warning, "Failed", "b");
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(writer.run(shutdown.clone()));
    tokio::time::advance(Duration::from_secs(1)).await;
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_message_is_cut_to_what_the_api_takes_at_a_character() {
    let (client, _) = client(&[]);
    let (sink, mut writer) = channel(client, None);
    let long = "\u{e4}".repeat(1000);
    sink.recorder("kubelet").record_about(pod(), EventType::Warning, "FailedMount", long);
    let (_, message) = writer.next_recorded().unwrap();
    assert!(message.len() <= MESSAGE_BYTES_MAX && message.ends_with("\u{e4}..."), "{message}");
}
