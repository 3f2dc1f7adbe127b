//! The Deployments that a run creates: their pods tolerate the taint of its nodes, stay on them, and mount
//! a secret each.

use serde_json::{Value, json};

use super::cluster::{Cluster, TAINT};
use crate::cluster::workspace::RUN_LABEL;

/// The name of the Deployment of a number.
pub(super) fn name(number: u64) -> String {
    format!("deployment-{number:05}")
}

/// The Deployment of a number, with so many pods.
pub(super) fn deployment(cluster: &Cluster, replicas: u32, number: u64) -> Value {
    let name = name(number);
    let secret = cluster.secrets.name(number);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "labels": { RUN_LABEL: cluster.run } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name, RUN_LABEL: cluster.run } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "nodeSelector": { RUN_LABEL: cluster.run },
                    "tolerations": [{ "key": TAINT, "operator": "Exists" }],
                    "containers": [{
                        "name": "main", "image": "hollow",
                        "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
                        "volumeMounts": [{ "name": "s", "mountPath": "/etc/s", "readOnly": true }],
                    }],
                    "volumes": [{ "name": "s", "secret": { "secretName": secret } }],
                },
            },
        },
    })
}
