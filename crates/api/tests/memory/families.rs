//! Bodies that cost more than they look: by hand, each with the thing that there is too much of.

use coffer_api::patch::PatchKind;
use serde_json::{Value, json};

use crate::pods::{Change, Media, stored};

/// A body that creates a pod.
pub(crate) struct Body {
    pub(crate) family: String,
    pub(crate) media: Media,
    pub(crate) bytes: Vec<u8>,
}

/// A body that changes one.
pub(crate) struct Patch {
    pub(crate) family: &'static str,
    pub(crate) change: Change,
    /// The pod as it is stored.
    pub(crate) live: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

/// Every family, with bodies of about so many bytes.
pub(crate) fn all(size: usize) -> Vec<Body> {
    let mut all = objects(size);
    all.extend(texts(size));
    all.extend(yaml(size));
    all.extend(protobuf(size));
    all
}

fn container(fields: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","image":"i",{fields}}}]}}}}"#
    )
}

/// `before`, as many items with commas as the size allows, `after`.
fn filled(size: usize, before: &str, after: &str, item: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = before.to_owned();
    for number in 0.. {
        let comma = if number == 0 { "" } else { "," };
        let next = item(number);
        if text.len() + next.len() + after.len() >= size {
            break;
        }
        text.push_str(comma);
        text.push_str(&next);
    }
    text.push_str(after);
    text.into_bytes()
}

