//! Service accounts: `default` in every namespace, a token Secret for every account, and the CA bundle with
//! which pods verify the API server.

pub(crate) mod default_account;
pub(crate) mod root_ca;
pub(crate) mod tokens;
