//! No kind is served without what the server needs to know of it.

use coffer_api::kinds::KindInfo;
use coffer_api::schema;
use coffer_api::subresource::SubresourceName;
use serde_json::json;

use super::{Object, Resource, Resources};
use crate::scale;

/// The least that is an object of a kind.
fn empty(resource: &Resource) -> Box<dyn Object> {
    let json = json!({
        "apiVersion": resource.stored_info().api_version(),
        "kind": resource.stored_info().kind,
        "metadata": { "name": "x" },
    });
    resource.parse(json.to_string().as_bytes()).expect("all other fields may be left out")
}

#[test]
fn a_kind_with_a_scale_subresource_has_a_scale_and_takes_a_replica_count() {
    let mut scaled = Vec::new();
    for resource in Resources::all().iter() {
        let info: &KindInfo = resource.info;
        let mut object = empty(resource);
        if info.subresource(SubresourceName::Scale).is_none() {
            assert!(scale::of(&*object).is_err(), "{} has a scale that is not served", info.kind);
            continue;
        }
        scaled.push(info.kind);
        let mut wanted = scale::of(&*object).unwrap_or_else(|_| panic!("{}", info.kind));
        wanted.spec.get_or_insert_default().replicas = Some(7);
        scale::set(&mut *object, &wanted, resource).unwrap_or_else(|_| panic!("{}", info.kind));
        let spec = scale::of(&*object).expect("as above").spec.expect("it has been set");
        assert_eq!(spec.replicas, Some(7), "{}", info.kind);
    }
    assert_eq!(scaled, ["ReplicationController", "Deployment", "ReplicaSet"]);
}

/// Without a schema a body's unknown and duplicate fields would go unseen.
#[test]
fn every_kind_that_is_read_from_a_body_has_a_schema() {
    let resources = Resources::all();
    let kinds = resources.iter().map(|resource| (resource.info.api_version(), resource.info.kind));
    let subresources = resources.iter().flat_map(|resource| {
        resource.info.subresources.iter().map(|sub| {
            let group = KindInfo { group: sub.group, version: sub.version, ..*resource.info };
            (group.api_version(), sub.kind)
        })
    });
    let reviews = crate::reviews::ALL
        .iter()
        .map(|review| (format!("{}/{}", review.group, crate::reviews::VERSION), review.kind));
    for (version, kind) in kinds.chain(subresources).chain(reviews) {
        // What a GET of a pod's log or a tunnel returns is not an object.
        if kind.ends_with("Options") && kind != "DeleteOptions" {
            continue;
        }
        assert!(schema::of(&version, kind).is_some(), "{version} {kind}");
    }
}
