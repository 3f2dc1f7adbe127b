//! Security contexts: what the pod and the container say, as the runtime wants to hear it. Pure.

use k8s_cri::v1::{self as cri, NamespaceMode, security_profile::ProfileType};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, PodSpec, SELinuxOptions, SeccompProfile,
    SecurityContext,
};

use super::Image;
use crate::pod::{self, PodId};

/// Upstream's defaults for what of /proc and /sys an unprivileged container does not see …
const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// … or cannot write.
const READ_ONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn namespaces(spec: &PodSpec) -> cri::NamespaceOption {
    let mode = |host: Option<bool>, otherwise: NamespaceMode| {
        if host == Some(true) { NamespaceMode::Node } else { otherwise }
    };
    let pid = if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    cri::NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod) as i32,
        pid: mode(spec.host_pid, pid) as i32,
        ipc: mode(spec.host_ipc, NamespaceMode::Pod) as i32,
        ..Default::default()
    }
}

pub(super) fn sandbox_context(spec: &PodSpec) -> cri::LinuxSandboxSecurityContext {
    let context = spec.security_context.as_ref();
    let privileged = pod::all_containers(spec).any(is_privileged);
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        selinux_options: se_linux(context.and_then(|context| context.se_linux_options.as_ref())),
        run_as_user: int(context.and_then(|context| context.run_as_user)),
        run_as_group: group_with_user(context),
        supplemental_groups: groups(context),
        privileged,
        seccomp: Some(profile(ProfileType::RuntimeDefault, "")),
        ..Default::default()
    }
}

/// CRI wants a user with a group.
fn group_with_user(context: Option<&PodSecurityContext>) -> Option<cri::Int64Value> {
    int(context.filter(|context| context.run_as_user.is_some())?.run_as_group)
}

pub(super) fn container_context(
    spec: &PodSpec,
    container: &Container,
    image: &Image,
) -> cri::LinuxContainerSecurityContext {
    let of_pod = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let privileged = is_privileged(container);
    let unmasked = own.is_some_and(|own| own.proc_mount.as_deref() == Some("Unmasked"));
    let paths = |paths: &[&str]| {
        let shown = privileged || unmasked;
        if shown { Vec::new() } else { paths.iter().map(|path| (*path).to_owned()).collect() }
    };
    let user = run_as_user(of_pod, own);
    cri::LinuxContainerSecurityContext {
        capabilities: own.and_then(|own| own.capabilities.as_ref()).map(capabilities),
        privileged,
        namespace_options: Some(namespaces(spec)),
        selinux_options: se_linux(
            own.and_then(|own| own.se_linux_options.as_ref())
                .or(of_pod.and_then(|context| context.se_linux_options.as_ref())),
        ),
        run_as_user: int(user.or(image.uid)),
        run_as_username: if user.is_none() { image.user_name.clone() } else { String::new() },
        run_as_group: int(own
            .and_then(|own| own.run_as_group)
            .or(of_pod.and_then(|context| context.run_as_group))),
        readonly_rootfs: own.is_some_and(|own| own.read_only_root_filesystem == Some(true)),
        supplemental_groups: groups(of_pod),
        no_new_privs: own.is_some_and(|own| own.allow_privilege_escalation == Some(false)),
        masked_paths: paths(MASKED_PATHS),
        readonly_paths: paths(READ_ONLY_PATHS),
        seccomp: Some(if privileged {
            profile(ProfileType::Unconfined, "")
        } else {
            seccomp(
                own.and_then(|own| own.seccomp_profile.as_ref())
                    .or(of_pod.and_then(|context| context.seccomp_profile.as_ref())),
            )
        }),
        ..Default::default()
    }
}

fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().is_some_and(|own| own.privileged == Some(true))
}

fn run_as_user(of_pod: Option<&PodSecurityContext>, own: Option<&SecurityContext>) -> Option<i64> {
    own.and_then(|own| own.run_as_user).or(of_pod.and_then(|context| context.run_as_user))
}

fn groups(of_pod: Option<&PodSecurityContext>) -> Vec<i64> {
    let Some(context) = of_pod else { return Vec::new() };
    context
        .fs_group
        .into_iter()
        .chain(context.supplemental_groups.iter().flatten().copied())
        .collect()
}

fn int(value: Option<i64>) -> Option<cri::Int64Value> {
    value.map(|value| cri::Int64Value { value })
}

