//! Whether a pod may use an image that is here already. Pure.
//!
//! `imagePullPolicy: IfNotPresent` alone would let any pod of the node run a private image that
//! another pod's secret has pulled. So a pod has to have what the image was pulled with; one that
//! has not must pull for itself, which brings nothing new over the network if it may, and fails if
//! it may not. This is upstream's `KubeletEnsureSecretPulledImages`.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use coffer_api::image_name::ImageName;

use super::credential::{Coordinates, Credential, Source};
use super::records::{Grant, PullRecords, PulledRecord};

/// For which images pods are asked for credentials: upstream's
/// `imagePullCredentialsVerificationPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImagePullCredentialsVerificationPolicy {
    /// For none: whatever is on the node is for all its pods.
    NeverVerify,
    /// For those that this kubelet has pulled, not for those that were put on the node otherwise.
    #[default]
    NeverVerifyPreloadedImages,
    /// For all but those of [`ImagesConfig::preloaded_images_verification_allowlist`](crate::ImagesConfig).
    NeverVerifyAllowlistedImages,
    /// For all.
    AlwaysVerify,
}

/// No such policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages or AlwaysVerify"
)]
pub struct UnknownPolicy;

/// The name that it is chosen by.
impl Display for ImagePullCredentialsVerificationPolicy {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for ImagePullCredentialsVerificationPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "NeverVerify" => Ok(Self::NeverVerify),
            "NeverVerifyPreloadedImages" => Ok(Self::NeverVerifyPreloadedImages),
            "NeverVerifyAllowlistedImages" => Ok(Self::NeverVerifyAllowlistedImages),
            "AlwaysVerify" => Ok(Self::AlwaysVerify),
            _ => Err(UnknownPolicy),
        }
    }
}

/// An invalid pattern of the allow list. Upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowlistError {
    /// A space at an end.
    #[error("leading/trailing spaces are not allowed: {0}")]
    Spaces(String),
    /// Nothing is left of it.
    #[error("the supplied pattern is too short: {0}")]
    TooShort(String),
    /// A star anywhere but at the end of a path.
    #[error("not a valid wildcard pattern, only patterns ending with '/*' are allowed: {0}")]
    Wildcard(String),
    /// `/*`
    #[error("at least registry hostname is required")]
    NoRegistry,
    /// No image name, or not a whole one.
    #[error("failed to parse as an image name: {0}")]
    Name(String),
    /// It says more than the name.
    #[error("neither tag nor digest is accepted in an image reference: {0}")]
    TagOrDigest(String),
}

/// The policy with its allow list checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Verification {
    policy: ImagePullCredentialsVerificationPolicy,
    names: Vec<String>,
    prefixes: Vec<String>,
}

impl Verification {
    pub(super) fn new(
        policy: ImagePullCredentialsVerificationPolicy,
        allowlist: &[String],
    ) -> Result<Self, AllowlistError> {
        let mut verification = Self { policy, ..Self::default() };
        for pattern in allowlist {
            let own = || pattern.clone();
            if pattern.trim() != pattern {
                return Err(AllowlistError::Spaces(own()));
            }
            let prefix = pattern.strip_suffix('*').filter(|prefix| prefix.ends_with('/'));
            let text = prefix.unwrap_or(pattern);
            if text.is_empty() {
                return Err(AllowlistError::TooShort(own()));
            } else if text.contains('*') {
                return Err(AllowlistError::Wildcard(own()));
            } else if text == "/" {
                return Err(AllowlistError::NoRegistry);
            } else if prefix.is_some() {
                verification.prefixes.push(text.to_owned());
            } else {
                let name = ImageName::parse(text)
                    .map_err(|error| AllowlistError::Name(error.to_string()))?;
                if name.repository() != text {
                    return Err(AllowlistError::TagOrDigest(own()));
                }
                verification.names.push(text.to_owned());
            }
        }
        Ok(verification)
    }

    fn is_required(&self, repository: &str, pulled_by_kubelet: bool) -> bool {
        use ImagePullCredentialsVerificationPolicy as Policy;
        match self.policy {
            Policy::NeverVerify => false,
            Policy::NeverVerifyPreloadedImages => pulled_by_kubelet,
            Policy::NeverVerifyAllowlistedImages => {
                let prefixed = |prefix: &String| repository.starts_with(prefix.as_str());
                !self.names.iter().any(|name| name == repository)
                    && !self.prefixes.iter().any(prefixed)
            }
            Policy::AlwaysVerify => true,
        }
    }
}

