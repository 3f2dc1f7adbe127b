//! The metadata of an encoded object, without reading on to its payload: an encoding begins with it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

/// What `T` sees of the metadata of an object as the cache has it; `None` where that cannot be read.
pub(crate) fn metadata<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut found = None;
    let look = Look(&mut found);
    // It stops where the metadata ends, which is an error as the text goes on, and wanted.
    let _ = serde_json::Deserializer::from_slice(bytes).deserialize_map(look);
    found
}

struct Look<'a, T>(&'a mut Option<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Look<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == "metadata" {
                *self.0 = Some(map.next_value()?);
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coffer_api::kinds::Secret;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::json;

    use super::*;
    use crate::object::Object;

    #[test]
    fn the_metadata_of_an_encoding_is_read_and_nothing_after_it() {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "data": { "key": "c2VjcmV0" },
            "metadata": { "name": "s", "uid": "u", "annotations": { "a": "{\"metadata\":{}}" } } });
        let secret: Secret = serde_json::from_value(secret).expect("a secret");
        let text = Object::encode(&secret).to_vec();
        let payload = text.windows(6).position(|found| found == b"\"data\"").expect("it has one");
        let mut broken = text.clone();
        broken.truncate(payload);
        broken.extend_from_slice(b"this is not JSON");
        for bytes in [&text, &broken] {
            assert_eq!(metadata::<ObjectMeta>(bytes).as_ref(), Some(&secret.metadata));
        }
        for bad in ["", "[]", "{}", r#"{"metadata":["#, r#"{"metadata":{"name":1}}"#] {
            assert_eq!(metadata::<ObjectMeta>(bad.as_bytes()), None, "{bad}");
        }
    }
}
