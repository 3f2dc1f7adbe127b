//! Token Secrets: a Secret of type `kubernetes.io/service-account-token` gets its account's token.
//!
//! Upstream's controller manager fills these in, which takes the signing key to it. Here the key
//! stays with the server that checks tokens: a client that makes such a Secret, by hand or as a
//! controller, names the account and finds the rest in it. One that brings a token keeps it. The
//! response to the write has the token; so the Secret of a writer who may not read it is not filled in
//! here, and the controller of tokens does so afterwards.

use coffer_api::kinds::Secret;
use coffer_api::names;
use coffer_api::secret::SecretBytes;
use coffer_api::status::Failure;
use coffer_api::well_known::annotation::SERVICE_ACCOUNT_NAME;
use coffer_api::well_known::secret_type::SERVICE_ACCOUNT_TOKEN;

use super::{Admission, secret_use, service_account};
use crate::authz::Permit;
use crate::object::Object;
use crate::tokens::{ACCOUNT_UID, Legacy, TOKEN_KEY};

/// Fills in a token Secret that has no token, if its account exists.
///
/// # Errors
/// 500 where signing fails.
pub(super) fn fill_in(
    admission: &Admission,
    permit: &Permit,
    object: &mut dyn Object,
) -> Result<(), Failure> {
    let Some(secret) = object.of_kind_mut::<Secret>() else { return Ok(()) };
    let (tokens, config) = (&*admission.tokens, &admission.config);
    if secret.type_.as_deref() != Some(SERVICE_ACCOUNT_TOKEN) || !tokens.issues() {
        return Ok(());
    }
    let annotations = secret.metadata.annotations.as_ref();
    let named = |key: &str| {
        annotations.and_then(|all| all.get(key)).filter(|value| !value.is_empty()).cloned()
    };
    let Some(account) = named(SERVICE_ACCOUNT_NAME) else { return Ok(()) };
    let namespace = secret.metadata.namespace.clone().unwrap_or_default();
    let found = service_account::find(&admission.resources, &namespace, &account);
    let Some(uid) = found.and_then(|account| account.metadata.uid) else { return Ok(()) };
    // A Secret of an earlier account of that name is not this one's.
    if named(ACCOUNT_UID).is_some_and(|own| own != uid) {
        return Ok(());
    }
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_UID.to_owned(), uid.clone());
    if secret.data.get(TOKEN_KEY).is_none_or(SecretBytes::is_empty) {
        let name = settled_name(secret);
        if !secret_use::may("get", admission, permit, &namespace, &name) {
            return Ok(());
        }
        let legacy = Legacy::new(&namespace, &name, &account, &uid);
        let token = tokens.issue_legacy(&legacy).map_err(Failure::internal)?;
        let token = SecretBytes::new(token.as_bytes().to_vec());
        secret.data.insert(TOKEN_KEY.to_owned(), token);
    }
    let mut put = |key: &str, value: &[u8]| {
        if !value.is_empty() && !secret.data.contains_key(key) {
            secret.data.insert(key.to_owned(), SecretBytes::new(value.to_vec()));
        }
    };
    put("ca.crt", &config.root_ca_pem);
    put("namespace", namespace.as_bytes());
    Ok(())
}

/// The token names its Secret, so a generated name is made now.
fn settled_name(secret: &mut Secret) -> String {
    let meta = &mut secret.metadata;
    let base = meta.generate_name.as_deref().unwrap_or_default();
    if meta.name.as_deref().unwrap_or_default().is_empty() && !base.is_empty() {
        let random = |below: usize| rand::random_range(0..below);
        meta.name = Some(names::generate_name(base, random));
    }
    meta.name.clone().unwrap_or_default()
}
