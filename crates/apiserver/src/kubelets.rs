//! Streams to and from kubelets: what exec, attach, port-forward and logs are made of.
//!
//! The request is sent on over TLS with this server's client certificate; after a `101` the bytes
//! of both sides are copied unread. Client and kubelet agree on the protocol (SPDY or WebSocket).

use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use coffer_net::{Incoming, MayPause};
use coffer_wire::http1;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;

use crate::certificates::Certificates;
use crate::respond::{self, Response};
use crate::tasks::Group;
use crate::tunnels::{TunnelPermit, Tunnels};

/// How long a kubelet may take to accept a connection.
const DIAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// How long a kubelet may take until it responds: upstream's `--runtime-request-timeout`, for which its
/// own runtime may take.
const RESPONSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);

/// How kubelets are reached.
pub(crate) struct Kubelets {
    certificates: Certificates,
    tasks: Group,
}

/// Where a pod's kubelet listens.
pub(crate) struct Endpoint {
    pub(crate) node: String,
    pub(crate) address: String,
    pub(crate) port: u16,
}

impl Kubelets {
    /// Kubelets that trust the certificate for them. `tasks` is where connections to them belong.
    pub(crate) fn new(certificates: Certificates, tasks: Group) -> Self {
        Self { certificates, tasks }
    }

    async fn dial(
        &self,
        endpoint: &Endpoint,
    ) -> Result<hyper::client::conn::http1::SendRequest<RequestBody>, Failure> {
        let Endpoint { node, address, port } = endpoint;
        let config = self.certificates.kubelets().ok_or_else(|| {
            Failure::internal("this server has no client certificate for kubelets")
        })?;
        let failed = |error: &dyn std::fmt::Display| {
            Failure::internal(format!(
                "error dialing backend: node {node} at {address}:{port}: {error}"
            ))
        };
        // A kubelet's certificate names its node or its address; the address is what is dialled.
        let stream = tokio::time::timeout(DIAL_TIMEOUT, http1::connect_tls(address, *port, config))
            .await
            .map_err(|_| failed(&"i/o timeout"))?
            .map_err(|error| failed(&error))?;
        let (sender, connection) =
            http1::upgradable(stream).await.map_err(|error| failed(&error))?;
        // Ends by itself with the request and its response: either side closing closes the other.
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    /// Sends a request. Returns the response.
    async fn send(
        &self,
        endpoint: &Endpoint,
        request: Request<RequestBody>,
    ) -> Result<Response<hyper::body::Incoming>, Failure> {
        let mut sender = self.dial(endpoint).await?;
        let response = tokio::time::timeout(RESPONSE_TIMEOUT, sender.send_request(request)).await;
        let response = response.map_err(|_| backend(endpoint, &"i/o timeout"))?;
        response.map_err(|error| backend(endpoint, &error))
    }

    /// A plain GET whose body is passed on as it comes.
    pub(crate) async fn stream(
        &self,
        (tunnels, permit): (&Tunnels, TunnelPermit),
        endpoint: &Endpoint,
        target: &str,
    ) -> Result<Response, Failure> {
        let request = build(Method::GET, target, endpoint, &HeaderMap::new())?;
        let response = self.send(endpoint, request).await?;
        if response.status().is_success() {
            let body = tunnels.pass_on(permit, response.into_body());
            let mut response = respond::typed(StatusCode::OK, "text/plain", body);
            // A user pages through it.
            response.extensions_mut().insert(MayPause);
            return Ok(response);
        }
        Err(refused(response).await)
    }

    /// An upgrade: both connections become one pipe.
    pub(crate) async fn upgrade(
        &self,
        (tunnels, permit): (&Tunnels, TunnelPermit),
        endpoint: &Endpoint,
        target: &str,
        mut request: Request<Incoming>,
    ) -> Result<Response, Failure> {
        if !request.headers().contains_key(UPGRADE) {
            return Err(Failure::bad_request("Upgrade request required"));
        }
        let forwarded = build(request.method().clone(), target, endpoint, request.headers())?;
        let response = self.send(endpoint, forwarded).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(response).await);
        }
        let headers = response.headers().clone();
        let client = hyper::upgrade::on(&mut request);
        let kubelet = hyper::upgrade::on(response);
        tunnels.pipe(permit, async move {
            let (client, kubelet) = (client.await.ok()?, kubelet.await.ok()?);
            Some((TokioIo::new(client), TokioIo::new(kubelet)))
        });
        let mut switched = Response::new(respond::full(bytes::Bytes::new()));
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *switched.headers_mut() = headers;
        Ok(switched)
    }
}

fn backend(endpoint: &Endpoint, error: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("error dialing backend: node {}: {error}", endpoint.node))
}

type RequestBody =
    http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, std::convert::Infallible>;

/// The request to a kubelet: the client's upgrade headers, none of its credentials.
fn build(
    method: Method,
    target: &str,
    endpoint: &Endpoint,
    from: &HeaderMap,
) -> Result<Request<RequestBody>, Failure> {
    let uri: Uri = target.parse().map_err(|_| Failure::bad_request("the path is not a URI"))?;
    let mut request = Request::new(Empty::new().boxed_unsync());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let host = format!("{}:{}", endpoint.address, endpoint.port);
    let host =
        host.parse().map_err(|_| Failure::internal("the node's address is not a host name"))?;
    request.headers_mut().insert(HOST, host);
    for (name, value) in from {
        let passes = *name == CONNECTION
            || *name == UPGRADE
            || name.as_str().starts_with("sec-websocket-")
            || name == "x-stream-protocol-version";
        // A bearer token in a WebSocket subprotocol is for this server alone.
        let bearer = value.to_str().is_ok_and(|text| text.contains("bearer.authorization"));
        if passes && !bearer {
            request.headers_mut().append(name.clone(), value.clone());
        }
    }
    Ok(request)
}

/// A kubelet's refusal, as a Status: its own where it sent one, else its text.
async fn refused(response: Response<hyper::body::Incoming>) -> Failure {
    const TEXT_BYTES_MAX: usize = 64 * 1024;
    let code = response.status().as_u16();
    let limited = http_body_util::Limited::new(response.into_body(), TEXT_BYTES_MAX);
    let text = match limited.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        Err(_) => String::new(),
    };
    let reason = match code {
        400 => Reason::BadRequest,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        _ => Reason::InternalError,
    };
    Failure::with_code(code, reason, text)
}
