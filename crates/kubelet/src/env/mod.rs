//! A container's environment.
//!
//! Fetching and deciding are apart: [`Sources::fetch`] gets every object that the container
//! refers to, secrets by way of the pod's snapshot; [`resolve`] is pure and follows upstream's
//! order: the service variables, then `envFrom` in its order, then `env` in its order, later
//! ones over earlier ones.

mod expand;
mod placeholder;
mod sources;

use std::cell::Cell;
use std::collections::HashMap;
use std::io;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};
use zeroize::Zeroizing;

use self::expand::{PATH_BYTES_MAX, STRING_BYTES_MAX, expand};
pub use self::placeholder::{OciRuntime, OciRuntimeError};
pub(crate) use self::sources::{Sources, refers_to_secrets};
use crate::downward::{self, Facts};
use crate::objects::{FetchError, ObjectKey};
use crate::pod::{self, PodId};
use crate::redact::Redactor;
use crate::snapshot::Snapshot;

/// What a new program can be given of environment and arguments in all, with a pointer to each: three
/// quarters of the kernel's `_STK_LIM`, which no limit of the stack raises (`bprm_stack_limits`). A
/// container with the usual stack of 8 MiB gets 2 MiB of it, and fails when it starts with more.
const TOTAL_BYTES_MAX: usize = 6 * 1024 * 1024;
/// A pointer in `envp` or `argv`.
const POINTER_BYTES: usize = 8;

/// Why a container has no environment yet: `CreateContainerConfigError`. Upstream's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    NoSecretKey { key: String, namespace: String, name: String },
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    NoConfigMapKey { key: String, namespace: String, name: String },
    #[error(
        "key {key} in Secret {namespace}/{name} is not UTF-8 text and cannot be an environment variable"
    )]
    NotText { key: String, namespace: String, name: String },
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("failed to read the pod's secrets: {0}")]
    Snapshot(io::Error),
    #[error("{what} is longer than the {max} bytes that the kernel allows for it")]
    TooLong { what: String, max: usize },
    #[error(
        "environment variables and arguments are larger than the {TOTAL_BYTES_MAX} bytes that the \
         kernel allows in all, counted up to {what}"
    )]
    TooLarge { what: String },
    #[error("the Secrets and ConfigMaps of the environment take more than {0} bytes of memory")]
    Sources(usize),
    #[error("{what} contains a NUL character")]
    Nul { what: String },
    #[error(
        "environment variable {variable:?} contains a NUL character: key {key} in Secret \
         {namespace}/{name} cannot be an environment variable"
    )]
    SecretNul { variable: String, key: String, namespace: String, name: String },
    #[error("{0:?} cannot be the name of an environment variable")]
    Name(String),
    #[error(
        "{what} refers to an environment variable that comes from a Secret: it would become the \
         name of a directory on disk"
    )]
    SecretPath { what: String },
}

impl EnvError {
    /// Which object may end this error.
    pub(crate) fn waits_for(&self) -> Option<ObjectKey> {
        match self {
            // Of one that cannot be had it is not known which version that is.
            Self::Fetch(error) => error.is_not_found().then(|| error.key().clone()),
            Self::NoSecretKey { namespace, name, .. }
            | Self::NotText { namespace, name, .. }
            | Self::SecretNul { namespace, name, .. } => Some(ObjectKey::secret(namespace, name)),
            Self::NoConfigMapKey { namespace, name, .. } => {
                Some(ObjectKey::config_map(namespace, name))
            }
            Self::Field(_)
            | Self::Snapshot(_)
            | Self::TooLong { .. }
            | Self::TooLarge { .. }
            | Self::Sources(_)
            | Self::Nul { .. }
            | Self::Name(_)
            | Self::SecretPath { .. } => None,
        }
    }
}

/// A variable's value, or a word of a command line.
pub(crate) struct Value {
    text: Zeroizing<String>,
    /// Whether any of it comes from a Secret.
    is_secret: bool,
}

impl Value {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: Zeroizing::new(text.into()), is_secret: false }
    }

    fn secret(text: Zeroizing<String>) -> Self {
        Self { text, is_secret: true }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether any of it comes from a Secret.
    pub(crate) fn is_secret(&self) -> bool {
        self.is_secret && !self.text.is_empty()
    }

    /// What the container runtime gets: the value, or a placeholder for one that comes from a
    /// Secret if `keep` says where the value is kept meanwhile.
    pub(crate) fn for_runtime(&self, keep: Option<(&Snapshot, &PodId)>) -> io::Result<String> {
        match keep.filter(|_| self.is_secret()) {
            Some((snapshot, id)) => {
                Ok(placeholder::text(id.uid(), &snapshot.keep_value(&self.text)?))
            }
            None => Ok(String::clone(&self.text)),
        }
    }
}

