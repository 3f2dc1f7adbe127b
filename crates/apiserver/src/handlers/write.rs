//! POST, PUT and DELETE.

use std::borrow::Cow;

use bytes::Bytes;
use coffer_api::field::{Error, Path};
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use coffer_api::well_known::api_group;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::json;

use super::Handlers;
use crate::authz::Decision;
use crate::authz::attributes::{Attributes, ResourceTarget};
use crate::body::{MediaType, Payload};
use crate::call::Call;
use crate::failure::same_namespace;

use crate::memory_pool::CollectionSlot;
use crate::object::{Object, Resource};
use crate::options::{WriteOptions, dry_run};
use crate::registry::{Change, DeleteOptions, Deleted, ListQuery, Written};
use crate::representation::{self, Include};
use crate::respond::{self, Response};
use crate::{body, decode, managed};

impl Handlers {
    pub(super) async fn post_new(&self, call: &Call, body: Payload) -> Result<Response, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let resource = &*call.resource;
        let decoded = decode::object(resource, &call.headers, body, options.field_validation)?;
        let mut object = decoded.object;
        take_namespace(&mut *object, call)?;
        let version = object.meta().resource_version.as_deref().unwrap_or_default();
        if version.parse::<u64>().is_ok_and(|version| version > 0) {
            // Upstream returns 500, as if the server had failed; message and missing reason are upstream's.
            let why = "resourceVersion should not be set on objects to be created";
            return Err(Failure::with_code(400, Reason::Unknown, why));
        }
        let mut written = self.write_new(call, object, &options).await?;
        written.warnings.splice(0..0, decoded.warnings);
        self.written(call, written)
    }

    /// Writes a new object, all of whose fields are its writer's.
    async fn write_new(
        &self,
        call: &Call,
        mut object: Box<dyn Object>,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        managed::writer(call, options).track(&mut *object, None)?;
        self.core.write_new(&call.permit, &call.resource, object, options.dry_run).await
    }

    pub(super) async fn post_update(
        &self,
        call: &Call,
        body: Payload,
    ) -> Result<Response, Failure> {
        let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
        let resource = &*call.resource;
        let decoded = decode::object(resource, &call.headers, body, options.field_validation)?;
        let mut object = decoded.object;
        take_namespace(&mut *object, call)?;
        check_name(&*object, call)?;
        let mut object = Some(object);
        let written = self.replace(call, &mut object, &options).await;
        let mut written = match (written, object) {
            (Err(failure), Some(object))
                if failure.reason == Reason::NotFound && resource.info.create_on_update =>
            {
                self.may_create(call).await?;
                self.write_new(call, object, &options).await?
            }
            (other, _) => other?,
        };
        written.warnings.splice(0..0, decoded.warnings);
        self.written(call, written)
    }

    /// Whether the caller of a PUT or an apply that found nothing may create the object: the request
    /// was authorized as an update.
    pub(super) async fn may_create(&self, call: &Call) -> Result<(), Failure> {
        let path = &call.path;
        let asked = Attributes::resource(
            "create",
            ResourceTarget {
                group: Cow::Borrowed(&path.group),
                resource: Cow::Borrowed(&path.resource),
                namespace: Cow::Borrowed(&path.namespace),
                name: Cow::Borrowed(&path.name),
                ..Default::default()
            },
        );
        let identity = call.permit.identity();
        match self.core.authorizer.decide_fresh(identity, &asked).await {
            Decision::Allow => Ok(()),
            Decision::NoOpinion(reason) => Err(asked.denial(identity, &reason)),
        }
    }

    /// Replaces the object at the call's path by one from the client, which is left where there is
    /// none to replace.
    async fn replace(
        &self,
        call: &Call,
        object: &mut Option<Box<dyn Object>>,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let resource = &*call.resource;
        let Some(wanted) = object else { return Err(Failure::no_such_path()) };
        let (uid, encoded) = (wanted.meta().uid.clone(), wanted.encode());
        let writer = managed::writer(call, options);
        let target = (call.path.namespace.as_str(), call.path.name.as_str());
        self.core
            .registry
            .persist_update(resource, target, call.sub(), options.dry_run, |old| {
                same_uid(resource, &call.path.name, uid.as_deref(), old)?;
                // It is not kept while the updated one is made; another try decodes it again.
                let mut object = match object.take() {
                    Some(object) => object,
                    None => resource.parse(&encoded)?,
                };
                // Only once the object is found: a missing one is 404, whatever version the client names.
                let expected = expected_revision(resource, &*object)?;
                writer.track(&mut *object, Some(old))?;
                let object =
                    self.core.admission.admit_update(&call.permit, resource, object, old)?;
                Ok(Change { object, expected })
            })
            .await
    }

    /// The response to a write.
    pub(super) fn written(&self, call: &Call, written: Written) -> Result<Response, Failure> {
        let include = Include::parse(&call.query)?;
        let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        let bytes = self.shown(call, &written.name, written.bytes)?;
        let bytes =
            representation::object(&call.resource, &bytes, call.accept.form, include, true)?;
        let mut response = respond::json(status, call.accept.syntax, bytes);
        respond::warn(&mut response, &written.warnings);
        Ok(response)
    }

    pub(super) async fn post_delete(
        &self,
        call: &Call,
        body: Payload,
    ) -> Result<Response, Failure> {
        let options = delete_options(call, body)?;
        let (namespace, name) = (call.path.namespace.as_str(), call.path.name.as_str());
        let admitted =
            self.core.admission.admit_delete(&call.permit, &call.resource, namespace, name)?;
        let deleted = self.core.registry.persist_delete(admitted, &options).await?;
        let (bytes, status) = match deleted {
            // Upstream makes this difference for clients of the old parameter only.
            Deleted::Terminating(bytes) if options.orphan_dependents == Some(false) => {
                (bytes, StatusCode::ACCEPTED)
            }
            Deleted::Terminating(bytes) => (bytes, StatusCode::OK),
            Deleted::Removed { last, return_object: true, .. } => (last, StatusCode::OK),
            Deleted::Removed { uid, .. } => {
                return Ok(respond::json(
                    StatusCode::OK,
                    call.accept.syntax,
                    success(&call.resource, name, &uid),
                ));
            }
        };
        let include = Include::parse(&call.query)?;
        let bytes = self.shown(call, name, bytes)?;
        let bytes =
            representation::object(&call.resource, &bytes, call.accept.form, include, true)?;
        Ok(respond::json(status, call.accept.syntax, bytes))
    }

    pub(super) async fn post_delete_collection(
        &self,
        call: &Call,
        query: &ListQuery,
        body: Payload,
        slot: Option<CollectionSlot>,
    ) -> Result<Response, Failure> {
        let include = Include::parse(&call.query)?;
        let options = delete_options(call, body)?;
        let list = self.core.registry.list(&call.resource, &call.path.namespace, query).await?;
        for item in &list.items {
            let (namespace, name) = (&item.namespace, &item.name);
            let admitted =
                self.core.admission.admit_delete(&call.permit, &call.resource, namespace, name)?;
            match self.core.registry.persist_delete(admitted, &options).await {
                Err(failure) if failure.reason != Reason::NotFound => return Err(failure),
                _ => {}
            }
        }
        self.listed(call, self.shown_list(call, list)?, include, slot)
    }
}

