//! Paths below an object: status, binding, eviction, scale, finalize, and the tunnels to a kubelet.

use std::sync::Arc;

use coffer_api::condition::{Condition as _, ConditionStatus, ConditionType};
use coffer_api::status::{Failure, GroupResource};
use coffer_api::subresource::SubresourceName;
use coffer_net::Incoming;
use http::{Request, StatusCode};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{Binding, Pod};

use super::Handlers;
use crate::authz::Permit;
use crate::body::{MediaType, Payload};
use crate::call::Call;
use crate::failure::same_namespace;
use crate::object::Resource;
use crate::options::WriteOptions;
use crate::registry::Change;
use crate::request::{Query, ResourcePath, Verb};
use crate::respond::{self, Accepted, Response};
use crate::{body, decode, managed};

/// What is read and written at `scale`.
const SCALE: (&str, &str) = ("Scale", "autoscaling/v1");
/// What is posted at `binding`.
const BINDING: (&str, &str) = ("Binding", "v1");

impl Handlers {
    /// Routes a request below an object.
    pub(super) async fn subresource(
        self: &Arc<Self>,
        verb: Verb,
        permit: Permit,
        resource: Arc<Resource>,
        path: ResourcePath,
        (query, accepted, request): (Query, Accepted, Request<Incoming>),
    ) -> Result<Response, Failure> {
        let name = SubresourceName::parse(&path.subresource).ok_or_else(Failure::no_such_path)?;
        if resource.info.subresource(name).is_none() {
            return Err(Failure::no_such_path());
        }
        if name.is_long_running() {
            return match (name, verb) {
                (SubresourceName::Log, Verb::Get)
                | (
                    SubresourceName::Exec | SubresourceName::Attach | SubresourceName::PortForward,
                    Verb::Get | Verb::Create,
                ) => self.tunnel(&permit, resource, path, query, request).await,
                _ => Err(Failure::method_not_allowed()),
            };
        }
        let accept = accepted.any()?;
        let (parts, body) = request.into_parts();
        let call = Call { permit, resource, path, query, headers: parts.headers, accept };
        let handlers = self.clone();
        self.execute(verb, call, body, move |call, body| async move {
            handlers.below(name, verb, &call, body).await
        })
        .await
    }

    /// A request for a subresource that is not a tunnel.
    async fn below(
        &self,
        sub: SubresourceName,
        verb: Verb,
        call: &Call,
        body: Payload,
    ) -> Result<Response, Failure> {
        use SubresourceName as Sub;

        match (sub, verb) {
            (Sub::Scale, Verb::Get | Verb::Update | Verb::Patch) => {
                self.scale(verb, call, body).await
            }
            (Sub::Binding, Verb::Create) => self.post_binding(call, body).await,
            (Sub::Token, Verb::Create) => self.post_token(call, body).await,
            (Sub::Eviction, Verb::Create) => self.post_eviction(call, body).await,
            (Sub::Finalize, Verb::Update) => self.post_update(call, body).await,
            (Sub::Approval | Sub::Status | Sub::EphemeralContainers, Verb::Get) => {
                self.get(call).await
            }
            (Sub::Approval | Sub::Status | Sub::EphemeralContainers, Verb::Update) => {
                self.post_update(call, body).await
            }
            (Sub::Approval | Sub::Status | Sub::EphemeralContainers, Verb::Patch) => {
                self.post_patch(call, body).await
            }
            _ => Err(Failure::method_not_allowed()),
        }
    }

