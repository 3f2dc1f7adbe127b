//! TokenRequest: `serviceaccounts/NAME/token`.

use coffer_api::field::{Error, Path};
use coffer_api::status::{Failure, GroupResource};
use k8s_openapi::api::authentication::v1::{
    BoundObjectReference, TokenRequest, TokenRequestStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::claims::{Binding, Bound, Issue};
use super::{Authority, liveness};
use crate::object::Resources;

/// How long a token lives that asks for no time, in seconds.
const DEFAULT_TOKEN_S: i64 = 3600;
/// Shortest and longest life, in seconds.
const LIFE_S: std::ops::RangeInclusive<i64> = 600..=(1 << 32);

/// Answers a request for a token of an account, by what the cache has.
///
/// # Errors
/// 404 for an account or bound object that is not there, 409 for another one of the same name,
/// 422 for a life out of range.
pub(super) fn create(
    authority: &Authority,
    resources: &Resources,
    (namespace, account): (&str, &str),
    mut request: TokenRequest,
    now: jiff::Timestamp,
) -> Result<TokenRequest, Failure> {
    if !authority.issues() {
        return Err(Failure::no_such_path());
    }
    let life_s = request.spec.expiration_seconds.unwrap_or(DEFAULT_TOKEN_S);
    request.spec.expiration_seconds = Some(life_s);
    validate(account, life_s)?;
    let found = meta_of(resources, "serviceaccounts", namespace, account)?;
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
        life_s,
    };
    let token = authority.issue(&issue).map_err(Failure::internal)?;
    let end = jiff::Timestamp::from_second(now.as_second().saturating_add(life_s))
        .map_err(Failure::internal)?;
    request.metadata = ObjectMeta {
        name: Some(account.to_owned()),
        namespace: Some(namespace.to_owned()),
        creation_timestamp: Some(crate::registry::now()),
        ..Default::default()
    };
    // The answer is the one place where a token is meant to be written out.
    let token = token.as_str().to_owned();
    request.status = Some(TokenRequestStatus { expiration_timestamp: Time(end), token });
    Ok(request)
}

fn validate(account: &str, life_s: i64) -> Result<(), Failure> {
    if LIFE_S.contains(&life_s) {
        return Ok(());
    }
    let path = Path::new("spec").child("expirationSeconds");
    let why = if life_s < *LIFE_S.start() {
        "may not specify a duration less than 10 minutes"
    } else {
        "may not specify a duration larger than 2^32 seconds"
    };
    let error = Error::invalid(&path, life_s, why);
    Err(Failure::invalid("authentication.k8s.io", "TokenRequest", account, &vec![error]))
}

fn meta_of(
    resources: &Resources,
    plural: &'static str,
    namespace: &str,
    name: &str,
) -> Result<ObjectMeta, Failure> {
    liveness::metadata(resources, plural, namespace, name)
        .ok_or_else(|| Failure::not_found(GroupResource { group: "", resource: plural }, name))
}

/// Looks up what the token is to be bound to.
fn bind(
    resources: &Resources,
    (namespace, account): (&str, &str),
    reference: &BoundObjectReference,
) -> Result<Binding, Failure> {
    let kind = reference.kind.as_deref().unwrap_or_default();
    let version = reference.api_version.as_deref().unwrap_or_default();
    let name = reference.name.as_deref().unwrap_or_default();
    if version != "v1" {
        return Err(cannot_bind(version, kind));
    }
    match kind {
        "Pod" => {
            let (bound, pod) = bind_pod(resources, (namespace, account), name)?;
            same(reference, &bound)?;
            let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
            let node = liveness::metadata(resources, "nodes", "", &node)
                .map(|meta| Bound { name: node, uid: meta.uid.unwrap_or_default() });
            Ok(Binding::Pod(bound, node))
        }
        "Secret" => {
            let meta = meta_of(resources, "secrets", namespace, name)?;
            let bound = Bound { name: name.to_owned(), uid: meta.uid.unwrap_or_default() };
            same(reference, &bound)?;
            Ok(Binding::Secret(bound))
        }
        "Node" => {
            let meta = meta_of(resources, "nodes", "", name)?;
            let bound = Bound { name: name.to_owned(), uid: meta.uid.unwrap_or_default() };
            same(reference, &bound)?;
            Ok(Binding::Node(bound))
        }
        other => Err(cannot_bind(version, other)),
    }
}

fn cannot_bind(api_version: &str, kind: &str) -> Failure {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Failure::bad_request(format!(
        "cannot bind token to object of type {group}/{version}, Kind={kind}"
    ))
}

fn bind_pod(
    resources: &Resources,
    (namespace, account): (&str, &str),
    name: &str,
) -> Result<(Bound, Pod), Failure> {
    let missing = || Failure::not_found(GroupResource { group: "", resource: "pods" }, name);
    let pods = resources.find("", "v1", "pods").ok_or_else(missing)?;
    let found = pods.shard().get(&pods.key(namespace, name)).ok_or_else(missing)?;
    let pod: Pod = serde_json::from_slice(&found.bytes)
        .map_err(|_| Failure::internal("the stored pod cannot be read"))?;
    let own = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    if own != Some(account) {
        return Err(Failure::bad_request(format!(
            "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
        )));
    }
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    Ok((Bound { name: name.to_owned(), uid }, pod))
}

/// 409 where the client means an earlier object of the same name.
fn same(reference: &BoundObjectReference, bound: &Bound) -> Result<(), Failure> {
    let wanted = reference.uid.as_deref().unwrap_or_default();
    if wanted.is_empty() || wanted == bound.uid {
        return Ok(());
    }
    let plural = format!("{}s", reference.kind.as_deref().unwrap_or_default().to_lowercase());
    let why = format!(
        "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
    );
    Err(Failure::conflict(GroupResource { group: "", resource: &plural }, &bound.name, &why))
}
