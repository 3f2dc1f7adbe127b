//! The clients of a flood: each does one thing again and again until it is stopped.
//!
//! They share the machine with what they flood, so they send what was made before, read responses
//! without looking at them, and pause where the server refuses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::AUTHORIZATION;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex as Turn;
use tokio::task::JoinSet;

use crate::options::Protocol;
use crate::transport::client::{CallError, Client};
use crate::transport::target::{Stream, Target};

/// New connections of a flood in a second: a handshake costs the client as much as the server.
const OPENS_PER_SECOND: u32 = 100;
/// The pause after a request that failed or was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a connection that failed, or that the server closed.
const CLOSED_PAUSE: Duration = Duration::from_secs(1);
/// The pause between two bytes.
const BYTE_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a watch that the server may send before they are read.
const WATCH_WINDOW: u32 = 1;
/// Watches on a connection.
const WATCHES_PER_CONNECTION: usize = 250;
/// Bytes that the kernel takes of an answer before they are read: its least.
const SLOW_READ_BUFFER: u32 = 2304;
/// What a slow request says that it is going to send.
const SLOW_BODY_BYTES: usize = 3_000_000;

/// A request, made once.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<(&'static str, Bytes)>,
}

/// Who sends what.
pub(super) enum Attack {
    /// Connections without requests.
    Idle(Arc<Target>),
    /// These requests in turn, each client one.
    Calls(Arc<Target>, Vec<Call>),
    /// Watches of a path, read slowly.
    Watches(Arc<Target>, String),
    /// Requests and responses byte by byte.
    Slow { user: Arc<Target>, post: String, list: String },
}

/// Ways to hold a connection.
#[derive(Clone, Copy)]
enum Idle {
    Silent,
    SilentHttp2,
    HalfPreface,
    Pings,
}

const IDLE: [Idle; 4] = [Idle::Silent, Idle::SilentHttp2, Idle::HalfPreface, Idle::Pings];

/// Ways to take long.
#[derive(Clone, Copy)]
enum Slow {
    Headers,
    Body,
    Answer,
}

const SLOW: [Slow; 3] = [Slow::Headers, Slow::Body, Slow::Answer];

/// A flood under way; it ends when this is dropped.
pub(super) struct Flooding {
    _clients: JoinSet<()>,
    counts: Arc<Counts>,
}

/// What came of it.
#[derive(Default)]
struct Counts {
    times: Mutex<BTreeMap<String, u64>>,
    opening: Turn<()>,
}

impl Counts {
    fn add(&self, what: &str) {
        let mut times = self.times.lock().expect("nothing panics while it holds the counts");
        *times.entry(what.to_owned()).or_default() += 1;
    }

    /// Waits for a turn to open a connection.
    async fn open(&self) {
        let _turn = self.opening.lock().await;
        tokio::time::sleep(Duration::from_secs(1) / OPENS_PER_SECOND).await;
    }
}

impl Flooding {
    /// Starts so many clients.
    pub(super) fn start(attack: &Attack, count: usize) -> Self {
        let (mut clients, counts) = (JoinSet::new(), Arc::<Counts>::default());
        match attack {
            Attack::Idle(target) => {
                for way in IDLE.into_iter().cycle().take(count) {
                    clients.spawn(idle(target.clone(), way, counts.clone()));
                }
            }
            Attack::Calls(target, calls) => {
                for call in calls.iter().cycle().take(count) {
                    clients.spawn(send(target.clone(), call.clone(), counts.clone()));
                }
            }
            Attack::Watches(target, path) => {
                for first in (0..count).step_by(WATCHES_PER_CONNECTION) {
                    let watches = WATCHES_PER_CONNECTION.min(count - first);
                    let (target, path) = (target.clone(), path.clone());
                    clients.spawn(watch(target, path, watches, counts.clone()));
                }
            }
            Attack::Slow { user, post, list } => {
                let reader = user.with_receive_buffer(SLOW_READ_BUFFER);
                for way in SLOW.into_iter().cycle().take(count) {
                    let (target, head) = match way {
                        Slow::Headers => (user.clone(), head(user, "GET", list, "X-Slow: ")),
                        Slow::Body => {
                            let rest = format!(
                                "Content-Type: application/json\r\n\
                                 Content-Length: {SLOW_BODY_BYTES}\r\n\r\n{{\"x\":\""
                            );
                            (user.clone(), head(user, "POST", post, &rest))
                        }
                        Slow::Answer => (reader.clone(), head(user, "GET", list, "\r\n")),
                    };
                    clients.spawn(slow(target, way, head, counts.clone()));
                }
            }
        }
        Self { _clients: clients, counts }
    }

    /// Ends it; returns what happened how often.
    pub(super) fn stop(self) -> BTreeMap<String, u64> {
        let mut times = self.counts.times.lock().expect("nothing panics while it holds the counts");
        std::mem::take(&mut times)
    }
}

