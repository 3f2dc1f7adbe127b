//! Impersonation: a request that is to be authorized as another user's, and who may make one.
//!
//! Every piece of the other identity is a right of its own, verb `impersonate`: the user (or the
//! service account), each group, the uid, each extra value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_api::status::Failure;
use coffer_api::well_known::{api_group, group};
use http::HeaderMap;

use crate::authz::attributes::{Attributes, ResourceTarget};
use crate::authz::{Authorizer, Decision};
use crate::identity::{ACCOUNT_PREFIX, ANONYMOUS, AUTHENTICATED, Identity, UNAUTHENTICATED};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const AUTHENTICATION: &str = api_group::AUTHENTICATION;

/// The identity a request is authorized by: its caller's own, or the one its headers ask for.
///
/// # Errors
/// 403 that names the piece the caller may not take on; 400 for headers that make no sense.
pub(crate) async fn impersonate(
    authorizer: &Authorizer,
    caller: Arc<Identity>,
    headers: &HeaderMap,
) -> Result<Arc<Identity>, Failure> {
    let Some(wanted) = ImpersonationRequest::of(headers)? else { return Ok(caller) };
    for target in wanted.rights() {
        let asked = Attributes::resource("impersonate", target);
        if let Decision::NoOpinion(reason) = authorizer.decide_fresh(&caller, &asked).await {
            return Err(asked.denial(&caller, &reason));
        }
    }
    Ok(Arc::new(wanted.identity()))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct ImpersonationRequest {
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

impl ImpersonationRequest {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let text = |value: &http::HeaderValue| {
            value
                .to_str()
                .map(str::to_owned)
                .map_err(|_| Failure::bad_request("impersonation headers must be printable ASCII"))
        };
        let mut wanted = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                USER => wanted.user = text(value)?,
                GROUP => wanted.groups.push(text(value)?),
                UID => wanted.uid = text(value)?,
                name => {
                    let Some(key) = name.strip_prefix(EXTRA_PREFIX) else { continue };
                    // Keys are case-insensitive header names with anything else escaped.
                    let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy();
                    let values = wanted.extra.entry(key.to_lowercase()).or_default();
                    values.push(text(value)?);
                }
            }
        }
        if wanted == Self::default() {
            return Ok(None);
        }
        if wanted.user.is_empty() {
            return Err(Failure::internal(format!(
                "requested {:?} without impersonating a user",
                wanted.shown()
            )));
        }
        Ok(Some(wanted))
    }

    /// What was asked for besides a user, for the message.
    fn shown(&self) -> Vec<String> {
        let mut all = self.groups.clone();
        all.extend((!self.uid.is_empty()).then(|| self.uid.clone()));
        all.extend(self.extra.keys().cloned());
        all
    }

    /// The namespace and name of the account that the user is. Others that begin so are users.
    fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.user.strip_prefix(ACCOUNT_PREFIX)?.split_once(':')?;
        let is_one = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
        is_one.then_some((namespace, name))
    }

    /// What the caller must be allowed to impersonate.
    fn rights(&self) -> Vec<ResourceTarget<'_>> {
        let of = |group: &'static str, resource: &'static str, name| ResourceTarget {
            group: Cow::Borrowed(group),
            resource: Cow::Borrowed(resource),
            name: Cow::Borrowed(name),
            ..Default::default()
        };
        let user = match self.service_account() {
            Some((namespace, name)) => ResourceTarget {
                namespace: Cow::Borrowed(namespace),
                ..of("", "serviceaccounts", name)
            },
            None => of("", "users", &self.user),
        };
        let mut all = vec![user];
        all.extend(self.groups.iter().map(|group| of("", "groups", group)));
        all.extend((!self.uid.is_empty()).then(|| of(AUTHENTICATION, "uids", &self.uid)));
        for (key, values) in &self.extra {
            all.extend(values.iter().map(|value| ResourceTarget {
                subresource: Cow::Borrowed(key),
                ..of(AUTHENTICATION, "userextras", value)
            }));
        }
        all
    }

    fn identity(self) -> Identity {
        let mut groups = self.groups.clone();
        if groups.is_empty()
            && let Some((namespace, _)) = self.service_account()
        {
            groups =
                vec![group::SERVICE_ACCOUNTS.to_owned(), group::of_service_accounts(namespace)];
        }
        let named = groups.iter().any(|it| it == AUTHENTICATED || it == UNAUTHENTICATED);
        if !named {
            let all = if self.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
            groups.push(all.to_owned());
        }
        Identity { user: self.user, uid: self.uid, groups, extra: self.extra }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in all.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn each_piece_of_the_other_is_a_right_of_its_own() {
        let all = headers(&[
            ("impersonate-user", "alice"),
            ("impersonate-group", "dev"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme.com%2fproject", "x"),
        ]);
        let wanted = ImpersonationRequest::of(&all).unwrap().unwrap();
        let rights: Vec<String> =
            wanted.rights().iter().map(|it| format!("{}:{}", it.path(), it.name)).collect();
        assert_eq!(
            rights,
            ["users:alice", "groups:dev", "uids:7", "userextras/acme.com/project:x"]
        );
        let identity = wanted.identity();
        assert_eq!(identity.groups, ["dev", "system:authenticated"]);
    }

    #[test]
    fn a_service_account_brings_its_groups_and_is_asked_for_in_its_namespace() {
        let all = headers(&[("impersonate-user", "system:serviceaccount:n:app")]);
        let wanted = ImpersonationRequest::of(&all).unwrap().unwrap();
        let right = &wanted.rights()[0];
        assert_eq!(
            (&*right.resource, &*right.namespace, &*right.name),
            ("serviceaccounts", "n", "app")
        );
        assert_eq!(
            wanted.identity().groups,
            ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]
        );
    }

    #[test]
    fn a_group_without_a_user_is_refused_and_without_headers_the_caller_stays() {
        assert!(
            ImpersonationRequest::of(&headers(&[("impersonate-group", "system:masters")])).is_err()
        );
        assert_eq!(ImpersonationRequest::of(&headers(&[("accept", "*/*")])).unwrap(), None);
    }
}
