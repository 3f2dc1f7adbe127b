//! `--image-credential-provider-config`: which plugins there are and which images each is asked for.
//!
//! The file is upstream's `CredentialProviderConfig`, YAML or JSON; a directory of such files is
//! read in the order of their names. What is wrong with it is said in upstream's words, and keeps
//! the kubelet from starting. Values are not quoted from where a secret may stand (`env`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_api::field::{self, ErrorList};
use coffer_api::{go, redact};
use serde::Deserialize;

use super::super::location::Location;

/// What `apiVersion` the file may have; the fields are the same in all.
const CONFIG_VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1alpha1", "kubelet.config.k8s.io/v1beta1"];
/// What a plugin may speak; the messages have the same fields in all, but for v1's tokens.
const PLUGIN_VERSIONS: [&str; 3] =
    [V1, "credentialprovider.kubelet.k8s.io/v1alpha1", "credentialprovider.kubelet.k8s.io/v1beta1"];
const V1: &str = "credentialprovider.kubelet.k8s.io/v1";
const CACHE_TYPES: [&str; 2] = ["ServiceAccount", "Token"];

/// Why the plugins cannot be used. Each is one clear line.
#[derive(Debug, thiserror::Error)]
pub enum ProviderConfigError {
    /// The file, or the directory, cannot be read.
    #[error("unable to access path {path:?}: {cause}")]
    Access {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The directory has no configuration in it.
    #[error("no configuration files found in directory {0:?}")]
    Empty(PathBuf),
    /// The file is not a `CredentialProviderConfig`.
    #[error("error decoding config {path:?}: {cause}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong, without a value of it.
        cause: String,
    },
    /// It says what it must not.
    #[error("failed to validate credential provider config: {0}")]
    Invalid(String),
    /// The directory of plugins is not there.
    #[error("plugin binary directory {0} did not exist")]
    NoDirectory(PathBuf),
    /// A plugin is not there.
    #[error("plugin binary executable {0} did not exist")]
    NoExecutable(PathBuf),
    /// A plugin is there and cannot be run.
    #[error("error inspecting binary executable {0}: it is not an executable file")]
    NotExecutable(PathBuf),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigFile {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<ProviderConfig>,
}

/// One plugin.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ProviderConfig {
    pub(super) name: String,
    #[serde(default)]
    match_images: Vec<String>,
    #[serde(default)]
    default_cache_duration: Option<String>,
    #[serde(default)]
    pub(super) api_version: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<EnvVar>,
    #[serde(default)]
    pub(super) token_attributes: Option<TokenAttributes>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvVar {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
}

impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvVar").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the plugin gets of the pod's service account.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TokenAttributes {
    #[serde(default)]
    pub(super) service_account_token_audience: String,
    #[serde(default)]
    cache_type: String,
    #[serde(default)]
    require_service_account: Option<bool>,
    #[serde(default)]
    pub(super) required_service_account_annotation_keys: Vec<String>,
    #[serde(default)]
    pub(super) optional_service_account_annotation_keys: Vec<String>,
}

impl TokenAttributes {
    pub(super) fn requires_service_account(&self) -> bool {
        self.require_service_account == Some(true)
    }

    /// Whether responses are good for each pod's own token only.
    pub(super) fn caches_by_token(&self) -> bool {
        self.cache_type == "Token"
    }
}

impl ProviderConfig {
    pub(super) fn locations(&self) -> Vec<Location> {
        self.match_images.iter().filter_map(|pattern| Location::schemeless(pattern)).collect()
    }

    pub(super) fn default_cache_duration(&self) -> Duration {
        self.default_cache_duration.as_deref().and_then(positive_duration).unwrap_or_default()
    }
}

/// Reads the file, or all files of the directory, and checks what they say.
pub(super) fn read(path: &Path) -> Result<Vec<ProviderConfig>, ProviderConfigError> {
    let mut providers = Vec::new();
    for file in files(path)? {
        providers.extend(read_file(&file)?);
    }
    let errors = validate(&providers);
    if errors.is_empty() {
        return Ok(providers);
    }
    let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let text = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
    Err(ProviderConfigError::Invalid(text))
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ProviderConfigError> {
    let access = |cause| ProviderConfigError::Access { path: path.to_owned(), cause };
    if !path.metadata().map_err(access)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(access)? {
        let file = entry.map_err(access)?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("json" | "yaml" | "yml")) && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(ProviderConfigError::Empty(path.to_owned()));
    }
    Ok(files)
}

