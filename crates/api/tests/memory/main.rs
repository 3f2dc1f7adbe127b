//! The memory that the body of a request takes, counted by the allocator: in proportion to its bytes,
//! whatever they are.
//!
//! A user who may create pods, or who may only try to, sends what the API's types, the rules of
//! ownership and the error messages make large. One body of a megabyte that takes a gigabyte is enough
//! to end a server whose memory is limited, and the limits on numbers of requests do not help.
//!
//! Every allocation of this process is counted, so the tests take turns. `cargo test -p coffer-api
//! --test memory -- --nocapture` prints a line for each family.

mod families;
#[path = "../../../../fuzz/src/pods.rs"]
mod pods;

use std::sync::{Mutex, MutexGuard, PoisonError};

use coffer_api::schema::{self, Schema, Shape};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::families::Body;
use crate::pods::{Media, Outcome, change, create};

/// Bytes at the same time for each byte of the body, at most: what a body is read with, and as much
/// again for what is made of it.
const PEAK_PER_BYTE_MAX: usize = 192;
/// And what any body may take.
const PEAK_BASE_BYTES: usize = 8 << 20;
/// The bodies of the families.
const FAMILY_BYTES: usize = 256 << 10;
/// The bodies that are filled with one kind of item at each place of a pod.
const PLACE_BYTES: usize = 64 << 10;
/// Structs in structs up to here; deeper are only the ones that are in many places.
const PLACE_DEPTH_MAX: usize = 12;
/// Offenders that a failure names.
const SHOWN_MAX: usize = 200;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

static TURN: Mutex<()> = Mutex::new(());

/// One test at a time.
fn turn() -> MutexGuard<'static, ()> {
    // Schemas are created once and kept: they do not count for any body.
    schema::of("v1", "Pod").expect("it is served");
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a body took, and how far it came.
struct Taken {
    peak: usize,
    bytes: usize,
    outcome: Outcome,
}

impl Taken {
    /// Of a request whose body, and what is stored, have so many bytes together.
    fn by(bytes: usize, request: impl FnOnce() -> Outcome) -> Self {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let outcome = request();
        let peak = MEMORY.peak_usage().saturating_sub(before);
        Self { peak, bytes, outcome }
    }

    fn by_create(media: Media, body: &[u8]) -> Self {
        Self::by(body.len(), || create(media, body))
    }

    fn is_too_much(&self) -> bool {
        self.peak > PEAK_PER_BYTE_MAX * self.bytes + PEAK_BASE_BYTES
    }

    fn text(&self, what: &str) -> String {
        let (peak, per_byte) = (self.peak as f64 / 1e6, self.peak / self.bytes.max(1));
        let (bytes, outcome) = (self.bytes, self.outcome);
        format!("{what:45} {bytes:8} bytes {peak:8.1} MB {per_byte:6} per byte  {outcome:?}")
    }
}

/// Says what each body took, and fails if any took too much.
fn within_bounds(bodies: impl Iterator<Item = (String, Taken)>) {
    let (mut count, mut beyond) = (0_usize, Vec::new());
    for (family, taken) in bodies {
        let text = taken.text(&family);
        eprintln!("{text}");
        count += 1;
        if taken.is_too_much() {
            beyond.push((taken.peak, text));
        }
    }
    beyond.sort_by_key(|(peak, _)| std::cmp::Reverse(*peak));
    let shown: Vec<_> = beyond.iter().take(SHOWN_MAX).map(|(_, text)| text.as_str()).collect();
    assert!(
        beyond.is_empty(),
        "{} of {count} take more than {PEAK_PER_BYTE_MAX} bytes per byte and {PEAK_BASE_BYTES}:\n{}",
        beyond.len(),
        shown.join("\n")
    );
}

