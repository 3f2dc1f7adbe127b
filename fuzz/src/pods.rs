//! What becomes of the body of a request to create or to patch a pod, between the socket and the store,
//! step by step as the API server does it and without the server.
//!
//! The fuzz target `pod_memory` gives it bytes, and so does `crates/api/tests/memory`, whose module this
//! is, too. It needs nothing but `coffer_api`.

#![allow(unreachable_pub, reason = "private in the test, public for the fuzz targets")]

use coffer_api::apply::{self, Writer};
use coffer_api::field::ErrorList;
use coffer_api::kinds::{Kind, Pod};
use coffer_api::patch::{self, PatchKind};
use coffer_api::schema::read::{self, Budget, Unknown};
use coffer_api::schema::strict::Findings;
use coffer_api::schema::{self, strict};
use coffer_api::status::Failure;
use coffer_api::{Document, demand, protobuf, yaml};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Json,
    Yaml,
    Protobuf,
}

/// How a change is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Patch(PatchKind),
    Apply,
}

/// How far a body came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not an object in this form, or no pod.
    Malformed,
    /// It is a pod that breaks rules.
    Invalid,
    /// It would be stored.
    Created,
}

/// A body as a document within its budget, as `apiserver/src/body.rs` reads it, and what a strict reader
/// finds in it.
fn parse(media: Media, body: &[u8]) -> Option<(Document, Vec<String>)> {
    let schema = schema::of("v1", "Pod");
    let (mut budget, mut findings) = (Budget::of_body(body.len()), Findings::default());
    let unknown = Unknown::Drop;
    let document = match media {
        Media::Json => read::read_json_strict(body, schema, unknown, &mut budget, &mut findings)
            .map(Document::new)
            .map_err(drop),
        Media::Yaml => {
            yaml::read_last_wins_strict(body, schema, unknown, &mut budget, &mut findings)
                .map_err(drop)
        }
        Media::Protobuf => protobuf::decode_within(body, &mut budget).map_err(drop),
    };
    let document = document.ok().filter(|_| !budget.is_exceeded())?;
    let fits = media != Media::Protobuf
        || read::weigh(document.value(), schema, &mut Budget::of_body(body.len()));
    fits.then(|| (document, findings.into_errors()))
}

/// Decodes, defaults, tracks, admits, validates and encodes a pod, and reads it as the cache does.
pub fn create(media: Media, body: &[u8]) -> Outcome {
    stored(media, body).map_or_else(|outcome| outcome, |_| Outcome::Created)
}

/// As [`create`]; returns what would be stored.
pub fn stored(media: Media, body: &[u8]) -> Result<Vec<u8>, Outcome> {
    let mut pod = decode(media, body).ok_or(Outcome::Malformed)?;
    // As the URL says, if the body does not.
    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    track(&mut pod, None)?;
    refers_to(&pod);
    pod.prepare_for_create();
    finish(&pod, pod.validate())
}

/// Patches a stored pod.
pub fn change(change: Change, live: &[u8], body: &[u8]) -> Outcome {
    changed(change, live, body).map_or_else(|outcome| outcome, |_| Outcome::Created)
}

