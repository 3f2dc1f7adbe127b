//! Automatic use of manually created secrets: what an account lists, its pods get.
//!
//! The guide plans this ("Automatic use of Manually Created Secrets"). Registry credentials become
//! image pull secrets; any other secret is mounted read-only in every container, at
//! `/var/run/secrets/coffer.dev/NAME` or where [`MOUNT_PATH`] says. A pod's own mounts always win.

use std::collections::{BTreeMap, BTreeSet};

use coffer_api::kinds::{Secret, ServiceAccount};
use coffer_api::well_known::secret_type;
use coffer_api::well_known::secret_type::SERVICE_ACCOUNT_TOKEN;
use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::{
    LocalObjectReference, Pod, PodSpec, SecretVolumeSource, Volume, VolumeMount,
};
use ring::digest::{SHA256, digest};

use super::Admission;
use super::grant::Secrets;
use super::service_account::{account_name, containers, find};
use crate::cache::CachedObject;
use crate::object::Resources;

/// Where a secret is mounted. On a secret: a path. On an account: a path, if it has one such secret,
/// or `NAME=PATH` separated by commas. The account's annotation overrides the secret's.
pub(crate) const MOUNT_PATH: &str = coffer_api::well_known::annotation::MOUNT_PATH;
/// `false` on an account or a pod: nothing is attached.
pub(crate) const ATTACH: &str = coffer_api::well_known::annotation::ATTACH_SECRETS;
/// Where secrets without a path are mounted.
const DEFAULT_DIRECTORY: &str = "/var/run/secrets/coffer.dev";
const FILE_MODE: i32 = 0o644;
/// Volume names are DNS labels.
const VOLUME_NAME_MAX: usize = 63;
/// Secrets of an account that a pod gets as volumes.
const SECRETS_MOUNTED_MAX: usize = 500;
/// Mounts of all of them in all its containers.
const MOUNTS_MAX: usize = 8192;

/// What is known of a listed secret without its payload.
struct Listed {
    name: String,
    type_: String,
    mount_path: Option<String>,
}

/// Adds an account's secrets to a new pod, as far as `limit` has them. Returns what there is to warn
/// about.
///
/// # Errors
/// An annotation that is not valid, or more mounts than a pod may get, for a 403.
pub(super) fn attach(
    admission: &Admission,
    account: &ServiceAccount,
    pod: &mut Pod,
    limit: Option<&Secrets>,
) -> Result<Vec<String>, String> {
    let of_account = account.metadata.annotations.as_ref();
    if is_turned_off(of_account) || is_turned_off(pod.metadata.annotations.as_ref()) {
        return Ok(Vec::new());
    }
    let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
    let (mut listed, mut warnings) = listed(admission, account, namespace);
    listed.retain(|secret| limit.is_none_or(|limit| limit.has(&secret.name)));
    let volumes: Vec<&Listed> =
        listed.iter().filter(|it| !secret_type::is_registry_credentials(&it.type_)).collect();
    let paths = Paths::of(of_account.and_then(|all| all.get(MOUNT_PATH)).cloned(), &volumes)?;
    let spec = pod.spec.get_or_insert_default();
    check_count(account, volumes.len(), containers(spec).count())?;
    add_pull_secrets(spec, &listed);
    for secret in volumes {
        let path = paths.path_of(secret)?;
        if !mount(spec, &secret.name, &path) {
            warnings.push(format!(
                "secret {:?} of service account {:?} is not mounted: {path} conflicts with another mount",
                secret.name,
                account.metadata.name.as_deref().unwrap_or_default(),
            ));
        }
    }
    Ok(warnings)
}

/// Whether a pod with so many containers may get so many secrets as volumes: each is held against each mount of
/// each container.
fn check_count(account: &ServiceAccount, secrets: usize, containers: usize) -> Result<(), String> {
    let mounts = secrets.saturating_mul(containers);
    if secrets <= SECRETS_MOUNTED_MAX && mounts <= MOUNTS_MAX {
        return Ok(());
    }
    let name = account.metadata.name.as_deref().unwrap_or_default();
    Err(format!(
        "service account {name:?} lists {secrets} secrets to mount in {containers} containers: a pod gets at most {SECRETS_MOUNTED_MAX} secrets of its account and {MOUNTS_MAX} mounts of them"
    ))
}

