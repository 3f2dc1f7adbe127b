//! Tunnels under way: exec, attach, port-forward and logs. How many there may be, and how they end.
//!
//! A tunnel takes a connection to a kubelet that the places of clients' connections do not count, and
//! lasts for as long as its client wants: so one user has a number of them, all users have another, and
//! one through which nothing passes ends. They end with the server, too.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coffer_api::status::Failure;
use futures::stream;
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::respond::Body;
use crate::tasks::Group;

/// Tunnels at a time, where the limit of open files leaves room for as many.
const TUNNELS_MAX: usize = 2048;
/// Of these, one user's.
const USER_TUNNELS_MAX: usize = 256;
/// All tunnels are so many times one user's at least.
const USERS_MIN: usize = 4;
/// How long nothing may pass through a tunnel: the default of upstream's
/// `--streaming-connection-idle-timeout`.
const IDLE_MAX: Duration = Duration::from_secs(4 * 3600);
/// Chunks of a log in the channel: one that is read, and the error at its end.
const CHUNKS_MAX: usize = 2;
/// Users remembered; those without tunnels are forgotten beyond this.
const USERS_REMEMBERED: usize = 1024;
/// When a refused client should come back, in seconds.
const RETRY_AFTER_S: i32 = 1;

/// All tunnels of a server.
pub(crate) struct Tunnels {
    all: Arc<Semaphore>,
    users: Mutex<HashMap<String, Arc<Semaphore>>>,
    user_max: usize,
    idle_max: Duration,
    tasks: Group,
}

/// One of a user's tunnels, released when dropped.
pub(crate) struct TunnelPermit {
    _user: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Tunnels {
    /// No tunnel yet. `outgoing_max`: how many connections this process may open besides those of its
    /// clients. `tasks` is where they belong.
    pub(crate) fn new(outgoing_max: usize, tasks: Group) -> Self {
        let all = outgoing_max.min(TUNNELS_MAX);
        let user_max = USER_TUNNELS_MAX.min(all / USERS_MIN).max(1);
        let all = Arc::new(Semaphore::new(all));
        Self { all, users: Mutex::default(), user_max, idle_max: IDLE_MAX, tasks }
    }

    /// A place for one more tunnel of a user.
    ///
    /// # Errors
    /// 429 with Retry-After.
    pub(crate) fn enter(&self, user: &str) -> Result<TunnelPermit, Failure> {
        let too_many = |_| {
            let why = "too many exec, attach, port-forward and log requests are open, please close some or try again later";
            Failure::too_many_requests(why, RETRY_AFTER_S)
        };
        let own = self.user(user).try_acquire_owned().map_err(too_many)?;
        let all = self.all.clone().try_acquire_owned().map_err(too_many)?;
        Ok(TunnelPermit { _user: own, _all: all })
    }

    fn user(&self, user: &str) -> Arc<Semaphore> {
        let mut users = self.users.lock();
        if let Some(known) = users.get(user) {
            return known.clone();
        }
        if users.len() >= USERS_REMEMBERED {
            // Each tunnel has another handle.
            users.retain(|_, own| Arc::strong_count(own) > 1);
        }
        let new = Arc::new(Semaphore::new(self.user_max));
        users.insert(user.to_owned(), new.clone());
        new
    }

    /// Copies between two streams once both are open, until both have ended or are idle.
    pub(crate) fn pipe<A, B>(
        &self,
        permit: TunnelPermit,
        streams: impl Future<Output = Option<(A, B)>> + Send + 'static,
    ) where
        A: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let idle_max = self.idle_max;
        self.tasks.spawn(async move {
            let _permit = permit;
            if let Some((client, kubelet)) = streams.await {
                copy(client, kubelet, idle_max).await;
            }
        });
    }

    /// A body that forwards a kubelet's response. It fails, and does not end, if it is idle for too long or the
    /// server stops: its client must not take it for complete.
    pub(crate) fn pass_on<B>(&self, permit: TunnelPermit, body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let (pieces, taken) = mpsc::channel(CHUNKS_MAX);
        let (idle_max, stop) = (self.idle_max, self.tasks.stop().clone());
        self.tasks.spawn_to_end(async move {
            let _permit = permit;
            let last_chunk = pieces.clone().reserve_owned().await;
            let broken = tokio::select! {
                () = pieces.closed() => None,
                broken = forward(body, &pieces, idle_max) => broken,
                () = stop.cancelled() => Some("the server is shutting down"),
            };
            if let (Some(why), Ok(last_chunk)) = (broken, last_chunk) {
                last_chunk.send(Err(io::Error::other(why)));
            }
        });
        let frames = stream::unfold(taken, |mut taken| async move {
            let piece = taken.recv().await?;
            Some((piece, taken))
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

/// Forwards a body to its end. Returns why it stopped before.
async fn forward<B>(
    mut body: B,
    pieces: &mpsc::Sender<io::Result<Frame<Bytes>>>,
    idle_max: Duration,
) -> Option<&'static str>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    loop {
        let pass = async {
            let Some(frame) = body.frame().await else { return false };
            pieces.send(frame.map_err(io::Error::other)).await.is_ok()
        };
        match tokio::time::timeout(idle_max, pass).await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(_) => return Some("the tunnel was idle for too long"),
        }
    }
}

/// Copies both ways until both have ended, or nothing has passed for so long.
async fn copy<A, B>(client: A, kubelet: B, idle_max: Duration)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let passed = Arc::new(LastPassed::new());
    let mut client = Watched { stream: client, passed: passed.clone() };
    let mut kubelet = Watched { stream: kubelet, passed: passed.clone() };
    let idle = async {
        loop {
            let due = passed.at() + idle_max;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    };
    tokio::select! {
        // How it ended is between the two.
        _ = tokio::io::copy_bidirectional(&mut client, &mut kubelet) => {}
        () = idle => tracing::debug!("an idle tunnel was closed"),
    }
}

/// When a byte last passed.
struct LastPassed {
    began: Instant,
    /// Milliseconds after that.
    after_ms: AtomicU64,
}

impl LastPassed {
    fn new() -> Self {
        Self { began: Instant::now(), after_ms: AtomicU64::new(0) }
    }

