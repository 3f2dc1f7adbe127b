//! exec, attach, port-forward and logs: tunnels to the pod's kubelet.
//!
//! The request is sent on over TLS with this server's client certificate; after a `101` the bytes
//! of both sides are copied unread. What protocol they speak (SPDY or WebSocket) is theirs.

use std::net::IpAddr;

use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use coffer_net::{Incoming, MayPause};
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::certificates::Certificates;
use crate::handlers::Handlers;
use crate::object::Resource;
use crate::request::{Query, ResourcePath};
use crate::respond::{self, Answer};

/// How long a kubelet may take to accept a connection.
const DIAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// How kubelets are reached.
pub(crate) struct Kubelets(pub(crate) Certificates);

/// Where one pod's kubelet listens.
struct Endpoint {
    node: String,
    address: String,
    port: u16,
}

impl Handlers {
    /// Sends a request on to the kubelet of a pod.
    pub(crate) async fn tunnel(
        &self,
        resource: &Resource,
        path: &ResourcePath,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Answer, Failure> {
        let found = self.registry.get(resource, &path.namespace, &path.name).await?;
        let object = resource.parse(&found.bytes)?;
        let pod = object.as_any().downcast_ref::<Pod>().ok_or_else(Failure::no_such_path)?;
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        if node.is_empty() {
            return Err(Failure::bad_request(format!(
                "pod {} does not have a host assigned",
                path.name
            )));
        }
        let container = match path.subresource.as_str() {
            "portforward" => String::new(),
            _ => container(pod, query.get("container"))?,
        };
        let target = kubelet_path(path, &container, query, request.uri().query());
        let endpoint = self.endpoint(&node)?;
        if path.subresource == "log" {
            self.kubelets.stream(&endpoint, &target).await
        } else {
            self.kubelets.upgrade(&endpoint, &target, request).await
        }
    }

    fn endpoint(&self, name: &str) -> Result<Endpoint, Failure> {
        let nodes = self.registry.resources.core("nodes");
        let found = nodes
            .shard()
            .get(&nodes.key("", name))
            .ok_or_else(|| Failure::not_found(nodes.group_resource(), name))?;
        let object = nodes.parse(&found.bytes)?;
        let node = object.as_any().downcast_ref::<Node>().ok_or_else(Failure::no_such_path)?;
        let status = node.status.clone().unwrap_or_default();
        let addresses = status.addresses.unwrap_or_default();
        let address = ["InternalIP", "ExternalIP", "Hostname"]
            .iter()
            .find_map(|wanted| addresses.iter().find(|address| address.type_ == *wanted))
            .map(|address| address.address.clone())
            .ok_or_else(|| Failure::internal(format!("node {name} has no address")))?;
        let port = status
            .daemon_endpoints
            .and_then(|endpoints| endpoints.kubelet_endpoint)
            .and_then(|endpoint| u16::try_from(endpoint.port).ok())
            .unwrap_or(10250);
        Ok(Endpoint { node: name.to_owned(), address, port })
    }
}

/// The container meant: the one named, or the pod's only (or default) one.
fn container(pod: &Pod, named: Option<&str>) -> Result<String, Failure> {
    const DEFAULT: &str = "kubectl.kubernetes.io/default-container";
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = pod.spec.as_ref() else { return Err(Failure::no_such_path()) };
    let inits = || spec.init_containers.iter().flatten().map(|container| container.name.as_str());
    let main: Vec<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    let ephemeral = || spec.ephemeral_containers.iter().flatten().map(|it| it.name.as_str());
    if let Some(named) = named {
        let known = main.iter().copied().chain(inits()).chain(ephemeral()).any(|it| it == named);
        return if known {
            Ok(named.to_owned())
        } else {
            Err(Failure::bad_request(format!("container {named} is not valid for pod {name}")))
        };
    }
    let default = pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT));
    match (main.as_slice(), default) {
        ([only], _) => Ok((*only).to_owned()),
        (all, Some(default)) if all.contains(&default.as_str()) => Ok(default.clone()),
        (all, _) => {
            let mut choices = format!("choose one of: [{}]", all.join(" "));
            let inits: Vec<&str> = inits().collect();
            if !inits.is_empty() {
                choices.push_str(&format!(" or one of the init containers: [{}]", inits.join(" ")));
            }
            Err(Failure::bad_request(format!(
                "a container name must be specified for pod {name}, {choices}"
            )))
        }
    }
}

/// The kubelet's path for a subresource; stream options get the kubelet's names.
fn kubelet_path(path: &ResourcePath, container: &str, query: &Query, raw: Option<&str>) -> String {
    let (namespace, pod) = (&path.namespace, &path.name);
    let mut out = form_urlencoded::Serializer::new(String::new());
    let verb = match path.subresource.as_str() {
        "log" => {
            for (name, value) in form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
                if name != "container" {
                    out.append_pair(&name, &value);
                }
            }
            "containerLogs"
        }
        "portforward" => {
            for port in query.all("ports").iter().flat_map(|ports| ports.split(',')) {
                out.append_pair("port", port);
            }
            "portForward"
        }
        other => {
            let streams =
                [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
            for (ours, theirs) in streams {
                if query.flag(ours) {
                    out.append_pair(theirs, "1");
                }
            }
            for argument in query.all("command") {
                out.append_pair("command", argument);
            }
            other
        }
    };
    let container = if container.is_empty() { String::new() } else { format!("/{container}") };
    let query = out.finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/{verb}/{namespace}/{pod}{container}{mark}{query}")
}

