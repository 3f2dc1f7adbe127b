//! What a user may do: the authorizer's decision, asked for without doing it.

use std::borrow::Cow;

use coffer_api::field::{Error, Path};
use coffer_api::selector::FieldSelector;
use coffer_api::status::Failure;
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview,
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};

use super::ReviewBody;
use crate::authz::attributes::{Attributes, ResourceTarget, Target};
use crate::authz::{Authorizer, Decision};
use crate::clock::now;
use crate::failure::same_namespace;
use crate::identity::Identity;

pub(crate) async fn of_caller(
    authorizer: &Authorizer,
    asked: &ReviewBody<'_>,
    who: &Identity,
) -> Result<SelfSubjectAccessReview, Failure> {
    let mut review: SelfSubjectAccessReview = asked.decode()?;
    asked.has_no_metadata(&review.metadata)?;
    let spec = &review.spec;
    let attributes = attributes(
        asked,
        spec.resource_attributes.as_ref(),
        spec.non_resource_attributes.as_ref(),
    )?;
    let status = evaluate(authorizer, who, &attributes).await;
    review.metadata.creation_timestamp = Some(now());
    review.status = Some(status);
    Ok(review)
}

pub(crate) async fn of_subject(
    authorizer: &Authorizer,
    asked: &ReviewBody<'_>,
) -> Result<SubjectAccessReview, Failure> {
    let mut review: SubjectAccessReview = asked.decode()?;
    asked.has_no_metadata(&review.metadata)?;
    review.status = Some(evaluate_subject(authorizer, asked, &review.spec).await?);
    review.metadata.creation_timestamp = Some(now());
    Ok(review)
}

pub(crate) async fn local(
    authorizer: &Authorizer,
    asked: &ReviewBody<'_>,
    namespace: &str,
) -> Result<LocalSubjectAccessReview, Failure> {
    let mut review: LocalSubjectAccessReview = asked.decode()?;
    same_namespace(&review.metadata, namespace)?;
    review.metadata.namespace = None;
    asked.has_no_metadata(&review.metadata)?;
    let path = Path::new("spec");
    let resource = review.spec.resource_attributes.as_ref();
    let named = resource.and_then(|it| it.namespace.as_deref()).unwrap_or_default();
    if review.spec.non_resource_attributes.is_some() {
        let why = "disallowed on this kind of request";
        return Err(asked.invalid(Error::invalid(&path.child("nonResourceAttributes"), "", why)));
    }
    if named != namespace {
        let path = path.child("resourceAttributes").child("namespace");
        let why = format!("must match metadata.namespace: {namespace}");
        return Err(asked.invalid(Error::invalid(&path, named, why)));
    }
    review.status = Some(evaluate_subject(authorizer, asked, &review.spec).await?);
    review.metadata.namespace = Some(namespace.to_owned());
    review.metadata.creation_timestamp = Some(now());
    Ok(review)
}

async fn evaluate_subject(
    authorizer: &Authorizer,
    asked: &ReviewBody<'_>,
    spec: &SubjectAccessReviewSpec,
) -> Result<SubjectAccessReviewStatus, Failure> {
    let identity = Identity {
        user: spec.user.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    };
    if identity.user.is_empty() && identity.groups.is_empty() {
        let path = Path::new("spec").child("user");
        let why = "at least one of user or group must be specified";
        return Err(asked.invalid(Error::invalid(&path, "", why)));
    }
    let attributes = attributes(
        asked,
        spec.resource_attributes.as_ref(),
        spec.non_resource_attributes.as_ref(),
    )?;
    Ok(evaluate(authorizer, &identity, &attributes).await)
}

async fn evaluate(
    authorizer: &Authorizer,
    who: &Identity,
    asked: &Attributes<'_>,
) -> SubjectAccessReviewStatus {
    let (allowed, reason) = match authorizer.decide_fresh(who, asked).await {
        Decision::Allow => (true, String::new()),
        Decision::NoOpinion(reason) => (false, reason),
    };
    let reason = (!reason.is_empty()).then_some(reason);
    SubjectAccessReviewStatus { allowed, reason, denied: None, evaluation_error: None }
}

/// The attributes a review asks about; exactly one of the two kinds.
fn attributes<'a>(
    asked: &ReviewBody<'_>,
    resource: Option<&'a ResourceAttributes>,
    path: Option<&'a NonResourceAttributes>,
) -> Result<Attributes<'a>, Failure> {
    fn text(field: &Option<String>) -> Cow<'_, str> {
        Cow::Borrowed(field.as_deref().unwrap_or_default())
    }
    let spec = Path::new("spec");
    match (resource, path) {
        (Some(resource), None) => Ok(Attributes {
            verb: text(&resource.verb),
            target: Target::Resource(ResourceTarget {
                group: text(&resource.group),
                resource: text(&resource.resource),
                subresource: text(&resource.subresource),
                namespace: text(&resource.namespace),
                name: text(&resource.name),
                fields: fields(resource),
            }),
        }),
        (None, Some(path)) => {
            Ok(Attributes { verb: text(&path.verb), target: Target::Path(text(&path.path)) })
        }
        (Some(_), Some(_)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            let error = Error::invalid(&spec.child("nonResourceAttributes"), "", why);
            Err(asked.invalid(error))
        }
        (None, None) => {
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(asked.invalid(Error::invalid(&spec.child("resourceAttributes"), "", why)))
        }
    }
}

/// The field selector a list is said to have; one that cannot be read narrows nothing.
fn fields(resource: &ResourceAttributes) -> FieldSelector {
    let Some(selector) = &resource.field_selector else { return FieldSelector::default() };
    if let Some(raw) = &selector.raw_selector {
        return FieldSelector::parse(raw).unwrap_or_default();
    }
    let escape = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
    let terms: Vec<String> = selector
        .requirements
        .iter()
        .flatten()
        .filter_map(|term| match (term.operator.as_str(), term.values.as_deref()) {
            ("In", Some([only])) => Some(format!("{}={}", term.key, escape(only))),
            ("NotIn", Some([only])) => Some(format!("{}!={}", term.key, escape(only))),
            _ => None,
        })
        .collect();
    FieldSelector::parse(&terms.join(",")).unwrap_or_default()
}
