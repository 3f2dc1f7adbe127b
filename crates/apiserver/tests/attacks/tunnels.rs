//! Clients that open exec, attach, port-forward and logs without end: each takes a connection to a
//! kubelet, and so a descriptor of the API server's that no other limit counts.

use std::time::Duration;

use bytes::Bytes;
use coffer_testkit::Attacks;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::kubelet::Kubelet;
use crate::support::TestServer;

/// For what must happen at all, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than one user may have.
const MANY: usize = 300;
/// Of HTTP/2, on one connection.
const STREAMS: usize = 100;
const POD: &str = "/api/v1/namespaces/a/pods/pa";
const TUNNELS: [&str; 3] =
    ["exec?command=x&stdin=true", "attach?stdin=true", "portforward?ports=1"];

type Stream = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;
type Sender = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

/// What an upgrade came to: its code, its response's text, and the stream.
async fn upgrade(server: &TestServer, user: &str, below: &str) -> (u16, String, Stream) {
    let mut stream = server.tls(user, &[b"http/1.1"]).await;
    let request = format!(
        "POST {POD}/{below} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n\
         upgrade: SPDY/3.1\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut text = Vec::new();
    while !text.windows(4).any(|end| end == b"\r\n\r\n") {
        match timeout(10 * PATIENCE, stream.read_u8()).await.unwrap() {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    let text = String::from_utf8(text).unwrap();
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (code, text, stream)
}

async fn connect(server: &TestServer, user: &str) -> Sender {
    let stream = TokioIo::new(server.tls(user, &[b"h2"]).await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn log(sender: &mut Sender) -> http::Response<hyper::body::Incoming> {
    let request = Request::get(format!("https://localhost{POD}/log?follow=true"));
    sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

#[tokio::test]
async fn one_user_cannot_take_all_tunnels_and_idle_ones_end() {
    let mut attacks = Attacks::group("tunnels without end");
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let kubelet = Kubelet::start(server, &cluster.admin, "node-a").await;

    // Logs over HTTP/2 take few connections of their client's.
    let (mut logs, mut senders) = (Vec::new(), Vec::new());
    let mut refused = None;
    for n in 0..MANY {
        if n % STREAMS == 0 {
            senders.push(connect(server, "flood").await);
        }
        let response = log(senders.last_mut().unwrap()).await;
        if response.status() != StatusCode::OK {
            refused = Some(response);
            break;
        }
        logs.push(response);
    }
    let code = refused.as_ref().map(|response| response.status().as_u16());
    attacks.attempt("logs", code == Some(429) && !logs.is_empty(), (code, logs.len()));
    let connections = kubelet.connections();
    attacks.attempt("connections to kubelets", connections == logs.len(), connections);
    let refused = refused.unwrap();
    assert!(refused.headers().contains_key("retry-after"));
    let status = refused.into_body().collect().await.unwrap().to_bytes();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["reason"], "TooManyRequests", "{status}");
    for below in TUNNELS {
        let (code, text, _) = upgrade(server, "flood", below).await;
        attacks.attempt(below, code == 429, text);
    }

    // Another user is not affected, nor are other requests.
    let mut calm = Vec::new();
    for below in TUNNELS {
        let (code, text, mut stream) = upgrade(server, "calm", below).await;
        assert_eq!(code, 101, "{below}: {text}");
        stream.write_all(b"ping").await.unwrap();
        stream.flush().await.unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
        calm.push((below, stream));
    }
    assert_eq!(cluster.admin.request("GET", POD, None).await.code, 200);

    // What its client leaves is closed.
    let open = kubelet.connections();
    drop((logs, senders));
    until("logs whose client has left stay open", || kubelet.connections() < open).await;
    let mut sender = connect(server, "flood").await;
    assert_eq!(log(&mut sender).await.status(), StatusCode::OK);

    // Nothing passes for longer than four hours.
    let mut quiet = log(&mut sender).await.into_body();
    assert_eq!(quiet.frame().await.unwrap().unwrap().into_data().unwrap(), "line\n");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(4 * 3600 + 1)).await;
    tokio::time::resume();
    let frame = timeout(PATIENCE, quiet.frame()).await;
    attacks.attempt("an idle log", matches!(frame, Ok(Some(Err(_)))), frame);
    for (below, mut stream) in calm {
        let read = timeout(PATIENCE, stream.read(&mut [0; 8])).await;
        let closed = matches!(read, Ok(Ok(0) | Err(_)));
        attacks.attempt(&format!("idle: {below}"), closed, read);
    }
    until("connections of idle tunnels stay open", || kubelet.connections() == 0).await;

    // A kubelet that accepts and does not respond.
    let silent = upgrade(server, "calm", "exec?command=silent&stdin=true");
    let mut silent = std::pin::pin!(silent);
    let mut reached =
        std::pin::pin!(until("the kubelet is not asked", || { kubelet.unanswered() == 1 }));
    tokio::select! {
        biased;
        (code, ..) = silent.as_mut() => panic!("a silent kubelet has responded: {code}"),
        () = reached.as_mut() => {}
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(121)).await;
    tokio::time::resume();
    let (code, text, _) = silent.await;
    attacks.attempt("a kubelet that does not respond", code == 500, text);
    attacks.finish();
}
