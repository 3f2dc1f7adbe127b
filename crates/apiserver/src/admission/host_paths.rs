//! Host paths that lead to the node's own directories require the verb `use` on `hostpaths` in
//! the group `coffer.dev`, in the pod's namespace. `cluster-admin` has it with everything else.
//!
//! This checks the path as it is written, against directories that every node has. The kubelet checks
//! what it resolves to on its machine: it mounts protected directories only for pods that have the
//! annotation that is set here for writers with the permission.

use std::borrow::Cow;
use std::path::Path;

use coffer_api::host_paths::{self, GROUP, RESOURCE, VERB};
use coffer_api::status::Failure;
use k8s_openapi::api::core::v1::Pod;

use super::secret_use::Write;
use super::workload::Workload;
use crate::authz::Decision;
use crate::authz::attributes::{Attributes, ResourceTarget};

/// The permission that a refusal names.
fn wanted() -> String {
    format!("this requires the verb {VERB:?} on {RESOURCE:?} in the API group {GROUP:?}")
}

/// The host paths of a pod that are protected as they are written.
fn protected(pod: &Pod) -> Vec<String> {
    let paths = pod.spec.iter().flat_map(host_paths::of);
    let protected = paths.filter(|path| host_paths::is_protected(Path::new(path)));
    protected.map(|path| format!("{path:?}")).collect()
}

fn has_any(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(host_paths::of).next().is_some()
}

/// Checks the host paths of a workload that is written. Returns whether they may reach protected
/// directories.
///
/// # Errors
/// 403 that names the paths.
pub(super) fn check(write: &Write<'_>, workload: &Workload<'_>) -> Result<bool, Failure> {
    if !has_any(&workload.pod) {
        return Ok(false);
    }
    let may = may(write);
    let protected = protected(&workload.pod);
    if may || protected.is_empty() {
        return Ok(may);
    }
    refuse(write, &format!("host path {}", protected.join(", ")))
}

/// Checks a change of a pod that may reach protected directories, or would.
///
/// # Errors
/// 403.
pub(super) fn check_update(
    write: &Write<'_>,
    workload: &Workload<'_>,
    is_granted: bool,
) -> Result<(), Failure> {
    if is_granted && !may(write) {
        return refuse(write, "the protected host paths of this pod");
    }
    check(write, workload).map(drop)
}

/// Checks a controller's pod by what the writer of its template was allowed.
///
/// # Errors
/// 403 that names the paths.
pub(super) fn granted(
    write: &Write<'_>,
    pod: &Pod,
    is_granted: bool,
    owner: Option<&str>,
) -> Result<(), Failure> {
    let protected = protected(pod);
    if is_granted || protected.is_empty() {
        return Ok(());
    }
    let owner = owner.map_or_else(String::new, |owner| format!(" of the template of {owner}"));
    let why = format!(
        "the last writer{owner} was not allowed to mount host path {}: {}",
        protected.join(", "),
        wanted()
    );
    Err(Failure::forbidden(write.resource.group_resource(), &write.name, &why))
}

fn refuse<T>(write: &Write<'_>, what: &str) -> Result<T, Failure> {
    let (user, namespace) = (&write.permit.identity().user, &write.namespace);
    let why =
        format!("User {user:?} cannot use {what} in the namespace {namespace:?}: {}", wanted());
    Err(Failure::forbidden(write.resource.group_resource(), &write.name, &why))
}

fn may(write: &Write<'_>) -> bool {
    let asked = Attributes::resource(
        VERB,
        ResourceTarget {
            group: Cow::Borrowed(GROUP),
            resource: Cow::Borrowed(RESOURCE),
            namespace: Cow::Borrowed(&write.namespace),
            ..Default::default()
        },
    );
    write.admission.authorizer.decide(write.permit.identity(), &asked) == Decision::Allow
}