/// A container's environment, and the names that could not be part of it.
#[derive(Default)]
pub(crate) struct Environment {
    variables: Vec<(String, Value)>,
    /// Where a variable is in that list.
    index: HashMap<String, usize>,
    /// Counts against [`TOTAL_BYTES_MAX`], also what was replaced by a later one of the same name: to
    /// make that took as much.
    used_bytes: usize,
    /// One entry per `envFrom` object with names that are invalid, for the event.
    pub(crate) invalid: Vec<InvalidNames>,
}

/// `command` and `args` with their variables expanded.
pub(crate) struct CommandLine {
    pub(crate) command: Vec<Value>,
    pub(crate) args: Vec<Value>,
}

/// Keys that cannot be environment variables.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InvalidNames {
    /// `secret` or `configMap`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) keys: Vec<String>,
}

impl CommandLine {
    pub(crate) fn has_secrets(&self) -> bool {
        self.command.iter().chain(&self.args).any(Value::is_secret)
    }
}

impl Environment {
    fn set(&mut self, name: &str, value: Value) -> Result<(), EnvError> {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(EnvError::Name(shown(name).to_owned()));
        }
        let what = || variable(name);
        if value.text.contains('\0') {
            return Err(EnvError::Nul { what: what() });
        }
        // `NAME=value` and a NUL.
        let bytes = name.len().saturating_add(value.text.len()).saturating_add(2);
        if bytes > STRING_BYTES_MAX {
            return Err(EnvError::TooLong { what: what(), max: STRING_BYTES_MAX });
        }
        self.used_bytes = count(self.used_bytes, bytes, what)?;
        match self.index.get(name) {
            Some(at) => self.variables[*at].1 = value,
            None => {
                self.index.insert(name.to_owned(), self.variables.len());
                self.variables.push((name.to_owned(), value));
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.index.get(name).map(|at| &self.variables[*at].1)
    }

    /// A text with its references to variables expanded, with `other` bytes that also count against the limit
    /// (the NUL at its end always does).
    fn expand(
        &self,
        text: &str,
        other: usize,
        limit: usize,
        what: impl Fn() -> String,
    ) -> Result<Value, EnvError> {
        let is_secret = Cell::new(false);
        let lookup = |name: &str| {
            let value = self.get(name)?;
            is_secret.set(is_secret.get() || value.is_secret);
            Some(value.as_str())
        };
        let text = expand(text, limit.saturating_sub(other.saturating_add(1)), lookup)
            .map_err(|_| EnvError::TooLong { what: what(), max: limit })?;
        let text = Zeroizing::new(text);
        if text.contains('\0') {
            return Err(EnvError::Nul { what: what() });
        }
        Ok(Value { text, is_secret: is_secret.get() })
    }

    /// A container's command line.
    pub(crate) fn command_line(&self, container: &Container) -> Result<CommandLine, EnvError> {
        let mut used = self.used_bytes;
        let mut line = |field: &str, words: &Option<Vec<String>>| {
            let words = words.iter().flatten().enumerate().map(|(at, word)| {
                let what = || format!("{field}[{at}]");
                let word = self.expand(word, 0, STRING_BYTES_MAX, what)?;
                used = count(used, word.text.len() + 1, what)?;
                Ok(word)
            });
            words.collect::<Result<Vec<_>, EnvError>>()
        };
        let command = line("command", &container.command)?;
        Ok(CommandLine { command, args: line("args", &container.args)? })
    }

    /// The path of a `subPathExpr`. It becomes a name on a disk, so no Secret may be part of it.
    pub(crate) fn expand_path(&self, text: &str, at: usize) -> Result<String, EnvError> {
        let what = || format!("volumeMounts[{at}].subPathExpr");
        let path = self.expand(text, 0, PATH_BYTES_MAX, what)?;
        match path.is_secret() {
            true => Err(EnvError::SecretPath { what: what() }),
            false => Ok(String::clone(&path.text)),
        }
    }

    /// Adds what comes from Secrets to what texts are redacted by.
    pub(crate) fn add_to(&self, redactor: &mut Redactor) {
        for (_, value) in self.variables.iter().filter(|(_, value)| value.is_secret()) {
            redactor.add(value.as_str().as_bytes());
        }
    }

    /// Whether any variable comes from a Secret.
    pub(crate) fn has_secrets(&self) -> bool {
        self.variables.iter().any(|(_, value)| value.is_secret())
    }

    /// All variables in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value))
    }
}

