//! From a request body to a typed, defaulted object of the resource's kind.

use coffer_api::Document;
use coffer_api::apply;
use coffer_api::document::NESTING_MAX;
use coffer_api::field::{Error, Path};
use coffer_api::patch::PatchKind;
use coffer_api::schema::{self, Schema, strict};
use coffer_api::status::Failure;
use http::HeaderMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use serde_json::Value;

use crate::body::{self, MediaType, Payload};
use crate::object::{DecodeError, Object, Resource};
use crate::options::FieldValidation;

/// A decoded body and what there is to warn about it.
pub(crate) struct Decoded {
    pub(crate) object: Box<dyn Object>,
    /// The body as it was sent, before defaulting.
    pub(crate) warnings: Vec<String>,
}

/// Decodes a body that holds one object.
///
/// # Errors
/// 400, 413, 415 in upstream's words; no message holds a value from the body.
pub(crate) fn object(
    resource: &Resource,
    headers: &HeaderMap,
    payload: Payload,
    validation: FieldValidation,
) -> Result<Decoded, Failure> {
    let media = MediaType::of_object(headers)?;
    let bytes = body::take(payload)?;
    let (kind, version) = (resource.info.kind, resource.info.api_version());
    let (mut document, found) = parse(&bytes, media, (kind, &version), validation)?;
    // A payload is in no more places than it has to be: what is made is made of the tree alone.
    drop(bytes);
    expect_kind(&mut document, kind, &version, &[])?;
    let schema = schema_of(&version, kind)?;
    let object = defaulted(resource, &mut document, schema)
        .map_err(|error| not_its_kind(resource, &error))?;
    let warnings = check_strict(found, kind, &version, validation)?;
    Ok(Decoded { object, warnings })
}

/// What there is to warn about the body of a kind that is not stored. What cannot be read at all is
/// left to [`value`].
///
/// # Errors
/// 400 for a strict request with unknown or duplicate fields.
pub(crate) fn value_warnings(
    bytes: &[u8],
    media: MediaType,
    (kind, version): (&str, &str),
    validation: FieldValidation,
) -> Result<Vec<String>, Failure> {
    let Ok((_, found)) = parse(bytes, media, (kind, version), validation) else {
        return Ok(Vec::new());
    };
    check_strict(found, kind, version, validation)
}

/// A typed value of a kind that is not stored: Scale, reviews. What there is to warn about it is asked of
/// [`value_warnings`].
///
/// # Errors
/// As [`object`].
pub(crate) fn value<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    media: MediaType,
    kind: &str,
    version: &str,
) -> Result<T, Failure> {
    let kind = (kind, version);
    let (mut document, _) = parse(bytes, media, kind, FieldValidation::Ignore)?;
    typed_value(&mut document, kind, &[])
}

/// As [`value`], with what there is to warn about it: Binding, Eviction, TokenRequest. `earlier` are the
/// versions that are read as this one, because they are the same.
///
/// # Errors
/// As [`object`].
pub(crate) fn value_and_warnings<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    media: MediaType,
    kind: (&str, &str),
    earlier: &[&str],
    validation: FieldValidation,
) -> Result<(T, Vec<String>), Failure> {
    let (mut document, found) = parse(bytes, media, kind, validation)?;
    let value = typed_value(&mut document, kind, earlier)?;
    Ok((value, check_strict(found, kind.0, kind.1, validation)?))
}

fn typed_value<T: serde::de::DeserializeOwned>(
    document: &mut Document,
    (kind, version): (&str, &str),
    earlier: &[&str],
) -> Result<T, Failure> {
    expect_kind(document, kind, version, earlier)?;
    crate::object::typed(document).map_err(|error| cannot_handle(kind, version, kind, &error))
}

/// The options of a DELETE. A body that does not say what it is counts as options; every group had
/// its own kind of them once.
///
/// # Errors
/// 400 for another kind, and for invalid options.
pub(crate) fn delete_options(bytes: &[u8], media: MediaType) -> Result<DeleteOptions, Failure> {
    let schema = Some(schema_of("v1", "DeleteOptions")?);
    let document =
        body::parse(bytes, media, schema).map_err(|error| error.or(Failure::bad_request))?;
    let kind = document.value()["kind"].as_str().unwrap_or_default();
    if !document.value().is_object() || !matches!(kind, "" | "DeleteOptions") {
        let why = "decoded object cannot be converted to DeleteOptions";
        return Err(Failure::bad_request(why));
    }
    crate::object::typed_as(&document, schema)
        .map_err(|error| Failure::bad_request(error.to_string()))
}

