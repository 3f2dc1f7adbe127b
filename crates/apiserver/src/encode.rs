//! A typed object as JSON, in one pass and one buffer: apiVersion, kind and metadata first, the other
//! fields as their type writes them.
//!
//! The types write their fields by alphabet, so that `data` comes before `metadata`; one place for all
//! kinds is wanted (`encoded.rs`). The buffer may hold a payload: where it has to grow, what it had
//! before is erased.

use std::io::Write;

use coffer_api::kinds::{Kind, Secret};
use coffer_api::secret::InPieces;
use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeMap, SerializeStruct, Serializer};
use zeroize::Zeroizing;

/// Room made for an object without its payload, in bytes: most have no more.
const FIRST_BYTES: usize = 1024;

/// Encodes an object.
pub(crate) fn encode<K: Kind>(object: &K) -> Zeroizing<Vec<u8>> {
    // The buffer has room for the payload from the beginning.
    let payload = secret(object).map_or(0, Secret::payload_json_len);
    let mut out = Erasing(Zeroizing::new(Vec::with_capacity(FIRST_BYTES + payload)));
    serde_json::to_writer(&mut out, &MetadataFirst(object))
        .expect("API types are structs with string keys only");
    out.0
}

fn secret<K: Kind>(object: &K) -> Option<&Secret> {
    let object: &dyn std::any::Any = object;
    object.downcast_ref()
}

/// A buffer that grows without leaving copies behind.
struct Erasing(Zeroizing<Vec<u8>>);

impl Write for Erasing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let wanted = self.0.len() + bytes.len();
        if wanted > self.0.capacity() {
            let mut larger = Vec::with_capacity(wanted.max(2 * self.0.capacity()));
            larger.extend_from_slice(&self.0);
            // What is replaced is erased as it is dropped.
            self.0 = Zeroizing::new(larger);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct MetadataFirst<'a, K>(&'a K);

impl<K: Kind> Serialize for MetadataFirst<'_, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("apiVersion", K::API_VERSION)?;
        object.serialize_entry("kind", K::KIND)?;
        object.serialize_entry("metadata", self.0.metadata())?;
        match secret(self.0) {
            Some(secret) => InPieces(secret).serialize(Rest(&mut object))?,
            None => self.0.serialize(Rest(&mut object))?,
        }
        object.end()
    }
}

/// Writes a struct's fields into an object that has the first three already.
struct Rest<'a, M>(&'a mut M);

impl<M: SerializeMap> SerializeStruct for Rest<'_, M> {
    type Ok = ();
    type Error = M::Error;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), M::Error> {
        match name {
            "apiVersion" | "kind" | "metadata" => Ok(()),
            _ => self.0.serialize_entry(name, value),
        }
    }

    fn end(self) -> Result<(), M::Error> {
        Ok(())
    }
}

/// What no object is.
macro_rules! refuse {
    ($($name:ident($($argument:ty),*) -> $ok:ty;)*) => {
        $(fn $name(self, $(_: $argument),*) -> Result<$ok, M::Error> {
            Err(M::Error::custom("an object is a struct"))
        })*
    };
}

impl<'a, M: SerializeMap> Serializer for Rest<'a, M> {
    type Ok = ();
    type Error = M::Error;
    type SerializeSeq = Impossible<(), M::Error>;
    type SerializeTuple = Impossible<(), M::Error>;
    type SerializeTupleStruct = Impossible<(), M::Error>;
    type SerializeTupleVariant = Impossible<(), M::Error>;
    type SerializeMap = Impossible<(), M::Error>;
    type SerializeStruct = Rest<'a, M>;
    type SerializeStructVariant = Impossible<(), M::Error>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, M::Error> {
        Ok(self)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), M::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), M::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), M::Error> {
        Err(M::Error::custom("an object is a struct"))
    }

    refuse! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize)
            -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize)
            -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use coffer_api::kinds::ConfigMap;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn text<K: Kind>(value: serde_json::Value) -> String {
        let object: K = serde_json::from_value(value).unwrap();
        String::from_utf8(encode(&object).to_vec()).unwrap()
    }

    #[test]
    fn metadata_comes_before_fields_that_sort_before_it() {
        let map =
            json!({ "data": { "a,": "\"},{" }, "immutable": true, "metadata": { "name": "x" } });
        assert_eq!(
            text::<ConfigMap>(map),
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a,":"\"},{"},"immutable":true}"#
        );
        let pod = json!({ "metadata": { "name": "x" }, "status": { "phase": "Running" } });
        assert_eq!(
            text::<Pod>(pod),
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"status":{"phase":"Running"}}"#
        );
        assert_eq!(
            text::<Secret>(json!({ "data": { "a": "Yg==" }, "type": "t" })),
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{},"data":{"a":"Yg=="},"type":"t"}"#
        );
    }

    /// A large object grows the buffer many times.
    #[test]
    fn an_object_of_any_length_is_whole() {
        for length in [0, 1, FIRST_BYTES - 70, FIRST_BYTES, 5 * FIRST_BYTES, 100_000] {
            let map = json!({ "metadata": {}, "data": { "a": "x".repeat(length), "b": "y" } });
            let value: serde_json::Value = serde_json::from_str(&text::<ConfigMap>(map)).unwrap();
            assert_eq!(value["data"]["a"].as_str().unwrap().len(), length);
            assert_eq!(value["data"]["b"], "y");
        }
    }

    /// The room that is made for a secret is enough for what is in it.
    #[test]
    fn a_secret_fills_the_room_that_is_made_for_it() {
        for length in [0, 1, 2, 3, 383, 384, 385, 768, 4000, 100_000] {
            let bytes = coffer_api::secret::SecretBytes::new(vec![7; length]);
            let secret = Secret { data: [("key".to_owned(), bytes)].into(), ..Default::default() };
            let payload = secret.payload_json_len();
            let encoded = encode(&secret);
            let same: Secret = serde_json::from_slice(&encoded).unwrap();
            assert_eq!(same.data, secret.data);
            assert_eq!(encoded.capacity(), FIRST_BYTES + payload, "{length}");
            assert!(encoded.len() < payload + 200 && payload < length * 4 / 3 + 20);
        }
    }
}
