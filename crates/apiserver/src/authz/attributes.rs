//! What an authorizer is asked: one verb on one target, by some caller.
//!
//! A request becomes attributes here and nowhere else, so that a SubjectAccessReview and the
//! request that it predicts are evaluated by the same attributes.

use std::borrow::Cow;

use coffer_api::selector::FieldSelector;
use coffer_api::status::{Failure, GroupResource};

use crate::identity::Identity;
use crate::request::{RequestInfo, Verb};

/// One question to an authorizer.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    /// `get`, `create`, …; also verbs no request has: `use`, `bind`, `escalate`, `impersonate`.
    pub(crate) verb: Cow<'a, str>,
    pub(crate) target: Target<'a>,
}

/// What the verb is to be done to.
#[derive(Clone, Debug)]
pub(crate) enum Target<'a> {
    Resource(ResourceTarget<'a>),
    /// A path of no resource: `/healthz`.
    Path(Cow<'a, str>),
}

/// A resource, or one object of it where a name is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResourceTarget<'a> {
    pub(crate) group: Cow<'a, str>,
    pub(crate) resource: Cow<'a, str>,
    pub(crate) subresource: Cow<'a, str>,
    /// Empty for cluster-scoped objects and for all namespaces.
    pub(crate) namespace: Cow<'a, str>,
    /// Empty for a collection.
    pub(crate) name: Cow<'a, str>,
    /// What a list or watch is narrowed to.
    pub(crate) fields: FieldSelector,
}

impl ResourceTarget<'_> {
    /// `pods` or `pods/status`, as roles spell it.
    pub(crate) fn path(&self) -> Cow<'_, str> {
        if self.subresource.is_empty() {
            Cow::Borrowed(&self.resource)
        } else {
            Cow::Owned(format!("{}/{}", self.resource, self.subresource))
        }
    }
}

impl<'a> Attributes<'a> {
    /// The attributes of a request.
    ///
    /// A list or watch that a field selector narrows to one name is a request for that name: it is
    /// how clients read one object without knowing whether it exists.
    pub(crate) fn of(info: &'a RequestInfo) -> Self {
        let Some((verb, path)) = &info.resource else {
            let (verb, path) = (Cow::Borrowed(&*info.method), Cow::Borrowed(&*info.path));
            return Self { verb, target: Target::Path(path) };
        };
        let selects = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
        // A selector that does not parse narrows nothing here and is refused by the handler.
        let fields = match info.query.get("fieldSelector") {
            Some(text) if selects => FieldSelector::parse(text).unwrap_or_default(),
            _ => FieldSelector::default(),
        };
        let mut name = Cow::Borrowed(&*path.name);
        if name.is_empty()
            && matches!(verb, Verb::List | Verb::Watch)
            && let Some(only) = fields.exact("metadata.name").filter(|name| is_segment(name))
        {
            name = Cow::Owned(only.to_owned());
        }
        Self {
            verb: Cow::Borrowed(verb.as_str()),
            target: Target::Resource(ResourceTarget {
                group: Cow::Borrowed(&path.group),
                resource: Cow::Borrowed(&path.resource),
                subresource: Cow::Borrowed(&path.subresource),
                namespace: Cow::Borrowed(&path.namespace),
                name,
                fields,
            }),
        }
    }

    /// A verb on a resource.
    pub(crate) fn resource(verb: &'a str, target: ResourceTarget<'a>) -> Self {
        Self { verb: Cow::Borrowed(verb), target: Target::Resource(target) }
    }

    /// The denial of these attributes, worded as upstream's; `reason` may be empty.
    pub(crate) fn denial(&self, identity: &Identity, reason: &str) -> Failure {
        let (user, verb) = (&identity.user, &self.verb);
        let (group, resource, name, mut why) = match &self.target {
            Target::Path(path) => {
                ("", "", "", format!("User {user:?} cannot {verb} path {path:?}"))
            }
            Target::Resource(target) => {
                let ResourceTarget { group, resource, namespace, name, .. } = target;
                let scope = match &**namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                let path = target.path();
                let why = format!(
                    "User {user:?} cannot {verb} resource {path:?} in API group {group:?} {scope}"
                );
                (&**group, &**resource, &**name, why)
            }
        };
        // The message is shown by browsers too, which is why upstream takes these out.
        why = why.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        Failure::forbidden(GroupResource { group, resource }, name, &why)
    }
}

/// Whether a name can be one segment of a path.
fn is_segment(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> (String, ResourceTarget<'static>) {
        let info = RequestInfo::of_uri(&http::Method::GET, uri).unwrap();
        let info: &'static RequestInfo = Box::leak(Box::new(info));
        let Attributes { verb, target } = Attributes::of(info);
        match target {
            Target::Resource(target) => (verb.into_owned(), target),
            Target::Path(path) => panic!("{path} is not the path of a resource"),
        }
    }

    #[test]
    fn a_list_narrowed_to_one_name_asks_for_that_name() {
        let (verb, found) =
            target("/api/v1/namespaces/n/secrets?fieldSelector=metadata.name%3Da&watch=true");
        assert_eq!((verb.as_str(), &*found.name), ("watch", "a"));
        let (verb, found) = target("/api/v1/namespaces/n/secrets?fieldSelector=type%3DOpaque");
        assert_eq!((verb.as_str(), &*found.name), ("list", ""));
        // A name that no path could hold would make the message lie about what was asked.
        let (_, found) = target("/api/v1/namespaces/n/secrets?fieldSelector=metadata.name%3D..");
        assert_eq!(&*found.name, "");
    }

    #[test]
    fn denials_read_as_upstreams() {
        let mallory = Identity { user: "mallory".into(), ..Identity::anonymous() };
        let ask = |uri: &str| {
            let info = RequestInfo::of_uri(&http::Method::GET, uri).unwrap();
            Attributes::of(&info).denial(&mallory, "").message
        };
        assert_eq!(
            ask("/api/v1/namespaces/n/secrets/a"),
            "secrets \"a\" is forbidden: User \"mallory\" cannot get resource \"secrets\" in API group \"\" in the namespace \"n\""
        );
        assert_eq!(
            ask("/apis/apps/v1/deployments"),
            "deployments.apps is forbidden: User \"mallory\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope"
        );
        assert_eq!(ask("/metrics"), "forbidden: User \"mallory\" cannot get path \"/metrics\"");
    }
}
