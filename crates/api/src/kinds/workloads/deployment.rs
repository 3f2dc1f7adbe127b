//! Deployment: pods of one template, replaced step by step when the template changes.

use jiff::Timestamp;
pub use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::apps::v1::{
    DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{
    Counts, non_negative, selector_cell, selector_text, validate_same_selector, validate_selected,
};
use crate::equality::equal;
use crate::field::{Error, ErrorList, Path};
use crate::kinds::info::{KindInfo, Subresource};
use crate::kinds::kind::{EMPTY_TEMPLATE, Kind, Scale};
use crate::kinds::merge::{CONDITIONS, Rules};
use crate::kinds::meta;
use crate::kinds::optional::{default_text, text};
use crate::kinds::pod::{self, template};
use crate::kinds::roles::Grant;
use crate::protobuf::tables::apps;
use crate::share;
use crate::subresource::SubresourceName;
use crate::table::{self, Column};
use crate::well_known::api_group;

static INFO: KindInfo = KindInfo {
    short_names: &["deploy"],
    categories: &["all"],
    tracks_generation: true,
    subresources: &[Subresource::scale(), Subresource::status(api_group::APPS, "Deployment")],
    rules: &Rules {
        lists: &[("apps.v1.DeploymentStatus", "conditions", CONDITIONS)],
        retain_keys: &[("apps.v1.DeploymentSpec", "strategy")],
        omits_zero: &[
            ("apps.v1.DeploymentSpec", &["minReadySeconds", "paused"]),
            ("apps.v1.DeploymentStrategy", &["type"]),
        ],
        held: &[("apps.v1.DeploymentSpec", &["strategy", "template"])],
        ..Rules::NONE
    },
    columns: &[
        Column::NAME,
        Column::string("Ready", READY_COLUMN),
        Column::string("Up-to-date", UPDATED_COLUMN),
        Column::string("Available", AVAILABLE_COLUMN),
        Column::AGE,
        template::CONTAINERS,
        template::IMAGES,
        Column::string("Selector", SELECTOR_COLUMN).wide(),
    ],
    roles: &[Grant::view(&["", "/status", "/scale"]), Grant::edit(&["", "/scale", "/rollback"])],
    ..KindInfo::of::<Deployment>("deployment", &apps::DEPLOYMENT)
};

impl Kind for Deployment {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        let strategy = spec.strategy.get_or_insert_default();
        default_text(&mut strategy.type_, "RollingUpdate");
        if text(&strategy.type_) == "RollingUpdate" {
            let quarter = || IntOrString::String("25%".to_owned());
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        template::set_defaults(&mut spec.template);
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(DeploymentStatus::default());
        meta::first_generation(&mut self.metadata);
    }

    fn prepare_for_update(&mut self, old: &Self, sub: Option<SubresourceName>) {
        if sub == Some(SubresourceName::Status) {
            self.spec = old.spec.clone();
            self.metadata.labels = old.metadata.labels.clone();
            self.metadata.generation = old.metadata.generation;
            return;
        }
        self.status = old.status.clone();
        // Annotations count, since the controller copies them to its replica sets.
        let changed = !equal(&self.spec, &old.spec)
            || !equal(&self.metadata.annotations, &old.metadata.annotations);
        meta::next_generation(&mut self.metadata, &old.metadata, changed);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_spec(&self.spec.clone().unwrap_or_default()));
        errors
    }

    fn validate_update(&self, old: &Self, sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if sub == Some(SubresourceName::Status) {
            errors.extend(validate_status(self, old));
            return errors;
        }
        errors.extend(validate_spec(&self.spec.clone().unwrap_or_default()));
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            errors.extend(validate_same_selector(&new.selector, &old.selector));
        }
        errors
    }

    fn warnings(&self) -> Vec<String> {
        let template = self.spec.as_ref().map(|spec| &spec.template);
        pod::template_warnings(template, &Path::new("spec").child("template"))
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        Some(self.spec.as_ref().map_or(&EMPTY_TEMPLATE, |spec| &spec.template))
    }

    fn scale(&self) -> Option<Scale> {
        let (spec, status) = (self.spec.as_ref(), self.status.as_ref());
        Some(Scale {
            desired: spec.and_then(|spec| spec.replicas),
            current: status.and_then(|status| status.replicas).unwrap_or_default(),
            selector: spec.and_then(|spec| selector_text(&spec.selector)),
        })
    }

    fn replicas_mut(&mut self) -> Option<&mut Option<i32>> {
        Some(&mut self.spec.get_or_insert_default().replicas)
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or_default();
        let desired = spec.replicas.unwrap_or_default();
        let [containers, images] = template::container_cells(&spec.template);
        vec![
            table::name(self),
            format!("{ready}/{desired}").into(),
            status.updated_replicas.unwrap_or_default().into(),
            status.available_replicas.unwrap_or_default().into(),
            table::age(self, now),
            containers,
            images,
            selector_cell(&spec.selector).into(),
        ]
    }
}

