//! Images: whether one has to be pulled, who may use one that is here, with which credentials to
//! pull, and waiting longer after each failure.
//!
//! ```text
//! pod's secrets ─▶ pull_secrets ┐
//! node's file ─▶ node_credentials ├─▶ keyring ──what matches──▶ pull ─▶ runtime (CRI PullImage)
//! plugins ─▶ provider           ┘       │                       │
//!                                       └─▶ verify ◀─ records ◀─┘ who pulled what
//! ```
//!
//! Events and error texts are upstream's image manager's. Credentials are tried in the keyring's
//! order and last of all none; a credential reaches the runtime in the pull request, bound to the
//! registry's host, and nothing else. What the runtime responds is redacted before anyone reads it.

mod credential;
mod docker_config;
mod failures;
mod keyring;
mod location;
mod node_credentials;
mod provider;
mod pull;
mod pull_secrets;
mod records;
mod redact;
mod verify;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coffer_api::image_name::ImageName;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::credential::Coordinates;
use self::failures::Failures;
use self::node_credentials::NodeCredentials;
pub use self::provider::ProviderConfigError;
use self::provider::{Asker, Providers};
use self::pull::{PullError, Pulled};
use self::pull_secrets::PullSecrets;
pub(crate) use self::pull_secrets::SecretVersions;
use self::records::PullRecords;
pub use self::verify::{AllowlistError, ImagePullCredentialsVerificationPolicy, UnknownPolicy};
use self::verify::{Shown, Verdict, Verification};
use crate::backoff;
use crate::duration::go_duration;
use crate::event::{EventSink, Reason};
use crate::objects::Objects;
use crate::pod::{self, PodId};
use crate::redact::Redactor;
use crate::runtime::{Image, Runtime};

/// How many pulls run at the same time on one node.
const PULLS_MAX: usize = 5;

/// Where credentials for images come from in addition to pods' secrets, and which pods must show them.
#[derive(Clone, Debug, Default)]
pub struct ImagesConfig {
    /// The file, or directory, that says which credential provider plugins there are.
    pub credential_provider_config: Option<PathBuf>,
    /// The directory that the plugins are in.
    pub credential_provider_bin_dir: Option<PathBuf>,
    /// Which images that are on the node already a pod must show credentials for.
    pub verification_policy: ImagePullCredentialsVerificationPolicy,
    /// For `NeverVerifyAllowlistedImages`: names without tag (`docker.io/library/redis`), or
    /// everything below a path (`r.io/team/*`).
    pub preloaded_images_verification_allowlist: Vec<String>,
}

impl ImagesConfig {
    /// Reads what it names, for what is wrong with that.
    pub(crate) fn check(&self) -> Result<(), ImagesError> {
        self.read().map(drop)
    }

    fn read(&self) -> Result<(Providers, Verification), ImagesError> {
        let providers = match (&self.credential_provider_config, &self.credential_provider_bin_dir)
        {
            (Some(file), Some(directory)) => Providers::open(file, directory)?,
            (None, None) => Providers::default(),
            _ => return Err(ImagesError::HalfProvider),
        };
        let allowlist = &self.preloaded_images_verification_allowlist;
        let verification = Verification::new(self.verification_policy.clone(), allowlist)?;
        Ok((providers, verification))
    }
}

/// Why images cannot be managed. Each is one clear line.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The credential providers are not as they should be.
    #[error(transparent)]
    Providers(#[from] ProviderConfigError),
    /// One of the two settings needs the other.
    #[error(
        "--image-credential-provider-config and --image-credential-provider-bin-dir go together"
    )]
    HalfProvider,
    /// The allow list has an invalid pattern.
    #[error("preloaded images verification allowlist: {0}")]
    Allowlist(#[from] AllowlistError),
    /// The pull records cannot be read or written.
    #[error("image pull records: {0}")]
    Records(#[from] std::io::Error),
    /// The runtime does not say which images it has.
    #[error("list images: {0}")]
    Runtime(String),
}

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
    /// The pull secrets; once one of them changes it is worth trying immediately.
    pub(crate) waits_for: SecretVersions,
}

/// Whether a waiting reason is one of [`ImageError`]'s that another pull secret may end.
pub(crate) fn is_pull_failure(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "RegistryUnavailable"
            | "SignatureValidationFailed"
    )
}

/// Pulls images for all pods of the node.
pub(crate) struct Images {
    runtime: Runtime,
    events: EventSink,
    objects: Arc<Objects>,
    node: NodeCredentials,
    providers: Providers,
    records: PullRecords,
    verification: Verification,
    pulls: Semaphore,
    failures: Failures,
    granted: Mutex<HashMap<String, HashSet<Granted>>>,
}

