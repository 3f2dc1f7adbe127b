//! Paths of version 2: every endpoint of every served kind, with the parameters it takes.
//!
//! kubectl looks here for more than documentation: a `patch` operation that lists `dryRun` and
//! `fieldValidation` tells it that the server does both, and `x-kubernetes-group-version-kind` at
//! an operation tells it of which kind the path is.

use coffer_api::kinds::{KindInfo, Subresource};
use coffer_api::schema::PREFIX;
use serde_json::{Map, Value, json};

use crate::reviews::{Review, VERSION};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const PATCH_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Which definition stands for a kind: `io.k8s.api.core.v1.Secret`.
pub(super) trait Names {
    fn definition(&self, group: &str, version: &str, kind: &str) -> Option<String>;
}

/// All paths of a kind.
pub(super) fn paths(info: &KindInfo, names: &impl Names) -> Vec<(String, Value)> {
    let Some(object) = names.definition(info.group, info.version, info.kind) else {
        return Vec::new();
    };
    let Some(list) = names.definition(info.group, info.version, info.list_kind) else {
        return Vec::new();
    };
    let KindInfo { group, version, kind, namespaced, .. } = *info;
    let endpoint = Endpoint { group, version, kind, namespaced, object };
    let collection = collection(group, version, info.plural, namespaced);
    let item = format!("{collection}/{{name}}");
    let mut paths = vec![(collection, endpoint.collection(&list)), (item.clone(), endpoint.item())];
    if namespaced {
        let everywhere = format!("{}/{}", prefix(group, version), info.plural);
        paths.push((everywhere, endpoint.everywhere(&list)));
    }
    for sub in info.subresources {
        if let Some(definition) = names.definition(sub.group, sub.version, sub.kind) {
            paths.push((format!("{item}/{}", sub.name), endpoint.subresource(sub, &definition)));
        }
    }
    paths
}

/// The one path of a review: created, evaluated, and not stored.
pub(super) fn review(review: &Review, names: &impl Names) -> Option<(String, Value)> {
    let Review { group, kind, namespaced, .. } = *review;
    let object = names.definition(group, VERSION, kind)?;
    let endpoint = Endpoint { group, version: VERSION, kind, namespaced, object };
    let item = json!({ "post": endpoint.create(), "parameters": endpoint.path_parameters(false) });
    Some((collection(group, VERSION, review.plural, namespaced), item))
}

fn collection(group: &str, version: &str, plural: &str, namespaced: bool) -> String {
    let scope = if namespaced { "/namespaces/{namespace}" } else { "" };
    format!("{}{scope}/{plural}", prefix(group, version))
}

/// `/api/v1` or `/apis/apps/v1`.
pub(super) fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// A path of discovery, which only has a GET.
pub(super) fn discovery(definition: &str, id: &str, description: &str) -> Value {
    json!({ "get": {
        "description": description,
        "operationId": id,
        "schemes": ["https"],
        "consumes": ["application/json", "application/yaml"],
        "produces": ["application/json", "application/yaml"],
        "responses": responses(definition, &["200"]),
    }})
}

/// A kind at its paths.
struct Endpoint {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    namespaced: bool,
    object: String,
}

/// What an operation does, as `x-kubernetes-action` and the operation's id say it.
struct Verb {
    action: &'static str,
    id: &'static str,
    description: &'static str,
}

const LIST: Verb =
    Verb { action: "list", id: "list", description: "list or watch objects of kind" };
const CREATE: Verb = Verb { action: "post", id: "create", description: "create a" };
const READ: Verb = Verb { action: "get", id: "read", description: "read the specified" };
const REPLACE: Verb = Verb { action: "put", id: "replace", description: "replace the specified" };
const PATCH: Verb =
    Verb { action: "patch", id: "patch", description: "partially update the specified" };
const DELETE: Verb = Verb { action: "delete", id: "delete", description: "delete a" };
const DELETE_ALL: Verb =
    Verb { action: "deletecollection", id: "delete", description: "delete collection of" };

impl Endpoint {
    fn collection(&self, list: &str) -> Value {
        let parameters = self.path_parameters(false);
        let mut delete_all = list_parameters();
        delete_all.extend(delete_parameters());
        json!({
            "get": self.operation(&LIST, "", list, list_parameters(), &["200"]),
            "post": self.create(),
            "delete": self.operation(
                &DELETE_ALL, "", &format!("{META}.Status"), delete_all, &["200"],
            ),
            "parameters": parameters,
        })
    }