fn capabilities(own: &Capabilities) -> cri::Capability {
    cri::Capability {
        add_capabilities: own.add.clone().unwrap_or_default(),
        drop_capabilities: own.drop.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn se_linux(options: Option<&SELinuxOptions>) -> Option<cri::SeLinuxOption> {
    options.map(|options| cri::SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    })
}

fn seccomp(wanted: Option<&SeccompProfile>) -> cri::SecurityProfile {
    let Some(wanted) = wanted else { return profile(ProfileType::Unconfined, "") };
    match wanted.type_.as_str() {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, ""),
        "Localhost" => {
            profile(ProfileType::Localhost, wanted.localhost_profile.as_deref().unwrap_or_default())
        }
        _ => profile(ProfileType::Unconfined, ""),
    }
}

fn profile(kind: ProfileType, path: &str) -> cri::SecurityProfile {
    cri::SecurityProfile { profile_type: kind as i32, localhost_ref: path.to_owned() }
}

/// Why a container with `runAsNonRoot` is not started. Upstream's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NonRootError {
    #[error(
        "container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})"
    )]
    UserIsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})"
    )]
    ImageIsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    UserIsNotNumeric { user: String, pod: String, container: String },
}

/// Holds `runAsNonRoot` to what the container will run as.
pub(crate) fn check_non_root(
    spec: &PodSpec,
    id: &PodId,
    container: &Container,
    image: &Image,
) -> Result<(), NonRootError> {
    let of_pod = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let wanted = own
        .and_then(|own| own.run_as_non_root)
        .or(of_pod.and_then(|context| context.run_as_non_root));
    if wanted != Some(true) {
        return Ok(());
    }
    let (pod, container) = (id.to_string(), container.name.clone());
    match (run_as_user(of_pod, own), image.uid) {
        (Some(0), _) => Err(NonRootError::UserIsRoot { pod, container }),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(NonRootError::ImageIsRoot { pod, container }),
        (None, Some(_)) => Ok(()),
        // An image that names no user runs as root.
        (None, None) if image.user_name.is_empty() => {
            Err(NonRootError::ImageIsRoot { pod, container })
        }
        (None, None) => {
            let user = image.user_name.clone();
            Err(NonRootError::UserIsNotNumeric { user, pod, container })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(pod: serde_json::Value, container: serde_json::Value) -> PodSpec {
        serde_json::from_value(serde_json::json!({
            "securityContext": pod,
            "containers": [{"name": "c", "securityContext": container}],
        }))
        .expect("a spec")
    }

    fn image(uid: Option<i64>, user_name: &str) -> Image {
        Image { id: "i".to_owned(), size_bytes: 1, uid, user_name: user_name.to_owned() }
    }

    #[test]
    fn the_containers_security_context_overrides_the_pods() {
        let spec = spec(
            serde_json::json!({"runAsUser": 1000, "fsGroup": 2000, "supplementalGroups": [3000]}),
            serde_json::json!({"runAsUser": 1001, "allowPrivilegeEscalation": false}),
        );
        let context = container_context(&spec, &spec.containers[0], &image(Some(0), ""));
        assert_eq!(context.run_as_user.map(|user| user.value), Some(1001));
        assert_eq!(context.supplemental_groups, [2000, 3000]);
        assert!(context.no_new_privs && !context.masked_paths.is_empty());
    }

    #[test]
    fn a_container_that_must_not_be_root_is_held_to_it() {
        let id = PodId::new("ns", "p", "u").expect("valid");
        let check = |pod, container, image: &Image| {
            let spec = spec(pod, container);
            check_non_root(&spec, &id, &spec.containers[0], image)
        };
        let must = serde_json::json!({"runAsNonRoot": true});
        let none = serde_json::json!({});
        assert!(check(none.clone(), none.clone(), &image(None, "")).is_ok());
        assert!(check(must.clone(), none.clone(), &image(Some(7), "")).is_ok());
        let error = check(must.clone(), none.clone(), &image(None, "")).expect_err("root");
        assert_eq!(
            error.to_string(),
            "container has runAsNonRoot and image will run as root (pod: \"p_ns(u)\", container: c)"
        );
        assert!(check(must.clone(), none, &image(None, "nobody")).is_err());
        let user = serde_json::json!({"runAsUser": 5});
        assert!(check(must, user, &image(None, "nobody")).is_ok());
    }
}
