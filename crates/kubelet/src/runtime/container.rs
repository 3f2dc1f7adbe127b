//! What the runtime is asked for one container. Pure.

use std::collections::HashMap;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::{Image, labels, resources, security};
use crate::pod::{self, GRACE_PERIOD_DEFAULT_S, PodId};

/// Everything a container is made from. Its environment may hold secrets, so it is not printed.
pub(crate) struct ContainerPlan<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) id: &'a PodId,
    pub(crate) node: &'a str,
    pub(crate) container: &'a Container,
    /// How often it has been restarted.
    pub(crate) attempt: u32,
    pub(crate) image: &'a Image,
    pub(crate) envs: Vec<cri::KeyValue>,
    /// `command` and `args` with their variables expanded.
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) mounts: Vec<cri::Mount>,
    /// Relative to the sandbox' log directory.
    pub(crate) log_path: String,
    pub(crate) node_memory_bytes: i64,
}

/// The configuration of a container.
pub(crate) fn container_config(plan: ContainerPlan<'_>) -> cri::ContainerConfig {
    let spec = pod::spec(plan.pod);
    let container = plan.container;
    let mut labels = labels::pod_labels(plan.id, plan.node);
    labels.insert(labels::CONTAINER_NAME.to_owned(), container.name.clone());
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: container.name.clone(),
            attempt: plan.attempt,
        }),
        image: Some(cri::ImageSpec {
            image: plan.image.id.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: plan.command,
        args: plan.args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: plan.envs,
        mounts: plan.mounts,
        labels,
        annotations: annotations(plan.pod, container, plan.attempt),
        log_path: plan.log_path,
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::container_resources(
                plan.pod,
                container,
                plan.node_memory_bytes,
            )),
            security_context: Some(security::container_context(spec, container, plan.image)),
        }),
        ..Default::default()
    }
}

fn annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let grace = pod::spec(pod).termination_grace_period_seconds.unwrap_or(GRACE_PERIOD_DEFAULT_S);
    let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let annotations = [
        (labels::HASH, labels::container_hash(container)),
        (labels::RESTART_COUNT, attempt.to_string()),
        (labels::MESSAGE_PATH, path.to_owned()),
        (labels::MESSAGE_POLICY, policy.to_owned()),
        (labels::GRACE_PERIOD, grace.to_string()),
    ];
    annotations.map(|(key, value)| (key.to_owned(), value)).into()
}
