//! The body of a request. The part that the service does not read is still read to its end.
//!
//! A client that is still sending when the response comes sees a broken connection instead of the response:
//! over HTTP/1.1 because what it has sent is unread when the server closes, over HTTP/2 because many clients
//! take the reset of their stream for the outcome, although RFC 9113 (8.1) lets a server respond early.
//! Therefore a dropped body continues to be received for a while, concurrently with the response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::gate::ConnectionPermit;

/// How much of a dropped body is read, in bytes. If there is more, the stream is reset or the connection
/// closed.
const DRAIN_BYTES_MAX: usize = 16 << 20;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A request's body.
pub struct Incoming {
    body: Option<hyper::body::Incoming>,
    permit: Arc<ConnectionPermit>,
    /// The client sends the body after `100 Continue`, which is sent when the body is read.
    is_held_back: bool,
}

impl Incoming {
    pub(crate) fn new(
        body: hyper::body::Incoming,
        headers: &HeaderMap,
        permit: Arc<ConnectionPermit>,
    ) -> Self {
        let expect = headers.get(http::header::EXPECT);
        let is_held_back =
            expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { body: Some(body), permit, is_held_back }
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming(..)")
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_held_back = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // Over HTTP/1.1 the connection ends with the response.
        self.permit.leave_unread();
        if self.is_held_back {
            return;
        }
        // Without a runtime there is no connection any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let permit = self.permit.clone();
            runtime.spawn(async move {
                if let Ok(true) = tokio::time::timeout(DRAIN_TIMEOUT, drain(body)).await {
                    permit.all_is_read();
                }
            });
        }
    }
}

/// Reads to the end; returns whether it was reached.
async fn drain(mut body: hyper::body::Incoming) -> bool {
    let mut drained = 0;
    while drained <= DRAIN_BYTES_MAX {
        match body.frame().await {
            Some(Ok(frame)) => drained += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => return false,
            None => return true,
        }
    }
    false
}
