//! Messages of `rbac.authorization.k8s.io/v1`.

use super::meta;
use crate::protobuf::message::Type::{Nested, Text};
use crate::protobuf::message::{Message, given, list, nonzero};

pub(crate) static AGGREGATION_RULE: Message =
    Message(&[list(1, "clusterRoleSelectors", Nested(&meta::LABEL_SELECTOR))]);

pub(crate) static CLUSTER_ROLE: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    list(2, "rules", Nested(&POLICY_RULE)),
    given(3, "aggregationRule", Nested(&AGGREGATION_RULE)),
]);

pub(crate) static CLUSTER_ROLE_BINDING: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    list(2, "subjects", Nested(&SUBJECT)),
    given(3, "roleRef", Nested(&ROLE_REF)),
]);

pub(crate) static POLICY_RULE: Message = Message(&[
    list(1, "verbs", Text),
    list(2, "apiGroups", Text),
    list(3, "resources", Text),
    list(4, "resourceNames", Text),
    list(5, "nonResourceURLs", Text),
]);

pub(crate) static ROLE: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    list(2, "rules", Nested(&POLICY_RULE)),
]);

pub(crate) static ROLE_BINDING: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    list(2, "subjects", Nested(&SUBJECT)),
    given(3, "roleRef", Nested(&ROLE_REF)),
]);

pub(crate) static ROLE_REF: Message =
    Message(&[given(1, "apiGroup", Text), given(2, "kind", Text), given(3, "name", Text)]);

pub(crate) static SUBJECT: Message = Message(&[
    given(1, "kind", Text),
    nonzero(2, "apiGroup", Text),
    given(3, "name", Text),
    nonzero(4, "namespace", Text),
]);
