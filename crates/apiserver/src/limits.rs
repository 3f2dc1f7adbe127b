//! Fairness: how many requests one client, and all together, may have under way.
//!
//! A request over the limit waits a bounded time in a bounded queue, then gets 429. Watches, exec
//! and the other tunnels are long by nature and do not count: watches have a limit of their own here,
//! tunnels in `tunnels.rs`.
//!
//! Leases and nodes' status have slots of their own besides those of all clients, so that clients who
//! fill these cannot make a node look dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coffer_api::status::Failure;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::too_many_requests;
use crate::identity::{Identity, MASTERS};
use crate::request::{RequestInfo, Verb};

/// Requests of one client under way at a time.
const CLIENT_INFLIGHT_MAX: usize = 200;
/// Requests of one client that wait for a place.
const CLIENT_WAITING_MAX: usize = 800;
/// Requests of all clients under way at a time.
const INFLIGHT_MAX: usize = 600;
/// Requests of one client under way that count for itself alone: when a few clients have taken the
/// places of all, with bodies that they do not send, say, another still has these.
const CLIENT_FIRST: usize = 10;
/// Requests for leases and nodes' status under way at a time.
const VITAL_INFLIGHT_MAX: usize = 400;
/// Of these, one client's.
const CLIENT_VITAL_INFLIGHT_MAX: usize = 20;
/// Watches of one client under way at a time. `system:masters` is exempt, as it is from upstream's
/// priority and fairness.
const CLIENT_WATCHES_MAX: usize = 1000;
/// How long a request waits for a place.
const WAIT: Duration = Duration::from_secs(10);
/// Clients remembered; idle ones are forgotten beyond this.
const CLIENTS_REMEMBERED: usize = 1024;

/// Slots for requests.
pub(crate) struct Limits {
    all: Arc<Semaphore>,
    vital: Arc<Semaphore>,
    clients: Mutex<HashMap<String, Client>>,
    wait: Duration,
}

#[derive(Clone)]
struct Client {
    running: Arc<Semaphore>,
    /// Running and waiting together.
    present: Arc<Semaphore>,
    /// Running that take no place of all clients'.
    first: Arc<Semaphore>,
    vital: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

/// A slot, released when dropped: with the last byte of the response.
pub(crate) struct Slot {
    _slots: [Option<OwnedSemaphorePermit>; 3],
}

impl Default for Limits {
    fn default() -> Self {
        Self::waiting(WAIT)
    }
}

impl Limits {
    fn waiting(wait: Duration) -> Self {
        let all = Arc::new(Semaphore::new(INFLIGHT_MAX));
        let vital = Arc::new(Semaphore::new(VITAL_INFLIGHT_MAX));
        Self { all, vital, clients: Mutex::default(), wait }
    }

    /// A slot for a request; `None` for one that does not count.
    ///
    /// # Errors
    /// 429 with Retry-After.
    pub(crate) async fn enter(
        &self,
        identity: &Identity,
        info: &RequestInfo,
    ) -> Result<Option<Slot>, Failure> {
        if info.resource.as_ref().is_some_and(|(verb, _)| *verb == Verb::Watch) {
            return self.watch(identity);
        }
        if !counts(info) {
            return Ok(None);
        }
        let client = self.client(&identity.user);
        let present = client.present.try_acquire_owned().map_err(|_| too_many_requests())?;
        let (own, all) = if is_vital(identity, info) {
            (client.vital, self.vital.clone())
        } else {
            (client.running, self.all.clone())
        };
        if let (Ok(first), Ok(running)) =
            (client.first.try_acquire_owned(), own.clone().try_acquire_owned())
        {
            return Ok(Some(Slot { _slots: [present, running, first].map(Some) }));
        }
        let wait = async {
            let running = own.acquire_owned().await;
            (running, all.acquire_owned().await)
        };
        let (running, all) =
            tokio::time::timeout(self.wait, wait).await.map_err(|_| too_many_requests())?;
        let never = "the semaphores are never closed";
        let places = [present, running.expect(never), all.expect(never)];
        Ok(Some(Slot { _slots: places.map(Some) }))
    }

    /// A slot for a watch, or 429 immediately.
    fn watch(&self, identity: &Identity) -> Result<Option<Slot>, Failure> {
        if identity.in_group(MASTERS) {
            return Ok(None);
        }
        let watches = self.client(&identity.user).watches;
        let place = watches.try_acquire_owned().map_err(|_| too_many_requests())?;
        Ok(Some(Slot { _slots: [Some(place), None, None] }))
    }