    fn create(&self) -> Value {
        let codes = &["200", "201", "202"];
        self.operation(&CREATE, "", &self.object, write_parameters(&self.object), codes)
    }

    fn everywhere(&self, list: &str) -> Value {
        json!({
            "get": self.operation(&LIST, "ForAllNamespaces", list, list_parameters(), &["200"]),
            "parameters": [pretty()],
        })
    }

    fn item(&self) -> Value {
        json!({
            "get": self.operation(&READ, "", &self.object, Vec::new(), &["200"]),
            "put": self.operation(
                &REPLACE, "", &self.object, write_parameters(&self.object), &["200", "201"],
            ),
            "patch": self.patch("", &self.object),
            "delete": self.operation(
                &DELETE, "", &format!("{META}.Status"), delete_parameters(), &["200", "202"],
            ),
            "parameters": self.path_parameters(true),
        })
    }

    fn subresource(&self, sub: &Subresource, definition: &str) -> Value {
        let mut item = Map::new();
        let suffix = capitalised(sub.name.as_str());
        for verb in sub.verbs {
            let (method, mut operation) = match *verb {
                "get" => ("get", self.operation(&READ, &suffix, definition, Vec::new(), &["200"])),
                "update" => {
                    let parameters = write_parameters(definition);
                    let codes = &["200", "201"];
                    ("put", self.operation(&REPLACE, &suffix, definition, parameters, codes))
                }
                "patch" => ("patch", self.patch(&suffix, definition)),
                "create" => {
                    let parameters = write_parameters(definition);
                    let codes = &["200", "201", "202"];
                    ("post", self.operation(&CREATE, &suffix, definition, parameters, codes))
                }
                _ => continue,
            };
            operation["x-kubernetes-group-version-kind"] =
                json!({ "group": sub.group, "kind": sub.kind, "version": sub.version });
            item.insert(method.to_owned(), operation);
        }
        item.insert("parameters".to_owned(), json!(self.path_parameters(true)));
        Value::Object(item)
    }

    fn patch(&self, suffix: &str, definition: &str) -> Value {
        let mut parameters = write_parameters(&format!("{META}.Patch"));
        parameters.push(query("force", "boolean", FORCE));
        let mut operation = self.operation(&PATCH, suffix, definition, parameters, &["200", "201"]);
        operation["consumes"] = json!(PATCH_TYPES);
        operation
    }

    fn operation(
        &self,
        verb: &Verb,
        suffix: &str,
        definition: &str,
        parameters: Vec<Value>,
        codes: &[&str],
    ) -> Value {
        let mut produces = vec!["application/json", "application/yaml"];
        if verb.action == "list" {
            produces.push("application/json;stream=watch");
        }
        json!({
            "description": format!("{} {}", verb.description, self.kind),
            "operationId": self.id(verb, suffix),
            "tags": [tag(self.group, self.version)],
            "schemes": ["https"],
            "consumes": ["*/*"],
            "produces": produces,
            "parameters": parameters,
            "responses": responses(definition, codes),
            "x-kubernetes-action": verb.action,
            "x-kubernetes-group-version-kind":
                { "group": self.group, "kind": self.kind, "version": self.version },
        })
    }

    /// `createCoreV1NamespacedSecret`.
    fn id(&self, verb: &Verb, suffix: &str) -> String {
        let group: String = tag(self.group, self.version).split('_').map(capitalised).collect();
        let collection = if verb.action == "deletecollection" { "Collection" } else { "" };
        let namespaced = self.namespaced && suffix != "ForAllNamespaces";
        let scope = if namespaced { "Namespaced" } else { "" };
        format!("{}{group}{collection}{scope}{}{suffix}", verb.id, self.kind)
    }

    fn path_parameters(&self, item: bool) -> Vec<Value> {
        let mut parameters = Vec::new();
        if item {
            parameters.push(in_path("name", &format!("name of the {}", self.kind)));
        }
        if self.namespaced {
            parameters.push(in_path("namespace", NAMESPACE));
        }
        parameters.push(pretty());
        parameters
    }
}

