//! One served resource: its kind's codec, and its place in the store and in the cache.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use coffer_api::Document;
use coffer_api::field::ErrorList;
use coffer_api::kinds::{self, Event, Kind, KindInfo, Pod};
use coffer_api::schema;
use coffer_api::status::{Failure, GroupResource};
use coffer_api::subresource::SubresourceName;
use zeroize::Zeroizing;

use super::decode_error::{DecodeError, typed_as};
use super::erased::Object;
use crate::cache::Shard;
use crate::encoded::Head;

pub(super) type Decode = fn(&Document) -> Result<Box<dyn Object>, DecodeError>;
pub(super) type Parse = fn(&[u8]) -> Result<Box<dyn Object>, DecodeError>;

/// One served resource: its kind, codec, and place in store and cache.
pub(crate) struct Resource {
    pub(crate) info: &'static KindInfo,
    pub(super) stored: &'static KindInfo,
    pub(super) head: Head,
    pub(super) prefix: String,
    pub(super) decode: Decode,
    pub(super) parse: Parse,
    pub(super) shallow: Parse,
    pub(super) convert: Option<Convert>,
    /// Whether its objects have a template of pods.
    pub(crate) has_template: bool,
    pub(super) shard: OnceLock<Arc<Shard>>,
}

/// From the stored version's JSON to a second version's.
pub(super) type Convert = fn(&[u8]) -> Option<Zeroizing<Vec<u8>>>;

impl Resource {
    pub(super) fn of<K: Kind>() -> Self {
        let info = K::INFO;
        Self {
            info,
            stored: info,
            head: Head::new(&info.api_version(), info.kind),
            prefix: format!("/registry/{}/", info.plural),
            decode: decode::<K>,
            parse: parse::<K>,
            shallow: shallow::<K>,
            convert: None,
            has_template: has_template::<K>(),
            shard: OnceLock::new(),
        }
    }

    /// Whether its objects are of this kind.
    pub(crate) fn is<K: Kind>(&self) -> bool {
        (self.info.group, self.info.kind) == (K::INFO.group, K::INFO.kind)
    }

    /// Whether its objects are pods or have a template of them.
    pub(crate) fn makes_pods(&self) -> bool {
        self.has_template || self.is::<Pod>()
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
        self.convert.is_none()
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

    /// Everything wrong with an updated object, by the rules of the version it came in.
    pub(crate) fn validate_update(
        &self,
        object: &dyn Object,
        old: &dyn Object,
        sub: Option<SubresourceName>,
    ) -> ErrorList {
        match (self.series_event(object), self.series_event(old)) {
            (Some(new), Some(old)) => kinds::event::validate_series_form_update(new, old),
            _ => object.validate_update(old, sub),
        }
    }

    /// The stored event, where this is the second form of events.
    fn series_event<'a>(&self, object: &'a dyn Object) -> Option<&'a Event> {
        self.convert.and_then(|_| object.of_kind())
    }

    /// The bytes a client of this version gets.
    pub(crate) fn to_client_version(&self, bytes: &Bytes) -> Bytes {
        match self.convert.and_then(|convert| convert(bytes)) {
            Some(converted) => crate::encoded::erasing(converted),
            None => bytes.clone(),
        }
    }
}

/// Whether a kind's objects have a template of pods; so it is of one that cannot be made of nothing.
fn has_template<K: Kind>() -> bool {
    let (version, kind) = (K::API_VERSION, K::KIND);
    let nothing = serde_json::json!({ "apiVersion": version, "kind": kind, "metadata": {} });
    let object = serde_json::from_value::<K>(nothing);
    object.map_or(true, |object| object.pod_template().is_some())
}

fn decode<K: Kind>(document: &Document) -> Result<Box<dyn Object>, DecodeError> {
    // By the kind's own schema, because a document that a patch made need not say what it is.
    let schema = schema::of(&K::INFO.api_version(), K::INFO.kind);
    typed_as::<K>(document, schema).map(|object| Box::new(object) as Box<dyn Object>)
}

fn parse<K: Kind>(bytes: &[u8]) -> Result<Box<dyn Object>, DecodeError> {
    serde_json::from_slice::<K>(bytes)
        .map(|object| Box::new(object) as Box<dyn Object>)
        .map_err(|error| DecodeError::of_stored(&error))
}

fn shallow<K: Kind>(bytes: &[u8]) -> Result<Box<dyn Object>, DecodeError> {
    super::shallow::decode::<K>(bytes)
        .map(|object| Box::new(object) as Box<dyn Object>)
        .map_err(|error| DecodeError::of_stored(&error))
}
