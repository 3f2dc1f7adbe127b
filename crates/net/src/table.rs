//! Which connections have a place, and which one loses it when all are in use. No I/O.
//!
//! A connection that is not authenticated yet may lose its place to any new connection. The victim is of the
//! peer with most of them: the one that has progressed least and, of those, the oldest. So a new client that
//! sends its request is admitted, however many others are silent. An authenticated connection loses its place
//! only if there is no other victim: if it is idle or, if none is, if its user has more than a quarter of all
//! places.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::activity::{Activity, Progress};
use crate::peer::Peer;

/// An authenticated connection is idle only after this time: one that was just used is likely to be used again.
const QUIET_MIN: Duration = Duration::from_secs(1);
/// How long an unauthenticated connection keeps its place at least: enough to begin, however fast others
/// arrive.
const AGE_MIN: Duration = Duration::from_millis(100);
/// A user with more than this part of all places loses them even if they are active.
const USER_PART: usize = 4;

/// How many connections there may be, in all and by peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub all: usize,
    /// Of those, for peers other than this machine itself.
    pub remote: usize,
    /// Of one such peer.
    pub of_peer: usize,
    /// Without an authenticated request yet, of all peers.
    pub unproven: usize,
    /// The same, of one peer other than this machine.
    pub unproven_of_peer: usize,
}

impl Bounds {
    /// Divides `all` places: an eighth is reserved for this machine itself; one peer gets at most half, and so
    /// do unauthenticated clients.
    pub fn sharing(all: usize) -> Self {
        let part = |parts: usize| (all / parts).max(1);
        Self {
            all,
            remote: (all - all / 8).max(1),
            of_peer: part(2),
            unproven: part(2),
            unproven_of_peer: part(4),
        }
    }
}

/// The result of admitting a connection.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It has the place of this other connection.
    InPlaceOf(u64, Arc<Activity>),
    /// It has a free place.
    Free(u64),
    /// All places are in use.
    Full,
}

struct Entry {
    peer: Peer,
    progress: Progress,
    /// The hash of its user, once that is known.
    user: Option<u64>,
    activity: Arc<Activity>,
}

/// How many unauthenticated connections a peer has, and which of them is the first victim.
type Rank = (usize, Reverse<(Progress, u64)>, Peer);

#[derive(Default)]
struct OfPeer {
    all: usize,
    unproven: BTreeSet<(Progress, u64)>,
}

impl OfPeer {
    /// The peer's rank among possible victims: the last one loses a place. Among equal ones that is the peer
    /// with the oldest connection.
    fn rank(&self, peer: Peer) -> Option<Rank> {
        Some((self.unproven.len(), Reverse(*self.unproven.first()?), peer))
    }
}

/// All connections of a server.
pub(crate) struct Table {
    bounds: Bounds,
    next: u64,
    entries: HashMap<u64, Entry>,
    peers: HashMap<Peer, OfPeer>,
    ranking: BTreeSet<Rank>,
    unproven: usize,
}