    fn client(&self, user: &str) -> Client {
        let mut clients = self.clients.lock();
        if clients.len() >= CLIENTS_REMEMBERED && !clients.contains_key(user) {
            clients.retain(|_, client| {
                Arc::strong_count(&client.present) + Arc::strong_count(&client.watches) > 2
            });
        }
        let new = || Client {
            running: Arc::new(Semaphore::new(CLIENT_INFLIGHT_MAX)),
            present: Arc::new(Semaphore::new(CLIENT_INFLIGHT_MAX + CLIENT_WAITING_MAX)),
            first: Arc::new(Semaphore::new(CLIENT_FIRST)),
            vital: Arc::new(Semaphore::new(CLIENT_VITAL_INFLIGHT_MAX)),
            watches: Arc::new(Semaphore::new(CLIENT_WATCHES_MAX)),
        };
        if let Some(known) = clients.get(user) {
            return known.clone();
        }
        clients.entry(user.to_owned()).or_insert_with(new).clone()
    }
}

fn counts(info: &RequestInfo) -> bool {
    info.resource.is_some() && !info.is_long_running()
}

/// Whether nodes count as dead, or leaders as lost, if this request is not served.
fn is_vital(identity: &Identity, info: &RequestInfo) -> bool {
    let Some((verb, path)) = &info.resource else { return false };
    let one = !path.name.is_empty() || *verb == Verb::Create;
    match (&*path.group, &*path.resource, &*path.subresource) {
        (coffer_api::well_known::api_group::COORDINATION, "leases", "") => {
            one && *verb != Verb::DeleteCollection
        }
        // Also what a node reads before it writes.
        ("", "nodes", "" | "status") => one && identity.node() == Some(&*path.name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use coffer_api::reason::Reason;

    use super::*;

    fn get(uri: &str) -> RequestInfo {
        RequestInfo::of_uri(&http::Method::GET, uri).unwrap()
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
        assert_eq!((refused.code, refused.reason), (429, Reason::TooManyRequests));
        assert!(limits.enter(&calm, &info).await.unwrap().is_some());
        held.pop();
        assert!(limits.enter(&flood, &info).await.unwrap().is_some());
    }

    fn user(name: &str) -> Identity {
        Identity { user: name.to_owned(), ..Identity::anonymous() }
    }

    #[tokio::test]
    async fn leases_and_nodes_pass_by_clients_that_have_taken_every_place() {
        let limits = Limits::waiting(Duration::from_millis(1));
        let mut held = Vec::new();
        let secrets = get("/api/v1/secrets");
        for client in 0..5 {
            while let Ok(place) = limits.enter(&user(&format!("flood-{client}")), &secrets).await {
                held.push(place);
            }
        }
        assert_eq!(held.len(), INFLIGHT_MAX + 5 * CLIENT_FIRST);
        assert!(limits.enter(&user("calm"), &secrets).await.is_ok(), "each has its first few");
        let node = Identity {
            user: "system:node:n".to_owned(),
            groups: vec!["system:nodes".to_owned()],
            ..Identity::default()
        };
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
        for uri in [lease, "/api/v1/nodes/n", "/api/v1/nodes/n/status"] {
            assert!(limits.enter(&node, &get(uri)).await.is_ok(), "{uri}");
        }
        // A client that fills the places of leases fills only its own.
        let mut leases = Vec::new();
        while let Ok(place) = limits.enter(&user("flood-0"), &get(lease)).await {
            leases.push(place);
        }
        assert!(leases.len() <= CLIENT_VITAL_INFLIGHT_MAX);
        assert!(limits.enter(&node, &get(lease)).await.is_ok());
    }

    #[tokio::test]
    async fn a_client_has_so_many_watches_and_no_more() {
        let limits = Limits::default();
        let watch = get("/api/v1/pods?watch=1");
        let mut held = Vec::new();
        for _ in 0..CLIENT_WATCHES_MAX {
            held.push(limits.enter(&user("a"), &watch).await.unwrap().unwrap());
        }
        let refused = limits.enter(&user("a"), &watch).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (429, Reason::TooManyRequests));
        assert!(limits.enter(&user("b"), &watch).await.unwrap().is_some());
        held.pop();
        assert!(limits.enter(&user("a"), &watch).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn tunnels_do_not_count() {
        let limits = Limits::default();
        let caller = Identity::anonymous();
        for uri in ["/api/v1/namespaces/n/pods/p/exec", "/healthz"] {
            assert!(limits.enter(&caller, &get(uri)).await.unwrap().is_none(), "{uri}");
        }
    }
}
