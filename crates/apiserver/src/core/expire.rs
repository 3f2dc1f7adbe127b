//! Events expire: an hour after their last change they are removed.

use std::time::Duration;

use super::Core;
use crate::cache::Scope;
use crate::object::Object;

/// How long an event is kept after it was last written; upstream's `--event-ttl`.
const EVENT_TTL: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
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
        if last_change(&*object).is_none_or(|at| now.duration_since(at) <= EVENT_TTL) {
            continue;
        }
        // A newer write of the same event wins; whatever else fails is tried at the next sweep.
        if let Err(failure) = core.expire_own(events, &event).await {
            tracing::debug!(%failure, "cannot remove an expired event");
        }
    }
}

fn last_change(object: &dyn Object) -> Option<jiff::Timestamp> {
    let event = object.of_kind::<k8s_openapi::api::core::v1::Event>()?;
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.max(created).max(series.map(|time| time.0))
}
