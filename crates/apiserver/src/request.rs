//! What a request asks for: verb, resource, namespace, name, subresource, and its parameters.
//!
//! The path grammar is Kubernetes' (`/api/v1/…` and `/apis/GROUP/VERSION/…`); everything after the
//! authentication filter works on the parsed form and never looks at the URL again.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::IntErrorKind;

use coffer_api::status::Failure;
use coffer_api::subresource::SubresourceName;
use http::Method;

use crate::respond::Accepted;

/// What follows the name of a namespace in a path and is not a resource in it.
const OF_NAMESPACES: [SubresourceName; 2] = [SubresourceName::Status, SubresourceName::Finalize];

/// What the caller wants done, in RBAC's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The word as roles and denial messages spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// A resource path, split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    /// API group, empty for core.
    pub(crate) group: String,
    /// API version, `v1`.
    pub(crate) version: String,
    /// Namespace, empty for cluster-scoped requests and lists across namespaces.
    pub(crate) namespace: String,
    /// Plural resource name.
    pub(crate) resource: String,
    /// Object name, empty on collections.
    pub(crate) name: String,
    /// Subresource, empty for the object itself.
    pub(crate) subresource: String,
}

/// One request, parsed.
#[derive(Clone, Debug)]
pub(crate) struct RequestInfo {
    /// The decoded path of a request that is for no resource; empty of one that is.
    pub(crate) path: String,
    /// HTTP method in lower case: the verb of non-resource requests.
    pub(crate) method: Cow<'static, str>,
    /// The resource asked for, or `None` for discovery, health and the like.
    pub(crate) resource: Option<(Verb, ResourcePath)>,
    /// The query parameters.
    pub(crate) query: Query,
    /// What the client accepts.
    pub(crate) accepted: Accepted,
}

impl RequestInfo {
    /// Parses method and URI, of which the query is read already.
    ///
    /// # Errors
    /// 405 for a method that means nothing on a resource; 400 for a path that is not UTF-8.
    pub(crate) fn parse(
        method: &Method,
        uri: &http::Uri,
        query: Query,
        accepted: Accepted,
    ) -> Result<Self, Failure> {
        let path = percent_encoding::percent_decode_str(uri.path())
            .decode_utf8()
            .map_err(|_| Failure::bad_request("the request path is not valid UTF-8"))?;
        let resource = match resource_path(uri.path()) {
            Some((resource, true)) if *method == Method::GET => Some((Verb::Watch, resource)),
            Some((_, true)) => return Err(Failure::method_not_allowed()),
            Some((resource, false)) => Some((verb(method, &resource, &query)?, resource)),
            None => None,
        };
        let path = if resource.is_none() { path.into_owned() } else { String::new() };
        let method = match *method {
            Method::GET => Cow::Borrowed("get"),
            Method::HEAD => Cow::Borrowed("head"),
            _ => Cow::Owned(method.as_str().to_ascii_lowercase()),
        };
        Ok(Self { path, method, resource, query, accepted })
    }
}

impl RequestInfo {
    /// Of a request with a URI and no headers.
    #[cfg(test)]
    pub(crate) fn of_uri(method: &Method, uri: &str) -> Result<Self, Failure> {
        let uri: http::Uri = uri.parse().expect("tests write URIs");
        let query = Query::parse(uri.query().unwrap_or_default());
        Self::parse(method, &uri, query, Accepted::default())
    }

    /// Whether the request lasts as long as its client wants: a watch or a tunnel.
    pub(crate) fn is_long_running(&self) -> bool {
        self.resource.as_ref().is_some_and(|(verb, path)| {
            let sub = SubresourceName::parse(&path.subresource);
            *verb == Verb::Watch || sub.is_some_and(SubresourceName::is_long_running)
        })
    }
}

fn verb(method: &Method, target: &ResourcePath, query: &Query) -> Result<Verb, Failure> {
    let collection = target.name.is_empty();
    Ok(match *method {
        // A watch of one object is spelled as a list with a field selector, or with ?watch on it.
        Method::GET if query.flag("watch") && target.subresource.is_empty() => Verb::Watch,
        Method::GET if collection => Verb::List,
        Method::GET => Verb::Get,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if collection => Verb::DeleteCollection,
        Method::DELETE => Verb::Delete,
        _ => return Err(Failure::method_not_allowed()),
    })
}