fn changed(change: Change, live: &[u8], body: &[u8]) -> Result<Vec<u8>, Outcome> {
    let mut old: Pod = serde_json::from_slice(live).expect("it was stored");
    // As the cache has it.
    old.metadata.resource_version = Some("1".to_owned());
    let document = Document::encode(&old).expect("an API type encodes");
    let schema = schema::of("v1", "Pod").expect("it is served");
    let mut pod = match change {
        Change::Patch(kind) => {
            let mut patched = patch::apply(kind, document, body, schema).map_err(|error| {
                drop(Failure::from(&error));
                Outcome::Malformed
            })?;
            let _ = strict::check_patch(body, kind == PatchKind::Json);
            drop(strict::message(&strict::unknown_fields(patched.value(), schema)));
            let mut pod = settled(&mut patched).ok_or(Outcome::Malformed)?;
            drop(patched);
            track(&mut pod, Some(&old))?;
            pod
        }
        Change::Apply => {
            let mut budget = Budget::of_apply(body.len());
            let intent = yaml::read_last_wins(body, Some(schema), Unknown::Keep, &mut budget)
                .ok()
                .filter(|_| !budget.is_exceeded())
                .ok_or(Outcome::Malformed)?;
            let applied = apply::apply(Some(&document), &intent, &writer(), false);
            let mut applied = applied.map_err(|error| {
                drop(Failure::from(&error));
                Outcome::Malformed
            })?;
            settled(&mut applied.object).ok_or(Outcome::Malformed)?
        }
    };
    refers_to(&pod);
    pod.prepare_for_update(&old, None);
    let errors = pod.validate_update(&old, None);
    finish(&pod, errors)
}

/// The end of each write: the Status of what is wrong, or what is stored and read again.
fn finish(pod: &Pod, errors: ErrorList) -> Result<Vec<u8>, Outcome> {
    if !errors.is_empty() {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let failure = Failure::invalid("", "Pod", name, &errors);
        drop(serde_json::to_vec(&failure.status()).expect("a Status encodes"));
        return Err(Outcome::Invalid);
    }
    let stored = serde_json::to_vec(pod).expect("an API type encodes");
    let cached: Pod = serde_json::from_slice(&stored).expect("what was encoded decodes");
    drop((cached.fields(), pod.warnings()));
    Ok(stored)
}

/// The typed pod, with its defaults, after all that there is to warn about is known.
fn decode(media: Media, body: &[u8]) -> Option<Pod> {
    let (mut document, warnings) = parse(media, body)?;
    if !document.value().is_object() {
        return None;
    }
    document.value_mut()["apiVersion"] = "v1".into();
    document.value_mut()["kind"] = "Pod".into();
    let pod = settled(&mut document)?;
    drop(strict::message(&warnings));
    Some(pod)
}

/// The typed pod of a document, with its defaults, if it is no larger than its text may make it.
fn settled(document: &mut Document) -> Option<Pod> {
    let schema = schema::of("v1", "Pod").expect("it is served");
    let mut budget = Budget::of_body(document.json_len());
    if !read::weigh(document.value(), Some(schema), &mut budget) {
        return None;
    }
    schema::fit::normalize(document.value_mut(), schema);
    let mut pod: Pod = document.decode().ok()?;
    pod.set_defaults();
    Some(pod)
}

fn writer() -> Writer<'static> {
    let schema = schema::of("v1", "Pod").expect("it is served");
    let now = jiff::Timestamp::UNIX_EPOCH;
    let (manager, subresource) = ("memory", None);
    Writer { schema, api_version: "v1", kind: "Pod", manager, subresource, now }
}

/// Makes the writer the owner of what differs from the old pod, or of all, as
/// `apiserver/src/managed.rs` does.
fn track(pod: &mut Pod, old: Option<&Pod>) -> Result<(), Outcome> {
    let encode = |pod: &Pod| Document::encode(pod).expect("an API type encodes");
    let managed = {
        let (old, new) = (old.map(encode), encode(pod));
        apply::managed_fields(old.as_ref().map(Document::value), new.value(), &writer())
    };
    if managed.encoded_len() > apply::MANAGED_BYTES_MAX {
        return Err(Outcome::Invalid);
    }
    pod.metadata.managed_fields = managed.entries();
    Ok(())
}

/// What admission looks at: what the pod asks for, and the objects that it names.
fn refers_to(pod: &Pod) -> usize {
    let Some(spec) = &pod.spec else { return 0 };
    drop((demand::requests(spec), demand::limits(spec)));
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let variables = containers.flat_map(|container| container.env.iter().flatten());
    let named = variables.filter_map(|variable| variable.value_from.as_ref());
    named.count() + spec.volumes.iter().flatten().filter(|volume| volume.secret.is_some()).count()
}
