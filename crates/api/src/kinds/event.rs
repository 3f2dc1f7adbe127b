//! Events, in the two forms the API has for one thing: core/v1, which is stored, and
//! events.k8s.io/v1, whose rules are stricter.

use jiff::Timestamp;
pub use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::core::v1::{EventSeries, ObjectReference, PodTemplateSpec};
pub use k8s_openapi::api::events::v1::Event as SeriesEvent;
use k8s_openapi::api::events::v1::EventSeries as StrictSeries;
use schemars::JsonSchema;
use serde_json::Value;

use super::info::{Deletion, Dependents, KindInfo};
use super::kind::Kind;
use super::merge::Rules;
use super::meta;
use super::optional::text;
use super::roles::Grant;
use crate::equality::equal;
use crate::field::{Error, ErrorList, Path};
use crate::names;
use crate::protobuf::tables::{core, events};
use crate::subresource::SubresourceName;
use crate::well_known::namespace;

mod printer;

const TEXT_BYTES_MAX: usize = 128;
const NOTE_BYTES_MAX: usize = 1024;

const OWNS_NOTHING: Deletion = Deletion { dependents: Dependents::None, ..Deletion::DEFAULT };

static CORE_INFO: KindInfo = KindInfo {
    short_names: &["ev"],
    create_on_update: true,
    name_rule: names::path_segment_name,
    field_labels: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    rules: &Rules { held: &[("core.v1.Event", &["involvedObject", "source"])], ..Rules::NONE },
    columns: printer::COLUMNS,
    roles: &[Grant::view(&[""]), Grant::edit(&[""])],
    deletion: OWNS_NOTHING,
    ..KindInfo::of::<Event>("event", &core::EVENT)
};

static SERIES_INFO: KindInfo = KindInfo {
    short_names: &["ev"],
    create_on_update: true,
    field_labels: &[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    ],
    rules: &Rules {
        held: &[("events.v1.Event", &["deprecatedSource", "regarding"])],
        ..Rules::NONE
    },
    columns: printer::COLUMNS,
    deletion: OWNS_NOTHING,
    ..KindInfo::of::<SeriesEvent>("event", &events::EVENT)
};

/// The events.k8s.io/v1 form of a stored event.
pub fn from_core(event: Event) -> SeriesEvent {
    SeriesEvent {
        action: event.action,
        deprecated_count: event.count,
        deprecated_first_timestamp: event.first_timestamp,
        deprecated_last_timestamp: event.last_timestamp,
        deprecated_source: event.source,
        event_time: event.event_time,
        metadata: event.metadata,
        note: event.message,
        reason: event.reason,
        regarding: Some(event.involved_object),
        related: event.related,
        reporting_controller: event.reporting_component,
        reporting_instance: event.reporting_instance,
        series: event.series.and_then(|series| {
            Some(StrictSeries {
                count: series.count.unwrap_or_default(),
                last_observed_time: series.last_observed_time?,
            })
        }),
        type_: event.type_,
    }
}

/// The form in which an event is stored.
pub fn to_core(event: SeriesEvent) -> Event {
    Event {
        action: event.action,
        count: event.deprecated_count,
        event_time: event.event_time,
        first_timestamp: event.deprecated_first_timestamp,
        involved_object: event.regarding.unwrap_or_default(),
        last_timestamp: event.deprecated_last_timestamp,
        message: event.note,
        metadata: event.metadata,
        reason: event.reason,
        related: event.related,
        reporting_component: event.reporting_controller,
        reporting_instance: event.reporting_instance,
        series: event.series.map(|series| EventSeries {
            count: Some(series.count),
            last_observed_time: Some(series.last_observed_time),
        }),
        source: event.deprecated_source,
        type_: event.type_,
    }
}

impl Kind for Event {
    const INFO: &'static KindInfo = &CORE_INFO;

    fn validate(&self) -> ErrorList {
        let mut errors = validate_any(self);
        if errors.is_empty() {
            errors.extend(meta::validate(&self.metadata, &CORE_INFO));
        }
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(validate_any(self));
        errors
    }

    /// Under the names of both forms, since one stored event is selected through either.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let component = self.source.as_ref().map(|it| text(&it.component)).unwrap_or_default();
        let reporter = text(&self.reporting_component);
        let source = if component.is_empty() { reporter } else { component };
        let mut fields = object_fields(&self.involved_object, &CORE_INFO);
        fields.extend([
            ("reason", text(&self.reason).to_owned()),
            ("reportingComponent", reporter.to_owned()),
            ("source", source.to_owned()),
            ("type", text(&self.type_).to_owned()),
        ]);
        fields.extend(object_fields(&self.involved_object, &SERIES_INFO));
        fields.push(("reportingController", reporter.to_owned()));
        fields
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        printer::cells(self, now)
    }
}

impl Kind for SeriesEvent {
    const INFO: &'static KindInfo = &SERIES_INFO;

    fn validate(&self) -> ErrorList {
        validate_series_form(&to_core(self.clone()))
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        validate_series_form_update(&to_core(self.clone()), &to_core(old.clone()))
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let regarding = self.regarding.clone().unwrap_or_default();
        let mut fields = object_fields(&regarding, &SERIES_INFO);
        fields.extend([
            ("reason", text(&self.reason).to_owned()),
            ("reportingController", text(&self.reporting_controller).to_owned()),
            ("type", text(&self.type_).to_owned()),
        ]);
        fields
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        printer::cells_of_series_form(self, now)
    }
}

