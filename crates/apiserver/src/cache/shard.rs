//! One kind's objects, its recent events, and its watchers.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use coffer_store::{Revision, Value};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::inbox::{self, Inbox, Queue};
use super::note::{Described, Facts, Note};
use super::objects::Objects;
use super::{CacheEvent, CachedObject, Index, ShardSource};

/// Events kept per kind for watchers that resume.
const HISTORY_EVENTS_MAX: usize = 4096;
/// Bytes of objects kept alive per kind by that history.
const HISTORY_BYTES_MAX: usize = 64 << 20;

/// A collection with more objects than this is large.
const LARGE_OBJECTS: usize = 1024;
/// So is one with more bytes than this.
const LARGE_BYTES: usize = 1 << 20;

/// Fields that watchers are indexed by, because many watch for one value each: every node its
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
    /// With the current state, then later events.
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
    /// First the current state for [`Start::Now`], or past events; then later events. It ends when the
    /// watcher was too slow or the server stops.
    pub(crate) inbox: Inbox,
    /// The revision of the state, or of the last past event, that the inbox begins with.
    pub(crate) revision: Revision,
}

/// Called with every change under the lock that makes it visible, before any watcher gets it: what is
/// derived from objects is never behind what a client has seen. Must not call back into the shard.
pub(crate) trait Observer: Send + Sync {
    /// Whether it makes facts: only then are values decoded for it.
    fn makes_facts(&self) -> bool {
        false
    }
    /// What is to be kept of a typed object, whose encoding has so many bytes; `None`: nothing. Made
    /// before the lock is taken, by the writer where that is this process: reads do not wait for it.
    fn facts(&self, _object: &dyn Any, _bytes: usize) -> Option<Facts> {
        None
    }
    /// The whole state, at the beginning and after a reload.
    fn reset(&self, objects: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>);
    /// One write, with the facts of the object after it.
    fn changed(&self, event: &CacheEvent, facts: Option<&Facts>);
    /// The same write, once the lock is released and before its revision counts as applied: for what
    /// takes longer than readers should wait, and is to be as fresh as a read that settles.
    fn applied(&self, _event: &CacheEvent) {}
}

