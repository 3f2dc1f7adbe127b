//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply.

use coffer_api::Document;
use coffer_api::apply;
use coffer_api::patch::{self, PatchKind};
use coffer_api::reason::Reason;
use coffer_api::schema;
use coffer_api::status::Failure;
use coffer_api::well_known::api_group;
use http::HeaderMap;

use super::Handlers;
use super::write::{check_name, expected_revision, take_namespace};
use crate::admission::grant;
use crate::body::{self, MediaType, Payload};
use crate::call::Call;
use crate::object::Resource;
use crate::options::WriteOptions;
use crate::registry::Change;
use crate::respond::Response;
use crate::{decode, managed};

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

/// The patch a Content-Type names.
fn kind(headers: &HeaderMap) -> Result<PatchKind, Failure> {
    match MediaType::of(headers) {
        Some(MediaType::JsonPatch) => Ok(PatchKind::Json),
        Some(MediaType::MergePatch) => Ok(PatchKind::Merge),
        Some(MediaType::StrategicMergePatch) => Ok(PatchKind::Strategic),
        _ => Err(body::unsupported(ACCEPTED)),
    }
}

impl Handlers {
    pub(super) async fn post_patch(
        &self,
        call: &Call,
        payload: Payload,
    ) -> Result<Response, Failure> {
        let options = WriteOptions::parse(&call.query, "PatchOptions")?;
        if MediaType::of(&call.headers) == Some(MediaType::ApplyYaml) {
            return self.post_apply(call, payload, &options).await;
        }
        let kind = kind(&call.headers)?;
        if options.force {
            let path = coffer_api::field::Path::new("force");
            let why = "may not be specified for non-apply patch";
            let error = coffer_api::field::Error::forbidden(&path, why);
            return Err(Failure::invalid(api_group::META, "PatchOptions", "", &vec![error]));
        }
        let patch = body::take(payload)?;
        if kind == PatchKind::Json {
            self.check_patch(call, &patch)?;
        }
        let resource = &*call.resource;
        let info = resource.info;
        let schema =
            schema::of(&info.api_version(), info.kind).ok_or_else(Failure::no_such_path)?;
        let writer = managed::writer(call, &options);
        let mut warnings = Vec::new();
        let target = (call.path.namespace.as_str(), call.path.name.as_str());
        let change = |old: &dyn crate::object::Object| {
            let current = client_form(resource, old)?;
            let mut patched = patch::apply(kind, current, &patch, schema)
                .map_err(|error| Failure::from(&error))?;
            let from = (kind, &*patch);
            let (mut object, found) =
                decode::patched(resource, from, &mut patched, options.field_validation)?;
            // A tree is several times the object, and more of them are made below.
            drop(patched);
            warnings = found;
            take_namespace(&mut *object, call)?;
            check_name(&*object, call)?;
            let expected = expected_revision(resource, &*object)?;
            writer.track(&mut *object, Some(old))?;
            let object = self.core.admission.admit_update(&call.permit, resource, object, old)?;
            Ok(Change { object, expected })
        };
        let mut written = self
            .core
            .registry
            .persist_update(resource, target, call.sub(), options.dry_run, change)
            .await?;
        written.warnings.splice(0..0, warnings);
        self.written(call, written)
    }

    /// Server-side apply: the body says what its manager wants the object to be.
    async fn post_apply(
        &self,
        call: &Call,
        payload: Payload,
        options: &WriteOptions,
    ) -> Result<Response, Failure> {
        if options.field_manager.is_none() {
            let path = coffer_api::field::Path::new("fieldManager");
            let error = coffer_api::field::Error::required(&path, "is required for apply patch");
            return Err(Failure::invalid(api_group::META, "PatchOptions", "", &vec![error]));
        }
        let resource = &*call.resource;
        let bytes = body::take(payload)?;
        let (mut patch, warnings) =
            decode::apply_patch(resource, &bytes, options.field_validation)?;
        grant::remove_from_applied(patch.value_mut());
        let writer = managed::applier(call, options);
        let change = |old: &dyn crate::object::Object| {
            let live = client_form(resource, old)?;
            let mut applied = apply::apply(Some(&live), &patch, &writer.rules()?, options.force)
                .map_err(|error| Failure::from(&error))?;
            drop(live);
            let object = self.wanted(call, &mut applied.object)?;
            drop(applied);
            let expected = expected_revision(resource, &*object)?;
            let object = self.core.admission.admit_update(&call.permit, resource, object, old)?;
            Ok(Change { object, expected })
        };
        let target = (call.path.namespace.as_str(), call.path.name.as_str());
        let updated = self
            .core
            .registry
            .persist_update(resource, target, call.sub(), options.dry_run, change)
            .await;
        let mut written = match updated {
            Err(failure) if failure.reason == Reason::NotFound && call.sub().is_none() => {
                let mut applied = apply::apply(None, &patch, &writer.rules()?, options.force)
                    .map_err(|error| Failure::from(&error))?;
                let object = self.wanted(call, &mut applied.object)?;
                if let Some(uid) = object.meta().uid.as_deref().filter(|uid| !uid.is_empty()) {
                    let why = format!(
                        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                    );
                    let name = &call.path.name;
                    return Err(Failure::conflict(resource.group_resource(), name, &why));
                }
                self.may_create(call).await?;
                self.core.write_new(&call.permit, resource, object, options.dry_run).await?
            }
            other => other?,
        };
        written.warnings.splice(0..0, warnings);
        self.written(call, written)
    }

    /// The typed object of what an apply came to, at the place the URL names.
    fn wanted(
        &self,
        call: &Call,
        document: &mut Document,
    ) -> Result<Box<dyn crate::object::Object>, Failure> {
        let mut object = decode::applied(&call.resource, document)?;
        take_namespace(&mut *object, call)?;
        check_name(&*object, call)?;
        Ok(object)
    }
}

/// A stored object in the form that the resource's clients use.
fn client_form(
    resource: &Resource,
    object: &dyn crate::object::Object,
) -> Result<Document, Failure> {
    if resource.is_stored_form() {
        return Ok(object.document());
    }
    let bytes = resource.to_client_version(&crate::encoded::erasing(object.encode()));
    let info = resource.info;
    let schema = schema::of(&info.api_version(), info.kind).ok_or_else(Failure::no_such_path)?;
    body::parse(&bytes, MediaType::Json, Some(schema)).map_err(|error| error.or(Failure::internal))
}

/// A value that is not stored, patched.
///
/// # Errors
/// As a PATCH of an object.
pub(super) fn patched_value<T: serde::de::DeserializeOwned + serde::Serialize>(
    bytes: &[u8],
    headers: &HeaderMap,
    current: &T,
    (name, version): (&str, &str),
) -> Result<T, Failure> {
    let schema = schema::of(version, name).ok_or_else(Failure::no_such_path)?;
    let current = Document::encode(current).map_err(Failure::internal)?;
    let patched = patch::apply(kind(headers)?, current, bytes, schema)
        .map_err(|error| Failure::from(&error))?;
    crate::object::typed_as(&patched, Some(schema))
        .map_err(|error| Failure::bad_request(error.to_string()))
}
