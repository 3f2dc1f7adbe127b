//! An ephemeral container is a container with a target; rules for the one hold for the other.
//!
//! Both types are taken apart and made with every field by its name, so that one that a newer API adds
//! to either does not compile until it is carried over.

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

/// Takes a value apart and makes one of the other type of its fields.
macro_rules! rebuilt {
    ($value:expr, $From:ident {$($extra:ident)?} => $To:ident {$($given:ident)?}) => {
        rebuilt!(@ $value, $From {$($extra)?} => $To {$($given)?}:
            args command env env_from image image_pull_policy lifecycle liveness_probe name ports
            readiness_probe resize_policy resources restart_policy restart_policy_rules
            security_context startup_probe stdin stdin_once termination_message_path
            termination_message_policy tty volume_devices volume_mounts working_dir)
    };
    (@ $value:expr, $From:ident {$($extra:ident)?} => $To:ident {$($given:ident)?}:
        $($field:ident)*) => {{
        let $From { $($field,)* $($extra)? } = $value;
        ($To { $($field,)* $($given)? } $(, $extra)?)
    }};
}

fn split(ephemeral: EphemeralContainer) -> (Container, Option<String>) {
    rebuilt!(ephemeral, EphemeralContainer { target_container_name } => Container {})
}

fn join(container: Container, target_container_name: Option<String>) -> EphemeralContainer {
    rebuilt!(container, Container {} => EphemeralContainer { target_container_name })
}