    /// `pods/binding`: gives a pod its node, once.
    async fn post_binding(&self, call: &Call, payload: Payload) -> Result<Response, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let media = MediaType::of_object(&call.headers)?;
        let bytes = body::take(payload)?;
        let validation = options.field_validation;
        let (binding, warnings): (Binding, _) =
            decode::value_and_warnings(&bytes, media, BINDING, &[], validation)?;
        if binding.metadata.name.as_ref().is_some_and(|name| *name != call.path.name) {
            let why = "name in URL does not match name in Binding object";
            return Err(Failure::bad_request(why));
        }
        same_namespace(&binding.metadata, &call.path.namespace)?;
        let node = binding.target.name.clone().unwrap_or_default();
        let kind = binding.target.kind.as_deref().unwrap_or("Node");
        if node.is_empty() || kind != "Node" {
            let path = coffer_api::field::Path::new("target");
            let error = if node.is_empty() {
                coffer_api::field::Error::required(&path.child("name"), "")
            } else {
                let supported = ["Node", "<empty>"];
                coffer_api::field::Error::not_supported(&path.child("kind"), kind, &supported)
            };
            let name = &call.path.name;
            return Err(Failure::invalid("", "Binding", name, &vec![error]));
        }
        let writer = managed::writer(call, &options);
        let (resource, target) = (&*call.resource, (&*call.path.namespace, &*call.path.name));
        self.core
            .registry
            .persist_update(
                resource,
                target,
                Some(SubresourceName::Binding),
                options.dry_run,
                |old| {
                    let uid = binding.metadata.uid.as_deref();
                    super::write::same_uid(resource, target.1, uid, old)?;
                    let mut pod = resource.parse(&old.encode())?;
                    assign(&mut *pod, &node, &binding)?;
                    writer.track(&mut *pod, Some(old))?;
                    let object =
                        self.core.admission.admit_update(&call.permit, resource, pod, old)?;
                    Ok(Change { object, expected: None })
                },
            )
            .await?;
        let mut response = respond::created(call.accept.syntax);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    /// `scale`: the replica count of a workload in the form every autoscaler knows.
    async fn scale(&self, verb: Verb, call: &Call, payload: Payload) -> Result<Response, Failure> {
        let (resource, target) = (&*call.resource, (&*call.path.namespace, &*call.path.name));
        let mut warnings = Vec::new();
        let bytes = match verb {
            Verb::Get => self.core.registry.get(resource, target.0, target.1).await?.bytes.clone(),
            _ => {
                let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
                let bytes = body::take(payload)?;
                if verb == Verb::Update {
                    let media = MediaType::of_object(&call.headers)?;
                    let validation = options.field_validation;
                    warnings = decode::value_warnings(&bytes, media, SCALE, validation)?;
                }
                let writer = managed::writer(call, &options);
                let change = |old: &dyn crate::object::Object| {
                    let current = crate::scale::of(old)?;
                    let scale: Scale = if verb == Verb::Patch {
                        super::patch::patched_value(&bytes, &call.headers, &current, SCALE)?
                    } else {
                        let media = MediaType::of_object(&call.headers)?;
                        decode::value(&bytes, media, SCALE.0, SCALE.1)?
                    };
                    same_namespace(&scale.metadata, &call.path.namespace)?;
                    let expected = crate::scale::expected(&scale)?;
                    let mut object = resource.parse(&old.encode())?;
                    crate::scale::set(&mut *object, &scale, resource)?;
                    writer.track(&mut *object, Some(old))?;
                    let object =
                        self.core.admission.admit_update(&call.permit, resource, object, old)?;
                    Ok(Change { object, expected })
                };
                self.core
                    .registry
                    .persist_update(resource, target, None, options.dry_run, change)
                    .await?
                    .bytes
            }
        };
        let scale = crate::scale::of(&*resource.parse(&bytes)?)?;
        let mut response = respond::value(StatusCode::OK, call.accept.syntax, &scale);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }
}

/// Puts the node into the pod, with the condition that says so.
fn assign(
    object: &mut dyn crate::object::Object,
    node: &str,
    binding: &Binding,
) -> Result<(), Failure> {
    use k8s_openapi::api::core::v1::PodCondition;

    let pod = object.of_kind_mut::<Pod>().ok_or_else(Failure::no_such_path)?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    let subject = GroupResource { group: "", resource: "pods/binding" };
    let conflict = |why: String| Err(Failure::conflict(subject, &name, &why));
    if pod.metadata.deletion_timestamp.is_some() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(assigned) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return conflict(format!("pod {name} is already assigned to node \"{assigned}\""));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    spec.node_name = Some(node.to_owned());
    for (key, value) in binding.metadata.annotations.iter().flatten() {
        pod.metadata.annotations.get_or_insert_default().insert(key.clone(), value.clone());
    }
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| !condition.is(ConditionType::PodScheduled));
    conditions.push(PodCondition {
        type_: ConditionType::PodScheduled.into(),
        status: ConditionStatus::True.into(),
        last_transition_time: Some(crate::clock::now()),
        ..Default::default()
    });
    Ok(())
}
