//! Whether the rights that a user has cover the rights that they would grant, against privilege escalation.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::index::{self, Index};
use super::rule::{ALL, list};

/// Pieces that one role may be taken apart into. A rule that would make more is not: who does not
/// have everything does not have it.
const PIECES_MAX: usize = 200_000;
/// Lines of missing pieces in a message.
const LINES_MAX: usize = 20_000;

/// The parts of `wanted` that no rule of `own` covers, in the smallest pieces.
pub(crate) fn missing<'a>(
    own: impl IntoIterator<Item = &'a PolicyRule>,
    wanted: &[PolicyRule],
) -> Vec<PolicyRule> {
    let own = Index::of(own);
    let (mut all, mut left) = (Vec::new(), PIECES_MAX);
    for rule in wanted {
        match left.checked_sub(count(rule)) {
            Some(rest) => left = rest,
            None => {
                all.extend((!has_everything(&own, rule)).then(|| rule.clone()));
                continue;
            }
        }
        missing_of(&own, rule, &mut all);
    }
    all
}

/// How many pieces a rule is.
fn count(rule: &PolicyRule) -> usize {
    let length = |values| list(values).len();
    let (groups, resources) = (length(&rule.api_groups), length(&rule.resources));
    let verbs = rule.verbs.len();
    let resources = index::pieces(verbs, groups, resources, length(&rule.resource_names));
    resources.saturating_add(verbs.saturating_mul(length(&rule.non_resource_urls)))
}

/// Whether a rule is covered because everything is, of what it speaks about.
fn has_everything(own: &Index, rule: &PolicyRule) -> bool {
    (list(&rule.resources).is_empty() || own.covers(ALL, ALL, ALL, None))
        && (list(&rule.non_resource_urls).is_empty() || own.covers_path(ALL, ALL))
}

/// Takes a rule apart, into rules of one verb and one resource, name or path each.
fn missing_of(own: &Index, rule: &PolicyRule, all: &mut Vec<PolicyRule>) {
    let one = |value: &String| Some(vec![value.clone()]);
    let names = list(&rule.resource_names);
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let piece = |resource_names| PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    resource_names,
                    non_resource_urls: None,
                };
                let lacks = |name| !own.covers(verb, group, resource, name);
                if names.is_empty() {
                    all.extend(lacks(None).then(|| piece(None)));
                } else {
                    let names = names.iter().filter(|name| lacks(Some(name)));
                    all.extend(names.map(|name| piece(one(name))));
                }
            }
        }
    }
    for path in list(&rule.non_resource_urls) {
        let verbs = rule.verbs.iter().filter(|verb| !own.covers_path(verb, path));
        all.extend(verbs.map(|verb| PolicyRule {
            non_resource_urls: one(path),
            verbs: vec![verb.clone()],
            ..Default::default()
        }));
    }
}

/// Missing pieces as upstream prints them: those that differ by verb only on one line, sorted.
pub(crate) fn describe(missing: &[PolicyRule]) -> String {
    let mut compact: Vec<PolicyRule> = Vec::new();
    let mut at: HashMap<[&[String]; 3], usize> = HashMap::new();
    for piece in missing {
        if compact.len() >= LINES_MAX {
            break;
        }
        if piece.non_resource_urls.is_some() {
            compact.push(piece.clone());
            continue;
        }
        let same = [list(&piece.api_groups), list(&piece.resources), list(&piece.resource_names)];
        match at.get(&same) {
            Some(&at) => compact[at].verbs.extend(piece.verbs.iter().cloned()),
            None => {
                at.insert(same, compact.len());
                compact.push(piece.clone());
            }
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
    fn uncovered_rules_are_missing_and_worded_as_upstream() {
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
