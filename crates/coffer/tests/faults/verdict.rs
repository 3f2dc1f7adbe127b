//! The conditions that hold afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use base64::Engine as _;
use coffer_containerd::cri::Cri;
use coffer_testkit::{eventually, mounts};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use kube::api::ListParams;

use crate::cluster::{Cluster, NODES, STAND_INS_NODE};
use crate::load::{Expected, Load};

const VERSIONS: &str = "coffer.dev/secret-resource-versions";
const CURRENT: &str = "coffer.dev/SecretsCurrent";

/// Every pod is as its spec says, reads what it reports, and there are no others.
pub(crate) async fn settled(cluster: &Cluster, load: &mut Load) {
    let pods = eventually("the pods to be as they should be", async || {
        let pods =
            load.pods.list(&ListParams::default()).await.map_err(|it| vec![it.to_string()])?;
        let mut wrong: Vec<String> = pods.items.iter().filter_map(|pod| amiss(load, pod)).collect();
        let there: BTreeSet<String> = pods.items.iter().map(Pod::name_any).collect();
        wrong.extend(load.wanted.keys().filter(|name| !there.contains(*name)).cloned());
        if wrong.is_empty() { Ok(pods.items) } else { Err(wrong) }
    })
    .await;
    for pod in &pods {
        let name = pod.name_any();
        let expected = &load.wanted[&name];
        let versions = versions(pod);
        let of = |secret: &String| load.content(secret, &versions[secret]);
        let [one, other] = expected.secrets.each_ref().map(of);
        assert_eq!(versions.len(), BTreeSet::from(expected.secrets.each_ref()).len(), "{name}");
        on_the_node(&cluster.root(expected.node), pod, one, other);
        let read = ["exec", &name, "--", "cat", "/one/k", "/both/one", "/both/other"];
        let read = cluster.kubectl().ok(&read).await.unwrap();
        assert!(read == format!("{one}{one}{other}"), "{name} reads other bytes than it reports");
        if expected.node == STAND_INS_NODE {
            let print = ["exec", &name, "--", "sh", "-c", "printf '%s' \"$ONE$DERIVED\""];
            let read = cluster.kubectl().ok(&print).await.unwrap();
            assert!(read == format!("{one}<{one}>"), "{name} has another environment");
        }
    }
    says_what_is_current(load, &pods).await;
    only_these(cluster, &pods).await;
    // So that a search that finds none finds nothing later.
    assert!(in_containers(cluster).len() >= pods.len(), "{:?}", in_containers(cluster));
}

/// What is wrong with a pod, if anything is.
fn amiss(load: &Load, pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    let Some(Expected { node, .. }) = load.wanted.get(&name) else {
        return Some(format!("{name} still exists"));
    };
    let status = pod.status.clone().unwrap_or_default();
    let ready = condition(pod, "Ready").is_some_and(|(status, _)| status == "True");
    let container = status.container_statuses.unwrap_or_default().pop();
    let restarts = container.as_ref().is_none_or(|container| container.restart_count > 0);
    let is_explained = container.as_ref().is_some_and(was_lost);
    let is_here = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
    let right = status.phase.as_deref() == Some("Running") && ready && is_here;
    let why = || format!("{name}: {:?}, ready {ready}, {container:?}", status.phase);
    (!right || restarts && !is_explained).then(why)
}

/// Whether the container was restarted because containerd was killed between its order to start the
/// process and its note that it has started. Either the next containerd finds no end of it (Unknown,
/// 255), or the `runc start` that ended with containerd's connection had opened the start pipe and
/// not yet read it: the process that waits to become the container's then exits with 1 ("write exec
/// fifo: broken pipe"). The command may have run, so that the end counts as a restart.
fn was_lost(container: &ContainerStatus) -> bool {
    let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let lost = last.is_some_and(|last| {
        let end = (last.reason.as_deref(), last.exit_code);
        last.started_at.is_none() && matches!(end, (Some("Unknown"), 255) | (Some("Error"), 1))
    });
    container.restart_count == 1 && lost
}

fn condition(pod: &Pod, name: &str) -> Option<(String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let found = conditions.iter().find(|condition| condition.type_ == name)?;
    Some((found.status.clone(), found.message.clone().unwrap_or_default()))
}

fn versions(pod: &Pod) -> BTreeMap<String, String> {
    let text = pod.annotations().get(VERSIONS);
    serde_json::from_str(text.unwrap_or_else(|| panic!("{} reports none", pod.name_any()))).unwrap()
}

/// The files are the same where the container has them from.
fn on_the_node(root: &Path, pod: &Pod, one: &str, other: &str) {
    let volumes = root.join("pods").join(pod.uid().unwrap()).join("volumes");
    for (path, content) in [
        ("kubernetes.io~secret/one/k", one),
        ("kubernetes.io~projected/both/one", one),
        ("kubernetes.io~projected/both/other", other),
    ] {
        let seen = fs::read_to_string(volumes.join(path)).unwrap();
        assert!(seen == content, "{}: {path} is of another version", pod.name_any());
    }
}

