//! Whatever a client puts wherever in a pod, the rules answer.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::guide;
use crate::kinds::testing::with;
use crate::kinds::{Kind, Pod};
use crate::subresource::SubresourceName;

fn places() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "metadata.name",
        "metadata.annotations",
        "spec",
        "spec.containers",
        "spec.containers.0.name",
        "spec.containers.0.image",
        "spec.containers.0.env.0",
        "spec.containers.0.env.0.valueFrom.secretKeyRef",
        "spec.containers.0.env.0.valueFrom.fieldRef.fieldPath",
        "spec.containers.0.envFrom.0.secretRef.name",
        "spec.containers.0.ports.0",
        "spec.containers.0.resources.limits.cpu",
        "spec.containers.0.resources.requests.hugepages-2Mi",
        "spec.containers.0.livenessProbe.httpGet.port",
        "spec.containers.0.volumeMounts.0.subPath",
        "spec.volumes.0.secret.items.0.path",
        "spec.volumes.0.secret.defaultMode",
        "spec.volumes.1.projected.sources.0.secret",
        "spec.volumes.1.downwardAPI.items.0",
        "spec.dnsConfig.searches.0",
        "spec.hostAliases.0.ip",
        "spec.tolerations.0",
        "spec.schedulingGates.0",
        "spec.securityContext.sysctls.0.name",
        "spec.topologySpreadConstraints.0",
        "status",
        "status.podIPs.0.ip",
    ])
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[./:@\\[\\]'a-z0-9-]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("(name|key|path|value|mode|port)", inner, 0..3)
                .prop_map(|fields| json!(fields)),
        ]
    })
}

proptest! {
    #[test]
    fn no_pod_makes_the_rules_panic(changes in prop::collection::vec((places(), values()), 1..4)) {
        let mut object = guide();
        for (place, value) in changes {
            object = with(&object, place, value);
        }
        let Ok(mut pod) = serde_json::from_value::<Pod>(object) else { return Ok(()) };
        pod.set_defaults();
        let old = pod.clone();
        pod.prepare_for_create();
        let _ = (pod.validate(), pod.warnings(), pod.fields());
        for sub in [None, Some(SubresourceName::Status), Some(SubresourceName::EphemeralContainers)] {
            let mut new = pod.clone();
            new.prepare_for_update(&old, sub);
            new.validate_update(&old, sub);
        }
    }
}
