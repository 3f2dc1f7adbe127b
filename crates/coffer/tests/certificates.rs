//! Certificates that the cluster's signers have really signed: none of them is more than what it was
//! asked for, and no user gets one with the name of an existing node.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_testkit::{Attacks, Coffer, CofferBuilder, Kubectl, Running, eventually, free_port};
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::json;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer");
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Names that clients know the API server by, and kubelets are reached at.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "kubernetes.default.svc"];

/// An API server and controllers, without a node.
struct Plane {
    coffer: Coffer,
    kubectl: Kubectl,
    files: TempDir,
    _controllers: Running,
}

/// Who a certificate is for, and what it should be good for.
struct Wish<'a> {
    name: &'a str,
    user: &'a str,
    group: &'a str,
    signer: &'a str,
    usages: &'a [&'a str],
    named: bool,
}

impl<'a> Wish<'a> {
    fn node(name: &'a str, user: &'a str) -> Self {
        let usages = &["digital signature", "client auth"];
        Self { name, user, group: "system:nodes", signer: KUBELET_CLIENT, usages, named: false }
    }
}

impl Plane {
    async fn start() -> Self {
        let coffer = CofferBuilder::apiserver(PROGRAM).start().await.unwrap();
        let mut command = tokio::process::Command::new(PROGRAM);
        let kubeconfig = coffer.data_dir().join("kubeconfig/controller-manager.kubeconfig");
        command.arg("controller-manager").arg("--kubeconfig").arg(kubeconfig);
        let controllers = Running::start(command).unwrap();
        let (kubectl, files) = (coffer.kubectl(), tempfile::tempdir().unwrap());
        Self { coffer, kubectl, files, _controllers: controllers }
    }

    fn pem(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.coffer.data_dir().join("pki").join(name)).unwrap()
    }

    /// A machine with a bootstrap token of its own.
    async fn machine(&self, name: &str) -> Kubectl {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(["bootstrap-kubeconfig", "--kubeconfig"]).arg(self.coffer.kubeconfig());
        let made = command.output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let path = self.files.path().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, made.stdout).unwrap();
        Kubectl::new(path)
    }

    /// What the administrator's kubeconfig trusts.
    fn trusted(&self) -> Vec<u8> {
        let text = std::fs::read_to_string(self.coffer.kubeconfig()).unwrap();
        let line =
            text.lines().find_map(|line| line.trim().strip_prefix("certificate-authority-data: "));
        STANDARD.decode(line.unwrap()).unwrap()
    }

    fn client(&self, name: &str, certificate: &[u8], key: &KeyPair) -> Kubectl {
        client(&self.coffer, self.files.path(), name, certificate, key)
    }

    /// Waits for an event that says a request is a person's to approve.
    async fn until_held(&self, request: &str) -> String {
        let about = format!("involvedObject.name={request},reason=NodeNameInUse");
        let arguments = [
            "get",
            "events",
            "-n",
            "default",
            "--field-selector",
            &about,
            "-o=jsonpath={.items[*].message}",
        ];
        eventually(request, async || {
            let message = self.kubectl.ok(&arguments).await.unwrap();
            (!message.is_empty()).then_some(message)
        })
        .await
    }

    async fn field(&self, request: &str, path: &str) -> String {
        let path = format!("-o=jsonpath={path}");
        self.kubectl.ok(&["get", "csr", request, &path]).await.unwrap()
    }

    async fn certificate(&self, request: &str) -> Vec<u8> {
        eventually(request, async || {
            let found = self.field(request, "{.status.certificate}").await;
            (!found.is_empty()).then(|| STANDARD.decode(found).unwrap())
        })
        .await
    }
}

