//! The pod's sandbox: its log directory, its handler, its creation.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use tokio::time::Instant;

use super::error::WorkerError;
use super::task::Worker;
use crate::event::Reason;
use crate::objects::FetchError;
use crate::pod;
use crate::runtime::sandbox_config;

impl Worker {
    /// Makes a sandbox, or reports why not and when it is retried.
    pub(super) async fn create_sandbox(&mut self, pod: &Arc<Pod>, attempt: u32) {
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.shared.events.pod(&self.id, Reason::SandboxChanged, message);
        }
        let handler = match self.runtime_handler(pod).await {
            Ok(handler) => handler,
            Err(error) => {
                if error.is_not_found() {
                    self.pod.awaited.add(&self.shared.objects, error.key(), None);
                }
                return self.no_sandbox(&error.to_string());
            }
        };
        match self.run_sandbox(pod, attempt, &handler).await {
            Ok(()) => {
                self.backoffs.sandbox.reset();
                self.progress.sandbox_hold = None;
            }
            Err(error) => self.no_sandbox(&error.redacted(&self.redactor(Some(pod)))),
        }
    }

    async fn run_sandbox(&self, pod: &Pod, attempt: u32, handler: &str) -> Result<(), WorkerError> {
        let shared = &self.shared;
        let logs = shared.layout.logs(&self.id);
        tokio::fs::create_dir_all(&logs).await.map_err(WorkerError::LogDirectory)?;
        let placeholders = &shared.placeholders;
        let config = sandbox_config(
            pod,
            &self.id,
            &shared.node_name,
            attempt,
            &logs,
            &shared.dns,
            placeholders.as_ref().is_some_and(|placeholders| placeholders.are_for(handler)),
        );
        shared.runtime.run_sandbox(config, handler).await?;
        Ok(())
    }

    /// The handler that the pod's RuntimeClass names; empty for the usual one.
    async fn runtime_handler(&self, pod: &Pod) -> Result<String, FetchError> {
        let class = pod::spec(pod).runtime_class_name.as_deref().filter(|name| !name.is_empty());
        let Some(class) = class else { return Ok(String::new()) };
        let class: RuntimeClass = self.shared.objects.get("", class).await?;
        Ok(class.handler)
    }

    fn no_sandbox(&mut self, why: &str) {
        let message = format!("Failed to create pod sandbox: {why}");
        self.shared.events.pod(&self.id, Reason::FailedCreatePodSandBox, message);
        let delay = self.backoffs.sandbox.failed(Instant::now());
        self.progress.sandbox_hold = Some(Instant::now() + delay);
    }
}
