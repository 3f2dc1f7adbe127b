//! Certificate requests through the API: a machine with a bootstrap token requests, one user approves,
//! another one signs.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, RBAC};

const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";

fn request(user: &str, group: &str, signer: &str) -> Value {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, user);
    name.push(rcgen::DnType::OrganizationName, group);
    params.distinguished_name = name;
    let pem =
        params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    json!({
        "metadata": { "name": "join" },
        "spec": {
            "request": base64::engine::general_purpose::STANDARD.encode(pem),
            "signerName": signer,
            "usages": ["digital signature", "client auth"],
            // The server replaces what a client says about its own identity.
            "username": "system:masters", "groups": ["system:masters"],
        },
    })
}

async fn bootstrapper(cluster: &Cluster) -> Caller {
    let secret = json!({
        "metadata": { "name": "bootstrap-token-abcdef" },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
        },
    });
    cluster.admin.make("/api/v1/namespaces/kube-system/secrets", secret).await;
    Caller::new("joining", cluster.server.bearer(Some("abcdef.0123456789abcdef")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_its_askers_and_takes_rights_to_approve_and_to_sign() {
    let cluster = Cluster::start().await;
    let joining = bootstrapper(&cluster).await;
    let asked = request("system:node:new", "system:nodes", KUBELET);
    let made = joining.make(CSRS, asked).await;
    assert_eq!(made["spec"]["username"], "system:bootstrap:abcdef");
    assert_eq!(made["spec"]["groups"], json!(["system:bootstrappers", "system:authenticated"]));

    let approval =
        json!({ "status": { "conditions": [{ "type": "Approved", "status": "True" }] } });
    let path = format!("{CSRS}/join/approval");
    assert_eq!(joining.request("PATCH", &path, Some(&approval)).await.code, 403);

    // A right to write the subresource is not a right on the signer.
    let role = json!({
        "metadata": { "name": "clerk" },
        "rules": [{
            "apiGroups": ["certificates.k8s.io"], "verbs": ["patch"],
            "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"],
        }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/clusterroles"), role).await;
    let binding = json!({
        "metadata": { "name": "clerk" },
        "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": "clerk" },
        "subjects": [{ "kind": "User", "name": "clerk", "apiGroup": RBAC }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/clusterrolebindings"), binding).await;
    let clerk = cluster.user("clerk", "clerk", &[]).await;
    let reply = clerk.request("PATCH", &path, Some(&approval)).await;
    assert_eq!(
        reply.message(),
        format!(
            "certificatesigningrequests.certificates.k8s.io \"join\" is forbidden: user not permitted to approve requests with signerName \"{KUBELET}\""
        )
    );
    let control = cluster.user("control", "system:kube-controller-manager", &[]).await;
    let reply = control.request("PATCH", &path, Some(&approval)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());
    let pem = base64::engine::general_purpose::STANDARD.encode(&cluster.server.ca_pem);
    let signed = json!({ "status": { "certificate": pem } });
    let path = format!("{CSRS}/join/status");
    assert!(
        clerk.request("PATCH", &path, Some(&signed)).await.message().contains("to sign requests")
    );
    // Only a signer may mark a request as failed, too: that is final.
    let decided = joining.request("GET", &format!("{CSRS}/join"), None).await.body;
    let mut conditions = decided["status"]["conditions"].clone();
    let failed = json!({ "type": "Failed", "status": "True", "reason": "No" });
    conditions.as_array_mut().unwrap().push(failed);
    let refused = json!({ "status": { "conditions": conditions } });
    assert!(
        clerk.request("PATCH", &path, Some(&refused)).await.message().contains("to sign requests")
    );
    let reply = control.request("PATCH", &path, Some(&signed)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());
    let seen = joining.request("GET", &format!("{CSRS}/join"), None).await;
    assert_eq!(seen.body["status"]["certificate"], pem);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_an_administrators_certificate_are_refused() {
    let cluster = Cluster::start().await;
    let signer = "kubernetes.io/kube-apiserver-client";
    let reply =
        cluster.admin.request("POST", CSRS, Some(&request("x", "system:masters", signer))).await;
    assert_eq!(
        reply.message(),
        "certificatesigningrequests.certificates.k8s.io \"join\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
}
