//! What the API makes of a container's image: the pull policy.

use super::values::one_of;
use crate::field::{Error, Path};
use crate::image_name::ImageName;

/// `Always` for the tag `latest`, written or meant; `IfNotPresent` for every other tag, for a
/// digest, and for a text that is not a reference at all (as upstream's parser error has it).
pub(super) fn default_pull_policy(image: &str) -> &'static str {
    let is_latest = ImageName::parse(image).is_ok_and(|name| name.is_latest());
    if is_latest { "Always" } else { "IfNotPresent" }
}

/// What a pull policy may be.
pub(super) fn validate_pull_policy(policy: &str, path: &Path) -> Option<Error> {
    one_of(policy, &["Always", "IfNotPresent", "Never"], path)
}

#[cfg(test)]
mod tests {
    use super::default_pull_policy;

    #[test]
    fn only_the_latest_tag_is_pulled_always() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (image, policy) in [
            ("redis", "Always"),
            ("redis:latest", "Always"),
            ("localhost:5000/a/b", "Always"),
            ("registry.example.com/redis", "Always"),
            ("redis:7", "IfNotPresent"),
            ("localhost:5000/a/b:1", "IfNotPresent"),
            (&format!("redis@{digest}"), "IfNotPresent"),
            (&format!("redis:latest@{digest}"), "Always"),
            // No reference: upper case is not allowed in a repository's name.
            ("mySshImage", "IfNotPresent"),
            ("a..b", "IfNotPresent"),
            ("a__b--c", "Always"),
            ("", "IfNotPresent"),
            (" ", "IfNotPresent"),
            ("redis@sha256:12", "IfNotPresent"),
        ] {
            assert_eq!(default_pull_policy(image), policy, "{image}");
        }
    }
}
