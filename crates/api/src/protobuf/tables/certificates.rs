//! Messages of `certificates.k8s.io/v1`.

use super::meta;
use crate::protobuf::message::Type::{Bytes, Int, Nested, Text, TextList, Time};
use crate::protobuf::message::{Message, given, list, map, nonzero};

pub(crate) static CERTIFICATE_SIGNING_REQUEST: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&CERTIFICATE_SIGNING_REQUEST_SPEC)),
    given(3, "status", Nested(&CERTIFICATE_SIGNING_REQUEST_STATUS)),
]);

pub(crate) static CERTIFICATE_SIGNING_REQUEST_CONDITION: Message = Message(&[
    given(1, "type", Text),
    nonzero(2, "reason", Text),
    nonzero(3, "message", Text),
    given(4, "lastUpdateTime", Time),
    given(5, "lastTransitionTime", Time),
    given(6, "status", Text),
]);

pub(crate) static CERTIFICATE_SIGNING_REQUEST_SPEC: Message = Message(&[
    given(1, "request", Bytes),
    nonzero(2, "username", Text),
    nonzero(3, "uid", Text),
    list(4, "groups", Text),
    list(5, "usages", Text),
    map(6, "extra", TextList),
    given(7, "signerName", Text),
    given(8, "expirationSeconds", Int),
]);

pub(crate) static CERTIFICATE_SIGNING_REQUEST_STATUS: Message = Message(&[
    list(1, "conditions", Nested(&CERTIFICATE_SIGNING_REQUEST_CONDITION)),
    nonzero(2, "certificate", Bytes),
]);
