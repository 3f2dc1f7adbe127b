//! The guide's first example, on a real kubectl and real containers, as `make demo` shows it.

use std::path::Path;

use coffer_testkit::{Coffer, CofferBuilder, Registry, images, mounts};

const GUIDE: &str = include_str!("../../../docs/secrets-user-guide.md");

/// The guide's manifests, in its order, as the files that the demo and the tests create.
const MANIFESTS: [(&str, &str); 7] = [
    ("yaml", include_str!("../../../examples/guide/mysecret.yaml")),
    ("json", include_str!("../../../examples/guide/mypod.json")),
    ("json", include_str!("../../../examples/guide/ssh-key-secret.json")),
    ("json", include_str!("../../../examples/guide/secret-test-pod.json")),
    ("json", include_str!("../../../examples/guide/prod-test-secrets.json")),
    ("json", include_str!("../../../examples/guide/prod-test-pods.json")),
    ("json", include_str!("../../../examples/guide/prod-db-client-pod.json")),
];

/// What we show must be what the guide says, not what suits us.
#[test]
fn the_example_files_are_the_guides_byte_for_byte() {
    let mut blocks = Vec::new();
    let mut rest = GUIDE;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (language, after) = after.split_once('\n').unwrap();
        let (block, after) = after.split_once("```\n").unwrap();
        if language == "yaml" || language == "json" {
            blocks.push((language, block));
        }
        rest = after;
    }
    assert_eq!(blocks, MANIFESTS);
}

async fn coffer(registry: &Registry) -> Coffer {
    CofferBuilder::up(env!("CARGO_BIN_EXE_coffer")).mirror(registry).start().await.unwrap()
}

fn example(name: &str) -> String {
    format!("{}/../../examples/guide/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_first_pod_reads_its_secret_from_a_tmpfs_that_goes_with_it() {
    let registry = Registry::open().await.unwrap();
    registry.push(&images::redis().unwrap(), "library/redis", "latest").await.unwrap();
    let coffer = coffer(&registry).await;
    let kubectl = coffer.kubectl();

    kubectl.ok(&["create", "namespace", "myns"]).await.unwrap();
    kubectl.ok(&["create", "-n", "myns", "-f", &example("mysecret.yaml")]).await.unwrap();
    kubectl.ok(&["create", "-f", &example("mypod.json")]).await.unwrap();
    let wait = ["wait", "-n", "myns", "--for=condition=Ready", "pod/mypod", "--timeout=120s"];
    kubectl.ok(&wait).await.unwrap();

    let exec = async |command: &[&str]| {
        let arguments = [&["exec", "mypod", "-n", "myns", "--"], command].concat();
        kubectl.ok(&arguments).await.unwrap()
    };
    assert_eq!(exec(&["ls", "/etc/foo"]).await, "password\nusername\n");
    assert_eq!(exec(&["cat", "/etc/foo/username"]).await, "value-1\r\n");
    assert_eq!(exec(&["cat", "/etc/foo/password"]).await, "value-2\r\n");
    // It is the redis of the image that runs, and not merely a container.
    assert_eq!(exec(&["redis-cli", "ping"]).await, "PONG\n");

    // The container's view of the mount: in memory and read-only, as the pod asks.
    let seen = exec(&["grep", " /etc/foo ", "/proc/mounts"]).await;
    assert!(seen.starts_with("tmpfs /etc/foo tmpfs ro,"), "{seen}");
    let kubelet = coffer.data_dir().join("kubelet");
    let on_host = mounts::below(&kubelet).unwrap();
    let volume = Path::new("volumes/kubernetes.io~secret/foo");
    assert!(on_host.iter().any(|mount| mount.ends_with(volume)), "{on_host:?}");

    kubectl.ok(&["delete", "pod", "mypod", "-n", "myns"]).await.unwrap();
    assert_eq!(mounts::below(&kubelet).unwrap(), [] as [&Path; 0]);
}
