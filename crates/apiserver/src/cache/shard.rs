//! One kind's objects, its recent events, and who watches them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use coffer_store::Revision;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;

use super::inbox::{self, Inbox, Queue};
use super::objects::Objects;
use super::{CacheError, CacheEvent, CachedObject, Index, ShardSource};

/// Events kept per kind for watchers that resume.
const HISTORY_EVENTS_MAX: usize = 4096;
/// Bytes of objects kept alive per kind by that history.
const HISTORY_BYTES_MAX: usize = 64 << 20;

/// A collection with more objects than this is large.
const LARGE_OBJECTS: usize = 1024;
/// So is one with more bytes than this.
const LARGE_BYTES: usize = 1 << 20;

/// Fields that watchers are told apart by, because many watch for one value each: every node its
/// own pods.
const INDEXED_FIELDS: [&str; 1] = ["spec.nodeName"];

/// The objects a watcher wants: the narrower, the fewer events are handed to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Every object of the kind.
    All,
    /// One namespace's.
    Namespace(String),
    /// Those of all namespaces that have this value in an indexed field.
    Field(&'static str, String),
    /// One object, by its storage key.
    Key(Arc<str>),
}

impl Scope {
    /// The scope of all objects with one value in an indexed field, where `exact` knows the value
    /// that one must have.
    pub(crate) fn of_fields<'a>(exact: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let mut fields = INDEXED_FIELDS.into_iter();
        fields.find_map(|field| Some(Self::Field(field, exact(field)?.to_owned())))
    }

    fn holds(&self, object: &CachedObject) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => *namespace == object.namespace,
            Self::Field(field, value) => object.field(field) == Some(value),
            Self::Key(key) => *key == object.key,
        }
    }

    /// Whether the object was or is in the scope: a field may change.
    fn touches(&self, event: &CacheEvent) -> bool {
        event.states().any(|object| self.holds(object))
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the present state, then what comes.
    Now,
    /// After a revision the watcher has seen.
    After(Revision),
}

/// The revision asked for is older than the history kept.
#[derive(Debug)]
pub(crate) struct TooOld {
    pub(crate) oldest: Revision,
}

/// A watch, registered.
pub(crate) struct Subscription {
    /// First what was: the present state for [`Start::Now`], else past events; then what comes. It
    /// ends when the watcher was too slow or the server stops.
    pub(crate) inbox: Inbox,
    /// The revision at which what was ends and what comes begins.
    pub(crate) revision: Revision,
}

/// Derives something from objects, and is never behind what a client has seen of them.
///
/// Objects are read, which takes time, before the shard is locked; what was made of them is applied
/// under the lock that makes them visible, before any watcher has the event.
pub(crate) trait Observer: Send + Sync {
    /// Reads the whole state, at the beginning and after a reload. What is returned replaces all that
    /// was derived before.
    fn read_all(&self, objects: &[Arc<CachedObject>]) -> Apply<'_>;
    /// Reads one write. What is returned must not call back into the shard.
    fn read(&self, event: &CacheEvent) -> Apply<'_>;
    /// The same write, once the lock is released and before its revision counts as applied: for what
    /// takes longer than readers should wait, and is to be as fresh as a read that settles.
    fn applied(&self, _event: &CacheEvent) {}
}

/// What an observer does under the lock.
pub(crate) type Apply<'a> = Box<dyn FnOnce() + Send + 'a>;

#[derive(Default)]
struct State {
    objects: Objects,
    history: VecDeque<Arc<CacheEvent>>,
    history_bytes: usize,
    /// Watches can resume from this revision on.
    floor: Revision,
    /// The newest event or reload.
    newest: Revision,
    watchers: HashMap<Scope, Vec<Arc<Queue>>>,
}

/// One kind's part of the cache.
pub(crate) struct Shard {
    prefix: String,
    index: Arc<dyn Index>,
    state: RwLock<State>,
    observers: RwLock<Vec<Arc<dyn Observer>>>,
}