/// A client with a certificate and a key, by a kubeconfig like the administrator's.
fn client(
    coffer: &Coffer,
    directory: &Path,
    name: &str,
    certificate: &[u8],
    key: &KeyPair,
) -> Kubectl {
    let text = std::fs::read_to_string(coffer.kubeconfig()).unwrap();
    let replaced: Vec<String> = text
        .lines()
        .map(|line| match line.trim_start().split_once(':') {
            Some((field @ "client-certificate-data", _)) => {
                format!("    {field}: {}", STANDARD.encode(certificate))
            }
            Some((field @ "client-key-data", _)) => {
                format!("    {field}: {}", STANDARD.encode(key.serialize_pem()))
            }
            _ => line.to_owned(),
        })
        .collect();
    let path = directory.join(format!("{name}.kubeconfig"));
    std::fs::write(&path, replaced.join("\n")).unwrap();
    Kubectl::new(path)
}

fn manifest(wish: &Wish<'_>, key: &KeyPair) -> serde_json::Value {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, wish.user);
    params.distinguished_name.push(DnType::OrganizationName, wish.group);
    if wish.named {
        params.subject_alt_names = NAMES
            .map(|name| match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.try_into().unwrap()),
            })
            .into();
    }
    let pem = params.serialize_request(key).unwrap().pem().unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "name": wish.name },
        "spec": {
            "request": STANDARD.encode(pem), "signerName": wish.signer, "usages": wish.usages,
        },
    })
}

/// Creates a request as the given user; returns its key.
async fn ask(who: &Kubectl, wish: &Wish<'_>) -> KeyPair {
    let key = KeyPair::generate().unwrap();
    let manifest = manifest(wish, &key).to_string();
    who.ok_with_input(&["create", "-f", "-"], manifest.as_bytes()).await.unwrap();
    key
}

fn roots(pem: &[u8]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    Arc::new(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Whether a client that trusts `ca` takes a certificate for that of a server of this name.
fn is_server(ca: &[u8], certificate: &[u8], name: &str) -> bool {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(ca), provider()).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(certificate).unwrap();
    let name = ServerName::try_from(name).unwrap();
    verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now()).is_ok()
}

/// Whether a server that trusts `ca` takes a certificate for that of a client.
fn is_client(ca: &[u8], certificate: &[u8]) -> bool {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(ca), provider()).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(certificate).unwrap();
    verifier.verify_client_cert(&leaf, &[], UnixTime::now()).is_ok()
}

