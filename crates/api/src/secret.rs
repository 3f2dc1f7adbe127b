//! The Secret object with a payload type of our own.
//!
//! `k8s_openapi`'s Secret keeps its bytes in `ByteString`, which prints them with `Debug` and
//! leaves them in freed memory. This one has the same JSON and neither fault.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::go;

/// Payload bytes: erased on drop, printed as a length, compared byte for byte, cloned visibly.
#[derive(Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes ownership of the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves. The name is long so that each use is seen in review.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// A second copy, to be erased on its own.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(&self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = SecretBytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a base64-encoded string")
            }

            // The text is not quoted in the error: it may be a secret that someone forgot to encode.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretBytes, E> {
                if let Some(bytes) = decoded(text) {
                    return Ok(bytes);
                }
                // Unlike Go, and as the guide has it: newlines are not valid within these strings.
                let found = match text.find(['\n', '\r']) {
                    Some(at) => Err(go::CorruptBase64 { at }),
                    None => go::base64(text),
                };
                found.map(SecretBytes).map_err(E::custom)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<SecretBytes, E> {
                Ok(SecretBytes::default())
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Secret holds secret data of a certain type. The JSON is core/v1's.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Standard object's metadata. Annotations count as payload: client-side apply copies the
    /// whole object into one.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// If true, the data cannot be updated.
    #[serde(default)]
    pub immutable: Option<bool>,
    /// The payload: each key a file name, each value arbitrary bytes, base64 in JSON.
    #[serde(default, deserialize_with = "map_or_null")]
    pub data: BTreeMap<String, SecretBytes>,
    /// Write-only convenience: merged into `data` at the write, never stored or returned.
    #[serde(default, deserialize_with = "map_or_null")]
    pub string_data: BTreeMap<String, SecretString>,
    /// Facilitates programmatic handling; `Opaque` where absent.
    #[serde(rename = "type", default)]
    pub type_: Option<String>,
}

impl Secret {
    /// What `data` and annotations take as JSON, in bytes, escapes not counted.
    pub fn payload_json_len(&self) -> usize {
        // Quotes, colon and comma.
        const AROUND: usize = 6;
        let data = self.data.iter().map(|(key, value)| (key, value.len().div_ceil(3) * 4));
        let annotations = self.metadata.annotations.iter().flatten();
        let annotations = annotations.map(|(key, value)| (key, value.len()));
        data.chain(annotations).map(|(key, length)| key.len() + length + AROUND).sum()
    }

    /// The secret without its payload, to find out what differs from `than`: in place of each value of
    /// the payload stands nothing where `than` has the same one or none at all, and something where it
    /// has another. Annotations are payload, too.
    pub fn outline(&self, than: Option<&Self>) -> Self {
        let differs = |here: bool| if here { vec![0] } else { Vec::new() };
        let data = self.data.iter().map(|(key, value)| {
            let other = than.and_then(|than| than.data.get(key));
            let mark = SecretBytes::new(differs(other.is_some_and(|other| other != value)));
            (key.clone(), mark)
        });
        let string_data = self.string_data.iter().map(|(key, value)| {
            let other = than.and_then(|than| than.string_data.get(key));
            let mark = differs(other.is_some_and(|other| other != value));
            (key.clone(), SecretString(mark.into_iter().map(char::from).collect()))
        });
        let meta = &self.metadata;
        let annotations = meta.annotations.as_ref().map(|all| {
            let than = than.and_then(|than| than.metadata.annotations.as_ref());
            let outline = all.iter().map(|(key, value)| {
                let other = than.and_then(|than| than.get(key));
                let mark = if other.is_some_and(|other| other != value) { "!" } else { "" };
                (key.clone(), mark.to_owned())
            });
            outline.collect()
        });
        // Field by field, so that one which is added is thought of here.
        let metadata = ObjectMeta {
            annotations,
            creation_timestamp: meta.creation_timestamp.clone(),
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            deletion_timestamp: meta.deletion_timestamp.clone(),
            finalizers: meta.finalizers.clone(),
            generate_name: meta.generate_name.clone(),
            generation: meta.generation,
            labels: meta.labels.clone(),
            managed_fields: meta.managed_fields.clone(),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            owner_references: meta.owner_references.clone(),
            resource_version: meta.resource_version.clone(),
            self_link: meta.self_link.clone(),
            uid: meta.uid.clone(),
        };
        Self {
            metadata,
            immutable: self.immutable,
            data: data.collect(),
            string_data: string_data.collect(),
            type_: self.type_.clone(),
        }
    }
}

