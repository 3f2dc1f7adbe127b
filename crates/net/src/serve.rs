//! One connection: TLS, then HTTP until it is silent for too long, displaced, or the server stops.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Either;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tokio_util::sync::CancellationToken;

use crate::activity::{self, Connected, Progress};
use crate::gate::{Connection, Place};
use crate::holding::Holding;
use crate::incoming::Incoming;
use crate::lingering::Lingering;
use crate::outgoing::Socket;
use crate::sending::{MayPause, Outward, Sending};

/// Why a connection ended.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// How long an idle connection may take to end once its client is told.
const GOODBYE: Duration = Duration::from_secs(2);
/// How often a connection on which something is under way is looked at again, in parts of the idle
/// limit.
const LOOKS: u32 = 6;
/// How often it is looked whether a client takes its answers, in parts of the limit for that.
const STALL_LOOKS: u32 = 4;
/// Where the whole connection is slow its answers wait for each other: each may take so many times as
/// long.
const SHARED_STALLS: u32 = 10;
/// Answers broken off on one HTTP/2 connection of which its client takes not even the last piece. The
/// other answers of the connection go on beside them.
const STALLED_MAX: usize = 8;

/// What is spoken on a server's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1, for a server whose requests become tunnels.
    Http1,
    /// HTTP/1.1 and HTTP/2.
    All,
}

/// How long a client may take, and how much it may ask at a time.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What is spoken.
    pub protocols: Protocols,
    /// For the TLS handshake.
    pub handshake_max: Duration,
    /// From there to the end of the first request's headers, and for those of each further one over
    /// HTTP/1.1.
    pub head_max: Duration,
    /// How long nothing may be under way.
    pub idle_max: Duration,
    /// How long a client may take nothing of what there is for it.
    pub stall_max: Duration,
    /// Bytes of a request's headers, its path included.
    pub headers_bytes_max: u32,
    /// Requests under way on one HTTP/2 connection.
    pub streams_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocols: Protocols::All,
            handshake_max: Duration::from_secs(10),
            head_max: Duration::from_secs(32),
            // Upstream's.
            idle_max: Duration::from_secs(90),
            stall_max: Duration::from_secs(30),
            // What Go's server takes. Label selectors over many names and long tokens are the large
            // ones.
            headers_bytes_max: 1 << 20,
            streams_max: 250,
        }
    }
}

impl Connection {
    /// Serves it with what `service` makes of the client's certificate. After `shutdown` requests
    /// under way are answered, and no others.
    ///
    /// # Errors
    /// Why it ended, if its client did not end it in order.
    pub async fn serve<S, F, B>(
        self,
        tls: TlsAcceptor,
        settings: &Settings,
        service: impl FnOnce(Option<&CertificateDer<'static>>) -> S,
        shutdown: CancellationToken,
    ) -> Result<(), Fault>
    where
        S: Fn(Request<Incoming>) -> F + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Fault>,
    {
        let Self { stream, place } = self;
        let stream = Socket::new(stream, place.activity.clone())?;
        let handshake = async {
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            place.reach(Progress::Greeted);
            hello.into_stream(tls.config().clone()).await
        };
        let handshake = timeout(settings.handshake_max, handshake);
        let displaced = place.activity.displaced.clone();
        let stream = tokio::select! {
            done = handshake => done??,
            () = displaced.cancelled() => return Ok(()),
            () = shutdown.cancelled() => return Ok(()),
        };
        place.reach(Progress::Secured);
        let certificates = stream.get_ref().1.peer_certificates();
        let service = service(certificates.and_then(|chain| chain.first()));
        let owner = place.clone();
        let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
            let answer = owner.answer(request, &service);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let builder = builder(settings);
        let stream = TokioIo::new(Lingering::new(stream, place.clone()));
        let mut connection = pin!(builder.serve_connection_with_upgrades(stream, answer));
        let mut look = pin!(sleep_until(Instant::now() + settings.head_max));
        let mut stalls = tokio::time::interval(settings.stall_max / STALL_LOOKS);
        stalls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = connection.as_mut() => return done,
                () = displaced.cancelled() => {
                    if place.activity.progress() < Progress::Authenticated {
                        return Ok(());
                    }
                    break;
                }
                () = shutdown.cancelled() => {
                    if place.activity.progress() < Progress::Anonymous {
                        return Ok(());
                    }
                    connection.as_mut().graceful_shutdown();
                    return connection.await;
                }
                _ = stalls.tick() => if place.is_stalled(settings.stall_max) {
                    place.stall();
                    let why = "the client takes nothing of what is sent";
                    return Err(Box::new(io::Error::new(io::ErrorKind::TimedOut, why)));
                },
                () = look.as_mut() => match place.silence(settings) {
                    Silence::Allowed(until) => look.as_mut().reset(until),
                    Silence::Mute => return Ok(()),
                    Silence::Idle => break,
                },
            }
        }
        connection.as_mut().graceful_shutdown();
        timeout(GOODBYE, connection).await?
    }
}