fn validate_spec(spec: &DeploymentSpec) -> ErrorList {
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    errors.extend(non_negative("replicas", spec.replicas.map(i64::from), &path));
    errors.extend(validate_selected(&spec.selector, Some(&spec.template), &path));
    errors.extend(validate_strategy(&spec.strategy, &path.child("strategy")));
    let ready_s = spec.min_ready_seconds;
    errors.extend(non_negative("minReadySeconds", ready_s.map(i64::from), &path));
    let limit = spec.revision_history_limit.map(i64::from);
    errors.extend(non_negative("revisionHistoryLimit", limit, &path));
    if let Some(deadline_s) = spec.progress_deadline_seconds {
        let name = "progressDeadlineSeconds";
        errors.extend(non_negative(name, Some(deadline_s.into()), &path));
        if deadline_s <= ready_s.unwrap_or_default() {
            let detail = "must be greater than minReadySeconds";
            errors.push(Error::invalid(&path.child(name), deadline_s, detail));
        }
    }
    errors
}

fn validate_strategy(strategy: &Option<DeploymentStrategy>, path: &Path) -> ErrorList {
    let strategy = strategy.clone().unwrap_or_default();
    let rolling_path = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", None) => ErrorList::new(),
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            vec![Error::forbidden(&rolling_path, detail)]
        }
        ("RollingUpdate", Some(rolling)) => validate_rolling(rolling, &rolling_path),
        ("RollingUpdate", None) => {
            let detail = "this should be defaulted and never be nil";
            vec![Error::required(&rolling_path, detail)]
        }
        (other, _) => {
            // Upstream prints its internal type, whose fields have no JSON names.
            let shown = format!("{{\"Type\":{other:?},\"RollingUpdate\":null}}");
            let supported = ["Recreate", "RollingUpdate"];
            let mut error = Error::not_supported(path, other, &supported);
            error.value = Some(shown);
            vec![error]
        }
    }
}

fn validate_rolling(rolling: &RollingUpdateDeployment, path: &Path) -> ErrorList {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let unavailable_path = path.child("maxUnavailable");
    let mut errors = share::validate(unavailable, &unavailable_path);
    errors.extend(share::validate(surge, &path.child("maxSurge")));
    if number(unavailable) == 0 && number(surge) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(meta::invalid_json(&unavailable_path, unavailable, detail));
    }
    errors.extend(share::validate_part(unavailable, &unavailable_path));
    errors
}

/// The number or the percentage; malformed ones are reported elsewhere and count as zero.
fn number(share: &IntOrString) -> i32 {
    match share {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => share::percent(text).unwrap_or_default(),
    }
}

fn validate_status(new: &Deployment, old: &Deployment) -> ErrorList {
    let path = Path::new("status");
    let status = new.status.clone().unwrap_or_default();
    let counts = Counts {
        replicas: status.replicas.unwrap_or_default(),
        parts: vec![("updatedReplicas", status.updated_replicas)],
        ready: status.ready_replicas,
        available: status.available_replicas,
        observed_generation: status.observed_generation,
    };
    let mut errors = counts.validate();
    let unavailable = status.unavailable_replicas.map(i64::from);
    errors.extend(non_negative("unavailableReplicas", unavailable, &path));
    errors.extend(non_negative("collisionCount", status.collision_count.map(i64::from), &path));
    let before = old.status.as_ref().and_then(|status| status.collision_count);
    if status.collision_count < before {
        let path = path.child("collisionCount");
        let count = status.collision_count.unwrap_or_default();
        errors.push(Error::invalid(&path, count, "cannot be decremented"));
    }
    errors
}

const READY_COLUMN: &str = "Number of the pod with ready state";
const UPDATED_COLUMN: &str = "Total number of non-terminated pods targeted by this deployment that have the desired template spec.";
const AVAILABLE_COLUMN: &str = "Total number of available pods (ready for at least minReadySeconds) targeted by this deployment.";
const SELECTOR_COLUMN: &str = "Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones affected by this deployment.";
