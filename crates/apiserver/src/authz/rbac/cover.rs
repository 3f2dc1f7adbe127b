//! Whether rights one has cover rights one would give: what keeps RBAC from being climbed.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::rule::{ALL, list, path_holds};

/// The parts of `wanted` that no rule of `own` covers, in the smallest pieces.
pub(crate) fn missing(own: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted
        .iter()
        .flat_map(pieces)
        .filter(|piece| !own.iter().any(|rule| covers(rule, piece)))
        .collect()
}

/// A rule as rules of one verb and one resource, name or path each.
fn pieces(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut all = Vec::new();
    let one = |value: &String| Some(vec![value.clone()]);
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let piece = PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    ..Default::default()
                };
                let names = list(&rule.resource_names);
                if names.is_empty() {
                    all.push(piece);
                } else {
                    all.extend(names.iter().map(|name| {
                        let resource_names = one(name);
                        PolicyRule { resource_names, ..piece.clone() }
                    }));
                }
            }
        }
    }
    for path in list(&rule.non_resource_urls) {
        all.extend(rule.verbs.iter().map(|verb| PolicyRule {
            non_resource_urls: one(path),
            verbs: vec![verb.clone()],
            ..Default::default()
        }));
    }
    all
}

fn covers(own: &PolicyRule, piece: &PolicyRule) -> bool {
    let within = |own: &[String], piece: &[String]| {
        own.iter().any(|value| value == ALL) || piece.iter().all(|value| own.contains(value))
    };
    let names = list(&own.resource_names);
    within(&own.verbs, &piece.verbs)
        && within(list(&own.api_groups), list(&piece.api_groups))
        && resources_cover(list(&own.resources), list(&piece.resources))
        && list(&piece.non_resource_urls)
            .iter()
            .all(|path| list(&own.non_resource_urls).iter().any(|own| path_holds(own, path)))
        && match list(&piece.resource_names) {
            [] => names.is_empty(),
            wanted => names.is_empty() || wanted.iter().all(|name| names.contains(name)),
        }
}

fn resources_cover(own: &[String], wanted: &[String]) -> bool {
    let all = own.iter().any(|value| value == ALL);
    all || wanted.iter().all(|path| {
        let any = path.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        own.contains(path) || any.is_some_and(|any| own.contains(&any))
    })
}

/// Missing pieces as upstream prints them: those that differ by verb only on one line, sorted.
pub(crate) fn describe(missing: &[PolicyRule]) -> String {
    let mut compact: Vec<PolicyRule> = Vec::new();
    for piece in missing {
        let same = |other: &&mut PolicyRule| {
            piece.non_resource_urls.is_none()
                && other.api_groups == piece.api_groups
                && other.resources == piece.resources
                && other.resource_names == piece.resource_names
                && other.non_resource_urls.is_none()
        };
        match compact.iter_mut().find(same) {
            Some(other) => other.verbs.extend(piece.verbs.iter().cloned()),
            None => compact.push(piece.clone()),
        }
    }
    let lines: BTreeSet<String> = compact.iter().map(line).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

fn line(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let shown = parts
        .iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| format!("{name}:{}", quoted(values)))
        .collect::<Vec<_>>();
    format!("{{{}}}", shown.join(", "))
}

/// Go's `%q` of a list: `["a" "b"]`.
pub(crate) fn quoted(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::policy::{paths, rule};
    use super::*;

    #[test]
    fn what_is_covered_is_not_missing_and_the_rest_is_told_as_upstream_tells_it() {
        let own = [
            rule(&["get", "list"], &[""], &["pods", "*/scale"]),
            rule(&["*"], &["apps"], &["*"]),
            paths(&["get"], &["/apis/*"]),
        ];
        let covered = [
            rule(&["get"], &[""], &["pods", "deployments/scale"]),
            rule(&["delete"], &["apps"], &["deployments/status"]),
            paths(&["get"], &["/apis/apps"]),
        ];
        assert!(missing(&own, &covered).is_empty());

        let wanted = [rule(&["get", "delete", "watch"], &[""], &["pods", "secrets"])];
        assert_eq!(
            describe(&missing(&own, &wanted)),
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\" \"watch\"]}"
        );
    }

    #[test]
    fn a_right_to_one_name_does_not_cover_all_names() {
        let mut one = [rule(&["get"], &[""], &["secrets"])];
        one[0].resource_names = Some(vec!["a".to_owned()]);
        let all = [rule(&["get"], &[""], &["secrets"])];
        assert_eq!(missing(&one, &all), all);
        assert!(missing(&all, &one).is_empty());
    }
}
