//! Served kinds without their types: what lets one registry handle all of them.
//!
//! `coffer_api::kinds::Kind` is generic; the registry is not. [`Object`] is a typed object behind
//! a pointer, [`Resource`] its kind's codec and place in the store. Nothing here is untyped JSON:
//! a body that does not fit its type does not become an [`Object`].

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use coffer_api::field::ErrorList;
use coffer_api::kinds::{self, Event, Kind, KindInfo, SeriesEvent};
use coffer_api::schema::Schema;
use coffer_api::schema::fit::Step;
use coffer_api::status::{Failure, GroupResource};
use coffer_api::{Document, redact, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;
use zeroize::Zeroizing;

use crate::cache::{CachedObject, Index, Shard, ShardSource};
use crate::encoded::{Head, metadata_first, stamp};
use crate::printers::{Column, Printed, RowCondition};

/// A typed object of some served kind.
pub(crate) trait Object: Send + Sync {
    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    fn set_defaults(&mut self);
    fn prepare_for_create(&mut self);
    fn prepare_for_update(&mut self, old: &dyn Object, sub: Option<&str>);
    fn validate(&self) -> ErrorList;
    fn validate_update(&self, old: &dyn Object, sub: Option<&str>) -> ErrorList;
    fn fields(&self) -> Vec<(&'static str, String)>;
    fn warnings(&self) -> Vec<String>;
    fn cells(&self, now: jiff::Timestamp) -> Vec<Value>;
    fn row_condition(&self) -> Option<RowCondition>;
    /// The untyped form.
    fn document(&self) -> Document;
    /// JSON with apiVersion, kind and metadata first.
    fn encode(&self) -> Zeroizing<Vec<u8>>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

const SAME_KIND: &str = "one resource's objects have one type";

impl<K: Kind + Printed> Object for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }

    fn set_defaults(&mut self) {
        Kind::set_defaults(self);
    }

    fn prepare_for_create(&mut self) {
        Kind::prepare_for_create(self);
    }

    fn prepare_for_update(&mut self, old: &dyn Object, sub: Option<&str>) {
        Kind::prepare_for_update(self, old.as_any().downcast_ref().expect(SAME_KIND), sub);
    }

    fn validate(&self) -> ErrorList {
        Kind::validate(self)
    }

    fn validate_update(&self, old: &dyn Object, sub: Option<&str>) -> ErrorList {
        Kind::validate_update(self, old.as_any().downcast_ref().expect(SAME_KIND), sub)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        Kind::fields(self)
    }

    fn warnings(&self) -> Vec<String> {
        Kind::warnings(self)
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        Printed::cells(self, now)
    }

    fn row_condition(&self) -> Option<RowCondition> {
        Printed::condition(self)
    }

    fn document(&self) -> Document {
        Document::encode(self).expect("API types have string keys only")
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let json = serde_json::to_vec(self).expect("API types have string keys only");
        metadata_first(Zeroizing::new(json))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Typed decoding went wrong: where, and why, without any value.
#[derive(Debug, thiserror::Error)]
#[error("{reason}{}", if path.is_empty() { String::new() } else { format!(" (at {path})") })]
pub(crate) struct DecodeError {
    /// Empty where the reason names the place itself.
    path: String,
    reason: String,
}

type Decode = fn(&Document) -> Result<Box<dyn Object>, DecodeError>;
type Parse = fn(&[u8]) -> Result<Box<dyn Object>, DecodeError>;

/// One served resource: its kind, codec, and place in store and cache.
pub(crate) struct Resource {
    pub(crate) info: &'static KindInfo,
    pub(crate) columns: &'static [Column],
    stored: &'static KindInfo,
    head: Head,
    prefix: String,
    decode: Decode,
    parse: Parse,
    outward: Option<Outward>,
    shard: OnceLock<Arc<Shard>>,
}

/// From the stored version's JSON to a second version's.
type Outward = fn(&[u8]) -> Option<Zeroizing<Vec<u8>>>;

impl Resource {
    fn of<K: Kind + Printed>() -> Self {
        let info = K::INFO;
        Self {
            info,
            stored: info,
            columns: K::COLUMNS,
            head: Head::new(&info.api_version(), info.kind),
            prefix: format!("/registry/{}/", info.plural),
            decode: decode::<K>,
            parse: parse::<K>,
            outward: None,
            shard: OnceLock::new(),
        }
    }

    /// For messages: `secrets`, `deployments.apps`.
    pub(crate) fn group_resource(&self) -> GroupResource<'static> {
        GroupResource { group: self.info.group, resource: self.info.plural }
    }

    /// The storage key of an object.
    pub(crate) fn key(&self, namespace: &str, name: &str) -> String {
        if self.info.namespaced {
            [&self.prefix, namespace, "/", name].concat()
        } else {
            [&self.prefix, name].concat()
        }
    }

    /// The storage prefix of a collection; all namespaces where `namespace` is empty.
    pub(crate) fn collection(&self, namespace: &str) -> String {
        if namespace.is_empty() || !self.info.namespaced {
            self.prefix.clone()
        } else {
            format!("{}{namespace}/", self.prefix)
        }
    }

    /// The kind's part of the cache.
    pub(crate) fn shard(&self) -> &Shard {
        self.shard.get().expect("shards are set before the first request")
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The kind as it is stored: its own, unless it is another version's view of one.
    pub(crate) fn stored_info(&self) -> &'static KindInfo {
        self.stored
    }

    /// Whether clients get the stored bytes as they are.
    pub(crate) fn is_stored_form(&self) -> bool {
        self.outward.is_none()
    }

    /// The object a document describes.
    ///
    /// # Errors
    /// Names the field and no value.
    pub(crate) fn decode(&self, document: &Document) -> Result<Box<dyn Object>, DecodeError> {
        (self.decode)(document)
    }

    /// The object in stored or stamped bytes.
    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<Box<dyn Object>, Failure> {
        (self.parse)(bytes).map_err(|error| Failure::internal(format!("stored object: {error}")))
    }

    /// Everything wrong with a new object, by the rules of the version it came in.
    pub(crate) fn validate(&self, object: &dyn Object) -> ErrorList {
        match self.series_event(object) {
            Some(event) => kinds::event::validate_series_form(event),
            None => object.validate(),
        }
    }

    /// Everything wrong with a successor, by the rules of the version it came in.
    pub(crate) fn validate_update(
        &self,
        object: &dyn Object,
        old: &dyn Object,
        sub: Option<&str>,
    ) -> ErrorList {
        match (self.series_event(object), self.series_event(old)) {
            (Some(new), Some(old)) => kinds::event::validate_series_form_update(new, old),
            _ => object.validate_update(old, sub),
        }
    }

    /// The stored event, where this is the second form of events.
    fn series_event<'a>(&self, object: &'a dyn Object) -> Option<&'a Event> {
        self.outward.and_then(|_| object.as_any().downcast_ref())
    }

    /// Warnings for an update; upstream has none for pods, whose spec hardly changes.
    pub(crate) fn update_warnings(&self, object: &dyn Object) -> Vec<String> {
        if object.as_any().is::<kinds::Pod>() { Vec::new() } else { object.warnings() }
    }

    /// The bytes a client of this version gets.
    pub(crate) fn present(&self, bytes: &Bytes) -> Bytes {
        match self.outward.and_then(|outward| outward(bytes)) {
            Some(converted) => crate::encoded::erasing(converted),
            None => bytes.clone(),
        }
    }
}

