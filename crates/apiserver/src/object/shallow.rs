//! Stored objects, decoded as far as the cache needs them: what they are found by, and nothing of their
//! payload.
//!
//! The kind's own type is read from a text in which only some members are seen: names and labels of the
//! metadata, and the fields that selectors of the kind look at. The others are skipped.

use std::fmt;

use coffer_api::kinds::{Kind, KindInfo};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// Members of the metadata that are seen.
const METADATA: [&str; 3] = ["name", "namespace", "labels"];

/// Decodes an object without what it is not found by.
///
/// # Errors
/// As the whole object; skipped members need only be JSON.
pub(super) fn decode<K: Kind>(bytes: &[u8]) -> Result<K, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let object = K::deserialize(Only { inner: &mut deserializer, seen: Seen::Object(K::INFO) })?;
    deserializer.end()?;
    Ok(object)
}

/// Which members are seen.
#[derive(Clone, Copy)]
enum Seen {
    /// Of an object: what says what it is, its metadata, and where its selectable fields are.
    Object(&'static KindInfo),
    Metadata,
    All,
}

impl Seen {
    /// What is seen of a member; `None` where it is not.
    fn member(self, name: &str) -> Option<Self> {
        match self {
            Self::All => Some(Self::All),
            Self::Metadata => METADATA.contains(&name).then_some(Self::All),
            Self::Object(info) => match name {
                "metadata" => Some(Self::Metadata),
                "apiVersion" | "kind" => Some(Self::All),
                _ => {
                    let of_label = |label: &&str| label.split('.').next() == Some(name);
                    info.field_labels.iter().any(of_label).then_some(Self::All)
                }
            },
        }
    }
}

/// Something that is read with only some members seen: a deserializer, and what it hands on.
struct Only<T> {
    inner: T,
    seen: Seen,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Only<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Only { inner: visitor, seen: self.seen })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(Only { inner: visitor, seen: self.seen })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, Only { inner: visitor, seen: self.seen })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Only<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        // All members below are seen: no filter is needed.
        match self.seen {
            Seen::All => self.inner.deserialize(deserializer),
            seen => self.inner.deserialize(Only { inner: deserializer, seen }),
        }
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Only<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Members { map, seen: self.seen, next: Seen::All })
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Only { inner: deserializer, seen: self.seen })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Only { inner: deserializer, seen: self.seen })
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.inner.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.inner.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.inner.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        self.inner.visit_f64(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.inner.visit_str(value)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.inner.visit_borrowed_str(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(list)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(data)
    }
}

/// An object's members, those that are not seen left out.
struct Members<A> {
    map: A,
    seen: Seen,
    /// Of the member whose name was handed on last.
    next: Seen,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        while let Some(name) = self.map.next_key::<std::borrow::Cow<'de, str>>()? {
            if let Some(next) = self.seen.member(&name) {
                self.next = next;
                let name = serde::de::value::CowStrDeserializer::new(name);
                return seed.deserialize(name).map(Some);
            }
            self.map.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(Only { inner: seed, seen: self.next })
    }
}