/// What a look at a connection shows.
enum Silence {
    /// The next look is then.
    Allowed(Instant),
    /// Its client has not made a request in time.
    Mute,
    /// Nothing has been under way for too long.
    Idle,
}

impl Place {
    /// Has a request answered, and keeps count.
    fn answer<S, F, B>(
        self: &Arc<Self>,
        mut request: Request<hyper::body::Incoming>,
        service: &S,
    ) -> impl Future<Output = Response<Outward<B>>> + use<S, F, B>
    where
        S: Fn(Request<Incoming>) -> F,
        F: Future<Output = Response<B>>,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        self.reach(Progress::Anonymous);
        let under_way = activity::Request::begin(self);
        request.extensions_mut().insert(Connected(self.clone()));
        let (head, body) = request.into_parts();
        let body = Incoming::new(body, &head.headers, self.clone());
        let answer = service(Request::from_parts(head, body));
        let place = self.clone();
        async move {
            let answer = answer.await;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                under_way.become_tunnel();
                return answer.map(|body| Either::Right(Holding::new(body, None)));
            }
            if answer.extensions().get::<MayPause>().is_some() {
                let under_way = under_way.allow_pauses();
                return answer.map(|body| Either::Right(Holding::new(body, Some(under_way))));
            }
            answer.map(|body| Either::Left(Sending::new(body, under_way, &place.answers)))
        }
    }

    /// Breaks off answers that their client does not take, and says whether to end the connection: it
    /// takes nothing, or nothing else is under way on it.
    fn is_stalled(&self, max: Duration) -> bool {
        let activity = &self.activity;
        if activity.blocked_for().is_some_and(|time| time >= max) && !activity.may_pause() {
            return true;
        }
        let max = if activity.was_blocked_within(max) { max * SHARED_STALLS } else { max };
        let stalled = self.answers.abandon_stalled(max);
        stalled > STALLED_MAX || (stalled > 0 && activity.quiet_for().is_some())
    }

    fn silence(&self, settings: &Settings) -> Silence {
        if self.activity.progress() < Progress::Anonymous {
            return Silence::Mute;
        }
        let again = settings.idle_max / LOOKS;
        match self.activity.quiet_for() {
            Some(quiet_for) if quiet_for >= settings.idle_max => Silence::Idle,
            Some(quiet_for) => Silence::Allowed(Instant::now() + settings.idle_max - quiet_for),
            None => Silence::Allowed(Instant::now() + again),
        }
    }
}

fn builder(settings: &Settings) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_max)
        .max_buf_size(settings.headers_bytes_max as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams_max)
        .max_header_list_size(settings.headers_bytes_max)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    match settings.protocols {
        Protocols::Http1 => builder.http1_only(),
        Protocols::All => builder,
    }
}