/// Everything wrong with a new event that came in by events.k8s.io/v1, in its stored form.
pub fn validate_series_form(event: &Event) -> ErrorList {
    let mut errors = validate_any(event);
    errors.extend(meta::validate(&event.metadata, &SERIES_INFO));
    errors.extend(validate_strictly(event));
    errors
}

/// Everything wrong with an update that came in by events.k8s.io/v1, both in their stored form.
pub fn validate_series_form_update(new: &Event, old: &Event) -> ErrorList {
    let mut errors = validate_any(new);
    errors.extend(meta::validate_update(&new.metadata, &old.metadata));
    if !equal(&new.series, &old.series) {
        errors.extend(validate_series(new));
    }
    errors.extend(validate_frozen(new, old));
    errors
}

/// The first seven labels of both forms, which speak of the object in the same order.
fn object_fields(object: &ObjectReference, info: &KindInfo) -> Vec<(&'static str, String)> {
    let values = [
        &object.kind,
        &object.namespace,
        &object.name,
        &object.uid,
        &object.api_version,
        &object.resource_version,
        &object.field_path,
    ];
    let labels = info.field_labels.iter().copied();
    labels.zip(values.map(|value| text(value).to_owned())).collect()
}

/// What holds for every event. One without an eventTime is of the old kind and may say little.
fn validate_any(event: &Event) -> ErrorList {
    let mut errors = ErrorList::new();
    let namespace = text(&event.metadata.namespace);
    let about = text(&event.involved_object.namespace);
    let agrees = match (event.event_time.is_some(), about) {
        (false, "") => matches!(namespace, "" | namespace::DEFAULT),
        (false, about) => namespace == about,
        (true, "") => matches!(namespace, namespace::DEFAULT | namespace::KUBE_SYSTEM),
        (true, _) => true,
    };
    if !agrees {
        let path = Path::new("involvedObject").child("namespace");
        errors.push(Error::invalid(&path, about, "does not match event.namespace"));
    }
    if event.event_time.is_some() {
        errors.extend(validate_new_kind(event));
    }
    let wrong = names::dns1123_subdomain(namespace);
    errors.extend(meta::invalid_each(&Path::new("namespace"), namespace, wrong));
    errors
}

fn validate_new_kind(event: &Event) -> ErrorList {
    let mut errors = ErrorList::new();
    let controller = text(&event.reporting_component);
    let path = Path::new("reportingController");
    if controller.is_empty() {
        errors.push(Error::required(&path, ""));
    }
    errors.extend(meta::invalid_each(&path, controller, names::qualified_name(controller)));
    for (name, value) in [
        ("reportingInstance", &event.reporting_instance),
        ("action", &event.action),
        ("reason", &event.reason),
    ] {
        let (path, value) = (Path::new(name), text(value));
        if value.is_empty() {
            errors.push(Error::required(&path, ""));
        }
        errors.extend(too_long(value, TEXT_BYTES_MAX, &path));
    }
    errors.extend(too_long(text(&event.message), NOTE_BYTES_MAX, &Path::new("message")));
    errors
}

fn too_long(value: &str, max: usize, path: &Path) -> Option<Error> {
    let detail = format!("can have at most {max} characters");
    (value.len() > max).then(|| Error::invalid(path, "", detail))
}

fn validate_series(event: &Event) -> ErrorList {
    let Some(series) = &event.series else { return ErrorList::new() };
    let mut errors = ErrorList::new();
    if series.count.unwrap_or_default() < 2 {
        let path = Path::new("series.count");
        errors.push(Error::invalid(&path, "", "should be at least 2"));
    }
    if series.last_observed_time.is_none() {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
    errors
}

/// What events.k8s.io/v1 asks of a new event beyond [`validate_any`].
fn validate_strictly(event: &Event) -> ErrorList {
    let mut errors = validate_series(event);
    if event.event_time.is_none() {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    let kind = text(&event.type_);
    if !matches!(kind, "Normal" | "Warning") {
        let detail = format!("has invalid value: {kind}");
        errors.push(Error::invalid(&Path::new("type"), "", detail));
    }
    let source = event.source.as_ref();
    let old_style = [
        ("firstTimestamp", event.first_timestamp.is_some()),
        ("lastTimestamp", event.last_timestamp.is_some()),
        ("count", event.count.unwrap_or_default() != 0),
        (
            "source",
            source.is_some_and(|it| !text(&it.component).is_empty() || !text(&it.host).is_empty()),
        ),
    ];
    for (name, _) in old_style.iter().filter(|(_, set)| *set) {
        errors.push(Error::invalid(&Path::new(name), "", "needs to be unset"));
    }
    errors
}

/// Of an event only its series changes.
fn validate_frozen(new: &Event, old: &Event) -> ErrorList {
    fn frozen<T: serde::Serialize + JsonSchema>(name: &str, new: &T, old: &T) -> Option<Error> {
        meta::immutable(new, old, &Path::new(name))
    }
    let all = [
        frozen("involvedObject", &new.involved_object, &old.involved_object),
        frozen("reason", &new.reason, &old.reason),
        frozen("message", &new.message, &old.message),
        frozen("source", &new.source, &old.source),
        frozen("firstTimestamp", &new.first_timestamp, &old.first_timestamp),
        frozen("lastTimestamp", &new.last_timestamp, &old.last_timestamp),
        frozen("count", &new.count, &old.count),
        frozen("type", &new.type_, &old.type_),
        frozen("eventTime", &new.event_time, &old.event_time),
        frozen("action", &new.action, &old.action),
        frozen("related", &new.related, &old.related),
        frozen("reportingController", &new.reporting_component, &old.reporting_component),
        frozen("reportingInstance", &new.reporting_instance, &old.reporting_instance),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