/// An image, by id and repository, that a pod has shown to have a right to. It keeps the right for
/// its life, as it keeps its secrets: a container that restarts must not depend on the API server.
#[derive(PartialEq, Eq, Hash)]
struct Granted {
    image: String,
    repository: String,
}

impl Images {
    /// Reads what earlier kubelets recorded, and the settings.
    ///
    /// # Errors
    /// What of the settings is wrong, or what cannot be read.
    pub(crate) async fn open(
        runtime: Runtime,
        events: EventSink,
        objects: Arc<Objects>,
        root_dir: &std::path::Path,
        config: &ImagesConfig,
    ) -> Result<Self, ImagesError> {
        let (providers, verification) = config.read()?;
        let records = PullRecords::open(root_dir)?;
        let present = runtime
            .images()
            .await
            .map_err(|error| ImagesError::Runtime(error.redacted(&Redactor::without_values())))?;
        records.adopt(&present)?;
        let home = std::env::var_os("HOME").map(PathBuf::from);
        Ok(Self {
            node: NodeCredentials::new(root_dir, home.as_deref()),
            runtime,
            events,
            objects,
            providers,
            records,
            verification,
            pulls: Semaphore::new(PULLS_MAX),
            failures: Failures::default(),
            granted: Mutex::default(),
        })
    }