fn read_file(path: &Path) -> Result<Vec<ProviderConfig>, ProviderConfigError> {
    let malformed = |cause: String| ProviderConfigError::Malformed { path: path.to_owned(), cause };
    let bytes = std::fs::read(path)
        .map_err(|cause| ProviderConfigError::Access { path: path.to_owned(), cause })?;
    let document = coffer_api::yaml::parse(&bytes).map_err(|error| malformed(error.to_string()))?;
    let file: ConfigFile = serde_path_to_error::deserialize(document.value())
        .map_err(|error| malformed(redact::json_at(&error)))?;
    if file.kind != "CredentialProviderConfig" {
        return Err(malformed(format!("failed to decode {:?} (wrong Kind)", file.kind)));
    }
    if !CONFIG_VERSIONS.contains(&&*file.api_version) {
        let text = "failed to decode CredentialProviderConfig, unexpected apiVersion";
        return Err(malformed(format!("{text}: {}", file.api_version)));
    }
    Ok(file.providers)
}

fn validate(providers: &[ProviderConfig]) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = field::Path::new("providers");
    if providers.is_empty() {
        errors.push(field::Error::required(&path, "at least 1 item in plugins is required"));
    }
    let mut names = BTreeSet::new();
    for provider in providers {
        validate_name(&provider.name, &path.child("name"), &mut errors);
        if !names.insert(&provider.name) {
            errors.push(field::Error::duplicate(&path.child("name"), &provider.name));
        }
        let version = path.child("apiVersion");
        if provider.api_version.is_empty() {
            errors.push(field::Error::required(&version, ""));
        } else if !PLUGIN_VERSIONS.contains(&&*provider.api_version) {
            let error =
                field::Error::not_supported(&version, &provider.api_version, &PLUGIN_VERSIONS);
            errors.push(error);
        }
        validate_images(&provider.match_images, &path.child("matchImages"), &mut errors);
        validate_duration(provider, &path.child("defaultCacheDuration"), &mut errors);
        if let Some(attributes) = &provider.token_attributes {
            let path = path.child("tokenAttributes");
            validate_attributes(attributes, &provider.api_version, &path, &mut errors);
        }
    }
    errors
}

fn validate_name(name: &String, path: &field::Path, errors: &mut ErrorList) {
    let mut refuse = |detail| errors.push(field::Error::invalid(path, name, detail));
    if name.contains('/') {
        refuse("provider name cannot contain '/'");
    }
    if name.contains(' ') {
        refuse("provider name cannot contain spaces");
    }
    match &**name {
        "." => refuse("provider name cannot be '.'"),
        ".." => refuse("provider name cannot be '..'"),
        // Upstream would run the directory itself, and fail then.
        "" => refuse("provider name cannot be empty"),
        _ => {}
    }
}

fn validate_images(patterns: &[String], path: &field::Path, errors: &mut ErrorList) {
    if patterns.is_empty() {
        let detail = "at least 1 item in matchImages is required";
        errors.push(field::Error::required(path, detail));
    }
    for pattern in patterns.iter().filter(|pattern| Location::schemeless(pattern).is_none()) {
        let detail = "match image is invalid: it is not a host with an optional port and path";
        errors.push(field::Error::invalid(path, pattern, detail));
    }
}

/// None for what is not a duration, and for a negative one.
fn positive_duration(text: &str) -> Option<Duration> {
    go::duration::parse(text).ok()?.try_into().ok()
}

fn validate_duration(provider: &ProviderConfig, path: &field::Path, errors: &mut ErrorList) {
    match &provider.default_cache_duration {
        None => errors.push(field::Error::required(path, "")),
        Some(text) if positive_duration(text).is_none() => {
            let detail = "must be a duration greater than or equal to 0";
            errors.push(field::Error::invalid(path, text, detail));
        }
        Some(_) => {}
    }
}

