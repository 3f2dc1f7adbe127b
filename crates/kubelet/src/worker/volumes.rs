//! A pod's volumes and the secrets in them, as its worker sees to them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::task::Worker;
use crate::backoff;
use crate::event::Reason;
use crate::pod;
use crate::snapshot::{self, Snapshot};
use crate::volume::Failed;

/// When to look again for tokens in a pod that has none.
const NO_TOKENS: Duration = Duration::from_secs(24 * 60 * 60);

/// Set to `live` on a pod whose volumes are to follow their secrets.
const UPDATE_ANNOTATION: &str = coffer_api::well_known::annotation::SECRET_UPDATE;

pub(super) fn follows_secrets(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(UPDATE_ANNOTATION)).is_some_and(|value| value == "live")
}

impl Worker {
    pub(super) async fn set_up_volumes(&mut self, pod: &Arc<Pod>) {
        self.pod.awaited.clear();
        match self.shared.volumes.set_up(&self.id, pod).await {
            Ok(()) => {
                self.progress.volumes_ready = true;
                self.volumes.usage_is_old = true;
                self.progress.volumes_released = false;
                self.backoffs.volumes.reset();
                self.progress.volumes_hold = None;
            }
            Err(failures) => {
                let delay = self.backoffs.volumes.failed(Instant::now());
                // An API server that comes back is noticed by asking.
                let unreachable = failures.iter().any(|failed| failed.error.is_unreachable());
                let delay = if unreachable { delay.min(backoff::API.max) } else { delay };
                self.progress.volumes_hold = Some(Instant::now() + delay);
                for failed in failures {
                    self.report_failed_volume(&failed);
                    for wanted in failed.waits_for {
                        self.pod.awaited.add(&self.shared.objects, &wanted.key, wanted.seen);
                    }
                }
            }
        }
    }

    fn report_failed_volume(&self, failed: &Failed) {
        let message = if failed.volume.is_empty() {
            failed.error.to_string()
        } else {
            format!("MountVolume.SetUp failed for volume {:?} : {}", failed.volume, failed.error)
        };
        tracing::info!(pod = %self.id, cause = %message, "volume setup failed, retrying");
        self.shared.events.pod(&self.id, Reason::FailedMountVolume, message);
    }

    /// Finds out which versions of its secrets the pod uses.
    pub(super) async fn note_usage(&mut self) {
        if !std::mem::take(&mut self.volumes.usage_is_old) {
            return;
        }
        let snapshot = Snapshot::of(&self.shared.layout, self.id.uid());
        let versions = move || match snapshot.is_committed() {
            Ok(true) => snapshot.versions().map(Some),
            _ => Ok(None),
        };
        let versions = tokio::task::spawn_blocking(versions).await;
        match versions.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(None) => {}
            Ok(Some(versions)) => {
                self.volumes.usage.reload(versions, &self.shared.objects, &self.id);
                let annotations = self.volumes.usage.annotations();
                let reporter = self.reporting.reporter.as_ref();
                if let Some(reporter) = reporter.filter(|_| !annotations.is_empty()) {
                    reporter.annotations(annotations);
                }
            }
            Err(error) => tracing::warn!(pod = %self.id, %error, "cannot read the snapshot"),
        }
    }

    /// Renews the tokens in the pod's volumes when it is time to.
    pub(super) async fn tend_tokens(&mut self, pod: &Pod) {
        let now = Instant::now();
        if self.volumes.tokens_due.is_some_and(|due| due > now) {
            return;
        }
        let snapshot = Snapshot::of(&self.shared.layout, self.id.uid());
        if !snapshot.is_committed().unwrap_or_default() {
            self.volumes.tokens_due = None;
            return;
        }
        self.volumes.tokens_due = match self.shared.volumes.renew_tokens(&self.id, pod).await {
            Ok(due) => {
                self.backoffs.tokens.reset();
                Some(now + due.unwrap_or(NO_TOKENS).min(NO_TOKENS))
            }
            Err(error) => {
                tracing::warn!(pod = %self.id, %error, "cannot renew service account token");
                Some(now + self.backoffs.tokens.failed(now))
            }
        };
    }

    /// Brings the volumes of a pod that asked for it up to the present versions of its secrets.
    pub(super) async fn follow_secrets(&mut self, pod: &Arc<Pod>) {
        let now = Instant::now();
        if self.volumes.refresh_hold.is_some_and(|until| until > now) {
            return;
        }
        self.volumes.refresh_hold = None;
        let env = snapshot::env_secrets(pod::spec(pod));
        let outdated = self.volumes.usage.outdated(|name| !env.contains_key(name));
        if outdated.is_empty() {
            self.backoffs.refresh.reset();
            return;
        }
        if let Err(failures) = self.shared.volumes.refresh(&self.id, pod, outdated).await {
            failures.iter().for_each(|failed| self.report_failed_volume(failed));
        }
        self.volumes.usage_is_old = true;
        self.note_usage().await;
        // Also after a success: what was fetched may be newer than what the watch has shown.
        self.volumes.refresh_hold = Some(now + self.backoffs.refresh.failed(now));
    }
}
