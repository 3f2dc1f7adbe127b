//! ReplicationController, ReplicaSet and Deployment: a number of pods made from one template.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Structured;

use super::optional::{list, text};
use super::pod::template;
use super::{meta, shown};
use crate::equality::equal;
use crate::field::{Error, ErrorList, Path};
use crate::selector::LabelSelector;

pub(super) mod deployment;
pub(super) mod replica_set;
mod replicated;
pub(super) mod replication_controller;

/// A selector in the syntax of list requests, its terms in the order of their keys; `None` for one
/// that cannot be read, which validation refuses.
fn selector_text(selector: &Structured) -> Option<String> {
    LabelSelector::of_structured(selector).ok().map(|selector| selector.to_string())
}

/// The same as a cell.
fn selector_cell(selector: &Structured) -> String {
    selector_text(selector).unwrap_or_else(|| "<error>".to_owned())
}

fn non_negative(name: &str, value: Option<i64>, path: &Path) -> Option<Error> {
    let value = value.filter(|value| *value < 0)?;
    let detail = "must be greater than or equal to 0";
    Some(Error::invalid(&path.child(name), value, detail))
}

/// How many pods a status speaks of. No number is larger than the one it is part of.
struct Counts {
    replicas: i32,
    /// Field name and number of each part of `replicas`.
    parts: Vec<(&'static str, Option<i32>)>,
    ready: Option<i32>,
    available: Option<i32>,
    observed_generation: Option<i64>,
}

impl Counts {
    fn validate(&self) -> ErrorList {
        let path = Path::new("status");
        let mut errors = ErrorList::new();
        errors.extend(non_negative("replicas", Some(self.replicas.into()), &path));
        for (name, number) in self.parts() {
            errors.extend(non_negative(name, number.map(i64::from), &path));
        }
        errors.extend(non_negative("observedGeneration", self.observed_generation, &path));
        for (name, number) in self.parts() {
            if let Some(number) = number.filter(|number| *number > self.replicas) {
                let detail = "cannot be greater than status.replicas";
                errors.push(Error::invalid(&path.child(name), number, detail));
            }
        }
        let (available, ready) =
            (self.available.unwrap_or_default(), self.ready.unwrap_or_default());
        if available > ready {
            let path = path.child("availableReplicas");
            errors.push(Error::invalid(&path, available, "cannot be greater than readyReplicas"));
        }
        errors
    }

    fn parts(&self) -> impl Iterator<Item = (&'static str, Option<i32>)> {
        let last = [("readyReplicas", self.ready), ("availableReplicas", self.available)];
        self.parts.iter().copied().chain(last)
    }
}

/// The rules of a template under a selector: labels match, pods restart always.
fn validate_template(
    template: &PodTemplateSpec,
    selects: impl Fn(&BTreeMap<String, String>) -> bool,
    controller: &str,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    if !selects(labels.unwrap_or(&BTreeMap::new())) {
        let path = path.child("metadata").child("labels");
        let detail = "`selector` does not match template `labels`";
        errors.push(meta::invalid_json(&path, &labels, detail));
    }
    errors.extend(template::validate(template, path));
    let spec = template.spec.as_ref();
    let policy = spec.map(|spec| text(&spec.restart_policy)).unwrap_or_default();
    let path = path.child("spec");
    if policy != "Always" {
        let path = path.child("restartPolicy");
        errors.push(Error::not_supported(&path, policy, &["Always"]));
    }
    if spec.is_some_and(|spec| spec.active_deadline_seconds.is_some()) {
        let detail = format!("activeDeadlineSeconds in {controller} is not Supported");
        errors.push(Error::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
    errors
}

/// A selector once given stays, or the pods it selected would be no one's.
fn validate_same_selector(new: &Structured, old: &Structured) -> Option<Error> {
    let path = Path::new("spec").child("selector");
    let error = meta::invalid_json(&path, &shown::selector(new), meta::IMMUTABLE);
    (!equal(new, old)).then_some(error)
}

/// The rules of a structured selector and of the template it selects from.
fn validate_selected(
    selector: &Structured,
    template: Option<&PodTemplateSpec>,
    path: &Path,
) -> ErrorList {
    let selector_path = path.child("selector");
    let mut errors = ErrorList::new();
    let absent = selector.match_labels.is_none() && selector.match_expressions.is_none();
    let labels = selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty());
    let nothing = labels && list(&selector.match_expressions).is_empty();
    if absent {
        errors.push(Error::required(&selector_path, ""));
    } else {
        errors.extend(super::pod::validate_selector(selector, &selector_path));
        if nothing {
            let detail = "empty selector is invalid for deployment";
            errors.push(meta::invalid_json(&selector_path, &shown::selector(selector), detail));
        }
    }
    let template_path = path.child("template");
    match (LabelSelector::of_structured(selector), template) {
        (Err(_), _) => {
            let detail = "invalid label selector";
            errors.push(meta::invalid_json(&selector_path, &shown::selector(selector), detail));
        }
        (Ok(parsed), Some(template)) => {
            // No selector at all selects nothing; an empty one is not held against the template.
            let selects =
                |labels: &BTreeMap<String, String>| !absent && (nothing || parsed.matches(labels));
            errors.extend(validate_template(template, selects, "ReplicaSet", &template_path));
        }
        // A template that was left out decodes as an empty one upstream.
        (Ok(_), None) => {
            let empty = PodTemplateSpec::default();
            errors.extend(validate_template(&empty, |_| !absent, "ReplicaSet", &template_path));
        }
    }
    errors
}

#[cfg(test)]
mod tests;