fn success(resource: &Resource, name: &str, uid: &str) -> Bytes {
    let mut details = json!({ "name": name, "kind": resource.info.plural, "uid": uid });
    if !resource.info.group.is_empty() {
        details["group"] = resource.info.group.into();
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details
    });
    status.to_string().into()
}

fn delete_options(call: &Call, body: Payload) -> Result<DeleteOptions, Failure> {
    let bytes = body::take(body)?;
    let mut options = if bytes.is_empty() {
        meta::DeleteOptions::default()
    } else {
        let media = MediaType::of_object(&call.headers)?;
        decode::delete_options(&bytes, media)?
    };
    let query = &call.query;
    if let Some(seconds) = query.number("gracePeriodSeconds")? {
        options.grace_period_seconds.get_or_insert(seconds);
    }
    if let Some(policy) = query.get("propagationPolicy") {
        options.propagation_policy.get_or_insert_with(|| policy.to_owned());
    }
    if query.get("orphanDependents").is_some() {
        options.orphan_dependents.get_or_insert(query.flag("orphanDependents"));
    }
    match dry_run(query) {
        Ok(false) => {}
        Ok(true) => options.dry_run = Some(vec!["All".to_owned()]),
        Err(other) => options.dry_run = Some(vec![other]),
    }
    if options.propagation_policy.is_some() && options.orphan_dependents.is_some() {
        let path = Path::new("propagationPolicy");
        let policy = options.propagation_policy.unwrap_or_default();
        let why = "orphanDependents and deletionPropagation cannot be both set";
        let error = Error::invalid(&path, &policy, why);
        return Err(Failure::invalid(api_group::META, "DeleteOptions", "", &vec![error]));
    }
    DeleteOptions::from_api(options)
}