    fn note(&self) {
        let after = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.after_ms.store(after, Ordering::Relaxed);
    }

    fn at(&self) -> Instant {
        self.began + Duration::from_millis(self.after_ms.load(Ordering::Relaxed))
    }
}

/// A stream that notes when something was written to it: what was read and cannot be written on has not
/// passed.
struct Watched<S> {
    stream: S,
    passed: Arc<LastPassed>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.passed.note();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::tasks::Tasks;

    #[test]
    fn one_user_has_a_part_of_the_tunnels_and_another_user_still_gets_one() {
        let tunnels = Tunnels::new(16, Group::default());
        let mut held = Vec::new();
        while let Ok(permit) = tunnels.enter("flood") {
            held.push(permit);
        }
        assert_eq!(held.len(), 4);
        assert!(tunnels.enter("calm").is_ok());
        held.pop();
        assert!(tunnels.enter("flood").is_ok());
    }

    #[test]
    fn all_users_together_have_no_more_than_there_are_descriptors_for() {
        let tunnels = Tunnels::new(16, Group::default());
        let held: Vec<_> = (0..64).map_while(|n| tunnels.enter(&n.to_string()).ok()).collect();
        assert_eq!(held.len(), 16);
        let refused = tunnels.enter("late").err().unwrap();
        assert_eq!((refused.code, refused.reason.as_str()), (429, "TooManyRequests"));
        assert!(refused.details.unwrap().retry_after_seconds.is_some());
    }

    #[test]
    fn users_without_tunnels_are_forgotten() {
        let tunnels = Tunnels::new(16, Group::default());
        let held = tunnels.enter("holds").unwrap();
        for n in 0..10 * USERS_REMEMBERED {
            drop(tunnels.enter(&n.to_string()).unwrap());
        }
        assert!(tunnels.users.lock().len() <= USERS_REMEMBERED);
        assert!(tunnels.users.lock().contains_key("holds"));
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_through_which_nothing_passes_is_closed() {
        let (mut client, inner) = tokio::io::duplex(64);
        let (outer, mut kubelet) = tokio::io::duplex(64);
        let copying = tokio::spawn(copy(inner, outer, IDLE_MAX));
        // One byte each time, just before it is due.
        for _ in 0..3 {
            tokio::time::sleep(IDLE_MAX - Duration::from_secs(1)).await;
            kubelet.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
        }
        assert!(!copying.is_finished());
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        copying.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_whose_client_reads_nothing_is_closed_however_much_comes() {
        let (_client, inner) = tokio::io::duplex(64);
        let (outer, mut kubelet) = tokio::io::duplex(64);
        let copying = tokio::spawn(copy(inner, outer, IDLE_MAX));
        while kubelet.write_all(&[b'x'; 64]).await.is_ok() {}
        copying.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_breaks_off_when_it_is_idle_and_when_the_server_ends() {
        let quiet = || {
            let first = stream::iter([Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x")))]);
            StreamBody::new(Box::pin(futures::StreamExt::chain(first, stream::pending())))
        };
        for ends in [false, true] {
            let tasks = Tasks::default();
            let tunnels = Tunnels::new(16, tasks.serving.clone());
            let mut body = tunnels.pass_on(tunnels.enter("u").unwrap(), quiet());
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
            if ends {
                tasks.end().await;
            }
            assert!(body.frame().await.unwrap().is_err());
            assert!(body.frame().await.is_none());
            assert_eq!(tunnels.all.available_permits(), 16);
        }
    }

    #[tokio::test]
    async fn a_log_whose_client_disconnects_frees_its_place() {
        let tasks = Tasks::default();
        let tunnels = Tunnels::new(16, tasks.serving.clone());
        let never = StreamBody::new(stream::pending::<io::Result<Frame<Bytes>>>());
        drop(tunnels.pass_on(tunnels.enter("u").unwrap(), never));
        let all = tunnels.all.clone().acquire_many_owned(16);
        drop(tokio::time::timeout(Duration::from_secs(60), all).await.unwrap().unwrap());
    }
}
