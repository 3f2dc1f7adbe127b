//! Messages of `authorization.k8s.io/v1`.

use super::meta;
use crate::protobuf::message::Type::{Bool, Nested, Text, TextList};
use crate::protobuf::message::{Message, given, list, map, nonzero};

pub(crate) static FIELD_SELECTOR_ATTRIBUTES: Message = Message(&[
    nonzero(1, "rawSelector", Text),
    list(2, "requirements", Nested(&meta::FIELD_SELECTOR_REQUIREMENT)),
]);

pub(crate) static LABEL_SELECTOR_ATTRIBUTES: Message = Message(&[
    nonzero(1, "rawSelector", Text),
    list(2, "requirements", Nested(&meta::LABEL_SELECTOR_REQUIREMENT)),
]);

pub(crate) static LOCAL_SUBJECT_ACCESS_REVIEW: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&SUBJECT_ACCESS_REVIEW_SPEC)),
    given(3, "status", Nested(&SUBJECT_ACCESS_REVIEW_STATUS)),
]);

pub(crate) static NON_RESOURCE_ATTRIBUTES: Message =
    Message(&[nonzero(1, "path", Text), nonzero(2, "verb", Text)]);

pub(crate) static NON_RESOURCE_RULE: Message =
    Message(&[list(1, "verbs", Text), list(2, "nonResourceURLs", Text)]);

pub(crate) static RESOURCE_ATTRIBUTES: Message = Message(&[
    nonzero(1, "namespace", Text),
    nonzero(2, "verb", Text),
    nonzero(3, "group", Text),
    nonzero(4, "version", Text),
    nonzero(5, "resource", Text),
    nonzero(6, "subresource", Text),
    nonzero(7, "name", Text),
    given(8, "fieldSelector", Nested(&FIELD_SELECTOR_ATTRIBUTES)),
    given(9, "labelSelector", Nested(&LABEL_SELECTOR_ATTRIBUTES)),
]);

pub(crate) static RESOURCE_RULE: Message = Message(&[
    list(1, "verbs", Text),
    list(2, "apiGroups", Text),
    list(3, "resources", Text),
    list(4, "resourceNames", Text),
]);

pub(crate) static SELF_SUBJECT_ACCESS_REVIEW: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&SELF_SUBJECT_ACCESS_REVIEW_SPEC)),
    given(3, "status", Nested(&SUBJECT_ACCESS_REVIEW_STATUS)),
]);

pub(crate) static SELF_SUBJECT_ACCESS_REVIEW_SPEC: Message = Message(&[
    given(1, "resourceAttributes", Nested(&RESOURCE_ATTRIBUTES)),
    given(2, "nonResourceAttributes", Nested(&NON_RESOURCE_ATTRIBUTES)),
]);

pub(crate) static SELF_SUBJECT_RULES_REVIEW: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&SELF_SUBJECT_RULES_REVIEW_SPEC)),
    given(3, "status", Nested(&SUBJECT_RULES_REVIEW_STATUS)),
]);

pub(crate) static SELF_SUBJECT_RULES_REVIEW_SPEC: Message =
    Message(&[nonzero(1, "namespace", Text)]);

pub(crate) static SUBJECT_ACCESS_REVIEW: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&SUBJECT_ACCESS_REVIEW_SPEC)),
    given(3, "status", Nested(&SUBJECT_ACCESS_REVIEW_STATUS)),
]);

pub(crate) static SUBJECT_ACCESS_REVIEW_SPEC: Message = Message(&[
    given(1, "resourceAttributes", Nested(&RESOURCE_ATTRIBUTES)),
    given(2, "nonResourceAttributes", Nested(&NON_RESOURCE_ATTRIBUTES)),
    nonzero(3, "user", Text),
    list(4, "groups", Text),
    map(5, "extra", TextList),
    nonzero(6, "uid", Text),
]);

pub(crate) static SUBJECT_ACCESS_REVIEW_STATUS: Message = Message(&[
    given(1, "allowed", Bool),
    nonzero(2, "reason", Text),
    nonzero(3, "evaluationError", Text),
    nonzero(4, "denied", Bool),
]);

pub(crate) static SUBJECT_RULES_REVIEW_STATUS: Message = Message(&[
    list(1, "resourceRules", Nested(&RESOURCE_RULE)),
    list(2, "nonResourceRules", Nested(&NON_RESOURCE_RULE)),
    given(3, "incomplete", Bool),
    nonzero(4, "evaluationError", Text),
]);
