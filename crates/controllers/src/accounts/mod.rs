//! Service accounts: `default` in every namespace, a token Secret for every account, and the CA
//! certificate that their holders check the API server with.

pub(crate) mod default_account;
pub(crate) mod root_ca;
pub(crate) mod tokens;
