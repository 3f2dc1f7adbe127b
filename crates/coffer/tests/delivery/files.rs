//! Secrets as files: the exact bytes, under the exact names, with the exact modes.

use std::process::Stdio;

use crate::stage::Stage;
use crate::use_cases::sha256;

#[tokio::test]
async fn files_have_the_bytes_names_and_modes_that_were_asked_for() {
    let stage = Stage::new().await;
    tokio::join!(
        bytes_are_exact(&stage),
        paths_and_modes_are_those_of_the_items(&stage),
        only_a_group_that_may_read_can(&stage),
        sub_paths_are_files_of_their_own(&stage),
        many_sources_become_one_volume(&stage),
    );
}

/// A pod that sleeps in busybox, with more in its spec.
fn pod(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
{spec}"
    )
}

async fn bytes_are_exact(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let binary: Vec<u8> = (0..=255).cycle().take(4097).collect();
    // As much as one secret may hold.
    let large: Vec<u8> =
        (0..1_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let contents: [(&str, &[u8]); 4] =
        [("binary", &binary), ("empty", b""), (".hidden", b"\r\n\0"), ("large", &large)];
    let mut from = Vec::new();
    for (key, bytes) in contents {
        let path = directory.path().join(key);
        std::fs::write(&path, bytes).unwrap();
        from.push(format!("--from-file={key}={}", path.display()));
    }
    let small: Vec<&str> = from[..3].iter().map(String::as_str).collect();
    stage.kubectl.ok(&[&["create", "secret", "generic", "odd"], &*small].concat()).await.unwrap();
    stage.kubectl.ok(&["create", "secret", "generic", "large", &from[3]]).await.unwrap();
    stage
        .create(&pod(
            "exact",
            r#"  containers:
  - name: main
    image: busybox
    command: [sleep, "3600"]
    volumeMounts:
    - {name: odd, mountPath: /odd}
    - {name: large, mountPath: /large}
  volumes:
  - {name: odd, secret: {secretName: odd}}
  - {name: large, secret: {secretName: large}}
"#,
        ))
        .await;
    stage.until_ready("exact").await;
    let names = stage.exec("exact", &["ls", "-A", "/odd"]).await;
    let ours = |name: &&str| !name.starts_with("..");
    assert_eq!(names.lines().filter(ours).collect::<Vec<_>>(), [".hidden", "binary", "empty"]);
    for (key, bytes) in contents {
        let path = if key == "large" { "/large/large".to_owned() } else { format!("/odd/{key}") };
        let seen = stage.exec("exact", &["sh", "-c", &format!("sha256sum < {path}")]).await;
        assert_eq!(seen, format!("{}  -\n", sha256(bytes)), "{key}");
        // As kubectl cp and scripts read them: through the API server, byte for byte.
        assert!(through_kubectl(stage, &path).await == bytes, "{key} through kubectl");
    }
}

async fn through_kubectl(stage: &Stage, path: &str) -> Vec<u8> {
    let mut command = stage.kubectl.command(&["exec", "exact", "--", "cat", path]);
    command.stdout(Stdio::piped()).output().await.unwrap().stdout
}

/// What `stat` says of a file, links followed: `mode owner group`.
async fn stat(stage: &Stage, container: &str, path: &str) -> String {
    stage.exec(container, &["stat", "-L", "-c", "%a %u %g", path]).await.trim_end().to_owned()
}

async fn paths_and_modes_are_those_of_the_items(stage: &Stage) {
    let literals = ["--from-literal=a=1", "--from-literal=b=2", "--from-literal=c=3"];
    let create = [&["create", "secret", "generic", "abc"], &literals[..]].concat();
    stage.kubectl.ok(&create).await.unwrap();
    stage
        .create(&pod(
            "modes",
            r#"  containers:
  - name: main
    image: busybox
    command: [sleep, "3600"]
    volumeMounts:
    - {name: plain, mountPath: /plain}
    - {name: items, mountPath: /items}
    - {name: absent, mountPath: /absent}
  volumes:
  - {name: plain, secret: {secretName: abc}}
  - name: items
    secret:
      secretName: abc
      defaultMode: 0400
      optional: true
      items:
      - {key: a, path: deep/er/name}
      - {key: b, path: b, mode: 0750}
      - {key: nosuch, path: nosuch}
  - {name: absent, secret: {secretName: nosuch, optional: true}}
"#,
        ))
        .await;
    stage.until_ready("modes").await;
    let stat = async |path: &str| stat(stage, "modes", path).await;
    assert_eq!(stat("/plain/a").await, "644 0 0");
    assert_eq!(stat("/items/deep/er/name").await, "400 0 0");
    assert_eq!(stat("/items/deep").await, "755 0 0");
    assert_eq!(stat("/items/b").await, "750 0 0");
    assert_eq!(stage.exec("modes", &["ls", "/items"]).await, "b\ndeep\n");
    assert_eq!(stage.exec("modes", &["ls", "/absent"]).await, "");
    assert_eq!(stage.exec("modes", &["cat", "/items/deep/er/name"]).await, "1");

    // The links that programs which watch their files know.
    assert_eq!(stage.exec("modes", &["readlink", "/plain/a"]).await, "..data/a\n");
    let version = stage.exec("modes", &["readlink", "/plain/..data"]).await;
    assert!(version.starts_with("..20"), "{version}");
    let mounts = stage.exec("modes", &["grep", " /plain ", "/proc/mounts"]).await;
    assert!(mounts.starts_with("tmpfs /plain tmpfs ro,"), "{mounts}");
    let refused = stage.exec_fails("modes", &["sh", "-c", "echo 2 > /plain/..data/a"]).await;
    assert!(refused.contains("Read-only file system"), "{refused}");
}

async fn only_a_group_that_may_read_can(stage: &Stage) {
    stage
        .kubectl
        .ok(&["create", "secret", "generic", "grouped", "--from-literal=k=v"])
        .await
        .unwrap();
    let volumes = r#"  containers:
  - name: main
    image: busybox
    command: [sleep, "3600"]
    volumeMounts:
    - {name: v, mountPath: /v}
  volumes:
  - {name: v, secret: {secretName: grouped, defaultMode: 0400}}
"#;
    let context = |group: &str| format!("  securityContext: {{runAsUser: 1000{group}}}\n{volumes}");
    stage.create(&pod("member", &context(", fsGroup: 2000"))).await;
    stage.create(&pod("stranger", &context(""))).await;
    stage.until_ready("member").await;
    assert_eq!(stat(stage, "member", "/v/k").await, "440 0 2000");
    assert_eq!(stage.exec("member", &["cat", "/v/k"]).await, "v");
    stage.until_ready("stranger").await;
    assert_eq!(stat(stage, "stranger", "/v/k").await, "400 0 0");
    let refused = stage.exec_fails("stranger", &["cat", "/v/k"]).await;
    assert!(refused.contains("Permission denied"), "{refused}");
}

async fn sub_paths_are_files_of_their_own(stage: &Stage) {
    let literals = ["--from-literal=tls.key=key", "--from-literal=other=no"];
    let create = [&["create", "secret", "generic", "parts"], &literals[..]].concat();
    stage.kubectl.ok(&create).await.unwrap();
    stage
        .create(&pod(
            "sub-path",
            r#"  containers:
  - name: main
    image: busybox
    command: [sleep, "3600"]
    volumeMounts:
    - {name: v, mountPath: /etc/app/tls.key, subPath: tls.key}
  volumes:
  - {name: v, secret: {secretName: parts}}
"#,
        ))
        .await;
    stage.until_ready("sub-path").await;
    assert_eq!(stage.exec("sub-path", &["cat", "/etc/app/tls.key"]).await, "key");
    assert_eq!(stage.exec("sub-path", &["ls", "-A", "/etc/app"]).await, "tls.key\n");
    let refused = stage.exec_fails("sub-path", &["sh", "-c", "echo > /etc/app/tls.key"]).await;
    assert!(refused.contains("Read-only file system"), "{refused}");
}

async fn many_sources_become_one_volume(stage: &Stage) {
    for name in ["one", "two"] {
        let literal = format!("--from-literal=key={name}");
        stage.kubectl.ok(&["create", "secret", "generic", name, &literal]).await.unwrap();
    }
    stage
        .kubectl
        .ok(&["create", "configmap", "settings", "--from-literal=color=red"])
        .await
        .unwrap();
    stage
        .create(&pod(
            "projected",
            r#"  containers:
  - name: main
    image: busybox
    command: [sleep, "3600"]
    volumeMounts:
    - {name: all, mountPath: /all}
  - name: second
    image: busybox
    command: [sleep, "3600"]
    volumeMounts:
    - {name: all, mountPath: /elsewhere}
  - name: without
    image: busybox
    command: [sleep, "3600"]
  volumes:
  - name: all
    projected:
      sources:
      - secret: {name: one, items: [{key: key, path: one/key}]}
      - secret: {name: two, items: [{key: key, path: two/key, mode: 0400}]}
      - configMap: {name: settings}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
"#,
        ))
        .await;
    stage.until_ready("projected").await;
    let script = "cat one/key two/key color labels && wc -c < token | grep -qv '^0$'";
    for container in ["main:/all", "second:/elsewhere"] {
        let (container, place) = container.split_once(':').unwrap();
        let command = format!("cd {place} && {script}");
        let seen = stage.exec(&format!("projected/{container}"), &["sh", "-c", &command]).await;
        assert_eq!(seen, "onetwored".to_owned() + "app=\"projected\"", "{container}");
    }
    assert_eq!(stat(stage, "projected/main", "/all/two/key").await, "400 0 0");
    let mounts = stage.exec("projected/without", &["cat", "/proc/mounts"]).await;
    assert!(!mounts.contains("/all") && !mounts.contains("/elsewhere"), "{mounts}");
}
