//! The hash by which a credential is known again, from which it cannot be found. Pure but for the
//! salt's file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use super::super::credential::Credential;
use super::disk::write_bytes;

const SALT_LEN: usize = 32;
/// Some ten milliseconds, and only where an image is here that a credential has pulled.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(20_000).expect("it is not zero");
/// Hashes remembered; beyond it all are recreated.
const HASHES_MAX: usize = 1024;

/// Hashes with one salt.
pub(super) struct Hasher {
    salt: [u8; SALT_LEN],
    /// Hashes of this process's credentials, by a quick hash that never leaves it: many pods have
    /// the same credential.
    known: Mutex<HashMap<[u8; digest::SHA256_OUTPUT_LEN], String>>,
    quick: hmac::Key,
}

impl Hasher {
    /// Reads the salt of a directory, or makes it.
    pub(super) fn open(base: &Path) -> io::Result<Self> {
        let quick = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| io::Error::other("no random bytes"))?;
        Ok(Self { salt: salt(base)?, known: Mutex::default(), quick })
    }

    /// The hash by which a credential is known again. Takes some milliseconds the first time.
    pub(super) fn hash(&self, credential: &Credential) -> String {
        let (username, password) = (credential.username().expose(), credential.password().expose());
        let mut secret = Zeroizing::new(Vec::with_capacity(8 + username.len() + password.len()));
        // The length keeps `a` `bc` apart from `ab` `c`.
        secret.extend_from_slice(&(username.len() as u64).to_be_bytes());
        secret.extend_from_slice(username.as_bytes());
        secret.extend_from_slice(password.as_bytes());
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        key.copy_from_slice(hmac::sign(&self.quick, &secret).as_ref());
        let mut hashes = self.known.lock();
        if let Some(hash) = hashes.get(&key) {
            return hash.clone();
        }
        if hashes.len() >= HASHES_MAX {
            hashes.clear();
        }
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, ITERATIONS, &self.salt, &secret, &mut hash);
        hashes.entry(key).or_insert(HEXLOWER.encode(&hash)).clone()
    }
}

/// The salt of this directory's hashes. If it is lost, credentials are not known again.
fn salt(base: &Path) -> io::Result<[u8; SALT_LEN]> {
    let path = base.join("salt");
    match fs::read(&path) {
        Ok(bytes) => {
            if let Ok(salt) = bytes.try_into() {
                return Ok(salt);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut salt = [0; SALT_LEN];
    SystemRandom::new().fill(&mut salt).map_err(|_| io::Error::other("no random bytes"))?;
    write_bytes(&path, &salt)?;
    Ok(salt)
}
