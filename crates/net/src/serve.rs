//! One connection: TLS, then HTTP until it is idle for too long, displaced, or the server stops.

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

use crate::activity::Progress;
use crate::gate::{Connection, ConnectionPermit};
use crate::holding::Holding;
use crate::incoming::Incoming;
use crate::lingering::Lingering;
use crate::outgoing::Socket;
use crate::request::{self, Connected};
use crate::sending::{Fault, MayPause, Outward, Sending};

/// How long an idle connection may take to close after its client is notified.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an active connection is checked, in parts of the idle limit.
const CHECKS: u32 = 6;
/// How often to check that a client reads its responses, in parts of the limit for that.
const STALL_CHECKS: u32 = 4;
/// On a connection that is slow as a whole, responses wait for each other: each may take this many times as
/// long.
const SHARED_STALLS: u32 = 10;
/// How many responses of an HTTP/2 connection may be dropped without the client reading their last piece,
/// before the connection is closed. Until then its other responses continue.
const STALLED_MAX: usize = 8;

/// The protocols of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1, for a server whose requests become tunnels.
    Http1,
    /// HTTP/1.1 and HTTP/2.
    All,
}

/// The time limits of a connection, and the size limits of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The protocols.
    pub protocols: Protocols,
    /// For the TLS handshake.
    pub handshake_max: Duration,
    /// From there to the end of the first request's headers, and for those of each further one over
    /// HTTP/1.1.
    pub head_max: Duration,
    /// How long a connection may be idle.
    pub idle_max: Duration,
    /// How long a client may read nothing while there is something to read.
    pub stall_max: Duration,
    /// Bytes of a request's headers, its path included.
    pub headers_bytes_max: u32,
    /// Concurrent requests of one HTTP/2 connection.
    pub streams_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocols: Protocols::All,
            handshake_max: Duration::from_secs(10),
            head_max: Duration::from_secs(32),
            // As in Kubernetes.
            idle_max: Duration::from_secs(90),
            stall_max: Duration::from_secs(30),
            // The limit of Go's server. Label selectors with many values and long tokens are large.
            headers_bytes_max: 1 << 20,
            streams_max: 250,
        }
    }
}

impl Connection {
    /// Serves the connection with the service that `service` returns for the client's certificate. After
    /// `shutdown`, requests in progress are completed, and no others are accepted.
    ///
    /// # Errors
    /// Why it ended, unless its client closed it in order.
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
        let Self { stream, permit } = self;
        let stream = Socket::new(stream, permit.activity.clone())?;
        let handshake = async {
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            permit.reach(Progress::Greeted);
            hello.into_stream(tls.config().clone()).await
        };
        let handshake = timeout(settings.handshake_max, handshake);
        let displaced = permit.activity.displaced.clone();
        let stream = tokio::select! {
            done = handshake => done??,
            () = displaced.cancelled() => return Ok(()),
            () = shutdown.cancelled() => return Ok(()),
        };
        permit.reach(Progress::Secured);
        let certificates = stream.get_ref().1.peer_certificates();
        let service = service(certificates.and_then(|chain| chain.first()));
        let owner = permit.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let response = owner.respond(request, &service);
            async move { Ok::<_, Infallible>(response.await) }
        });
        let builder = builder(settings);
        let stream = TokioIo::new(Lingering::new(stream, permit.clone()));
        let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
        let mut check = pin!(sleep_until(Instant::now() + settings.head_max));
        let mut stalls = tokio::time::interval(settings.stall_max / STALL_CHECKS);
        stalls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = connection.as_mut() => return done,
                () = displaced.cancelled() => {
                    if permit.activity.progress() < Progress::Authenticated {
                        return Ok(());
                    }
                    break;
                }
                () = shutdown.cancelled() => {
                    if permit.activity.progress() < Progress::Anonymous {
                        return Ok(());
                    }
                    connection.as_mut().graceful_shutdown();
                    return connection.await;
                }
                _ = stalls.tick() => if permit.is_stalled(settings.stall_max) {
                    permit.stall();
                    let why = "the client does not read";
                    return Err(Box::new(io::Error::new(io::ErrorKind::TimedOut, why)));
                },
                () = check.as_mut() => match permit.silence(settings) {
                    Silence::Allowed(until) => check.as_mut().reset(until),
                    Silence::Mute => return Ok(()),
                    Silence::Idle => break,
                },
            }
        }
        connection.as_mut().graceful_shutdown();
        timeout(CLOSE_TIMEOUT, connection).await?
    }
}

/// The result of checking a connection.
enum Silence {
    /// The next check is then.
    Allowed(Instant),
    /// Its client has not sent a request in time.
    Mute,
    /// It has been idle for too long.
    Idle,
}

impl ConnectionPermit {
    /// Passes a request to the service, and tracks it.
    fn respond<S, F, B>(
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
        let under_way = request::Request::begin(self);
        request.extensions_mut().insert(Connected(self.clone()));
        let (head, body) = request.into_parts();
        let body = Incoming::new(body, &head.headers, self.clone());
        let response = service(Request::from_parts(head, body));
        let permit = self.clone();
        async move {
            let response = response.await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                under_way.become_tunnel();
                return response.map(|body| Either::Right(Holding::new(body, None)));
            }
            if response.extensions().get::<MayPause>().is_some() {
                let under_way = under_way.allow_pauses();
                return response.map(|body| Either::Right(Holding::new(body, Some(under_way))));
            }
            response.map(|body| Either::Left(Sending::new(body, under_way, &permit.responses)))
        }
    }

    /// Drops responses that their client does not read, and returns whether to close the connection: the client
    /// reads nothing, or no other request is in progress.
    fn is_stalled(&self, max: Duration) -> bool {
        let activity = &self.activity;
        if activity.blocked_for().is_some_and(|time| time >= max) && !activity.may_pause() {
            return true;
        }
        let max = if activity.was_blocked_within(max) { max * SHARED_STALLS } else { max };
        let stalled = self.responses.abandon_stalled(max);
        stalled > STALLED_MAX || (stalled > 0 && activity.quiet_for().is_some())
    }

    fn silence(&self, settings: &Settings) -> Silence {
        if self.activity.progress() < Progress::Anonymous {
            return Silence::Mute;
        }
        let again = settings.idle_max / CHECKS;
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
