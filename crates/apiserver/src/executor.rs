//! Where a request's work runs: on the threads that serve connections, or, if it takes the processor
//! for long, on a few threads of its own.
//!
//! Work is heavy by its bytes: of the body and of the stored object that it is about.
//! Heavy work waits for a worker ([`FairQueue`]), user by user, so that a user who floods waits behind
//! their own work only. Light work never waits for heavy work: a lease, a node's status, a health check goes past
//! any queue, and a large body sent to a lease's path is heavy all the same. A node's write of its own
//! status is light up to a bound of its own, for it grows with the node's images.
//!
//! Bodies are bounded before they are read: by the [`MemoryPool`] of their user, and by how long a client may
//! take to send one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use coffer_net::Incoming;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::body::{BODY_BYTES_MAX, Payload};
use crate::deadline::REQUEST_TIMEOUT_MAX;
use crate::failure::too_many_requests;
use crate::fair_queue::{self, FairQueue};
use crate::identity::Identity;
use crate::memory_pool::MemoryPool;
use crate::request::{ResourcePath, Verb};

/// Work on more bytes than this is heavy.
pub(crate) const HEAVY_BYTES: usize = 64 * 1024;
/// What a node may write of its own status and stay light.
const NODE_STATUS_BYTES_MAX: usize = 256 * 1024;
/// How long a client has to send a body, however fast it sends.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);
/// After this time a body must have come at the least rate, and go on to.
const SLOW_START: Duration = Duration::from_secs(10);
/// Bytes a second that a client must send of a large body.
const RATE_MIN: u64 = 32 * 1024;
/// The stack of a thread for heavy work: unoptimised builds keep each step of reading a large pod on it.
const WORKER_STACK_BYTES: usize = 8 << 20;
/// How long an idle thread for heavy work is kept.
const IDLE_WORKER_MAX: Duration = Duration::from_secs(2);

/// Runs requests' work, with bounds on each user's part of the processor and of memory.
pub(crate) struct Executor {
    queue: Arc<FairQueue>,
    workers: Workers,
    pub(crate) memory: Arc<MemoryPool>,
}

/// The threads that do heavy work: as many as the queue has workers. Each keeps for a while what its work has
/// freed, so that more threads would take many times the memory. What the work hands
/// on to other tasks, such as the store's, does not run here.
struct Workers(Option<tokio::runtime::Runtime>);

impl Workers {
    fn new(threads: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(fair_queue::workers(threads))
            .thread_keep_alive(IDLE_WORKER_MAX)
            .thread_stack_size(WORKER_STACK_BYTES)
            .thread_name("coffer-heavy")
            .build();
        Self(Some(runtime.expect("a runtime without drivers asks nothing of the system")))
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.0.as_ref().expect("it is taken only when dropped").spawn_blocking(work)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The last owner may be a task, which must not wait for what is under way.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Default for Executor {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_workers(cores)
    }
}

impl Executor {
    fn with_workers(workers: usize) -> Self {
        Self {
            queue: FairQueue::with_workers(workers),
            workers: Workers::new(workers),
            memory: Arc::default(),
        }
    }

    /// Runs a user's work on so many bytes: in this task, or, if it is heavy, on a worker once one is free.
    ///
    /// # Errors
    /// The work's own, and 429 where the queue is full.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        user: &str,
        bytes: usize,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        if bytes <= HEAVY_BYTES {
            return work.await;
        }
        let worker = self.queue.acquire(user).await.map_err(|_| too_many_requests())?;
        let runtime = tokio::runtime::Handle::current();
        let done = self.workers.spawn(move || {
            let _worker = worker;
            // The caller may be dropped meanwhile; work that has begun is finished here, within its own time.
            runtime.block_on(async { tokio::time::timeout(REQUEST_TIMEOUT_MAX, work).await })
        });
        match done.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(crate::deadline::exceeded()),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(crate::failure::shutting_down()),
        }
    }

    /// Reads a request's body. An error is part of the payload.
    pub(crate) async fn read_body(&self, user: &str, mut body: Incoming) -> Payload {
        if body.is_end_stream() {
            return Payload::empty();
        }
        let announced = body.size_hint().lower();
        if announced > BODY_BYTES_MAX as u64 {
            return Payload::refused(Failure::too_large(BODY_BYTES_MAX));
        }
        let read = tokio::time::timeout(BODY_TIME_MAX, self.read(user, &mut body, announced));
        match read.await.unwrap_or_else(|_| Err(BodyError::Slow)) {
            Ok(payload) => payload,
            Err(BodyError::TooLarge) => Payload::refused(Failure::too_large(BODY_BYTES_MAX)),
            Err(BodyError::Slow) => Payload::refused(too_slow()),
            Err(BodyError::Other(failure)) => Payload::refused(failure),
        }
    }

    async fn read(
        &self,
        user: &str,
        body: &mut Incoming,
        announced: u64,
    ) -> Result<Payload, BodyError> {
        let announced = usize::try_from(announced).unwrap_or(BODY_BYTES_MAX);
        let exact = body.size_hint().exact().is_some();
        // A body without a length counts as small until it is not, and then as large as bodies may be.
        let mut capacity = if exact { announced } else { HEAVY_BYTES };
        let mut reservation = None;
        if capacity > HEAVY_BYTES {
            reservation =
                Some(self.memory.reserve_body(user, capacity).await.map_err(BodyError::Other)?);
        }
        // Room for all of it from the beginning: a vector that grows leaves copies of the payload behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(if exact { announced } else { 4096 }));
        let began = Instant::now();
        loop {
            let slow =
                began + SLOW_START.max(Duration::from_secs(bytes.len() as u64 / RATE_MIN + 1));
            let frame = match reservation {
                // A small body may come as slowly as it does.
                None => body.frame().await,
                Some(_) => tokio::time::timeout_at(slow, body.frame())
                    .await
                    .map_err(|_| BodyError::Slow)?,
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| {
                BodyError::Other(Failure::bad_request("the request body ended early"))
            })?;
            let Ok(mut data) = frame.into_data() else { continue };
            let length = bytes.len() + data.remaining();
            if length > BODY_BYTES_MAX {
                return Err(BodyError::TooLarge);
            }
            if length > capacity {
                capacity = BODY_BYTES_MAX;
                reservation =
                    Some(self.memory.reserve_body(user, capacity).await.map_err(BodyError::Other)?);
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                let chunk_length = chunk.len();
                append(&mut bytes, chunk, capacity);
                data.advance(chunk_length);
            }
        }
        Ok(Payload::read(bytes, reservation))
    }
}

