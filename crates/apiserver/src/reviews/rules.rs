//! All that the caller may do in a namespace: what `kubectl auth can-i --list` shows.

use std::collections::HashSet;

use coffer_api::status::Failure;
use k8s_openapi::api::authorization::v1::{
    NonResourceRule, ResourceRule, SelfSubjectRulesReview, SubjectRulesReviewStatus,
};

use super::ReviewBody;
use crate::authz::{Authorizer, aggregate};
use crate::clock::now;
use crate::identity::Identity;

/// Rules that are shown, each once: a role's worth and some more. The response says where it ends early.
const RULES_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(crate) fn of_caller(
    authorizer: &Authorizer,
    asked: &ReviewBody<'_>,
    who: &Identity,
) -> Result<SelfSubjectRulesReview, Failure> {
    let mut review: SelfSubjectRulesReview = asked.decode()?;
    let namespace = review.spec.namespace.clone().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Failure::bad_request("no namespace on request"));
    }
    let (rules, errors) = authorizer.roles.rules_for(who, &namespace);
    let mut complaints: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let is_node = who.node().is_some();
    if is_node {
        complaints.push("node authorizer does not support user rule resolution".to_owned());
    }
    let mut status = SubjectRulesReviewStatus::default();
    let (mut seen, mut bytes): (HashSet<Vec<u8>>, usize) = Default::default();
    for rule in rules.iter().flat_map(|role| &role.rules) {
        let text = serde_json::to_vec(rule).map_err(Failure::internal)?;
        let length = text.len();
        if !seen.insert(text) {
            continue;
        }
        bytes += length;
        if bytes > RULES_BYTES_MAX {
            complaints.push(format!("only {RULES_BYTES_MAX} bytes of rules are shown"));
            break;
        }
        let rule = rule.clone();
        if rule.resources.as_ref().is_some_and(|resources| !resources.is_empty()) {
            status.resource_rules.push(ResourceRule {
                verbs: rule.verbs.clone(),
                api_groups: rule.api_groups,
                resources: rule.resources,
                resource_names: rule.resource_names,
            });
        }
        if rule.non_resource_urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
            let (verbs, non_resource_urls) = (rule.verbs, rule.non_resource_urls);
            status.non_resource_rules.push(NonResourceRule { verbs, non_resource_urls });
        }
    }
    status.incomplete = !complaints.is_empty();
    status.evaluation_error = status.incomplete.then(|| aggregate(&complaints));
    review.metadata.creation_timestamp = Some(now());
    review.status = Some(status);
    Ok(review)
}