/// `core_v1`, `rbacAuthorization_v1`.
fn tag(group: &str, version: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let mut parts = group.split('.');
    let first = parts.next().filter(|part| !part.is_empty()).unwrap_or("core");
    let rest: String = parts.map(capitalised).collect();
    format!("{first}{rest}_{version}")
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn responses(definition: &str, codes: &[&str]) -> Value {
    let mut responses: Map<String, Value> = codes
        .iter()
        .map(|code| {
            let description = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let schema = json!({ "$ref": format!("{PREFIX}{definition}") });
            ((*code).to_owned(), json!({ "description": description, "schema": schema }))
        })
        .collect();
    responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
    Value::Object(responses)
}

fn query(name: &str, type_: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "query", "type": type_, "uniqueItems": true, "description": description,
    })
}

fn in_path(name: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "type": "string", "uniqueItems": true,
        "description": description,
    })
}

fn body(definition: &str, required: bool) -> Value {
    let mut body = json!({
        "name": "body", "in": "body", "schema": { "$ref": format!("{PREFIX}{definition}") },
    });
    if required {
        body["required"] = true.into();
    }
    body
}

fn pretty() -> Value {
    query("pretty", "string", "If 'true', then the output is pretty printed.")
}

fn write_parameters(definition: &str) -> Vec<Value> {
    vec![
        body(definition, true),
        query("dryRun", "string", DRY_RUN),
        query("fieldManager", "string", FIELD_MANAGER),
        query("fieldValidation", "string", FIELD_VALIDATION),
    ]
}

fn delete_parameters() -> Vec<Value> {
    vec![
        body(&format!("{META}.DeleteOptions"), false),
        query("dryRun", "string", DRY_RUN),
        query("gracePeriodSeconds", "integer", GRACE_PERIOD),
        query("orphanDependents", "boolean", ORPHAN_DEPENDENTS),
        query("propagationPolicy", "string", PROPAGATION_POLICY),
    ]
}

fn list_parameters() -> Vec<Value> {
    vec![
        query("allowWatchBookmarks", "boolean", BOOKMARKS),
        query("continue", "string", CONTINUE),
        query("fieldSelector", "string", FIELD_SELECTOR),
        query("labelSelector", "string", LABEL_SELECTOR),
        query("limit", "integer", LIMIT),
        query("resourceVersion", "string", RESOURCE_VERSION),
        query("resourceVersionMatch", "string", RESOURCE_VERSION_MATCH),
        query("sendInitialEvents", "boolean", SEND_INITIAL_EVENTS),
        query("timeoutSeconds", "integer", TIMEOUT),
        query("watch", "boolean", WATCH),
    ]
}

const NAMESPACE: &str = "object name and auth scope, such as for teams and projects";
const DRY_RUN: &str = "When present, indicates that modifications should not be persisted. The only valid value is All: all dry run stages will be processed.";
const FIELD_MANAGER: &str = "The name of the actor or entity that makes these changes: at most 128 printable characters. Required for apply requests.";
const FIELD_VALIDATION: &str = "What to do with unknown and duplicate fields: Ignore drops them silently, Warn (the default) drops them and sends a warning for each, Strict refuses the request.";
const FORCE: &str = "For apply requests only: take over fields that other managers own. Must be unset for other patches.";
const GRACE_PERIOD: &str = "The seconds before the object is deleted. Zero deletes immediately; absent, the kind's default is used.";
const ORPHAN_DEPENDENTS: &str =
    "Deprecated: use propagationPolicy. Whether dependent objects are orphaned.";
const PROPAGATION_POLICY: &str =
    "Whether and how dependents are deleted: Orphan, Background or Foreground.";
const BOOKMARKS: &str = "Whether a watch sends events of type BOOKMARK.";
const CONTINUE: &str = "The token of the previous page, to get the next page of the same list.";
const FIELD_SELECTOR: &str = "A selector that restricts the returned objects by their fields.";
const LABEL_SELECTOR: &str = "A selector that restricts the returned objects by their labels.";
const LIMIT: &str =
    "The maximum number of objects in one response; more are fetched with continue.";
const RESOURCE_VERSION: &str =
    "Which version of the collection may be served: see resourceVersionMatch.";
const RESOURCE_VERSION_MATCH: &str =
    "How resourceVersion is applied to a list: NotOlderThan or Exact.";
const SEND_INITIAL_EVENTS: &str = "Whether a watch begins with the objects that exist, followed by a bookmark. Needs resourceVersionMatch=NotOlderThan.";
const TIMEOUT: &str = "The seconds after which a list or watch ends, whatever happens.";
const WATCH: &str = "Return a stream of changes instead of a list.";