impl Table {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            next: 0,
            entries: HashMap::new(),
            peers: HashMap::new(),
            ranking: BTreeSet::new(),
            unproven: 0,
        }
    }

    /// A place for a connection of `peer`, if need be another one's.
    pub(crate) fn admit(&mut self, peer: Peer, activity: Arc<Activity>) -> Admission {
        let displaced = match self.room_for(peer) {
            Ok(displaced) => displaced,
            Err(Full) => return Admission::Full,
        };
        let displaced = displaced.and_then(|id| self.remove(id));
        let id = self.next;
        self.next += 1;
        self.entries.insert(id, Entry { peer, progress: Progress::Silent, user: None, activity });
        self.change(peer, |of_peer| {
            of_peer.all += 1;
            of_peer.unproven.insert((Progress::Silent, id));
        });
        self.unproven += 1;
        match displaced {
            Some(activity) => Admission::InPlaceOf(id, activity),
            None => Admission::Free(id),
        }
    }

    /// How long a new connection waits before it is admitted, so that no connection loses its place before it
    /// had time to use it.
    pub(crate) fn delay(&self, peer: Peer) -> Option<Duration> {
        let victim = self.entries.get(&self.room_for(peer).ok()??)?;
        let is_proven = victim.progress == Progress::Authenticated;
        let left = AGE_MIN.checked_sub(victim.activity.age())?;
        (!is_proven && !left.is_zero()).then_some(left)
    }

    /// Takes a place from an unauthenticated or an idle connection.
    pub(crate) fn displace(&mut self) -> Option<Arc<Activity>> {
        let id = self.victim(|_| true)?;
        self.remove(id)
    }

    /// Its client has come further.
    pub(crate) fn reached(&mut self, id: u64, progress: Progress) {
        // Requests run concurrently: a lower progress is late.
        let Some(entry) = self.entries.get_mut(&id).filter(|it| it.progress < progress) else {
            return;
        };
        let before = std::mem::replace(&mut entry.progress, progress);
        let peer = entry.peer;
        let is_proven = progress == Progress::Authenticated;
        self.change(peer, |of_peer| {
            of_peer.unproven.remove(&(before, id));
            if !is_proven {
                of_peer.unproven.insert((progress, id));
            }
        });
        if is_proven {
            self.unproven -= 1;
        }
    }

    /// Sets its user, so that the connections of a user are counted together.
    pub(crate) fn is_of(&mut self, id: u64, user: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.user = Some(user);
        }
    }

    /// Releases a place, if the connection still has it.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Arc<Activity>> {
        let Entry { peer, progress, activity, .. } = self.entries.remove(&id)?;
        self.change(peer, |of_peer| {
            of_peer.all -= 1;
            of_peer.unproven.remove(&(progress, id));
        });
        if progress != Progress::Authenticated {
            self.unproven -= 1;
        }
        if self.peers.get(&peer).is_some_and(|of_peer| of_peer.all == 0) {
            self.peers.remove(&peer);
        }
        Some(activity)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The connection that must lose its place for a new one, if any must.
    fn room_for(&self, peer: Peer) -> Result<Option<u64>, Full> {
        let own = self.peers.get(&peer);
        let of_peer = own.map_or(0, |own| own.all);
        let unproven_of_peer = own.map_or(0, |own| own.unproven.len());
        let remote =
            self.len() - self.peers.get(&Peer::Loopback).map_or(0, |loopback| loopback.all);
        let bounds = self.bounds;
        let whose: fn(Peer, Peer) -> bool = match peer.is_remote() {
            true if of_peer >= bounds.of_peer || unproven_of_peer >= bounds.unproven_of_peer => {
                |it, newcomer| it == newcomer
            }
            true if remote >= bounds.remote => |it, _| it.is_remote(),
            _ if self.unproven >= bounds.unproven || self.len() >= bounds.all => |_, _| true,
            _ => return Ok(None),
        };
        self.victim(|it| whose(it, peer)).map(Some).ok_or(Full)
    }

    fn victim(&self, whose: impl Fn(Peer) -> bool) -> Option<u64> {
        self.unproven_of_most(&whose)
            .or_else(|| self.quiet_of_most(&whose))
            .or_else(|| self.oldest_of_hog(&whose))
    }

    fn unproven_of_most(&self, whose: impl Fn(Peer) -> bool) -> Option<u64> {
        let found = self.ranking.iter().rev().find(|(_, _, peer)| whose(*peer));
        found.map(|(_, Reverse((_, id)), _)| *id)
    }

    /// Scans all: it is called only if authenticated clients have all places.
    fn quiet_of_most(&self, whose: impl Fn(Peer) -> bool) -> Option<u64> {
        let quiet = self.entries.iter().filter(|(_, entry)| whose(entry.peer));
        let quiet = quiet.filter_map(|(id, entry)| {
            let quiet_for = entry.activity.quiet_for().filter(|it| *it >= QUIET_MIN)?;
            Some(((self.peers.get(&entry.peer)?.all, quiet_for), *id))
        });
        quiet.max().map(|(_, id)| id)
    }

    /// As [`Self::quiet_of_most`]. A tunnel cannot be closed in order.
    fn oldest_of_hog(&self, whose: impl Fn(Peer) -> bool) -> Option<u64> {
        let mut users: HashMap<u64, usize> = HashMap::new();
        for user in self.entries.values().filter_map(|entry| entry.user) {
            *users.entry(user).or_default() += 1;
        }
        let (hog, count) = users.into_iter().max_by_key(|(user, count)| (*count, *user))?;
        let of_hog = |(id, entry): (&u64, &Entry)| {
            let is_one = entry.user == Some(hog) && whose(entry.peer);
            (is_one && !entry.activity.is_tunnel()).then_some(*id)
        };
        let oldest = self.entries.iter().filter_map(of_hog).min();
        oldest.filter(|_| count > self.bounds.all / USER_PART)
    }

    fn change(&mut self, peer: Peer, change: impl FnOnce(&mut OfPeer)) {
        let of_peer = self.peers.entry(peer).or_default();
        let before = of_peer.rank(peer);
        change(of_peer);
        let after = of_peer.rank(peer);
        if before != after {
            before.map(|rank| self.ranking.remove(&rank));
            after.map(|rank| self.ranking.insert(rank));
        }
    }
}

