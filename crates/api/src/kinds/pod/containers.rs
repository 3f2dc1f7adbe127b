//! Containers of all three sorts: regular, init and ephemeral.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerResizePolicy, PodSpec, VolumeDevice, VolumeMount,
};

use super::ephemeral::as_container;
use super::image::validate_pull_policy;
use super::resources::Owner;
use super::values::{descending_path, no_backsteps, one_of};
use super::volumes::Known;
use super::{environment, handlers, resources, security};
use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta::invalid_each;
use crate::kinds::optional::{list, text};
use crate::names;

/// What of the pod around them containers are checked against.
pub(super) struct Context<'a> {
    pub(super) volumes: Known<'a>,
    pub(super) claims: BTreeSet<&'a str>,
    pub(super) spec: &'a PodSpec,
}

pub(super) fn validate(around: &Context<'_>, path: &Path) -> ErrorList {
    let containers = &around.spec.containers;
    if containers.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = ErrorList::new();
    let mut names = BTreeSet::new();
    for (at, container) in containers.iter().enumerate() {
        let path = path.index(at);
        errors.extend(validate_common(container, around, &path));
        if !names.insert(container.name.as_str()) {
            errors.push(Error::duplicate(&path.child("name"), &container.name));
        }
        let grace_s = around.spec.termination_grace_period_seconds;
        errors.extend(handlers::validate(container, grace_s, &path));
        if container.restart_policy.is_some() {
            let detail = "may not be set for non-init containers";
            errors.push(Error::forbidden(&path.child("restartPolicy"), detail));
        }
    }
    errors.extend(host_port_conflicts(containers, path));
    errors
}

pub(super) fn validate_init(around: &Context<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut names: BTreeSet<&str> =
        around.spec.containers.iter().map(|container| container.name.as_str()).collect();
    for (at, container) in list(&around.spec.init_containers).iter().enumerate() {
        let item = path.index(at);
        errors.extend(validate_common(container, around, &item));
        let policy = container.restart_policy.as_deref();
        if let Some(policy) = policy.filter(|policy| *policy != "Always") {
            let path = item.child("restartPolicy");
            errors.push(Error::not_supported(&path, policy, &["Always"]));
        }
        if names.contains(container.name.as_str()) {
            errors.push(Error::duplicate(&item.child("name"), &container.name));
        } else if !container.name.is_empty() {
            names.insert(&container.name);
        }
        // Init containers run one after another, so each is checked by itself.
        errors.extend(host_port_conflicts(std::slice::from_ref(container), path));
        if policy == Some("Always") {
            let grace_s = around.spec.termination_grace_period_seconds;
            errors.extend(handlers::validate(container, grace_s, &item));
        } else {
            errors.extend(no_handlers(container, &item));
        }
    }
    errors
}

fn no_handlers(container: &Container, path: &Path) -> ErrorList {
    let detail = "may not be set for init containers without restartPolicy=Always";
    [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ]
    .into_iter()
    .filter(|(_, set)| *set)
    .map(|(name, _)| Error::forbidden(&path.child(name), detail))
    .collect()
}

pub(super) fn validate_ephemeral(around: &Context<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let init = list(&around.spec.init_containers).iter();
    let others: BTreeSet<&str> =
        around.spec.containers.iter().chain(init).map(|it| it.name.as_str()).collect();
    let mut names = others.clone();
    for (at, ephemeral) in list(&around.spec.ephemeral_containers).iter().enumerate() {
        let path = path.index(at);
        let container = as_container(ephemeral);
        errors.extend(validate_common(&container, around, &path));
        errors.extend(validate_image_for_pod(&container, &path));
        if !names.insert(&ephemeral.name) {
            errors.push(Error::duplicate(&path.child("name"), &ephemeral.name));
        }
        let target = text(&ephemeral.target_container_name);
        if !target.is_empty() && !others.contains(target) {
            errors.push(Error::not_found(&path.child("targetContainerName"), target));
        }
        errors.extend(only_allowed_for_ephemeral(&container, &path));
    }
    errors
}

/// An ephemeral container is for looking around, not for services: nothing that promises one.
fn only_allowed_for_ephemeral(container: &Container, path: &Path) -> ErrorList {
    let detail = "cannot be set for an Ephemeral Container";
    let requirements = container.resources.as_ref();
    let set = [
        ("ports", !list(&container.ports).is_empty()),
        (
            "resources",
            requirements.is_some_and(|it| {
                it.limits.is_some() || it.requests.is_some() || it.claims.is_some()
            }),
        ),
        ("resizePolicy", !list(&container.resize_policy).is_empty()),
        ("restartPolicy", container.restart_policy.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ];
    let mut errors: ErrorList = set
        .into_iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| Error::forbidden(&path.child(name), detail))
        .collect();
    for (at, mount) in list(&container.volume_mounts).iter().enumerate() {
        let path = path.child("volumeMounts").index(at);
        for (name, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if !text(value).is_empty() {
                errors.push(Error::forbidden(&path.child(name), detail));
            }
        }
    }
    errors
}

