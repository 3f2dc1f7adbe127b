//! Random histories, held against a model that is too simple to be wrong.

mod support;

use std::collections::BTreeMap;

use coffer_store::embedded::{Embedded, Options};
use coffer_store::sealed::Sealed;
use coffer_store::{Change, Event, ListOptions, Revision, Store, StoreError, Value};
use proptest::prelude::*;
use proptest::sample::Index;

use support::{Reopen, take};

/// Every write ever made; the state at a revision is what replaying up to it gives.
#[derive(Default)]
struct Model {
    writes: Vec<(String, Option<Vec<u8>>)>,
    oldest: Revision,
}

type State<'a> = BTreeMap<&'a str, (Revision, &'a [u8])>;

impl Model {
    fn newest(&self) -> Revision {
        self.writes.len() as Revision
    }

    fn at(&self, revision: Revision) -> State<'_> {
        let mut state = State::new();
        for (n, (key, value)) in self.writes.iter().take(revision as usize).enumerate() {
            match value {
                Some(value) => state.insert(key, (n as Revision + 1, value)),
                None => state.remove(key.as_str()),
            };
        }
        state
    }

    fn events(&self, prefix: &str, after: Revision) -> Vec<Event> {
        (after..self.newest())
            .filter_map(|before| {
                let (key, value) = &self.writes[before as usize];
                let existed = self.at(before).contains_key(key.as_str());
                let value = value.clone().map(Value::new);
                let change = match (value, existed) {
                    (Some(value), false) => Change::Created(value),
                    (Some(value), true) => Change::Updated(value),
                    (None, true) => Change::Deleted,
                    (None, false) => unreachable!("the model deletes what exists"),
                };
                let event = Event { revision: before + 1, key: key.clone(), change };
                key.starts_with(prefix).then_some(event)
            })
            .collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(String, Vec<u8>),
    /// The index picks the expected revision; mostly the right one is taken.
    Update(String, Vec<u8>, Option<Index>),
    Delete(String, Option<Index>),
    /// Several concurrent writes, so that they share commits.
    Together(Vec<(String, Vec<u8>)>),
    Get(String),
    List {
        prefix: &'static str,
        limit: Option<usize>,
        after: Option<String>,
        at: Option<Index>,
    },
    Compact(Index),
    Watch(&'static str, Index),
    Reopen,
}

fn keys() -> impl Strategy<Value = String> {
    // Prefixes of one another, a sealed prefix, bytes beyond ASCII.
    prop::sample::select(vec![
        "/a",
        "/a/",
        "/a/1",
        "/a/10",
        "/a/2",
        "/ab",
        "/b/é",
        "/b/\u{10ffff}",
        "/registry/secrets/a/1",
        "/registry/secrets/a/2",
        "/registry/secrets/b/1",
    ])
    .prop_map(str::to_owned)
}

fn prefixes() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "/",
        "/a",
        "/a/",
        "/a/1",
        "/b/",
        "/c",
        "/registry/secrets/",
        "/registry/secrets/a/",
    ])
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..64),
        1 => (any::<u8>(), 4000usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn wrong() -> impl Strategy<Value = Option<Index>> {
    prop::option::weighted(0.15, any::<Index>())
}

fn step() -> impl Strategy<Value = Step> {
    let at = || prop::option::of(any::<Index>());
    prop_oneof![
        6 => (keys(), values()).prop_map(|(k, v)| Step::Create(k, v)),
        6 => (keys(), values(), wrong()).prop_map(|(k, v, w)| Step::Update(k, v, w)),
        4 => (keys(), wrong()).prop_map(|(k, w)| Step::Delete(k, w)),
        1 => prop::collection::vec((keys(), values()), 1..12).prop_map(Step::Together),
        2 => keys().prop_map(Step::Get),
        4 => (prefixes(), prop::option::of(0usize..6), prop::option::of(keys()), at())
            .prop_map(|(prefix, limit, after, at)| Step::List { prefix, limit, after, at }),
        1 => any::<Index>().prop_map(Step::Compact),
        2 => (prefixes(), any::<Index>()).prop_map(|(p, i)| Step::Watch(p, i)),
        1 => Just(Step::Reopen),
    ]
}

/// A small log, so that checkpoints happen within a test.
fn options() -> Options {
    Options { checkpoint_bytes: 20_000, ..Options::default() }
}

async fn holds<S: Reopen>(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut store = S::reopen(dir.path(), options()).await;
    let mut model = Model::default();
    let mut follower = store.watch("", 0).await.expect("watch");
    let mut followed = 0;
    for step in steps {
        match step {
            Step::Create(key, value) => create(&store, &mut model, key, value).await,
            Step::Update(key, value, wrong) => {
                change(&store, &mut model, key, Some(value), wrong).await;
            }
            Step::Delete(key, wrong) => change(&store, &mut model, key, None, wrong).await,
            Step::Together(writes) => together(&store, &mut model, writes).await,
            Step::Get(key) => {
                let found = store.get(&key).await.expect("get");
                let found = found.map(|item| (item.revision, item.value));
                let state = model.at(model.newest());
                let held = state.get(key.as_str()).map(|(r, v)| (*r, Value::new(v.to_vec())));
                assert_eq!(found, held);
            }
            Step::List { prefix, limit, after, at } => {
                // One too far at either end.
                let revision = at.map(|at| at.index(model.newest() as usize + 2) as Revision);
                list(&store, &model, prefix, ListOptions { limit, after, revision }).await;
            }
            Step::Compact(at) => {
                let before = at.index(model.newest() as usize + 1) as Revision;
                store.compact(before).await.expect("compact");
                model.oldest = model.oldest.max(before);
            }
            Step::Watch(prefix, at) => {
                let after = at.index(model.newest() as usize + 1) as Revision;
                watch(&store, &model, prefix, after).await;
            }
            Step::Reopen => {
                follow(&mut follower, &model, &mut followed).await;
                store.close().await;
                store = S::reopen(dir.path(), options()).await;
                assert_eq!(store.revision().await.expect("revision"), model.newest());
                follower = store.watch("", followed).await.expect("watch");
            }
        }
    }
    follow(&mut follower, &model, &mut followed).await;
    store.close().await;
}

async fn create(store: &impl Store, model: &mut Model, key: String, value: Vec<u8>) {
    let exists = model.at(model.newest()).contains_key(key.as_str());
    match store.create(&key, Value::new(value.clone())).await {
        Ok(revision) => {
            assert!(!exists);
            model.writes.push((key, Some(value)));
            assert_eq!(revision, model.newest());
        }
        Err(StoreError::Exists { key: named }) => assert!(exists && named == key),
        Err(other) => panic!("{other}"),
    }
}

async fn change(
    store: &impl Store,
    model: &mut Model,
    key: String,
    value: Option<Vec<u8>>,
    wrong: Option<Index>,
) {
    let current = model.at(model.newest()).get(key.as_str()).map(|(revision, _)| *revision);
    let wrong = wrong.map(|wrong| wrong.index(model.newest() as usize + 2) as Revision);
    let expected = wrong.or(current).unwrap_or(1);
    let result = match value.clone() {
        Some(value) => store.update(&key, Value::new(value), expected).await,
        None => store.delete(&key, expected).await,
    };
    match result {
        Ok(revision) => {
            assert_eq!(current, Some(expected));
            model.writes.push((key, value));
            assert_eq!(revision, model.newest());
        }
        Err(StoreError::NotFound { key: named }) => assert!(current.is_none() && named == key),
        Err(StoreError::Conflict { expected: e, found, .. }) => {
            assert_eq!((e, Some(found)), (expected, current));
            assert_ne!(Some(expected), current);
        }
        Err(other) => panic!("{other}"),
    }
}

/// Creates that race: of those on the same key one may win, and the revisions say in which order.
async fn together(store: &impl Store, model: &mut Model, writes: Vec<(String, Vec<u8>)>) {
    let racing = writes.iter().map(|(key, value)| store.create(key, Value::new(value.clone())));
    let results = futures::future::join_all(racing).await;
    let mut won: Vec<_> = writes
        .into_iter()
        .zip(results)
        .filter_map(|(write, result)| match result {
            Ok(revision) => Some((revision, write)),
            Err(StoreError::Exists { .. }) => None,
            Err(other) => panic!("{other}"),
        })
        .collect();
    won.sort();
    for (revision, (key, value)) in won {
        assert!(!model.at(model.newest()).contains_key(key.as_str()));
        model.writes.push((key, Some(value)));
        assert_eq!(revision, model.newest());
    }
}

async fn list(store: &impl Store, model: &Model, prefix: &str, options: ListOptions) {
    let revision = options.revision.unwrap_or(model.newest());
    match store.list(prefix, options.clone()).await {
        Ok(page) => {
            assert!((model.oldest..=model.newest()).contains(&revision));
            let state = model.at(revision);
            let after = options.after.as_deref();
            let mut all = state.into_iter().filter(|(key, _)| {
                key.starts_with(prefix) && after.is_none_or(|after| *key > after)
            });
            let expected: Vec<_> = all.by_ref().take(options.limit.unwrap_or(usize::MAX)).collect();
            let found: Vec<_> = page
                .items
                .iter()
                .map(|item| (item.key.as_str(), (item.revision, item.value.as_bytes())))
                .collect();
            assert_eq!(found, expected);
            assert_eq!((page.remaining, page.revision), (all.count(), revision));
        }
        Err(StoreError::Compacted { requested, oldest }) => {
            assert_eq!((requested, oldest), (revision, model.oldest));
            assert!(revision < model.oldest);
        }
        Err(StoreError::Future { requested, newest }) => {
            assert_eq!((requested, newest), (revision, model.newest()));
            assert!(revision > model.newest());
        }
        Err(other) => panic!("{other}"),
    }
}

async fn watch(store: &impl Store, model: &Model, prefix: &str, after: Revision) {
    match store.watch(prefix, after).await {
        Ok(mut watch) => {
            assert!(after >= model.oldest);
            let expected = model.events(prefix, after);
            assert_eq!(take(&mut watch, expected.len()).await, expected);
        }
        Err(StoreError::Compacted { requested, oldest }) => {
            assert_eq!((requested, oldest), (after, model.oldest));
            assert!(after < model.oldest);
        }
        Err(other) => panic!("{other}"),
    }
}

/// One watcher sees everything, from before the first write, over reopening and compaction.
async fn follow(follower: &mut support::Watch, model: &Model, followed: &mut Revision) {
    let expected = model.events("", *followed);
    assert_eq!(take(follower, expected.len()).await, expected);
    *followed = model.newest();
}

fn run<S: Reopen>(steps: Vec<Step>) {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(holds::<S>(steps));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_engine_is_the_model(steps in prop::collection::vec(step(), 1..80)) {
        run::<Embedded>(steps);
    }

    #[test]
    fn a_sealed_store_is_the_model(steps in prop::collection::vec(step(), 1..80)) {
        run::<Sealed<Embedded>>(steps);
    }
}
