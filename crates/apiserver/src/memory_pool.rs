//! Limits of memory: how many bytes of bodies, and of responses that are made for one client, one user
//! and all users may have at a time.
//!
//! Bodies hold theirs until their request has its response, responses until they are sent; neither waits
//! for the other. Responses that are the cache's own bytes take nothing, but those with a large collection
//! keep that as it was, and have slots of which each user has a few.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffer_api::status::Failure;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::too_many_requests;

/// Bytes of a response that are longer than this are not copied into a frame with others.
pub(crate) const COPY_BYTES_MAX: usize = 8 * 1024;
/// Bytes of large bodies that one user may have in memory, from the first byte until its request has
/// its response.
const USER_BODIES_KIB_MAX: usize = 12 * 1024;
/// The same of all users.
const BODIES_KIB_MAX: usize = 64 * 1024;
/// Bytes of large responses that are made for one user, until they are sent.
const USER_RESPONSES_KIB_MAX: usize = 12 * 1024;
/// The same of all users.
const RESPONSES_KIB_MAX: usize = 64 * 1024;
/// Responses to one user, at a time, that begin with the state of a large collection: lists, and watches
/// until they have sent it.
const USER_COLLECTIONS_MAX: u32 = 20;
/// Slots that a state of the past takes, which is in memory for this response only.
const PAST_SLOTS: u32 = 10;
/// How long a large body waits for memory, and such a response for its slot.
const RESERVATION_WAIT: Duration = Duration::from_secs(10);
/// Users remembered; those without bodies are forgotten beyond this.
const USERS_REMEMBERED: usize = 1024;

/// The memory that all users have.
pub(crate) struct MemoryPool {
    bodies: Arc<Semaphore>,
    responses: Arc<Semaphore>,
    users: Mutex<HashMap<String, User>>,
    wait: Duration,
}

/// The memory that one user has.
#[derive(Clone)]
struct User {
    bodies: Arc<Semaphore>,
    responses: Arc<Semaphore>,
    collections: Arc<Semaphore>,
}

/// Memory for a body or a response, released when dropped.
pub(crate) struct MemoryReservation {
    _user: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// The slots of a response that begins with the state of a large collection, released when dropped.
pub(crate) type CollectionSlot = OwnedSemaphorePermit;

/// Bytes that hold their reservation until the last of them is sent; short ones need none.
pub(crate) fn with_reservation(bytes: Bytes, reservation: Option<MemoryReservation>) -> Bytes {
    let Some(reservation) = reservation.filter(|_| bytes.len() > COPY_BYTES_MAX) else {
        return bytes;
    };

    struct Held(Bytes, #[expect(dead_code, reason = "held, not read")] MemoryReservation);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    Bytes::from_owner(Held(bytes, reservation))
}

impl Default for MemoryPool {
    fn default() -> Self {
        Self::waiting(RESERVATION_WAIT)
    }
}

impl MemoryPool {
    fn waiting(wait: Duration) -> Self {
        Self {
            bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX)),
            responses: Arc::new(Semaphore::new(RESPONSES_KIB_MAX)),
            users: Mutex::default(),
            wait,
        }
    }

    /// Memory for a large body, or for what is kept of a request for as long as it lives.
    ///
    /// # Errors
    /// 429 where it is not free in time.
    pub(crate) async fn reserve_body(
        &self,
        user: &str,
        bytes: usize,
    ) -> Result<MemoryReservation, Failure> {
        let reservation = reserve(self.user(user).bodies, self.bodies.clone(), bytes);
        tokio::time::timeout(self.wait, reservation).await.map_err(|_| too_many_requests())
    }

    /// Memory for bytes that are made for one client. What would take more than a user has waits until
    /// the user has nothing else.
    ///
    /// # Errors
    /// 429.
    pub(crate) async fn reserve_response(
        &self,
        user: &str,
        bytes: usize,
    ) -> Result<MemoryReservation, Failure> {
        let reservation = tokio::time::timeout(self.wait, self.reserve_chunk(user, bytes)).await;
        reservation.map_err(|_| too_many_requests())
    }

    /// As [`MemoryPool::reserve_response`], for a response that has begun: it waits as long as its
    /// client does.
    pub(crate) async fn reserve_chunk(&self, user: &str, bytes: usize) -> MemoryReservation {
        let most = USER_RESPONSES_KIB_MAX * 1024;
        reserve(self.user(user).responses, self.responses.clone(), bytes.min(most)).await
    }

    /// As [`MemoryPool::reserve_response`]; `None` where it is not free now.
    pub(crate) fn try_reserve_response(
        &self,
        user: &str,
        bytes: usize,
    ) -> Option<MemoryReservation> {
        let kib = kib(bytes);
        let own = self.user(user).responses.try_acquire_many_owned(kib).ok()?;
        let all = self.responses.clone().try_acquire_many_owned(kib).ok()?;
        Some(MemoryReservation { _user: own, _all: all })
    }

    /// A slot for a response that begins with the state of a large collection, of the present or of
    /// the past.
    ///
    /// # Errors
    /// 429.
    pub(crate) async fn collection_slot(
        &self,
        user: &str,
        is_past: bool,
    ) -> Result<CollectionSlot, Failure> {
        let slots = if is_past { PAST_SLOTS } else { 1 };
        let slot = self.user(user).collections.acquire_many_owned(slots);
        match tokio::time::timeout(self.wait, slot).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(too_many_requests()),
        }
    }

    fn user(&self, user: &str) -> User {
        let mut users = self.users.lock();
        if let Some(known) = users.get(user) {
            return known.clone();
        }
        if users.len() >= USERS_REMEMBERED {
            // What holds or awaits something has another handle.
            users.retain(|_, user| {
                [&user.bodies, &user.responses, &user.collections]
                    .into_iter()
                    .any(|shared| Arc::strong_count(shared) > 1)
            });
        }
        let new = User {
            bodies: Arc::new(Semaphore::new(USER_BODIES_KIB_MAX)),
            responses: Arc::new(Semaphore::new(USER_RESPONSES_KIB_MAX)),
            collections: Arc::new(Semaphore::new(USER_COLLECTIONS_MAX as usize)),
        };
        users.insert(user.to_owned(), new.clone());
        new
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// Memory of the user's, then of all users'.
async fn reserve(own: Arc<Semaphore>, all: Arc<Semaphore>, bytes: usize) -> MemoryReservation {
    const OPEN: &str = "it is never closed";
    let user = own.acquire_many_owned(kib(bytes)).await.expect(OPEN);
    let all = all.acquire_many_owned(kib(bytes)).await.expect(OPEN);
    MemoryReservation { _user: user, _all: all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BODY_BYTES_MAX;

    #[tokio::test]
    async fn bodies_of_one_user_do_not_take_the_memory_of_another() {
        let memory = MemoryPool::waiting(Duration::from_millis(1));
        let mut held = Vec::new();
        while let Ok(reservation) = memory.reserve_body("flood", BODY_BYTES_MAX).await {
            held.push(reservation);
        }
        assert_eq!(held.len(), USER_BODIES_KIB_MAX * 1024 / BODY_BYTES_MAX);
        assert!(memory.reserve_body("calm", BODY_BYTES_MAX).await.is_ok());
        held.pop();
        assert!(memory.reserve_body("flood", BODY_BYTES_MAX).await.is_ok());
    }
}
