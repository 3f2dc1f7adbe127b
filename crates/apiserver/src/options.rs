//! The parameters of writes and reads: dryRun, fieldManager, fieldValidation, selectors, paging.

use coffer_api::status::Failure;

use crate::request::Query;

/// What to do with fields that the kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so in Warning headers: the server's default.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

/// Parameters of create, update and patch.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_manager: Option<String>,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: bool,
}

impl WriteOptions {
    /// Reads the query.
    ///
    /// # Errors
    /// 422 in upstream's words for an unknown value.
    pub(crate) fn parse(query: &Query, kind: &str) -> Result<Self, Failure> {
        let invalid = |field: &str, value: &str, supported: &[&str]| {
            let path = coffer_api::field::Path::new(field);
            let error = coffer_api::field::Error::not_supported(&path, value, supported);
            Failure::invalid("meta.k8s.io", kind, "", &vec![error])
        };
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(invalid("fieldValidation", other, &["Ignore", "Strict", "Warn"]));
            }
        };
        if let Some(manager) = query.get("fieldManager") {
            let path = coffer_api::field::Path::new("fieldManager");
            let errors = coffer_api::kinds::meta::validate_field_manager(manager, &path);
            if !errors.is_empty() {
                return Err(Failure::invalid("meta.k8s.io", kind, "", &errors));
            }
        }
        Ok(Self {
            dry_run: dry_run(query).map_err(|value| invalid("dryRun", &value, &["All"]))?,
            field_manager: query.get("fieldManager").map(str::to_owned),
            field_validation,
            force: query.flag("force"),
        })
    }
}

/// Whether `dryRun=All` is asked for; any other value is the error.
pub(crate) fn dry_run(query: &Query) -> Result<bool, String> {
    let mut asked = false;
    for value in query.all("dryRun") {
        match value.as_str() {
            "All" => asked = true,
            "" => {}
            other => return Err(other.to_owned()),
        }
    }
    Ok(asked)
}