/// The condition compares what is mounted with what there is now.
async fn says_what_is_current(load: &mut Load, pods: &[Pod]) {
    let mut current = BTreeMap::new();
    for secret in pods.iter().flat_map(|pod| versions(pod).into_keys()) {
        let version = load.current(&secret).await;
        current.insert(secret, version);
    }
    for pod in pods {
        let name = pod.name_any();
        let stale: Vec<_> = versions(pod)
            .into_iter()
            .filter(|(secret, version)| current[secret] != *version)
            .map(|(secret, _)| secret)
            .collect();
        eventually(format!("{name} to say whether its secrets are current"), async || {
            let pod = load.pods.get(&name).await.map_err(|error| error.to_string())?;
            let (status, message) = condition(&pod, CURRENT).unwrap_or_default();
            let names_them = stale.iter().all(|secret| message.contains(secret));
            let right = (status == "True") == stale.is_empty() && names_them;
            if right { Ok(()) } else { Err(format!("{status} {message:?}, stale are {stale:?}")) }
        })
        .await;
    }
}

/// No mount, directory, log or sandbox of any other pod.
async fn only_these(cluster: &Cluster, pods: &[Pod]) {
    for node in NODES {
        let root = cluster.root(node);
        let here = pods.iter().filter(|pod| {
            pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
        });
        let uids: BTreeSet<String> = here.filter_map(Pod::uid).collect();
        eventually(format!("{node} to have its pods only"), async || {
            let mut others: Vec<String> = entries(&root.join("pods"));
            others.retain(|uid| !uids.contains(uid));
            others.extend(
                entries(&root.join("logs"))
                    .into_iter()
                    .filter(|log| !uids.iter().any(|uid| log.ends_with(uid))),
            );
            let directories = uids.iter().map(|uid| root.join("pods").join(uid));
            let directories: Vec<_> = directories.collect();
            let below = mounts::below(&root).unwrap();
            let strange = below
                .iter()
                .filter(|mount| !directories.iter().any(|directory| mount.starts_with(directory)));
            others.extend(strange.map(|mount| mount.display().to_string()));
            if others.is_empty() { Ok(()) } else { Err(others) }
        })
        .await;
    }
    eventually("as many sandboxes as pods", async || {
        let mut cri = Cri::connect(&cluster.socket()).await.map_err(|error| error.to_string())?;
        let found = cri.sandboxes().await.map_err(|error| error.to_string())?.len();
        if found == pods.len() { Ok(()) } else { Err(format!("{found}, not {}", pods.len())) }
    })
    .await;
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// With all pods deleted, as if there had never been any.
pub(crate) async fn nothing_is_left(cluster: &Cluster, load: &mut Load) {
    eventually("pods to end", async || {
        let pods =
            load.pods.list(&ListParams::default()).await.map_err(|it| vec![it.to_string()])?;
        let names: Vec<String> = pods.items.iter().map(Pod::name_any).collect();
        if names.is_empty() { Ok(()) } else { Err(names) }
    })
    .await;
    only_these(cluster, &[]).await;
    eventually("no process to hold a mount that the host has no more", async || {
        let found = in_containers(cluster);
        if found.is_empty() { Ok(()) } else { Err(found) }
    })
    .await;
}

/// The processes that live in a container of the cluster, or of one that was, by what the kernel
/// says that they have mounted: also those that the runtime has lost.
fn in_containers(cluster: &Cluster) -> Vec<String> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let [data, _] = cluster.directories();
    let is_in = |pid: &String| {
        // Without mounts it is a zombie, or has ended since.
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        table.contains(data.to_str().unwrap()) && namespace(pid) != namespace("self")
    };
    let all = entries(Path::new("/proc")).into_iter();
    let found = all.filter(|name| name.parse::<u32>().is_ok()).filter(is_in);
    found
        .map(|pid| {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid} {}", command.replace('\0', " "))
        })
        .collect()
}

/// No byte of a secret on any disk or in any word of any part. Tmpfs mounts are other file systems.
pub(crate) fn nothing_leaks(cluster: &Cluster, canary: &str, since: SystemTime) {
    let packed = base64::engine::general_purpose::STANDARD.encode(canary);
    let said = cluster.said();
    assert!(!said.contains(canary) && !said.contains(&packed), "{said}");

    let [data, node] = cluster.directories();
    let stamp = data.join("stamp");
    fs::File::create(&stamp).unwrap().set_modified(since).unwrap();
    // The search itself must be able to find.
    let probe = data.join("probe");
    fs::write(&probe, format!("x{packed}x")).unwrap();
    let mut find = Command::new("find");
    find.args([data, node, Path::new("/run")]).args(["-xdev", "-type", "f", "-newer"]).arg(&stamp);
    find.args(["-exec", "grep", "-laF", "-e", canary, "-e", &packed, "{}", "+"]);
    let found = String::from_utf8(find.output().unwrap().stdout).unwrap();
    assert_eq!(found.trim(), probe.display().to_string(), "the secret is in these files");
    fs::remove_file(probe).unwrap();
    fs::remove_file(stamp).unwrap();
}