impl Shard {
    pub(super) fn new(source: ShardSource) -> Self {
        let ShardSource { prefix, index } = source;
        Self { prefix, index, state: RwLock::default(), observers: RwLock::default() }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Makes an object of stored bytes: of an event, or of a page of the past.
    pub(crate) fn index(
        &self,
        key: &str,
        value: &[u8],
        revision: Revision,
    ) -> Result<CachedObject, CacheError> {
        self.index
            .index(key, value, revision)
            .map_err(|reason| CacheError::Decode { key: key.to_owned(), reason })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// One object, as the cache has it now.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<CachedObject>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects whose key begins with `prefix`, or the one that `scope` names, and the revision
    /// of this kind's newest event in that state.
    pub(crate) fn list(&self, prefix: &str, scope: &Scope) -> (Vec<Arc<CachedObject>>, Revision) {
        let state = self.read();
        let items = match scope {
            Scope::Key(key) => state.objects.get(key).cloned().into_iter().collect(),
            _ => state.objects.below(prefix, None).cloned().collect(),
        };
        (items, state.newest)
    }

    /// All objects whose key begins with `prefix` and comes after `after`, as they were at a
    /// revision that is applied: the present state with what happened since undone. `None` where
    /// that is no longer known.
    pub(crate) fn list_at(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Revision,
    ) -> Option<Vec<Arc<CachedObject>>> {
        let state = self.read();
        if revision < state.floor {
            return None;
        }
        // The first change of an object since then tells what it was before.
        let mut before: HashMap<&str, Option<&Arc<CachedObject>>> = HashMap::new();
        let since = state.history.partition_point(|event| event.revision <= revision);
        for event in state.history.range(since..) {
            before.entry(&event.subject().key).or_insert(event.old.as_ref());
        }
        let present = state.objects.below(prefix, after);
        let mut items: Vec<_> =
            present.filter(|object| !before.contains_key(&*object.key)).cloned().collect();
        let unchanged = items.len();
        let changed = before.values().flatten().filter(|object| {
            object.key.starts_with(prefix) && after.is_none_or(|after| &*object.key > after)
        });
        items.extend(changed.map(|object| Arc::clone(object)));
        if items.len() > unchanged {
            items.sort_by(|one, other| one.key.cmp(&other.key));
        }
        Some(items)
    }

    pub(super) fn reset(&self, objects: Vec<Arc<CachedObject>>, revision: Revision) {
        let observers = self.observers();
        let read: Vec<Apply<'_>> = observers.iter().map(|it| it.read_all(&objects)).collect();
        let objects = objects.into_iter().collect();
        let mut state = self.write();
        state.end_watchers();
        *state = State { objects, floor: revision, newest: revision, ..Default::default() };
        for apply in read {
            apply();
        }
    }

    fn observers(&self) -> RwLockReadGuard<'_, Vec<Arc<dyn Observer>>> {
        self.observers.read()
    }

    /// Adds an observer and shows it the present state.
    pub(crate) fn observe(&self, observer: Arc<dyn Observer>) {
        // The observers' lock first, as everywhere: no change falls between the two.
        let mut observers = self.observers.write();
        let objects: Vec<_> = self.read().objects.values().cloned().collect();
        observer.read_all(&objects)();
        observers.push(observer);
    }

    pub(super) fn end_watchers(&self) {
        self.write().end_watchers();
    }

    /// Ends watchers that are too slow with the state they begin with, and forgets those that have ended.
    pub(super) fn end_late_watchers(&self, now: Instant) {
        let mut state = self.write();
        for queue in state.watchers.values().flatten() {
            queue.end_if_late(now);
        }
        state.watchers.retain(|_, watchers| {
            watchers.retain(|watcher| !watcher.is_ended());
            !watchers.is_empty()
        });
    }

    /// Whether so much has a key that begins with `prefix` that answers with all of it are counted.
    pub(crate) fn is_large(&self, prefix: &str) -> bool {
        let objects = &self.read().objects;
        let is_large = |count, bytes| count > LARGE_OBJECTS || bytes > LARGE_BYTES;
        let whole = is_large(objects.len(), objects.bytes());
        if !whole || prefix == self.prefix {
            return whole;
        }
        let mut sizes = objects.below(prefix, None).map(|object| object.bytes.len());
        // It ends where it is known: what is small is short to count, and so is what is large.
        let end = sizes.try_fold((0, 0), |(count, bytes), size| {
            let (count, bytes) = (count + 1, bytes + size);
            if is_large(count, bytes) { Err(()) } else { Ok((count, bytes)) }
        });
        end.is_err()
    }

    /// Whether a state of the past is known here.
    pub(crate) fn remembers(&self, revision: Revision) -> bool {
        revision >= self.read().floor
    }

    /// Takes one write: `new` is the object after it, `None` when it is gone.
    pub(super) fn apply(&self, key: &str, revision: Revision, new: Option<Arc<CachedObject>>) {
        let observers = self.observers();
        // Nothing but this and `reset` writes, one after the other.
        let old = self.get(key);
        if old.is_none() && new.is_none() {
            self.write().newest = revision;
            return;
        }
        let event = Arc::new(CacheEvent { revision, old, new });
        let read: Vec<Apply<'_>> = observers.iter().map(|it| it.read(&event)).collect();
        let mut state = self.write();
        match &event.new {
            Some(object) => drop(state.objects.insert(object.clone())),
            None => drop(state.objects.remove(key)),
        }
        state.newest = revision;
        for apply in read {
            apply();
        }
        state.remember(event.clone());
        state.dispatch(&event);
        drop(state);
        for observer in observers.iter() {
            observer.applied(&event);
        }
    }

    /// Registers a watcher and takes its past under one lock, so that nothing falls between.
    pub(crate) fn subscribe(&self, scope: Scope, start: Start) -> Result<Subscription, TooOld> {
        let mut state = self.write();
        let (initial, backlog) = match start {
            Start::Now => {
                let all = match &scope {
                    Scope::Key(key) => state.objects.get(key).cloned().into_iter().collect(),
                    _ => state.objects.values().filter(|it| scope.holds(it)).cloned().collect(),
                };
                (all, VecDeque::new())
            }
            Start::After(after) if after < state.floor => {
                return Err(TooOld { oldest: state.floor });
            }
            Start::After(after) => {
                let from = state.history.partition_point(|event| event.revision <= after);
                let past = state.history.range(from..);
                (Vec::new(), past.filter(|event| scope.touches(event)).cloned().collect())
            }
        };
        let (queue, inbox) = inbox::queue(initial, backlog);
        state.watchers.entry(scope).or_default().push(queue);
        Ok(Subscription { inbox, revision: state.newest })
    }
}

impl State {
    fn remember(&mut self, event: Arc<CacheEvent>) {
        self.history_bytes += event.subject().bytes.len();
        self.history.push_back(event);
        let large = self.history_bytes > HISTORY_BYTES_MAX;
        while self.history.len() > HISTORY_EVENTS_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.subject().bytes.len();
            self.floor = oldest.revision;
        }
        if large {
            // Watchers must not keep the large objects alive that the history lets go of.
            for watcher in self.watchers.values().flatten() {
                watcher.end_if_behind(self.floor);
            }
        }
    }

