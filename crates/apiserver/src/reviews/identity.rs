//! The identity of a user: the caller itself, or the owner of a token.

use coffer_api::status::Failure;
use k8s_openapi::api::authentication::v1::{
    SelfSubjectReview, SelfSubjectReviewStatus, TokenReview, TokenReviewStatus, UserInfo,
};
use zeroize::Zeroizing;

use super::ReviewBody;
use crate::authn::Authenticator;
use crate::clock::now;
use crate::identity::{AUTHENTICATED, Identity};
use crate::registry::Registry;

/// Said instead of the reason, which only the log has.
const INVALID: &str = "invalid bearer token";

pub(crate) fn of_caller(
    asked: &ReviewBody<'_>,
    who: &Identity,
) -> Result<SelfSubjectReview, Failure> {
    let mut review: SelfSubjectReview = asked.decode()?;
    review.metadata.creation_timestamp = Some(now());
    review.status = Some(SelfSubjectReviewStatus { user_info: Some(user_info(who)) });
    Ok(review)
}

pub(crate) async fn of_token(
    authenticator: &Authenticator,
    registry: &Registry,
    asked: &ReviewBody<'_>,
) -> Result<TokenReview, Failure> {
    let mut review: TokenReview = asked.decode()?;
    let token = Zeroizing::new(review.spec.token.take().unwrap_or_default());
    if token.is_empty() {
        return Err(Failure::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = review.spec.audiences.clone().unwrap_or_default();
    let audiences =
        if audiences.is_empty() { authenticator.tokens.audiences.clone() } else { audiences };
    let found = authenticator.owner(registry, &token, &audiences).await;
    let shared = |verified: &crate::tokens::Verified| {
        verified.audiences.iter().any(|own| audiences.contains(own))
    };
    let status = match found {
        Ok(verified) if shared(&verified) => {
            let mut identity = verified.identity;
            if !identity.in_group(AUTHENTICATED) {
                identity.groups.push(AUTHENTICATED.to_owned());
            }
            let audiences = verified.audiences;
            TokenReviewStatus {
                authenticated: Some(true),
                user: Some(user_info(&identity)),
                audiences: Some(audiences.into_iter().collect()),
                error: None,
            }
        }
        Ok(_) => TokenReviewStatus { error: Some(INVALID.to_owned()), ..Default::default() },
        Err(error) => {
            tracing::debug!(%error, "reviewed token refused");
            TokenReviewStatus { error: Some(INVALID.to_owned()), ..Default::default() }
        }
    };
    // The token is not sent back, as upstream does: no client needs it, and one may log it.
    review.metadata.creation_timestamp = Some(now());
    review.status = Some(status);
    Ok(review)
}

fn user_info(identity: &Identity) -> UserInfo {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    UserInfo {
        username: some(&identity.user),
        uid: some(&identity.uid),
        groups: Some(identity.groups.clone()),
        extra: (!identity.extra.is_empty()).then(|| identity.extra.clone()),
    }
}
