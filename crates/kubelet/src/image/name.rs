//! Image names: `redis` is `docker.io/library/redis:latest`. Pure.

use std::fmt;

const DEFAULT_REGISTRY: &str = "docker.io";
/// What docker.io's short names are below.
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Names are ASCII and not longer than this, says the distribution project.
const REPOSITORY_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;

/// A whole image name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageName {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Not an image name. Upstream's words for it.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("couldn't parse image name \"{0}\": invalid reference format")]
pub(crate) struct InvalidName(String);

impl ImageName {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidName> {
        Self::read(text).ok_or_else(|| InvalidName(text.to_owned()))
    }

    fn read(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to a port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
            _ if path.contains('/') => (DEFAULT_REGISTRY, path.to_owned()),
            _ => (DEFAULT_REGISTRY, format!("{OFFICIAL_PREFIX}{path}")),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("{OFFICIAL_PREFIX}{repository}")
        } else {
            repository
        };
        let valid = repository.len() <= REPOSITORY_LEN_MAX
            && repository.split('/').all(is_path_part)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest);
        let tag = tag.map(str::to_owned);
        let digest = digest.map(str::to_owned);
        // A digest says which image it is; without one it takes a tag.
        let tag = if digest.is_none() { tag.or(Some(DEFAULT_TAG.to_owned())) } else { tag };
        valid.then(|| Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// Whether the name means whatever is newest.
    pub(crate) fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some(DEFAULT_TAG)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The first part of a path is a registry if it looks like a host and not like a directory.
fn is_registry(first: &str) -> bool {
    let host = first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase();
    host && first.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b))
}

fn is_path_part(part: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    part.bytes().all(allowed) && ends(part.bytes().next()) && ends(part.bytes().last())
}

fn is_tag(tag: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !tag.is_empty()
        && tag.len() <= TAG_LEN_MAX
        && tag.bytes().all(allowed)
        && !tag.starts_with(['.', '-'])
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_docker_hubs() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (short, whole) in [
            ("redis", "docker.io/library/redis:latest".to_owned()),
            ("redis:7", "docker.io/library/redis:7".to_owned()),
            ("a/b", "docker.io/a/b:latest".to_owned()),
            ("docker.io/redis", "docker.io/library/redis:latest".to_owned()),
            ("index.docker.io/redis", "docker.io/library/redis:latest".to_owned()),
            ("localhost:5000/x", "localhost:5000/x:latest".to_owned()),
            ("localhost/x/y:1", "localhost/x/y:1".to_owned()),
            ("gcr.io/p/i", "gcr.io/p/i:latest".to_owned()),
            (&format!("r.io/i@{digest}"), format!("r.io/i@{digest}")),
            (&format!("r.io/i:1@{digest}"), format!("r.io/i:1@{digest}")),
        ] {
            let name = ImageName::parse(short).expect(short);
            assert_eq!(name.to_string(), whole);
        }
    }

    #[test]
    fn what_is_no_image_name_is_refused() {
        for wrong in
            ["", "mySshImage", "a b", "redis:", "redis:a:b", "/x", "x/", "r.io/i@sha256:zz"]
        {
            assert!(ImageName::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_a_latest_tag_without_digest_is_latest() {
        let latest = |text| ImageName::parse(text).expect("valid").is_latest();
        assert!(latest("redis") && latest("redis:latest"));
        assert!(!latest("redis:7"));
        assert!(!latest(&format!("redis@sha256:{}", "0".repeat(64))));
    }
}
