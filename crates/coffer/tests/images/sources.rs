//! Credentials that are the node's: its file, and its credential provider plugins.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_testkit::{Recorder, SeenCredential};

use crate::stage::{PASSWORD, Pod, Stage, USER, builder, private_registry};

#[tokio::test]
async fn the_nodes_file_and_its_plugins_are_for_all_its_pods() {
    let registry = private_registry().await;
    let by_file = Recorder::before(registry.url()).start().await.unwrap();
    let by_plugin = Recorder::before(registry.url()).start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("vending-machine");
    let script = format!(
        r#"#!/bin/sh
cat >> {log}
cat <<END
{{"kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
"cacheKeyType": "Registry", "auth": {{"{host}": {{"username": "{USER}", "password": "$SECRET"}}}}}}
END
"#,
        log = directory.path().join("requests").display(),
        host = by_plugin.host(),
    );
    std::fs::write(&plugin, script).unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = directory.path().join("config.yaml");
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: vending-machine
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ['{}']
  defaultCacheDuration: 1h
  env: [{{name: SECRET, value: {PASSWORD}}}]
",
        by_plugin.host()
    );
    std::fs::write(&config, text).unwrap();
    let coffer = builder()
        .arg("--image-credential-provider-config")
        .arg(config.to_str().unwrap())
        .arg("--image-credential-provider-bin-dir")
        .arg(directory.path().to_str().unwrap());
    let stage = Stage::new(coffer).await;

    for name in ["plugin-1", "plugin-2"] {
        stage.run(&Pod::new(name, format!("{}/private/app:1", by_plugin.host()))).await;
    }
    let requests = std::fs::read_to_string(directory.path().join("requests")).unwrap();
    let expected = format!(
        "{{\"kind\":\"CredentialProviderRequest\",\
         \"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\"image\":\"{}/private/app\"}}",
        by_plugin.host()
    );
    assert_eq!(requests, expected, "the plugin runs once, and its output is cached");

    let pod = Pod::new("file", format!("{}/private/app:1", by_file.host()));
    stage.fail(&pod, "ImagePullBackOff").await;
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let file = stage.coffer.data_dir().join("kubelet/config.json");
    let text = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{auth}\"}}}}}}", by_file.host());
    std::fs::write(&file, text).unwrap();
    // The next step of its back-off finds the file.
    stage.until_running(&pod).await;
    std::fs::remove_file(&file).unwrap();
    // What the node itself could pull is for all its pods.
    let again = Pod::new("again", &*pod.image).policy("IfNotPresent");
    stage.run(&again).await;
    let basic = SeenCredential::Basic(format!("{USER}:{PASSWORD}"));
    assert_eq!(by_file.credentials(), std::slice::from_ref(&basic));
    assert_eq!(by_plugin.credentials(), [basic]);
    stage.assert_no_leak().await;
}

/// A plugin that gets a password for a service account's token: what it gets pulled is for
/// that account's pods.
#[tokio::test]
async fn a_plugin_may_ask_who_the_pod_is() {
    let registry = private_registry().await;
    let recorder = Recorder::before(registry.url()).start().await.unwrap();
    let image = format!("{}/private/app:1", recorder.host());
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("by-token");
    let script = format!(
        r#"#!/bin/sh
request=$(cat)
case $request in
*'"serviceAccountToken":"ey'*'"serviceAccountAnnotations":{{"registry/role":"puller"}}'*) ;;
*) exit 1 ;;
esac
cat <<END
{{"kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
"cacheKeyType": "Image", "auth": {{"{}": {{"username": "{USER}", "password": "{PASSWORD}"}}}}}}
END
"#,
        recorder.host()
    );
    std::fs::write(&plugin, script).unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = directory.path().join("config.yaml");
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: by-token
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ['{}']
  defaultCacheDuration: 1h
  tokenAttributes:
    serviceAccountTokenAudience: registry.test
    cacheType: ServiceAccount
    requireServiceAccount: true
    requiredServiceAccountAnnotationKeys: [registry/role]
",
        recorder.host()
    );
    std::fs::write(&config, text).unwrap();
    let coffer = builder()
        .arg("--image-credential-provider-config")
        .arg(config.to_str().unwrap())
        .arg("--image-credential-provider-bin-dir")
        .arg(directory.path().to_str().unwrap());
    let stage = Stage::new(coffer).await;
    stage
        .create(
            "{apiVersion: v1, kind: ServiceAccount, metadata: {name: puller, annotations: \
             {registry/role: puller}}}",
        )
        .await;
    // No volume projects a token for the registry, so that nodes need the right to ask for one.
    stage
        .create(
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: \
             registry-audience}, rules: [{apiGroups: [''], resources: [registry.test], \
             resourceNames: [puller], verbs: [request-serviceaccounts-token-audience]}]}",
        )
        .await;
    stage
        .create(
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: \
             registry-audience}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, \
             name: registry-audience}, subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, \
             name: 'system:nodes'}]}",
        )
        .await;
    let pod = |name| Pod::new(name, &*image).policy("IfNotPresent");
    stage.run(&pod("first").service_account("puller")).await;
    // An account without the annotation has no part in it.
    stage.fail(&pod("stranger"), "ImagePullBackOff").await;
    recorder.set_down(true);
    stage.run(&pod("second").service_account("puller")).await;
}

#[tokio::test]
async fn providers_that_are_not_as_they_should_be_keep_coffer_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let start = async |config: &str, bin_dir: &str| {
        let coffer = builder()
            .arg("--image-credential-provider-config")
            .arg(config)
            .arg("--image-credential-provider-bin-dir")
            .arg(bin_dir);
        coffer.start().await.err().expect("it must not start").to_string()
    };
    let config = directory.path().join("config.yaml");
    std::fs::write(&config, "kind: CredentialProviderConfig\napiVersion: v1\n").unwrap();
    let (config, bin_dir) = (config.to_str().unwrap(), directory.path().to_str().unwrap());
    let error = start(config, "/nowhere").await;
    let expected =
        "coffer: the kubelet cannot start: plugin binary directory /nowhere did not exist";
    assert!(error.contains(expected), "{error}");
    let error = start(config, bin_dir).await;
    assert!(error.contains("coffer: the kubelet cannot start: error decoding config"), "{error}");
}
