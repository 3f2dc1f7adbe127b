//! What a service account token says, in upstream's two forms.
//!
//! ```text
//! bound:  {"aud":[…],"exp":…,"iat":…,"iss":"https://…","jti":"…",
//!          "kubernetes.io":{"namespace":"n","node":{…},"pod":{"name":"p","uid":"…"},
//!                           "serviceaccount":{"name":"a","uid":"…"}},
//!          "nbf":…,"sub":"system:serviceaccount:n:a"}
//! legacy: {"iss":"kubernetes/serviceaccount","kubernetes.io/serviceaccount/namespace":"n",
//!          "kubernetes.io/serviceaccount/secret.name":"…",…,"sub":"…"}
//! ```

use std::collections::BTreeMap;

use coffer_api::well_known::user;
use serde::{Deserialize, Serialize};

use super::{TokenError, account_identity};
use crate::identity::{CREDENTIAL_ID, Identity};

/// The issuer of tokens that live in Secrets.
pub(crate) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// An object by name and UID: a later one of the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) name: String,
    /// Empty for a node that does not exist.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

/// What a token is bound to besides its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// With the node the pod runs on, where that is known.
    Pod(Bound, Option<Bound>),
    Secret(Bound),
    Node(Bound),
}

/// A token to be issued.
pub(crate) struct Issue<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: Bound,
    pub(crate) binding: Option<Binding>,
    pub(crate) audiences: Vec<String>,
    pub(crate) now: jiff::Timestamp,
    pub(crate) lifetime_s: i64,
}

/// A bound token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    aud: Audience,
    pub(crate) exp: i64,
    iat: i64,
    iss: String,
    #[serde(default)]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Kubernetes,
    nbf: i64,
    sub: String,
}

/// One audience or several; a JWT may have either form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    Several(Vec<String>),
    Bare(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kubernetes {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Bound>,
    pub(crate) serviceaccount: Bound,
}

impl Claims {
    /// The claims of a new token.
    pub(super) fn of(issue: &Issue<'_>, issuer: &str) -> Self {
        let now = issue.now.as_second();
        let (mut node, mut pod, mut secret) = (None, None, None);
        match issue.binding.clone() {
            Some(Binding::Pod(bound, on)) => (pod, node) = (Some(bound), on),
            Some(Binding::Secret(bound)) => secret = Some(bound),
            Some(Binding::Node(bound)) => node = Some(bound),
            None => {}
        }
        let (namespace, account) = (issue.namespace.to_owned(), issue.account.clone());
        Self {
            aud: Audience::Several(issue.audiences.clone()),
            exp: now.saturating_add(issue.lifetime_s),
            iat: now,
            iss: issuer.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: user::of_service_account(&namespace, &account.name),
            kubernetes: Kubernetes { namespace, node, pod, secret, serviceaccount: account },
            nbf: now,
        }
    }

    pub(super) fn audiences(&self) -> &[String] {
        match &self.aud {
            Audience::Several(all) => all,
            Audience::Bare(one) => std::slice::from_ref(one),
        }
    }

    pub(super) fn check_time(&self, now: jiff::Timestamp) -> Result<(), TokenError> {
        let now = now.as_second();
        if now >= self.exp || now < self.nbf { Err(TokenError::Time) } else { Ok(()) }
    }

    /// The account, with what the token is bound to.
    pub(super) fn identity(&self) -> Identity {
        let Kubernetes { namespace, node, pod, serviceaccount: account, .. } = &self.kubernetes;
        let mut extra = BTreeMap::new();
        let mut put = |key: &str, value: String| {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        if let Some(pod) = pod {
            put("pod-name", pod.name.clone());
            put("pod-uid", pod.uid.clone());
        }
        if let Some(node) = node {
            put("node-name", node.name.clone());
            if !node.uid.is_empty() {
                put("node-uid", node.uid.clone());
            }
        }
        if !self.jti.is_empty() {
            extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", self.jti)]);
        }
        account_identity(namespace, &account.name, &account.uid, extra)
    }
}

/// A token that lives in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Legacy {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub(crate) namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub(crate) secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub(crate) account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub(crate) uid: String,
    sub: String,
}

impl Legacy {
    pub(crate) fn new(namespace: &str, secret: &str, account: &str, uid: &str) -> Self {
        Self {
            iss: LEGACY_ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            uid: uid.to_owned(),
            sub: user::of_service_account(namespace, account),
        }
    }

    pub(super) fn identity(&self) -> Identity {
        account_identity(&self.namespace, &self.account, &self.uid, BTreeMap::new())
    }
}
