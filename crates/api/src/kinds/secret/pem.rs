//! What a TLS secret's two values are, as far as their PEM armour tells. Only the armour's labels
//! are looked at, and none is quoted: they are bytes of the secret.

use crate::secret::Secret;

/// A label between `BEGIN ` and the dashes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Certificate,
    PrivateKey,
    Other,
}

/// What Go's `tls.X509KeyPair` says first about a pair that it cannot use. Whether the key belongs
/// to the certificate is not looked at.
pub(super) fn warning(secret: &Secret) -> Option<&'static str> {
    let blocks = |key: &str| {
        let value = secret.data.get(key).map(|value| value.expose()).unwrap_or_default();
        std::str::from_utf8(value).map(blocks_of).unwrap_or_default()
    };
    let certificates = blocks("tls.crt");
    if !certificates.contains(&Block::Certificate) {
        return Some(match certificates.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input",
            [Block::PrivateKey] => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"
            }
            _ => "tls: failed to find \"CERTIFICATE\" PEM block in certificate input",
        });
    }
    let keys = blocks("tls.key");
    if !keys.contains(&Block::PrivateKey) {
        return Some(match keys.as_slice() {
            [] => "tls: failed to find any PEM data in key input",
            [Block::Certificate] => {
                "tls: found a certificate rather than a key in the PEM for the private key"
            }
            _ => "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input",
        });
    }
    None
}

/// The blocks that have both a first and a last line.
fn blocks_of(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(label) = label_of(line, "-----BEGIN ") else { continue };
        if !lines.any(|line| label_of(line, "-----END ") == Some(label)) {
            break;
        }
        blocks.push(match label {
            "CERTIFICATE" => Block::Certificate,
            label if label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY") => Block::PrivateKey,
            _ => Block::Other,
        });
    }
    blocks
}

fn label_of<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}
