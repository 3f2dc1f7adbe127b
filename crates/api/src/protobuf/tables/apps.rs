//! Messages of `apps/v1`.

use super::{core, meta};
use crate::protobuf::message::Type::{Bool, Int, IntOrString, Nested, Text, Time};
use crate::protobuf::message::{Message, given, list, nonzero};

pub(crate) static DEPLOYMENT: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&DEPLOYMENT_SPEC)),
    given(3, "status", Nested(&DEPLOYMENT_STATUS)),
]);

pub(crate) static DEPLOYMENT_CONDITION: Message = Message(&[
    given(1, "type", Text),
    given(2, "status", Text),
    nonzero(4, "reason", Text),
    nonzero(5, "message", Text),
    given(6, "lastUpdateTime", Time),
    given(7, "lastTransitionTime", Time),
]);

pub(crate) static DEPLOYMENT_SPEC: Message = Message(&[
    given(1, "replicas", Int),
    given(2, "selector", Nested(&meta::LABEL_SELECTOR)),
    given(3, "template", Nested(&core::POD_TEMPLATE_SPEC)),
    given(4, "strategy", Nested(&DEPLOYMENT_STRATEGY)),
    nonzero(5, "minReadySeconds", Int),
    given(6, "revisionHistoryLimit", Int),
    nonzero(7, "paused", Bool),
    given(9, "progressDeadlineSeconds", Int),
]);

pub(crate) static DEPLOYMENT_STATUS: Message = Message(&[
    nonzero(1, "observedGeneration", Int),
    nonzero(2, "replicas", Int),
    nonzero(3, "updatedReplicas", Int),
    nonzero(4, "availableReplicas", Int),
    nonzero(5, "unavailableReplicas", Int),
    list(6, "conditions", Nested(&DEPLOYMENT_CONDITION)),
    nonzero(7, "readyReplicas", Int),
    given(8, "collisionCount", Int),
    given(9, "terminatingReplicas", Int),
]);

pub(crate) static DEPLOYMENT_STRATEGY: Message = Message(&[
    nonzero(1, "type", Text),
    given(2, "rollingUpdate", Nested(&ROLLING_UPDATE_DEPLOYMENT)),
]);

pub(crate) static REPLICA_SET: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&REPLICA_SET_SPEC)),
    given(3, "status", Nested(&REPLICA_SET_STATUS)),
]);

pub(crate) static REPLICA_SET_CONDITION: Message = Message(&[
    given(1, "type", Text),
    given(2, "status", Text),
    given(3, "lastTransitionTime", Time),
    nonzero(4, "reason", Text),
    nonzero(5, "message", Text),
]);

pub(crate) static REPLICA_SET_SPEC: Message = Message(&[
    given(1, "replicas", Int),
    given(2, "selector", Nested(&meta::LABEL_SELECTOR)),
    given(3, "template", Nested(&core::POD_TEMPLATE_SPEC)),
    nonzero(4, "minReadySeconds", Int),
]);

pub(crate) static REPLICA_SET_STATUS: Message = Message(&[
    given(1, "replicas", Int),
    nonzero(2, "fullyLabeledReplicas", Int),
    nonzero(3, "observedGeneration", Int),
    nonzero(4, "readyReplicas", Int),
    nonzero(5, "availableReplicas", Int),
    list(6, "conditions", Nested(&REPLICA_SET_CONDITION)),
    given(7, "terminatingReplicas", Int),
]);

pub(crate) static ROLLING_UPDATE_DEPLOYMENT: Message =
    Message(&[given(1, "maxUnavailable", IntOrString), given(2, "maxSurge", IntOrString)]);
