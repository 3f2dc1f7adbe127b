//! Messages of `events.k8s.io/v1`.

use super::{core, meta};
use crate::protobuf::message::Type::{Int, MicroTime, Nested, Text, Time};
use crate::protobuf::message::{Message, given, nonzero};

pub(crate) static EVENT: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "eventTime", MicroTime),
    given(3, "series", Nested(&EVENT_SERIES)),
    nonzero(4, "reportingController", Text),
    nonzero(5, "reportingInstance", Text),
    nonzero(6, "action", Text),
    nonzero(7, "reason", Text),
    given(8, "regarding", Nested(&core::OBJECT_REFERENCE)),
    given(9, "related", Nested(&core::OBJECT_REFERENCE)),
    nonzero(10, "note", Text),
    nonzero(11, "type", Text),
    given(12, "deprecatedSource", Nested(&core::EVENT_SOURCE)),
    given(13, "deprecatedFirstTimestamp", Time),
    given(14, "deprecatedLastTimestamp", Time),
    nonzero(15, "deprecatedCount", Int),
]);

pub(crate) static EVENT_SERIES: Message =
    Message(&[given(1, "count", Int), given(2, "lastObservedTime", MicroTime)]);