/// An object on its way into the cache.
pub(super) struct New {
    pub(super) object: Arc<CachedObject>,
    /// What each observer made of it.
    facts: Vec<Option<Facts>>,
}

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

    /// Makes an object of stored bytes: of a page of the past, or of what the store has now.
    pub(crate) fn index(&self, key: &str, value: &[u8], revision: Revision) -> CachedObject {
        let index = || {
            let entry = self.index.entry(value)?;
            Ok(CachedObject::of(key, revision, self.index.stamp(value, revision)?, entry))
        };
        index().unwrap_or_else(|reason| self.undecoded(key, value, revision, reason))
    }

    /// Makes an object of a value that cannot be decoded.
    fn undecoded(
        &self,
        key: &str,
        value: &[u8],
        revision: Revision,
        reason: String,
    ) -> CachedObject {
        tracing::error!(key, reason, "stored object cannot be decoded; it can only be deleted");
        let bytes = Zeroizing::new(value.to_vec());
        CachedObject::undecoded(key, &self.prefix, revision, crate::encoded::erasing(bytes))
    }

    /// What each observer wants to keep of a typed object: for its writer to note.
    pub(crate) fn facts(&self, object: &dyn Any, bytes: usize) -> Vec<Option<Facts>> {
        self.observers().iter().map(|observer| observer.facts(object, bytes)).collect()
    }

    /// Makes an object of a stored value, by its writer's note where there is one. Of one that cannot be
    /// decoded observers get the key only.
    pub(super) fn take_in(&self, key: &str, value: &Value, revision: Revision) -> New {
        self.decoded(key, value, revision).unwrap_or_else(|reason| {
            let object = self.undecoded(key, value.as_bytes(), revision, reason);
            let facts = self.observers().iter().map(|_| None).collect();
            New { object: Arc::new(object), facts }
        })
    }

    fn decoded(&self, key: &str, value: &Value, revision: Revision) -> Result<New, String> {
        let note = value.note().and_then(|note| note.downcast_ref::<Note>());
        let stamp = || self.index.stamp(value.as_bytes(), revision);
        let bytes = note.map_or_else(stamp, |note| note.stamped(revision, stamp))?;
        // An observer that came meanwhile is not in the note.
        let all = |described: &Described| described.facts.len() == self.observers().len();
        let described = match note.and_then(Note::take).filter(all) {
            Some(described) => described,
            None => self.describe(key, value.as_bytes())?,
        };
        let Described { entry, facts } = described;
        Ok(New { object: Arc::new(CachedObject::of(key, revision, bytes, entry)), facts })
    }

    /// What a value says of itself, decoded as a whole only where an observer makes facts of it. Of what
    /// cannot be decoded as a whole nothing follows, but it is there.
    fn describe(&self, key: &str, value: &[u8]) -> Result<Described, String> {
        let (count, reads) = {
            let observers = self.observers();
            (observers.len(), observers.iter().any(|observer| observer.makes_facts()))
        };
        if reads {
            let mut facts = Vec::new();
            let look = &mut |object: &dyn Any| facts = self.facts(object, value.len());
            match self.index.whole(value, look) {
                Ok(entry) => return Ok(Described { entry, facts }),
                Err(error) => tracing::error!(key, %error, "cannot decode a stored object"),
            }
        }
        let facts = (0..count).map(|_| None).collect();
        Ok(Described { entry: self.index.entry(value)?, facts })
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
    /// revision that is applied: the current state with what happened since undone. `None` where
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

    pub(super) fn reset(&self, all: Vec<New>, revision: Revision) {
        let objects = all.iter().map(|new| new.object.clone()).collect();
        let mut state = self.write();
        state.end_watchers();
        *state = State { objects, floor: revision, newest: revision, ..Default::default() };
        for (at, observer) in self.observers().iter().enumerate() {
            let facts: Vec<_> = all.iter().map(|new| self.seen_by(at, &**observer, new)).collect();
            let seen = all.iter().zip(&facts);
            observer.reset(&mut seen.map(|(new, facts)| (&*new.object, facts.as_ref())));
        }
    }

    /// What the observer at this place made of an object. One that came after the facts were made is
    /// shown the object now.
    fn seen_by(&self, at: usize, observer: &dyn Observer, new: &New) -> Option<Facts> {
        match new.facts.get(at) {
            Some(facts) => facts.clone(),
            None => self.facts_for(observer, &new.object),
        }
    }

    fn observers(&self) -> RwLockReadGuard<'_, Vec<Arc<dyn Observer>>> {
        self.observers.read()
    }

    /// Adds an observer and shows it the current state.
    pub(crate) fn observe(&self, observer: Arc<dyn Observer>) {
        loop {
            let (objects, newest) = self.list(&self.prefix, &Scope::All);
            let facts: Vec<_> = objects.iter().map(|it| self.facts_for(&*observer, it)).collect();
            // The state's lock first, as everywhere: no change falls between the two.
            let state = self.write();
            if state.newest != newest {
                continue;
            }
            let seen = objects.iter().zip(&facts);
            observer.reset(&mut seen.map(|(object, facts)| (&**object, facts.as_ref())));
            self.observers.write().push(observer);
            return;
        }
    }

    /// A new observer's facts of an existing object.
    fn facts_for(&self, observer: &dyn Observer, object: &CachedObject) -> Option<Facts> {
        let mut facts = None;
        if !observer.makes_facts() || !object.is_decoded {
            return facts;
        }
        let mut look = |typed: &dyn Any| facts = observer.facts(typed, object.bytes.len());
        if let Err(error) = self.index.whole(&object.bytes, &mut look) {
            // What was stored was typed once; of what cannot be read nothing follows.
            tracing::error!(key = &*object.key, %error, "cannot decode a stored object");
        }
        facts
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

    /// Whether the collection below `prefix` is so large that responses with all of it are limited.
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

    /// Takes one write: `new` is the object after it, `None` when it is deleted.
    pub(super) fn apply(&self, key: &str, revision: Revision, new: Option<New>) {
        let mut state = self.write();
        let old = match &new {
            Some(new) => state.objects.insert(new.object.clone()),
            None => state.objects.remove(key),
        };
        state.newest = revision;
        if old.is_none() && new.is_none() {
            return;
        }
        let object = new.as_ref().map(|new| new.object.clone());
        let event = Arc::new(CacheEvent { revision, old, new: object });
        for (at, observer) in self.observers().iter().enumerate() {
            let facts = new.as_ref().and_then(|new| self.seen_by(at, &**observer, new));
            observer.changed(&event, facts.as_ref());
        }
        state.remember(event.clone());
        state.dispatch(&event);
        drop(state);
        for observer in self.observers().iter() {
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
    use bytes::Bytes;

    use super::super::Entry;
    use super::super::inbox::{Initial, NoEvent, QUEUE_EVENTS_MAX};
    use super::*;

    struct Plain;

    impl Index for Plain {
        fn stamp(&self, value: &[u8], _: Revision) -> Result<Bytes, String> {
            Ok(value.to_vec().into())
        }

        fn entry(&self, _: &[u8]) -> Result<Entry, String> {
            Ok(Entry::default())
        }

        /// The typed object is the text, if it is text.
        fn whole(&self, value: &[u8], look: &mut dyn FnMut(&dyn Any)) -> Result<Entry, String> {
            look(&String::from_utf8(value.to_vec()).map_err(|_| "not text")?);
            self.entry(value)
        }
    }

    /// An object of the key's namespace and name.
    fn named(key: &str, revision: Revision, bytes: Bytes) -> New {
        let mut parts = key.rsplit('/').map(str::to_owned);
        let name = parts.next().unwrap_or_default();
        let entry = Entry { name, namespace: parts.next().unwrap_or_default(), ..Entry::default() };
        let object = Arc::new(CachedObject::of(key, revision, bytes, entry));
        New { object, facts: Vec::new() }
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
        shard.apply(key, revision, Some(named(key, revision, Bytes::from_static(b"{}"))));
    }

    #[test]
    fn a_watch_of_one_object_gets_no_events_of_others() {
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

        let object = named("/registry/secrets/n/c", 5, Bytes::from_static(b"{}"));
        shard.reset(vec![object], 5);
        assert_eq!(list(), [("c".to_owned(), 5)]);
        assert_eq!(get("/registry/secrets/n/a"), None);
    }

    #[test]
    fn a_watch_by_an_indexed_field_sees_what_comes_and_what_goes_and_nothing_else() {
        let shard = shard();
        let scope = |node: &str| Scope::Field("spec.nodeName", node.to_owned());
        let bind = |name: &str, revision, node: &str| {
            let key = format!("/registry/pods/n/{name}");
            let mut new = named(&key, revision, Bytes::from_static(b"{}"));
            let object = Arc::get_mut(&mut new.object).unwrap();
            object.fields.push(("spec.nodeName", node.to_owned()));
            shard.apply(&key, revision, Some(new));
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
    fn a_past_state_is_the_current_state_with_later_events_undone() {
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

    /// Keeps the newest fact, which is the text.
    #[derive(Default)]
    struct Last(parking_lot::Mutex<Vec<Option<String>>>);

    impl Last {
        fn take(&self) -> Vec<Option<String>> {
            std::mem::take(&mut *self.0.lock())
        }

        fn text(facts: Option<&Facts>) -> Option<String> {
            facts.and_then(|facts| facts.downcast_ref().cloned())
        }
    }

    impl Observer for Last {
        fn makes_facts(&self) -> bool {
            true
        }

        fn facts(&self, object: &dyn Any, _: usize) -> Option<Facts> {
            Some(Arc::new(object.downcast_ref::<String>()?.clone()))
        }

        fn reset(&self, objects: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>) {
            self.0.lock().extend(objects.map(|(_, facts)| Self::text(facts)));
        }

        fn changed(&self, _: &CacheEvent, facts: Option<&Facts>) {
            self.0.lock().push(Self::text(facts));
        }
    }

    const KEY: &str = "/registry/secrets/n/a";

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_there_and_gives_observers_nothing() {
        let (shard, last) = (shard(), Arc::new(Last::default()));
        shard.observe(last.clone());
        for (revision, value) in [(1, &b"readable"[..]), (2, b"\xff")] {
            let new = shard.take_in(KEY, &Value::new(value.to_vec()), revision);
            shard.apply(KEY, revision, Some(new));
        }
        assert_eq!(last.take(), [text("readable"), None]);
        assert_eq!(shard.get(KEY).unwrap().revision, 2);
        // Nor does it to one that comes later, or when all is listed again.
        let later = Arc::new(Last::default());
        shard.observe(later.clone());
        let new = shard.take_in(KEY, &Value::new(b"\xff".to_vec()), 3);
        shard.reset(vec![new], 3);
        assert_eq!((last.take(), later.take()), (vec![None], vec![None, None]));
    }

    #[test]
    fn facts_come_from_the_writers_note_and_an_observer_that_it_does_not_know_is_shown_the_object()
    {
        let (shard, last) = (shard(), Arc::new(Last::default()));
        shard.observe(last.clone());
        let noted = |written: &str| {
            let facts = shard.facts(&written.to_owned(), written.len());
            let note = Note::new(Described { entry: Entry::default(), facts });
            Value::noted(b"stored".to_vec(), Arc::new(note))
        };
        let (one, two, three) = (noted("one"), noted("two"), noted("three"));
        shard.apply(KEY, 1, Some(shard.take_in(KEY, &one, 1)));
        assert_eq!(last.take(), [text("one")]);
        // The note was taken: a second look is at the bytes.
        shard.apply(KEY, 2, Some(shard.take_in(KEY, &one, 2)));
        assert_eq!(last.take(), [text("stored")]);

        let under_way = shard.take_in(KEY, &two, 3);
        let later = Arc::new(Last::default());
        shard.observe(later.clone());
        assert_eq!(later.take(), [text("stored")]);
        shard.apply(KEY, 3, Some(under_way));
        assert_eq!((last.take(), later.take()), (vec![text("two")], vec![text("stored")]));
        shard.apply(KEY, 4, Some(shard.take_in(KEY, &three, 4)));
        assert_eq!((last.take(), later.take()), (vec![text("stored")], vec![text("stored")]));
        shard.apply(KEY, 5, None);
        assert_eq!((last.take(), later.take()), (vec![None], vec![None]));
    }

    #[test]
    fn a_watcher_that_does_not_read_is_dropped_and_its_queue_ends() {
        let shard = shard();
        let slow = shard.subscribe(Scope::All, Start::Now).unwrap();
        for revision in 1..=(QUEUE_EVENTS_MAX as u64) {
            put(&shard, "/registry/secrets/n/a", revision);
        }
        assert!(slow.inbox.try_next().is_ok(), "a full queue is not too full");
        for revision in 0..2 {
            put(&shard, "/registry/secrets/n/a", QUEUE_EVENTS_MAX as u64 + 1 + revision);
        }
        // Nor is what it did not get kept for it: it resumes from what it saw.
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