/// `events.k8s.io/v1`, a second form of what is stored as core/v1 events: one list of events,
/// whichever way they come in.
fn events_view() -> Resource {
    Resource {
        info: SeriesEvent::INFO,
        decode: |document| {
            let event = typed::<SeriesEvent>(document)?;
            Ok(Box::new(kinds::event::to_core(event)))
        },
        outward: Some(|bytes| {
            let event = serde_json::from_slice::<Event>(bytes).ok()?;
            serde_json::to_vec(&kinds::event::from_core(event)).ok().map(Zeroizing::new)
        }),
        ..Resource::of::<Event>()
    }
}

fn decode<K: Kind + Printed>(document: &Document) -> Result<Box<dyn Object>, DecodeError> {
    typed::<K>(document).map(|object| Box::new(object) as Box<dyn Object>)
}

fn parse<K: Kind + Printed>(bytes: &[u8]) -> Result<Box<dyn Object>, DecodeError> {
    serde_json::from_slice::<K>(bytes)
        .map(|object| Box::new(object) as Box<dyn Object>)
        .map_err(|error| DecodeError { path: "object".to_owned(), reason: redact::json(&error) })
}

/// A typed value from a document; the error names the field.
pub(crate) fn typed<T: DeserializeOwned>(document: &Document) -> Result<T, DecodeError> {
    let text = |name: &str| document.value()[name].as_str();
    let schema = text("apiVersion").zip(text("kind"));
    let schema = schema.and_then(|(version, kind)| schema::of(version, kind));
    typed_as(document, schema)
}