fn validate_attributes(
    attributes: &TokenAttributes,
    api_version: &str,
    path: &field::Path,
    errors: &mut ErrorList,
) {
    if attributes.service_account_token_audience.is_empty() {
        errors.push(field::Error::required(&path.child("serviceAccountTokenAudience"), ""));
    }
    let required = &attributes.required_service_account_annotation_keys;
    match attributes.require_service_account {
        None => errors.push(field::Error::required(&path.child("requireServiceAccount"), "")),
        Some(false) if !required.is_empty() => {
            let path = path.child("requiredServiceAccountAnnotationKeys");
            let detail = "requireServiceAccount cannot be false when \
                          requiredServiceAccountAnnotationKeys is set";
            errors.push(field::Error::forbidden(&path, detail));
        }
        Some(_) => {}
    }
    if api_version != V1 {
        let detail = format!("tokenAttributes is only supported for {V1} API version");
        errors.push(field::Error::forbidden(path, detail));
    }
    let optional = &attributes.optional_service_account_annotation_keys;
    for key in required.iter().filter(|key| optional.contains(key)) {
        let detail = "annotation keys cannot be both required and optional";
        errors.push(field::Error::invalid(path, key, detail));
    }
    let cache_type = path.child("cacheType");
    if attributes.cache_type.is_empty() {
        let detail = format!(
            "cacheType is required to be set when tokenAttributes is specified. Supported values \
             are: {}",
            CACHE_TYPES.join(", ")
        );
        errors.push(field::Error::required(&cache_type, detail));
    } else if !CACHE_TYPES.contains(&&*attributes.cache_type) {
        let error = field::Error::not_supported(&cache_type, &attributes.cache_type, &CACHE_TYPES);
        errors.push(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: ecr
  matchImages: ['*.dkr.ecr.*.amazonaws.com', r.io/team]
  defaultCacheDuration: 12h
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get-credentials]
  env: [{name: PROFILE, value: canary}]
";

    fn read_text(text: &str) -> Result<Vec<ProviderConfig>, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.yaml");
        std::fs::write(&path, text).expect("written");
        read(&path).map_err(|error| error.to_string().replace(&*path.to_string_lossy(), "FILE"))
    }

    #[test]
    fn the_documented_form_is_read_and_not_printed() {
        let providers = read_text(GOOD).expect("good");
        assert_eq!(providers[0].locations().len(), 2);
        assert_eq!(providers[0].default_cache_duration(), Duration::from_secs(12 * 60 * 60));
        assert!(!format!("{providers:?}").contains("canary"));
    }

    #[test]
    fn a_directory_is_read_in_order_of_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = read(directory.path()).expect_err("empty").to_string();
        assert!(error.starts_with("no configuration files found"), "{error}");
        for (file, name) in [("b.yml", "second"), ("a.yaml", "first"), ("c.txt", "ignored")] {
            let text = GOOD.replace("ecr\n", &format!("{name}\n"));
            std::fs::write(directory.path().join(file), text).expect("written");
        }
        let providers = read(directory.path()).expect("good");
        let names: Vec<_> = providers.iter().map(|provider| &*provider.name).collect();
        assert_eq!(names, ["first", "second"]);
    }

    #[test]
    fn an_invalid_configuration_is_refused_with_upstreams_message_in_one_line() {
        const INVALID: &str = "failed to validate credential provider config: ";
        let cases = [
            ("kind: CredentialProviderConfig", "kind: Pod", "(wrong Kind)"),
            ("kubelet.config.k8s.io/v1\n", "v1\n", "unexpected apiVersion: v1"),
            ("args:", "arguments:", "unknown field (at providers[0].arguments)"),
            ("kind: CredentialProviderConfig\n", "", "missing field `kind`"),
            (
                "value: canary",
                "value: [canary]",
                "invalid type: sequence, expected a string (at providers[0].env[0].value)",
            ),
            ("name: ecr", "name: a/b", "Invalid value: \"a/b\": provider name cannot contain '/'"),
            ("name: ecr", "name: ..", "provider name cannot be '..'"),
            ("  defaultCacheDuration: 12h\n", "", "providers.defaultCacheDuration: Required value"),
            ("12h", "-1h", "must be a duration greater than or equal to 0"),
            (
                "credentialprovider.kubelet.k8s.io/v1\n",
                "v9\n",
                "providers.apiVersion: Unsupported value: \"v9\": supported values: \
                 \"credentialprovider.kubelet.k8s.io/v1\", ",
            ),
            ("r.io/team", "'r.io:x'", "match image is invalid"),
            (
                "  args:",
                "  tokenAttributes: {requireServiceAccount: true, cacheType: Token}\n  args:",
                "providers.tokenAttributes.serviceAccountTokenAudience: Required value",
            ),
        ];
        for (from, to, expected) in cases {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = read_text(&text).expect_err(to);
            assert!(error.contains(expected) && !error.contains("canary"), "{error}");
            let start =
                error.starts_with(INVALID) || error.starts_with("error decoding config \"FILE\": ");
            assert!(start && !error.contains('\n'), "{error}");
        }
        let none = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\n";
        let error = read_text(none).expect_err("no providers");
        assert!(error.ends_with("at least 1 item in plugins is required"), "{error}");
    }
}