fn validate_common(container: &Container, around: &Context<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let name = path.child("name");
    if container.name.is_empty() {
        errors.push(Error::required(&name, ""));
    } else {
        errors.extend(invalid_each(&name, &container.name, names::dns1123_label(&container.name)));
    }
    if text(&container.image).is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    }
    errors.extend(one_of(
        text(&container.termination_message_policy),
        &["File", "FallbackToLogsOnError"],
        &path.child("terminationMessagePolicy"),
    ));
    errors.extend(validate_ports(list(&container.ports), &path.child("ports")));
    errors.extend(environment::validate(list(&container.env), &path.child("env")));
    errors.extend(environment::validate_from(list(&container.env_from), &path.child("envFrom")));
    errors.extend(validate_mounts(container, &around.volumes, &path.child("volumeMounts")));
    errors.extend(validate_devices(container, &around.volumes, &path.child("volumeDevices")));
    let policy = text(&container.image_pull_policy);
    errors.extend(validate_pull_policy(policy, &path.child("imagePullPolicy")));
    if let Some(requirements) = &container.resources {
        let path = path.child("resources");
        errors.extend(resources::validate(requirements, Owner::Container, &around.claims, &path));
    }
    let policies = list(&container.resize_policy);
    errors.extend(validate_resize(policies, around.spec, &path.child("resizePolicy")));
    if let Some(context) = &container.security_context {
        let host_users = around.spec.host_users.unwrap_or(true);
        let path = path.child("securityContext");
        errors.extend(security::validate(context, host_users, &path));
    }
    errors
}

/// Pods refuse blanks around an image's name; templates, for old times' sake, do not.
pub(super) fn validate_images_for_pod(containers: &[Container], path: &Path) -> ErrorList {
    let each = |(at, container)| validate_image_for_pod(container, &path.index(at));
    containers.iter().enumerate().filter_map(each).collect()
}

fn validate_image_for_pod(container: &Container, path: &Path) -> Option<Error> {
    let image = text(&container.image);
    let padded = image.trim() != image;
    let detail = "must not have leading or trailing whitespace";
    padded.then(|| Error::invalid(&path.child("image"), image, detail))
}

fn validate_ports(ports: &[ContainerPort], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut port_names = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = path.index(at);
        let name = text(&port.name);
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !port_names.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            errors.extend(invalid_each(&path.child("name"), name, wrong));
        }
        let number = |number: i32, path: &Path| -> ErrorList {
            names::port_number(number.into())
                .into_iter()
                .map(|detail| Error::invalid(path, number, detail))
                .collect()
        };
        match port.container_port {
            0 => errors.push(Error::required(&path.child("containerPort"), "")),
            given => errors.extend(number(given, &path.child("containerPort"))),
        }
        if let Some(given) = port.host_port.filter(|given| *given != 0) {
            errors.extend(number(given, &path.child("hostPort")));
        }
        let protocol = text(&port.protocol);
        errors.extend(one_of(protocol, &["SCTP", "TCP", "UDP"], &path.child("protocol")));
    }
    errors
}

fn host_port_conflicts(containers: &[Container], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut taken = BTreeSet::new();
    for (at, container) in containers.iter().enumerate() {
        let path = path.index(at).child("ports");
        for (at, port) in list(&container.ports).iter().enumerate() {
            let Some(number) = port.host_port.filter(|number| *number != 0) else { continue };
            let what = format!("{}/{}/{number}", text(&port.protocol), text(&port.host_ip));
            if !taken.insert(what.clone()) {
                errors.push(Error::duplicate(&path.index(at).child("hostPort"), &what));
            }
        }
    }
    errors
}

fn validate_mounts(container: &Container, volumes: &Known<'_>, path: &Path) -> ErrorList {
    let devices = list(&container.volume_devices);
    let mut errors = ErrorList::new();
    let device_names: BTreeSet<_> = devices.iter().map(|device| &device.name).collect();
    let device_paths: BTreeSet<_> = devices.iter().map(|device| &device.device_path).collect();
    let mut mount_points = BTreeSet::new();
    for (at, mount) in list(&container.volume_mounts).iter().enumerate() {
        let item = path.index(at);
        let (name, point) = (item.child("name"), item.child("mountPath"));
        if mount.name.is_empty() {
            errors.push(Error::required(&name, ""));
        }
        let volume = volumes.get(mount.name.as_str());
        if volume.is_none() {
            errors.push(Error::not_found(&name, &mount.name));
        }
        if mount.mount_path.is_empty() {
            errors.push(Error::required(&point, ""));
        }
        if !mount_points.insert(mount.mount_path.as_str()) {
            errors.push(Error::invalid(&point, &mount.mount_path, "must be unique"));
        }
        if device_names.contains(&mount.name) {
            let detail = "must not already exist in volumeDevices";
            errors.push(Error::invalid(&name, &mount.name, detail));
        }
        if device_paths.contains(&mount.mount_path) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&point, &mount.mount_path, detail));
        }
        let of_image = volume.is_some_and(|volume| volume.image.is_some());
        errors.extend(validate_sub_path(mount, of_image, &item, path));
        errors.extend(validate_propagation(mount, container, path));
    }
    errors
}

