//! Who has a place, and who loses it when there are none left. No I/O.
//!
//! A connection whose client has proved nothing yet may lose its place to any newcomer: of the peer
//! that has the most of them, the one that has come least far and, of those, the oldest. So a newcomer
//! that makes its request gets in, however many others are silent. One whose client is authenticated loses it only when
//! nobody else is left to lose one: while nothing is under way on it, and, if that is so of none, where
//! one user has a quarter of all places.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::activity::{Activity, Progress};
use crate::peer::Peer;

/// An authenticated connection that has just been used is about to be used again.
const QUIET_MIN: Duration = Duration::from_secs(1);
/// How long one that has proved nothing keeps its place at least: time enough to begin, however fast
/// others come.
const AGE_MIN: Duration = Duration::from_millis(100);
/// A user with more than this part of all places loses them also where something is under way.
const USER_PART: usize = 4;

/// How many connections there may be, and of whom.
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
    /// Shares `all` places out: an eighth is kept for this machine itself, one peer gets no more
    /// than half, and so do clients that have proved nothing.
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

/// What became of a newcomer.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It has a place, which this one had.
    InPlaceOf(u64, Arc<Activity>),
    /// It has a free place.
    Free(u64),
    /// All places are in use.
    Full,
}

struct Entry {
    peer: Peer,
    progress: Progress,
    /// Whose requests are made on it, by hash, once that is known.
    user: Option<u64>,
    activity: Arc<Activity>,
}

/// How many a peer has that have proved nothing, and which of them is first to go.
type Rank = (usize, Reverse<(Progress, u64)>, Peer);

#[derive(Default)]
struct OfPeer {
    all: usize,
    unproven: BTreeSet<(Progress, u64)>,
}

impl OfPeer {
    /// The peer's rank among those who lose a place: the last one does. Among equals that is who
    /// has been silent longest.
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

    /// How long a newcomer is to wait before it is admitted, so that nobody loses a place who has had
    /// no time to use it.
    pub(crate) fn delay(&self, peer: Peer) -> Option<Duration> {
        let victim = self.entries.get(&self.room_for(peer).ok()??)?;
        let is_proven = victim.progress == Progress::Authenticated;
        let left = AGE_MIN.checked_sub(victim.activity.age())?;
        (!is_proven && !left.is_zero()).then_some(left)
    }

    /// Takes a place from one that has proved nothing, or from one that does nothing.
    pub(crate) fn displace(&mut self) -> Option<Arc<Activity>> {
        let id = self.victim(|_| true)?;
        self.remove(id)
    }

    /// Its client has come further.
    pub(crate) fn reached(&mut self, id: u64, progress: Progress) {
        // Requests are answered side by side: what is less is late.
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

    /// Its requests are this user's, so that what one user has is counted together.
    pub(crate) fn is_of(&mut self, id: u64, user: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.user = Some(user);
        }
    }

    /// Gives a place back, if it is still its own.
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

    /// Who must give its place up for a newcomer, if anybody must.
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

    /// Looks at all: it is called only where all places are taken by authenticated clients.
    fn quiet_of_most(&self, whose: impl Fn(Peer) -> bool) -> Option<u64> {
        let quiet = self.entries.iter().filter(|(_, entry)| whose(entry.peer));
        let quiet = quiet.filter_map(|(id, entry)| {
            let quiet_for = entry.activity.quiet_for().filter(|it| *it >= QUIET_MIN)?;
            Some(((self.peers.get(&entry.peer)?.all, quiet_for), *id))
        });
        quiet.max().map(|(_, id)| id)
    }

    /// As [`Self::quiet_of_most`]. A tunnel is no connection any more that could be ended in order.
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

/// Nobody can be asked to give a place up.
struct Full;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { all: 16, remote: 14, of_peer: 8, unproven: 8, unproven_of_peer: 4 };

    fn peer(last: u8) -> Peer {
        Peer::V4([10, 0, 0, last].into())
    }

    /// The number of the newcomer, and whose place it has.
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
    async fn of_one_peer_the_longest_silent_makes_room() {
        let mut table = Table::new(BOUNDS);
        let ids: Vec<u64> = (0..4).map(|_| admit(&mut table, peer(1)).0.unwrap()).collect();
        table.reached(ids[0], Progress::Anonymous);
        assert_eq!(admit(&mut table, peer(1)).1, Some(ids[1]));
        // One that has asked something goes after all that are silent.
        for id in [ids[2], ids[3], ids[3] + 1, ids[3] + 2] {
            assert_eq!(admit(&mut table, peer(1)).1, Some(id));
        }
        assert!(table.entries.contains_key(&ids[0]));
    }

    #[tokio::test]
    async fn who_has_the_most_silent_connections_makes_room_for_others() {
        let mut table = Table::new(BOUNDS);
        let flood: Vec<u64> =
            (0..6).map(|_| admit(&mut table, Peer::Loopback).0.unwrap()).collect();
        let others = [peer(1), peer(2)].map(|peer| admit(&mut table, peer).0.unwrap());
        assert_eq!(admit(&mut table, peer(3)).1, Some(flood[0]));
        assert_eq!(admit(&mut table, Peer::Loopback).1, Some(flood[1]));
        assert!(others.iter().all(|id| table.entries.contains_key(id)));
    }

    /// Many addresses with one connection each: it is the oldest's turn, whatever its address.
    #[tokio::test]
    async fn among_equals_the_oldest_makes_room() {
        let mut table = Table::new(BOUNDS);
        for last in [8, 7, 6, 5, 1, 2, 3, 4] {
            admit(&mut table, peer(last));
        }
        let displaced = (0..3).map(|n| admit(&mut table, peer(20 + n)).1.unwrap());
        assert_eq!(displaced.collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_authenticated_loses_a_place_only_while_quiet_and_only_to_need() {
        let mut table = Table::new(BOUNDS);
        let busy = authenticated(&mut table, peer(1));
        table.entries[&busy].activity.begin();
        let quiet: Vec<u64> = (0..7).map(|_| authenticated(&mut table, peer(1))).collect();
        // It has all that one peer may have, and all are in use or have just been.
        assert_eq!(admit(&mut table, peer(1)), (None, None));
        tokio::time::advance(QUIET_MIN).await;
        assert!(quiet.contains(&admit(&mut table, peer(1)).1.unwrap()));
        // Another peer has room without anybody's loss.
        assert_eq!(admit(&mut table, peer(2)).1, None);
        assert!(table.entries.contains_key(&busy));
    }

    #[tokio::test]
    async fn this_machine_has_places_that_no_other_takes() {
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
    async fn a_user_who_has_taken_all_places_loses_the_oldest() {
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
        // Those of one that is a tunnel by now are spared.
        table.entries[&hog[1]].activity.become_tunnel();
        let newcomer = table.next - 1;
        table.reached(newcomer, Progress::Authenticated);
        table.entries[&newcomer].activity.begin();
        assert_eq!(admit(&mut table, peer(9)).1, Some(hog[2]));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_loses_a_place_who_has_had_no_time_to_use_it() {
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
    async fn what_is_removed_leaves_nothing_behind() {
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
