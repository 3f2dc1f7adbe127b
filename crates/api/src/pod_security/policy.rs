//! What a namespace's labels say: a level and a version for each of enforce, audit and warn.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use crate::field::{Error, ErrorList, Path};

/// The label with the level that is enforced.
pub const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";
const AUDIT: &str = "pod-security.kubernetes.io/audit";
const AUDIT_VERSION: &str = "pod-security.kubernetes.io/audit-version";
const WARN: &str = "pod-security.kubernetes.io/warn";
const WARN_VERSION: &str = "pod-security.kubernetes.io/warn-version";

/// How much a pod is restricted; the stricter is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all.
    Privileged,
    /// No known way out of the container. The default here; upstream's is `Privileged`.
    #[default]
    Baseline,
    /// Hardened as current practice has it.
    Restricted,
}

impl Level {
    /// The level of this name.
    ///
    /// # Errors
    /// What would have been one.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// The release of Kubernetes whose standards count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `v1.N`.
    Minor(u64),
    /// The newest that is known here.
    Latest,
}

impl Version {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be \"latest\" or \"v1.x\"";
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(WRONG)?;
        let plain = digits == "0" || digits.starts_with(|first: char| matches!(first, '1'..='9'));
        if !plain || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(WRONG);
        }
        let minor = digits.parse::<i64>().map_err(|_| WRONG)?;
        u64::try_from(minor).map(Self::Minor).map_err(|_| WRONG)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor(minor) => write!(f, "v1.{minor}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

/// `baseline:latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    /// How strict.
    pub level: Level,
    /// As of when.
    pub version: Version,
}

impl LevelVersion {
    fn latest(level: Level) -> Self {
        Self { level, version: Version::Latest }
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level.name(), self.version)
    }
}

/// What counts in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What refuses pods.
    pub enforce: LevelVersion,
    /// What is noted of pods and of templates.
    pub audit: LevelVersion,
    /// The levels that clients get warnings of.
    pub warn: LevelVersion,
}

