//! Rows of the kinds that keep pods running: ReplicationController, ReplicaSet, Deployment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::{Column, Printed, age, doc, name, or_none};

const CONTAINERS: Column = Column::string("Containers", doc::CONTAINERS).wide();
const IMAGES: Column = Column::string("Images", doc::IMAGES).wide();

impl Printed for ReplicationController {
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::integer("Desired", doc::RC_REPLICAS),
        Column::integer("Current", doc::RC_STATUS_REPLICAS),
        Column::integer("Ready", doc::RC_READY),
        Column::AGE,
        CONTAINERS,
        IMAGES,
        Column::string("Selector", doc::RC_SELECTOR).wide(),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.as_ref();
        let (containers, images) = container_cells(spec.template.as_ref());
        vec![
            name(self),
            spec.replicas.unwrap_or_default().into(),
            status.map_or(0, |status| status.replicas).into(),
            status.and_then(|status| status.ready_replicas).unwrap_or_default().into(),
            age(self, now),
            containers,
            images,
            or_none(&pairs(spec.selector.as_ref()).join(",")).into(),
        ]
    }
}

impl Printed for ReplicaSet {
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::integer("Desired", doc::RS_REPLICAS),
        Column::integer("Current", doc::RS_STATUS_REPLICAS),
        Column::integer("Ready", doc::RS_READY),
        Column::AGE,
        CONTAINERS,
        IMAGES,
        Column::string("Selector", doc::RS_SELECTOR).wide(),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.as_ref();
        let (containers, images) = container_cells(spec.template.as_ref());
        vec![
            name(self),
            spec.replicas.unwrap_or_default().into(),
            status.map_or(0, |status| status.replicas).into(),
            status.and_then(|status| status.ready_replicas).unwrap_or_default().into(),
            age(self, now),
            containers,
            images,
            or_none(&selector(&spec.selector)).into(),
        ]
    }
}

impl Printed for Deployment {
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::string("Ready", doc::DEPLOYMENT_READY),
        Column::string("Up-to-date", doc::DEPLOYMENT_UPDATED),
        Column::string("Available", doc::DEPLOYMENT_AVAILABLE),
        Column::AGE,
        CONTAINERS,
        IMAGES,
        Column::string("Selector", doc::DEPLOYMENT_SELECTOR).wide(),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or_default();
        let desired = spec.replicas.unwrap_or_default();
        let (containers, images) = container_cells(Some(&spec.template));
        vec![
            name(self),
            format!("{ready}/{desired}").into(),
            status.updated_replicas.unwrap_or_default().into(),
            status.available_replicas.unwrap_or_default().into(),
            age(self, now),
            containers,
            images,
            selector(&spec.selector).into(),
        ]
    }
}

fn container_cells(template: Option<&PodTemplateSpec>) -> (Value, Value) {
    let containers = template.and_then(|template| template.spec.as_ref());
    let containers = containers.map_or(&[][..], |spec| &spec.containers);
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    let images: Vec<&str> =
        containers.iter().map(|container| container.image.as_deref().unwrap_or_default()).collect();
    (names.join(",").into(), images.join(",").into())
}

fn pairs(labels: Option<&BTreeMap<String, String>>) -> Vec<String> {
    labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect()
}

/// A selector in the syntax of `kubectl get -l`, its requirements in key order.
fn selector(selector: &LabelSelector) -> String {
    let mut requirements: Vec<(&str, String)> = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        requirements.push((key, format!("{key}={value}")));
    }
    for expression in selector.match_expressions.iter().flatten() {
        let key = expression.key.as_str();
        let mut values = expression.values.clone().unwrap_or_default();
        values.sort();
        let values = values.join(",");
        requirements.push((
            key,
            match expression.operator.as_str() {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "Exists" => key.to_owned(),
                "DoesNotExist" => format!("!{key}"),
                _ => return "<error>".to_owned(),
            },
        ));
    }
    requirements.sort_by_key(|(key, _)| *key);
    let shown: Vec<String> = requirements.into_iter().map(|(_, shown)| shown).collect();
    shown.join(",")
}
