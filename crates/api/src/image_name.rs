//! Image names: `redis` is `docker.io/library/redis:latest`.
//!
//! The API server reads them for the default pull policy, the kubelet to pull: by one parser, that of
//! upstream's `ParseNormalizedNamed`.

use std::fmt;

const DEFAULT_REGISTRY: &str = "docker.io";
/// Where docker.io's registry really is.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";
/// What docker.io's short names are below.
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Names are ASCII and not longer than this, says the distribution project.
const REPOSITORY_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;

/// A whole image name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Not an image name. Upstream's words for it.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("couldn't parse image name {name:?}: {fault}")]
pub struct InvalidName {
    name: String,
    fault: Fault,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
enum Fault {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
}

impl ImageName {
    /// Reads a name, short or whole.
    ///
    /// # Errors
    /// What is wrong with it, with the name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        Self::read(text).map_err(|fault| InvalidName { name: text.to_owned(), fault })
    }

    /// `docker.io`, `r.io:5000`
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name without tag and digest: `docker.io/library/redis`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Whether it is one of Docker Hub's.
    pub fn is_on_docker_hub(&self) -> bool {
        self.registry == DEFAULT_REGISTRY
    }

    /// The host, with its port if the name has one, that serves the registry.
    pub fn registry_host(&self) -> &str {
        if self.is_on_docker_hub() { DEFAULT_REGISTRY_HOST } else { &self.registry }
    }

    fn read(text: &str) -> Result<Self, Fault> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Fault::Identifier(text.to_owned()));
        }
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
        if repository.chars().any(char::is_uppercase) {
            return Err(Fault::Uppercase(repository));
        }
        let valid = repository.len() <= REPOSITORY_LEN_MAX
            && is_domain(registry)
            && repository.split('/').all(is_path_part)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest);
        let tag = tag.map(str::to_owned);
        let digest = digest.map(str::to_owned);
        // A digest says which image it is; without one it takes a tag.
        let tag = if digest.is_none() { tag.or(Some(DEFAULT_TAG.to_owned())) } else { tag };
        let name = Self { registry: registry.to_owned(), repository, tag, digest };
        if valid { Ok(name) } else { Err(Fault::Format) }
    }

    /// Whether its tag, written or meant, is `latest`: then it is pulled at each start, by default.
    pub fn is_latest(&self) -> bool {
        self.tag.as_deref() == Some(DEFAULT_TAG)
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
    first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase()
}

/// Labels of letters, digits and inner dashes, or an address in brackets; perhaps a port.
fn is_domain(registry: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return !address.is_empty()
            && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let is_label = |label: &str| {
        let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && ends(label.bytes().next())
            && ends(label.bytes().last())
    };
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_part(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joints: Vec<_> = part.split(is_word).filter(|joint| !joint.is_empty()).collect();
    let joined =
        |joint: &&str| matches!(*joint, "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-');
    part.starts_with(is_word) && part.ends_with(is_word) && joints.iter().all(joined)
}

fn is_tag(tag: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !tag.is_empty()
        && tag.len() <= TAG_LEN_MAX
        && tag.bytes().all(allowed)
        && !tag.starts_with(['.', '-'])
}

/// An algorithm, of words joined by single signs, and at least 32 hexadecimal digits.
fn is_digest(digest: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.split(['-', '_', '+', '.']).all(is_word)
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
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
            ("[::1]:5000/x", "[::1]:5000/x:latest".to_owned()),
            (&format!("r.io/i@{digest}"), format!("r.io/i@{digest}")),
            (&format!("r.io/i:1@{digest}"), format!("r.io/i:1@{digest}")),
        ] {
            let name = ImageName::parse(short).expect(short);
            assert_eq!(name.to_string(), whole);
        }
    }

    #[test]
    fn an_invalid_image_name_is_refused() {
        for wrong in [
            "",
            "a b",
            "redis:",
            "redis:a:b",
            "/x",
            "x/",
            "r.io/i@sha256:zz",
            "a..b",
            "a/../b",
            "a._b",
            "r.io:x/i",
            "-r.io/i",
            ":1/i",
            "[::1/i",
            "user@r.io/i",
            "r..io/i",
            "[]/i",
            "r.io/i@sha256-:0123456789abcdef0123456789abcdef",
            "r.io/i@1sha:0123456789abcdef0123456789abcdef",
            "r.io/i@sha 256:0123456789abcdef0123456789abcdef",
        ] {
            let error = ImageName::parse(wrong).expect_err(wrong).to_string();
            let expected = format!("couldn't parse image name {wrong:?}: invalid reference format");
            assert_eq!(error, expected);
        }
        let digest = "r.io/i@sha256+b64:0123456789abcdef0123456789ABCDEF";
        assert!(ImageName::parse(digest).is_ok());
        for joined in ["a.b", "a_b", "a__b", "a---b", "a.b_c-d"] {
            assert!(ImageName::parse(joined).is_ok(), "{joined:?}");
        }
    }

    /// The guide's own examples have such names; this is what `kubectl describe` says of them.
    #[test]
    fn a_name_with_capitals_is_refused_with_upstreams_message() {
        let error = ImageName::parse("mySshImage").expect_err("capitals").to_string();
        assert_eq!(
            error,
            "couldn't parse image name \"mySshImage\": invalid reference format: \
             repository name (library/mySshImage) must be lowercase"
        );
        let hex = "0".repeat(64);
        let error = ImageName::parse(&hex).expect_err("an identifier").to_string();
        assert!(error.ends_with("cannot specify 64-byte hexadecimal strings"), "{error}");
    }

    #[test]
    fn only_a_latest_tag_is_latest() {
        let latest = |text| ImageName::parse(text).expect("valid").is_latest();
        assert!(latest("redis") && latest("redis:latest"));
        assert!(!latest("redis:7"));
        assert!(!latest(&format!("redis@sha256:{}", "0".repeat(64))));
    }

    proptest::proptest! {
        #[test]
        fn a_name_that_is_read_is_read_again_as_itself(text in "[A-Za-z0-9./:@_\\[\\]-]{0,40}|\\PC{0,20}") {
            if let Ok(name) = ImageName::parse(&text) {
                proptest::prop_assert_eq!(ImageName::parse(&name.to_string()), Ok(name));
            }
        }
    }
}