/// `subPath` and `subPathExpr` stay inside the volume. Upstream reports some of it at the list.
fn validate_sub_path(mount: &VolumeMount, of_image: bool, item: &Path, all: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let (plain, expression) = (text(&mount.sub_path), text(&mount.sub_path_expr));
    for (name, value) in [("subPath", plain), ("subPathExpr", expression)] {
        if of_image && !value.is_empty() {
            let detail = "not allowed in image volume sources";
            errors.push(Error::invalid(&item.child(name), value, detail));
        }
    }
    errors.extend(descending_path(plain, &all.child("subPath")));
    if !expression.is_empty() {
        if !plain.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(Error::invalid(&item.child("subPathExpr"), expression, detail));
        }
        errors.extend(descending_path(expression, &all.child("subPathExpr")));
    }
    errors
}

fn validate_propagation(mount: &VolumeMount, container: &Container, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(mode) = &mount.mount_propagation {
        let path = path.child("mountPropagation");
        let supported = ["Bidirectional", "HostToContainer", "None"];
        if !supported.contains(&mode.as_str()) {
            errors.push(Error::not_supported(&path, mode, &supported));
        }
        let context = container.security_context.as_ref();
        let privileged = context.is_some_and(|context| context.privileged == Some(true));
        if mode == "Bidirectional" && !privileged {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            errors.push(Error::forbidden(&path, detail));
        }
    }
    let path = path.child("recursiveReadOnly");
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                let detail = "may only be specified when readOnly is true";
                errors.push(Error::forbidden(&path, detail));
            }
            if mount.mount_propagation.as_deref().is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(Error::forbidden(&path, detail));
            }
        }
        Some(other) => {
            let supported = ["Disabled", "Enabled", "IfPossible"];
            errors.push(Error::not_supported(&path, other, &supported));
        }
    }
    errors
}

fn validate_devices(container: &Container, volumes: &Known<'_>, path: &Path) -> ErrorList {
    let mounts = list(&container.volume_mounts);
    let mut errors = ErrorList::new();
    let (mut device_names, mut device_paths) = (BTreeSet::new(), BTreeSet::new());
    let mount_names: BTreeSet<_> = mounts.iter().map(|mount| &mount.name).collect();
    let mount_paths: BTreeSet<_> = mounts.iter().map(|mount| &mount.mount_path).collect();
    for (at, device) in list(&container.volume_devices).iter().enumerate() {
        let VolumeDevice { name, device_path } = device;
        let item = path.index(at);
        let (name_path, path_path) = (item.child("name"), item.child("devicePath"));
        if name.is_empty() {
            errors.push(Error::required(&name_path, ""));
        } else if !device_names.insert(name) {
            errors.push(Error::invalid(&name_path, name, "must be unique"));
        }
        match volumes.get(name.as_str()) {
            None => errors.push(Error::not_found(&name_path, name)),
            Some(it) if it.persistent_volume_claim.is_none() && it.ephemeral.is_none() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&name_path, name, detail));
            }
            Some(_) => {}
        }
        if device_path.is_empty() {
            errors.push(Error::required(&path_path, ""));
        }
        if device_paths.contains(device_path) {
            errors.push(Error::invalid(&path_path, device_path, "must be unique"));
        }
        if no_backsteps(device_path, &path_path).is_some() {
            let detail = "can not contain backsteps ('..')";
            errors.push(Error::invalid(&path_path, device_path, detail));
        } else {
            device_paths.insert(device_path);
        }
        if mount_names.contains(name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(Error::invalid(&name_path, name, detail));
        }
        if mount_paths.contains(device_path) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(Error::invalid(&path_path, device_path, detail));
        }
    }
    errors
}

fn validate_resize(policies: &[ContainerResizePolicy], spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut resources = BTreeSet::new();
    for (at, policy) in policies.iter().enumerate() {
        if !resources.insert(&policy.resource_name) {
            errors.push(Error::duplicate(&path.index(at), &policy.resource_name));
        }
        errors.extend(one_of(&policy.resource_name, &["cpu", "memory"], path));
        errors.extend(one_of(&policy.restart_policy, &["NotRequired", "RestartContainer"], path));
        if text(&spec.restart_policy) == "Never" && policy.restart_policy != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, &policy.restart_policy, detail));
        }
    }
    errors
}
