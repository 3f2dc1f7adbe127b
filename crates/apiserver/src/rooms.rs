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
const USER_STATES_MAX: u32 = 20;
/// Slots that a state of the past takes, which only this response has in memory.
const PAST_SLOTS: u32 = 10;
/// How long a large body waits for room, and such an answer for its slot.
const ROOM_WAIT: Duration = Duration::from_secs(10);
/// Users remembered; those without bodies are forgotten beyond this.
const USERS_REMEMBERED: usize = 1024;

/// What all users have.
pub(crate) struct Rooms {
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    users: Mutex<HashMap<String, User>>,
    wait: Duration,
}

/// What one user has.
#[derive(Clone)]
struct User {
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    states: Arc<Semaphore>,
}

/// Room for a body or an answer, given back when dropped.
pub(crate) struct Room {
    _user: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// The slots of an answer that begins with the state of a large collection, given back when dropped.
pub(crate) type StateSlot = OwnedSemaphorePermit;

/// Bytes that hold room until the last of them is sent; short ones need none.
pub(crate) fn holding(bytes: Bytes, room: Option<Room>) -> Bytes {
    let Some(room) = room.filter(|_| bytes.len() > COPY_BYTES_MAX) else { return bytes };

    struct Held(Bytes, #[expect(dead_code, reason = "held, not read")] Room);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    Bytes::from_owner(Held(bytes, room))
}

impl Default for Rooms {
    fn default() -> Self {
        Self::waiting(ROOM_WAIT)
    }
}

impl Rooms {
    fn waiting(wait: Duration) -> Self {
        Self {
            bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX)),
            answers: Arc::new(Semaphore::new(RESPONSES_KIB_MAX)),
            users: Mutex::default(),
            wait,
        }
    }

    /// Room for a large body, or for what is kept of a request for as long as it lives.
    ///
    /// # Errors
    /// 429 where it does not get it in time.
    pub(crate) async fn for_body(&self, user: &str, bytes: usize) -> Result<Room, Failure> {
        let room = rooms(self.user(user).bodies, self.bodies.clone(), bytes);
        tokio::time::timeout(self.wait, room).await.map_err(|_| too_many_requests())
    }

    /// Room for bytes that are made for one client. What would take more than a user has waits until
    /// the user has nothing else.
    ///
    /// # Errors
    /// 429.
    pub(crate) async fn for_answer(&self, user: &str, bytes: usize) -> Result<Room, Failure> {
        let room = tokio::time::timeout(self.wait, self.for_next_answer(user, bytes)).await;
        room.map_err(|_| too_many_requests())
    }

    /// As [`Rooms::for_answer`], for an answer that has begun: it is sent as there is room, or its
    /// client gives up.
    pub(crate) async fn for_next_answer(&self, user: &str, bytes: usize) -> Room {
        let most = USER_RESPONSES_KIB_MAX * 1024;
        rooms(self.user(user).answers, self.answers.clone(), bytes.min(most)).await
    }

    /// As [`Rooms::for_answer`], now or not.
    pub(crate) fn free_for_answer(&self, user: &str, bytes: usize) -> Option<Room> {
        let kib = kib(bytes);
        let own = self.user(user).answers.try_acquire_many_owned(kib).ok()?;
        let all = self.answers.clone().try_acquire_many_owned(kib).ok()?;
        Some(Room { _user: own, _all: all })
    }

    /// A slot for an answer that begins with the state of a large collection, of the present or of
    /// the past.
    ///
    /// # Errors
    /// 429.
    pub(crate) async fn for_state(&self, user: &str, is_past: bool) -> Result<StateSlot, Failure> {
        let slots = if is_past { PAST_SLOTS } else { 1 };
        let slot = self.user(user).states.acquire_many_owned(slots);
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
                [&user.bodies, &user.answers, &user.states]
                    .into_iter()
                    .any(|shared| Arc::strong_count(shared) > 1)
            });
        }
        let new = User {
            bodies: Arc::new(Semaphore::new(USER_BODIES_KIB_MAX)),
            answers: Arc::new(Semaphore::new(USER_RESPONSES_KIB_MAX)),
            states: Arc::new(Semaphore::new(USER_STATES_MAX as usize)),
        };
        users.insert(user.to_owned(), new.clone());
        new
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// Room of a user's, then of all.
async fn rooms(own: Arc<Semaphore>, all: Arc<Semaphore>, bytes: usize) -> Room {
    const OPEN: &str = "it is never closed";
    let user = own.acquire_many_owned(kib(bytes)).await.expect(OPEN);
    let all = all.acquire_many_owned(kib(bytes)).await.expect(OPEN);
    Room { _user: user, _all: all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BODY_BYTES_MAX;

    #[tokio::test]
    async fn bodies_of_one_user_do_not_take_the_room_of_another() {
        let rooms = Rooms::waiting(Duration::from_millis(1));
        let mut held = Vec::new();
        while let Ok(room) = rooms.for_body("flood", BODY_BYTES_MAX).await {
            held.push(room);
        }
        assert_eq!(held.len(), USER_BODIES_KIB_MAX * 1024 / BODY_BYTES_MAX);
        assert!(rooms.for_body("calm", BODY_BYTES_MAX).await.is_ok());
        held.pop();
        assert!(rooms.for_body("flood", BODY_BYTES_MAX).await.is_ok());
    }
}
