//! Messages of `node.k8s.io/v1`.

use super::{core, meta};
use crate::protobuf::message::Type::{Nested, Quantity, Text};
use crate::protobuf::message::{Message, given, list, map};

pub(super) static RUNTIME_CLASS: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "handler", Text),
    given(3, "overhead", Nested(&OVERHEAD)),
    given(4, "scheduling", Nested(&SCHEDULING)),
]);

pub(super) static OVERHEAD: Message = Message(&[map(1, "podFixed", Quantity)]);

pub(super) static SCHEDULING: Message =
    Message(&[map(1, "nodeSelector", Text), list(2, "tolerations", Nested(&core::TOLERATION))]);
