//! Kubeconfig files with everything in them, so that one can be copied to another machine as it is.
//!
//! They are written here and not by a serializer of `kube::config::Kubeconfig`: a serializer's output
//! grows, and leaves copies of the private key or token behind.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::pki::Credential;

/// What is written around the values, in bytes, with room to spare.
const FRAME_BYTES: usize = 1024;

/// What a user proves its name with.
pub(crate) enum Login<'a> {
    /// A client certificate and its key.
    Certificate(&'a Credential),
    /// A bearer token.
    Token(&'a str),
}

/// The file for one user of the server.
pub(crate) fn render(
    user: &str,
    server: &str,
    ca_pem: &str,
    login: &Login<'_>,
) -> Zeroizing<String> {
    let encode = |pem: &[u8]| Zeroizing::new(STANDARD.encode(pem));
    let ca = encode(ca_pem.as_bytes());
    let credentials = match login {
        Login::Certificate(credential) => vec![
            ("client-certificate-data", encode(credential.cert_pem.as_bytes())),
            ("client-key-data", encode(credential.key_pem.as_bytes())),
        ],
        Login::Token(token) => vec![("token", scalar(token))],
    };
    let (name, server) = (scalar(user), scalar(server));
    let context = scalar(&format!("{user}@coffer"));
    let values = credentials.iter().map(|(_, value)| value.len()).sum::<usize>();
    // One allocation, because a string that grows leaves copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(
        FRAME_BYTES + values + ca.len() + server.len() + 3 * name.len() + 2 * context.len(),
    ));
    let mut write = |parts: &[&str]| {
        parts.iter().for_each(|part| text.push_str(part));
        text.push('\n');
    };
    write(&["apiVersion: v1"]);
    write(&["kind: Config"]);
    write(&["clusters:"]);
    write(&["- name: coffer"]);
    write(&["  cluster:"]);
    write(&["    server: ", &server]);
    write(&["    certificate-authority-data: ", &ca]);
    write(&["contexts:"]);
    write(&["- name: ", &context]);
    write(&["  context:"]);
    write(&["    cluster: coffer"]);
    write(&["    user: ", &name]);
    write(&["current-context: ", &context]);
    write(&["users:"]);
    write(&["- name: ", &name]);
    write(&["  user:"]);
    for (key, value) in &credentials {
        write(&["    ", key, ": ", value]);
    }
    text
}

/// A text as YAML: as it is where YAML takes it for that text, else as a JSON string, which YAML reads.
fn scalar(text: &str) -> Zeroizing<String> {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@".contains(c);
    // A colon is a text's own unless a blank follows; these words mean something else.
    let fits = starts && text.chars().all(|c| plain(c) || c == ':') && !text.ends_with(':');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if fits && !word.contains(&&*text.to_ascii_lowercase()) {
        return Zeroizing::new(text.to_owned());
    }
    // It does not grow: six bytes for each of the text's are the longest escape.
    let mut quoted = Zeroizing::new(Vec::with_capacity(6 * text.len() + 2));
    serde_json::to_writer(&mut *quoted, text).expect("a text is written into memory");
    Zeroizing::new(String::from_utf8(quoted.to_vec()).expect("JSON is text"))
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::*;

    fn credential() -> Credential {
        Credential {
            cert_pem: "certificate".to_owned(),
            key_pem: Zeroizing::new("key".to_owned()),
            cert_path: "unused".into(),
            key_path: "unused".into(),
        }
    }

    #[test]
    fn a_kubeconfig_is_what_kubectl_expects() {
        let credential = credential();
        let login = Login::Certificate(&credential);
        let text = render("kubernetes-admin", "https://127.0.0.1:6443", "authority", &login);
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

    /// Names of users and addresses of servers come from command lines and other files.
    #[test]
    fn no_name_or_address_breaks_out_of_its_place() {
        for text in [
            "system:node:a",
            "https://[::1]:6443/path?q=a#b",
            "a: b",
            "a #b",
            "a\n  token: other",
            "- a",
            "true",
            "12",
            "\"quoted\" \\ \u{e9}\u{0}",
            "ends:",
            "",
        ] {
            let rendered = render(text, text, "authority", &Login::Token(text));
            assert!(rendered.capacity() < FRAME_BYTES + 64 * (text.len() + 8), "it has grown");
            let read = Kubeconfig::from_yaml(&rendered).expect(text);
            assert_eq!(read.current_context, Some(format!("{text}@coffer")));
            assert_eq!(read.auth_infos[0].name, text);
            let cluster = read.clusters[0].cluster.as_ref().expect("a cluster");
            assert_eq!(cluster.server.as_deref(), Some(text));
            let context = read.contexts[0].context.as_ref().expect("a context");
            assert_eq!(context.user.as_deref(), Some(text));
        }
    }
}