fn variable(name: &str) -> String {
    format!("environment variable {:?}", shown(name))
}

/// Names have no limit of their own, and messages have one.
fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_SHOWN)]
}

/// How much of a variable's name a message repeats.
const NAME_BYTES_SHOWN: usize = 256;

/// Adds one string to what is used.
fn count(used: usize, bytes: usize, what: impl Fn() -> String) -> Result<usize, EnvError> {
    let used = used.saturating_add(bytes).saturating_add(POINTER_BYTES);
    if used > TOTAL_BYTES_MAX { Err(EnvError::TooLarge { what: what() }) } else { Ok(used) }
}

/// Where a container's environment comes from besides its own spec.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) facts: Facts<'a>,
    /// Variables that every container gets, such as where the API server is.
    pub(crate) services: &'a [(String, String)],
}

/// Puts a container's environment together.
pub(crate) fn resolve(
    pod: &Pod,
    id: &PodId,
    container: &Container,
    sources: &Sources,
    context: Context<'_>,
) -> Result<Environment, EnvError> {
    let mut environment = Environment::default();
    for (name, value) in context.services {
        environment.set(name, Value::plain(value))?;
    }
    from_objects(&mut environment, container, id, sources)?;
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => {
                let text = variable.value.as_deref().unwrap_or_default();
                let name = &variable.name;
                // `NAME=` stands before it.
                let other = name.len() + 1;
                Some(environment.expand(text, other, STRING_BYTES_MAX, || self::variable(name))?)
            }
            Some(source) => {
                from_source(pod, id, container, sources, context, &variable.name, source)?
            }
        };
        if let Some(value) = value {
            environment.set(&variable.name, value)?;
        }
    }
    Ok(environment)
}

fn from_objects(
    environment: &mut Environment,
    container: &Container,
    id: &PodId,
    sources: &Sources,
) -> Result<(), EnvError> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.secret_ref {
            let keys = sources.keys(&reference.name);
            let mut invalid = Vec::new();
            for (key, bytes) in keys.into_iter().flatten() {
                let name = format!("{prefix}{key}");
                if is_env_name(&name) {
                    let value = text(&name, key, bytes.expose(), id, &reference.name)?;
                    environment.set(&name, Value::secret(value))?;
                } else {
                    invalid.push(name);
                }
            }
            environment.note("secret", &reference.name, invalid);
        }
        if let Some(reference) = &source.config_map_ref {
            let map = sources.config_maps.get(&reference.name).and_then(Option::as_ref);
            let mut invalid = Vec::new();
            for (key, value) in map.and_then(|map| map.data.as_ref()).into_iter().flatten() {
                let name = format!("{prefix}{key}");
                if is_env_name(&name) {
                    environment.set(&name, Value::plain(value))?;
                } else {
                    invalid.push(name);
                }
            }
            environment.note("configMap", &reference.name, invalid);
        }
    }
    Ok(())
}

impl Environment {
    fn note(&mut self, kind: &'static str, name: &str, keys: Vec<String>) {
        if !keys.is_empty() {
            self.invalid.push(InvalidNames { kind, name: name.to_owned(), keys });
        }
    }
}