    fn end_watchers(&mut self) {
        for watcher in self.watchers.drain().flat_map(|(_, watchers)| watchers) {
            watcher.end();
        }
    }

    fn dispatch(&mut self, event: &Arc<CacheEvent>) {
        let subject = event.subject();
        let mut scopes = vec![
            Scope::All,
            Scope::Namespace(subject.namespace.clone()),
            Scope::Key(subject.key.clone()),
        ];
        for object in event.states() {
            for field in INDEXED_FIELDS {
                let value = object.field(field).map(|value| Scope::Field(field, value.clone()));
                scopes.extend(value.filter(|scope| !scopes.contains(scope)));
            }
        }
        for scope in scopes {
            let Some(watchers) = self.watchers.get_mut(&scope) else { continue };
            watchers.retain(|watcher| watcher.push(event));
            if watchers.is_empty() {
                self.watchers.remove(&scope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::inbox::{Initial, NoEvent, QUEUE_EVENTS_MAX};
    use super::*;

    struct Plain;

    impl Index for Plain {
        fn index(&self, key: &str, value: &[u8], revision: u64) -> Result<CachedObject, String> {
            let mut parts = key.rsplit('/');
            let name = parts.next().unwrap_or_default().to_owned();
            let namespace = parts.next().unwrap_or_default().to_owned();
            Ok(CachedObject {
                key: key.into(),
                revision,
                bytes: value.to_vec().into(),
                namespace,
                name,
                labels: BTreeMap::new(),
                fields: Vec::new(),
            })
        }
    }

    fn shard() -> Shard {
        Shard::new(ShardSource { prefix: "/registry/secrets/".to_owned(), index: Arc::new(Plain) })
    }

    fn initial(watch: &Subscription) -> Vec<Revision> {
        std::iter::from_fn(|| match watch.inbox.next_initial() {
            Initial::Object(object) => Some(object.revision),
            Initial::Done | Initial::Ended => None,
        })
        .collect()
    }

    fn events(watch: &Subscription) -> Vec<Revision> {
        std::iter::from_fn(|| watch.inbox.try_next().ok()).map(|event| event.revision).collect()
    }

    fn put(shard: &Shard, key: &str, revision: u64) {
        let object = shard.index(key, b"{}", revision).unwrap();
        shard.apply(key, revision, Some(Arc::new(object)));
    }

    #[test]
    fn a_watch_of_one_object_is_not_handed_its_neighbours() {
        let shard = shard();
        let one = shard.subscribe(Scope::Key("/registry/secrets/n/a".into()), Start::Now).unwrap();
        put(&shard, "/registry/secrets/n/b", 1);
        put(&shard, "/registry/secrets/n/a", 2);
        assert_eq!(events(&one), [2]);
    }

    #[test]
    fn one_object_and_the_list_are_of_the_same_state() {
        let shard = shard();
        let list = || {
            let (items, _) = shard.list("/registry/secrets/n/", &Scope::All);
            items.iter().map(|it| (it.name.clone(), it.revision)).collect::<Vec<_>>()
        };
        let get = |key| shard.get(key).map(|object| object.revision);
        put(&shard, "/registry/secrets/n/b", 1);
        put(&shard, "/registry/secrets/n/a", 2);
        put(&shard, "/registry/secrets/n/b", 3);
        assert_eq!(list(), [("a".to_owned(), 2), ("b".to_owned(), 3)]);
        assert_eq!(get("/registry/secrets/n/b"), Some(3));
        let one = Scope::Key("/registry/secrets/n/b".into());
        assert_eq!(initial(&shard.subscribe(one, Start::Now).unwrap()), [3]);

        shard.apply("/registry/secrets/n/b", 4, None);
        assert_eq!(list(), [("a".to_owned(), 2)]);
        assert_eq!(get("/registry/secrets/n/b"), None);

        let object = shard.index("/registry/secrets/n/c", b"{}", 5).unwrap();
        shard.reset(vec![Arc::new(object)], 5);
        assert_eq!(list(), [("c".to_owned(), 5)]);
        assert_eq!(get("/registry/secrets/n/a"), None);
    }

    #[test]
    fn a_watch_by_an_indexed_field_sees_what_comes_and_what_goes_and_nothing_else() {
        let shard = shard();
        let scope = |node: &str| Scope::Field("spec.nodeName", node.to_owned());
        let bind = |name: &str, revision, node: &str| {
            let key = format!("/registry/pods/n/{name}");
            let mut object = shard.index(&key, b"{}", revision).unwrap();
            object.fields.push(("spec.nodeName", node.to_owned()));
            shard.apply(&key, revision, Some(Arc::new(object)));
        };
        let [unbound, here, there] =
            ["", "here", "there"].map(|node| shard.subscribe(scope(node), Start::Now).unwrap());
        bind("a", 1, "");
        bind("a", 2, "here");
        bind("b", 3, "there");
        bind("a", 4, "here");
        shard.apply("/registry/pods/n/a", 5, None);
        assert_eq!(events(&unbound), [1, 2]);
        assert_eq!(events(&here), [2, 4, 5]);
        assert_eq!(events(&there), [3]);
        assert_eq!(events(&shard.subscribe(scope(""), Start::After(0)).unwrap()), [1, 2]);
        assert_eq!(initial(&shard.subscribe(scope("there"), Start::Now).unwrap()), [3]);
    }

    #[test]
    fn a_resumed_watch_sees_each_later_event_once() {
        let shard = shard();
        for revision in 1..=3 {
            put(&shard, "/registry/secrets/n/a", revision);
        }
        let resumed = shard.subscribe(Scope::All, Start::After(1)).unwrap();
        put(&shard, "/registry/secrets/n/a", 4);
        assert_eq!(events(&resumed), [2, 3, 4]);
    }

    #[test]
    fn a_state_of_the_past_is_the_present_with_what_happened_since_undone() {
        let shard = shard();
        let put = |key: &str, revision| put(&shard, &format!("/registry/secrets/{key}"), revision);
        put("n/a", 1);
        put("n/b", 2);
        put("n/c", 3);
        put("m/a", 4);
        put("n/b", 5);
        shard.apply("/registry/secrets/n/a", 6, None);
        put("n/d", 7);
        put("n/b", 8);
        put("n/a", 9);
        let list = |prefix: &str, after: Option<&str>, revision| -> Vec<(String, Revision)> {
            let after = after.map(|after| format!("/registry/secrets/{after}"));
            let prefix = format!("/registry/secrets/{prefix}");
            let found = shard.list_at(&prefix, after.as_deref(), revision).unwrap();
            found.iter().map(|object| (object.name.clone(), object.revision)).collect()
        };
        let state = |state: &[(&str, Revision)]| -> Vec<(String, Revision)> {
            state.iter().map(|(name, revision)| ((*name).to_owned(), *revision)).collect()
        };
        assert_eq!(list("n/", None, 2), state(&[("a", 1), ("b", 2)]));
        assert_eq!(list("n/", None, 4), state(&[("a", 1), ("b", 2), ("c", 3)]));
        assert_eq!(list("n/", Some("n/a"), 5), state(&[("b", 5), ("c", 3)]));
        assert_eq!(list("n/", None, 6), state(&[("b", 5), ("c", 3)]));
        assert_eq!(list("n/", Some("n/b"), 8), state(&[("c", 3), ("d", 7)]));
        assert_eq!(list("n/", None, 9), state(&[("a", 9), ("b", 8), ("c", 3), ("d", 7)]));
        assert_eq!(list("", None, 4), state(&[("a", 4), ("a", 1), ("b", 2), ("c", 3)]));
        shard.reset(Vec::new(), 20);
        assert!(shard.list_at("/registry/secrets/", None, 19).is_none());
    }

    /// A large role or pod held up every list and watch of its kind for as long as it took to read.
    #[test]
    fn observers_read_a_change_while_others_read_the_shard() {
        struct Counts {
            shard: Arc<Shard>,
            seen: Arc<parking_lot::Mutex<Vec<(usize, bool)>>>,
        }

        impl Counts {
            fn apply(&self) -> Apply<'_> {
                // Would wait for ever where the shard was locked.
                let before = self.shard.list("/registry/secrets/", &Scope::All).0.len();
                Box::new(move || {
                    let locked = self.shard.state.try_read().is_none();
                    self.seen.lock().push((before, locked));
                })
            }
        }

        impl Observer for Counts {
            fn read_all(&self, _: &[Arc<CachedObject>]) -> Apply<'_> {
                self.apply()
            }

            fn read(&self, _: &CacheEvent) -> Apply<'_> {
                self.apply()
            }
        }

        let (shard, seen) = (Arc::new(shard()), Arc::default());
        put(&shard, "/registry/secrets/n/a", 1);
        shard.observe(Arc::new(Counts { shard: shard.clone(), seen: Arc::clone(&seen) }));
        put(&shard, "/registry/secrets/n/b", 2);
        shard.apply("/registry/secrets/n/b", 3, None);
        shard.reset(Vec::new(), 4);
        // What they make of it is applied under the lock, but for what was there when they came.
        assert_eq!(*seen.lock(), [(1, false), (1, true), (2, true), (1, true)]);
    }

    #[test]
    fn a_watcher_that_does_not_read_is_dropped_and_its_queue_ends() {
        let shard = shard();
        let slow = shard.subscribe(Scope::All, Start::Now).unwrap();
        for revision in 1..=(QUEUE_EVENTS_MAX as u64) {
            put(&shard, "/registry/secrets/n/a", revision);
        }
        assert!(slow.inbox.try_next().is_ok(), "a full queue is none too many");
        for revision in 0..2 {
            put(&shard, "/registry/secrets/n/a", QUEUE_EVENTS_MAX as u64 + 1 + revision);
        }
        // Nor is what it was not told kept for it: it resumes from what it saw.
        assert_eq!(slow.inbox.try_next().err(), Some(NoEvent::Ended));
        assert!(shard.read().watchers.is_empty());
    }

    #[test]
    fn what_the_history_no_longer_holds_is_too_old() {
        let shard = shard();
        for revision in 1..=(HISTORY_EVENTS_MAX as u64 + 5) {
            put(&shard, "/registry/secrets/n/a", revision);
        }
        assert_eq!(shard.subscribe(Scope::All, Start::After(4)).err().unwrap().oldest, 5);
        assert!(shard.subscribe(Scope::All, Start::After(5)).is_ok());
    }
}
