//! The parameters of writes and reads: dryRun, fieldManager, fieldValidation, selectors, paging.

use coffer_api::field::{Error, ErrorList, Path};
use coffer_api::status::Failure;
use coffer_api::well_known::api_group;
use coffer_store::Revision;

use crate::request::Query;

const EXACT: &str = "Exact";
const NOT_OLDER: &str = "NotOlderThan";

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
            let error = Error::not_supported(&Path::new(field), value, supported);
            Failure::invalid(api_group::META, kind, "", &vec![error])
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
            let path = Path::new("fieldManager");
            let errors = coffer_api::kinds::meta::validate_field_manager(manager, &path);
            if !errors.is_empty() {
                return Err(Failure::invalid(api_group::META, kind, "", &errors));
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

/// Which state of a collection is meant, as a list or a watch spells it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateOptions {
    version: Option<String>,
    matching: Option<String>,
    pub(crate) continue_: Option<String>,
    pub(crate) send_initial_events: Option<bool>,
}

impl StateOptions {
    /// Reads the query of a list, and of a deletion of what a list finds.
    ///
    /// # Errors
    /// 422 for combinations that upstream forbids, all of them in one response.
    pub(crate) fn of_list(query: &Query) -> Result<Self, Failure> {
        let options = Self::read(query);
        options.refuse(options.list_faults()).map(|()| options)
    }

    /// Reads the query of a watch.
    ///
    /// # Errors
    /// 422 for combinations that upstream forbids.
    pub(crate) fn of_watch(query: &Query) -> Result<Self, Failure> {
        let options = Self::read(query);
        options.refuse(options.watch_faults()).map(|()| options)
    }

    fn read(query: &Query) -> Self {
        let text = |name| query.get(name).map(str::to_owned);
        Self {
            version: text("resourceVersion"),
            matching: text("resourceVersionMatch"),
            continue_: text("continue"),
            send_initial_events: query.flag_given("sendInitialEvents"),
        }
    }

    fn refuse(&self, faults: ErrorList) -> Result<(), Failure> {
        if faults.is_empty() {
            return Ok(());
        }
        Err(Failure::invalid(api_group::META, "ListOptions", "", &faults))
    }

    fn list_faults(&self) -> ErrorList {
        let path = Path::new("resourceVersionMatch");
        let mut faults = ErrorList::new();
        if let Some(matching) = self.matching.as_deref() {
            if self.version.is_none() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                faults.push(Error::forbidden(&path, why));
            }
            faults.extend(self.continued(&path));
            if !matches!(matching, EXACT | NOT_OLDER) {
                faults.push(Error::not_supported(&path, matching, &[EXACT, NOT_OLDER, ""]));
            }
            if matching == EXACT && self.version.as_deref() == Some("0") {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                faults.push(Error::forbidden(&path, why));
            }
        }
        if self.send_initial_events.is_some() {
            let why = "sendInitialEvents is forbidden for list";
            faults.push(Error::forbidden(&Path::new("sendInitialEvents"), why));
        }
        faults
    }

    fn watch_faults(&self) -> ErrorList {
        let path = Path::new("resourceVersionMatch");
        let mut faults = ErrorList::new();
        if self.send_initial_events.is_some() && self.matching.as_deref() != Some(NOT_OLDER) {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            faults.push(Error::forbidden(&path, why));
        }
        if let Some(matching) = self.matching.as_deref() {
            if self.send_initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                faults.push(Error::forbidden(&path, why));
            }
            if matching != NOT_OLDER {
                faults.push(Error::not_supported(&path, matching, &[NOT_OLDER]));
            }
            faults.extend(self.continued(&path));
        }
        faults
    }

    fn continued(&self, path: &Path) -> Option<Error> {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        self.continue_.is_some().then(|| Error::forbidden(path, why))
    }

    /// Whether exactly the state of the version is wanted.
    pub(crate) fn exact(&self) -> bool {
        self.matching.as_deref() == Some(EXACT)
    }

    /// Whether the client says at all how the version is meant.
    pub(crate) fn matches(&self) -> bool {
        self.matching.is_some()
    }

    /// The version as a number; 0 means any.
    ///
    /// # Errors
    /// 400 for an invalid one.
    pub(crate) fn revision(&self) -> Result<Option<Revision>, Failure> {
        revision(self.version.as_deref())
    }
}

/// A `resourceVersion` as a number.
///
/// # Errors
/// 400 for an invalid one.
pub(crate) fn revision(text: Option<&str>) -> Result<Option<Revision>, Failure> {
    let Some(text) = text else { return Ok(None) };
    text.parse().map(Some).map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let quoted = coffer_api::go::quoted(text);
        Failure::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: {why}"
        ))
    })
}