fn from_source(
    pod: &Pod,
    id: &PodId,
    container: &Container,
    sources: &Sources,
    context: Context<'_>,
    variable: &str,
    source: &EnvVarSource,
) -> Result<Option<Value>, EnvError> {
    if let Some(wanted) = &source.secret_key_ref {
        let keys = sources.keys(&wanted.name);
        return match keys.and_then(|keys| keys.get(&wanted.key)) {
            Some(bytes) => {
                let value = text(variable, &wanted.key, bytes.expose(), id, &wanted.name)?;
                Ok(Some(Value::secret(value)))
            }
            None if wanted.optional == Some(true) => Ok(None),
            None => Err(EnvError::NoSecretKey {
                key: wanted.key.clone(),
                namespace: id.namespace().to_owned(),
                name: wanted.name.clone(),
            }),
        };
    }
    if let Some(wanted) = &source.config_map_key_ref {
        let map = sources.config_maps.get(&wanted.name).and_then(Option::as_ref);
        let value = map.and_then(|map| map.data.as_ref()).and_then(|data| data.get(&wanted.key));
        return match value {
            Some(value) => Ok(Some(Value::plain(value))),
            None if wanted.optional == Some(true) => Ok(None),
            None => Err(EnvError::NoConfigMapKey {
                key: wanted.key.clone(),
                namespace: id.namespace().to_owned(),
                name: wanted.name.clone(),
            }),
        };
    }
    let value = if let Some(field) = &source.field_ref {
        downward::field(pod, &field.field_path, context.facts)
            .ok_or_else(|| EnvError::Field(field.field_path.clone()))?
    } else if let Some(selector) = &source.resource_field_ref {
        let wanted = selector.container_name.as_deref().filter(|name| !name.is_empty());
        let of = wanted.map_or(Some(container), |name| {
            pod::all_containers(pod::spec(pod)).find(|container| container.name == name)
        });
        of.and_then(|container| downward::resource(container, selector, context.facts))
            .ok_or_else(|| EnvError::Field(selector.resource.clone()))?
    } else {
        return Err(EnvError::Field("valueFrom".to_owned()));
    };
    Ok(Some(Value::plain(value)))
}

fn text(
    variable: &str,
    key: &str,
    bytes: &[u8],
    id: &PodId,
    name: &str,
) -> Result<Zeroizing<String>, EnvError> {
    let (key, namespace, name) = (key.to_owned(), id.namespace().to_owned(), name.to_owned());
    if bytes.contains(&0) {
        return Err(EnvError::SecretNul {
            variable: shown(variable).to_owned(),
            key,
            namespace,
            name,
        });
    }
    // The error of the conversion holds the bytes; it is dropped unseen.
    std::str::from_utf8(bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| EnvError::NotText { key, namespace, name })
}

