//! ResourceQuota rows: `used/hard` per resource, those named `limits.…` in a column of their own.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::Value;

use super::{Column, Printed, age, doc, name};

impl Printed for ResourceQuota {
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::string("Request", doc::QUOTA_REQUEST),
        Column::string("Limit", doc::QUOTA_LIMIT),
        Column::AGE,
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let used = status.used.unwrap_or_default();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in status.hard.iter().flatten() {
            let used = used.get(resource).map_or("0", |used| &used.0);
            let column = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
            column.push(format!("{resource}: {used}/{}", hard.0));
        }
        vec![name(self), requests.join(", ").into(), limits.join(", ").into(), age(self, now)]
    }
}
