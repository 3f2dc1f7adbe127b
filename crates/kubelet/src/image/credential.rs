//! One credential: a user name, a password, where they are for and where they come from.
//!
//! It erases itself, has no `Display`, and `Debug` prints the registry only. The one way out is
//! [`Credential::for_registry`], the pull request's own form, bound to one registry's host.

use std::fmt;

use coffer_api::image_name::ImageName;
use k8s_cri::v1::AuthConfig;
use serde::{Deserialize, Deserializer};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Text that is erased when dropped and never printed.
#[derive(Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Hidden(String);

impl Hidden {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. The name is long so that each use is seen in review.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second copy, to be erased on its own.
    pub(super) fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|text| Self(text.unwrap_or_default()))
    }
}

/// Where a credential comes from, which decides who may use what it pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A secret that pods of one namespace may name.
    Secret(Coordinates),
    /// A credential provider was given a token of this service account.
    ServiceAccount(Coordinates),
    /// The node itself: every pod on it may use what this pulled.
    Node,
}

/// Which object exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Coordinates {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// A user name and a password for one registry, or for a part of one.
pub(crate) struct Credential {
    registry: String,
    username: Hidden,
    password: Hidden,
    source: Source,
}

impl Credential {
    pub(super) fn new(registry: &str, username: Hidden, password: Hidden, source: Source) -> Self {
        Self { registry: registry.to_owned(), username, password, source }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn username(&self) -> &Hidden {
        &self.username
    }

    pub(super) fn password(&self) -> &Hidden {
        &self.password
    }

    /// The form of the pull request, good for the host of the image's registry and no other.
    ///
    /// A runtime may ask other hosts on the way: mirrors, and wherever a redirect leads. Without
    /// `server_address` containerd offers the credential to each of them that asks for one; with
    /// it, to that host only. Upstream leaves it empty.
    ///
    /// The message is not erased: gRPC copies it into its buffers, and hands it over a unix socket.
    pub(super) fn for_registry(&self, image: &ImageName) -> AuthConfig {
        AuthConfig {
            username: self.username.expose().to_owned(),
            password: self.password.expose().to_owned(),
            server_address: format!("https://{}", image.registry_host()),
            ..AuthConfig::default()
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("registry", &self.registry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> Credential {
        let hidden = |text: &str| Hidden::new(text.to_owned());
        Credential::new("r.io", hidden("user-canary"), hidden("canary"), Source::Node)
    }

    #[test]
    fn printing_a_credential_tells_the_registry_and_nothing_else() {
        let text = format!("{:?}", credential());
        assert_eq!(text, "Credential { registry: \"r.io\", .. }");
        assert_eq!(format!("{:?}", credential().password()), "Hidden");
    }

    #[test]
    fn a_credential_is_bound_to_the_host_that_the_image_comes_from() {
        for (image, host) in [
            ("r.io/team/app:1", "https://r.io"),
            ("127.0.0.1:5000/app", "https://127.0.0.1:5000"),
            ("redis", "https://registry-1.docker.io"),
        ] {
            let image = ImageName::parse(image).expect("valid");
            assert_eq!(credential().for_registry(&image).server_address, host);
        }
    }
}
