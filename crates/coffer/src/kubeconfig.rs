//! Kubeconfig files with everything in them, so that one can be copied to another machine as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::pki::Credential;

/// The file for one user of the server.
pub(crate) fn render(
    user: &str,
    server: &str,
    ca_pem: &str,
    credential: &Credential,
) -> Zeroizing<String> {
    let encode = |pem: &[u8]| Zeroizing::new(STANDARD.encode(pem));
    let key = encode(credential.key_pem.as_bytes());
    let ca = STANDARD.encode(ca_pem);
    let certificate = STANDARD.encode(&credential.cert_pem);
    // One allocation, because a string that grows leaves copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(
        1024 + key.len() + ca.len() + certificate.len() + server.len() + 4 * user.len(),
    ));
    for line in [
        "apiVersion: v1",
        "kind: Config",
        "clusters:",
        "- name: coffer",
        "  cluster:",
        "    server: ",
        server,
        "    certificate-authority-data: ",
        &ca,
        "contexts:",
        "- name: ",
        user,
        "@coffer",
        "  context:",
        "    cluster: coffer",
        "    user: ",
        user,
        "current-context: ",
        user,
        "@coffer",
        "users:",
        "- name: ",
        user,
        "  user:",
        "    client-certificate-data: ",
        &certificate,
        "    client-key-data: ",
        &key,
    ] {
        // A line that ends in a blank waits for its value, and a name for the rest of it.
        if !(text.is_empty() || text.ends_with(' ') || line == "@coffer") {
            text.push('\n');
        }
        text.push_str(line);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_what_kubectl_expects() {
        let credential = Credential {
            cert_pem: "certificate".to_owned(),
            key_pem: Zeroizing::new("key".to_owned()),
            cert_path: "unused".into(),
            key_path: "unused".into(),
        };
        let text = render("kubernetes-admin", "https://127.0.0.1:6443", "authority", &credential);
        let expected = "\
apiVersion: v1
kind: Config
clusters:
- name: coffer
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: YXV0aG9yaXR5
contexts:
- name: kubernetes-admin@coffer
  context:
    cluster: coffer
    user: kubernetes-admin
current-context: kubernetes-admin@coffer
users:
- name: kubernetes-admin
  user:
    client-certificate-data: Y2VydGlmaWNhdGU=
    client-key-data: a2V5
";
        assert_eq!(*text, expected);
    }
}