/// The typed object of a document, with the kind's defaults.
fn defaulted(
    resource: &Resource,
    document: &mut Document,
    schema: Schema,
) -> Result<Box<dyn Object>, DecodeError> {
    schema::fit::normalize(document.value_mut(), schema);
    apply::drop_deep_managed_fields(document);
    if document.nesting() > NESTING_MAX {
        return Err(DecodeError::too_deep());
    }
    let mut object = resource.decode(document)?;
    object.set_defaults();
    Ok(object)
}

/// The schema that the bodies of a kind are read by. Without one nothing is read: unknown fields would go
/// unseen, and what it takes in memory unmeasured.
fn schema_of(version: &str, kind: &str) -> Result<Schema, Failure> {
    let missing =
        || Failure::internal(format!("no schema for kind {kind:?} in version {version:?}"));
    schema::of(version, kind).ok_or_else(missing)
}

/// 400 as upstream words it.
fn not_its_kind(resource: &Resource, error: &DecodeError) -> Failure {
    let kind = resource.info.kind;
    cannot_handle(kind, resource.info.version, kind, error)
}

/// A body as a tree, and what a strict reader finds in it: read once.
fn parse(
    bytes: &[u8],
    media: MediaType,
    (kind, version): (&str, &str),
    validation: FieldValidation,
) -> Result<(Document, Vec<String>), Failure> {
    // Upstream quotes the first bytes of the body here, which may be secret.
    let shown = if bytes.is_empty() { " (<empty>)" } else { "" };
    let unrecognized = |why: &str| {
        Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; {why}{shown}"
        ))
    };
    let schema = schema_of(version, kind)?;
    let read = if validation == FieldValidation::Ignore {
        body::parse(bytes, media, Some(schema)).map(|document| (document, Vec::new()))
    } else {
        body::parse_strict(bytes, media, schema)
    };
    let (document, found) = read.map_err(|error| error.or(|why| unrecognized(&why)))?;
    if !document.value().is_object() {
        return Err(unrecognized("json parse error: the body is not an object"));
    }
    Ok((document, found))
}

/// 400 for a body that names its kind and is not one of it. The version is shown without its group, as
/// upstream shows it.
pub(crate) fn cannot_handle(
    found_kind: &str,
    found_version: &str,
    kind: &str,
    why: &dyn std::fmt::Display,
) -> Failure {
    let version = version_only(found_version);
    Failure::bad_request(format!(
        "{found_kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
    ))
}

/// `v1` of `apps/v1`.
fn version_only(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or(api_version)
}

/// What upstream calls the package of a group's internal types.
fn package(api_version: &str) -> &str {
    match api_version.split_once('/') {
        // Both forms of events are one type inside.
        None | Some((coffer_api::well_known::api_group::EVENTS, _)) => "core",
        Some((group, _)) => group.split('.').next().unwrap_or(group),
    }
}

/// Fills in an absent apiVersion and kind; refuses others than the resource's, but for `earlier` versions.
fn expect_kind(
    document: &mut Document,
    kind: &str,
    version: &str,
    earlier: &[&str],
) -> Result<(), Failure> {
    let text = |document: &Document, field: &str| match &document.value()[field] {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        _ => Err(Failure::bad_request(format!(
            "couldn't get version/kind; json parse error: {field} is not a string"
        ))),
    };
    let (found_version, found_kind) = (text(document, "apiVersion")?, text(document, "kind")?);
    let found_version = if found_version.is_empty() { version } else { &found_version };
    let found_kind = if found_kind.is_empty() { kind } else { &found_kind };
    let is_version = found_version == version || earlier.contains(&found_version);
    if !is_version || found_kind != kind {
        return Err(mismatch(found_version, found_kind, kind, version));
    }
    document.value_mut()["apiVersion"] = version.into();
    document.value_mut()["kind"] = kind.into();
    Ok(())
}

fn mismatch(found_version: &str, found_kind: &str, kind: &str, version: &str) -> Failure {
    if found_kind == kind && schema::of(found_version, found_kind).is_some() {
        return Failure::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({version})"
        ));
    }
    let why = no_conversion(found_version, found_kind, kind, version);
    cannot_handle(found_kind, found_version, kind, &why)
}

/// Why one kind cannot become another.
fn no_conversion(found_version: &str, found_kind: &str, kind: &str, version: &str) -> String {
    if schema::of(found_version, found_kind).is_some() {
        let (found, own) = (version_only(found_version), package(version));
        format!("converting ({found}.{found_kind}) to ({own}.{kind}): unknown conversion")
    } else {
        format!("no kind \"{found_kind}\" is registered for version \"{found_version}\"")
    }
}

/// Unknown and duplicate fields: refused when strict, else texts to warn with.
fn check_strict(
    found: Vec<String>,
    kind: &str,
    version: &str,
    validation: FieldValidation,
) -> Result<Vec<String>, Failure> {
    if validation == FieldValidation::Strict && !found.is_empty() {
        return Err(cannot_handle(kind, version, kind, &strict::message(&found)));
    }
    Ok(found)
}

