//! One pull: each credential in turn, then none, until the registry gives the image.
//!
//! It is written down that the pull begins before the runtime hears of it, and who may use the
//! image once it is here (see `records`).

use std::fmt;

use coffer_api::image_name::ImageName;
use k8s_cri::v1::AuthConfig;

use super::credential::{Credential, Source};
use super::records::{Grant, PullRecords, PullServiceAccount};
use super::redact::redact;

use crate::runtime::{Image, Runtime, RuntimeError};

/// What runtimes begin such errors with; `k8s.io/cri-api/pkg/errors`.
const REGISTRY_UNAVAILABLE: &str = "RegistryUnavailable";
const SIGNATURE_INVALID: &str = "SignatureValidationFailed";

/// An image that is here now.
pub(super) struct Pulled {
    pub(super) image: Image,
}

/// Why an image was not pulled: what the runtime said of each credential, without the credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PullError {
    causes: Vec<String>,
}

/// One cause as it is; several as Go's aggregates are printed.
impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.causes {
            [cause] => f.write_str(cause),
            causes => write!(f, "[{}]", causes.join(", ")),
        }
    }
}

impl PullError {
    fn new(cause: String) -> Self {
        Self { causes: vec![cause] }
    }

    /// What is said twice is said once.
    fn add(&mut self, cause: String) {
        if !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }

    /// The container's waiting reason and message.
    pub(super) fn for_status(&self, image: &str) -> (&'static str, String) {
        let text = self.to_string();
        let because = |why: &str, rest: &str| {
            format!("image pull failed for {image} because the {why}{rest}")
        };
        if let Some(rest) = text.strip_prefix(REGISTRY_UNAVAILABLE) {
            return (REGISTRY_UNAVAILABLE, because("registry is unavailable", rest));
        }
        if let Some(rest) = text.strip_prefix(SIGNATURE_INVALID) {
            return (SIGNATURE_INVALID, because("signature validation failed", rest));
        }
        ("ErrImagePull", text)
    }
}

/// Pulls an image with the first of the credentials that the registry takes, or with none.
pub(super) async fn pull(
    runtime: &Runtime,
    records: &PullRecords,
    name: &ImageName,
    credentials: &[&Credential],
) -> Result<Pulled, PullError> {
    let whole = name.to_string();
    let pulling = records.begin(&whole).map_err(|error| {
        PullError::new(format!(
            "Failed to record image pull intent for container image {whole:?}: {error}"
        ))
    })?;
    let mut failed = PullError::default();
    let attempts = credentials.iter().copied().map(Some).chain([None]);
    for credential in attempts {
        let auth = credential.map(|credential| credential.for_registry(name));
        match attempt(runtime, &whole, auth).await {
            Ok(image) => {
                pulling.pulled(&image.id, &name.repository(), grant(records, credential));
                return Ok(Pulled { image });
            }
            // With or without the image: what the runtime was about to say is unknown.
            Err(error @ RuntimeError::Unreachable(_)) => {
                return Err(PullError::new(shown(&error, credentials)));
            }
            // That it does not work without a credential, either, is not news.
            Err(_) if credential.is_none() && !credentials.is_empty() => {}
            Err(error) => failed.add(shown(&error, credentials)),
        }
    }
    pulling.failed();
    Err(failed)
}

async fn attempt(
    runtime: &Runtime,
    name: &str,
    auth: Option<AuthConfig>,
) -> Result<Image, RuntimeError> {
    let reference = runtime.pull_image(name, auth).await?;
    let image = runtime.image(&reference).await?;
    let lost =
        || RuntimeError::NotFound(format!("image {name:?} is missing after its pull").into());
    image.ok_or_else(lost)
}

fn grant(records: &PullRecords, credential: Option<&Credential>) -> Grant {
    match credential.map(|credential| (credential, credential.source())) {
        Some((credential, Source::Secret(of))) => {
            Grant::Secret(records.pull_secret(of, credential))
        }
        Some((_, Source::ServiceAccount(of))) => Grant::ServiceAccount(PullServiceAccount {
            namespace: of.namespace.clone(),
            name: of.name.clone(),
            uid: of.uid.clone(),
        }),
        Some((_, Source::Node)) | None => Grant::Node,
    }
}

/// The runtime's words. As upstream does for pulls, the code is left out where it says nothing.
fn shown(error: &RuntimeError, credentials: &[&Credential]) -> String {
    match error {
        RuntimeError::Failed { code: tonic::Code::Unknown, message } => {
            redact(message, credentials)
        }
        error => error.redacted_by(|words| redact(words, credentials)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_shown_once_each_as_go_shows_them() {
        let mut error = PullError::default();
        error.add("one".to_owned());
        error.add("one".to_owned());
        assert_eq!(error.to_string(), "one");
        error.add("two".to_owned());
        assert_eq!(error.to_string(), "[one, two]");
        assert_eq!(error.for_status("x"), ("ErrImagePull", "[one, two]".to_owned()));
    }

    #[test]
    fn the_errors_that_runtimes_name_have_reasons_of_their_own() {
        let unavailable = PullError::new("RegistryUnavailable: no route".to_owned());
        let expected = "image pull failed for r.io/a because the registry is unavailable: no route";
        assert_eq!(unavailable.for_status("r.io/a"), ("RegistryUnavailable", expected.to_owned()));
        let invalid = PullError::new("SignatureValidationFailed".to_owned());
        let expected = "image pull failed for r.io/a because the signature validation failed";
        let (reason, message) = invalid.for_status("r.io/a");
        assert_eq!((reason, &*message), ("SignatureValidationFailed", expected));
    }

    #[test]
    fn the_code_unknown_is_left_out_of_an_error() {
        let failed = |code| RuntimeError::Failed { code, message: "no".into() };
        assert_eq!(shown(&failed(tonic::Code::Unknown), &[]), "no");
        let expected = "rpc error: code = PermissionDenied desc = no";
        assert_eq!(shown(&failed(tonic::Code::PermissionDenied), &[]), expected);
    }
}