/// The head of a request over HTTP/1.1, and what else it begins with.
fn head(user: &Target, method: &str, path: &str, rest: &str) -> Vec<u8> {
    let mut head =
        format!("{method} {}{path} HTTP/1.1\r\nHost: {}\r\n", user.prefix, user.authority)
            .into_bytes();
    if let Some(value) = &user.authorization {
        head.extend_from_slice(AUTHORIZATION.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(rest.as_bytes());
    head
}

/// Sends a request again and again over a connection that is kept as long as the server keeps it.
async fn send(target: Arc<Target>, call: Call, counts: Arc<Counts>) {
    let mut client = None;
    loop {
        let sent = once(&target, &mut client, &call).await;
        match &sent {
            Ok(status) => counts.add(status),
            Err(error) => counts.add(&error.label()),
        }
        if !sent.is_ok_and(|status| status.starts_with('2')) {
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }
}

async fn once(
    target: &Arc<Target>,
    kept: &mut Option<Client>,
    call: &Call,
) -> Result<String, CallError> {
    let mut client = match kept.take() {
        Some(client) => client,
        None => Client::connect(target, Protocol::Http1).await?,
    };
    let answer = client.send(call.method.clone(), &call.path, call.body.clone()).await?;
    let (status, mut body) = (answer.status(), answer.into_body());
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return Ok(format!("{status}, cut off"));
        }
    }
    *kept = Some(client);
    Ok(status.to_string())
}

/// Holds a connection, and opens another one when the server has closed it.
async fn idle(target: Arc<Target>, way: Idle, counts: Arc<Counts>) {
    loop {
        counts.open().await;
        let protocols: &[&[u8]] = match way {
            Idle::Silent => &[],
            _ => &[b"h2"],
        };
        match target.connect_alpn(protocols).await {
            Ok(stream) => {
                counts.add("connections opened");
                // However it ends, the server has ended it.
                let _ = hold(stream, way).await;
                counts.add("connections closed by the server");
            }
            Err(_) => counts.add("connections refused"),
        }
        tokio::time::sleep(CLOSED_PAUSE).await;
    }
}

async fn hold(mut stream: Stream, way: Idle) -> std::io::Result<()> {
    match way {
        Idle::Silent | Idle::SilentHttp2 => {}
        Idle::HalfPreface => {
            stream.write_all(b"PRI * HTTP/2").await?;
            stream.flush().await?;
        }
        Idle::Pings => {
            let io = TokioIo::new(stream);
            let shaken = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await;
            let (_sender, connection) = shaken.map_err(std::io::Error::other)?;
            return connection.await.map_err(std::io::Error::other);
        }
    }
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// Watches on one connection, which is opened again when all of them have ended.
async fn watch(target: Arc<Target>, path: String, watches: usize, counts: Arc<Counts>) {
    loop {
        counts.open().await;
        match Client::connect_windowed(&target, Protocol::Http2, WATCH_WINDOW).await {
            Ok(client) => {
                let mut running = JoinSet::new();
                for _ in 0..watches {
                    let Some(client) = client.share() else { break };
                    running.spawn(trickle(client, path.clone(), counts.clone()));
                }
                while running.join_next().await.is_some() {}
            }
            Err(_) => counts.add("connections refused"),
        }
        tokio::time::sleep(CLOSED_PAUSE).await;
    }
}

/// Reads a watch byte by byte.
async fn trickle(mut client: Client, path: String, counts: Arc<Counts>) {
    match client.open(&path).await {
        Ok(mut body) => {
            counts.add("watches opened");
            while let Some(Ok(_)) = body.frame().await {
                tokio::time::sleep(BYTE_EVERY).await;
            }
            counts.add("watches ended by the server");
        }
        Err(error) => counts.add(&format!("watches: {}", error.label())),
    }
}

/// Sends a request slowly or reads its answer slowly, again and again.
async fn slow(target: Arc<Target>, way: Slow, head: Vec<u8>, counts: Arc<Counts>) {
    loop {
        counts.open().await;
        match target.connect_alpn(&[b"http/1.1"]).await {
            Ok(stream) => {
                counts.add("connections opened");
                // However it ends, the server has ended it.
                let _ = dribble(stream, way, &head).await;
                counts.add("connections closed by the server");
            }
            Err(_) => counts.add("connections refused"),
        }
        tokio::time::sleep(CLOSED_PAUSE).await;
    }
}

async fn dribble(mut stream: Stream, way: Slow, head: &[u8]) -> std::io::Result<()> {
    stream.write_all(head).await?;
    stream.flush().await?;
    let mut ticks = tokio::time::interval(BYTE_EVERY);
    let mut unread = [0; 1024];
    loop {
        match way {
            Slow::Answer => {
                ticks.tick().await;
                if stream.read(&mut unread[..1]).await? == 0 {
                    return Ok(());
                }
            }
            Slow::Headers | Slow::Body => tokio::select! {
                read = stream.read(&mut unread) => if read? == 0 {
                    return Ok(());
                },
                _ = ticks.tick() => {
                    stream.write_all(b"x").await?;
                    stream.flush().await?;
                }
            },
        }
    }
}
