//! Admission of connections. The result of each accept passes here.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::net::TcpStream;

use crate::activity::{Activity, Progress};
use crate::peer::Peer;
use crate::responses::Responses;
use crate::table::{Admission, Bounds, Table};
use crate::tally::{Event, Tally};

/// How long to wait before accepting again after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The places (connection slots) of a server.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    hasher: RandomState,
    table: Mutex<Table>,
    tally: Tally,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

impl Gate {
    /// Places for a server, which is named `server` in the log.
    pub fn new(server: &'static str, bounds: Bounds) -> Self {
        let table = Mutex::new(Table::new(bounds));
        let (hasher, tally) = (RandomState::new(), Tally::new(server));
        Self(Arc::new(Shared { hasher, table, tally }))
    }

    /// An accepted connection with a place; `None` if there is none, and after a pause if the system has no
    /// file descriptors left. Waits briefly while connections arrive very fast.
    pub async fn admit(&self, accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<Connection> {
        self.0.tally.flush();
        match accepted {
            Ok((stream, address)) => {
                let peer = Peer::of(address.ip());
                let delay = self.0.table().delay(peer);
                if let Some(delay) = delay {
                    tokio::time::sleep(delay).await;
                }
                let permit = self.permit(peer)?;
                Some(Connection { stream, permit: Arc::new(permit) })
            }
            // The client has already closed the connection.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                ) =>
            {
                None
            }
            Err(error) => {
                if let Some(activity) = self.0.table().displace() {
                    activity.displaced.cancel();
                }
                self.0.tally.count(Event::NotAccepted(&error));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.0.table().len()
    }

    fn permit(&self, peer: Peer) -> Option<ConnectionPermit> {
        let activity = Arc::new(Activity::new());
        let admission = self.0.table().admit(peer, activity.clone());
        let id = match admission {
            Admission::Free(id) => id,
            Admission::InPlaceOf(id, displaced) => {
                displaced.displaced.cancel();
                self.0.tally.count(Event::Displaced(peer));
                id
            }
            Admission::Full => {
                self.0.tally.count(Event::Refused(peer));
                return None;
            }
        };
        Some(ConnectionPermit {
            gate: self.clone(),
            id,
            activity,
            responses: Responses::default(),
            stalled: AtomicBool::default(),
            unread: AtomicUsize::default(),
        })
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate(..)")
    }
}

/// A connection with a place, not yet served.
pub struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) permit: Arc<ConnectionPermit>,
}

/// A connection's place, released when the connection is closed, also if it has become a tunnel.
pub(crate) struct ConnectionPermit {
    gate: Gate,
    id: u64,
    pub(crate) activity: Arc<Activity>,
    pub(crate) responses: Responses,
    /// Its client has not read in time.
    stalled: AtomicBool,
    /// Request bodies that were not read to their end.
    unread: AtomicUsize,
}

impl ConnectionPermit {
    pub(crate) fn reach(&self, progress: Progress) {
        if self.activity.reach(progress) {
            self.gate.0.table().reached(self.id, progress);
        }
    }

    pub(crate) fn authenticated(&self, user: Option<&str>) {
        if !self.activity.reach(Progress::Authenticated) {
            return;
        }
        let shared = &self.gate.0;
        let mut table = shared.table();
        table.reached(self.id, Progress::Authenticated);
        if let Some(user) = user {
            table.is_of(self.id, shared.hasher.hash_one(user));
        }
    }

    pub(crate) fn stall(&self) {
        self.stalled.store(true, Ordering::Release);
    }

    pub(crate) fn has_stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }

    pub(crate) fn leave_unread(&self) {
        self.unread.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn all_is_read(&self) {
        self.unread.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Acquire) > 0
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.gate.0.table().remove(self.id);
    }
}