#[tokio::test]
async fn no_signed_certificate_is_taken_for_anything_but_what_it_is() {
    let plane = Plane::start().await;
    let (kubectl, machine) = (&plane.kubectl, plane.machine("edge").await);
    let approve = async |name: &str| {
        kubectl.ok(&["certificate", "approve", name]).await.unwrap();
    };
    let key = ask(&machine, &Wish::node("edge", "system:node:edge")).await;
    let edge = plane.certificate("edge").await;
    let node = plane.client("edge-node", &edge, &key);
    let usages = ["digital signature", "server auth"];
    let wish = Wish {
        named: true,
        signer: KUBELET_SERVING,
        usages: &usages,
        ..Wish::node("edge-serving", "system:node:edge")
    };
    let serving_key = ask(&node, &wish).await;
    approve("edge-serving").await;
    let serving = plane.certificate("edge-serving").await;
    let usages = ["digital signature", "client auth"];
    let alice = Wish {
        name: "alice",
        user: "alice",
        group: "dev",
        signer: CLIENT,
        usages: &usages,
        named: true,
    };
    let alice_key = ask(kubectl, &alice).await;
    approve("alice").await;
    let alice = plane.certificate("alice").await;
    let (server, admin) = (plane.pem("apiserver.crt"), plane.pem("admin.crt"));
    let to_kubelets = plane.pem("apiserver-kubelet-client.crt");
    let (trusted, client_ca) = (plane.trusted(), plane.pem("client-ca.crt"));
    let (kubelet_ca, kubelet_client_ca) =
        (plane.pem("kubelet-ca.crt"), plane.pem("kubelet-client-ca.crt"));

    // What each is.
    for name in NAMES {
        assert!(is_server(&trusted, &server, name), "the API server as {name}");
        assert!(is_server(&kubelet_ca, &serving, name), "the kubelet as {name}");
    }
    for client in [&alice, &edge, &admin] {
        assert!(is_client(&client_ca, client));
    }
    assert!(is_client(&kubelet_client_ca, &to_kubelets));
    let whoami = ["auth", "whoami", "-o=jsonpath={.status.userInfo.username}"];
    assert_eq!(node.ok(&whoami).await.unwrap(), "system:node:edge");
    let as_alice = plane.client("alice", &alice, &alice_key);
    assert_eq!(as_alice.ok(&whoami).await.unwrap(), "alice");
    let published = ["get", "configmap", "kube-root-ca.crt", "-o=jsonpath={.data.ca\\.crt}"];
    let published = eventually("kube-root-ca.crt", async || {
        let found = kubectl.run(&published).await.unwrap();
        (!found.stdout.is_empty()).then_some(found.stdout)
    })
    .await;

    // And what none is.
    let mut attacks = Attacks::group("signed certificates taken for something else");
    for name in NAMES {
        for (what, certificate) in [
            ("a user's", &alice),
            ("a node's", &edge),
            ("a kubelet's serving", &serving),
            ("the administrator's", &admin),
            ("the API server's for kubelets", &to_kubelets),
        ] {
            for (whose, ca) in
                [("a kubeconfig", &trusted), ("a pod", &published.clone().into_bytes())]
            {
                let taken = is_server(ca, certificate, name);
                attacks.attempt(
                    &format!("{what} as the API server {name} to {whose}"),
                    !taken,
                    taken,
                );
            }
        }
        for (what, certificate) in [
            ("a user's", &alice),
            ("a node's", &edge),
            ("the administrator's", &admin),
            ("the API server's", &server),
            ("the API server's for kubelets", &to_kubelets),
        ] {
            let taken = is_server(&kubelet_ca, certificate, name);
            attacks.attempt(&format!("{what} as a kubelet {name}"), !taken, taken);
        }
    }
    for (what, certificate) in [
        ("a user's", &alice),
        ("a node's", &edge),
        ("a kubelet's", &serving),
        ("the administrator's", &admin),
        ("the API server's", &server),
    ] {
        let taken = is_client(&kubelet_client_ca, certificate);
        attacks.attempt(&format!("{what} as the API server to kubelets"), !taken, taken);
    }
    for (what, certificate) in [
        ("a kubelet's serving", &serving),
        ("the API server's", &server),
        ("the one for kubelets", &to_kubelets),
    ] {
        let taken = is_client(&client_ca, certificate);
        attacks.attempt(&format!("{what} as a client of the API"), !taken, taken);
    }
    let as_serving = plane.client("serving", &serving, &serving_key).run(&whoami).await.unwrap();
    attacks.attempt("kubectl with a serving certificate", !as_serving.status.success(), as_serving);
    let wide = [
        (CLIENT, "alice", "dev", &["client auth", "server auth"][..]),
        (CLIENT, "alice", "dev", &["server auth"]),
        (CLIENT, "alice", "dev", &["cert sign", "client auth"]),
        (CLIENT, "alice", "dev", &["any"]),
        (KUBELET_CLIENT, "system:node:x", "system:nodes", &["digital signature", "client auth"]),
        (KUBELET_CLIENT, "admin", "system:masters", &["digital signature", "client auth"]),
        (
            KUBELET_SERVING,
            "system:node:edge",
            "system:nodes",
            &["digital signature", "server auth"],
        ),
        (KUBELET_SERVING, "kube-apiserver", "system:nodes", &["digital signature", "server auth"]),
    ];
    for (at, (signer, user, group, usages)) in wide.into_iter().enumerate() {
        let name = format!("wide-{at}");
        ask(kubectl, &Wish { name: &name, user, group, signer, usages, named: true }).await;
        approve(&name).await;
        let failed = "{.status.conditions[?(@.type=='Failed')].reason}";
        let seen = eventually(&name, async || {
            let certificate = plane.field(&name, "{.status.certificate}").await;
            let reason = plane.field(&name, failed).await;
            (!certificate.is_empty() || !reason.is_empty()).then_some((certificate, reason))
        })
        .await;
        let refused = seen == (String::new(), "SignerValidationFailure".to_owned());
        attacks.attempt(&format!("{signer} for {user} with names and {usages:?}"), refused, seen);
    }
    attacks.finish();
    let message = "{.status.conditions[?(@.type=='Failed')].message}";
    let why = plane.field("wide-0", message).await;
    assert_eq!(why, "invalid usage for client certificate: server auth");
}

