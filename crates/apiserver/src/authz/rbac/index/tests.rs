//! The index decides as a scan of the rules does.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::cover;
use super::super::rule::{allows, path_holds};
use super::*;
use crate::authz::attributes::ResourceTarget;

const WORDS: [&str; 5] = ["*", "", "get", "a", "b"];
const RESOURCES: [&str; 9] =
    ["*", "pods", "scale", "pods/scale", "*/scale", "*/", "pods/", "a/scale", "pods/scale/x"];
const PATHS: [&str; 12] =
    ["*", "**", "/", "/*", "/a", "/a*", "/a/*", "/a/b", "/a/b/*", "/ä", "/\u{e4}*", "/a**"];

fn words(from: &'static [&'static str], max: usize) -> impl Strategy<Value = Vec<String>> {
    vec(select(from).prop_map(str::to_owned), 0..max)
}

/// Many words of no meaning, so that a rule is not taken apart.
fn padded(mut words: Vec<String>, wide: bool) -> Vec<String> {
    if wide && !words.is_empty() {
        words.extend((0..60).map(|n| format!("pad{n}")));
    }
    words
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let lists = (
        words(&WORDS, 3),
        words(&WORDS, 3),
        words(&RESOURCES, 3),
        words(&WORDS, 3),
        words(&PATHS, 3),
        any::<bool>(),
    );
    lists.prop_map(|(verbs, groups, resources, names, urls, wide)| PolicyRule {
        verbs: padded(verbs, wide),
        api_groups: Some(padded(groups, wide)),
        resources: Some(padded(resources, wide)),
        resource_names: (!names.is_empty()).then_some(names),
        non_resource_urls: Some(padded(urls, wide)),
    })
}

fn asked() -> impl Strategy<Value = Attributes<'static>> {
    let word = || select(&WORDS[..]);
    let resource = (word(), select(&["pods", "a", "*", ""][..]), word(), word());
    let resource = (resource, select(&["", "scale", "scale/x", "*"][..]));
    prop_oneof![
        resource.prop_map(|((verb, resource, group, name), subresource)| {
            let target = ResourceTarget {
                group: Cow::Borrowed(group),
                resource: Cow::Borrowed(resource),
                subresource: Cow::Borrowed(subresource),
                name: Cow::Borrowed(name),
                ..Default::default()
            };
            Attributes::resource(verb, target)
        }),
        (word(), select(&PATHS[..])).prop_map(|(verb, path)| Attributes {
            verb: Cow::Borrowed(verb),
            target: Target::Path(Cow::Borrowed(path)),
        }),
    ]
}

/// Upstream's cover of one piece by one rule, word by word.
fn covers(own: &PolicyRule, piece: &PolicyRule) -> bool {
    let within = |own: &[String], piece: &[String]| {
        own.iter().any(|value| value == ALL) || piece.iter().all(|value| own.contains(value))
    };
    let own_resources = list(&own.resources);
    let resource = |path: &String| {
        let any = path.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        own_resources.contains(path) || any.is_some_and(|any| own_resources.contains(&any))
    };
    let resources = own_resources.iter().any(|value| value == ALL)
        || list(&piece.resources).iter().all(resource);
    let names = list(&own.resource_names);
    let named = match list(&piece.resource_names) {
        [] => names.is_empty(),
        wanted => names.is_empty() || wanted.iter().all(|name| names.contains(name)),
    };
    let urls = list(&own.non_resource_urls);
    let path = |path: &String| urls.iter().any(|own| path_holds(own, path));
    within(&own.verbs, &piece.verbs)
        && within(list(&own.api_groups), list(&piece.api_groups))
        && resources
        && list(&piece.non_resource_urls).iter().all(path)
        && named
}

/// A rule as rules of one verb and one resource, name or path each.
fn apart(rule: &PolicyRule) -> Vec<PolicyRule> {
    cover::missing([], std::slice::from_ref(rule))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_request_is_allowed_where_some_rule_allows_it(
        rules in vec(rule(), 0..4),
        asked in vec(asked(), 1..20),
    ) {
        let index = Index::of(&rules);
        for asked in &asked {
            let scan = rules.iter().any(|rule| allows(rule, asked));
            prop_assert_eq!(index.allows(asked), scan, "{:?}", asked);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_missing_is_what_no_rule_covers(
        own in vec(rule(), 0..4),
        wanted in vec(rule().prop_map(|mut rule| {
            // As many pieces as the test can go through.
            rule.verbs.truncate(4);
            for list in [&mut rule.api_groups, &mut rule.resources, &mut rule.non_resource_urls] {
                list.as_mut().unwrap().truncate(4);
            }
            rule
        }), 0..3),
    ) {
        let pieces = wanted.iter().flat_map(apart);
        let scan: Vec<PolicyRule> =
            pieces.filter(|piece| !own.iter().any(|rule| covers(rule, piece))).collect();
        prop_assert_eq!(cover::missing(&own, &wanted), scan);
    }
}

/// Lists whose product no one could go through: the work is that of reading them.
#[test]
fn long_lists_are_not_multiplied() {
    let many = |word: &str| (0..20_000).map(|n| format!("{word}{n}")).collect::<Vec<_>>();
    let wide = PolicyRule {
        verbs: many("v"),
        api_groups: Some(many("g")),
        resources: Some(many("r")),
        resource_names: None,
        non_resource_urls: Some(many("/u")),
    };
    let index = Index::of([&wide]);
    assert!(index.pieces.is_empty());
    assert!(index.covers("v7", "g19999", "r0", None) && !index.covers("v7", "g20000", "r0", None));
    assert!(index.covers_path("v0", "/u1") && !index.covers_path("v", "/u1"));
    // Not taken apart, it can be granted only by a user who has everything.
    assert_eq!(cover::missing([], std::slice::from_ref(&wide)), std::slice::from_ref(&wide));
    let all = || Some(vec!["*".to_owned()]);
    let everything = PolicyRule {
        verbs: vec!["*".to_owned()],
        api_groups: all(),
        resources: all(),
        resource_names: None,
        non_resource_urls: all(),
    };
    assert!(cover::missing([&everything], &[wide]).is_empty());
}
