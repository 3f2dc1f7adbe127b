//! TokenRequest: `serviceaccounts/NAME/token`.

use coffer_api::field::{Error, Path};
use coffer_api::kinds::{Node, Pod, Secret, ServiceAccount};
use coffer_api::status::{Failure, GroupResource};
use k8s_openapi::api::authentication::v1::{
    BoundObjectReference, TokenRequest, TokenRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::Authority;
use super::claims::{Binding, Bound, Issue};
use super::liveness::{self, Life};
use crate::object::{Resource, Resources, metadata};

/// The default lifetime of tokens, in seconds.
const DEFAULT_TOKEN_S: i64 = 3600;
/// Shortest and longest lifetime, in seconds.
const LIFETIME_S: std::ops::RangeInclusive<i64> = 600..=(1 << 32);

/// Issues a token of an account, by what the cache has. A dry run returns none: upstream gives one, but
/// what is not done cannot be used. A token lives `max_s` seconds at
/// most; one that asked for more comes with a warning.
///
/// # Errors
/// 404 for an account or bound object that does not exist, 409 for another one of the same name,
/// 422 for another account's name in the body and for a lifetime out of range.
pub(crate) fn create(
    authority: &Authority,
    resources: &Resources,
    (namespace, account): (&str, &str),
    mut request: TokenRequest,
    now: jiff::Timestamp,
    (dry_run, max_s): (bool, Option<i64>),
) -> Result<(TokenRequest, Option<String>), Failure> {
    if !authority.issues() {
        return Err(Failure::no_such_path());
    }
    let named = request.metadata.name.as_deref().unwrap_or_default();
    if !named.is_empty() && named != account {
        let path = Path::new("metadata").child("name");
        let why = "must match the service account name if specified";
        return Err(invalid(account, Error::invalid(&path, named, why)));
    }
    let found = life_of(resources.of::<ServiceAccount>(), namespace, account)?;
    let asked_s = request.spec.expiration_seconds.unwrap_or(DEFAULT_TOKEN_S);
    validate(asked_s)?;
    let lifetime_s = max_s.map_or(asked_s, |max_s| asked_s.min(max_s));
    request.spec.expiration_seconds = Some(lifetime_s);
    let warning = (lifetime_s < asked_s).then(|| {
        format!("requested expiration of {asked_s} seconds shortened to {lifetime_s} seconds")
    });
    let binding = match &request.spec.bound_object_ref {
        Some(reference) => Some(bind(resources, (namespace, account), reference)?),
        None => None,
    };
    if request.spec.audiences.is_empty() {
        request.spec.audiences.clone_from(&authority.audiences);
    }
    let uid = found.uid.unwrap_or_default();
    let issue = Issue {
        namespace,
        account: Bound { name: account.to_owned(), uid },
        binding,
        audiences: request.spec.audiences.clone(),
        now,
        lifetime_s,
    };
    let token = if dry_run {
        String::new()
    } else {
        // The response is the one place where a token is meant to be written out.
        authority.issue(&issue).map_err(Failure::internal)?.as_str().to_owned()
    };
    let end = jiff::Timestamp::from_second(now.as_second().saturating_add(lifetime_s))
        .map_err(Failure::internal)?;
    request.metadata = ObjectMeta {
        name: Some(account.to_owned()),
        namespace: Some(namespace.to_owned()),
        creation_timestamp: Some(crate::clock::now()),
        ..Default::default()
    };
    request.status = Some(TokenRequestStatus { expiration_timestamp: Time(end), token });
    Ok((request, warning))
}

fn invalid(name: &str, error: Error) -> Failure {
    Failure::invalid(
        coffer_api::well_known::api_group::AUTHENTICATION,
        "TokenRequest",
        name,
        &vec![error],
    )
}

fn validate(lifetime_s: i64) -> Result<(), Failure> {
    if LIFETIME_S.contains(&lifetime_s) {
        return Ok(());
    }
    let path = Path::new("spec").child("expirationSeconds");
    let why = if lifetime_s < *LIFETIME_S.start() {
        "may not specify a duration less than 10 minutes"
    } else {
        "may not specify a duration larger than 2^32 seconds"
    };
    // Upstream names no object here.
    Err(invalid("", Error::invalid(&path, lifetime_s, why)))
}

fn life_of(resource: &Resource, namespace: &str, name: &str) -> Result<Life, Failure> {
    liveness::life(resource, namespace, name)
        .ok_or_else(|| Failure::not_found(resource.group_resource(), name))
}

/// Looks up what the token is to be bound to.
fn bind(
    resources: &Resources,
    (namespace, account): (&str, &str),
    reference: &BoundObjectReference,
) -> Result<Binding, Failure> {
    let kind = reference.kind.as_deref().unwrap_or_default();
    let api_version = reference.api_version.as_deref().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let name = reference.name.as_deref().unwrap_or_default();
    match if group.is_empty() { kind } else { "" } {
        "Pod" => {
            let (bound, node) = bind_pod(resources, (namespace, account), name)?;
            same(reference, &bound)?;
            // A node that does not exist yet is named nevertheless.
            let node = node.map(|name| {
                let life = liveness::life(resources.of::<Node>(), "", &name);
                Bound { name, uid: life.and_then(|life| life.uid).unwrap_or_default() }
            });
            Ok(Binding::Pod(bound, node))
        }
        "Secret" => {
            let life = life_of(resources.of::<Secret>(), namespace, name)?;
            let bound = Bound { name: name.to_owned(), uid: life.uid.unwrap_or_default() };
            same(reference, &bound)?;
            Ok(Binding::Secret(bound))
        }
        "Node" => {
            let life = life_of(resources.of::<Node>(), "", name)?;
            let bound = Bound { name: name.to_owned(), uid: life.uid.unwrap_or_default() };
            same(reference, &bound)?;
            Ok(Binding::Node(bound))
        }
        _ => Err(Failure::bad_request(format!(
            "cannot bind token to object of type {group}/{version}, Kind={kind}"
        ))),
    }
}

/// A pod that runs as the account, and the node that it is bound to. It is not read but for its uid.
fn bind_pod(
    resources: &Resources,
    (namespace, account): (&str, &str),
    name: &str,
) -> Result<(Bound, Option<String>), Failure> {
    let pods = resources.of::<Pod>();
    let missing = || Failure::not_found(pods.group_resource(), name);
    let found = pods.shard().get(&pods.key(namespace, name)).ok_or_else(missing)?;
    if found.field("spec.serviceAccountName").is_none_or(|own| own != account) {
        return Err(Failure::bad_request(format!(
            "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
        )));
    }
    let life: Life =
        metadata(&found.bytes).ok_or_else(|| Failure::internal("the stored pod cannot be read"))?;
    let node = found.field("spec.nodeName").filter(|node| !node.is_empty()).cloned();
    Ok((Bound { name: name.to_owned(), uid: life.uid.unwrap_or_default() }, node))
}

/// 409 where the client means an earlier object of the same name.
fn same(reference: &BoundObjectReference, bound: &Bound) -> Result<(), Failure> {
    let wanted = reference.uid.as_deref().unwrap_or_default();
    if wanted.is_empty() || wanted == bound.uid {
        return Ok(());
    }
    let why = format!(
        "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
    );
    // The kind, not the resource, as upstream has it here.
    let kind = reference.kind.as_deref().unwrap_or_default();
    Err(Failure::conflict(GroupResource { group: "", resource: kind }, &bound.name, &why))
}
