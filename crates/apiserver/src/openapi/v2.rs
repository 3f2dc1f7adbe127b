//! The version 2 document: definitions from the schemas, paths from the table of kinds.

use coffer_api::kinds;
use coffer_api::schema::{self, Definitions, Gvk};
use serde_json::{Map, Value, json};

use super::operations::{self, Names};
use crate::reviews;

/// The whole document.
pub(super) fn document() -> Value {
    let Definitions { mut schemas, kinds: names } = schema::definitions();
    schemas.values_mut().for_each(fit);
    let names = DefinitionNames(names);
    let mut paths: Map<String, Value> =
        kinds::ALL.iter().flat_map(|info| operations::paths(info, &names)).collect();
    paths.extend(reviews::ALL.iter().filter_map(|review| operations::review(review, &names)));
    add_discovery(&mut paths);
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": "v1.33.0" },
        "paths": paths,
        "definitions": schemas,
    })
}

struct DefinitionNames(Vec<(String, Gvk)>);

impl Names for DefinitionNames {
    fn definition(&self, group: &str, version: &str, kind: &str) -> Option<String> {
        let api_version =
            if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let is_it = |gvk: &Gvk| gvk.api_version == api_version && gvk.kind == kind;
        self.0.iter().find(|(_, gvk)| is_it(gvk)).map(|(name, _)| name.clone())
    }
}

/// Turns what JSON Schema can say and OpenAPI 2 cannot into what upstream says instead.
fn fit(definition: &mut Value) {
    if definition.get("x-kubernetes-int-or-string").is_some() {
        let fields = definition.as_object_mut().expect("it has a member");
        fields.remove("x-kubernetes-int-or-string");
        fields.insert("type".to_owned(), json!("string"));
        // Of the two, upstream calls only IntOrString by its format.
        if fields["description"].as_str().is_some_and(|text| text.starts_with("IntOrString")) {
            fields.insert("format".to_owned(), json!("int-or-string"));
        }
    } else if definition.get("type").is_none() {
        definition["type"] = json!("object");
    }
}

fn add_discovery(paths: &mut Map<String, Value>) {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let mut add = |path: String, definition: String, id: &str, description: &str| {
        paths.insert(path, operations::discovery(&definition, id, description));
    };
    add(
        "/api/".to_owned(),
        format!("{META}.APIVersions"),
        "getCoreAPIVersions",
        "get available API versions",
    );
    add(
        "/apis/".to_owned(),
        format!("{META}.APIGroupList"),
        "getAPIVersions",
        "get available API versions",
    );
    add(
        "/version/".to_owned(),
        "io.k8s.apimachinery.pkg.version.Info".to_owned(),
        "getCodeVersion",
        "get the version information for this server",
    );
    let of_reviews = reviews::ALL.iter().map(|review| (review.group, reviews::VERSION));
    for (group, version) in
        kinds::ALL.iter().map(|info| (info.group, info.version)).chain(of_reviews)
    {
        let prefix = operations::prefix(group, version);
        let id = format!("get{}APIResources", prefix.replace(['/', '.'], ""));
        let list = format!("{META}.APIResourceList");
        add(format!("{prefix}/"), list, &id, "get available resources");
        if !group.is_empty() {
            let id = format!("get{}APIGroup", group.replace('.', ""));
            let path = format!("/apis/{group}/");
            add(path, format!("{META}.APIGroup"), &id, "get information of a group");
        }
    }
}
