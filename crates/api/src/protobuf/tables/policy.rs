//! Messages of `policy/v1`.

use super::meta;
use crate::protobuf::message::Type::Nested;
use crate::protobuf::message::{Message, given};

pub(crate) static EVICTION: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "deleteOptions", Nested(&meta::DELETE_OPTIONS)),
]);
