//! What a pod spec gets where the client said nothing: the v1 defaults, in pods and in templates.

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EnvVar, HTTPGetAction, LifecycleHandler, PodIP, PodSpec,
    PodStatus, Probe, Volume, VolumeProjection,
};

use super::ephemeral::edit_as_container;
use super::image::default_pull_policy;
use super::{level, overhead, resources};
use crate::kinds::optional::{default_number, default_text, list_mut, text};

/// File mode 0644 of the files that volumes make.
const FILE_MODE: i32 = 0o644;

/// Defaults of every pod spec.
pub(super) fn set(spec: &mut PodSpec) {
    default_text(&mut spec.dns_policy, "ClusterFirst");
    default_text(&mut spec.restart_policy, "Always");
    default_text(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    set_account(spec);
    if let Some(overhead) = &mut spec.overhead {
        overhead::set_defaults(overhead);
    }
    if let Some(requirements) = &mut spec.resources {
        resources::canonicalize_both(requirements);
    }
    spec.volumes.iter_mut().flatten().for_each(set_volume);
    spec.containers.iter_mut().for_each(set_container);
    spec.init_containers.iter_mut().flatten().for_each(set_container);
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        edit_as_container(container, set_container);
    }
}

/// Defaults of a pod that its template does without: they may depend on the node's features.
pub(super) fn set_for_pod(spec: &mut PodSpec) {
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network == Some(true);
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        if let Some(requirements) = &mut container.resources {
            resources::requests_from_limits(requirements);
        }
        if host_network {
            for port in list_mut(&mut container.ports) {
                if port.host_port.unwrap_or_default() == 0 {
                    port.host_port = Some(port.container_port);
                }
            }
        }
    }
    level::set_requests(spec);
}

/// Makes `podIP` and the first of `podIPs` the same. Where both are given and differ, the former counts: older
/// kubelets write only that. Source: upstream's `Convert_v1_PodStatus_To_core_PodStatus`.
pub(super) fn set_addresses(status: &mut PodStatus) {
    let first = status.pod_ips.iter().flatten().next().map(|it| it.ip.clone());
    match status.pod_ip.as_ref().filter(|ip| !ip.is_empty()) {
        Some(ip) if first.as_ref() != Some(ip) => {
            status.pod_ips = Some(vec![PodIP { ip: ip.clone() }]);
        }
        None if first.is_some() => status.pod_ip = first,
        _ => {}
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always written alike.
fn set_account(spec: &mut PodSpec) {
    if text(&spec.service_account_name).is_empty() {
        spec.service_account_name = spec.service_account.take();
    }
    spec.service_account = spec.service_account_name.clone();
}

fn set_container(container: &mut Container) {
    if text(&container.image_pull_policy).is_empty() {
        let policy = default_pull_policy(text(&container.image));
        container.image_pull_policy = Some(policy.to_owned());
    }
    default_text(&mut container.termination_message_path, "/dev/termination-log");
    default_text(&mut container.termination_message_policy, "File");
    for port in list_mut(&mut container.ports) {
        default_text(&mut port.protocol, "TCP");
    }
    list_mut(&mut container.env).iter_mut().for_each(set_variable);
    // Always there in upstream's output, even without content.
    let requirements = container.resources.get_or_insert_default();
    resources::canonicalize_both(requirements);
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(set_probe);
    if let Some(lifecycle) = &mut container.lifecycle {
        let hooks = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
        hooks.into_iter().flatten().for_each(set_handler);
    }
}

fn set_variable(variable: &mut EnvVar) {
    let Some(source) = &mut variable.value_from else { return };
    if let Some(field) = &mut source.field_ref {
        default_text(&mut field.api_version, "v1");
    }
    if let Some(resource) = &mut source.resource_field_ref {
        resources::default_divisor(&mut resource.divisor);
    }
}

fn set_probe(probe: &mut Probe) {
    default_number(&mut probe.timeout_seconds, 1);
    default_number(&mut probe.period_seconds, 10);
    default_number(&mut probe.success_threshold, 1);
    default_number(&mut probe.failure_threshold, 3);
    if let Some(http) = &mut probe.http_get {
        set_http(http);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn set_handler(handler: &mut LifecycleHandler) {
    if let Some(http) = &mut handler.http_get {
        set_http(http);
    }
}

fn set_http(http: &mut HTTPGetAction) {
    default_text(&mut http.path, "/");
    default_text(&mut http.scheme, "HTTP");
}

fn set_volume(volume: &mut Volume) {
    if super::volumes::sources_of(volume).is_empty() {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(map) = &mut volume.config_map {
        map.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        list_mut(&mut downward.items).iter_mut().for_each(set_downward_file);
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(FILE_MODE);
        list_mut(&mut projected.sources).iter_mut().for_each(set_projection);
    }
    if let Some(host) = &mut volume.host_path {
        host.type_.get_or_insert_default();
    }
    if let Some(image) = &mut volume.image
        && text(&image.pull_policy).is_empty()
    {
        image.pull_policy = Some(default_pull_policy(text(&image.reference)).to_owned());
    }
    if let Some(iscsi) = &mut volume.iscsi {
        default_text(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        default_text(&mut rbd.pool, "rbd");
        default_text(&mut rbd.user, "admin");
        default_text(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    let claim = volume.ephemeral.as_mut().and_then(|source| source.volume_claim_template.as_mut());
    if let Some(claim) = claim {
        claim.spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    }
}

fn set_projection(projection: &mut VolumeProjection) {
    if let Some(downward) = &mut projection.downward_api {
        list_mut(&mut downward.items).iter_mut().for_each(set_downward_file);
    }
    if let Some(token) = &mut projection.service_account_token {
        token.expiration_seconds.get_or_insert(60 * 60);
    }
}

fn set_downward_file(file: &mut DownwardAPIVolumeFile) {
    if let Some(field) = &mut file.field_ref {
        default_text(&mut field.api_version, "v1");
    }
    if let Some(resource) = &mut file.resource_field_ref {
        resources::default_divisor(&mut resource.divisor);
    }
}
