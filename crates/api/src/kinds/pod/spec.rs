//! The pod spec as a whole, the same in a pod and in a template.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::containers::{self, Context};
use super::values::one_of;
use super::{MIRROR_ANNOTATION, SpecOf, level, overhead, placement, security, volumes};
use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta::{invalid_each, invalid_json, validate_labels};
use crate::kinds::optional::{list, text};
use crate::kinds::shown;
use crate::names;
use crate::well_known::annotation;

/// Everything wrong with a spec. `meta` is the pod's, absent for a template.
pub(super) fn validate(
    spec: &PodSpec,
    meta: Option<&ObjectMeta>,
    spec_of: SpecOf,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    if spec.termination_grace_period_seconds.is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let all = list(&spec.volumes);
    let (known, found) = volumes::validate(all, meta, spec_of, &path.child("volumes"));
    errors.extend(found);
    let claims = list(&spec.resource_claims).iter().map(|claim| claim.name.as_str());
    let claims: BTreeSet<&str> = claims.filter(|name| !name.is_empty()).collect();
    errors.extend(validate_claims(spec, &path.child("resourceClaims")));
    let around = Context { volumes: known, claims, spec };
    errors.extend(containers::validate(&around, &path.child("containers")));
    errors.extend(containers::validate_init(&around, &path.child("initContainers")));
    errors.extend(containers::validate_ephemeral(&around, &path.child("ephemeralContainers")));
    errors.extend(level::validate(spec, &path.child("resources")));
    errors.extend(validate_host_ports(spec, spec_of, &path.child("containers")));
    errors.extend(one_of(
        text(&spec.restart_policy),
        &["Always", "OnFailure", "Never"],
        &path.child("restartPolicy"),
    ));
    errors.extend(one_of(
        text(&spec.dns_policy),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        &path.child("dnsPolicy"),
    ));
    if let Some(labels) = &spec.node_selector {
        errors.extend(validate_labels(labels, &path.child("nodeSelector")));
    }
    errors.extend(security::validate_pod(spec, &path.child("securityContext")));
    errors.extend(validate_dns(spec, &path.child("dnsConfig")));
    errors.extend(validate_gates(spec, path));
    errors.extend(placement::validate(spec, path));
    errors.extend(validate_host_users(spec, path));
    errors.extend(validate_names(spec, path));
    errors.extend(validate_rest(spec, path));
    errors
}

fn validate_claims(spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (at, claim) in list(&spec.resource_claims).iter().enumerate() {
        let path = path.index(at);
        let name = path.child("name");
        if claim.name.is_empty() {
            errors.push(Error::required(&name, ""));
        } else if !seen.insert(&claim.name) {
            errors.push(Error::duplicate(&name, &claim.name));
        } else {
            errors.extend(invalid_each(&name, &claim.name, names::dns1123_label(&claim.name)));
        }
        let sources = [
            ("resourceClaimName", &claim.resource_claim_name),
            ("resourceClaimTemplateName", &claim.resource_claim_template_name),
        ];
        let detail = match sources.iter().filter(|(_, source)| source.is_some()).count() {
            0 => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            1 => "",
            _ => {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            }
        };
        if !detail.is_empty() {
            errors.push(invalid_json(&path, &shown::claim(claim), detail));
        }
        for (field, source) in sources {
            if let Some(source) = source {
                let wrong = names::subdomain_name(source, false);
                errors.extend(invalid_each(&path.child(field), source, wrong));
            }
        }
    }
    errors
}

/// On the host's network a container's port is the host's port.
fn validate_host_ports(spec: &PodSpec, spec_of: SpecOf, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if spec.host_network != Some(true) {
        return errors;
    }
    for (at, container) in spec.containers.iter().enumerate() {
        let path = path.index(at).child("ports");
        for (at, port) in list(&container.ports).iter().enumerate() {
            let host = port.host_port.unwrap_or_default();
            let checked = spec_of == SpecOf::Pod || host != 0;
            if checked && host != port.container_port {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&path.index(at).child("hostPort"), host, detail));
            }
        }
    }
    errors
}

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LIST_BYTES_MAX: usize = 2048;