/// The resource at a path, and whether the path itself says that it is to be watched
/// (`/api/v1/watch/…`, how watches were spelled before `?watch`).
///
/// Segments are decoded after splitting, so that an encoded slash cannot change the structure.
fn resource_path(path: &str) -> Option<(ResourcePath, bool)> {
    if path.starts_with("//") {
        return None;
    }
    let decoded = |part| percent_encoding::percent_decode_str(part).decode_utf8_lossy();
    let segments: Vec<Cow<'_, str>> = path.trim_matches('/').split('/').map(decoded).collect();
    let mut parts: &[Cow<'_, str>] = &segments;
    let mut target = ResourcePath::default();
    match parts {
        [api, version, rest @ ..] if api == "api" => {
            target.version = version.to_string();
            parts = rest;
        }
        [apis, group, version, rest @ ..] if apis == "apis" => {
            target.group = group.to_string();
            target.version = version.to_string();
            parts = rest;
        }
        _ => return None,
    }
    let mut watched = false;
    if let [watch, rest @ ..] = parts
        && watch == "watch"
        && !rest.is_empty()
    {
        watched = true;
        parts = rest;
    }
    if let [namespaces, namespace, rest @ ..] = parts
        && namespaces == "namespaces"
    {
        target.namespace = namespace.to_string();
        // `/namespaces/NAME`, `/namespaces/NAME/status` and `/finalize` are the object itself.
        let is_object = match rest {
            [] => true,
            [sub] => SubresourceName::parse(sub).is_some_and(|sub| OF_NAMESPACES.contains(&sub)),
            _ => false,
        };
        if !is_object {
            parts = rest;
        }
    }
    let (resource, rest) = parts.split_first()?;
    target.resource = resource.to_string();
    target.name = rest.first().map(ToString::to_string).unwrap_or_default();
    // What follows `proxy`-like subresources stays part of the subresource's own path.
    target.subresource = rest.get(1..).map(|sub| sub.join("/")).unwrap_or_default();
    (!target.resource.is_empty()).then_some((target, watched))
}

/// Query parameters, decoded; the values of each in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(HashMap<String, Vec<String>>);

impl Query {
    /// Decodes `a=b&c=d`.
    pub(crate) fn parse(query: &str) -> Self {
        let mut all: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            all.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Self(all)
    }

    /// The first value of a parameter; an empty one counts as absent, as upstream has it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Every parameter with each of its values, in no order of names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter();
        all.flat_map(|(name, values)| values.iter().map(move |value| (&**name, &**value)))
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a parameter is given, with any value.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A boolean parameter: absent, `0` and `false` mean no; present without a value, and any other
    /// value, mean yes.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_given(name).unwrap_or(false)
    }

    /// As [`Query::flag`], with `None` where it is left out.
    pub(crate) fn flag_given(&self, name: &str) -> Option<bool> {
        let value = self.0.get(name)?.first()?;
        Some(value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// An integer parameter; present without a value it is not valid.
    ///
    /// # Errors
    /// 400 in the words of Go's parser.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.all(name).first() else { return Ok(None) };
        text.parse().map(Some).map_err(|error: std::num::ParseIntError| {
            let why = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Failure::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: Method, uri: &str) -> (Verb, ResourcePath) {
        RequestInfo::of_uri(&method, uri).unwrap().resource.unwrap()
    }

    #[test]
    fn paths_split_as_kubernetes_splits_them() {
        let (verb, path) = parsed(Method::GET, "/api/v1/namespaces/myns/secrets/mysecret");
        assert_eq!(verb, Verb::Get);
        assert_eq!(
            (&*path.namespace, &*path.resource, &*path.name),
            ("myns", "secrets", "mysecret")
        );

        let (verb, path) = parsed(Method::PUT, "/api/v1/namespaces/myns/finalize");
        assert_eq!(verb, Verb::Update);
        assert_eq!(
            (&*path.namespace, &*path.resource, &*path.name, &*path.subresource),
            ("myns", "namespaces", "myns", "finalize")
        );

        let (verb, path) = parsed(Method::GET, "/apis/apps/v1/deployments?watch=true");
        assert_eq!(verb, Verb::Watch);
        assert_eq!((&*path.group, &*path.namespace, &*path.resource), ("apps", "", "deployments"));

        let (verb, path) = parsed(Method::POST, "/api/v1/namespaces/n/pods/p/exec?command=ls");
        assert_eq!(verb, Verb::Create);
        assert_eq!(path.subresource, "exec");

        let (verb, _) = parsed(Method::DELETE, "/api/v1/namespaces/n/pods");
        assert_eq!(verb, Verb::DeleteCollection);
    }

    #[test]
    fn a_watch_can_be_spelled_in_the_path() {
        let (verb, path) = parsed(Method::GET, "/api/v1/watch/namespaces/n/secrets/a");
        assert_eq!(verb, Verb::Watch);
        assert_eq!((&*path.namespace, &*path.resource, &*path.name), ("n", "secrets", "a"));
        let (verb, path) = parsed(Method::GET, "/apis/apps/v1/watch/deployments");
        assert_eq!((verb, &*path.resource), (Verb::Watch, "deployments"));
        let put = RequestInfo::of_uri(&Method::PUT, "/api/v1/watch/pods");
        assert_eq!(put.unwrap_err().code, 405);
    }

    #[test]
    fn numbers_and_flags_are_read_as_go_reads_them() {
        let query = Query::parse("a=5&b=&c=x&d=99999999999999999999&yes&no=0&f=f&off=False");
        let number = |name| query.number(name).map_err(|failure| failure.message);
        assert_eq!(number("a"), Ok(Some(5)));
        assert_eq!(number("absent"), Ok(None));
        for (name, why) in [
            ("b", "strconv.ParseInt: parsing \"\": invalid syntax"),
            ("c", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("d", "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"),
        ] {
            assert_eq!(number(name), Err(why.to_owned()));
        }
        let flags = ["yes", "no", "f", "off", "absent"].map(|name| query.flag(name));
        assert_eq!(flags, [true, false, true, false, false]);
    }

    #[test]
    fn an_encoded_slash_does_not_make_a_new_segment() {
        let (_, path) = parsed(Method::GET, "/api/v1/namespaces/n/secrets/a%2Fb");
        assert_eq!((&*path.name, &*path.subresource), ("a/b", ""));
    }

    #[test]
    fn non_resource_paths_have_no_resource() {
        for uri in [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "//api/v1/pods",
        ] {
            let info = RequestInfo::of_uri(&Method::GET, uri).unwrap();
            assert!(info.resource.is_none(), "{uri}");
        }
    }
}