/// Whether the image that is here will do.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Granted,
    /// Granted for what was known; this is worth knowing, too.
    GrantedAlso(Grant),
    MustPull,
}

/// What a pod has to show.
pub(super) struct Shown<'a> {
    pub(super) credentials: &'a [&'a Credential],
    pub(super) service_account: Option<&'a Coordinates>,
}

/// Judges a pod's right to an image. What cannot be read counts as the worse of its meanings.
pub(super) fn judge(
    records: &PullRecords,
    verification: &Verification,
    name: &ImageName,
    image_ref: &str,
    shown: &Shown<'_>,
) -> Verdict {
    let repository = name.repository();
    let found = records.find(image_ref).and_then(|record| {
        let begun = record.is_some() || records.has_begun(&name.to_string())?;
        Ok((record, begun))
    });
    let (record, pulled_by_kubelet) = found.unwrap_or_else(|error| {
        tracing::warn!(image = %name, %error, "pull records are not readable");
        (None, true)
    });
    if !verification.is_required(&repository, pulled_by_kubelet) {
        return Verdict::Granted;
    }
    record.map_or(Verdict::MustPull, |record| compare(records, &record, &repository, shown))
}

fn compare(
    records: &PullRecords,
    record: &PulledRecord,
    repository: &str,
    shown: &Shown<'_>,
) -> Verdict {
    let Some(known) = record.credential_mapping.get(repository) else { return Verdict::MustPull };
    if known.node_pods_accessible {
        return Verdict::Granted;
    }
    for credential in shown.credentials {
        let Source::Secret(of) = credential.source() else { continue };
        if known.kubernetes_secrets.is_empty() {
            break;
        }
        let own = records.pull_secret(of, credential);
        // The secret that pulled it, whatever is in it now: who may change it could pull.
        let same_secret = |other: &super::records::PullSecret| {
            (&other.namespace, &other.name, &other.uid) == (&own.namespace, &own.name, &own.uid)
        };
        if known.kubernetes_secrets.contains(&own) {
            return Verdict::Granted;
        }
        let same_credential = |other: &super::records::PullSecret| {
            !other.credential_hash.is_empty() && other.credential_hash == own.credential_hash
        };
        if known.kubernetes_secrets.iter().any(|other| same_secret(other) || same_credential(other))
        {
            return Verdict::GrantedAlso(Grant::Secret(own));
        }
    }
    let account = shown.service_account.is_some_and(|own| {
        known.kubernetes_service_accounts.iter().any(|other| {
            (&other.namespace, &other.name, &other.uid) == (&own.namespace, &own.name, &own.uid)
        })
    });
    if account { Verdict::Granted } else { Verdict::MustPull }
}

#[cfg(test)]
mod tests {
    use super::super::credential::Hidden;
    use super::super::records::PullServiceAccount;
    use super::*;

    const IMAGE: &str = "sha256:1";

    fn credential(secret: &str, password: &str) -> Credential {
        let hidden = |text: &str| Hidden::new(text.to_owned());
        let of = Coordinates {
            namespace: "ns".to_owned(),
            name: secret.to_owned(),
            uid: format!("uid-of-{secret}"),
        };
        Credential::new("r.io", hidden("user"), hidden(password), Source::Secret(of))
    }

    fn grant(records: &PullRecords, credential: &Credential) -> Grant {
        let Source::Secret(of) = credential.source() else { panic!("made from a secret") };
        Grant::Secret(records.pull_secret(of, credential))
    }

    fn verdict(records: &PullRecords, image: &str, credentials: &[&Credential]) -> Verdict {
        let name = ImageName::parse(image).expect("valid");
        let shown = Shown { credentials, service_account: None };
        judge(records, &Verification::default(), &name, IMAGE, &shown)
    }