/// As [`typed`], of a document that need not say what it is.
pub(crate) fn typed_as<T: DeserializeOwned>(
    document: &Document,
    schema: Option<Schema>,
) -> Result<T, DecodeError> {
    serde_path_to_error::deserialize(document.value()).map_err(|error| {
        let (root, path) = (document.value(), redact::path(error.path()));
        if let Some((steps, schema)) = steps(error.path()).zip(schema) {
            // What Go says of a value of the wrong type names the place itself.
            if let Some(reason) = schema::fit::misfit(root, schema, steps.iter().copied()) {
                return DecodeError { path: String::new(), reason };
            }
            if let Some(corrupt) = schema::fit::corrupt_base64(root, schema, steps) {
                return DecodeError { path, reason: corrupt.to_string() };
            }
        }
        DecodeError { path, reason: redact::json(error.inner()) }
    })
}

fn steps(path: &serde_path_to_error::Path) -> Option<Vec<Step<'_>>> {
    path.iter()
        .map(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key)),
            Segment::Seq { index } => Some(Step::Index(*index)),
            _ => None,
        })
        .collect()
}

/// Reads labels and selectable fields with the kind's own type.
struct TypedIndex {
    head: Head,
    parse: Parse,
}

impl Index for TypedIndex {
    fn index(&self, key: &str, value: &[u8], revision: u64) -> Result<CachedObject, String> {
        let mut object = (self.parse)(value).map_err(|error| error.to_string())?;
        let bytes = match stamp(&self.head, value, revision) {
            Some(bytes) => bytes,
            // Written by something else: encoded anew in our order of fields.
            None => {
                object.meta_mut().resource_version = None;
                stamp(&self.head, &object.encode(), revision).ok_or("not an object of its kind")?
            }
        };
        let fields = object.fields();
        let meta = object.meta_mut();
        Ok(CachedObject {
            key: key.into(),
            revision,
            bytes,
            namespace: meta.namespace.take().unwrap_or_default(),
            name: meta.name.take().unwrap_or_default(),
            labels: meta.labels.take().unwrap_or_default(),
            fields,
        })
    }
}

/// Every served resource, by group, version and plural.
pub(crate) struct Resources {
    by_path: HashMap<(&'static str, &'static str, &'static str), Arc<Resource>>,
    ordered: Vec<Arc<Resource>>,
}

impl Resources {
    /// The table of all kinds in `coffer_api::kinds`.
    pub(crate) fn all() -> Self {
        let mut ordered = Vec::new();
        macro_rules! register {
            ($kind:ty) => {
                ordered.push(Resource::of::<$kind>());
            };
        }
        coffer_api::for_each_kind!(register);
        for resource in &mut ordered {
            if resource.info.group == SeriesEvent::INFO.group {
                *resource = events_view();
            }
        }
        let ordered: Vec<_> = ordered.into_iter().map(Arc::new).collect();
        let by_path = ordered
            .iter()
            .map(|one| ((one.info.group, one.info.version, one.info.plural), one.clone()))
            .collect();
        Self { by_path, ordered }
    }

    /// What the cache must hold: one source per storage prefix.
    pub(crate) fn sources(&self) -> Vec<ShardSource> {
        self.ordered
            .iter()
            .filter(|resource| resource.is_stored_form())
            .map(|resource| ShardSource {
                prefix: resource.prefix.clone(),
                index: Arc::new(TypedIndex { head: resource.head.clone(), parse: resource.parse }),
            })
            .collect()
    }

    /// Tells every resource where its objects are cached.
    pub(crate) fn attach(&self, cache: &crate::cache::Cache) {
        for resource in &self.ordered {
            let _ = resource.shard.set(cache.of(&resource.prefix));
        }
    }

    /// The resource at a path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        // The lifetimes of a tuple key cannot be shortened for a look-up; there are few kinds.
        self.by_path
            .iter()
            .find(|((g, v, p), _)| (*g, *v, *p) == (group, version, plural))
            .map(|(_, resource)| resource)
    }

    /// A core resource that is always served.
    pub(crate) fn core(&self, plural: &str) -> &Arc<Resource> {
        self.find("", "v1", plural).expect("core kinds are always served")
    }

    /// All resources in discovery's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.ordered.iter()
    }
}
