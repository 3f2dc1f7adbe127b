//! Event rows, for both faces of one stored event: core/v1 and events.k8s.io/v1.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::api::events::v1::Event as SeriesEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::Value;

use super::{Column, Printed, doc, name, since};

impl Printed for Event {
    const COLUMNS: &'static [Column] = &[
        Column::string("Last Seen", doc::EVENT_LAST),
        Column::string("Type", doc::EVENT_TYPE),
        Column::string("Reason", doc::EVENT_REASON),
        Column::string("Object", doc::EVENT_OBJECT),
        Column::string("Subobject", doc::EVENT_FIELD_PATH).wide(),
        Column::string("Source", doc::EVENT_SOURCE).wide(),
        Column::string("Message", doc::EVENT_MESSAGE),
        Column::string("First Seen", doc::EVENT_FIRST).wide(),
        Column::string("Count", doc::EVENT_COUNT).wide(),
        Column::NAME.wide(),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let series = self.series.as_ref();
        let row = Row {
            name: name(self),
            first: time(&self.first_timestamp).or_else(|| micro(&self.event_time)),
            last: time(&self.last_timestamp),
            count: self.count.unwrap_or_default(),
            series: series.map(|series| {
                (micro(&series.last_observed_time), series.count.unwrap_or_default())
            }),
            object: Some(&self.involved_object),
            source: self.source.as_ref(),
            reporter: text(&self.reporting_component),
            reporting_instance: text(&self.reporting_instance),
            type_: text(&self.type_),
            reason: text(&self.reason),
            message: text(&self.message),
        };
        row.cells(now)
    }
}

impl Printed for SeriesEvent {
    const COLUMNS: &'static [Column] = Event::COLUMNS;

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let series = self.series.as_ref();
        let row = Row {
            name: name(self),
            first: time(&self.deprecated_first_timestamp).or_else(|| micro(&self.event_time)),
            last: time(&self.deprecated_last_timestamp),
            count: self.deprecated_count.unwrap_or_default(),
            series: series.map(|series| (Some(series.last_observed_time.0), series.count)),
            object: self.regarding.as_ref(),
            source: self.deprecated_source.as_ref(),
            reporter: text(&self.reporting_controller),
            reporting_instance: text(&self.reporting_instance),
            type_: text(&self.type_),
            reason: text(&self.reason),
            message: text(&self.note),
        };
        row.cells(now)
    }
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

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

fn time(field: &Option<Time>) -> Option<Timestamp> {
    field.as_ref().map(|Time(at)| *at)
}

fn micro(field: &Option<MicroTime>) -> Option<Timestamp> {
    field.as_ref().map(|MicroTime(at)| *at)
}
