//! What probes and lifecycle hooks do to a container: run a command, make a request, connect.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffer_wire::http1;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::redact::{Foreign, Redactor};
use crate::runtime::{Runtime, RuntimeError};

/// How much of an answer is read; upstream's `maxRespBodyLength`.
const BODY_BYTES_MAX: usize = 10 * 1024;
/// How much of what a command says is repeated in an event.
const OUTPUT_BYTES_MAX: usize = 1024;

/// One thing to do to a container.
pub(crate) enum Action<'a> {
    Exec(&'a ExecAction),
    HttpGet(&'a HTTPGetAction),
    TcpSocket(&'a TCPSocketAction),
    Sleep(&'a SleepAction),
}

impl<'a> Action<'a> {
    pub(crate) fn of_probe(probe: &'a Probe) -> Option<Self> {
        let exec = probe.exec.as_ref().map(Self::Exec);
        let http = probe.http_get.as_ref().map(Self::HttpGet);
        exec.or(http).or(probe.tcp_socket.as_ref().map(Self::TcpSocket))
    }

    pub(crate) fn of_hook(hook: &'a LifecycleHandler) -> Option<Self> {
        let exec = hook.exec.as_ref().map(Self::Exec);
        let http = hook.http_get.as_ref().map(Self::HttpGet);
        let tcp = hook.tcp_socket.as_ref().map(Self::TcpSocket);
        exec.or(http).or(tcp).or(hook.sleep.as_ref().map(Self::Sleep))
    }
}

/// The container that something is done to.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) container_id: &'a str,
    pub(crate) spec: &'a Container,
    pub(crate) pod_ip: Option<&'a str>,
}

/// Why it did not succeed: what upstream's event says after `Liveness probe failed: `.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// In the kubelet's own words.
    Own(String),
    /// What a program in the container, a server or the runtime said.
    Foreign(Foreign),
    Runtime(RuntimeError),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Own(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::Own(text.to_owned())
    }
}

impl Failure {
    pub(crate) fn redacted(&self, redactor: &Redactor) -> String {
        match self {
            Self::Own(text) => text.clone(),
            Self::Foreign(text) => redactor.redact_head(text, OUTPUT_BYTES_MAX),
            Self::Runtime(error) => error.redacted(redactor),
        }
    }
}

/// Does it.
pub(crate) async fn run(
    subject: Subject<'_>,
    action: Action<'_>,
    limit: Duration,
) -> Result<(), Failure> {
    let timed_out = |what: &str| format!("{what} timed out after {}s", limit.as_secs());
    match action {
        Action::Exec(exec) => {
            let command = exec.command.clone().unwrap_or_default();
            match subject.runtime.exec_sync(subject.container_id, command, limit).await {
                Ok(outcome) if outcome.exit_code == 0 => Ok(()),
                Ok(outcome) => Err(Failure::Foreign(outcome.output)),
                Err(RuntimeError::TimedOut(_)) => {
                    Err(format!("command timed out: {}", timed_out("the command")).into())
                }
                Err(error) => Err(Failure::Runtime(error)),
            }
        }
        Action::HttpGet(get) => match tokio::time::timeout(limit, http_get(subject, get)).await {
            Ok(result) => result,
            Err(_) => {
                Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                    .into())
            }
        },
        Action::TcpSocket(tcp) => {
            let host = tcp.host.as_deref().filter(|host| !host.is_empty()).or(subject.pod_ip);
            let (host, port) = address(host, subject.spec, &tcp.port)?;
            match tokio::time::timeout(limit, http1::connect(host, port)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("dial tcp {host}:{port}: {error}").into()),
                Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout").into()),
            }
        }
        Action::Sleep(sleep) => {
            let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(seconds).min(limit)).await;
            Ok(())
        }
    }
}

fn address<'a>(
    host: Option<&'a str>,
    spec: &Container,
    port: &IntOrString,
) -> Result<(&'a str, u16), String> {
    let host = host.ok_or("the pod has no address")?;
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = spec.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    Ok((host, port.ok_or("invalid port number")?))
}

