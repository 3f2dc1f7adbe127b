//! Host paths on real containers: what is protected takes a right, and links do not get around it.

use std::os::unix::fs::symlink;
use std::path::Path;

use coffer_testkit::{Coffer, CofferBuilder, Kubectl, Registry, eventually_is, images};

use crate::stage::{PROGRAM, until_event, until_ready};

/// Mallory may make pods and Deployments, and nothing else.
const RIGHTS: &str = "apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: writer}
rules:
- {apiGroups: ['', apps], resources: [pods, deployments], verbs: ['*']}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: mallory}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: writer}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: mallory}]
";

fn spec(path: &Path, kind: &str, sub_path: &str) -> String {
    let path = path.display();
    format!(
        "terminationGracePeriodSeconds: 0, containers: [{{name: c, image: busybox, command: [sleep, '3600'],
          volumeMounts: [{{name: h, mountPath: /h, subPath: '{sub_path}'}}]}}],
          volumes: [{{name: h, hostPath: {{path: {path}, type: '{kind}'}}}}]"
    )
}

fn pod(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

fn deployment(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec: {{replicas: 1, selector: {{matchLabels: {{app: {name}}}}},
          template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{{spec}}}}}}}\n"
    )
}

async fn create(kubectl: &Kubectl, user: &str, manifest: &str) {
    let who = format!("--as={user}");
    let groups = if user == "root" { "--as-group=system:masters" } else { "--as-group=people" };
    kubectl.ok_with_input(&["create", &who, groups, "-f", "-"], manifest.as_bytes()).await.unwrap();
}

async fn pod_of(kubectl: &Kubectl, deployment: &str) -> String {
    let label = format!("-l=app={deployment}");
    let pod = async || {
        kubectl
            .ok(&["get", "pods", &label, "-o=jsonpath={.items[0].metadata.name}"])
            .await
            .unwrap_or_default()
    };
    eventually_is("the pod of a deployment", pod, |name: &String| !name.is_empty()).await
}

async fn start() -> (Coffer, Registry) {
    let registry = Registry::open().await.unwrap();
    registry.push(&images::busybox().unwrap(), "library/busybox", "latest").await.unwrap();
    let coffer = CofferBuilder::up(PROGRAM).mirror(&registry).start().await.unwrap();
    (coffer, registry)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_path_into_the_data_directory_takes_a_right() {
    let (coffer, _registry) = start().await;
    let kubectl = coffer.kubectl();
    kubectl.ok_with_input(&["create", "-f", "-"], RIGHTS.as_bytes()).await.unwrap();
    // By default no pod has host paths at all.
    let privileged = "pod-security.kubernetes.io/enforce=privileged";
    kubectl.ok(&["label", "namespace", "default", privileged]).await.unwrap();
    let data = coffer.data_dir();
    let shared = tempfile::tempdir().unwrap();
    symlink(data, shared.path().join("link")).unwrap();
    symlink(data.join("pki/ca.key"), shared.path().join("key")).unwrap();
    symlink(data.join("new"), shared.path().join("dangling")).unwrap();
    let own = shared.path().join("own");
    std::fs::create_dir(&own).unwrap();
    symlink(data, own.join("out")).unwrap();
    std::fs::write(own.join("file"), "mine").unwrap();

    // Mallory's: the path itself, by links, by what is to be made, by a subPath, by a template.
    let refused = "Warning FailedMount MountVolume.SetUp failed for volume \"h\" : host path ";
    for (name, path, kind) in [
        ("plain", data.to_owned(), ""),
        ("link", shared.path().join("link"), ""),
        ("below", shared.path().join("link/pki"), "Directory"),
        ("key", shared.path().join("key"), "File"),
        ("made", shared.path().join("link/made"), "DirectoryOrCreate"),
    ] {
        create(&kubectl, "mallory", &pod(name, &spec(&path, kind, ""))).await;
        let event = until_event(&kubectl, name, refused, 1).await;
        assert!(
            event.ends_with(
                "this requires the verb \"use\" on \"hostpaths\" in the API group \"coffer.dev\""
            ),
            "{event}"
        );
    }
    create(
        &kubectl,
        "mallory",
        &pod("dangling", &spec(&shared.path().join("dangling"), "FileOrCreate", "")),
    )
    .await;
    until_event(&kubectl, "dangling", "Warning FailedMount", 1).await;
    create(
        &kubectl,
        "mallory",
        &deployment("template", &spec(&shared.path().join("link"), "", "")),
    )
    .await;
    let name = pod_of(&kubectl, "template").await;
    until_event(&kubectl, &name, refused, 1).await;
    create(&kubectl, "mallory", &pod("sub", &spec(&own, "", "out/pki"))).await;
    until_event(&kubectl, "sub", "Warning Failed ", 1).await;
    assert!(!data.join("made").exists() && !data.join("new").exists());

    // What is no one's but theirs works, and stays when the pod goes.
    create(&kubectl, "mallory", &pod("own", &spec(&own, "Directory", ""))).await;
    create(&kubectl, "mallory", &pod("file", &spec(&own, "", "file"))).await;
    for name in ["own", "file"] {
        until_ready(&kubectl, name).await;
    }
    assert_eq!(kubectl.ok(&["exec", "file", "--", "cat", "/h"]).await.unwrap(), "mine");
    kubectl
        .ok(&["exec", "own", "--", "sh", "-c", "cat /h/file; echo new > /h/written"])
        .await
        .unwrap();
    assert_eq!(std::fs::read_to_string(own.join("written")).unwrap(), "new\n");
    kubectl.ok(&["delete", "pod", "own", "file"]).await.unwrap();
    assert!(own.join("file").exists());

    // The administrator's, and what is made of an administrator's template, mounts it all.
    create(&kubectl, "root", &pod("admin", &spec(data, "", ""))).await;
    create(
        &kubectl,
        "root",
        &deployment("admins", &spec(&shared.path().join("link"), "Directory", "")),
    )
    .await;
    until_ready(&kubectl, "admin").await;
    let made = pod_of(&kubectl, "admins").await;
    until_ready(&kubectl, &made).await;
    for pod in ["admin", &made] {
        let listed = kubectl.ok(&["exec", pod, "--", "ls", "/h"]).await.unwrap();
        assert!(listed.lines().any(|name| name == "pki"), "{listed}");
    }
}
