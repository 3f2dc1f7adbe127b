//! Event rows, for both faces of one stored event: core/v1 and events.k8s.io/v1.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::Value;

use super::{Event, SeriesEvent};
use crate::kinds::optional::text;
use crate::table::{Column, name, since};

pub(super) const COLUMNS: &[Column] = &[
    Column::string("Last Seen", LAST),
    Column::string("Type", TYPE),
    Column::string("Reason", REASON),
    Column::string("Object", OBJECT),
    Column::string("Subobject", FIELD_PATH).wide(),
    Column::string("Source", SOURCE).wide(),
    Column::string("Message", MESSAGE),
    Column::string("First Seen", FIRST).wide(),
    Column::string("Count", COUNT).wide(),
    Column::NAME.wide(),
];

pub(super) fn cells(event: &Event, now: Timestamp) -> Vec<Value> {
    let series = event.series.as_ref();
    let row = Row {
        name: name(event),
        first: time(&event.first_timestamp).or_else(|| micro(&event.event_time)),
        last: time(&event.last_timestamp),
        count: event.count.unwrap_or_default(),
        series: series
            .map(|series| (micro(&series.last_observed_time), series.count.unwrap_or_default())),
        object: Some(&event.involved_object),
        source: event.source.as_ref(),
        reporter: text(&event.reporting_component),
        reporting_instance: text(&event.reporting_instance),
        type_: text(&event.type_),
        reason: text(&event.reason),
        message: text(&event.message),
    };
    row.cells(now)
}

pub(super) fn cells_of_series_form(event: &SeriesEvent, now: Timestamp) -> Vec<Value> {
    let series = event.series.as_ref();
    let row = Row {
        name: name(event),
        first: time(&event.deprecated_first_timestamp).or_else(|| micro(&event.event_time)),
        last: time(&event.deprecated_last_timestamp),
        count: event.deprecated_count.unwrap_or_default(),
        series: series.map(|series| (Some(series.last_observed_time.0), series.count)),
        object: event.regarding.as_ref(),
        source: event.deprecated_source.as_ref(),
        reporter: text(&event.reporting_controller),
        reporting_instance: text(&event.reporting_instance),
        type_: text(&event.type_),
        reason: text(&event.reason),
        message: text(&event.note),
    };
    row.cells(now)
}

/// What the two faces have in common.
struct Row<'a> {
    name: Value,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    count: i32,
    series: Option<(Option<Timestamp>, i32)>,
    object: Option<&'a ObjectReference>,
    source: Option<&'a EventSource>,
    reporter: &'a str,
    reporting_instance: &'a str,
    type_: &'a str,
    reason: &'a str,
    message: &'a str,
}

impl Row<'_> {
    fn cells(self, now: Timestamp) -> Vec<Value> {
        let (last, count) = match self.series {
            Some((last, count)) => (last, count),
            // An event that happened once has no count in the new API.
            None => (self.last.or(self.first), self.count.max(1)),
        };
        let field_path = self.object.and_then(|object| object.field_path.clone());
        vec![
            since(last, now).into(),
            self.type_.into(),
            self.reason.into(),
            self.target().into(),
            field_path.unwrap_or_default().into(),
            self.source().into(),
            self.message.trim().into(),
            since(self.first, now).into(),
            count.into(),
            self.name,
        ]
    }

    fn target(&self) -> String {
        let Some(object) = self.object else { return String::new() };
        let kind = text(&object.kind).to_lowercase();
        match text(&object.name) {
            "" => kind,
            name => format!("{kind}/{name}"),
        }
    }

    fn source(&self) -> String {
        let said = |field: Option<&Option<String>>, otherwise: &str| match field.map(text) {
            None | Some("") => otherwise.to_owned(),
            Some(field) => field.to_owned(),
        };
        let component = said(self.source.map(|source| &source.component), self.reporter);
        let host = said(self.source.map(|source| &source.host), self.reporting_instance);
        if host.is_empty() { component } else { format!("{component}, {host}") }
    }
}

fn time(field: &Option<Time>) -> Option<Timestamp> {
    field.as_ref().map(|Time(at)| *at)
}

fn micro(field: &Option<MicroTime>) -> Option<Timestamp> {
    field.as_ref().map(|MicroTime(at)| *at)
}

const LAST: &str = "The time at which the most recent occurrence of this event was recorded.";
const TYPE: &str = "Type of this event (Normal, Warning), new types could be added in the future";
const REASON: &str = "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.";
const OBJECT: &str = "The object that this event is about.";
const FIELD_PATH: &str = "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement, such as desiredState.manifest.containers[2]. For example, if the object reference is to a container within a pod, this would take on a value like: \"spec.containers{name}\" (where \"name\" refers to the name of the container that triggered the event) or if no container name is specified \"spec.containers[2]\" (container with index 2 in this pod). This syntax is chosen only to have some well-defined way of referencing a part of an object.";
const SOURCE: &str =
    "The component reporting this event. Should be a short machine understandable string.";
const MESSAGE: &str = "A human-readable description of the status of this operation.";
const FIRST: &str =
    "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)";
const COUNT: &str = "The number of times this event has occurred.";
