//! Events of controllers: [`coffer_client::events`] without a host.

pub(crate) use coffer_client::events::{EventType, Recorder, Sink, Writer};
use jiff::Timestamp;
use kube::Client;

/// A sink, and the writer behind it.
pub(crate) fn channel(client: Client) -> (Sink, Writer) {
    coffer_client::events::channel(client, None)
}

/// The present in whole seconds, as in objects.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("the present is in range")
}
