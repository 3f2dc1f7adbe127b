//! A role's rules in the form that decides: a request costs a few look-ups, however many rules there
//! are.
//!
//! Rules are taken apart into pieces of one verb, group, resource and name each. A rule of long lists
//! would make more pieces than it has words, many times over: it is kept as sorted lists instead.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::rule::{ALL, list};
use crate::authz::attributes::{Attributes, Target};

/// A rule that makes more pieces than this for each of its words is not taken apart.
const PIECES_PER_WORD_MAX: usize = 16;
/// In place of a name's number: every name.
const EVERY: u32 = u32::MAX;

/// The rules of one role, or of several.
#[derive(Debug, Default)]
pub(crate) struct Index {
    words: HashMap<Box<str>, u32>,
    /// Verb, group, resource and name.
    pieces: HashSet<[u32; 4]>,
    /// Rules that are not taken apart.
    wide: Vec<Wide>,
    paths: Paths,
    /// The same of rules that name no objects: a rule that does covers no path when it is given on.
    unnamed_paths: Paths,
}

/// A rule as sorted numbers of words.
#[derive(Debug)]
struct Wide {
    verbs: Vec<u32>,
    groups: Vec<u32>,
    resources: Vec<u32>,
    /// Empty for every name.
    names: Vec<u32>,
}

/// Verbs on paths that are not resources.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Verbs>,
    /// Those that end in a star, without it.
    prefixes: HashMap<Box<str>, Verbs>,
    /// Lengths of the prefixes. Together no longer than what was written to the role.
    lengths: BTreeSet<usize>,
}

/// The verbs on one path.
#[derive(Debug, Default)]
struct Verbs {
    each: HashSet<u32>,
    /// Sorted lists of rules that are not taken apart, shared by their paths.
    wide: Vec<Arc<[u32]>>,
}

impl Index {
    pub(crate) fn of<'a>(rules: impl IntoIterator<Item = &'a PolicyRule>) -> Self {
        let mut index = Self::default();
        for rule in rules {
            index.add(rule);
        }
        index
    }

    fn add(&mut self, rule: &PolicyRule) {
        let verbs = self.numbers(&rule.verbs);
        let urls = list(&rule.non_resource_urls);
        let apart = is_apart(pieces(verbs.len(), urls.len(), 1, 0), verbs.len() + urls.len());
        let shared: Arc<[u32]> = verbs.as_slice().into();
        for url in urls {
            self.paths.add(url, &shared, apart);
            if list(&rule.resource_names).is_empty() {
                self.unnamed_paths.add(url, &shared, apart);
            }
        }
        let rule = Wide {
            verbs,
            groups: self.numbers(list(&rule.api_groups)),
            resources: self.numbers(list(&rule.resources)),
            names: self.numbers(list(&rule.resource_names)),
        };
        let lists = [&rule.verbs, &rule.groups, &rule.resources, &rule.names];
        let words: usize = lists.iter().map(|list| list.len()).sum();
        let [verbs, groups, resources, names] = lists.map(|list| list.len());
        if !is_apart(pieces(verbs, groups, resources, names), words) {
            self.wide.push(rule);
            return;
        }
        let names = if rule.names.is_empty() { &[EVERY][..] } else { &rule.names };
        for &verb in &rule.verbs {
            for &group in &rule.groups {
                for &resource in &rule.resources {
                    self.pieces.extend(names.iter().map(|&name| [verb, group, resource, name]));
                }
            }
        }
    }

    /// The numbers of words, sorted, each once.
    fn numbers(&mut self, words: &[String]) -> Vec<u32> {
        let numbers: BTreeSet<u32> = words.iter().map(|word| self.number(word)).collect();
        numbers.into_iter().collect()
    }

    fn number(&mut self, word: &str) -> u32 {
        if let Some(&known) = self.words.get(word) {
            return known;
        }
        let new = u32::try_from(self.words.len()).unwrap_or(EVERY).min(EVERY - 1);
        self.words.insert(word.into(), new);
        new
    }

    /// The numbers that stand for one of these words.
    fn known<const N: usize>(&self, words: [Option<&str>; N]) -> Vec<u32> {
        words.into_iter().flatten().filter_map(|word| self.words.get(word).copied()).collect()
    }

    /// Whether some rule allows what is asked.
    pub(crate) fn allows(&self, asked: &Attributes<'_>) -> bool {
        match &asked.target {
            Target::Path(path) => self.paths.hold(&self.verbs(&asked.verb), path),
            Target::Resource(target) => {
                let any = match &*target.subresource {
                    "" => None,
                    sub => Some(format!("*/{sub}")),
                };
                let resources = [Some(ALL), Some(&*target.path()), any.as_deref()];
                self.holds(&asked.verb, &target.group, resources, Some(&target.name))
            }
        }
    }

    /// Whether one rule covers a right to a resource as roles spell it; to every object without a
    /// name.
    pub(super) fn covers(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
        name: Option<&str>,
    ) -> bool {
        let any = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        self.holds(verb, group, [Some(ALL), Some(resource), any.as_deref()], name)
    }

    /// Whether one rule covers a path as roles spell it.
    pub(super) fn covers_path(&self, verb: &str, path: &str) -> bool {
        self.unnamed_paths.hold(&self.verbs(verb), path)
    }

    fn verbs(&self, verb: &str) -> Vec<u32> {
        self.known([Some(ALL), Some(verb)])
    }

    fn holds(
        &self,
        verb: &str,
        group: &str,
        resources: [Option<&str>; 3],
        name: Option<&str>,
    ) -> bool {
        let verbs = self.verbs(verb);
        let groups = self.known([Some(ALL), Some(group)]);
        let resources = self.known(resources);
        let name = self.known([name]);
        let names = || [EVERY].iter().chain(&name);
        let exact = verbs.iter().any(|&verb| {
            groups.iter().any(|&group| {
                resources.iter().any(|&resource| {
                    names().any(|&name| self.pieces.contains(&[verb, group, resource, name]))
                })
            })
        });
        let within =
            |own: &[u32], asked: &[u32]| asked.iter().any(|it| own.binary_search(it).is_ok());
        exact
            || self.wide.iter().any(|own| {
                within(&own.verbs, &verbs)
                    && within(&own.groups, &groups)
                    && within(&own.resources, &resources)
                    && (own.names.is_empty() || within(&own.names, &name))
            })
    }
}

