//! `pods/eviction`: a deletion that says why, and that disruption budgets may refuse. Budgets are
//! not served, so that there is none to refuse it.

use coffer_api::status::Failure;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::Eviction;
use serde_json::json;

use super::Handlers;
use crate::body::{MediaType, Payload};
use crate::call::Call;
use crate::object::Object;
use crate::options::{WriteOptions, dry_run};
use crate::registry::{Change, DeleteOptions, preconditions};
use crate::respond::{self, Answer};
use crate::{body, decode, managed};

/// What is posted.
const KIND: (&str, &str) = ("Eviction", "policy/v1");

impl Handlers {
    /// Evicts the pod that the path names.
    pub(super) async fn post_eviction(
        &self,
        call: &Call,
        payload: Payload,
    ) -> Result<Answer, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let media = MediaType::of_object(&call.headers)?;
        let bytes = body::take(payload)?;
        let eviction: Eviction = decode::value(&bytes, media, KIND.0, KIND.1)?;
        let warnings = decode::value_warnings(&bytes, media, KIND, options.field_validation)?;
        if eviction.metadata.name.as_deref() != Some(&call.path.name) {
            let why = "name in URL does not match name in Eviction object";
            return Err(Failure::bad_request(why));
        }
        let mut delete = eviction.delete_options.unwrap_or_default();
        if dry_run(&call.query).is_ok_and(|asked| asked) {
            delete.dry_run = Some(vec!["All".to_owned()]);
        }
        let mut delete = DeleteOptions::from_api(delete)?;
        let (resource, namespace, name) =
            (&*call.resource, &*call.path.namespace, &*call.path.name);
        let admitted = self.core.admission.admit_delete(&call.permit, resource, namespace, name)?;
        if !delete.dry_run {
            self.record_disruption(call, &options, &delete).await?;
            // It held of the pod as it was before that.
            delete.resource_version = None;
        }
        self.core.registry.persist_delete(admitted, &delete).await?;
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201
        });
        let mut answer = respond::value(StatusCode::CREATED, call.accept.syntax, &status);
        respond::warn(&mut answer, &warnings);
        Ok(answer)
    }

    /// Writes the condition by which the pod's owner tells a disruption from a failure, to the pod that
    /// is meant.
    async fn record_disruption(
        &self,
        call: &Call,
        options: &WriteOptions,
        delete: &DeleteOptions,
    ) -> Result<(), Failure> {
        let (resource, target) = (&*call.resource, (&*call.path.namespace, &*call.path.name));
        let writer = managed::writer(call, options);
        let change = |old: &dyn Object| {
            preconditions(resource, target.1, old, delete)?;
            let mut pod = resource.parse(&old.encode())?;
            disrupt(&mut *pod);
            writer.track(&mut *pod, Some(old))?;
            let object = self.core.admission.admit_update(&call.permit, resource, pod, old)?;
            Ok(Change { object, expected: None })
        };
        self.core
            .registry
            .persist_update(resource, target, Some("status"), false, change)
            .await
            .map(drop)
    }
}

fn disrupt(object: &mut dyn Object) {
    let Some(pod) = object.of_kind_mut::<Pod>() else { return };
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        last_transition_time: Some(crate::clock::now()),
        ..Default::default()
    });
}
