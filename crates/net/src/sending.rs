//! The body of a response that is being sent.
//!
//! It is sent in pieces, and each piece reports when it has been sent. A response with something to send of
//! which its client reads nothing for [`crate::Settings::stall_max`] has stalled, whatever the cause (a full
//! socket, a closed HTTP/2 window): the rest of it is dropped, and the client sees an error. A response with
//! nothing to send at the moment, such as a quiet watch, has not stalled.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::holding::Holding;
use crate::request;
use crate::responses::{Outgoing, Responses};

/// Why a connection ended.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a piece. A client must read one within the limit: at 30 s that is 550 bytes a second.
const PIECE_BYTES: usize = 16 * 1024;

/// An extension of a response: its client may leave it unread for any time. For streams that users read page by
/// page and that buffer little: logs.
#[derive(Clone, Copy, Debug)]
pub struct MayPause;

/// The body of a response that is being sent.
pub(crate) struct Sending<B> {
    response: Arc<Shared<B>>,
}

/// The state that the body, its pieces and the connection's timer share.
struct Shared<B> {
    content: Mutex<Option<Content<B>>>,
    flow: Mutex<Flow>,
}

struct Content<B> {
    body: B,
    /// The rest of the frame that is being sent.
    rest: Bytes,
    _under_way: request::Request,
}

/// The progress of sending.
struct Flow {
    /// When its client last read something, or there was something to read again.
    since: Instant,
    /// Pieces that are not sent yet.
    pieces: usize,
    /// The body has nothing to send at the moment.
    waits: bool,
    /// The rest of it has been dropped.
    stalled: bool,
}

impl Flow {
    /// The body was polled.
    fn has_more(&mut self, has_more: bool) {
        if has_more && self.waits && self.pieces == 0 {
            self.since = Instant::now();
        }
        self.waits = !has_more;
    }
}

impl<B> Shared<B> {
    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock()
    }

    fn content(&self) -> MutexGuard<'_, Option<Content<B>>> {
        self.content.lock()
    }
}

impl<B: Send> Outgoing for Shared<B> {
    fn untaken_for(&self) -> Option<Duration> {
        let flow = self.flow();
        (!flow.waits || flow.pieces > 0).then(|| flow.since.elapsed())
    }

    fn abandon(&self) {
        self.flow().stalled = true;
        let content = self.content().take();
        drop(content);
    }

    fn is_abandoned(&self) -> bool {
        self.flow().stalled
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Sending<B> {
    pub(crate) fn new(body: B, under_way: request::Request, responses: &Responses) -> Self {
        let content = Content { body, rest: Bytes::new(), _under_way: under_way };
        let flow = Flow { since: Instant::now(), pieces: 0, waits: false, stalled: false };
        let response =
            Arc::new(Shared { content: Mutex::new(Some(content)), flow: Mutex::new(flow) });
        let weak = Arc::downgrade(&response);
        responses.add(weak);
        Self { response }
    }

    /// The next bytes of a frame, or, if it is short, the whole one.
    fn piece(&self, rest: &mut Bytes, is_whole: bool) -> Frame<Bytes> {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        // A piece that is never sent must not keep the whole frame.
        let bytes = if is_whole { piece } else { Bytes::copy_from_slice(&piece) };
        self.response.flow().pieces += 1;
        Frame::data(Bytes::from_owner(Piece { bytes, response: self.response.clone() }))
    }
}

/// Bytes that report when they have been sent.
struct Piece<B> {
    bytes: Bytes,
    response: Arc<Shared<B>>,
}

impl<B> AsRef<[u8]> for Piece<B> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B> Drop for Piece<B> {
    fn drop(&mut self) {
        let mut flow = self.response.flow();
        flow.pieces -= 1;
        flow.since = Instant::now();
    }
}

/// The error of a body that was dropped.
fn stalled() -> Fault {
    io::Error::new(io::ErrorKind::TimedOut, "the client does not read the response").into()
}

impl<B> Body for Sending<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Fault>,
{
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut content = self.response.content();
        let Some(Content { body, rest, .. }) = &mut *content else {
            return Poll::Ready(Some(Err(stalled())));
        };
        if !rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece(rest, false))));
        }
        let polled = Pin::new(body).poll_frame(context);
        self.response.flow().has_more(polled.is_ready());
        polled.map(|polled| {
            let frame = polled?.map_err(Into::into).map(|frame| match frame.into_data() {
                Ok(data) if data.is_empty() => Frame::data(data),
                Ok(data) => {
                    *rest = data;
                    let is_whole = rest.len() <= PIECE_BYTES;
                    self.piece(rest, is_whole)
                }
                Err(trailers) => trailers,
            });
            Some(frame)
        })
    }

    fn is_end_stream(&self) -> bool {
        let content = self.response.content();
        content
            .as_ref()
            .is_some_and(|content| content.rest.is_empty() && content.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let content = self.response.content();
        let Some(Content { body, rest, .. }) = &*content else { return SizeHint::default() };
        let (hint, rest) = (body.size_hint(), rest.len() as u64);
        let mut all = SizeHint::new();
        all.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + rest);
        }
        all
    }
}

impl<B> Drop for Sending<B> {
    fn drop(&mut self) {
        // The body has ended; the last pieces may still be in transit.
        self.response.flow().waits = true;
    }
}

/// Either a response that its client must read, or one that it need not.
pub(crate) type Outward<B> = Either<Sending<B>, Holding<B, Option<request::Request>>>;
