//! The form of a sealed value, and the only code that seals and opens one.
//!
//! ```text
//! offset  bytes
//!      0      4  "cofS"
//!      4      1  format version, 1
//!      5      8  id of the sealing key that wraps the data key
//!     13     24  nonce of the wrapping, random
//!     37     48  data key, wrapped: 32 bytes and a 16-byte tag
//!     85      n  value, encrypted
//!   85+n     16  tag
//! ```
//!
//! Each value has a data key of its own, drawn at random, used once and kept only in wrapped form.
//! The sealing key thus encrypts nothing but random keys; it can come from a file or, later, from a
//! KMS plugin without another format, and can be replaced by wrapping 32 bytes again.
//!
//! Both layers are XChaCha20-Poly1305. Its nonce is long enough to be drawn at random without
//! counting writes, it is fast and constant in time on processors without AES instructions, and
//! this implementation erases its keys. The inner nonce is zero: no data key is used twice.
//!
//! Both layers authenticate the header before them and the key path in the store, so that bytes
//! moved to another key, or given another header, do not open.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::keyring::{KEY_BYTES, KeyId, Keyring, SealingKey};
use crate::Value;

const MAGIC: [u8; 4] = *b"cofS";
const VERSION: u8 = 1;
const TAG: usize = 16;

const KEY_ID_AT: usize = 5;
const NONCE_AT: usize = 13;
const DATA_KEY_AT: usize = 37;
const VALUE_AT: usize = 85;
/// How much longer a sealed value is.
pub(super) const OVERHEAD: usize = VALUE_AT + TAG;

/// Why a value does not open. Says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenFailure {
    #[error("it is not sealed")]
    NotSealed,
    #[error("it is cut short")]
    Short,
    #[error("it has a format of a newer release")]
    Version,
    #[error("its sealing key is not in the key file")]
    UnknownKey,
    #[error("it is damaged, or was sealed for another key path")]
    NotAuthentic,
}

/// The system gives no randomness, or the value is too long for the cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be encrypted")]
pub(super) struct SealFailure;

/// Seals a value for one key path.
pub(super) fn seal(keyring: &Keyring, path: &str, value: &[u8]) -> Result<Vec<u8>, SealFailure> {
    let sealing = keyring.first();
    let mut nonce = [0; DATA_KEY_AT - NONCE_AT];
    let mut data_key = Zeroizing::new([0; KEY_BYTES]);
    SysRng.try_fill_bytes(&mut nonce).map_err(|_| SealFailure)?;
    SysRng.try_fill_bytes(&mut *data_key).map_err(|_| SealFailure)?;

    let mut out = Vec::with_capacity(value.len() + OVERHEAD);
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.extend_from_slice(sealing.id().as_bytes());
    out.extend_from_slice(&nonce);
    append(&cipher(sealing.bytes()), &nonce, path, &mut out, &*data_key)?;
    append(&cipher(&data_key), &[0; 24], path, &mut out, value)?;
    Ok(out)
}

/// Opens what [`seal`] made for the same key path.
pub(super) fn open(keyring: &Keyring, path: &str, sealed: &[u8]) -> Result<Value, OpenFailure> {
    let header = Header::parse(sealed)?;
    let sealing = keyring.key(header.key).ok_or(OpenFailure::UnknownKey)?;
    let data_key = unwrap(sealing, path, sealed)?;
    let value = extract(&cipher(&data_key), &[0; 24], path, sealed, VALUE_AT, sealed.len())?;
    Ok(Value::new(value))
}

struct Header {
    key: KeyId,
}

impl Header {
    fn parse(sealed: &[u8]) -> Result<Self, OpenFailure> {
        if !sealed.starts_with(&MAGIC) {
            return Err(OpenFailure::NotSealed);
        }
        if sealed.get(MAGIC.len()).is_some_and(|version| *version != VERSION) {
            return Err(OpenFailure::Version);
        }
        if sealed.len() < OVERHEAD {
            return Err(OpenFailure::Short);
        }
        let id = sealed[KEY_ID_AT..NONCE_AT].try_into().expect("eight bytes");
        Ok(Self { key: KeyId::new(id) })
    }
}

fn unwrap(
    sealing: &SealingKey,
    path: &str,
    sealed: &[u8],
) -> Result<Zeroizing<[u8; KEY_BYTES]>, OpenFailure> {
    let nonce = sealed[NONCE_AT..DATA_KEY_AT].try_into().expect("24 bytes");
    let cipher = cipher(sealing.bytes());
    let bytes = Zeroizing::new(extract(&cipher, nonce, path, sealed, DATA_KEY_AT, VALUE_AT)?);
    let mut data_key = Zeroizing::new([0; KEY_BYTES]);
    data_key.copy_from_slice(&bytes);
    Ok(data_key)
}