    /// Makes sure that a container's image is here and that its pod may use it.
    pub(crate) async fn ensure(
        &self,
        id: &PodId,
        pod: &Pod,
        container: &Container,
        field: &str,
    ) -> Result<Image, ImageError> {
        let wanted = container.image.as_deref().unwrap_or_default();
        let about = About { id, pod, field, wanted, events: &self.events };
        let name = ImageName::parse(wanted).map_err(|error| {
            let message = format!("Failed to apply default image tag {wanted:?}: {error}");
            about.say(Reason::FailedToInspectImage, &message);
            ImageError::new("InvalidImageName", message, backoff::IMAGE_PULL.max)
        })?;
        let policy = PullPolicy::of(container, &name);
        let present = self.present(&about, &name, policy).await?;
        if let Some(image) = &present
            && self.is_granted(id, image, &name)
        {
            return Ok(about.already_present(image));
        }
        let secrets = pull_secrets::fetch(&self.objects, id, pod::spec(pod)).await;
        if !secrets.unusable.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may \
                 not succeed.",
                secrets.unusable.join(", ")
            );
            self.events.pod(id, Reason::FailedToRetrieveImagePullSecret, message);
        }
        if let Some(image) = &present
            && self.may_use(&about, &name, image, &secrets).await
        {
            return Ok(about.already_present(image));
        }
        self.bring(&about, &name, policy, &secrets)
            .await
            .map_err(|error| ImageError { waits_for: secrets.seen, ..error })
    }

    /// Pulls an image, unless it is to be waited.
    async fn bring(
        &self,
        about: &About<'_>,
        name: &ImageName,
        policy: PullPolicy,
        secrets: &PullSecrets,
    ) -> Result<Image, ImageError> {
        if policy == PullPolicy::Never {
            // Also for one that is here: which images other pods use is not shown.
            return Err(about.never_pulled());
        }
        let (pod, wanted, now) = (about.id.uid(), about.wanted, Instant::now());
        if let Some((left, cause)) = self.failures.check(pod, wanted, &secrets.seen, now) {
            let message = format!("Back-off pulling image {wanted:?}");
            about.say(Reason::BackOffPullImage, &message);
            return Err(ImageError::new("ImagePullBackOff", format!("{message}: {cause}"), left));
        }
        let asked = Instant::now();
        let _permit = self.pulls.acquire().await;
        // Another pod may have pulled it while this one waited its turn.
        if let Some(image) = self.present(about, name, policy).await?
            && self.may_use(about, name, &image, secrets).await
        {
            return Ok(about.already_present(&image));
        }
        about.say(Reason::PullingImage, &format!("Pulling image {wanted:?}"));
        let began = Instant::now();
        match self.pull(about, name, secrets).await {
            Ok(Pulled { image }) => {
                self.failures.forget(pod, wanted);
                self.grant(about.id, &image, name);
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
            Err(error) => Err(self.failed(about, secrets, &error)),
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
        let found = self.runtime.image(&name.to_string()).await.map_err(|error| {
            let error = error.redacted_by(|words| redact::redact(words, &[]));
            let message = format!("Failed to inspect image {:?}: {error}", about.wanted);
            about.say(Reason::FailedToInspectImage, &message);
            ImageError::new("ImageInspectError", message, backoff::RUNTIME.initial)
        })?;
        if found.is_none() && policy == PullPolicy::Never {
            return Err(about.never_pulled());
        }
        Ok(found)
    }

    /// Whether this pod may use an image that is here.
    async fn may_use(
        &self,
        about: &About<'_>,
        name: &ImageName,
        image: &Image,
        secrets: &PullSecrets,
    ) -> bool {
        let account = self.providers.service_account(&self.asker(about), name).await;
        let allowed = self.judge(image, name, secrets, account.as_ref());
        if allowed {
            self.grant(about.id, image, name);
        }
        allowed
    }

    fn judge(
        &self,
        image: &Image,
        name: &ImageName,
        secrets: &PullSecrets,
        service_account: Option<&Coordinates>,
    ) -> bool {
        let credentials = secrets.keyring.lookup(name);
        let shown = Shown { credentials: &credentials, service_account };
        match verify::judge(&self.records, &self.verification, name, &image.id, &shown) {
            Verdict::Granted => true,
            Verdict::GrantedAlso(grant) => {
                let repository = name.repository();
                if let Err(error) = self.records.add(&image.id, &repository, Some(grant)) {
                    tracing::warn!(image = %name, %error, "cannot record the pull secret of an image");
                }
                true
            }
            Verdict::MustPull => false,
        }
    }

    async fn pull(
        &self,
        about: &About<'_>,
        name: &ImageName,
        secrets: &PullSecrets,
    ) -> Result<Pulled, PullError> {
        let node = self.node.keyring();
        let plugins = self.providers.keyring(&self.asker(about), name).await;
        let keyrings = [&secrets.keyring, &node, &plugins];
        let credentials: Vec<_> =
            keyrings.into_iter().flat_map(|keyring| keyring.lookup(name)).collect();
        pull::pull(&self.runtime, &self.records, name, &credentials).await
    }

    fn asker<'a>(&'a self, about: &About<'a>) -> Asker<'a> {
        Asker { objects: &self.objects, pod: about.id, spec: pod::spec(about.pod) }
    }

    fn failed(&self, about: &About<'_>, secrets: &PullSecrets, error: &PullError) -> ImageError {
        let wanted = about.wanted;
        about.say(Reason::FailedToPullImage, &format!("Failed to pull image {wanted:?}: {error}"));
        let (reason, message) = error.for_status(wanted);
        let cause = format!("{reason}: {message}");
        self.failures.add(about.id.uid(), wanted, secrets.seen.clone(), cause, Instant::now());
        // Soon: what the status says next is that it backs off.
        ImageError::new(reason, message, backoff::RUNTIME.initial)
    }

    fn granted(&self) -> MutexGuard<'_, HashMap<String, HashSet<Granted>>> {
        self.granted.lock()
    }

    fn is_granted(&self, pod: &PodId, image: &Image, name: &ImageName) -> bool {
        let granted = Granted { image: image.id.clone(), repository: name.repository() };
        self.granted().get(pod.uid()).is_some_and(|all| all.contains(&granted))
    }

    fn grant(&self, pod: &PodId, image: &Image, name: &ImageName) {
        let granted = Granted { image: image.id.clone(), repository: name.repository() };
        self.granted().entry(pod.uid().to_owned()).or_default().insert(granted);
    }

    /// Forgets what is known of a pod that no longer exists.
    pub(crate) fn forget_pod(&self, pod: &PodId) {
        self.failures.forget_pod(pod.uid());
        self.granted().remove(pod.uid());
    }
}

impl ImageError {
    fn new(reason: &'static str, message: String, retry_after: Duration) -> Self {
        Self { reason, message, retry_after, waits_for: SecretVersions::default() }
    }
}

/// What an event of a pull is about.
struct About<'a> {
    id: &'a PodId,
    pod: &'a Pod,
    field: &'a str,
    wanted: &'a str,
    events: &'a EventSink,
}

impl About<'_> {
    fn say(&self, reason: Reason, message: &str) {
        self.events.container(self.id, self.field, reason, message.to_owned());
    }

    fn already_present(&self, image: &Image) -> Image {
        let message = format!(
            "Container image {:?} already present on machine and can be accessed by the pod",
            self.wanted
        );
        self.say(Reason::PulledImage, &message);
        image.clone()
    }

    fn never_pulled(&self) -> ImageError {
        let message =
            format!("Container image {:?} is not present with pull policy of Never", self.wanted);
        self.say(Reason::ErrImageNeverPull, &message);
        ImageError::new("ErrImageNeverPull", message, backoff::IMAGE_PULL.initial)
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