/// No connection can lose its place.
struct Full;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { all: 16, remote: 14, of_peer: 8, unproven: 8, unproven_of_peer: 4 };

    fn peer(last: u8) -> Peer {
        Peer::V4([10, 0, 0, last].into())
    }

    /// The id of the new connection, and the one whose place it has.
    fn admit(table: &mut Table, peer: Peer) -> (Option<u64>, Option<u64>) {
        let before: Vec<u64> = table.entries.keys().copied().collect();
        let admission = table.admit(peer, Arc::new(Activity::new()));
        let displaced = before.into_iter().find(|id| !table.entries.contains_key(id));
        match admission {
            Admission::Free(id) => (Some(id), None),
            Admission::InPlaceOf(id, _) => (Some(id), displaced),
            Admission::Full => (None, None),
        }
    }

    fn authenticated(table: &mut Table, peer: Peer) -> u64 {
        let id = admit(table, peer).0.unwrap();
        table.reached(id, Progress::Authenticated);
        id
    }

    #[tokio::test]
    async fn the_oldest_silent_connection_of_a_peer_is_displaced_first() {
        let mut table = Table::new(BOUNDS);
        let ids: Vec<u64> = (0..4).map(|_| admit(&mut table, peer(1)).0.unwrap()).collect();
        table.reached(ids[0], Progress::Anonymous);
        assert_eq!(admit(&mut table, peer(1)).1, Some(ids[1]));
        // A connection with a request is displaced after all silent ones.
        for id in [ids[2], ids[3], ids[3] + 1, ids[3] + 2] {
            assert_eq!(admit(&mut table, peer(1)).1, Some(id));
        }
        assert!(table.entries.contains_key(&ids[0]));
    }

    #[tokio::test]
    async fn the_peer_with_most_silent_connections_loses_places_to_others() {
        let mut table = Table::new(BOUNDS);
        let flood: Vec<u64> =
            (0..6).map(|_| admit(&mut table, Peer::Loopback).0.unwrap()).collect();
        let others = [peer(1), peer(2)].map(|peer| admit(&mut table, peer).0.unwrap());
        assert_eq!(admit(&mut table, peer(3)).1, Some(flood[0]));
        assert_eq!(admit(&mut table, Peer::Loopback).1, Some(flood[1]));
        assert!(others.iter().all(|id| table.entries.contains_key(id)));
    }

    /// Many addresses with one connection each: the oldest one loses its place, whatever its address.
    #[tokio::test]
    async fn among_peers_with_equally_many_the_oldest_connection_is_displaced() {
        let mut table = Table::new(BOUNDS);
        for last in [8, 7, 6, 5, 1, 2, 3, 4] {
            admit(&mut table, peer(last));
        }
        let displaced = (0..3).map(|n| admit(&mut table, peer(20 + n)).1.unwrap());
        assert_eq!(displaced.collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn authenticated_connections_are_displaced_only_if_idle_and_needed() {
        let mut table = Table::new(BOUNDS);
        let busy = authenticated(&mut table, peer(1));
        table.entries[&busy].activity.begin();
        let quiet: Vec<u64> = (0..7).map(|_| authenticated(&mut table, peer(1))).collect();
        // It has all that one peer may have, and all are in use or have just been.
        assert_eq!(admit(&mut table, peer(1)), (None, None));
        tokio::time::advance(QUIET_MIN).await;
        assert!(quiet.contains(&admit(&mut table, peer(1)).1.unwrap()));
        // Another peer gets a place without displacing a connection.
        assert_eq!(admit(&mut table, peer(2)).1, None);
        assert!(table.entries.contains_key(&busy));
    }

    #[tokio::test]
    async fn places_for_loopback_are_reserved() {
        let mut table = Table::new(BOUNDS);
        for n in 0..BOUNDS.remote {
            let id = authenticated(&mut table, peer(u8::try_from(n % 2).unwrap()));
            table.entries[&id].activity.begin();
            if n + 1 == BOUNDS.remote {
                break;
            }
        }
        assert_eq!(admit(&mut table, peer(9)), (None, None));
        assert!(admit(&mut table, Peer::Loopback).0.is_some());
    }

    /// A user's token is good from any address, and a watch is always under way.
    #[tokio::test]
    async fn a_user_with_all_places_loses_the_oldest_connection() {
        let mut table = Table::new(BOUNDS);
        let mut of = |user: u64, peer: Peer| {
            let id = authenticated(&mut table, peer);
            table.is_of(id, user);
            table.entries[&id].activity.begin();
            id
        };
        let other = of(1, peer(1));
        let hog: Vec<u64> = (1..14).map(|n| of(7, peer(n % 3))).collect();
        assert_eq!(admit(&mut table, peer(9)).1, Some(hog[0]));
        assert!(table.entries.contains_key(&other));
        // A tunnel is not displaced.
        table.entries[&hog[1]].activity.become_tunnel();
        let newcomer = table.next - 1;
        table.reached(newcomer, Progress::Authenticated);
        table.entries[&newcomer].activity.begin();
        assert_eq!(admit(&mut table, peer(9)).1, Some(hog[2]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_waits_until_its_victim_had_time_to_use_its_place() {
        let mut table = Table::new(BOUNDS);
        for _ in 0..4 {
            assert_eq!(table.delay(peer(1)), None);
            admit(&mut table, peer(1));
        }
        assert_eq!(table.delay(peer(1)), Some(AGE_MIN));
        assert_eq!(table.delay(peer(2)), None);
        tokio::time::advance(AGE_MIN).await;
        assert_eq!(table.delay(peer(1)), None);
    }

    #[tokio::test]
    async fn removed_connections_leave_no_state() {
        let mut table = Table::new(BOUNDS);
        let mut ids = Vec::new();
        for n in 0..40_u8 {
            ids.extend(admit(&mut table, peer(n % 5)).0);
            if n % 3 == 0 {
                table.reached(u64::from(n), Progress::Anonymous);
            }
            if n % 7 == 0 {
                table.reached(u64::from(n), Progress::Authenticated);
            }
        }
        while table.displace().is_some() {}
        for id in ids {
            table.remove(id);
        }
        assert_eq!((table.len(), table.unproven), (0, 0));
        assert!(table.peers.is_empty() && table.ranking.is_empty());
    }
}
