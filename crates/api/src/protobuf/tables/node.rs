//! Messages of `node.k8s.io/v1`.

use super::{core, meta};
use crate::protobuf::message::Type::{Nested, Quantity, Text};
use crate::protobuf::message::{Message, given, list, map};

pub(crate) static RUNTIME_CLASS: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "handler", Text),
    given(3, "overhead", Nested(&OVERHEAD)),
    given(4, "scheduling", Nested(&SCHEDULING)),
]);

pub(crate) static OVERHEAD: Message = Message(&[map(1, "podFixed", Quantity)]);

pub(crate) static SCHEDULING: Message =
    Message(&[map(1, "nodeSelector", Text), list(2, "tolerations", Nested(&core::TOLERATION))]);
