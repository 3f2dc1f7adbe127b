//! Where secrets say that they are mounted ([`super::attach::MOUNT_PATH`]): kept of each that says it, so that a new pod whose
//! account lists many secrets reads none of them.

use std::collections::HashMap;
use std::sync::Arc;

use coffer_api::kinds::Secret;
use parking_lot::RwLock;
use serde::Deserialize;

use crate::cache::{CacheEvent, CachedObject, Facts, Observer};
use crate::object::{Resources, metadata};

/// The mount paths of all secrets that have one, by key.
#[derive(Default)]
pub(super) struct MountPaths(RwLock<HashMap<Arc<str>, String>>);

impl MountPaths {
    /// Follows the secrets.
    pub(super) fn following(resources: &Resources) -> Arc<Self> {
        let paths = Arc::<Self>::default();
        resources.of::<Secret>().shard().observe(paths.clone());
        paths
    }

    /// Where the secret with this key says that it is mounted.
    pub(super) fn of(&self, key: &str) -> Option<String> {
        self.0.read().get(key).cloned()
    }
}

impl Observer for MountPaths {
    fn reset(&self, objects: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>) {
        let found =
            |(object, _): (&CachedObject, _)| Some((object.key.clone(), path(&object.bytes)?));
        *self.0.write() = objects.filter_map(found).collect();
    }

    fn changed(&self, _: &CacheEvent, _: Option<&Facts>) {}

    fn applied(&self, event: &CacheEvent) {
        let path = event.new.as_ref().and_then(|new| path(&new.bytes));
        let key = &event.subject().key;
        match path {
            Some(path) => drop(self.0.write().insert(key.clone(), path)),
            None if self.0.read().contains_key(key) => drop(self.0.write().remove(key)),
            None => {}
        }
    }
}

/// The path that an encoded secret has an annotation for. Other annotations, and all that comes after the
/// metadata, are not kept in memory.
fn path(bytes: &[u8]) -> Option<String> {
    metadata::<Meta>(bytes)?.annotations?.path
}

#[derive(Deserialize)]
struct Meta {
    annotations: Option<Annotations>,
}

/// Of all that there are, this one.
#[derive(Deserialize)]
struct Annotations {
    /// Of [`super::attach::MOUNT_PATH`].
    #[serde(rename = "coffer.dev/mount-path")]
    path: Option<String>,
}

#[cfg(test)]
mod tests {
    use coffer_api::kinds::Secret;
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::attach::MOUNT_PATH;
    use crate::object::Object;

    fn encoded(annotations: Value) -> Vec<u8> {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "data": { "key": "c2VjcmV0" },
            "metadata": { "name": "s", "labels": { MOUNT_PATH: "label" },
                "annotations": annotations } });
        let secret: Secret = serde_json::from_value(secret).expect("a secret");
        Object::encode(&secret).to_vec()
    }

    #[test]
    fn the_annotation_is_found_among_others() {
        let of = |annotations: Value| path(&encoded(annotations));
        let all = json!({ "a": "{\"metadata\":{}}", MOUNT_PATH: "/etc/\"s\"", "z": "" });
        assert_eq!(of(all), Some("/etc/\"s\"".to_owned()));
        assert_eq!(of(json!({ "a": "b" })), None);
        assert_eq!(of(Value::Null), None);
    }

    #[test]
    fn a_path_follows_its_secret() {
        let paths = MountPaths::default();
        let secret = |path: Value| {
            Arc::new(CachedObject {
                key: "/registry/secrets/n/s".into(),
                revision: 1,
                bytes: encoded(json!({ MOUNT_PATH: path })).into(),
                namespace: "n".to_owned(),
                name: "s".to_owned(),
                labels: Default::default(),
                fields: Vec::new(),
                is_decoded: true,
            })
        };
        let change = |new: Option<Arc<CachedObject>>| {
            let old = Some(secret(json!("/old")));
            paths.applied(&CacheEvent { revision: 2, old, new });
            paths.of("/registry/secrets/n/s")
        };
        assert_eq!(change(Some(secret(json!("/a")))).as_deref(), Some("/a"));
        assert_eq!(change(Some(secret(json!("/b")))).as_deref(), Some("/b"));
        assert_eq!(change(None), None);
        assert!(paths.0.read().is_empty());
        paths.reset(&mut [(&*secret(json!("/c")), None)].into_iter());
        assert_eq!(paths.of("/registry/secrets/n/s").as_deref(), Some("/c"));
    }
}