async fn http_get(subject: Subject<'_>, get: &HTTPGetAction) -> Result<(), Failure> {
    let host = get.host.as_deref().filter(|host| !host.is_empty()).or(subject.pod_ip);
    let (host, port) = address(host, subject.spec, &get.port)?;
    let request = request(get, host, port)?;
    let dialed = http1::connect(host, port).await;
    let stream = dialed.map_err(|error| format!("dial tcp {host}:{port}: {error}"))?;
    if get.scheme.as_deref() == Some("HTTPS") {
        let stream = http1::start_tls(stream, host, dangerous::any_server()).await;
        let stream = stream.map_err(foreign)?;
        send_request(stream, request).await
    } else {
        send_request(stream, request).await
    }
}

fn request(get: &HTTPGetAction, host: &str, port: u16) -> Result<Request<Empty<Bytes>>, String> {
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.parse::<Uri>().map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    let agent = HeaderValue::from_static("kube-probe/1.34");
    headers.insert(header::USER_AGENT, agent);
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let authority =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    headers.insert(header::HOST, authority.parse().map_err(|_| "invalid host".to_owned())?);
    for given in get.http_headers.iter().flatten() {
        let name: HeaderName = given.name.parse().map_err(|_| "invalid header name".to_owned())?;
        let value = given.value.parse().map_err(|_| "invalid header value".to_owned())?;
        headers.insert(name, value);
    }
    Ok(request)
}

/// What the other side made of a connection; some errors quote what it sent.
fn foreign(error: impl std::fmt::Display) -> Failure {
    Failure::Foreign(error.to_string().into())
}

async fn send_request<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let read = async |answer: Response<Incoming>| {
        let status = answer.status();
        // Read, so that a server that checks is not cut off in the middle.
        let _ = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()).into())
        }
    };
    http1::send(stream, request, read).await.map_err(foreign)?
}

/// A probe says whether something responds, not whether it is who it says it is: upstream's
/// HTTPS probes verify nothing, and manifests rely on it.
mod dangerous {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::CryptoProvider;
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    use super::Arc;

    #[derive(Debug)]
    struct NoAuth(Arc<CryptoProvider>);

    impl ServerCertVerifier for NoAuth {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify_tls13_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    /// A client that takes any certificate. It sends nothing that would be worth stealing.
    pub(super) fn any_server() -> Arc<ClientConfig> {
        static CONFIG: std::sync::LazyLock<Arc<ClientConfig>> = std::sync::LazyLock::new(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .expect("ring supports the default versions")
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(NoAuth(provider)))
                .with_no_client_auth();
            Arc::new(config)
        });
        CONFIG.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    async fn get(answer: &'static [u8]) -> Result<(), Failure> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.expect("a request");
            stream.write_all(answer).await.expect("written");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let spec: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "ports": [{"name": "web", "containerPort": port}]}))
        .expect("a container");
        let action: HTTPGetAction = serde_json::from_value(serde_json::json!({
            "port": "web", "path": "healthz?x=1", "httpHeaders": [{"name": "X-A", "value": "b"}]}))
        .expect("an action");
        let runtime = Runtime::new(Path::new("/nosuch"), "node");
        let subject = Subject {
            runtime: &runtime,
            container_id: "id",
            spec: &spec,
            pod_ip: Some("127.0.0.1"),
        };
        let result = run(subject, Action::HttpGet(&action), Duration::from_secs(5)).await;
        let request = server.await.expect("served");
        assert!(request.starts_with("GET /healthz?x=1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("x-a: b\r\n"), "{request}");
        result
    }

    #[tokio::test]
    async fn a_request_succeeds_by_its_status() {
        assert_eq!(get(b"HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        assert_eq!(get(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n").await, Ok(()));
        let failed = get(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(failed, Err("HTTP probe failed with statuscode: 500".into()));
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_is_a_failure() {
        let spec = Container::default();
        let runtime = Runtime::new(Path::new("/nosuch"), "node");
        let subject =
            Subject { runtime: &runtime, container_id: "", spec: &spec, pod_ip: Some("127.0.0.1") };
        let tcp = TCPSocketAction { host: None, port: IntOrString::Int(1) };
        let result = run(subject, Action::TcpSocket(&tcp), Duration::from_secs(5)).await;
        let shown = result.expect_err("nothing listens").redacted(&Redactor::without_values());
        assert!(shown.starts_with("dial tcp 127.0.0.1:1: "), "{shown}");
    }
}
