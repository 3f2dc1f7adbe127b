//! Messages of `authentication.k8s.io/v1`.

use super::meta;
use crate::protobuf::message::Type::{Bool, Int, Nested, Text, TextList, Time};
use crate::protobuf::message::{Message, given, list, map, nonzero};

pub(crate) static BOUND_OBJECT_REFERENCE: Message = Message(&[
    nonzero(1, "kind", Text),
    nonzero(2, "apiVersion", Text),
    nonzero(3, "name", Text),
    nonzero(4, "uid", Text),
]);

pub(crate) static SELF_SUBJECT_REVIEW: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "status", Nested(&SELF_SUBJECT_REVIEW_STATUS)),
]);

pub(crate) static SELF_SUBJECT_REVIEW_STATUS: Message =
    Message(&[given(1, "userInfo", Nested(&USER_INFO))]);

pub(crate) static TOKEN_REQUEST: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&TOKEN_REQUEST_SPEC)),
    given(3, "status", Nested(&TOKEN_REQUEST_STATUS)),
]);

pub(crate) static TOKEN_REQUEST_SPEC: Message = Message(&[
    list(1, "audiences", Text),
    given(3, "boundObjectRef", Nested(&BOUND_OBJECT_REFERENCE)),
    given(4, "expirationSeconds", Int),
]);

pub(crate) static TOKEN_REQUEST_STATUS: Message =
    Message(&[given(1, "token", Text), given(2, "expirationTimestamp", Time)]);

pub(crate) static TOKEN_REVIEW: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&TOKEN_REVIEW_SPEC)),
    given(3, "status", Nested(&TOKEN_REVIEW_STATUS)),
]);

pub(crate) static TOKEN_REVIEW_SPEC: Message =
    Message(&[nonzero(1, "token", Text), list(2, "audiences", Text)]);

pub(crate) static TOKEN_REVIEW_STATUS: Message = Message(&[
    nonzero(1, "authenticated", Bool),
    given(2, "user", Nested(&USER_INFO)),
    nonzero(3, "error", Text),
    list(4, "audiences", Text),
]);

pub(crate) static USER_INFO: Message = Message(&[
    nonzero(1, "username", Text),
    nonzero(2, "uid", Text),
    list(3, "groups", Text),
    map(4, "extra", TextList),
]);