/// The namespace of the URL goes into the object; another one is refused, or forgotten where the
/// kind has none.
pub(super) fn take_namespace(object: &mut dyn Object, call: &Call) -> Result<(), Failure> {
    let meta = object.meta_mut();
    if !call.resource.info.namespaced {
        meta.namespace = None;
        return Ok(());
    }
    same_namespace(meta, &call.path.namespace)?;
    meta.namespace = Some(call.path.namespace.clone());
    Ok(())
}

/// Refuses an object whose name is not the URL's.
pub(super) fn check_name(object: &dyn Object, call: &Call) -> Result<(), Failure> {
    let url = &call.path.name;
    match object.meta().name.as_deref() {
        Some(own) if own == url => Ok(()),
        None | Some("") => Err(Failure::bad_request(format!(
            "the name of the object ({url} based on URL) was undeterminable: name must be provided"
        ))),
        Some(own) => Err(Failure::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({url})"
        ))),
    }
}

/// The revision the client's object names, if it does.
pub(super) fn expected_revision(
    resource: &Resource,
    object: &dyn Object,
) -> Result<Option<u64>, Failure> {
    let meta = object.meta();
    let path = Path::new("metadata").child("resourceVersion");
    let invalid = |error| {
        let name = meta.name.as_deref().unwrap_or_default();
        // The resource, not the kind: upstream says that this ought to change one day.
        Err(Failure::invalid(resource.info.group, resource.info.plural, name, &vec![error]))
    };
    match meta.resource_version.as_deref().unwrap_or_default() {
        "" | "0" if resource.info.unconditional_update => Ok(None),
        "" | "0" => {
            let mut error = Error::invalid(&path, 0_i64, "must be specified for an update");
            error.value = Some("0x0".to_owned());
            invalid(error)
        }
        text => match text.parse() {
            Ok(revision) => Ok(Some(revision)),
            Err(_) => invalid(Error::invalid(&path, text, "must be a number")),
        },
    }
}

/// 409 where the client means an earlier object of the same name.
pub(super) fn same_uid(
    resource: &Resource,
    name: &str,
    wanted: Option<&str>,
    old: &dyn Object,
) -> Result<(), Failure> {
    let found = old.meta().uid.as_deref().unwrap_or_default();
    match wanted {
        Some(wanted) if !wanted.is_empty() && wanted != found => Err(Failure::conflict(
            resource.group_resource(),
            name,
            &format!(
                "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}",
                resource.key(old.meta().namespace.as_deref().unwrap_or_default(), name)
            ),
        )),
        _ => Ok(()),
    }
}
