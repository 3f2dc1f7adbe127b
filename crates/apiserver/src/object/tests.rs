//! No kind is served without what the server needs to know of it.

use coffer_api::Document;
use coffer_api::kinds::KindInfo;
use coffer_api::schema::fit::Scalar;
use coffer_api::schema::{self, Schema, Shape};
use coffer_api::subresource::SubresourceName;
use serde_json::{Map, Value, json};

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

#[test]
fn a_kind_makes_pods_if_it_is_pods_or_has_a_template() {
    let resources = Resources::all();
    let making = resources.iter().filter(|resource| resource.makes_pods());
    let kinds: Vec<_> = making.map(|resource| resource.info.kind).collect();
    for resource in resources.iter() {
        let has = empty(resource).pod_template().is_some();
        let kind = resource.info.kind;
        assert_eq!(kinds.contains(&kind), has || kind == "Pod", "{kind}");
    }
}

/// A kind that holds secrets and does not say so would be written to the disk as it is.
#[test]
fn secrets_and_no_other_kind_are_sealed() {
    assert_eq!(Resources::all().sealed_prefixes(), ["/registry/secrets/"]);
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

/// A value that has all that a schema describes, and the places of the times in it.
fn filled(schema: Schema, place: &str, times: &mut Vec<String>) -> Value {
    match schema.shape() {
        Shape::Struct => {
            let fields = schema.fields();
            let fields = fields.map(|(name, field)| {
                (name.to_owned(), filled(field, &format!("{place}/{name}"), times))
            });
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Shape::Map(inner) => json!({ "k": filled(inner, &format!("{place}/k"), times) }),
        Shape::List(inner, _) => json!([filled(inner, &format!("{place}/0"), times)]),
        Shape::Any => json!({ "f:a": {} }),
        Shape::Scalar => match schema.scalar() {
            Some(Scalar::Time | Scalar::MicroTime) => {
                times.push(place.to_owned());
                "2026-01-02T03:04:05Z".into()
            }
            Some(Scalar::Int(_)) => 7.into(),
            Some(Scalar::Float) => 0.5.into(),
            Some(Scalar::Bool) => true.into(),
            Some(Scalar::Bytes) => "c2VjcmV0".into(),
            _ => "7".into(),
        },
    }
}

/// Of every kind an object with all fields, and the places of its times.
fn all_filled() -> Vec<(std::sync::Arc<Resource>, Value, Vec<String>)> {
    let fill = |resource: &std::sync::Arc<Resource>| {
        let (version, kind) = (resource.info.api_version(), resource.info.kind);
        let schema = schema::of(&version, kind).expect(kind);
        let mut times = Vec::new();
        let mut object = filled(schema, "", &mut times);
        (object["apiVersion"], object["kind"]) = (version.into(), kind.into());
        (resource.clone(), object, times)
    };
    Resources::all().iter().map(fill).collect()
}

fn set(object: &Value, places: &[String], time: &str) -> Document {
    let mut object = object.clone();
    for place in places {
        *object.pointer_mut(place).expect("a place in the object") = time.into();
    }
    Document::new(object)
}

/// Decoded they were, and stored as a text that nothing reads: the object could not be deleted any more,
/// and if it was a pod's status the server could not start.
#[test]
fn a_time_before_the_year_0_is_refused_in_every_field_of_every_kind() {
    let mut count = 0;
    for (resource, object, times) in all_filled() {
        let kind = resource.info.kind;
        assert!(resource.decode(&Document::new(object.clone())).is_ok(), "{kind}");
        // Every object has two times of its own, and those of its managers.
        assert!(times.len() >= 3, "{kind}");
        for place in times {
            let document = set(&object, std::slice::from_ref(&place), "-000001-01-01T00:00:00Z");
            let error = resource.decode(&document).err();
            let error = error.unwrap_or_else(|| panic!("{kind} {place}")).to_string();
            assert!(error.starts_with("parsing time as \"2006-01-02T15:04:05"), "{error}");
            let shown = place.trim_start_matches('/').replace("/0", "[0]").replace('/', ".");
            assert!(
                error.ends_with(&format!("\": cannot parse as \"2006\" (at {shown})")),
                "{error}"
            );
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

/// Whatever time is taken: what is stored is read again, by the server and within a list or a watch.
#[test]
fn what_is_decoded_is_encoded_so_that_it_is_decoded_again() {
    let texts = [
        "0000-01-01T00:00:00Z",
        "0000-01-01T00:00:00+00:01",
        "0000-01-01T00:00:00-23:59",
        "0001-01-01T00:00:00Z",
        "0999-12-31T23:59:59.999999999Z",
        "2016-12-31T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00.123456789-05:00",
        "9999-12-30T22:00:00.999999999Z",
        "9999-12-31T23:59:59Z",
        "10000-01-01T00:00:00Z",
        "+002026-01-01T00:00:00Z",
        "-000000-01-01T00:00:00Z",
        "-009999-01-02T01:59:59Z",
        "\u{2212}000001-01-01T00:00:00Z",
        "",
    ];
    let mut taken = 0;
    for (resource, object, times) in all_filled() {
        for text in texts {
            let kind = resource.info.kind;
            let Ok(decoded) = resource.decode(&set(&object, &times, text)) else { continue };
            taken += 1;
            let bytes = decoded.encode();
            let again = resource.parse(&bytes).unwrap_or_else(|_| panic!("{kind} {text}"));
            assert_eq!(*again.encode(), *bytes, "{kind} {text}");
            let bytes = std::str::from_utf8(&bytes).expect("JSON");
            for envelope in [format!("{{\"items\":[{bytes}]}}"), format!("{{\"object\":{bytes}}}")]
            {
                assert!(serde_json::from_str::<Value>(&envelope).is_ok(), "{kind} {text}");
            }
        }
    }
    assert!(taken > 100, "{taken}");
}
