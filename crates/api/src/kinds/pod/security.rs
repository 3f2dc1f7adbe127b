//! Security contexts of containers and pods.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

use super::values::descending_path;
use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta::invalid_json;
use crate::kinds::optional::list;
use crate::kinds::shown;
use crate::names;

const ID_MAX: i64 = i32::MAX as i64;

fn validate_id(id: Option<i64>, path: &Path) -> Option<Error> {
    let id = id.filter(|id| !(0..=ID_MAX).contains(id))?;
    Some(Error::invalid(path, id, names::range_message(0, ID_MAX)))
}

/// A container's.
pub(super) fn validate(context: &SecurityContext, host_users: bool, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    errors.extend(validate_id(context.run_as_user, &path.child("runAsUser")));
    errors.extend(validate_id(context.run_as_group, &path.child("runAsGroup")));
    if let Some(kind) = &context.proc_mount {
        let path = path.child("procMount");
        if !matches!(kind.as_str(), "Default" | "Unmasked") {
            errors.push(Error::not_supported(&path, kind, &["Default", "Unmasked"]));
        }
        if host_users && kind == "Unmasked" {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.push(Error::invalid(&path, kind, detail));
        }
    }
    errors.extend(validate_seccomp(&context.seccomp_profile, &path.child("seccompProfile")));
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(invalid_json(path, &shown::security_context(context), detail));
        }
        let added = context.capabilities.as_ref().map(|it| list(&it.add)).unwrap_or_default();
        if added.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(invalid_json(path, &shown::security_context(context), detail));
        }
    }
    errors.extend(validate_app_armor(&context.app_armor_profile, &path.child("appArmorProfile")));
    errors
}

/// A pod's.
pub(super) fn validate_pod(spec: &PodSpec, path: &Path) -> ErrorList {
    let Some(context) = &spec.security_context else { return ErrorList::new() };
    let mut errors = ErrorList::new();
    errors.extend(validate_id(context.fs_group, &path.child("fsGroup")));
    errors.extend(validate_id(context.run_as_user, &path.child("runAsUser")));
    errors.extend(validate_id(context.run_as_group, &path.child("runAsGroup")));
    for (at, group) in list(&context.supplemental_groups).iter().enumerate() {
        let path = path.child("supplementalGroups").index(at);
        errors.extend(validate_id(Some(*group), &path));
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    errors.extend(validate_sysctls(spec, context, &path.child("sysctls")));
    let choices: [(&str, &Option<String>, &[&str]); 3] = [
        ("fsGroupChangePolicy", &context.fs_group_change_policy, &["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &context.supplemental_groups_policy, &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &context.se_linux_change_policy, &["MountOption", "Recursive"]),
    ];
    for (name, value, supported) in choices {
        if let Some(value) = value.as_deref().filter(|value| !supported.contains(value)) {
            errors.push(Error::not_supported(&path.child(name), value, supported));
        }
    }
    errors.extend(validate_seccomp(&context.seccomp_profile, &path.child("seccompProfile")));
    errors.extend(validate_app_armor(&context.app_armor_profile, &path.child("appArmorProfile")));
    errors
}

const SYSCTL_BYTES_MAX: usize = 253;

fn is_sysctl_name(name: &str) -> bool {
    let alnum = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let segment = |segment: &str| {
        segment.bytes().all(|byte| alnum(byte) || matches!(byte, b'-' | b'_'))
            && segment.bytes().next().is_some_and(alnum)
            && segment.bytes().next_back().is_some_and(alnum)
    };
    name.len() <= SYSCTL_BYTES_MAX && name.split(['.', '/']).all(segment)
}

fn validate_sysctls(spec: &PodSpec, context: &PodSecurityContext, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = std::collections::BTreeSet::new();
    for (at, sysctl) in list(&context.sysctls).iter().enumerate() {
        let (path, name) = (path.index(at).child("name"), &sysctl.name);
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if !is_sysctl_name(name) {
            let detail = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(Error::invalid(&path, name, detail));
        } else if seen.contains(name) {
            errors.push(Error::duplicate(&path, name));
        }
        seen.insert(name);
        let dotted = name.replace('/', ".");
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            let detail = "may not be specified when 'hostNetwork' is true";
            errors.push(Error::invalid(&path, name, detail));
        }
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
        let of_ipc = dotted == "kernel.sem" || ipc.iter().any(|it| dotted.starts_with(it));
        if spec.host_ipc == Some(true) && of_ipc {
            let detail = "may not be specified when 'hostIPC' is true";
            errors.push(Error::invalid(&path, name, detail));
        }
    }
    errors
}

const PROFILE_TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

fn validate_seccomp(profile: &Option<SeccompProfile>, path: &Path) -> ErrorList {
    let Some(profile) = profile else { return ErrorList::new() };
    let mut errors = ErrorList::new();
    let kind = profile.type_.as_str();
    if kind.is_empty() {
        let detail = "type is required when seccompProfile is set";
        errors.push(Error::required(&path.child("type"), detail));
    } else if !PROFILE_TYPES.contains(&kind) {
        errors.push(Error::not_supported(&path.child("type"), kind, PROFILE_TYPES));
    }
    let path = path.child("localhostProfile");
    match (kind, &profile.localhost_profile) {
        ("Localhost", None) => {
            errors.push(Error::required(&path, "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(file)) => errors.extend(descending_path(file, &path)),
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(invalid_json(&path, &shown::seccomp(profile), detail));
        }
        (_, None) => {}
    }
    errors
}

const APP_ARMOR_BYTES_MAX: usize = 4095;

fn validate_app_armor(profile: &Option<AppArmorProfile>, path: &Path) -> ErrorList {
    let Some(profile) = profile else { return ErrorList::new() };
    let mut errors = ErrorList::new();
    let file_path = path.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => {
            let detail = "must be set when AppArmor type is Localhost";
            errors.push(Error::required(&file_path, detail));
        }
        ("Localhost", Some(file)) => {
            if file.trim() != file {
                let detail = "must not be padded with whitespace";
                errors.push(Error::invalid(&file_path, file, detail));
            } else if file.is_empty() {
                let detail = "must be set when AppArmor type is Localhost";
                errors.push(Error::required(&file_path, detail));
            }
            if file.len() > APP_ARMOR_BYTES_MAX {
                errors.push(Error::too_long(&file_path, APP_ARMOR_BYTES_MAX));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(file)) => {
            let detail = "can only be set when AppArmor type is Localhost";
            errors.push(Error::invalid(&file_path, file, detail));
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            let detail = "type is required when appArmorProfile is set";
            errors.push(Error::required(&path.child("type"), detail));
        }
        (other, _) => {
            errors.push(Error::not_supported(&path.child("type"), other, PROFILE_TYPES));
        }
    }
    errors
}
