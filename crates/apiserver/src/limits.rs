//! Fairness: how many requests one client, and all together, may have under way.
//!
//! A request over the limit waits a bounded time in a bounded queue, then gets 429. Watches, exec
//! and the other tunnels are long by nature and do not count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_api::status::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::authn::Identity;
use crate::request::{RequestInfo, Verb};

/// Requests of one client under way at a time.
const CLIENT_INFLIGHT_MAX: usize = 200;
/// Requests of one client that wait for a place.
const CLIENT_WAITING_MAX: usize = 800;
/// Requests of all clients under way at a time.
const INFLIGHT_MAX: usize = 600;
/// How long a request waits for a place.
const WAIT: Duration = Duration::from_secs(10);
/// When a refused client should come back, in seconds.
const RETRY_AFTER_S: i32 = 1;
/// Clients remembered; idle ones are forgotten beyond this.
const CLIENTS_REMEMBERED: usize = 1024;

/// Places for requests.
pub(crate) struct Limits {
    all: Arc<Semaphore>,
    clients: Mutex<HashMap<String, Client>>,
    wait: Duration,
}

#[derive(Clone)]
struct Client {
    running: Arc<Semaphore>,
    /// Running and waiting together.
    present: Arc<Semaphore>,
}

/// A place, given back when dropped: with the last byte of the answer.
pub(crate) struct Place {
    _places: [OwnedSemaphorePermit; 3],
}

impl Default for Limits {
    fn default() -> Self {
        Self::waiting(WAIT)
    }
}

impl Limits {
    fn waiting(wait: Duration) -> Self {
        let all = Arc::new(Semaphore::new(INFLIGHT_MAX));
        Self { all, clients: Mutex::default(), wait }
    }

    /// A place for a request; `None` for one that does not count.
    ///
    /// # Errors
    /// 429 with Retry-After.
    pub(crate) async fn enter(
        &self,
        identity: &Identity,
        info: &RequestInfo,
    ) -> Result<Option<Place>, Failure> {
        if !counts(info) {
            return Ok(None);
        }
        let client = self.client(&identity.user);
        let present = client.present.try_acquire_owned().map_err(|_| too_many())?;
        let wait = async {
            let running = client.running.acquire_owned().await;
            (running, self.all.clone().acquire_owned().await)
        };
        let (running, all) = tokio::time::timeout(self.wait, wait).await.map_err(|_| too_many())?;
        let never = "the semaphores are never closed";
        Ok(Some(Place { _places: [present, running.expect(never), all.expect(never)] }))
    }

    fn client(&self, user: &str) -> Client {
        let mut clients = self.clients.lock().expect("no panic happens under this lock");
        if clients.len() >= CLIENTS_REMEMBERED && !clients.contains_key(user) {
            clients.retain(|_, client| Arc::strong_count(&client.present) > 1);
        }
        let new = || Client {
            running: Arc::new(Semaphore::new(CLIENT_INFLIGHT_MAX)),
            present: Arc::new(Semaphore::new(CLIENT_INFLIGHT_MAX + CLIENT_WAITING_MAX)),
        };
        if let Some(known) = clients.get(user) {
            return known.clone();
        }
        clients.entry(user.to_owned()).or_insert_with(new).clone()
    }
}

fn counts(info: &RequestInfo) -> bool {
    match &info.resource {
        None => false,
        Some((Verb::Watch, _)) => false,
        Some((_, path)) => {
            !matches!(path.subresource.as_str(), "exec" | "attach" | "portforward" | "log")
        }
    }
}

fn too_many() -> Failure {
    Failure::too_many_requests("Too many requests, please try again later.", RETRY_AFTER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(uri: &str) -> RequestInfo {
        RequestInfo::parse(&http::Method::GET, &uri.parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn one_clients_flood_is_refused_and_another_client_still_enters() {
        let limits = Limits::waiting(Duration::from_millis(1));
        let info = get("/api/v1/secrets");
        let (mut flood, mut calm) = (Identity::anonymous(), Identity::anonymous());
        flood.user = "flood".to_owned();
        calm.user = "calm".to_owned();
        let mut held = Vec::new();
        for _ in 0..CLIENT_INFLIGHT_MAX {
            held.push(limits.enter(&flood, &info).await.unwrap());
        }
        let refused = limits.enter(&flood, &info).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        assert!(limits.enter(&calm, &info).await.unwrap().is_some());
        held.pop();
        assert!(limits.enter(&flood, &info).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn watches_and_tunnels_do_not_count() {
        let limits = Limits::default();
        let caller = Identity::anonymous();
        for uri in ["/api/v1/pods?watch=1", "/api/v1/namespaces/n/pods/p/exec", "/healthz"] {
            assert!(limits.enter(&caller, &get(uri)).await.unwrap().is_none(), "{uri}");
        }
    }
}