/// Why a body was not read to its end.
enum BodyError {
    TooLarge,
    Slow,
    Other(Failure),
}

/// Adds to a vector that grows, without leaving a copy of what was in it behind.
fn append(bytes: &mut Zeroizing<Vec<u8>>, chunk: &[u8], capacity: usize) {
    let needed = bytes.len() + chunk.len();
    if needed > bytes.capacity() {
        let grown_capacity = needed.max(bytes.capacity() * 2).min(capacity.max(needed));
        let mut grown = Zeroizing::new(Vec::with_capacity(grown_capacity));
        grown.extend_from_slice(bytes);
        *bytes = grown;
    }
    bytes.extend_from_slice(chunk);
}

/// Whether the request is a node's write of its own status, and of a size that a node's can have.
pub(crate) fn is_own_status(
    identity: &Identity,
    verb: Verb,
    path: &ResourcePath,
    bytes: usize,
) -> bool {
    matches!(verb, Verb::Update | Verb::Patch)
        && (&*path.group, &*path.resource, &*path.subresource) == ("", "nodes", "status")
        && identity.node().is_some_and(|node| node == path.name)
        && bytes <= NODE_STATUS_BYTES_MAX
}

/// 408: the body came too slowly.
fn too_slow() -> Failure {
    Failure::with_code(408, Reason::Timeout, "the request body was sent too slowly")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn light_work_does_not_wait_for_heavy_work_that_holds_every_worker() {
        let executor = Executor::with_workers(2);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(parking_lot::Mutex::new(held));
        let executor = Arc::new(executor);
        let mut heavy = Vec::new();
        for user in ["a", "b", "c"] {
            let (executor, held) = (executor.clone(), held.clone());
            heavy.push(tokio::spawn(async move {
                executor
                    .run(user, HEAVY_BYTES + 1, async move {
                        // Not a wait that yields: the processor is taken.
                        held.lock().recv().unwrap();
                        Ok(())
                    })
                    .await
            }));
        }
        for user in ["a", "b", "c", "d"] {
            let light = executor.run(user, HEAVY_BYTES, async move { Ok(user) }).await;
            assert_eq!(light.unwrap(), user);
        }
        for _ in 0..3 {
            release.send(()).unwrap();
        }
        for one in heavy {
            one.await.unwrap().unwrap();
        }
    }

    #[test]
    fn only_a_nodes_own_status_is_light_and_only_up_to_its_bound() {
        let node = |name: &str| Identity {
            user: format!("system:node:{name}"),
            groups: vec!["system:nodes".to_owned()],
            ..Identity::default()
        };
        let path = |name: &str, subresource: &str| ResourcePath {
            resource: "nodes".to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            ..ResourcePath::default()
        };
        let status = path("n", "status");
        let own = |identity: &Identity, path: &ResourcePath, bytes| {
            is_own_status(identity, Verb::Patch, path, bytes)
        };
        assert!(own(&node("n"), &status, NODE_STATUS_BYTES_MAX));
        assert!(!own(&node("n"), &status, NODE_STATUS_BYTES_MAX + 1));
        assert!(!own(&node("m"), &status, 1));
        assert!(!own(&node("n"), &path("n", ""), 1));
        let user = Identity { user: "system:node:n".to_owned(), ..Identity::default() };
        assert!(!own(&user, &status, 1));
    }
}
