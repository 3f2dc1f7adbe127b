//! exec, attach and port-forward: the request goes on to the runtime's streaming server, and
//! after the upgrade bytes are copied both ways unread. Which protocol they speak is between the
//! client and the runtime.

use bytes::Bytes;
use coffer_net::Incoming;
use coffer_wire::http1;
use http::header::{HOST, UPGRADE};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;

use super::{Body, Sessions};

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    #[error("Upgrade request required")]
    NoUpgrade,
    #[error("the runtime gave a streaming address that cannot be used: {0}")]
    Address(String),
    #[error("the runtime's streaming server cannot be reached: {0}")]
    Dial(std::io::Error),
    #[error("the runtime's streaming server failed: {0}")]
    Http(#[from] hyper::Error),
}

/// Forwards `request` to `url` and returns the streaming server's response.
pub(super) async fn open(
    url: &str,
    mut request: Request<Incoming>,
    sessions: &Sessions,
) -> Result<Response<Body>, TunnelError> {
    if !request.headers().contains_key(UPGRADE) {
        return Err(TunnelError::NoUpgrade);
    }
    let url: Uri = url.parse().map_err(|_| TunnelError::Address(redacted(url)))?;
    let (Some("http"), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(TunnelError::Address(redacted(&url.to_string())));
    };
    let (host, port) = (authority.host(), authority.port_u16().unwrap_or(80));
    let stream = http1::connect(host, port).await.map_err(TunnelError::Dial)?;
    let (mut sender, connection) = http1::upgradable(stream).await?;
    sessions.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "streaming connection ended");
        }
    });

    let answer = sender.send_request(onward(&request, &url)).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer.map(|body| body.map_err(std::io::Error::other).boxed_unsync()));
    }
    let headers = answer.headers().clone();
    let client = hyper::upgrade::on(&mut request);
    let runtime = hyper::upgrade::on(answer);
    sessions.spawn(async move {
        let (client, runtime) = match tokio::try_join!(client, runtime) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "upgrade not finished");
                return;
            }
        };
        let (mut client, mut runtime) = (TokioIo::new(client), TokioIo::new(runtime));
        // Either side may go at any time; that is the end of a session and no fault.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut runtime).await;
    });
    let mut switched = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = headers;
    Ok(switched)
}

/// The same request for the streaming server: its path, the client's upgrade headers.
fn onward(request: &Request<Incoming>, url: &Uri) -> Request<Empty<Bytes>> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::new(Empty::new());
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = path.parse().unwrap_or_default();
    *onward.headers_mut() = request.headers().clone();
    if let Some(host) = url.authority().and_then(|host| host.as_str().parse().ok()) {
        onward.headers_mut().insert(HOST, host);
    }
    onward
}

/// An address without its path: that is a token which opens the session.
fn redacted(url: &str) -> String {
    url.split('/').take(3).collect::<Vec<_>>().join("/")
}
