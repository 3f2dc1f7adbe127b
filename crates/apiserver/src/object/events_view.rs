//! Events in their second form.

use coffer_api::kinds::{self, Event, Kind, SeriesEvent};
use coffer_api::schema;
use zeroize::Zeroizing;

use super::decode_error::typed_as;
use super::resource::Resource;

/// `events.k8s.io/v1`, a second form of what is stored as core/v1 events: one list of events,
/// whichever way they come in.
pub(super) fn events_view() -> Resource {
    Resource {
        info: SeriesEvent::INFO,
        decode: |document| {
            let info = SeriesEvent::INFO;
            let schema = schema::of(&info.api_version(), info.kind);
            let event = typed_as::<SeriesEvent>(document, schema)?;
            Ok(Box::new(kinds::event::to_core(event)))
        },
        convert: Some(|bytes| {
            let event = serde_json::from_slice::<Event>(bytes).ok()?;
            serde_json::to_vec(&kinds::event::from_core(event)).ok().map(Zeroizing::new)
        }),
        ..Resource::of::<Event>()
    }
}
