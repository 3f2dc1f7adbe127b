//! Messages of `meta/v1`, which are parts of all others.

use crate::protobuf::message::Type::{Bool, Int, Json, Nested, Text, Time};
use crate::protobuf::message::{Message, given, list, map, nonzero};

pub(crate) static CONDITION: Message = Message(&[
    given(1, "type", Text),
    given(2, "status", Text),
    nonzero(3, "observedGeneration", Int),
    given(4, "lastTransitionTime", Time),
    given(5, "reason", Text),
    given(6, "message", Text),
]);

pub(crate) static DELETE_OPTIONS: Message = Message(&[
    given(1, "gracePeriodSeconds", Int),
    given(2, "preconditions", Nested(&PRECONDITIONS)),
    given(3, "orphanDependents", Bool),
    given(4, "propagationPolicy", Text),
    list(5, "dryRun", Text),
    given(6, "ignoreStoreReadErrorWithClusterBreakingPotential", Bool),
]);

pub(crate) static FIELD_SELECTOR_REQUIREMENT: Message =
    Message(&[given(1, "key", Text), given(2, "operator", Text), list(3, "values", Text)]);

pub(crate) static LABEL_SELECTOR: Message = Message(&[
    map(1, "matchLabels", Text),
    list(2, "matchExpressions", Nested(&LABEL_SELECTOR_REQUIREMENT)),
]);

pub(crate) static LABEL_SELECTOR_REQUIREMENT: Message =
    Message(&[given(1, "key", Text), given(2, "operator", Text), list(3, "values", Text)]);

pub(crate) static MANAGED_FIELDS_ENTRY: Message = Message(&[
    nonzero(1, "manager", Text),
    nonzero(2, "operation", Text),
    nonzero(3, "apiVersion", Text),
    given(4, "time", Time),
    nonzero(6, "fieldsType", Text),
    given(7, "fieldsV1", Json),
    nonzero(8, "subresource", Text),
]);

pub(crate) static OBJECT_META: Message = Message(&[
    nonzero(1, "name", Text),
    nonzero(2, "generateName", Text),
    nonzero(3, "namespace", Text),
    nonzero(4, "selfLink", Text),
    nonzero(5, "uid", Text),
    nonzero(6, "resourceVersion", Text),
    nonzero(7, "generation", Int),
    given(8, "creationTimestamp", Time),
    given(9, "deletionTimestamp", Time),
    given(10, "deletionGracePeriodSeconds", Int),
    map(11, "labels", Text),
    map(12, "annotations", Text),
    list(13, "ownerReferences", Nested(&OWNER_REFERENCE)),
    list(14, "finalizers", Text),
    list(17, "managedFields", Nested(&MANAGED_FIELDS_ENTRY)),
]);

pub(crate) static OWNER_REFERENCE: Message = Message(&[
    given(1, "kind", Text),
    given(3, "name", Text),
    given(4, "uid", Text),
    given(5, "apiVersion", Text),
    given(6, "controller", Bool),
    given(7, "blockOwnerDeletion", Bool),
]);

pub(crate) static PRECONDITIONS: Message =
    Message(&[given(1, "uid", Text), given(2, "resourceVersion", Text)]);