/// Upstream's `IsEnvVarName`: letters, digits, `_`, `-` and `.`, not beginning with a digit.
fn is_env_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    !name.is_empty()
        && name.bytes().all(allowed)
        && !name.as_bytes()[0].is_ascii_digit()
        && name != "."
        && !name.starts_with("..")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use coffer_api::secret::SecretBytes;

    use super::sources::FetchedSecret;
    use super::*;
    use crate::downward::NodeFacts;
    use crate::objects::Version;

    fn environment(
        container: serde_json::Value,
        sources: &Sources,
    ) -> Result<Environment, EnvError> {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [container]},
        }))
        .expect("a pod");
        let id = PodId::of(&pod).expect("an identity");
        let node = NodeFacts { ip: [10, 0, 0, 1].into(), cpu_milli: 1000, memory_bytes: 1 };
        let ips = ["10.1.0.2".to_owned()];
        let services = [("KUBERNETES_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned())];
        let facts = Facts { node, pod_ips: &ips };
        let context = Context { facts, services: &services };
        resolve(&pod, &id, &pod::spec(&pod).containers[0], sources, context)
    }

    fn sources() -> Sources {
        let bytes = |text: &[u8]| SecretBytes::new(text.to_vec());
        let keys = [
            ("user".to_owned(), bytes(b"value-1\r\n")),
            ("1st".to_owned(), bytes(b"x")),
            ("raw".to_owned(), bytes(b"\xff")),
        ];
        let version = Version { uid: "u".to_owned(), resource_version: "1".to_owned() };
        let secret = FetchedSecret { version, keys: keys.into() };
        let secrets = [("s".to_owned(), Some(secret)), ("deleted".to_owned(), None)];
        Sources { secrets: secrets.into(), config_maps: BTreeMap::new() }
    }

    fn value<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
        environment.get(name).map(Value::as_str)
    }

    /// What comes from a Secret is replaced by a placeholder, also where it is part of something else.
    #[test]
    fn the_runtime_gets_placeholders_for_all_that_comes_from_secrets() {
        let container = serde_json::json!({"name": "c",
        "envFrom": [{"prefix": "ALL_", "secretRef": {"name": "s"}}],
        "env": [
            {"name": "USER", "valueFrom": {"secretKeyRef": {"name": "s", "key": "user"}}},
            {"name": "URL", "value": "db://$(USER)@host"},
            {"name": "TWICE", "value": "$(URL)"},
            {"name": "PLAIN", "value": "$(KUBERNETES_SERVICE_HOST)"},
            {"name": "ALL_1st", "value": "over it"},
        ]});
        let mut sources = sources();
        let secret = sources.secrets.get_mut("s").and_then(Option::as_mut).expect("there");
        secret.keys.remove("raw");
        let environment = environment(container, &sources).expect("resolved");
        let root = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let layout = crate::pod::Layout::new(root.path());
        std::fs::create_dir_all(layout.snapshot("u")).expect("made");
        let snapshot = Snapshot::of(&layout, "u");
        let id = PodId::new("ns", "p", "u").expect("an identity");
        let told = |value: &Value| value.for_runtime(Some((&snapshot, &id))).expect("kept");
        let hidden: Vec<&str> = environment
            .iter()
            .filter(|(_, value)| told(value).starts_with("{coffer-secret:u/"))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(hidden, ["ALL_user", "USER", "URL", "TWICE"]);
        let expand = |text: &str| environment.expand(text, 0, 100, String::new).expect("short");
        assert_eq!(told(&expand("$(USER)")), told(environment.get("USER").unwrap()));
        assert_eq!(told(&expand("$(PLAIN) $(ALL_1st)")), "10.0.0.1 over it");
        let plain = environment.get("URL").unwrap().for_runtime(None).expect("nothing to keep");
        assert_eq!(plain, "db://value-1\r\n@host");
    }

    #[test]
    fn later_variables_win_and_may_refer_to_earlier_ones() {
        let container = serde_json::json!({"name": "c", "env": [
            {"name": "A", "value": "1"},
            {"name": "A", "value": "2"},
            {"name": "USER", "valueFrom": {"secretKeyRef": {"name": "s", "key": "user"}}},
            {"name": "B", "value": "$(A)-$(KUBERNETES_SERVICE_HOST)-$(NONE)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ]});
        let environment = environment(container, &sources()).expect("resolved");
        assert_eq!(value(&environment, "A"), Some("2"));
        assert_eq!(value(&environment, "B"), Some("2-10.0.0.1-$(NONE)"));
        assert_eq!(value(&environment, "USER"), Some("value-1\r\n"));
        assert_eq!(value(&environment, "IP"), Some("10.1.0.2"));
        let mut redactor = Redactor::default();
        environment.add_to(&mut redactor);
        let quoted = "exec: \"login --as value-1\": not found".into();
        assert_eq!(redactor.redact(&quoted), "exec: \"login --as <redacted>\": not found");
    }

    #[test]
    fn env_from_takes_every_key_that_is_a_name_and_reports_the_others() {
        let from = |prefix: &str| serde_json::json!({"name": "c", "envFrom": [{"prefix": prefix, "secretRef": {"name": "s"}}]});
        let mut sources = sources();
        let secret = sources.secrets.get_mut("s").and_then(Option::as_mut).expect("there");
        secret.keys.remove("raw");
        let plain = environment(from(""), &sources).expect("resolved");
        assert_eq!(value(&plain, "user"), Some("value-1\r\n"));
        let invalid =
            InvalidNames { kind: "secret", name: "s".to_owned(), keys: vec!["1st".to_owned()] };
        assert_eq!(plain.invalid, [invalid]);
        let prefixed = environment(from("P_"), &sources).expect("resolved");
        assert_eq!(value(&prefixed, "P_1st"), Some("x"));
        assert!(prefixed.invalid.is_empty());
    }

    #[test]
    fn a_missing_key_or_one_that_is_not_a_text_is_an_error_unless_optional() {
        let reference = |name: &str, key: &str, optional: bool| {
            serde_json::json!({"name": "c", "env": [{"name": "X", "valueFrom": {
                "secretKeyRef": {"name": name, "key": key, "optional": optional}}}]})
        };
        let error =
            |container| environment(container, &sources()).err().expect("an error").to_string();
        assert_eq!(error(reference("s", "none", false)), "couldn't find key none in Secret ns/s");
        assert!(error(reference("s", "raw", false)).contains("is not UTF-8 text"));
        for optional in [reference("s", "none", true), reference("deleted", "x", true)] {
            let environment = environment(optional, &sources()).expect("resolved");
            assert_eq!(value(&environment, "X"), None);
        }
    }
}
