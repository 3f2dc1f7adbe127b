//! What the last writer of a pod template was allowed to use, as the server records it on the object.
//!
//! A controller makes pods long after a user wrote the template, and what an account lists may
//! have changed since. So the object carries what was admitted with its template, in annotations of
//! its own metadata (not of the template's: they start no rollout). No other writer sets them: on every
//! write what came in is replaced by what is stored ([`keep`]), before field owners are recorded, so
//! that no field manager owns them and no apply conflicts over them.

use std::collections::BTreeSet;

use coffer_api::host_paths;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::object::Object;

/// The secrets that the writer of a template was allowed to give its pods: a JSON list of names, or
/// [`EVERY`].
pub(crate) const SECRETS: &str = coffer_api::well_known::annotation::GRANTED_SECRETS;
/// The value for a writer who may use every secret of the namespace, also those that are made or
/// listed later.
const EVERY: &str = "*";
/// Annotations that the server alone sets.
pub(crate) const SERVER_OWNED: [&str; 2] = [SECRETS, host_paths::GRANTED];

/// The secrets of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    Every,
    Named(BTreeSet<String>),
}

impl Secrets {
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Named(names) => names.contains(name),
        }
    }

    /// The intersection.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Every, other) => other,
            (own, Self::Every) => own,
            (Self::Named(own), Self::Named(other)) => Self::Named(&own & &other),
        }
    }

    /// The union with further names.
    pub(super) fn with(self, more: impl IntoIterator<Item = String>) -> Self {
        match self {
            Self::Every => Self::Every,
            Self::Named(mut names) => {
                names.extend(more);
                Self::Named(names)
            }
        }
    }
}

/// What the pods of a template may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// `None` where no check recorded any: an object of an earlier version, or one that was written
    /// while the check was off.
    pub(super) secrets: Option<Secrets>,
    /// Whether its host paths may reach what is protected.
    pub(super) host_paths: bool,
}

impl Grant {
    /// The grant in an object's metadata. A record that cannot be read grants nothing.
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        let annotation = |key| meta.annotations.as_ref().and_then(|all| all.get(key));
        let secrets = annotation(SECRETS).map(|text| match text.as_str() {
            EVERY => Secrets::Every,
            list => Secrets::Named(serde_json::from_str(list).unwrap_or_default()),
        });
        let host_paths = annotation(host_paths::GRANTED).is_some_and(|value| value == "true");
        Self { secrets, host_paths }
    }

    /// Writes the grant into an object's metadata, and removes an earlier one.
    pub(super) fn record(&self, meta: &mut ObjectMeta) {
        let secrets = self.secrets.as_ref().map(|secrets| match secrets {
            Secrets::Every => EVERY.to_owned(),
            Secrets::Named(names) => Value::from_iter(names.iter().cloned()).to_string(),
        });
        set(meta, SECRETS, secrets);
        set(meta, host_paths::GRANTED, self.host_paths.then(|| "true".to_owned()));
    }
}

fn set(meta: &mut ObjectMeta, key: &str, value: Option<String>) {
    match (value, &mut meta.annotations) {
        (Some(value), annotations) => {
            annotations.get_or_insert_default().insert(key.to_owned(), value);
        }
        (None, Some(annotations)) => {
            annotations.remove(key);
            if annotations.is_empty() {
                meta.annotations = None;
            }
        }
        (None, None) => {}
    }
}

/// Replaces what came in of the server's own annotations by what is stored; takes them off a new
/// object.
pub(crate) fn keep(object: &mut dyn Object, old: Option<&dyn Object>) {
    let stored = old.and_then(|old| old.meta().annotations.as_ref());
    for key in SERVER_OWNED {
        let value = stored.and_then(|all| all.get(key)).cloned();
        let meta = object.meta_mut();
        let found = meta.annotations.as_ref().and_then(|all| all.get(key));
        if found != value.as_ref() {
            set(meta, key, value);
        }
    }
}

/// Takes the server's own annotations out of what an applier wants: it cannot own them.
pub(crate) fn remove_from_applied(applied: &mut Value) {
    let annotations = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let Some(annotations) = annotations else { return };
    for key in SERVER_OWNED {
        annotations.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Secrets {
        Secrets::Named(all.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn a_grant_is_read_as_it_was_recorded() {
        for secrets in [None, Some(Secrets::Every), Some(names(&[])), Some(names(&["a,b", "*"]))] {
            for host_paths in [false, true] {
                let grant = Grant { secrets: secrets.clone(), host_paths };
                let mut meta = ObjectMeta::default();
                grant.record(&mut meta);
                assert_eq!(Grant::of(&meta), grant);
            }
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_grants_nothing() {
        for text in ["", "db", "{}", "[1]", "[\"*\"", "**"] {
            let meta = ObjectMeta {
                annotations: Some([(SECRETS.to_owned(), text.to_owned())].into()),
                ..Default::default()
            };
            assert_eq!(Grant::of(&meta).secrets, Some(names(&[])), "{text:?}");
        }
    }

    #[test]
    fn both_have_no_more_than_either() {
        assert_eq!(Secrets::Every.and(names(&["a"])), names(&["a"]));
        assert_eq!(names(&["a"]).and(Secrets::Every), names(&["a"]));
        assert_eq!(names(&["a", "b"]).and(names(&["b", "c"])), names(&["b"]));
    }
}