    #[test]
    fn only_who_has_what_it_was_pulled_with_may_use_an_image() {
        let root = tempfile::tempdir().expect("a directory");
        let records = PullRecords::open(root.path()).expect("opens");
        assert_eq!(verdict(&records, "r.io/a:1", &[]), Verdict::Granted, "preloaded");

        let mine = credential("mine", "right");
        records.add(IMAGE, "r.io/a", Some(grant(&records, &mine))).expect("written");
        assert_eq!(verdict(&records, "r.io/a:1", &[&mine]), Verdict::Granted);
        assert_eq!(verdict(&records, "r.io/a:1", &[]), Verdict::MustPull);
        let wrong = credential("other", "wrong");
        assert_eq!(verdict(&records, "r.io/a:1", &[&wrong]), Verdict::MustPull);
        // Another secret with the same credential, and the same secret with another.
        let same = credential("other", "right");
        let also = Verdict::GrantedAlso(grant(&records, &same));
        assert_eq!(verdict(&records, "r.io/a:1", &[&wrong, &same]), also);
        let rotated = credential("mine", "new");
        let also = Verdict::GrantedAlso(grant(&records, &rotated));
        assert_eq!(verdict(&records, "r.io/a:1", &[&rotated]), also);
        // The same bytes by another name are another matter.
        assert_eq!(verdict(&records, "b.io/a:1", &[&mine]), Verdict::MustPull);

        records.add(IMAGE, "r.io/a", Some(Grant::Node)).expect("written");
        assert_eq!(verdict(&records, "r.io/a:1", &[]), Verdict::Granted);
    }

    #[test]
    fn a_pull_that_began_and_a_record_that_cannot_be_read_are_to_be_verified() {
        let root = tempfile::tempdir().expect("a directory");
        let records = PullRecords::open(root.path()).expect("opens");
        let pulling = records.begin("r.io/a:1").expect("begins");
        assert_eq!(verdict(&records, "r.io/a:1", &[]), Verdict::MustPull);
        pulling.failed();
        assert_eq!(verdict(&records, "r.io/a:1", &[]), Verdict::Granted);
        records.add(IMAGE, "r.io/a", None).expect("written");
        assert_eq!(verdict(&records, "r.io/a:1", &[]), Verdict::MustPull);
        for entry in std::fs::read_dir(root.path().join("image_manager/pulled")).expect("lists") {
            std::fs::write(entry.expect("an entry").path(), "{").expect("written");
        }
        assert_eq!(verdict(&records, "r.io/a:1", &[]), Verdict::MustPull);
    }

    #[test]
    fn a_service_account_is_known_again() {
        let root = tempfile::tempdir().expect("a directory");
        let records = PullRecords::open(root.path()).expect("opens");
        let (namespace, name, uid) = ("ns".to_owned(), "builder".to_owned(), "u".to_owned());
        let account = Coordinates { namespace, name, uid };
        let Coordinates { namespace, name, uid } = account.clone();
        let grant = Grant::ServiceAccount(PullServiceAccount { namespace, name, uid });
        records.add(IMAGE, "r.io/a", Some(grant)).expect("written");
        let name = ImageName::parse("r.io/a").expect("valid");
        let judge = |service_account| {
            let shown = Shown { credentials: &[], service_account };
            judge(&records, &Verification::default(), &name, IMAGE, &shown)
        };
        let recreated = Coordinates { uid: "v".to_owned(), ..account.clone() };
        assert_eq!(judge(Some(&account)), Verdict::Granted);
        assert_eq!(judge(Some(&recreated)), Verdict::MustPull);
    }

    #[test]
    fn policies_say_whom_to_ask() {
        use ImagePullCredentialsVerificationPolicy as Policy;
        let allowed = ["r.io/team/*".to_owned(), "docker.io/library/redis".to_owned()];
        let required = |policy: &str, repository: &str, pulled| {
            let policy: Policy = policy.parse().expect("a policy");
            let verification = Verification::new(policy, &allowed).expect("patterns");
            verification.is_required(repository, pulled)
        };
        assert!(!required("NeverVerify", "r.io/a", true));
        assert!(required("NeverVerifyPreloadedImages", "r.io/a", true));
        assert!(!required("NeverVerifyPreloadedImages", "r.io/a", false));
        assert!(required("NeverVerifyAllowlistedImages", "r.io/a", false));
        assert!(!required("NeverVerifyAllowlistedImages", "r.io/team/a", true));
        assert!(!required("NeverVerifyAllowlistedImages", "docker.io/library/redis", true));
        assert!(required("AlwaysVerify", "r.io/team/a", false));
        assert_eq!("Sometimes".parse::<Policy>(), Err(UnknownPolicy));
        for wrong in [" r.io/a", "", "r.io/*/a", "*", "/*", "r.io/A B", "r.io/a:1", "redis"] {
            let verification = Verification::new(Policy::default(), &[wrong.to_owned()]);
            assert!(verification.is_err(), "{wrong:?}");
        }
    }
}