impl Policy {
    /// The policy of a namespace, and what is wrong with its labels. `default` counts in a namespace
    /// without an enforce label, for all three modes.
    ///
    /// A policy is always returned: what cannot be read is `restricted` and `latest` where it is
    /// enforced, and nothing where it only warns.
    pub fn of(labels: &BTreeMap<String, String>, default: Level) -> (Self, ErrorList) {
        let default = if labels.contains_key(ENFORCE) { Level::Privileged } else { default };
        let all = LevelVersion::latest(default);
        let mut policy = Self { enforce: all, audit: all, warn: all };
        let mut errors = ErrorList::new();
        let enforced = read_level(labels, ENFORCE, &mut errors);
        policy.enforce.level = match enforced {
            None => default,
            Some(level) => level.unwrap_or(Level::Restricted),
        };
        if let Some(version) = read_version(labels, ENFORCE_VERSION, &mut errors) {
            policy.enforce.version = version;
        }
        if let Some(level) = read_level(labels, AUDIT, &mut errors) {
            policy.audit.level = level.unwrap_or(Level::Privileged);
        }
        if let Some(version) = read_version(labels, AUDIT_VERSION, &mut errors) {
            policy.audit.version = version;
        }
        if let Some(level) = read_level(labels, WARN, &mut errors) {
            policy.warn.level = level.unwrap_or(Level::Privileged);
        }
        let warn_version = read_version(labels, WARN_VERSION, &mut errors);
        if let Some(version) = warn_version {
            policy.warn.version = version;
        }
        // The enforced level also warns about templates, unless a label says otherwise.
        if let Some(Some(level)) = enforced
            && !labels.contains_key(WARN)
            && level > policy.warn.level
        {
            policy.warn.level = level;
            if warn_version.is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// Whether nothing is looked at.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|of| of.level == Level::Privileged)
    }

    /// Whether the pods that are there may violate what is enforced now and did not before.
    pub fn tightens(&self, before: &Self) -> bool {
        let (now, before) = (self.enforce, before.enforce);
        let relaxed =
            now.version == before.version && now.level.cmp(&before.level) != Ordering::Greater;
        now != before && now.level != Level::Privileged && !relaxed
    }
}

/// The level a label names: nothing without the label, `Some(None)` where it names none.
fn read_level(
    labels: &BTreeMap<String, String>,
    label: &str,
    errors: &mut ErrorList,
) -> Option<Option<Level>> {
    let text = labels.get(label)?;
    let level = Level::parse(text);
    if let Err(why) = level {
        errors.push(wrong(label, text, why));
    }
    Some(level.ok())
}

fn read_version(
    labels: &BTreeMap<String, String>,
    label: &str,
    errors: &mut ErrorList,
) -> Option<Version> {
    let text = labels.get(label)?;
    let version = Version::parse(text);
    if let Err(why) = version {
        errors.push(wrong(label, text, why));
    }
    Some(version.unwrap_or(Version::Latest))
}

fn wrong(label: &str, value: &String, why: &str) -> Error {
    Error::invalid(&Path::new("metadata").child("labels").key(label), value, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(labels: &[(&str, &str)], default: Level) -> (String, Vec<String>) {
        let labels = labels
            .iter()
            .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), (*value).to_owned()))
            .collect();
        let (policy, errors) = Policy::of(&labels, default);
        let shown = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        (shown, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_namespace_without_an_enforce_label_has_the_default_in_all_modes() {
        for (labels, default, expected) in [
            (vec![], Level::Baseline, "baseline:latest baseline:latest baseline:latest"),
            (vec![], Level::Privileged, "privileged:latest privileged:latest privileged:latest"),
            (
                vec![("enforce", "privileged")],
                Level::Restricted,
                "privileged:latest privileged:latest privileged:latest",
            ),
            (
                vec![("enforce", "restricted"), ("enforce-version", "v1.24")],
                Level::Baseline,
                "restricted:v1.24 privileged:latest restricted:v1.24",
            ),
            (
                vec![("enforce", "baseline"), ("warn", "privileged")],
                Level::Baseline,
                "baseline:latest privileged:latest privileged:latest",
            ),
            (
                vec![("warn", "restricted"), ("warn-version", "v1.0"), ("audit", "restricted")],
                Level::Baseline,
                "baseline:latest restricted:latest restricted:v1.0",
            ),
            (
                vec![
                    ("enforce", "baseline"),
                    ("enforce-version", "v1.9"),
                    ("warn-version", "v1.5"),
                ],
                Level::Privileged,
                "baseline:v1.9 privileged:latest baseline:v1.5",
            ),
            (
                vec![("enforce-version", "v1.5")],
                Level::Baseline,
                "baseline:v1.5 baseline:latest baseline:latest",
            ),
        ] {
            assert_eq!(policy(&labels, default), (expected.to_owned(), vec![]), "{labels:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_restricted_where_it_is_enforced() {
        let (shown, errors) = policy(
            &[("enforce", "Baseline"), ("enforce-version", "1.24"), ("audit", ""), ("warn", "x")],
            Level::Privileged,
        );
        assert_eq!(shown, "restricted:latest privileged:latest privileged:latest");
        let label = |name: &str| format!("metadata.labels[pod-security.kubernetes.io/{name}]");
        let level = "must be one of privileged, baseline, restricted";
        assert_eq!(
            errors,
            [
                format!("{}: Invalid value: \"Baseline\": {level}", label("enforce")),
                format!(
                    "{}: Invalid value: \"1.24\": must be \"latest\" or \"v1.x\"",
                    label("enforce-version")
                ),
                format!("{}: Invalid value: \"\": {level}", label("audit")),
                format!("{}: Invalid value: \"x\": {level}", label("warn")),
            ]
        );
    }

    #[test]
    fn versions_are_latest_or_minors_of_1() {
        for (text, minor) in [("v1.0", 0), ("v1.9", 9), ("v1.34", 34), ("v1.1000", 1000)] {
            assert_eq!(Version::parse(text), Ok(Version::Minor(minor)), "{text}");
            assert_eq!(Version::Minor(minor).to_string(), text);
        }
        assert_eq!(Version::parse("latest"), Ok(Version::Latest));
        for text in [
            "",
            "v1",
            "v1.",
            "v1.01",
            "v1.00",
            "v2.0",
            "v1.-1",
            "v1.+1",
            "1.1",
            "v1.1.0",
            "v1.1 ",
            "Latest",
            "v1.9223372036854775808",
            "v1.99999999999999999999",
            "v1.١",
        ] {
            assert!(Version::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn existing_pods_are_looked_at_when_more_is_enforced() {
        let of = |level, version| {
            let both = LevelVersion { level, version };
            Policy { enforce: both, audit: both, warn: both }
        };
        use Level::{Baseline, Privileged, Restricted};
        use Version::{Latest, Minor};
        for (before, now, tightens) in [
            ((Privileged, Latest), (Baseline, Latest), true),
            ((Baseline, Latest), (Restricted, Latest), true),
            ((Restricted, Latest), (Baseline, Latest), false),
            ((Restricted, Latest), (Baseline, Minor(9)), true),
            ((Baseline, Latest), (Privileged, Minor(9)), false),
            ((Baseline, Latest), (Baseline, Latest), false),
        ] {
            let found = of(now.0, now.1).tightens(&of(before.0, before.1));
            assert_eq!(found, tightens, "{before:?} {now:?}");
        }
    }
}
