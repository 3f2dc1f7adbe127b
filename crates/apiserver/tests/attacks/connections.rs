//! Clients that hold connections and say nothing, and refusals that a client must get to read while it
//! is still sending.
//!
//! The server's own limits are tried: its clock is moved on where a client waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coffer_testkit::Attacks;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::Caller;
use crate::support::TestServer;

/// For what must happen at all, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// One leap of the clock: less than any limit.
const LEAP: Duration = Duration::from_secs(5);
/// Leaps to beyond all limits for the silent (10 s, then 32 s) and the idle (90 s).
const LEAPS: usize = 40;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Moves the clock on, and lets the server and all clients do what is due: another client's response
/// comes after that.
async fn leap(other: &Caller) {
    tokio::time::pause();
    tokio::time::advance(LEAP).await;
    tokio::time::resume();
    for _ in 0..3 {
        assert_eq!(other.request("GET", "/version", None).await.code, 200);
    }
}

/// A client that has sent some bytes and sends no more, or one more at each leap.
struct Silent<S> {
    what: &'static str,
    stream: S,
    trickle: Option<u8>,
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Silent<S> {
    /// Whether the server has closed it.
    async fn is_closed(&mut self) -> bool {
        if let Some(byte) = self.trickle
            && self.stream.write_all(&[byte]).await.and(self.stream.flush().await).is_err()
        {
            return true;
        }
        let mut buffer = [0; 4096];
        let mut read = std::pin::pin!(self.stream.read(&mut buffer));
        match futures::poll!(read.as_mut()) {
            std::task::Poll::Ready(Ok(read)) => read == 0,
            std::task::Poll::Ready(Err(_)) => true,
            std::task::Poll::Pending => false,
        }
    }
}

#[tokio::test]
async fn silent_and_idle_clients_are_closed_and_watches_are_not() {
    let mut attacks = Attacks::group("Silent and idle connections");
    let server = TestServer::start().await;
    let admin = Caller::new("admin", server.admin().await);
    let mut watch = admin.watch("/api/v1/namespaces?watch=true").await;
    while watch.next().await.unwrap()["object"]["metadata"]["name"] != "kube-system" {}

    let (h1, h2): (&[&[u8]], &[&[u8]]) = (&[b"http/1.1"], &[b"h2"]);
    let request = b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut silent = Vec::new();
    for (what, alpn, bytes, trickle) in [
        ("TLS and nothing, HTTP/2 agreed", h2, &b""[..], None),
        ("TLS and nothing, HTTP/1.1 agreed", h1, b"", None),
        ("TLS and nothing agreed", &[], b"", None),
        ("half a preface", h2, &PREFACE[..9], None),
        ("half a preface, nothing agreed", &[], &PREFACE[..9], None),
        ("a preface", h2, PREFACE, None),
        ("a preface and settings", h2, &[PREFACE, EMPTY_SETTINGS].concat(), None),
        ("half a head", h1, b"GET /version HTTP/1.1\r\nhost: ", None),
        ("a head that trickles", h1, b"GET /version HTTP/1.1\r\nhost: ", Some(b'x')),
        ("a second head that trickles", h1, &[&request[..], b"GET "].concat(), Some(b'/')),
        ("HTTP/1.1 after a request", h1, request, None),
    ] {
        let mut stream = server.tls_with(None, alpn).await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        silent.push(Silent { what, stream, trickle });
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut tcp = Silent { what: "TCP alone", stream, trickle: None };
    // These respond to pings.
    let mut idle = Vec::new();
    for (what, user) in [("anonymous, idle", None), ("authenticated, idle", Some("user"))] {
        let pair = user.map(|user| server.certificate(user, &[]));
        let stream = TokioIo::new(server.tls_with(pair.as_ref(), h2).await);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = handshake.await.unwrap();
        let ended = tokio::spawn(connection);
        let request =
            Request::get("https://localhost/version").body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap();
        idle.push((what, sender, ended));
    }

    let mut closed = vec![false; silent.len()];
    let mut tcp_closed = false;
    for _ in 0..LEAPS {
        leap(&admin).await;
        for (client, closed) in silent.iter_mut().zip(&mut closed) {
            *closed = *closed || client.is_closed().await;
        }
        tcp_closed = tcp_closed || tcp.is_closed().await;
    }
    attacks.attempt(tcp.what, tcp_closed, "still open");
    for (client, closed) in silent.iter().zip(closed) {
        attacks.attempt(client.what, closed, "still open");
    }
    for (what, _sender, ended) in idle {
        let is_closed = ended.is_finished();
        // In order: a client that gets GOAWAY reconnects without an error.
        let ended = match is_closed {
            true => ended.await.unwrap().map_err(|error| error.to_string()),
            false => Err("still open".to_owned()),
        };
        attacks.attempt(what, ended.is_ok(), ended);
    }

    admin.make("/api/v1/namespaces", json!({ "metadata": { "name": "late" } })).await;
    let event = timeout(PATIENCE, watch.next()).await.unwrap();
    let event = event.expect("the watch was taken for idle");
    assert_eq!(event["object"]["metadata"]["name"], "late");
    attacks.finish();
}

/// A config map of which so many labels are bad, and the response to it long.
fn bad_labels(count: usize) -> String {
    let labels: serde_json::Map<_, _> = (0..count).map(|n| (format!("/{n}"), json!("/"))).collect();
    json!({ "metadata": { "name": "bad", "labels": labels } }).to_string()
}

/// Responses stayed in memory until their client read them.
#[tokio::test]
async fn clients_that_do_not_read_their_responses_are_closed() {
    let mut attacks = Attacks::group("Responses that are not read");
    let server = TestServer::start().await;
    let admin = Caller::new("admin", server.admin().await);
    for n in 0..8 {
        let map = json!({ "metadata": { "name": format!("m{n}") }, "data": { "a": "x".repeat(1 << 20) } });
        admin.make(CONFIG_MAPS, map).await;
    }
    let pair = server.certificate("reader", &["system:masters"]);
    let body = bad_labels(5_000);
    let post = format!(
        "POST {CONFIG_MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let list = format!("GET {CONFIG_MAPS} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let watch = format!("GET {CONFIG_MAPS}?watch=1 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut unread = Vec::new();
    for (what, requests) in [
        ("HTTP/1.1, refusals one after the other", post.repeat(100)),
        ("HTTP/1.1, a list", list),
        ("HTTP/1.1, a watch", watch),
    ] {
        let stream = server.tls_with(Some(&pair), &[b"http/1.1"]).await;
        let (reading, mut writing) = tokio::io::split(stream);
        let writes = tokio::spawn(async move {
            let _ = writing.write_all(requests.as_bytes()).await;
            let _ = writing.flush().await;
            writing
        });
        unread.push((what, reading, writes));
    }
    let mut streams = Vec::new();
    for (what, window, request) in [
        (
            "HTTP/2, a refusal",
            1,
            Request::post(format!("https://localhost{CONFIG_MAPS}")).body(Full::from(body)),
        ),
        (
            "HTTP/2, a list",
            1,
            Request::get(format!("https://localhost{CONFIG_MAPS}")).body(Full::default()),
        ),
        (
            "HTTP/2, a watch",
            1,
            Request::get(format!("https://localhost{CONFIG_MAPS}?watch=1")).body(Full::default()),
        ),
        (
            "HTTP/2, no window at all",
            0,
            Request::get("https://localhost/version").body(Full::default()),
        ),
    ] {
        let stream = TokioIo::new(server.tls_with(Some(&pair), &[b"h2"]).await);
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window);
        let (mut sender, connection) = builder.handshake::<_, Full<Bytes>>(stream).await.unwrap();
        let ended = tokio::spawn(async move { drop(connection.await) });
        let mut request = request.unwrap();
        request
            .headers_mut()
            .insert("content-type", http::HeaderValue::from_static("application/json"));
        let response = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        streams.push((what, sender, response, ended));
    }
    for _ in 0..LEAPS {
        leap(&admin).await;
    }
    for (what, mut reading, writes) in unread {
        // What the system holds may still be read; then it ends, and not in order.
        let mut buffer = vec![0; 1 << 16];
        let (mut read, mut end) = (0, None);
        while end.is_none() {
            match timeout(PATIENCE, reading.read(&mut buffer)).await {
                Ok(Ok(0)) | Ok(Err(_)) => end = Some(true),
                Ok(Ok(bytes)) => read += bytes,
                Err(_) => end = Some(false),
            }
        }
        drop(writes);
        attacks.attempt(what, end == Some(true), read);
    }
    for (what, _sender, _answer, ended) in streams {
        let is_closed = timeout(PATIENCE, ended).await.is_ok();
        attacks.attempt(what, is_closed, "still open");
    }
    attacks.finish();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

type Chunks = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A body that says how much of it has been taken.
fn body(size: usize, taken: Arc<AtomicUsize>) -> Chunks {
    const CHUNK: usize = 16 * 1024;
    let chunks = futures::stream::unfold(size, move |left| {
        let taken = taken.clone();
        async move {
            // Others have their turn: what is refused early is refused while this is being sent.
            tokio::task::yield_now().await;
            let length = left.min(CHUNK);
            taken.fetch_add(length, Ordering::SeqCst);
            let data = Ok(Frame::data(Bytes::from(vec![b'x'; length])));
            (length > 0).then_some((data, left - length))
        }
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// The status and the Status of one request on a connection of its own, and what keeps that open.
async fn send(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    protocol: Protocol,
    request: Request<Chunks>,
) -> Result<(StatusCode, Value, Box<dyn Send>), String> {
    let stream = TokioIo::new(stream);
    let said = |error: hyper::Error| format!("{error:?}");
    let (response, open): (_, Box<dyn Send>) = match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.map_err(said)?;
            tokio::spawn(connection);
            (sender.send_request(request).await.map_err(said)?, Box::new(sender))
        }
        Protocol::Http2 => {
            let executor = TokioExecutor::new();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(executor, stream).await.map_err(said)?;
            tokio::spawn(connection);
            (sender.send_request(request).await.map_err(said)?, Box::new(sender))
        }
    };
    let status = response.status();
    let bytes = response.into_body().collect().await.map_err(said)?.to_bytes();
    Ok((status, serde_json::from_slice(&bytes).unwrap_or_default(), open))
}

/// How a request is refused.
struct Refusal {
    code: u16,
    reason: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    /// With a client certificate of this user, who may do everything.
    user: Option<&'static str>,
    sizes: [usize; 3],
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: (&str, &str) = ("content-type", "application/json");
const SIZES: [usize; 3] = [200_000, 1_000_000, 3_000_000];

const REFUSALS: [Refusal; 6] = [
    Refusal {
        code: 401,
        reason: "Unauthorized",
        path: CONFIG_MAPS,
        headers: &[JSON, ("authorization", "Bearer none")],
        user: None,
        sizes: SIZES,
    },
    Refusal {
        code: 403,
        reason: "Forbidden",
        path: CONFIG_MAPS,
        headers: &[JSON],
        user: None,
        sizes: SIZES,
    },
    Refusal {
        code: 404,
        reason: "NotFound",
        path: "/apis/nothing.example/v1/namespaces/default/things",
        headers: &[JSON],
        user: Some("user"),
        sizes: SIZES,
    },
    Refusal {
        code: 413,
        reason: "RequestEntityTooLarge",
        path: CONFIG_MAPS,
        headers: &[JSON],
        user: Some("user"),
        sizes: [3_200_000, 4_000_000, 8_000_000],
    },
    Refusal {
        code: 415,
        reason: "UnsupportedMediaType",
        path: CONFIG_MAPS,
        headers: &[("content-type", "text/plain")],
        user: Some("user"),
        sizes: SIZES,
    },
    Refusal {
        code: 429,
        reason: "TooManyRequests",
        path: CONFIG_MAPS,
        headers: &[JSON],
        user: Some("flood"),
        sizes: SIZES,
    },
];

/// Clients at the same time, of each kind.
const CLIENTS: usize = 40;

impl Refusal {
    /// What the clients saw that is not a clean refusal.
    async fn unclean(&self, server: &Arc<TestServer>, protocol: Protocol) -> Vec<String> {
        let mut clients = tokio::task::JoinSet::new();
        for n in 0..CLIENTS {
            let size = self.sizes[n % self.sizes.len()];
            let mut request = Request::post(format!("https://localhost{}", self.path));
            for (name, value) in self.headers {
                request = request.header(*name, *value);
            }
            if protocol == Protocol::Http1 {
                request = request.header("host", "localhost");
            }
            // Half of them say how much they will send.
            if n % 2 == 0 {
                request = request.header("content-length", size);
            }
            let taken = Arc::new(AtomicUsize::default());
            let request = request.body(body(size, taken.clone())).unwrap();
            let pair = self.user.map(|user| server.certificate(user, &["system:masters"]));
            let alpn: &[&[u8]] = match protocol {
                Protocol::Http1 => &[b"http/1.1"],
                Protocol::Http2 => &[b"h2"],
            };
            let (server, code, reason) = (server.clone(), self.code, self.reason);
            clients.spawn(async move {
                let stream = server.tls_with(pair.as_ref(), alpn).await;
                let (status, body, _open) = send(stream, protocol, request).await?;
                if (status.as_u16(), body["reason"].as_str()) != (code, Some(reason)) {
                    return Err(format!("{status} {body}"));
                }
                // A client that sends everything before it reads must have been able to.
                let all = async {
                    while taken.load(Ordering::SeqCst) < size {
                        tokio::task::yield_now().await;
                    }
                };
                let sent = timeout(PATIENCE, all).await;
                sent.map_err(|_| {
                    format!("{} of {size} bytes are taken", taken.load(Ordering::SeqCst))
                })
            });
        }
        let seen = clients.join_all().await;
        seen.into_iter().filter_map(Result::err).collect()
    }
}

/// As many requests of one user as may be under way, which wait for the rest of their bodies.
async fn hold_all(server: &TestServer, user: &str) -> Vec<impl Sized + use<>> {
    /// The server's limit for one client.
    const INFLIGHT_MAX: usize = 200;
    let pair = server.certificate(user, &["system:masters"]);
    let head = format!(
        "POST {CONFIG_MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 10\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut held = Vec::new();
    for _ in 0..INFLIGHT_MAX {
        let mut stream = server.tls_with(Some(&pair), &[b"http/1.1"]).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut buffer = [0; 12];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"HTTP/1.1 100");
        held.push(stream);
    }
    held
}

#[tokio::test]
async fn a_refusal_is_read_by_clients_that_are_still_sending() {
    let mut attacks = Attacks::group("Refused bodies");
    let server = Arc::new(TestServer::start().await);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for refusal in &REFUSALS {
            let held = match refusal.user {
                Some("flood") => hold_all(&server, "flood").await,
                _ => Vec::new(),
            };
            let unclean = refusal.unclean(&server, protocol).await;
            let what = format!("{} over {protocol:?}", refusal.code);
            attacks.attempt(&what, unclean.is_empty(), unclean);
            drop(held);
        }
    }
    attacks.finish();
}

/// The server does not read for ever, but the client sees the refusal.
#[tokio::test]
async fn a_body_without_end_is_refused_and_not_read_to_its_end() {
    const SIZE: usize = 400_000_000;
    let server = TestServer::start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let alpn: &[&[u8]] = match protocol {
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::Http2 => &[b"h2"],
        };
        let stream = server.tls_with(None, alpn).await;
        let taken = Arc::new(AtomicUsize::default());
        let request = Request::post(format!("https://localhost{CONFIG_MAPS}"))
            .header("host", "localhost")
            .header("content-type", "application/json");
        let request = request.body(body(SIZE, taken.clone())).unwrap();
        let (status, _, _open) = send(stream, protocol, request).await.unwrap();
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(taken.load(Ordering::SeqCst) < SIZE);
    }
}
