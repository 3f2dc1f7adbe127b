//! Which credentials may be used for an image, best match first. Pure.
//!
//! The order is upstream's: among the entries whose location covers the image, those with the
//! longer path come before those of the whole host, and a host's own name before a glob, by
//! comparing locations backwards; entries of one location stay in the order of their sources. An
//! image of Docker Hub that nothing covers takes what is filed under `index.docker.io`, which is
//! how docker clients call it.

use std::collections::BTreeMap;

use coffer_api::image_name::ImageName;

use super::credential::{Credential, Source};
use super::docker_config::Entry;
use super::location::Location;

/// How docker clients call Docker Hub in their files, once scheme and `/v1/` are off.
const DEFAULT_REGISTRY_KEY: &str = "index.docker.io";

/// Credentials of one kind of source: a pod's secrets, the node's file, the node's plugins.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    entries: BTreeMap<String, Located>,
}

#[derive(Debug)]
struct Located {
    location: Location,
    credentials: Vec<Credential>,
}

impl Keyring {
    /// Adds the entries of one file. An entry whose registry is not a URL is ignored.
    pub(super) fn add(&mut self, entries: Vec<Entry>, source: &Source) {
        for (registry, username, password) in entries {
            let Some(location) = Location::parse(&registry) else { continue };
            let credential = Credential::new(location.host(), username, password, source.clone());
            let located = self
                .entries
                .entry(location.key())
                .or_insert_with(|| Located { location, credentials: Vec::new() });
            located.credentials.push(credential);
        }
    }

    /// What may be used for this image, in the order in which to try it.
    pub(super) fn lookup(&self, image: &ImageName) -> Vec<&Credential> {
        let repository = image.repository();
        let covering = |located: &&Located| located.location.covers(&repository);
        let found: Vec<_> = self
            .entries
            .values()
            .rev()
            .filter(covering)
            .flat_map(|located| &located.credentials)
            .collect();
        if found.is_empty() && image.is_on_docker_hub() {
            let default = self.entries.get(DEFAULT_REGISTRY_KEY);
            return default.into_iter().flat_map(|located| &located.credentials).collect();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::credential::Hidden;
    use super::*;

    fn keyring(registries: &[(&str, &str)]) -> Keyring {
        let mut keyring = Keyring::default();
        for (registry, user) in registries {
            let entry =
                (registry.to_string(), Hidden::new(user.to_string()), Hidden::new("p".to_owned()));
            keyring.add(vec![entry], &Source::Node);
        }
        keyring
    }

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        let image = ImageName::parse(image).expect("valid");
        let found = keyring.lookup(&image);
        found.iter().map(|credential| credential.username().expose().to_owned()).collect()
    }

    #[test]
    fn the_most_specific_comes_first_and_all_that_match_follow() {
        let keyring = keyring(&[
            ("quay.io", "host"),
            ("*.io", "glob"),
            ("quay.io/coreos", "path"),
            ("quay.io/coreos/etcd", "longer"),
            ("https://quay.io/v2/coreos", "same path, later"),
            ("other.io", "other"),
            ("not a host", "nowhere"),
        ]);
        assert_eq!(
            users(&keyring, "quay.io/coreos/etcd:3"),
            ["longer", "path", "same path, later", "host", "glob"]
        );
        assert_eq!(users(&keyring, "quay.io/team/app"), ["host", "glob"]);
        assert_eq!(users(&keyring, "other.io/app"), ["other", "glob"]);
        assert!(users(&keyring, "quay.io:443/coreos/etcd").is_empty());
    }

    #[test]
    fn docker_hub_has_one_name_whatever_image_and_file_call_it() {
        let hub = keyring(&[("https://index.docker.io/v1/", "hub")]);
        let images = ["redis", "library/redis", "docker.io/redis", "index.docker.io/a/b:1"];
        for image in images {
            assert_eq!(users(&hub, image), ["hub"], "{image}");
        }
        assert!(users(&hub, "docker.io.evil.com/redis").is_empty());
        assert!(users(&hub, "localhost/redis").is_empty());

        let both = keyring(&[("https://index.docker.io/v1/", "hub"), ("docker.io", "own")]);
        assert_eq!(users(&both, "redis"), ["own"]);
        let path = keyring(&[("docker.io/team", "team"), ("index.docker.io", "hub")]);
        assert_eq!(users(&path, "team/app"), ["team"]);
        assert_eq!(users(&path, "redis"), ["hub"]);
    }
}
