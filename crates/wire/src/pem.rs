//! Writing PEM (RFC 7468) into memory that is erased.
//!
//! The `pem` crate writes into a `String` that it leaves behind; among what is written here are private
//! keys. Reading is rustls' (`rustls_pki_types::pem`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Bytes of a line.
const LINE_BYTES: usize = 64;

/// One block: `encode("CERTIFICATE", der)`. The buffer is made once, at its full length.
pub fn encode(label: &str, der: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = Zeroizing::new(STANDARD.encode(der));
    let lines = text.len().div_ceil(LINE_BYTES);
    let ends = "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len();
    let mut pem = Zeroizing::new(Vec::with_capacity(text.len() + lines + ends));
    for part in ["-----BEGIN ", label, "-----\n"] {
        pem.extend_from_slice(part.as_bytes());
    }
    for line in text.as_bytes().chunks(LINE_BYTES) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        pem.extend_from_slice(part.as_bytes());
    }
    pem
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn a_block_of_any_length_is_read_back_and_its_buffer_does_not_grow() {
        for length in [0, 1, 47, 48, 49, 96, 1000] {
            let der: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let pem = encode("CERTIFICATE", &der);
            assert_eq!(pem.capacity(), pem.len(), "{length}");
            assert!(pem.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE_BYTES));
            if length > 0 {
                let read = CertificateDer::from_pem_slice(&pem).expect("PEM");
                assert_eq!(read.as_ref(), der);
            }
        }
    }
}
