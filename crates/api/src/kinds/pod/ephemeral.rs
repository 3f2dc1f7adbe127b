//! An ephemeral container is a container with a target; rules for the one hold for the other.
//!
//! Both types name every field of both, so that one that a newer API adds to either does not compile
//! until it is carried over.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer};

/// The container that it is, without its target.
pub(super) fn as_container(ephemeral: &EphemeralContainer) -> Container {
    split(ephemeral.clone()).0
}

/// Changes it as the container that it is.
pub(super) fn edit_as_container(ephemeral: &mut EphemeralContainer, edit: fn(&mut Container)) {
    let (mut container, target_container_name) = split(std::mem::take(ephemeral));
    edit(&mut container);
    *ephemeral = join(container, target_container_name);
}

fn split(ephemeral: EphemeralContainer) -> (Container, Option<String>) {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
        target_container_name,
    } = ephemeral;
    let container = Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    };
    (container, target_container_name)
}

fn join(container: Container, target_container_name: Option<String>) -> EphemeralContainer {
    let Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = container;
    EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
        target_container_name,
    }
}
