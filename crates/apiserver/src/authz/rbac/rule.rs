//! What one policy rule allows: `k8s.io/component-helpers`' evaluation, over the API's own types.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::authz::attributes::{Attributes, ResourceTarget, Target};

/// Stands for every verb, group, resource or path.
pub(super) const ALL: &str = "*";

/// A list that the API leaves out when it is empty.
pub(super) fn list(values: &Option<Vec<String>>) -> &[String] {
    values.as_deref().unwrap_or_default()
}

fn holds(values: &[String], wanted: &str) -> bool {
    values.iter().any(|value| value == ALL || value == wanted)
}

/// Whether a rule allows what is asked.
pub(crate) fn allows(rule: &PolicyRule, asked: &Attributes<'_>) -> bool {
    if !holds(&rule.verbs, &asked.verb) {
        return false;
    }
    match &asked.target {
        Target::Path(path) => list(&rule.non_resource_urls).iter().any(|own| path_holds(own, path)),
        Target::Resource(target) => {
            holds(list(&rule.api_groups), &target.group)
                && list(&rule.resources).iter().any(|own| resource_holds(own, target))
                && name_holds(list(&rule.resource_names), &target.name)
        }
    }
}

/// `*` is every resource and subresource, `*/scale` that subresource of any.
fn resource_holds(own: &str, target: &ResourceTarget<'_>) -> bool {
    if own == ALL || own == target.path() {
        return true;
    }
    let any = own.strip_prefix("*/");
    !target.subresource.is_empty() && any == Some(&*target.subresource)
}

fn name_holds(own: &[String], name: &str) -> bool {
    own.is_empty() || own.iter().any(|own| own == name)
}

/// A trailing `*` holds for everything below.
pub(super) fn path_holds(own: &str, path: &str) -> bool {
    own == ALL || own == path || (own.ends_with('*') && path.starts_with(own.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn texts(values: &[&str]) -> Option<Vec<String>> {
        (!values.is_empty()).then(|| values.iter().map(|&value| value.to_owned()).collect())
    }

    fn rule(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> PolicyRule {
        PolicyRule {
            verbs: texts(verbs).unwrap_or_default(),
            api_groups: texts(&[group]),
            resources: texts(resources),
            resource_names: texts(names),
            non_resource_urls: None,
        }
    }

    fn asked<'a>(verb: &'a str, path: &'a str, name: &'a str) -> Attributes<'a> {
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        let target = ResourceTarget {
            resource: Cow::Borrowed(resource),
            subresource: Cow::Borrowed(subresource),
            namespace: Cow::Borrowed("n"),
            name: Cow::Borrowed(name),
            ..Default::default()
        };
        Attributes::resource(verb, target)
    }

    #[test]
    fn a_rule_allows_only_what_it_names() {
        let read_pods = rule(&["get", "list"], "", &["pods"], &[]);
        let scale_all = rule(&["*"], "", &["*/scale"], &[]);
        let one_secret = rule(&["get"], "", &["secrets"], &["a"]);
        let everything = rule(&["*"], "*", &["*"], &[]);
        for (rule, verb, path, name, allowed) in [
            (&read_pods, "get", "pods", "p", true),
            (&read_pods, "delete", "pods", "p", false),
            (&read_pods, "get", "pods/log", "p", false),
            (&read_pods, "get", "secrets", "p", false),
            (&scale_all, "update", "deployments/scale", "d", true),
            (&scale_all, "update", "deployments", "d", false),
            (&one_secret, "get", "secrets", "a", true),
            (&one_secret, "get", "secrets", "b", false),
            (&one_secret, "get", "secrets", "", false),
            (&everything, "use", "secrets", "b", true),
            (&everything, "get", "pods/exec", "p", true),
        ] {
            assert_eq!(allows(rule, &asked(verb, path, name)), allowed, "{verb} {path} {name}");
        }
        let mut other_group = everything.clone();
        other_group.api_groups = texts(&["apps"]);
        assert!(!allows(&other_group, &asked("get", "pods", "p")));
    }

    #[test]
    fn paths_are_matched_whole_or_below_a_star() {
        let rule = PolicyRule {
            verbs: vec!["get".to_owned()],
            non_resource_urls: texts(&["/version", "/apis/*"]),
            ..Default::default()
        };
        let get = |path: &'static str| {
            let target = Target::Path(Cow::Borrowed(path));
            allows(&rule, &Attributes { verb: Cow::Borrowed("get"), target })
        };
        assert!(get("/version") && get("/apis/apps/v1"));
        assert!(!get("/version/x") && !get("/apis") && !get("/metrics"));
        // Paths and resources do not stand for each other.
        assert!(!allows(&rule, &asked("get", "pods", "p")));
    }
}