/// A pod with a list or a map full of small items.
fn objects(size: usize) -> Vec<Body> {
    let json = |family: &str, place: &str, item: &dyn Fn(usize) -> String| {
        let (before, after) = place.split_once('…').expect("a place has a gap");
        let bytes = filled(size, before, after, item);
        Body { family: family.to_owned(), media: Media::Json, bytes }
    };
    let env = container(r#""env":[…]"#);
    let pod = |fields: &str| {
        format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","image":"i"}}],{fields}}}}}"#
        )
    };
    let meta = |fields: &str| {
        format!(
            r#"{{"metadata":{{"name":"p",{fields}}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}"#
        )
    };
    vec![
        json("env: names", &env, &|n| format!(r#"{{"name":"A{n:05}"}}"#)),
        json("env: one name", &env, &|_| r#"{"name":"A"}"#.to_owned()),
        json("env: empty", &env, &|_| "{}".to_owned()),
        json("env: null", &env, &|_| "null".to_owned()),
        json("env: values", &env, &|n| format!(r#"{{"name":"A{n:05}","value":"{n}"}}"#)),
        json("env: $(VAR) of itself", &env, &|_| r#"{"name":"A","value":"$(A)$(A)"}"#.to_owned()),
        json("env: secrets", &env, &|n| {
            format!(r#"{{"name":"A{n}","valueFrom":{{"secretKeyRef":{{"name":"s","key":"k"}}}}}}"#)
        }),
        json("env: fields", &env, &|n| {
            format!(r#"{{"name":"A{n}","valueFrom":{{"fieldRef":{{"fieldPath":"x"}}}}}}"#)
        }),
        json("envFrom: empty", &container(r#""envFrom":[…]"#), &|_| "{}".to_owned()),
        json("args: empty", &container(r#""args":[…]"#), &|_| r#""""#.to_owned()),
        json("ports", &container(r#""ports":[…]"#), &|n| {
            format!(r#"{{"containerPort":{}}}"#, n % 65_000 + 1)
        }),
        json("volumeMounts", &container(r#""volumeMounts":[…]"#), &|n| {
            format!(r#"{{"name":"v","mountPath":"/{n}"}}"#)
        }),
        json("limits", &container(r#""resources":{"limits":{…}}"#), &|n| {
            format!(r#""x.y/{n}":"1""#)
        }),
        json("containers", r#"{"metadata":{"name":"p"},"spec":{"containers":[…]}}"#, &|n| {
            format!(r#"{{"name":"c{n}","image":"i"}}"#)
        }),
        json("containers: empty", r#"{"spec":{"containers":[…]}}"#, &|_| "{}".to_owned()),
        json("volumes", &pod(r#""volumes":[…]"#), &|n| format!(r#"{{"name":"v{n}"}}"#)),
        json("volumes: empty", &pod(r#""volumes":[…]"#), &|_| "{}".to_owned()),
        json("tolerations: empty", &pod(r#""tolerations":[…]"#), &|_| "{}".to_owned()),
        json("schedulingGates", &pod(r#""schedulingGates":[…]"#), &|n| {
            format!(r#"{{"name":"g{n}"}}"#)
        }),
        json(
            "affinity: empty",
            &pod(
                r#""affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[…]}}}"#,
            ),
            &|_| "{}".to_owned(),
        ),
        json("annotations", &meta(r#""annotations":{…}"#), &|n| format!(r#""a{n}":"""#)),
        json("labels", &meta(r#""labels":{…}"#), &|n| format!(r#""a{n}":"""#)),
        json("finalizers", &meta(r#""finalizers":[…]"#), &|n| format!(r#""x/{n}""#)),
        json("ownerReferences: empty", &meta(r#""ownerReferences":[…]"#), &|_| "{}".to_owned()),
        json("managedFields: empty", &meta(r#""managedFields":[…]"#), &|_| "{}".to_owned()),
        json(
            "managedFields: one large",
            &meta(
                r#""managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{…}}]"#,
            ),
            &|n| format!(r#""f:{n}":{{}}"#),
        ),
        json(
            "managedFields: keys",
            &meta(
                r#""managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{…}}]"#,
            ),
            &|n| format!(r#""k:{{\"a\":{n}}}":{{".":{{}}}}"#),
        ),
        json("unknown fields: one", &meta(r#""x":[…]"#), &|_| r#"{"":0}"#.to_owned()),
        json("unknown fields: many", &meta(r#""x":{},…"#), &|n| format!(r#""x{n}":0"#)),
        json("unknown fields: in items", &env, &|_| r#"{"x":0}"#.to_owned()),
        json("duplicate fields", &meta(r#""x":{},…"#), &|_| r#""name":"p""#.to_owned()),
        json("duplicate fields: in items", &env, &|_| r#"{"name":"A","name":"A"}"#.to_owned()),
        json("conditions: empty", r#"{"status":{"conditions":[…]}}"#, &|_| "{}".to_owned()),
        json("zeros", r#"{"x":[…]}"#, &|_| "0".to_owned()),
        json("empty lists", r#"{"x":[…]}"#, &|_| "[]".to_owned()),
    ]
}

/// Long texts, and texts that are hard to read.
fn texts(size: usize) -> Vec<Body> {
    let json = |family: &str, value: &Value| Body {
        family: family.to_owned(),
        media: Media::Json,
        bytes: value.to_string().into_bytes(),
    };
    let long = "x".repeat(size);
    let pod = |container: Value| json!({ "metadata": { "name": "p" }, "spec": { "containers": [container] } });
    let nested = |open: &str, close: &str| {
        let depth = size / (open.len() + close.len());
        let text = format!(r#"{{"x":{}0{}}}"#, open.repeat(depth), close.repeat(depth));
        Body { family: format!("nested {open}"), media: Media::Json, bytes: text.into_bytes() }
    };
    vec![
        json(
            "a long value",
            &pod(json!({
                "name": "c", "image": "i", "env": [{ "name": "A", "value": long }],
            })),
        ),
        json(
            "a long value of $(A)",
            &pod(json!({
                "name": "c", "image": "i", "env": [{ "name": "A", "value": "$(A)".repeat(size / 4) }],
            })),
        ),
        json("a long name", &pod(json!({ "name": long, "image": "i" }))),
        json("a long image", &pod(json!({ "name": "c", "image": long }))),
        json(
            "a long quantity",
            &pod(json!({
                "name": "c", "image": "i", "resources": { "limits": { "cpu": "9".repeat(size) } },
            })),
        ),
        json("a long key", &json!({ long.as_str(): 0 })),
        json("quotes", &pod(json!({ "name": "\"".repeat(size / 2), "image": "\\".repeat(16) }))),
        json("control characters", &pod(json!({ "name": "\u{1}".repeat(size / 6), "image": "i" }))),
        nested("[", "]"),
        nested(r#"{"":"#, "}"),
    ]
}

fn yaml(size: usize) -> Vec<Body> {
    let yaml = |family: &str, bytes: Vec<u8>| Body {
        family: format!("YAML: {family}"),
        media: Media::Yaml,
        bytes,
    };
    let lines = |head: &str, line: &str| {
        let mut text = head.to_owned();
        text.push_str(&line.repeat((size - head.len()) / line.len()));
        text.into_bytes()
    };
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        let nine = format!("*a{before}, ").repeat(8);
        laughs.push_str(&format!("a{level}: &a{level} [{nine}*a{before}]\n"));
    }
    let containers =
        "metadata:\n  name: p\nspec:\n  containers:\n  - name: c\n    image: i\n    env:\n";
    vec![
        yaml("aliases of aliases", laughs.into_bytes()),
        yaml(
            "aliases of a long text",
            lines(&format!("a: &a {}\nb:\n", "x".repeat(size / 2)), "- *a\n"),
        ),
        yaml("merged keys", lines("a: &a {b: 0, c: 0, d: 0}\ne:\n", "- <<: *a\n")),
        yaml("env: names", lines(containers, "    - name: A\n")),
        yaml("env: empty", lines(containers, "    - {}\n")),
        yaml("empty items", lines("x:\n", "-\n")),
        yaml("flow", filled(size, "x: [", "]", |_| "[]".to_owned())),
        yaml("anchors", filled(size, "x: [", "]", |n| format!("&a{n} 0"))),
        yaml("documents", lines("x: 0\n", "---\n")),
    ]
}

/// The envelope of a protobuf body around a pod's message.
fn enveloped(pod: &[u8]) -> Vec<u8> {
    let type_meta = [field(1, b"v1"), field(2, b"Pod")].concat();
    [b"k8s\0".to_vec(), field(1, &type_meta), field(2, pod)].concat()
}

/// A field with a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut rest in [usize::from(number) << 3 | 2, content.len()] {
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes.extend_from_slice(content);
    bytes
}

/// Messages without content take two bytes each.
fn protobuf(size: usize) -> Vec<Body> {
    let body = |family: &str, pod: Vec<u8>| Body {
        family: format!("protobuf: {family}"),
        media: Media::Protobuf,
        bytes: enveloped(&pod),
    };
    let repeated = |number: u8, content: &[u8]| {
        let one = field(number, content);
        one.repeat(size / one.len())
    };
    let spec = |content: &[u8]| field(2, content);
    let container = |fields: &[u8]| {
        let named = [field(1, b"c"), field(2, b"i"), fields.to_vec()].concat();
        [field(1, &field(1, b"p")), spec(&field(2, &named))].concat()
    };
    vec![
        body("env: names", container(&repeated(7, &field(1, b"A00000")))),
        body("env: empty", container(&repeated(7, b""))),
        body("containers: empty", spec(&repeated(2, b""))),
        body("volumes: empty", spec(&repeated(1, b""))),
        body("args: empty", container(&repeated(4, b""))),
        body("tolerations: empty", spec(&repeated(22, b""))),
        body("unknown fields", repeated(15, b"")),
    ]
}

/// Patches of about so many bytes, of a small pod and of a large one.
pub(crate) fn patches(size: usize) -> Vec<Patch> {
    let variables = container(r#""env":[…]"#);
    let (before, after) = variables.split_once('…').expect("there is a gap");
    let large = filled(size / 8, before, after, |n| format!(r#"{{"name":"A{n:05}"}}"#));
    let of = |body: &[u8]| stored(Media::Json, body).expect("a good pod");
    let small = of(container(r#""args":["a"]"#).as_bytes());
    let large = of(&large);
    let patch = |family, change, live: &Vec<u8>, place: &str, item: &dyn Fn(usize) -> String| {
        let (before, after) = place.split_once('…').expect("a place has a gap");
        Patch { family, change, live: live.clone(), bytes: filled(size, before, after, item) }
    };
    let env = "/spec/containers/0/env";
    let (operations, merge, strategic) = (
        Change::Patch(PatchKind::Json),
        Change::Patch(PatchKind::Merge),
        Change::Patch(PatchKind::Strategic),
    );
    let spec = r#"{"spec":{"containers":[{"name":"c","image":"i","env":[…]}]}}"#;
    let intent = format!(r#"{{"apiVersion":"v1","kind":"Pod",{}"#, &container(r#""env":[…]"#)[1..]);
    let name = |n: usize| format!(r#"{{"name":"A{n:05}"}}"#);
    vec![
        patch("JSON patch: add", operations, &large, "[…]", &|n| {
            format!(r#"{{"op":"add","path":"{env}/0","value":{{"name":"B{n}"}}}}"#)
        }),
        patch("JSON patch: copy into itself", operations, &small, "[…]", &|n| {
            format!(r#"{{"op":"copy","from":"/spec","path":"/metadata/x{n}"}}"#)
        }),
        patch("JSON patch: an empty value", operations, &small, "[…]", &|_| "{}".to_owned()),
        patch(
            "JSON patch: one large value",
            operations,
            &small,
            r#"[{"op":"add","path":"/spec/containers/0/env","value":[…]}]"#,
            &name,
        ),
        patch("merge patch: names", merge, &large, spec, &name),
        patch("merge patch: empty", merge, &large, spec, &|_| "{}".to_owned()),
        patch("merge patch: null", merge, &large, r#"{"x":{…}}"#, &|n| format!(r#""{n}":null"#)),
        patch("strategic merge: names", strategic, &large, spec, &name),
        patch("strategic merge: the same names", strategic, &small, spec, &name),
        patch("strategic merge: deletions", strategic, &large, spec, &|n| {
            format!(r#"{{"$patch":"delete","name":"A{n:05}"}}"#)
        }),
        patch(
            "strategic merge: order",
            strategic,
            &large,
            r#"{"spec":{"containers":[{"name":"c","$setElementOrder/env":[…]}]}}"#,
            &name,
        ),
        patch("apply: names", Change::Apply, &large, &intent, &name),
        patch("apply: empty", Change::Apply, &large, &intent, &|_| "{}".to_owned()),
    ]
}