/// Adds the registry credentials among an account's secrets that the pod does not have.
fn add_pull_secrets(spec: &mut PodSpec, listed: &[Listed]) {
    let own = spec.image_pull_secrets.iter().flatten().map(|own| own.name.clone());
    let mut names: BTreeSet<String> = own.collect();
    for secret in listed.iter().filter(|it| secret_type::is_registry_credentials(&it.type_)) {
        if names.insert(secret.name.clone()) {
            let all = spec.image_pull_secrets.get_or_insert_default();
            all.push(LocalObjectReference { name: secret.name.clone() });
        }
    }
}

/// Whether annotations say that nothing is attached.
fn is_turned_off(annotations: Option<&BTreeMap<String, String>>) -> bool {
    annotations.and_then(|all| all.get(ATTACH)).is_some_and(|value| value == "false")
}

/// Every secret an account lists, for pulling images too.
pub(super) fn all_of(account: &ServiceAccount) -> BTreeSet<String> {
    let listed = account.secrets.iter().flatten().filter_map(|it| it.name.clone());
    let pull = account.image_pull_secrets.iter().flatten().map(|it| it.name.clone());
    listed.chain(pull).filter(|name| !name.is_empty()).collect()
}

/// What the pods of a template get from their account.
#[derive(Default)]
pub(super) struct OfAccount {
    /// What they get as things are: all but what an annotation says is not attached.
    pub(super) wanted: BTreeSet<String>,
    /// What they would get without that annotation. Those that do not exist (yet) are in both.
    pub(super) all: BTreeSet<String>,
}

/// What the account of a template lists now. One that does not exist lists nothing.
pub(super) fn listed_by_account(admission: &Admission, pod: &Pod) -> OfAccount {
    if !admission.config.service_account_admission {
        return OfAccount::default();
    }
    let resources = &*admission.resources;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(account) = find(resources, namespace, account_name(pod)) else {
        return OfAccount::default();
    };
    let pull = account.image_pull_secrets.iter().flatten().map(|it| it.name.clone());
    let own = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_ref());
    let brings_own = own.is_some_and(|own| !own.is_empty());
    let listed = account.secrets.iter().flatten().filter_map(|it| it.name.clone());
    let mut all: BTreeSet<String> = listed.collect();
    all.retain(|name| !is_token(resources, namespace, name));
    let refused = is_turned_off(account.metadata.annotations.as_ref())
        || is_turned_off(pod.metadata.annotations.as_ref());
    let mut wanted = if refused { BTreeSet::new() } else { all.clone() };
    for name in pull.filter(|_| !brings_own) {
        wanted.insert(name.clone());
        all.insert(name);
    }
    for names in [&mut wanted, &mut all] {
        names.remove("");
    }
    OfAccount { wanted, all }
}

/// Whether a secret exists and is a token, which is never attached.
fn is_token(resources: &Resources, namespace: &str, name: &str) -> bool {
    let secrets = resources.of::<Secret>();
    let found = secrets.shard().get(&secrets.key(namespace, name));
    found.is_some_and(|found| type_of(&found) == SERVICE_ACCOUNT_TOKEN)
}

fn type_of(secret: &CachedObject) -> &str {
    secret.field("type").map_or("", String::as_str)
}

/// The account's secrets but for its own tokens, in its order, each once. None of them is read: an account may
/// list as many as a hundred thousand.
fn listed(
    admission: &Admission,
    account: &ServiceAccount,
    namespace: &str,
) -> (Vec<Listed>, Vec<String>) {
    let secrets = admission.resources.of::<Secret>();
    let (mut all, mut warnings): (Vec<Listed>, Vec<String>) = Default::default();
    let mut seen = BTreeSet::new();
    let names = account.secrets.iter().flatten().filter_map(|reference| reference.name.as_deref());
    for name in names.filter(|name| !name.is_empty() && seen.insert(*name)) {
        match secrets.shard().get(&secrets.key(namespace, name)) {
            Some(found) if type_of(&found) == SERVICE_ACCOUNT_TOKEN => {}
            Some(found) => {
                let mount_path = admission.mount_paths.of(&found.key);
                let type_ = type_of(&found).to_owned();
                all.push(Listed { name: name.to_owned(), type_, mount_path });
            }
            // A pod does not wait for a name that may never have been a secret, or was a token.
            None => warnings.push(format!(
                "secret {name:?} of service account {:?} is not attached: not found",
                account.metadata.name.as_deref().unwrap_or_default(),
            )),
        }
    }
    (all, warnings)
}

