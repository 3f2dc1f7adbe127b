//! Images: whether one has to be pulled, pulling it, and waiting longer after each failure.
//!
//! Events and error texts are upstream's image manager's. Credentials come from a
//! [`Keyring`], tried in its order and last of all without any; a credential reaches the runtime
//! in the pull request and nothing else.

mod name;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::Container;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(crate) use self::name::ImageName;
use crate::backoff::{self, Backoff};
use crate::duration::go_duration;
use crate::event::{EventSink, Reason};
use crate::pod::PodId;
use crate::runtime::{Image, Runtime, RuntimeError};

/// How many pulls run at the same time on one node.
const PULLS_MAX: usize = 5;
/// Failed pulls remembered, each for as long as its back-off; beyond it the oldest is forgotten.
const FAILURES_MAX: usize = 1024;

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    fn of(container: &Container, image: &ImageName) -> Self {
        match container.image_pull_policy.as_deref() {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ if image.is_latest() => Self::Always,
            _ => Self::IfNotPresent,
        }
    }
}

/// Why a container has no image. `reason()` is what its status says.
#[derive(Clone, Debug)]
pub(crate) struct ImageError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// When it is worth trying again.
    pub(crate) retry_after: Duration,
}

/// The credentials that may be used for an image, best match first.
#[derive(Default)]
pub(crate) struct Keyring {
    entries: Vec<AuthConfig>,
}

impl Keyring {
    /// What to try for this image, in order. Each is made when it is used and not kept.
    fn credentials(&self, _image: &ImageName) -> impl Iterator<Item = AuthConfig> {
        self.entries.iter().cloned()
    }
}

struct Failure {
    backoff: Backoff,
    until: Instant,
    message: String,
}

/// Pulls images for all pods of the node.
pub(crate) struct Images {
    runtime: Runtime,
    events: EventSink,
    pulls: Semaphore,
    failures: Mutex<HashMap<(String, String), Failure>>,
}

impl Images {
    pub(crate) fn new(runtime: Runtime, events: EventSink) -> Self {
        Self { runtime, events, pulls: Semaphore::new(PULLS_MAX), failures: Mutex::default() }
    }

    /// Makes sure that a container's image is here.
    pub(crate) async fn ensure(
        &self,
        pod: &PodId,
        container: &Container,
        field: &str,
        keyring: &Keyring,
    ) -> Result<Image, ImageError> {
        let wanted = container.image.as_deref().unwrap_or_default();
        let about = About { pod, field, wanted, events: &self.events };
        let name = ImageName::parse(wanted).map_err(|error| {
            let message = format!("Failed to apply default image tag {wanted:?}: {error}");
            about.say(Reason::FailedToInspectImage, &message);
            ImageError::new("InvalidImageName", message, backoff::IMAGE_PULL.max)
        })?;
        let policy = PullPolicy::of(container, &name);
        if let Some(image) = self.present(&about, &name, policy).await? {
            return Ok(image);
        }
        self.check_backoff(&about)?;
        let asked = Instant::now();
        let _permit = self.pulls.acquire().await;
        // Another pod may have pulled it while this one waited its turn.
        if let Some(image) = self.present(&about, &name, policy).await? {
            return Ok(image);
        }
        about.say(Reason::PullingImage, &format!("Pulling image {wanted:?}"));
        let began = Instant::now();
        match self.pull(&name, keyring).await {
            Ok(image) => {
                self.forget(&about);
                let message = format!(
                    "Successfully pulled image {wanted:?} in {} ({} including waiting). \
                     Image size: {} bytes.",
                    go_duration(began.elapsed()),
                    go_duration(asked.elapsed()),
                    image.size_bytes
                );
                about.say(Reason::PulledImage, &message);
                Ok(image)
            }
            Err(error) => Err(self.failed(&about, &error)),
        }
    }