/// The document of an apply patch, and what to warn about: what it says twice. Fields that its kind
/// does not have are refused by the apply itself.
///
/// # Errors
/// 400 for what is not an object of the resource's kind, and for a strict request that says a thing twice.
pub(crate) fn apply_patch(
    resource: &Resource,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<(Document, Vec<String>), Failure> {
    let (kind, version) = (resource.info.kind, resource.info.api_version());
    let schema = schema_of(&version, kind)?;
    let read = if validation == FieldValidation::Ignore {
        body::parse(bytes, MediaType::ApplyYaml, Some(schema))
            .map(|document| (document, Vec::new()))
    } else {
        body::parse_strict(bytes, MediaType::ApplyYaml, schema)
    };
    let (mut document, warnings) = read.map_err(|error| {
        error.or(|why| Failure::bad_request(format!("error decoding YAML: {why}")))
    })?;
    if !document.value().is_object() {
        return Err(Failure::bad_request("error decoding YAML: the body is not an object"));
    }
    // Unlike a body, an intent has to say what it is about.
    let found = document.value()["apiVersion"].as_str().unwrap_or_default();
    if found != version {
        return Err(Failure::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {found}, expected: {version}"
        )));
    }
    if document.value()["kind"].as_str().is_none_or(str::is_empty) {
        return Err(Failure::bad_request("Object 'Kind' is missing in the apply patch"));
    }
    expect_kind(&mut document, kind, &version, &[])?;
    if validation == FieldValidation::Strict && !warnings.is_empty() {
        let why = warnings.join(", ");
        return Err(Failure::bad_request(format!("error strict decoding YAML: {why}")));
    }
    Ok((document, warnings))
}

/// The object of what an apply came to, with the kind's defaults.
///
/// # Errors
/// 400 that names the field; 413 for more values than the object's length may hold.
pub(crate) fn applied(
    resource: &Resource,
    document: &mut Document,
) -> Result<Box<dyn Object>, Failure> {
    let schema = schema_of(&resource.info.api_version(), resource.info.kind)?;
    body::check_weight(document, document.json_len(), Some(schema))?;
    defaulted(resource, document, schema).map_err(|error| not_its_kind(resource, &error))
}

/// The object of what a patch made, with the kind's defaults, and what to warn about.
///
/// # Errors
/// 422: what does not fit is the patch's fault. None of it is shown, unlike upstream's, because a
/// Secret's payload is in it.
pub(crate) fn patched(
    resource: &Resource,
    (kind, patch): (PatchKind, &[u8]),
    document: &mut Document,
    validation: FieldValidation,
) -> Result<(Box<dyn Object>, Vec<String>), Failure> {
    let (own_kind, own_version) = (resource.info.kind, resource.info.api_version());
    let unfit = |why: String| {
        let error = Error::invalid(&Path::new("patch"), "<patched object>", why);
        Failure::invalid("", "", "", &vec![error])
    };
    // A strategic merge patch is merged into what already has its type.
    if kind == PatchKind::Strategic {
        document.value_mut()["apiVersion"] = own_version.as_str().into();
        document.value_mut()["kind"] = own_kind.into();
    }
    let text = |field: &str, own| document.value()[field].as_str().unwrap_or(own);
    let (version, found_kind) = (text("apiVersion", &*own_version), text("kind", own_kind));
    if (version, found_kind) != (&*own_version, own_kind) {
        return Err(unfit(no_conversion(version, found_kind, own_kind, &own_version)));
    }
    let schema = schema_of(&own_version, own_kind)?;
    body::check_weight(document, document.json_len(), Some(schema))?;
    let object = defaulted(resource, document, schema).map_err(|error| unfit(error.to_string()))?;
    if validation == FieldValidation::Ignore {
        return Ok((object, Vec::new()));
    }
    // What does not parse was no patch.
    let mut errors = strict::check_patch(patch, kind == PatchKind::Json).unwrap_or_default();
    errors.extend(strict::unknown_fields(document.value(), schema));
    if validation == FieldValidation::Strict && !errors.is_empty() {
        return Err(unfit(strict::message(&errors)));
    }
    Ok((object, errors))
}

#[cfg(test)]
mod tests {
    use coffer_api::reason::Reason;

    use super::*;

    #[test]
    fn a_body_of_a_kind_without_a_schema_is_not_read() {
        for validation in [FieldValidation::Ignore, FieldValidation::Warn, FieldValidation::Strict]
        {
            let kind = ("Unregistered", "v1");
            let read = value_and_warnings::<Value>(b"{}", MediaType::Json, kind, &[], validation);
            assert_eq!(read.unwrap_err().reason, Reason::InternalError);
        }
    }
}
