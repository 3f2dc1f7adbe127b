//! Messages of `autoscaling/v1`.

use super::meta;
use crate::protobuf::message::Type::{Int, Nested, Text};
use crate::protobuf::message::{Message, given, nonzero};

pub(crate) static SCALE: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&SCALE_SPEC)),
    given(3, "status", Nested(&SCALE_STATUS)),
]);

pub(crate) static SCALE_SPEC: Message = Message(&[nonzero(1, "replicas", Int)]);

pub(crate) static SCALE_STATUS: Message =
    Message(&[given(1, "replicas", Int), nonzero(2, "selector", Text)]);