#[tokio::test]
async fn a_bootstrap_token_does_not_get_the_name_of_an_existing_node() {
    let plane = Plane::start().await;
    let kubectl = &plane.kubectl;
    let (machine, other) = (plane.machine("first").await, plane.machine("other").await);
    let mut attacks = Attacks::group("bootstrap tokens against existing nodes");
    let held = async |attacks: &mut Attacks, attack: &str, request: &str| {
        let why = plane.until_held(request).await;
        let certificate = plane.field(request, "{.status.certificate}").await;
        let is_explained = why.contains(&format!("kubectl certificate approve {request}"));
        attacks.attempt(attack, certificate.is_empty() && is_explained, (certificate, why));
    };

    // Created by a user, without a machine yet.
    let made = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "made" } });
    kubectl.ok_with_input(&["create", "-f", "-"], made.to_string().as_bytes()).await.unwrap();
    ask(&other, &Wish::node("made-by-token", "system:node:made")).await;
    held(&mut attacks, "a Node object that a user created", "made-by-token").await;
    ask(kubectl, &Wish::node("made-by-admin", "system:node:made")).await;
    held(&mut attacks, "the same, by who may do everything", "made-by-admin").await;

    // Pods of a deleted node: a new node of that name would get them.
    let spec = json!({ "nodeName": "ghost", "containers": [{ "name": "c", "image": "i" }] });
    let pod =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "left" }, "spec": spec });
    let create = ["create", "-f", "-"];
    kubectl.ok_with_input(&create, pod.to_string().as_bytes()).await.unwrap();
    ask(&other, &Wish::node("ghost", "system:node:ghost")).await;
    held(&mut attacks, "pods of a node that is not there", "ghost").await;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {},
        "metadata": { "name": "leased", "namespace": "kube-node-lease" },
    });
    kubectl.ok_with_input(&create, lease.to_string().as_bytes()).await.unwrap();
    ask(&other, &Wish::node("leased", "system:node:leased")).await;
    held(&mut attacks, "the lease of a node that is not there", "leased").await;

    // Given out, and not registered yet.
    let key = ask(&machine, &Wish::node("edge", "system:node:edge")).await;
    let node = plane.client("edge-node", &plane.certificate("edge").await, &key);
    ask(&machine, &Wish::node("edge-again", "system:node:edge")).await;
    held(&mut attacks, "a certificate without its Node, same token", "edge-again").await;
    ask(&other, &Wish::node("edge-other", "system:node:edge")).await;
    held(&mut attacks, "a certificate without its Node, another token", "edge-other").await;

    // A node, which is as good as any other.
    let own = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "edge" } });
    node.ok_with_input(&["create", "-f", "-"], own.to_string().as_bytes()).await.unwrap();
    ask(&other, &Wish::node("edge-late", "system:node:edge")).await;
    held(&mut attacks, "a node that is there", "edge-late").await;
    // Its Node goes, its certificate is good.
    kubectl.ok(&["delete", "node", "edge"]).await.unwrap();
    ask(&other, &Wish::node("edge-deleted", "system:node:edge")).await;
    held(&mut attacks, "a node whose object was deleted", "edge-deleted").await;

    // Two concurrent requests: one of them succeeds.
    for round in 0..4 {
        let names = [format!("race-{round}-a"), format!("race-{round}-b")];
        let user = format!("system:node:race-{round}");
        let keys = [(); 2].map(|()| KeyPair::generate().unwrap());
        let of = |at: usize| manifest(&Wish::node(&names[at], &user), &keys[at]).to_string();
        let (first, second) = (of(0), of(1));
        let (first, second) = tokio::join!(
            machine.ok_with_input(&create, first.as_bytes()),
            other.ok_with_input(&create, second.as_bytes())
        );
        first.and(second).unwrap();
        let (winner, loser) = eventually("one of two", async || {
            let signed = async |at: usize| {
                !plane.field(&names[at], "{.status.certificate}").await.is_empty()
            };
            match (signed(0).await, signed(1).await) {
                (false, false) => None,
                (first, _) => Some(if first { (0, 1) } else { (1, 0) }),
            }
        })
        .await;
        assert_ne!(winner, loser);
        held(&mut attacks, "two concurrent requests for a new name", &names[loser]).await;
    }
    attacks.finish();

    // The node itself goes on, and a person may say that a machine is the same.
    ask(&node, &Wish::node("edge-own", "system:node:edge")).await;
    plane.certificate("edge-own").await;
    kubectl.ok(&["certificate", "approve", "edge-late"]).await.unwrap();
    plane.certificate("edge-late").await;
    // When nothing holds the name any more, the pending request gets it.
    kubectl.ok(&["delete", "csr", "made-by-admin"]).await.unwrap();
    kubectl.ok(&["delete", "node", "made"]).await.unwrap();
    plane.certificate("made-by-token").await;
}