fn cipher(key: &[u8; KEY_BYTES]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

/// Encrypts `plain` onto the end of `out`, authenticating what is in `out` before it.
fn append(
    cipher: &XChaCha20Poly1305,
    nonce: &[u8; 24],
    path: &str,
    out: &mut Vec<u8>,
    plain: &[u8],
) -> Result<(), SealFailure> {
    let associated = associated(out, path);
    let start = out.len();
    // `out` has room already: growing it here would leave a copy of the plaintext behind.
    debug_assert!(out.capacity() - start >= plain.len() + TAG);
    out.extend_from_slice(plain);
    let tag = cipher
        .encrypt_inout_detached(&XNonce::from(*nonce), &associated, (&mut out[start..]).into())
        .map_err(|_| SealFailure)?;
    out.extend_from_slice(&tag);
    Ok(())
}

/// Decrypts `sealed[from..to]`, whose last bytes are its tag.
fn extract(
    cipher: &XChaCha20Poly1305,
    nonce: &[u8; 24],
    path: &str,
    sealed: &[u8],
    from: usize,
    to: usize,
) -> Result<Vec<u8>, OpenFailure> {
    let (body, tag) = sealed[from..to].split_at(to - from - TAG);
    let tag = Tag::try_from(tag).map_err(|_| OpenFailure::Short)?;
    let mut plain = Zeroizing::new(body.to_vec());
    cipher
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            &associated(&sealed[..from], path),
            plain.as_mut_slice().into(),
            &tag,
        )
        .map_err(|_| OpenFailure::NotAuthentic)?;
    Ok(std::mem::take(&mut *plain))
}

/// What a layer authenticates in addition to its own bytes: all before it, then the path. The header has
/// one length for each layer, so that no two pairs run together to the same bytes.
fn associated(before: &[u8], path: &str) -> Vec<u8> {
    [before, path.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sealed_value_opens_for_its_own_path_only() {
        let keyring = Keyring::generate().expect("random");
        let sealed = seal(&keyring, "/registry/secrets/a/b", b"value").expect("seals");
        assert_eq!(sealed.as_slice().len(), b"value".len() + OVERHEAD);
        let opened = open(&keyring, "/registry/secrets/a/b", sealed.as_slice()).expect("opens");
        assert_eq!(opened.as_bytes(), b"value");
        let moved = open(&keyring, "/registry/secrets/a/c", sealed.as_slice());
        assert_eq!(moved.err(), Some(OpenFailure::NotAuthentic));
    }

    #[test]
    fn the_same_value_is_never_sealed_to_the_same_bytes() {
        let keyring = Keyring::generate().expect("random");
        let one = seal(&keyring, "/k", b"value").expect("seals");
        let two = seal(&keyring, "/k", b"value").expect("seals");
        assert_ne!(one.as_slice()[NONCE_AT..], two.as_slice()[NONCE_AT..]);
        assert_ne!(one.as_slice()[VALUE_AT..], two.as_slice()[VALUE_AT..]);
    }

    #[test]
    fn opening_with_another_keyring_fails_with_unknown_key() {
        let sealed = seal(&Keyring::generate().expect("random"), "/k", b"value").expect("seals");
        let other = Keyring::generate().expect("random");
        assert_eq!(open(&other, "/k", sealed.as_slice()).err(), Some(OpenFailure::UnknownKey));
    }

    #[test]
    fn a_value_that_was_never_sealed_is_refused() {
        let keyring = Keyring::generate().expect("random");
        for bytes in [&b""[..], b"{}", b"cof", &[0; 200]] {
            assert_eq!(open(&keyring, "/k", bytes).err(), Some(OpenFailure::NotSealed));
        }
        assert_eq!(open(&keyring, "/k", b"cofS\x02").err(), Some(OpenFailure::Version));
    }

    proptest! {
        #[test]
        fn no_changed_or_missing_byte_goes_unnoticed(
            value in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let keyring = Keyring::generate().expect("random");
            let sealed = seal(&keyring, "/k", &value).expect("seals");
            let at = at.index(sealed.as_slice().len());
            let mut changed = sealed.as_slice().to_vec();
            changed[at] ^= flip;
            prop_assert!(open(&keyring, "/k", &changed).is_err());
            prop_assert!(open(&keyring, "/k", &sealed.as_slice()[..at]).is_err());
            let mut longer = sealed.as_slice().to_vec();
            longer.push(flip);
            prop_assert!(open(&keyring, "/k", &longer).is_err());
            let opened = open(&keyring, "/k", sealed.as_slice()).expect("opens");
            prop_assert_eq!(opened.as_bytes(), &value[..]);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let keyring = Keyring::generate().expect("random");
            prop_assert!(open(&keyring, "/k", &bytes).is_err());
            let framed = [&b"cofS\x01"[..], &bytes].concat();
            prop_assert!(open(&keyring, "/k", &framed).is_err());
        }
    }
}