/// The families of bodies that were made to be expensive.
#[test]
fn a_hostile_body_takes_memory_in_proportion() {
    let _turn = turn();
    // What is made once, at the first use, is not this body's.
    create(Media::Json, br#"{"spec":{"containers":[{"name":"c","image":"i"}]}}"#);
    let all = families::all(FAMILY_BYTES).into_iter();
    within_bounds(all.map(|body| (body.family, Taken::by_create(body.media, &body.bytes))));
}

#[test]
fn a_hostile_patch_takes_memory_in_proportion() {
    let _turn = turn();
    let all = families::patches(FAMILY_BYTES).into_iter();
    within_bounds(all.map(|patch| {
        let bytes = patch.bytes.len() + patch.live.len();
        let request = || change(patch.change, &patch.live, &patch.bytes);
        (patch.family.to_owned(), Taken::by(bytes, request))
    }));
}

/// A place of a pod where there can be many of something: the fields that lead to it.
fn places() -> Vec<Vec<(&'static str, bool)>> {
    fn walk(
        schema: Schema,
        path: &mut Vec<(&'static str, bool)>,
        seen: &mut Vec<&'static str>,
        places: &mut Vec<Vec<(&'static str, bool)>>,
    ) {
        if path.len() > PLACE_DEPTH_MAX {
            return;
        }
        // A struct in many places is as expensive in one as in another.
        if let Some(name) = schema.definition_name() {
            if seen.contains(&name) {
                return;
            }
            seen.push(name);
        }
        for (name, field) in schema.fields() {
            path.push((name, false));
            match field.shape() {
                Shape::List(item, _) => {
                    places.push(path.clone());
                    path.last_mut().expect("it was pushed").1 = true;
                    walk(item, path, seen, places);
                }
                Shape::Map(_) => places.push(path.clone()),
                Shape::Struct => walk(field, path, seen, places),
                Shape::Scalar | Shape::Any => {}
            }
            path.pop();
        }
    }
    let mut places = Vec::new();
    let pod = schema::of("v1", "Pod").expect("it is served");
    walk(pod, &mut Vec::new(), &mut Vec::new(), &mut places);
    places
}

/// A pod with many of one item at a place: in a list, and as a map's members.
fn filled(place: &[(&'static str, bool)], item: &str, bytes: usize, map: bool) -> Vec<u8> {
    let (mut before, mut after) = (String::new(), String::new());
    for (name, in_list) in place {
        before.push_str(&format!("{{\"{name}\":"));
        after.insert(0, '}');
        if *in_list {
            before.push('[');
            after.insert(0, ']');
        }
    }
    let (open, close) = if map { ('{', '}') } else { ('[', ']') };
    before.push(open);
    after.insert(0, close);
    let mut number = 0_usize;
    while before.len() + after.len() + item.len() + 16 < bytes {
        if number > 0 {
            before.push(',');
        }
        if map {
            before.push_str(&format!("\"{number}\":"));
        }
        before.push_str(item);
        number += 1;
    }
    (before + &after).into_bytes()
}

/// Where a pod can have many of something, it has many of nothing: `{}` is the shortest item, and its
/// type may have a hundred fields.
#[test]
fn many_empty_items_at_any_place_take_memory_in_proportion() {
    let _turn = turn();
    let places = places();
    assert!(places.len() > 90, "the places of a pod are found: {}", places.len());
    let bodies = places.iter().flat_map(|place| {
        let path: Vec<_> = place.iter().map(|(name, _)| *name).collect();
        let path = path.join(".");
        [("{}", false), ("\"\"", false), ("\"\"", true)].map(|(item, map)| Body {
            family: format!("{path}: {item}{}", if map { " by key" } else { "" }),
            media: Media::Json,
            bytes: filled(place, item, PLACE_BYTES, map),
        })
    });
    within_bounds(bodies.map(|body| {
        let taken = Taken::by_create(body.media, &body.bytes);
        (body.family, taken)
    }));
}

/// Small values in great numbers.
fn items() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({})),
        Just(json!([])),
        Just(Value::Null),
        Just(json!("")),
        any::<i8>().prop_map(Value::from),
        "[a-z$()./{}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(
                "(name|key|value|valueFrom|secretKeyRef|image|env|path|items|x)",
                inner,
                0..4
            )
            .prop_map(|fields| json!(fields)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn many_of_anything_anywhere_take_memory_in_proportion(
        place in prop::sample::select(places()),
        item in items(),
        map in any::<bool>(),
        yaml in any::<bool>(),
    ) {
        let _turn = turn();
        let body = filled(&place, &item.to_string(), PLACE_BYTES, map);
        let media = if yaml { Media::Yaml } else { Media::Json };
        let taken = Taken::by_create(media, &body);
        prop_assert!(!taken.is_too_much(), "{}", taken.text(&item.to_string()));
    }
}

/// The families are what they are meant to be: small ones, within what any body may take, get past the
/// decoder, and some would be stored.
#[test]
fn hostile_bodies_reach_every_step() {
    let _turn = turn();
    let bodies = families::all(1 << 10);
    let outcome = |body: &Body| create(body.media, &body.bytes);
    let of = |wanted: Outcome| bodies.iter().filter(|body| outcome(body) == wanted).count();
    let (created, invalid) = (of(Outcome::Created), of(Outcome::Invalid));
    assert!(created >= 15, "{created} of {} would be stored", bodies.len());
    assert!(invalid >= 15, "{invalid} of {} break rules", bodies.len());
    // Of protobuf's, whose empty items have two bytes, those that no budget refuses.
    let protobuf = bodies.iter().filter(|body| body.media == Media::Protobuf);
    let read = protobuf.filter(|body| outcome(body) != Outcome::Malformed).count();
    assert!(read >= 5, "{read} are read");
    for patch in families::patches(1 << 10) {
        let outcome = change(patch.change, &patch.live, &patch.bytes);
        let meant = matches!(patch.family, "JSON patch: an empty value" | "apply: empty");
        assert_eq!(outcome == Outcome::Malformed, meant, "{}: {outcome:?}", patch.family);
    }
}
