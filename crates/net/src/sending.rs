//! The body of an answer, as far as its client lets it go out.
//!
//! It leaves in pieces, and each piece says when it has been sent. An answer with something to send
//! of which its client takes nothing for [`crate::Settings::stall_max`] has stalled, whatever protocol
//! holds it up (a socket that is full, a window that stays closed): what is left of it is dropped,
//! and its client finds it broken off. One that waits for more to say, as a quiet watch does, has not.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use tokio::time::Instant;

use crate::activity;
use crate::holding::Holding;
use crate::serve::Fault;

/// Bytes of a piece. A client must take one within the limit: at 30 s that is 550 bytes a second.
const PIECE_BYTES: usize = 16 * 1024;

/// A mark among an answer's extensions: its client may leave it unread for as long as it likes. For
/// streams that people look at page by page, and that hold little: logs.
#[derive(Clone, Copy, Debug)]
pub struct MayPause;

/// An answer's body on its way.
pub(crate) struct Sending<B> {
    answer: Arc<Answer<B>>,
}

/// What the body, its pieces and the connection's timer share.
struct Answer<B> {
    content: Mutex<Option<Content<B>>>,
    flow: Mutex<Flow>,
}

struct Content<B> {
    body: B,
    /// What is left of the frame that is being sent.
    rest: Bytes,
    _under_way: activity::Request,
}

/// How an answer gets on with its client.
struct Flow {
    /// When its client last took something, or there was something to take again.
    since: Instant,
    /// Pieces handed out and not yet sent.
    pieces: usize,
    /// The body has nothing to send at present.
    waits: bool,
    /// What was left of it has been dropped.
    stalled: bool,
}

impl Flow {
    /// The body was asked for more.
    fn has_more(&mut self, has_more: bool) {
        if has_more && self.waits && self.pieces == 0 {
            self.since = Instant::now();
        }
        self.waits = !has_more;
    }
}

/// An answer as its connection's timer sees it.
pub(crate) trait Outgoing: Send + Sync {
    /// For how long its client has left it where it is; `None` where there is nothing to take.
    fn untaken_for(&self) -> Option<Duration>;

    /// Drops what is left of it.
    fn abandon(&self);

    fn is_abandoned(&self) -> bool;
}

impl<B> Answer<B> {
    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn content(&self) -> MutexGuard<'_, Option<Content<B>>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Send> Outgoing for Answer<B> {
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

/// The answers of a connection that are on their way.
#[derive(Default)]
pub(crate) struct Answers(Mutex<VecDeque<Weak<dyn Outgoing>>>);

impl Answers {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Weak<dyn Outgoing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, answer: Weak<dyn Outgoing>) {
        let mut answers = self.lock();
        if answers.len() == answers.capacity() {
            answers.retain(|answer| answer.strong_count() > 0);
        }
        answers.push_back(answer);
    }

    /// Abandons those that nothing has been taken of for `max`, and returns how many such there are
    /// that still hold something.
    pub(crate) fn abandon_stalled(&self, max: Duration) -> usize {
        let present: Vec<Arc<dyn Outgoing>> = {
            let mut answers = self.lock();
            answers.retain(|answer| answer.strong_count() > 0);
            answers.iter().filter_map(Weak::upgrade).collect()
        };
        for answer in &present {
            if !answer.is_abandoned() && answer.untaken_for().is_some_and(|time| time >= max) {
                answer.abandon();
            }
        }
        present.iter().filter(|answer| answer.is_abandoned()).count()
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Sending<B> {
    pub(crate) fn new(body: B, under_way: activity::Request, answers: &Answers) -> Self {
        let content = Content { body, rest: Bytes::new(), _under_way: under_way };
        let flow = Flow { since: Instant::now(), pieces: 0, waits: false, stalled: false };
        let answer =
            Arc::new(Answer { content: Mutex::new(Some(content)), flow: Mutex::new(flow) });
        let weak = Arc::downgrade(&answer);
        answers.add(weak);
        Self { answer }
    }

    /// The next bytes of a frame, or, if it is short, the whole one.
    fn piece(&self, rest: &mut Bytes, is_whole: bool) -> Frame<Bytes> {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        // A piece that is never sent must not keep the whole frame.
        let bytes = if is_whole { piece } else { Bytes::copy_from_slice(&piece) };
        self.answer.flow().pieces += 1;
        Frame::data(Bytes::from_owner(Piece { bytes, answer: self.answer.clone() }))
    }
}

/// Bytes that say when they have been sent.
struct Piece<B> {
    bytes: Bytes,
    answer: Arc<Answer<B>>,
}

impl<B> AsRef<[u8]> for Piece<B> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B> Drop for Piece<B> {
    fn drop(&mut self) {
        let mut flow = self.answer.flow();
        flow.pieces -= 1;
        flow.since = Instant::now();
    }
}

/// Why a body ends before its end.
fn stalled() -> Fault {
    io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer").into()
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
        let mut content = self.answer.content();
        let Some(Content { body, rest, .. }) = &mut *content else {
            return Poll::Ready(Some(Err(stalled())));
        };
        if !rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece(rest, false))));
        }
        let polled = Pin::new(body).poll_frame(context);
        self.answer.flow().has_more(polled.is_ready());
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
        let content = self.answer.content();
        content
            .as_ref()
            .is_some_and(|content| content.rest.is_empty() && content.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let content = self.answer.content();
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
        // What the last pieces still need is theirs; the body has come to its end.
        self.answer.flow().waits = true;
    }
}

/// Either of an answer whose client must read it, and one whose client need not.
pub(crate) type Outward<B> = Either<Sending<B>, Holding<B, Option<activity::Request>>>;
