//! What is served: groups, versions, resources; and the server's version.

use coffer_api::kinds::KindInfo;
use coffer_api::status::Failure;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::object::Resources;
use crate::respond::{self, Response};
use crate::reviews::{self, Review};

/// The Kubernetes minor version whose API is served.
const MINOR: &str = "33";
/// Verbs of a stored resource, in discovery's order.
const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The verbs of a kind.
fn verbs(info: &KindInfo) -> Vec<&'static str> {
    VERBS
        .into_iter()
        .filter(|verb| *verb != "deletecollection" || info.deletion.by_collection)
        .chain(info.extra_verbs.iter().copied())
        .collect()
}

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0+coffer-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    })
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The document at a discovery path; `None` for any other path.
///
/// # Errors
/// 404 for a group or version that is not served.
pub(crate) fn document(resources: &Resources, path: &str) -> Option<Result<Value, Failure>> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    Some(match parts.as_slice() {
        ["api"] => Ok(json!({
            "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [],
        })),
        ["apis"] => Ok(json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": groups(resources).into_iter().map(group).collect::<Vec<_>>(),
        })),
        ["apis", name] => groups(resources)
            .into_iter()
            .find(|(found, _)| found == name)
            .map(|found| {
                let mut value = group(found);
                value["kind"] = "APIGroup".into();
                value["apiVersion"] = "v1".into();
                value
            })
            .ok_or_else(Failure::no_such_path),
        ["api", version] => resource_list(resources, "", version),
        ["apis", group, version] => resource_list(resources, group, version),
        _ => return None,
    })
}

/// Named groups with their versions, in the order of the table of kinds.
fn groups(resources: &Resources) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for info in resources.iter().map(|resource| resource.info) {
        if info.group.is_empty() {
            continue;
        }
        match all.iter_mut().find(|(group, _)| *group == info.group) {
            Some((_, versions)) if versions.contains(&info.version) => {}
            Some((_, versions)) => versions.push(info.version),
            None => all.push((info.group, vec![info.version])),
        }
    }
    for review in &reviews::ALL {
        if !all.iter().any(|(group, _)| *group == review.group) {
            all.push((review.group, vec![reviews::VERSION]));
        }
    }
    all
}

fn group((name, versions): (&str, Vec<&str>)) -> Value {
    let version = |version: &&str| {
        json!({
            "groupVersion": format!("{name}/{version}"), "version": version,
        })
    };
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({ "name": name, "preferredVersion": all[0], "versions": all })
}

fn resource_list(resources: &Resources, group: &str, version: &str) -> Result<Value, Failure> {
    let served = resources
        .iter()
        .map(|resource| resource.info)
        .filter(|info| info.group == group && info.version == version);
    let reviews = reviews::of(group, version).map(Review::api_resource);
    let mut all: Vec<Value> = served.flat_map(api_resources).chain(reviews).collect();
    if all.is_empty() {
        return Err(Failure::no_such_path());
    }
    all.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": all,
    }))
}

fn api_resources(info: &KindInfo) -> Vec<Value> {
    let mut main = json!({
        "name": info.plural, "singularName": info.singular, "namespaced": info.namespaced,
        "kind": info.kind, "verbs": verbs(info),
    });
    if !info.short_names.is_empty() {
        main["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        main["categories"] = json!(info.categories);
    }
    let below = info.subresources.iter().map(|sub| {
        let mut value = json!({
            "name": format!("{}/{}", info.plural, sub.name), "singularName": "",
            "namespaced": info.namespaced, "kind": sub.kind, "verbs": sub.verbs,
        });
        if (sub.group, sub.version) != (info.group, info.version) {
            value["group"] = sub.group.into();
            value["version"] = sub.version.into();
        }
        value
    });
    std::iter::once(main).chain(below).collect()
}

/// `/`: the paths there are.
pub(crate) fn paths(resources: &Resources) -> Value {
    let mut all = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, versions) in groups(resources) {
        all.push(format!("/apis/{group}"));
        all.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    all.extend(
        ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned),
    );
    json!({ "paths": all })
}

/// Aggregated discovery, for a client that asks for it at `/api` or `/apis`; with a hash, because
/// kubectl keeps what it got and asks whether it is still so.
pub(crate) fn aggregated(
    resources: &Resources,
    path: &str,
    headers: &HeaderMap,
) -> Option<Response> {
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    let version = aggregated_version(path, accept)?;
    let document = aggregate(resources, path, version).to_string();
    let digest = ring::digest::digest(&ring::digest::SHA256, document.as_bytes());
    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let etag = HeaderValue::from_str(&format!("\"{hash}\"")).ok()?;
    let mut response = match headers.get(IF_NONE_MATCH) {
        Some(known) if *known == etag => {
            let mut unchanged = Response::new(respond::full(bytes::Bytes::new()));
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        }
        _ => {
            let media = match version {
                "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
            };
            respond::typed(StatusCode::OK, media, respond::full(document))
        }
    };
    let to = response.headers_mut();
    to.insert(ETAG, etag);
    to.insert(VARY, HeaderValue::from_static("Accept"));
    to.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    Some(response)
}

/// The version of aggregated discovery that the client takes first.
fn aggregated_version(path: &str, accept: &str) -> Option<&'static str> {
    if !matches!(path, "/api" | "/apis") {
        return None;
    }
    accept.split(',').find_map(|alternative| {
        let parts: Vec<&str> = alternative.split(';').map(str::trim).collect();
        let whole = parts.first() == Some(&"application/json")
            && parts.contains(&"as=APIGroupDiscoveryList")
            && parts.contains(&"g=apidiscovery.k8s.io");
        let version = ["v2", "v2beta1"].into_iter().find(|it| parts.contains(&&*format!("v={it}")));
        version.filter(|_| whole)
    })
}

/// Everything below `/api` or `/apis` in one document.
fn aggregate(resources: &Resources, path: &str, version: &str) -> Value {
    let groups = if path == "/api" { vec![("", vec!["v1"])] } else { groups(resources) };
    let items: Vec<Value> = groups
        .into_iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|version| {
                    let served = resources.iter().map(|resource| resource.info);
                    let served =
                        served.filter(|info| info.group == group && info.version == version);
                    json!({
                        "version": version, "freshness": "Current",
                        "resources": served
                            .map(discovered)
                            .chain(reviews::of(group, version).map(Review::discovered))
                            .collect::<Vec<_>>(),
                    })
                })
                .collect();
            let name = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
            json!({ "metadata": name, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn discovered(info: &KindInfo) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let below: Vec<Value> = info
        .subresources
        .iter()
        .map(|sub| {
            json!({
                "subresource": sub.name.as_str(), "verbs": sub.verbs,
                "responseKind": kind(sub.group, sub.version, sub.kind),
            })
        })
        .collect();
    json!({
        "resource": info.plural, "singularResource": info.singular, "verbs": verbs(info),
        "responseKind": kind(info.group, info.version, info.kind),
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "shortNames": info.short_names, "categories": info.categories, "subresources": below,
    })
}