fn validate_dns(spec: &PodSpec, path: &Path) -> ErrorList {
    let none = text(&spec.dns_policy) == "None";
    let Some(config) = &spec.dns_config else {
        let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
        return none.then(|| Error::required(path, detail)).into_iter().collect();
    };
    let servers = path.child("nameservers");
    if none && list(&config.nameservers).is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        return vec![Error::required(&servers, detail)];
    }
    let mut errors = ErrorList::new();
    if list(&config.nameservers).len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(invalid_json(&servers, &config.nameservers, &detail));
    }
    for (at, address) in list(&config.nameservers).iter().enumerate() {
        errors.extend(validate_ip(address, &servers.index(at)));
    }
    errors.extend(validate_searches(config, &path.child("searches")));
    for (at, option) in list(&config.options).iter().enumerate() {
        if text(&option.name).is_empty() {
            let path = path.child("options").index(at);
            errors.push(Error::required(&path, "must not be empty"));
        }
    }
    errors
}

fn validate_searches(config: &PodDNSConfig, path: &Path) -> ErrorList {
    let searches = list(&config.searches);
    let mut errors = ErrorList::new();
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.push(invalid_json(path, &searches, &detail));
    }
    if searches.join(" ").len() > SEARCH_LIST_BYTES_MAX {
        let detail = format!(
            "must not have more than {SEARCH_LIST_BYTES_MAX} characters (including spaces) in the search list"
        );
        errors.push(invalid_json(path, &searches, &detail));
    }
    for (at, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let name = search.strip_suffix('.').unwrap_or(search);
        let wrong = names::dns1123_subdomain_with_underscore(name);
        errors.extend(invalid_each(&path.index(at), name, wrong));
    }
    errors
}

/// An address as `net.ParseIP` reads it, leading zeros in IPv4 allowed.
pub(crate) fn validate_ip(address: &str, path: &Path) -> Option<Error> {
    let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    (!is_ip(address)).then(|| Error::invalid(path, address, detail))
}

pub(crate) fn is_ip(address: &str) -> bool {
    let octet = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let stripped = part.trim_start_matches('0');
        digits && (stripped.is_empty() || stripped.parse::<u8>().is_ok())
    };
    let parts: Vec<&str> = address.split('.').collect();
    address.parse::<std::net::IpAddr>().is_ok()
        || (parts.len() == 4 && parts.into_iter().all(octet))
}

fn validate_gates(spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (at, gate) in list(&spec.readiness_gates).iter().enumerate() {
        let path = path.child("readinessGates").index(at).child("conditionType");
        let wrong = names::qualified_name(&gate.condition_type);
        errors.extend(invalid_each(&path, &gate.condition_type, wrong));
    }
    let mut seen = BTreeSet::new();
    for (at, gate) in list(&spec.scheduling_gates).iter().enumerate() {
        let path = path.child("schedulingGates").index(at);
        errors.extend(invalid_each(&path, &gate.name, names::qualified_name(&gate.name)));
        if !seen.insert(&gate.name) {
            errors.push(Error::duplicate(&path, &gate.name));
        }
    }
    errors
}

