//! Messages of `coordination.k8s.io/v1`.

use super::meta;
use crate::protobuf::message::Type::{Int, MicroTime, Nested, Text};
use crate::protobuf::message::{Message, given};

pub(crate) static LEASE: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&LEASE_SPEC)),
]);

pub(crate) static LEASE_SPEC: Message = Message(&[
    given(1, "holderIdentity", Text),
    given(2, "leaseDurationSeconds", Int),
    given(3, "acquireTime", MicroTime),
    given(4, "renewTime", MicroTime),
    given(5, "leaseTransitions", Int),
    given(6, "strategy", Text),
    given(7, "preferredHolder", Text),
]);