    /// The image, if it is here and the policy lets it be used as it is.
    async fn present(
        &self,
        about: &About<'_>,
        name: &ImageName,
        policy: PullPolicy,
    ) -> Result<Option<Image>, ImageError> {
        if policy == PullPolicy::Always {
            return Ok(None);
        }
        let wanted = about.wanted;
        let found = self.runtime.image(&name.to_string()).await.map_err(|error| {
            let message = format!("Failed to inspect image {wanted:?}: {error}");
            about.say(Reason::FailedToInspectImage, &message);
            ImageError::new("ImageInspectError", message, backoff::RUNTIME.initial)
        })?;
        if found.is_some() {
            about.say(
                Reason::PulledImage,
                &format!("Container image {wanted:?} already present on machine"),
            );
        } else if policy == PullPolicy::Never {
            let message =
                format!("Container image {wanted:?} is not present with pull policy of Never");
            about.say(Reason::ErrImageNeverPull, &message);
            return Err(ImageError::new("ErrImageNeverPull", message, backoff::IMAGE_PULL.initial));
        }
        Ok(found)
    }

    async fn pull(&self, name: &ImageName, keyring: &Keyring) -> Result<Image, RuntimeError> {
        let whole = name.to_string();
        let attempts = keyring.credentials(name).map(Some).chain([None]);
        let mut failures = Vec::new();
        for credential in attempts {
            match self.runtime.pull_image(&whole, credential).await {
                Ok(reference) => {
                    let image = self.runtime.image(&reference).await?;
                    return image.ok_or_else(|| {
                        RuntimeError::NotFound(format!("image {whole:?} is gone after its pull"))
                    });
                }
                Err(error) => failures.push(error),
            }
        }
        // The first is the one with the best credential.
        Err(failures.swap_remove(0))
    }

    fn check_backoff(&self, about: &About<'_>) -> Result<(), ImageError> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failure) = failures.get(&about.key()) else { return Ok(()) };
        let left = failure.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let wanted = about.wanted;
        about.say(Reason::BackOffPullImage, &format!("Back-off pulling image {wanted:?}"));
        let message = format!("Back-off pulling image {wanted:?}: {}", failure.message);
        Err(ImageError::new("ImagePullBackOff", message, left))
    }

    fn failed(&self, about: &About<'_>, error: &RuntimeError) -> ImageError {
        let wanted = about.wanted;
        about.say(Reason::FailedToPullImage, &format!("Failed to pull image {wanted:?}: {error}"));
        // Upstream calls a registry that cannot be reached by its own name.
        let reason = if error.message().starts_with("RegistryUnavailable") {
            "RegistryUnavailable"
        } else {
            "ErrImagePull"
        };
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= FAILURES_MAX {
            failures.retain(|_, failure| failure.until > now);
        }
        let failure = failures.entry(about.key()).or_insert_with(|| Failure {
            backoff: Backoff::new(backoff::IMAGE_PULL),
            until: now,
            message: String::new(),
        });
        failure.until = now + failure.backoff.failed(now);
        failure.message = format!("{reason}: {error}");
        // Soon: what the status says next is that it backs off.
        ImageError::new(reason, error.to_string(), backoff::RUNTIME.initial)
    }

    fn forget(&self, about: &About<'_>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&about.key());
    }

    /// Forgets the failures of a pod that is gone.
    pub(crate) fn forget_pod(&self, pod: &PodId) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|(uid, _), _| uid != pod.uid());
    }
}

impl ImageError {
    fn new(reason: &'static str, message: String, retry_after: Duration) -> Self {
        Self { reason, message, retry_after }
    }
}

/// What an event of a pull is about.
struct About<'a> {
    pod: &'a PodId,
    field: &'a str,
    wanted: &'a str,
    events: &'a EventSink,
}

impl About<'_> {
    fn key(&self) -> (String, String) {
        (self.pod.uid().to_owned(), self.wanted.to_owned())
    }

    fn say(&self, reason: Reason, message: &str) {
        self.events.container(self.pod, self.field, reason, message.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_that_is_not_given_follows_the_tag() {
        let policy = |image: &str, policy: Option<&str>| {
            let container = Container {
                image: Some(image.to_owned()),
                image_pull_policy: policy.map(str::to_owned),
                ..Default::default()
            };
            PullPolicy::of(&container, &ImageName::parse(image).expect("valid"))
        };
        assert_eq!(policy("redis", None), PullPolicy::Always);
        assert_eq!(policy("redis:7", None), PullPolicy::IfNotPresent);
        assert_eq!(policy("redis", Some("Never")), PullPolicy::Never);
    }
}