/// A user namespace of the pod's own excludes the host's other namespaces.
fn validate_host_users(spec: &PodSpec, path: &Path) -> ErrorList {
    if spec.host_users != Some(false) {
        return ErrorList::new();
    }
    let detail = "when `pod.Spec.HostUsers` is false";
    [("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)]
        .into_iter()
        .filter(|(_, set)| *set == Some(true))
        .map(|(name, _)| Error::forbidden(&path.child(name), detail))
        .collect()
}

fn validate_names(spec: &PodSpec, path: &Path) -> ErrorList {
    let subdomain: names::NameRule = names::subdomain_name;
    let label: names::NameRule = names::label_name;
    let checks = [
        ("serviceAccountName", &spec.service_account_name, subdomain),
        ("nodeName", &spec.node_name, subdomain),
        ("hostname", &spec.hostname, label),
        ("subdomain", &spec.subdomain, label),
        ("priorityClassName", &spec.priority_class_name, subdomain),
    ];
    let mut errors = ErrorList::new();
    for (field, name, rule) in checks {
        let name = text(name);
        if !name.is_empty() {
            errors.extend(invalid_each(&path.child(field), name, rule(name, false)));
        }
    }
    if let Some(name) = &spec.runtime_class_name {
        let wrong = names::subdomain_name(name, false);
        errors.extend(invalid_each(&path.child("runtimeClassName"), name, wrong));
    }
    errors
}

fn validate_rest(spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let limit = i64::from(i32::MAX);
    if let Some(given) = spec.active_deadline_seconds.filter(|it| !(1..=limit).contains(it)) {
        let path = path.child("activeDeadlineSeconds");
        errors.push(Error::invalid(&path, given, names::range_message(1, limit)));
    }
    let tolerations = list(&spec.tolerations);
    errors.extend(placement::validate_tolerations(tolerations, &path.child("tolerations")));
    for (at, alias) in list(&spec.host_aliases).iter().enumerate() {
        let path = path.child("hostAliases").index(at);
        errors.extend(validate_ip(&alias.ip, &path.child("ip")));
        for (at, name) in list(&alias.hostnames).iter().enumerate() {
            let path = path.child("hostnames").index(at);
            errors.extend(invalid_each(&path, name, names::dns1123_subdomain(name)));
        }
    }
    if let Some(policy) = &spec.preemption_policy {
        let path = path.child("preemptionPolicy");
        errors.extend(one_of(policy, &["PreemptLowerPriority", "Never"], &path));
    }
    if let Some(overhead) = &spec.overhead {
        errors.extend(overhead::validate(overhead, &path.child("overhead")));
    }
    errors.extend(validate_os(spec, path));
    errors
}

fn validate_os(spec: &PodSpec, path: &Path) -> ErrorList {
    let Some(os) = &spec.os else { return ErrorList::new() };
    let os_path = path.child("os");
    match os.name.as_str() {
        "" => return vec![Error::required(&os_path.child("name"), "cannot be empty")],
        "linux" => {}
        "windows" => return ErrorList::new(),
        other => return vec![Error::not_supported(&os_path, other, &["linux", "windows"])],
    }
    let detail = "windows options cannot be set for a linux pod";
    let mut errors = ErrorList::new();
    let context = spec.security_context.as_ref();
    if context.is_some_and(|context| context.windows_options.is_some()) {
        let path = path.child("securityContext").child("windowsOptions");
        errors.push(Error::forbidden(&path, detail));
    }
    let all = [("initContainers", list(&spec.init_containers)), ("containers", &spec.containers)];
    for (name, containers) in all {
        for (at, container) in containers.iter().enumerate() {
            let context = container.security_context.as_ref();
            if context.is_some_and(|context| context.windows_options.is_some()) {
                let path = path.child(name).index(at).child("securityContext");
                errors.push(Error::forbidden(&path.child("windowsOptions"), detail));
            }
        }
    }
    errors
}

/// Annotations that mean something to a pod.
pub(super) fn validate_annotations(
    annotations: &BTreeMap<String, String>,
    spec: &PodSpec,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(value) = annotations.get(MIRROR_ANNOTATION)
        && text(&spec.node_name).is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(MIRROR_ANNOTATION), value, detail));
    }
    let cost = annotation::POD_DELETION_COST;
    if let Some(value) = annotations.get(cost) {
        // Written as Go writes numbers: no plus sign, no leading zero.
        let plain = value.parse::<i32>().is_ok_and(|number| number.to_string() == *value);
        if !plain {
            errors.push(Error::invalid(&path.key(cost), value, "must be a 32bit integer"));
        }
    }
    errors
}