impl Kubelets {
    async fn dial(
        &self,
        endpoint: &Endpoint,
    ) -> Result<
        hyper::client::conn::http1::SendRequest<
            http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, std::convert::Infallible>,
        >,
        Failure,
    > {
        let Endpoint { node, address, port } = endpoint;
        let config = self.0.kubelets().ok_or_else(|| {
            Failure::internal("this server has no client certificate for kubelets")
        })?;
        let failed = |error: &dyn std::fmt::Display| {
            Failure::internal(format!(
                "error dialing backend: node {node} at {address}:{port}: {error}"
            ))
        };
        // A kubelet's certificate names its node or its address; the address is what is dialled.
        let name = match address.parse::<IpAddr>() {
            Ok(ip) => ServerName::IpAddress(ip.into()),
            Err(_) => ServerName::try_from(address.clone()).map_err(|error| failed(&error))?,
        };
        let connect = async {
            let tcp = TcpStream::connect((address.as_str(), *port)).await?;
            tcp.set_nodelay(true)?;
            tokio_rustls::TlsConnector::from(config).connect(name, tcp).await
        };
        let stream = tokio::time::timeout(DIAL_TIMEOUT, connect)
            .await
            .map_err(|_| failed(&"i/o timeout"))?
            .map_err(|error| failed(&error))?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        // Ends by itself with the exchange: either side closing closes the other.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// A plain GET whose body is passed on as it comes.
    async fn stream(&self, endpoint: &Endpoint, target: &str) -> Result<Answer, Failure> {
        let mut sender = self.dial(endpoint).await?;
        let request = build(Method::GET, target, endpoint, &HeaderMap::new())?;
        let answer =
            sender.send_request(request).await.map_err(|error| backend(endpoint, &error))?;
        if answer.status().is_success() {
            let body = answer.into_body().map_err(std::io::Error::other).boxed_unsync();
            let mut answer = respond::typed(StatusCode::OK, "text/plain", body);
            // A user pages through it.
            answer.extensions_mut().insert(MayPause);
            return Ok(answer);
        }
        Err(refused(answer).await)
    }

    /// An upgrade: both connections become one pipe.
    async fn upgrade(
        &self,
        endpoint: &Endpoint,
        target: &str,
        mut request: Request<Incoming>,
    ) -> Result<Answer, Failure> {
        if !request.headers().contains_key(UPGRADE) {
            return Err(Failure::bad_request("Upgrade request required"));
        }
        let mut sender = self.dial(endpoint).await?;
        let outward = build(request.method().clone(), target, endpoint, request.headers())?;
        let answer =
            sender.send_request(outward).await.map_err(|error| backend(endpoint, &error))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(answer).await);
        }
        let headers = answer.headers().clone();
        let client = hyper::upgrade::on(&mut request);
        let kubelet = hyper::upgrade::on(answer);
        tokio::spawn(async move {
            let (Ok(client), Ok(kubelet)) = (client.await, kubelet.await) else { return };
            let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(kubelet));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut kubelet).await;
        });
        let mut switched = Response::new(respond::full(bytes::Bytes::new()));
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *switched.headers_mut() = headers;
        Ok(switched)
    }
}

fn backend(endpoint: &Endpoint, error: &hyper::Error) -> Failure {
    Failure::internal(format!("error dialing backend: node {}: {error}", endpoint.node))
}

type Outward = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, std::convert::Infallible>;

/// The request to a kubelet: the client's upgrade headers, none of its credentials.
fn build(
    method: Method,
    target: &str,
    endpoint: &Endpoint,
    from: &HeaderMap,
) -> Result<Request<Outward>, Failure> {
    let uri: Uri = target.parse().map_err(|_| Failure::bad_request("the path is not a URI"))?;
    let mut request = Request::new(Empty::new().boxed_unsync());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let host = format!("{}:{}", endpoint.address, endpoint.port);
    let host = host.parse().map_err(|_| Failure::internal("the node's address is no host name"))?;
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
async fn refused(answer: Response<hyper::body::Incoming>) -> Failure {
    const TEXT_BYTES_MAX: usize = 64 * 1024;
    let code = answer.status().as_u16();
    let limited = http_body_util::Limited::new(answer.into_body(), TEXT_BYTES_MAX);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_options_get_the_kubelets_names() {
        let path = ResourcePath {
            namespace: "n".into(),
            name: "p".into(),
            subresource: "exec".into(),
            ..Default::default()
        };
        let query = Query::parse("command=ls&command=/a%20b&stdin=true&stdout=true&tty=false");
        let target = kubelet_path(&path, "c", &query, None);
        assert_eq!(target, "/exec/n/p/c?input=1&output=1&command=ls&command=%2Fa+b");
    }
}
