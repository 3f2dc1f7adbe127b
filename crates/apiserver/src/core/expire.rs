//! Events expire: an hour after their last change they are removed.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;

use super::Core;
use crate::cache::Scope;
use crate::object::Object;

/// How long an event is kept after it was last written; upstream's `--event-ttl`.
const EVENT_TTL: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
/// How far in the future of this server's clock a writer's may be.
const CLOCK_SKEW_MAX: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);
/// How often the server looks for expired events.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Removes expired events for as long as it is polled.
pub(crate) async fn expire_events(core: &Core) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        sweep(core, jiff::Timestamp::now()).await;
    }
}

async fn sweep(core: &Core, now: jiff::Timestamp) {
    let Some(events) = core.resources().find("", "v1", "events") else { return };
    let (all, _) = events.shard().list(&events.collection(""), &Scope::All);
    for event in all {
        let Ok(object) = events.parse(&event.bytes) else { continue };
        if last_change(&*object, now).is_none_or(|at| now.duration_since(at) <= EVENT_TTL) {
            continue;
        }
        // A newer write of the same event wins; whatever else fails is tried at the next sweep.
        if let Err(failure) = core.expire_own(events, &event).await {
            tracing::debug!(%failure, "expired event not removed");
        }
    }
}

/// When an event was created, by this server's clock, or the later time that its writer gave for it. A time
/// beyond [`CLOCK_SKEW_MAX`] is no time of a write, and would keep the event for ever.
fn last_change(object: &dyn Object, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
    let event = object.of_kind::<Event>()?;
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let given = [last, series.map(|time| time.0)];
    let given = given.into_iter().flatten();
    let given = given.filter(|at| at.duration_since(now) <= CLOCK_SKEW_MAX).max();
    given.max(event.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_far_in_the_future_do_not_keep_an_event() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let now = at("2026-01-01T12:00:00Z");
        for (last, series, expected) in [
            (None, None, "2026-01-01T10:00:00Z"),
            (Some("2026-01-01T11:00:00Z"), None, "2026-01-01T11:00:00Z"),
            (Some("2026-01-01T11:00:00Z"), Some("2026-01-01T11:30:00Z"), "2026-01-01T11:30:00Z"),
            (Some("2026-01-01T09:00:00Z"), None, "2026-01-01T10:00:00Z"),
            (Some("2026-01-01T12:05:00Z"), None, "2026-01-01T12:05:00Z"),
            (Some("9999-12-30T22:00:00Z"), None, "2026-01-01T10:00:00Z"),
            (None, Some("9999-12-30T22:00:00Z"), "2026-01-01T10:00:00Z"),
            (Some("2026-01-01T11:00:00Z"), Some("2026-01-01T12:10:01Z"), "2026-01-01T11:00:00Z"),
        ] {
            let series = series.map(|time| json!({ "count": 2, "lastObservedTime": time }));
            let event: Event = serde_json::from_value(json!({
                "metadata": { "name": "e", "creationTimestamp": "2026-01-01T10:00:00Z" },
                "involvedObject": {}, "lastTimestamp": last, "series": series,
            }))
            .unwrap();
            assert_eq!(last_change(&event, now), Some(at(expected)), "{last:?}");
        }
    }
}