/// How many pieces a rule of such lists is, as many as there can be where that is not countable.
pub(super) fn pieces(verbs: usize, groups: usize, resources: usize, names: usize) -> usize {
    verbs.saturating_mul(groups).saturating_mul(resources).saturating_mul(names.max(1))
}

/// Whether a rule is taken apart.
fn is_apart(pieces: usize, words: usize) -> bool {
    pieces <= words.saturating_mul(PIECES_PER_WORD_MAX)
}

impl Verbs {
    fn add(&mut self, verbs: &Arc<[u32]>, apart: bool) {
        if apart {
            self.each.extend(verbs.iter());
        } else {
            self.wide.push(verbs.clone());
        }
    }

    fn hold(&self, verb: u32) -> bool {
        self.each.contains(&verb) || self.wide.iter().any(|own| own.binary_search(&verb).is_ok())
    }
}

impl Paths {
    fn add(&mut self, url: &str, verbs: &Arc<[u32]>, apart: bool) {
        self.exact.entry(url.into()).or_default().add(verbs, apart);
        if url.ends_with('*') {
            let prefix = url.trim_end_matches('*');
            self.prefixes.entry(prefix.into()).or_default().add(verbs, apart);
            self.lengths.insert(prefix.len());
        }
    }

    fn hold(&self, verbs: &[u32], path: &str) -> bool {
        let has =
            |own: Option<&Verbs>| own.is_some_and(|own| verbs.iter().any(|&verb| own.hold(verb)));
        let mut prefixes = self.lengths.iter().map_while(|&length| {
            // Past the end of the path; inside of a character no prefix can end.
            (length <= path.len()).then(|| path.get(..length))
        });
        has(self.exact.get(path))
            || prefixes.any(|prefix| has(prefix.and_then(|prefix| self.prefixes.get(prefix))))
    }
}

#[cfg(test)]
mod tests;