/// `apiVersion` and `kind` come first, as in every `k8s_openapi` type.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_with(serializer, &self.data)
    }
}

impl Secret {
    fn serialize_with<S: Serializer>(
        &self,
        serializer: S,
        data: &impl Serialize,
    ) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Secret", 7)?;
        object.serialize_field("apiVersion", "v1")?;
        object.serialize_field("kind", "Secret")?;
        object.serialize_field("metadata", &self.metadata)?;
        if let Some(immutable) = self.immutable {
            object.serialize_field("immutable", &immutable)?;
        }
        if !self.data.is_empty() {
            object.serialize_field("data", data)?;
        }
        if !self.string_data.is_empty() {
            object.serialize_field("stringData", &self.string_data)?;
        }
        if let Some(type_) = &self.type_ {
            object.serialize_field("type", type_)?;
        }
        object.end()
    }
}

/// A secret that is written piece by piece, so that no value is anywhere in base64 but in what is
/// written. For writers of text: others would have to put the pieces together.
pub struct InPieces<'a>(pub &'a Secret);

impl Serialize for InPieces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Data<'a>(&'a BTreeMap<String, SecretBytes>);
        struct Text<'a>(&'a [u8]);

        impl Serialize for Data<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|(key, value)| (key, Text(&value.0))))
            }
        }

        impl Serialize for Text<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl std::fmt::Display for Text<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut text = Zeroizing::new([0; PIECE_BYTES / 3 * 4]);
                for piece in self.0.chunks(PIECE_BYTES) {
                    let length = STANDARD
                        .encode_slice(piece, text.as_mut_slice())
                        .map_err(|_| std::fmt::Error)?;
                    f.write_str(
                        std::str::from_utf8(&text[..length]).map_err(|_| std::fmt::Error)?,
                    )?;
                }
                Ok(())
            }
        }

        self.0.serialize_with(serializer, &Data(&self.0.data))
    }
}

/// Bytes that are written at a time: whole groups of three, so that the pieces make one text.
const PIECE_BYTES: usize = 384;

/// The bytes of canonical base64. What was decoded of another text is erased.
fn decoded(text: &str) -> Option<SecretBytes> {
    let mut bytes = SecretBytes(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(text, &mut bytes.0).ok()?;
    bytes.0.truncate(length);
    Some(bytes)
}

fn map_or_null<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A `stringData` value: text on the way in, erased on drop, never printed.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct SecretString(String);

impl SecretString {
    /// Moves the text out as payload bytes.
    pub fn into_bytes(mut self) -> SecretBytes {
        SecretBytes(std::mem::take(&mut self.0).into_bytes())
    }
}

impl std::fmt::Debug for SecretString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretString({} bytes)", self.0.len())
    }
}

impl k8s_openapi::Resource for Secret {
    const API_VERSION: &'static str = "v1";
    const GROUP: &'static str = "";
    const KIND: &'static str = "Secret";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "secrets";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl k8s_openapi::ListableResource for Secret {
    const LIST_KIND: &'static str = "SecretList";
}

/// The schema of `k8s_openapi`'s Secret, whose JSON this one has.
impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        k8s_openapi::api::core::v1::Secret::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        k8s_openapi::api::core::v1::Secret::json_schema(generator)
    }
}

impl k8s_openapi::Metadata for Secret {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