/// What an account says about where its secrets go.
enum Paths {
    /// Nothing.
    Silent,
    /// One path for its only secret.
    Only(String),
    ByName(BTreeMap<String, String>),
}

impl Paths {
    fn of(annotation: Option<String>, secrets: &[&Listed]) -> Result<Self, String> {
        let Some(text) = annotation else { return Ok(Self::Silent) };
        if !text.contains('=') {
            return match secrets {
                [] | [_] => Ok(Self::Only(text)),
                _ => Err(format!(
                    "annotation {MOUNT_PATH} of the service account must be NAME=PATH,… because it has several secrets"
                )),
            };
        }
        let pairs = text.split(',').map(|pair| {
            let (name, path) = pair.split_once('=').ok_or_else(|| {
                format!("annotation {MOUNT_PATH} of the service account must be NAME=PATH,…")
            })?;
            Ok((name.trim().to_owned(), path.trim().to_owned()))
        });
        Ok(Self::ByName(pairs.collect::<Result<_, String>>()?))
    }

    fn path_of(&self, secret: &Listed) -> Result<String, String> {
        let by_account = match self {
            Self::Silent => None,
            Self::Only(path) => Some(path),
            Self::ByName(paths) => paths.get(&secret.name),
        };
        let path = by_account
            .or(secret.mount_path.as_ref())
            .cloned()
            .unwrap_or_else(|| format!("{DEFAULT_DIRECTORY}/{}", secret.name));
        let path = path.trim_end_matches('/').to_owned();
        let safe = path.starts_with('/')
            && !path.contains(':')
            && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
        if safe {
            return Ok(path);
        }
        Err(format!(
            "annotation {MOUNT_PATH} for secret {:?} must be an absolute path below /, without ':' and '..'",
            secret.name
        ))
    }
}

/// Mounts a secret in every container where no mount conflicts; whether any container has it now.
fn mount(spec: &mut PodSpec, secret: &str, path: &str) -> bool {
    let own = |volume: &&Volume| {
        let source = volume.secret.as_ref();
        volume.name == volume_name(secret)
            && source.and_then(|source| source.secret_name.as_deref()) == Some(secret)
    };
    let existing = spec.volumes.iter().flatten().find(own).is_some();
    let taken = spec.volumes.iter().flatten().any(|volume| volume.name == volume_name(secret));
    if taken && !existing {
        return false;
    }
    let (mut there, mut added) = (false, false);
    for container in containers(spec) {
        let mounts = container.volume_mounts.get_or_insert_default();
        let ours =
            |mount: &VolumeMount| mount.mount_path == path && mount.name == volume_name(secret);
        if mounts.iter().any(ours) {
            there = true;
        } else if !mounts.iter().any(|mount| overlap(&mount.mount_path, path)) {
            mounts.push(VolumeMount {
                name: volume_name(secret),
                mount_path: path.to_owned(),
                read_only: Some(true),
                ..Default::default()
            });
            (there, added) = (true, true);
        }
    }
    if added && !existing {
        spec.volumes.get_or_insert_default().push(Volume {
            name: volume_name(secret),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.to_owned()),
                default_mode: Some(FILE_MODE),
                ..Default::default()
            }),
            ..Default::default()
        });
    }
    there
}

/// Whether one path is the other or lies within it: either mount would hide part of the other.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_end_matches('/'), other.trim_end_matches('/'));
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(one, other) || within(other, one)
}

