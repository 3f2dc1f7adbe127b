use serde_json::{Value, json};

use super::PodTemplate;
use crate::kinds::Kind;
use crate::kinds::testing::{check_create, check_update, created, stored, updated, with};

fn template() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "n"},
        "template": {
            "metadata": {"labels": {"tier": "front", "app": "web"}},
            "spec": {"containers": [{"name": "a", "image": "nginx:1"}, {"name": "b", "image": "redis"}]},
        },
    })
}

#[test]
fn a_template_is_validated_when_it_is_created_and_when_it_is_updated() {
    let duplicate = json!([{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]);
    let rows = [
        ("", Value::Null, &[][..]),
        (
            "template.spec.containers",
            duplicate,
            &["template.spec.containers[1].name: Duplicate value: \"a\""][..],
        ),
        // No selector is there that the labels must match, and pods may end.
        ("template.spec.restartPolicy", json!("Never"), &[][..]),
        ("template.metadata", Value::Null, &[][..]),
        ("template", Value::Null, &["template.spec.containers: Required value"][..]),
    ];
    check_create::<PodTemplate>(&template(), &rows);
    check_update::<PodTemplate>(&template(), None, &rows);
}

#[test]
fn a_template_left_out_gets_the_defaults_of_an_empty_one() {
    let kind: PodTemplate = created(&with(&template(), "template", Value::Null));
    let spec = kind.template.as_ref().and_then(|template| template.spec.as_ref()).unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
}

#[test]
fn the_generation_counts_changes_of_the_template() {
    let old: PodTemplate = stored(&template());
    assert_eq!(old.metadata.generation, Some(1));
    let generation = |place: &str, value: Value| {
        updated(&old, &with(&template(), place, value), None).metadata.generation
    };
    assert_eq!(generation("metadata.labels", json!({"a": "b"})), Some(1));
    assert_eq!(generation("template.metadata.labels", json!({"a": "b"})), Some(2));
    assert_eq!(generation("template.spec.containers.0.image", json!("nginx:2")), Some(2));
}

#[test]
fn a_row_shows_the_containers_the_images_and_the_labels() {
    let row = |object: &Value| created::<PodTemplate>(object).cells(jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(row(&template()), ["web", "a,b", "nginx:1,redis", "app=web,tier=front"]);
    let bare = with(&template(), "template.metadata", Value::Null);
    assert_eq!(row(&bare), ["web", "a,b", "nginx:1,redis", "<none>"]);
}

#[test]
fn warnings_say_where() {
    let odd = with(&template(), "template.spec.imagePullSecrets", json!([{"name": ""}]));
    assert_eq!(
        created::<PodTemplate>(&odd).warnings(),
        ["template.spec.imagePullSecrets[0].name: invalid empty name \"\""]
    );
}
