//! The kubelet's HTTPS server, for the API server only.
//!
//! TLS admits who has a certificate of the client CA; of those, only the API server is served.

mod log_stream;
mod route;
mod tls;
mod tunnel;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use coffer_net::{
    Bounds, Connected, Connection, Fault, Gate, Incoming, MayPause, Protocols, Settings,
    descriptors,
};
use futures::stream;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::Frame;
use k8s_cri::v1 as cri;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::log_stream::LogSource;
use self::route::{ExecOptions, LogOptions, Route, RouteError, Target};
use self::tls::Certificate;
pub use self::tls::TlsError;
use self::tunnel::TunnelError;
use crate::config::ServerConfig;
use crate::redact::{Redactor, RuntimeWords};
use crate::runtime::{Container, RuntimeError};
use crate::statics::Input;
use crate::worker::{Found, Workers};

/// Connections at the same time; each exec and each followed log is one.
const CONNECTIONS_MAX: usize = 4096;
/// A manifest larger than this is not read.
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pieces of a log that wait for a slow client.
const LOG_CHUNKS_MAX: usize = 4;

/// What every answer's body is.
type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The server, listening.
pub(crate) struct Server {
    listener: TcpListener,
    certificate: Certificate,
    address: SocketAddr,
}

/// Why the server cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port is taken, say.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Where it should listen.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
}

impl Server {
    /// Opens the port. Nothing is served before [`Self::run`].
    pub(crate) fn bind(config: &ServerConfig) -> Result<Self, ServerError> {
        let certificate = Certificate::read(config)?;
        let address = config.address;
        let failed = |cause| ServerError::Listen { address, cause };
        let listener = coffer_net::listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, certificate, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped; what is open then goes on until its owner ends it.
    pub(crate) async fn run(mut self, workers: Arc<Workers>, input: Input, sessions: Sessions) {
        // Of each exec and log the other end is open, too.
        let places = descriptors::connections_now(CONNECTIONS_MAX * 2) / 2;
        let gate = Gate::new("the kubelet's server", Bounds::sharing(places));
        let handler = Arc::new(Handler { workers, input, sessions: sessions.clone() });
        loop {
            let accepted = self.listener.accept().await;
            let Some(connection) = gate.admit(accepted).await else { continue };
            let (acceptor, handler) = (self.certificate.acceptor(), handler.clone());
            let end = sessions.end.clone();
            sessions.spawn(async move {
                if let Err(error) = serve(connection, acceptor, handler, end).await {
                    tracing::debug!(%error, "connection ended");
                }
            });
        }
    }
}

async fn serve(
    connection: Connection,
    acceptor: TlsAcceptor,
    handler: Arc<Handler>,
    end: CancellationToken,
) -> Result<(), Fault> {
    // An upgrade takes HTTP/1.1.
    let settings = Settings { protocols: Protocols::Http1, ..Settings::default() };
    let answers = |certificate: Option<&CertificateDer<'static>>| {
        let is_allowed = match tls::is_api_server(certificate) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "request refused");
                false
            }
        };
        move |request: Request<Incoming>| {
            let handler = handler.clone();
            async move {
                if !is_allowed {
                    return text(StatusCode::FORBIDDEN, "Forbidden");
                }
                if let Some(connected) = request.extensions().get::<Connected>() {
                    // All are one user's: the API server's.
                    connected.authenticated(None);
                }
                handler.answer(request).await
            }
        }
    };
    connection.serve(acceptor, &settings, answers, end).await
}