/// A volume name for a secret, the same each time. Secret names are longer than volume names may
/// be, and have dots.
fn volume_name(secret: &str) -> String {
    let plain = format!("coffer-secret-{secret}");
    if plain.len() <= VOLUME_NAME_MAX && !plain.contains('.') {
        return plain;
    }
    let hash = digest(&SHA256, secret.as_bytes());
    let hash: String = HEXLOWER.encode(&hash.as_ref()[..8]);
    format!("coffer-secret-{hash}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(name: &str, mount_path: Option<&str>) -> Listed {
        let (type_, mount_path) = ("Opaque".to_owned(), mount_path.map(str::to_owned));
        Listed { name: name.to_owned(), type_, mount_path }
    }

    fn path(account: Option<&str>, secret: &Listed, others: &[&Listed]) -> Result<String, String> {
        let mut all = vec![secret];
        all.extend(others);
        Paths::of(account.map(str::to_owned), &all)?.path_of(secret)
    }

    #[test]
    fn the_account_says_where_then_the_secret_then_the_default() {
        let (plain, own) = (listed("db", None), listed("db", Some("/from/secret/")));
        assert_eq!(path(None, &plain, &[]).unwrap(), "/var/run/secrets/coffer.dev/db");
        assert_eq!(path(None, &own, &[]).unwrap(), "/from/secret");
        assert_eq!(path(Some("/etc/secret-volume"), &own, &[]).unwrap(), "/etc/secret-volume");
        let other = listed("x", None);
        assert_eq!(path(Some("db=/a,x=/b"), &plain, &[&other]).unwrap(), "/a");
        assert_eq!(path(Some("x=/b"), &own, &[&other]).unwrap(), "/from/secret");
        assert!(path(Some("/a"), &plain, &[&other]).unwrap_err().contains("several secrets"));
    }

    #[test]
    fn an_invalid_mount_path_is_refused() {
        for bad in ["etc", "/", "", "/a/../b", "/a:b", "/a//b", "/./a"] {
            let error = path(None, &listed("db", Some(bad)), &[]).unwrap_err();
            assert!(error.contains("must be an absolute path"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_secret_is_not_mounted_where_it_conflicts_with_a_mount_of_the_pod() {
        let spec = json!({
            "containers": [
                { "name": "a" },
                { "name": "b", "volumeMounts": [{ "name": "v", "mountPath": "/etc/db/" }] },
                { "name": "c", "volumeMounts": [{ "name": "v", "mountPath": "/etc/db/sub" }] },
                { "name": "d", "volumeMounts": [{ "name": "v", "mountPath": "/etc" }] },
                { "name": "e", "volumeMounts": [{ "name": "v", "mountPath": "/etc/db2" }] },
            ],
        });
        let mut spec: PodSpec = serde_json::from_value(spec).unwrap();
        assert!(mount(&mut spec, "db", "/etc/db"));
        let has = |spec: &PodSpec| -> String {
            let ours = |mount: &VolumeMount| mount.name == "coffer-secret-db";
            let with = spec
                .containers
                .iter()
                .filter(|container| container.volume_mounts.iter().flatten().any(ours));
            with.map(|container| container.name.as_str()).collect()
        };
        assert_eq!(has(&spec), "ae");
        let before = spec.clone();
        assert!(mount(&mut spec, "db", "/etc/db"));
        assert_eq!(spec, before, "a second time adds nothing");
        let mut full: PodSpec = serde_json::from_value(
            json!({ "containers": [{ "name": "a", "volumeMounts": [{ "name": "v", "mountPath": "/etc" }] }] }),
        )
        .unwrap();
        assert!(!mount(&mut full, "db", "/etc/db"));
        assert_eq!(full.volumes, None);
    }

    #[test]
    fn an_account_that_lists_more_than_a_pod_can_take_is_refused() {
        let account: ServiceAccount =
            serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
        assert_eq!(check_count(&account, 500, 16), Ok(()));
        for (secrets, containers) in [(501, 1), (500, 17), (1, 8193), (usize::MAX, usize::MAX)] {
            let why = check_count(&account, secrets, containers).unwrap_err();
            assert!(why.contains("lists") && why.contains("at most 500 secrets"), "{why}");
        }
    }

    #[test]
    fn a_pull_secret_that_the_pod_has_is_not_added_again() {
        let docker = |name: &str| Listed {
            type_: "kubernetes.io/dockerconfigjson".to_owned(),
            ..listed(name, None)
        };
        let mut spec: PodSpec = serde_json::from_value(
            json!({ "containers": [], "imagePullSecrets": [{ "name": "b" }] }),
        )
        .unwrap();
        let all = [docker("a"), docker("b"), listed("c", None)];
        add_pull_secrets(&mut spec, &all);
        add_pull_secrets(&mut spec, &all);
        let names: Vec<_> = spec.image_pull_secrets.iter().flatten().map(|it| &*it.name).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn long_and_dotted_names_get_volume_names_that_are_labels() {
        assert_eq!(volume_name("db"), "coffer-secret-db");
        for name in ["a.b", "x".repeat(253).as_str()] {
            let label = volume_name(name);
            assert!(label.len() <= 63 && !label.contains('.'), "{label}");
        }
    }
}