/// A data directory from before there were authorities for each purpose: `ca` has signed everything.
#[tokio::test]
async fn kubeconfigs_from_before_the_authorities_were_separated_go_on() {
    let port = free_port().unwrap();
    let builder = CofferBuilder::apiserver(PROGRAM).secure_port(port);
    let mut coffer = builder.start().await.unwrap();
    let pki = coffer.data_dir().join("pki");
    coffer.stop().await.unwrap();
    for name in ["client-ca.crt", "client-ca.key", "kubelet-ca.crt", "kubelet-ca.key"] {
        std::fs::remove_file(pki.join(name)).unwrap();
    }
    let read = |name: &str| std::fs::read_to_string(pki.join(name)).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&read("ca.crt"), KeyPair::from_pem(&read("ca.key")).unwrap());
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "old-admin");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer.unwrap()).unwrap().pem();
    let files = tempfile::tempdir().unwrap();
    // With the server's address and `ca`, as people have copied it.
    let old = client(&coffer, files.path(), "old", certificate.as_bytes(), &key);

    let whoami = ["auth", "whoami", "-o=jsonpath={.status.userInfo.username}"];
    coffer.start().await.unwrap();
    assert_eq!(old.ok(&whoami).await.unwrap(), "old-admin");
    assert_eq!(coffer.kubectl().ok(&whoami).await.unwrap(), "kubernetes-admin");
    // What the parts show has moved to the new authorities.
    let new_ca = std::fs::read(pki.join("client-ca.crt")).unwrap();
    assert!(is_client(&new_ca, &std::fs::read(pki.join("admin.crt")).unwrap()));
    assert!(!is_client(&new_ca, certificate.as_bytes()));

    coffer.stop().await.unwrap();
    std::fs::remove_file(pki.join("ca-accepted/ca.crt")).unwrap();
    coffer.start().await.unwrap();
    assert!(!old.run(&whoami).await.unwrap().status.success());
    assert_eq!(coffer.kubectl().ok(&whoami).await.unwrap(), "kubernetes-admin");
}