/// Everything that is open: connections, tunnels, logs that are followed.
#[derive(Clone, Default)]
pub(crate) struct Sessions {
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Sessions {
    fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            end.run_until_cancelled(session).await;
        });
    }

    /// Ends all of them.
    pub(crate) async fn close(self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Handler {
    workers: Arc<Workers>,
    input: Input,
    sessions: Sessions,
}

/// Why a request failed, as the client is shown.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("404 page not found")]
    NoPage,
    #[error("Method Not Allowed")]
    Method,
    #[error("{0}")]
    BadRequest(String),
    #[error("pod does not exist")]
    NoPod,
    #[error("container not found ({0:?})")]
    NoContainer(String),
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    #[error("{0}")]
    Tunnel(#[from] TunnelError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoPage | Self::NoPod | Self::NoContainer(_) => StatusCode::NOT_FOUND,
            Self::Runtime(RuntimeError::NotFound(_)) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadRequest(_) | Self::Tunnel(TunnelError::NoUpgrade) => StatusCode::BAD_REQUEST,
            Self::Runtime(_) | Self::Tunnel(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Refusal {
    /// What the client is shown. Of the runtime's words only those that are about no container.
    fn message(&self) -> String {
        match self {
            Self::Runtime(error) => {
                let known = RuntimeWords::new([]);
                let redactor = Redactor::without_values();
                error.redacted_by(|words| redactor.redact_error(words, &known))
            }
            other => other.to_string(),
        }
    }
}

impl From<RouteError> for Refusal {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NotFound => Self::NoPage,
            RouteError::MethodNotAllowed => Self::Method,
            RouteError::BadRequest(message) => Self::BadRequest(message),
        }
    }
}

impl Handler {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let uri = request.uri();
        let routed = Route::of(request.method(), uri.path(), uri.query());
        let answered = match routed {
            Ok(route) => self.handle(route, request).await,
            Err(error) => Err(error.into()),
        };
        answered.unwrap_or_else(|refusal| text(refusal.status(), &refusal.message()))
    }

    async fn handle(
        &self,
        route: Route,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        match route {
            Route::Health => Ok(text(StatusCode::OK, "ok")),
            Route::Pods => Ok(self.pods()),
            Route::PutPod => self.put_pod(request).await,
            Route::RemovePod(target) => {
                match self.input.remove(&target.namespace, &target.pod).await {
                    true => Ok(text(StatusCode::OK, "")),
                    false => Err(Refusal::NoPod),
                }
            }
            Route::Logs(target, options) => self.logs(&target, options).await,
            Route::Exec(target, options) => {
                let container = self.running(&target).await?;
                let url = self.workers.shared().runtime.exec(exec(container, options)).await?;
                Ok(tunnel::open(&url, request, &self.sessions).await?)
            }
            Route::Attach(target, options) => {
                let container = self.running(&target).await?;
                let ask = attach(container, &options);
                let url = self.workers.shared().runtime.attach(ask).await?;
                Ok(tunnel::open(&url, request, &self.sessions).await?)
            }
            Route::PortForward(target, ports) => {
                let found = self.find(&target)?;
                let runtime = &self.workers.shared().runtime;
                let observed = runtime.observe(&found.id).await?;
                let sandbox = observed.sandbox().ok_or(Refusal::NoPod)?;
                let url = runtime.port_forward(&sandbox.id, ports).await?;
                Ok(tunnel::open(&url, request, &self.sessions).await?)
            }
        }
    }

    fn find(&self, target: &Target) -> Result<Found, Refusal> {
        let found = self.workers.find(&target.namespace, &target.pod, target.uid.as_deref());
        found.ok_or(Refusal::NoPod)
    }

    /// The id of a container that something can be run in.
    async fn running(&self, target: &Target) -> Result<String, Refusal> {
        let found = self.find(target)?;
        let observed = self.workers.shared().runtime.observe(&found.id).await?;
        let container = observed.latest(&target.container);
        container
            .map(|container| container.id.clone())
            .ok_or_else(|| Refusal::NoContainer(target.container.clone()))
    }

    fn pods(&self) -> Response<Body> {
        let list = List::<Pod> { items: self.workers.pods(), ..Default::default() };
        json(&list)
    }

    async fn put_pod(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let body = Limited::new(request.into_body(), MANIFEST_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| Refusal::BadRequest(error.to_string()))?.to_bytes();
        let pod = self.input.put(&bytes).await;
        pod.map(|pod| json(&pod)).map_err(|error| Refusal::BadRequest(error.to_string()))
    }

    async fn logs(&self, target: &Target, options: LogOptions) -> Result<Response<Body>, Refusal> {
        let found = self.find(target)?;
        let runtime = self.workers.shared().runtime.clone();
        let observed = runtime.observe(&found.id).await?;
        let name = &target.container;
        let wanted = if options.previous { observed.previous(name) } else { observed.latest(name) };
        let container = wanted.ok_or_else(|| no_log(&found, name, options.previous))?;
        let source = log_source(container, runtime);
        let (chunks, received) = mpsc::channel(LOG_CHUNKS_MAX);
        self.sessions.spawn(log_stream::send(source, options, chunks));
        let frames = stream::unfold(received, async |mut received| {
            let chunk = received.recv().await?;
            Some((chunk.map(Frame::data), received))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        let plain = header::HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        // A user pages through it.
        response.extensions_mut().insert(MayPause);
        Ok(response)
    }
}

fn log_source(container: &Container, runtime: crate::runtime::Runtime) -> LogSource {
    LogSource {
        path: PathBuf::from(&container.log_path),
        container_id: container.id.clone(),
        runtime,
    }
}

/// Why a container has no log; upstream's words.
fn no_log(found: &Found, container: &str, previous: bool) -> Refusal {
    let pod = found.id.name();
    let message = if previous {
        format!("previous terminated container {container:?} in pod {pod:?} not found")
    } else {
        let why = match waiting_reason(&found.pod, container).as_str() {
            "ErrImagePull" => "image can't be pulled".to_owned(),
            "ImagePullBackOff" => "trying and failing to pull image".to_owned(),
            reason => reason.to_owned(),
        };
        format!("container {container:?} in pod {pod:?} is waiting to start: {why}")
    };
    Refusal::BadRequest(message)
}

fn waiting_reason(pod: &Pod, container: &str) -> String {
    let status = pod.status.as_ref();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let init =
        status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let found: Option<&ContainerStatus> =
        main.iter().chain(init).find(|status| status.name == container);
    let waiting = found.and_then(|status| status.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.clone());
    reason.unwrap_or_else(|| "ContainerCreating".to_owned())
}

fn exec(container_id: String, options: ExecOptions) -> cri::ExecRequest {
    cri::ExecRequest {
        container_id,
        cmd: options.command,
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    }
}

fn attach(container_id: String, options: &ExecOptions) -> cri::AttachRequest {
    cri::AttachRequest {
        container_id,
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    }
}

fn json(object: &impl serde::Serialize) -> Response<Body> {
    let mut response = Response::new(full(serde_json::to_vec(object).unwrap_or_default()));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(full(message.to_owned()));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
