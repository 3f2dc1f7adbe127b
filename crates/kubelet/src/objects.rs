//! The Secrets and ConfigMaps that pods refer to, and the tokens of their service accounts:
//! fetched one by one by name, watched one by one while somebody waits for them, never listed.
//!
//! Bodies are read here and not through `kube::Api`, which logs a body that it cannot parse and
//! leaves it in freed memory. The buffers here are erased, and errors name the object and the
//! reason, never the content. A watch asks for metadata only: it tells *that* an object changed,
//! and whoever needs it fetches it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use coffer_api::secret::Secret;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use zeroize::{Zeroize as _, Zeroizing};

use crate::backoff::{self, Backoff};

/// How long one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a watch lasts before it is opened anew. A connection that died unnoticed is noticed
/// a little after this.
const WATCH_S: u64 = 290;
const WATCH_TIMEOUT: Duration = Duration::from_secs(WATCH_S + 30);
/// A body or watch line longer than this is not read to its end. An object is at most 1 MiB of
/// payload, as base64, perhaps twice (client-side apply keeps a copy in an annotation).
const OBJECT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much of a Status is read for its message.
const STATUS_BYTES_MAX: usize = 64 * 1024;

/// What is escaped in a path segment or query value: all but the unreserved characters.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What kind of object a pod refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Secret,
    ConfigMap,
    /// Only to ask for its tokens.
    ServiceAccount,
}

impl Kind {
    /// As upstream's kubelet names it in `secret "x" not found`.
    fn singular(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "configmap",
            Self::ServiceAccount => "serviceaccount",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
            Self::ServiceAccount => "serviceaccounts",
        }
    }
}

/// One object that a pod refers to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ObjectKey {
    pub(crate) fn secret(namespace: &str, name: &str) -> Self {
        Self { kind: Kind::Secret, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn config_map(namespace: &str, name: &str) -> Self {
        Self { kind: Kind::ConfigMap, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn path(&self) -> String {
        let escape = |text| utf8_percent_encode(text, UNSAFE).to_string();
        let (namespace, name) = (escape(&self.namespace), escape(&self.name));
        format!("/api/v1/namespaces/{namespace}/{}/{name}", self.kind.plural())
    }

    fn watch_path(&self) -> String {
        let selector = format!("metadata.name={}", self.name);
        format!(
            "/api/v1/namespaces/{}/{}?watch=true&timeoutSeconds={WATCH_S}&fieldSelector={}",
            utf8_percent_encode(&self.namespace, UNSAFE),
            self.kind.plural(),
            utf8_percent_encode(&selector, UNSAFE),
        )
    }
}

/// `secret "name"`, as errors name it.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind.singular(), self.name)
    }
}

/// Which object exactly, and in which state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

impl Version {
    pub(crate) fn of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// What a watch knows of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing yet.
    Unknown,
    Absent,
    Present(Version),
}

/// A type that can be fetched here.
pub(crate) trait Referent: DeserializeOwned {
    const KIND: Kind;
}

impl Referent for Secret {
    const KIND: Kind = Kind::Secret;
}

impl Referent for ConfigMap {
    const KIND: Kind = Kind::ConfigMap;
}

/// Why an object is not here. The text goes into events, so it must stay the same for the same
/// cause (or else repeats are not counted together).
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0} not found")]
    NotFound(ObjectKey),
    /// The API server's own words.
    #[error("{message}")]
    Refused { key: ObjectKey, message: String },
    #[error("failed to get {key}: {cause}")]
    Unreachable { key: ObjectKey, cause: String },
    #[error("failed to read {key}: {cause}")]
    Malformed { key: ObjectKey, cause: String },
}

impl FetchError {
    /// Which object to watch for the end of this error.
    pub(crate) fn key(&self) -> &ObjectKey {
        match self {
            Self::NotFound(key)
            | Self::Refused { key, .. }
            | Self::Unreachable { key, .. }
            | Self::Malformed { key, .. } => key,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.plural(), self.namespace, self.name)
    }
}

/// The door to referenced objects, shared by all pod workers.
pub(crate) struct Objects {
    client: kube::Client,
    watches: Mutex<HashMap<ObjectKey, Weak<ObjectWatch>>>,
}

impl Objects {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client, watches: Mutex::default() }
    }

    /// Fetches one object, as new as the API server has it.
    pub(crate) async fn get<T: Referent>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<T, FetchError> {
        let key =
            ObjectKey { kind: T::KIND, namespace: namespace.to_owned(), name: name.to_owned() };
        let request = Request::get(key.path())
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| FetchError::Malformed {
                key: key.clone(),
                cause: error.to_string(),
            })?;
        self.fetch(key, request).await
    }

    /// A fresh token of a service account, bound to one pod.
    pub(crate) async fn service_account_token(
        &self,
        account: &ServiceAccountRef<'_>,
    ) -> Result<Zeroizing<String>, FetchError> {
        #[derive(Deserialize)]
        struct Answer {
            status: Token,
        }
        #[derive(Deserialize)]
        struct Token {
            token: String,
        }
        let key = ObjectKey {
            kind: Kind::ServiceAccount,
            namespace: account.pod.namespace().to_owned(),
            name: account.name.to_owned(),
        };
        let ask = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": account.audience.map(|audience| vec![audience]).unwrap_or_default(),
                "expirationSeconds": account.expiration_s,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": account.pod.name(),
                    "uid": account.pod.uid(),
                },
            },
        });
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/token", key.path()))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(ask.to_string().into_bytes()))
            .map_err(|error| FetchError::Malformed {
                key: key.clone(),
                cause: error.to_string(),
            })?;
        let answer: Answer = self.fetch(key, request).await?;
        Ok(Zeroizing::new(answer.status.token))
    }

    async fn fetch<T: DeserializeOwned>(
        &self,
        key: ObjectKey,
        request: Request<Body>,
    ) -> Result<T, FetchError> {
        let unreachable = |cause: String| FetchError::Unreachable { key: key.clone(), cause };
        let attempt = async {
            let response =
                self.client.send(request).await.map_err(|error| unreachable(root_cause(&error)))?;
            let (parts, body) = response.into_parts();
            if parts.status.is_success() {
                let bytes = read_body(body, OBJECT_BYTES_MAX).await.map_err(unreachable)?;
                return serde_json::from_slice(&bytes).map_err(|error| FetchError::Malformed {
                    key: key.clone(),
                    cause: describe(&error),
                });
            }
            let bytes = read_body(body, STATUS_BYTES_MAX).await.unwrap_or_default();
            Err(refusal(&key, parts.status, &bytes))
        };
        match tokio::time::timeout(FETCH_TIMEOUT, attempt).await {
            Ok(result) => result,
            Err(_) => Err(unreachable("the API server did not answer in time".to_owned())),
        }
    }

    /// Watches one object for as long as the subscription lives. All who subscribe to the same
    /// object share one watch.
    pub(crate) fn watch(&self, key: &ObjectKey) -> Subscription {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|_, watch| watch.strong_count() > 0);
        let known = watches.get(key).and_then(Weak::upgrade);
        let shared = known.unwrap_or_else(|| {
            let (sender, versions) = watch::channel(Seen::Unknown);
            let follow = follow(self.client.clone(), key.clone(), sender);
            let task = AbortOnDropHandle::new(tokio::spawn(follow));
            let shared = Arc::new(ObjectWatch { versions, _task: task });
            watches.insert(key.clone(), Arc::downgrade(&shared));
            shared
        });
        Subscription { versions: shared.versions.clone(), _watch: shared }
    }
}

/// Whose token is wanted, by which pod, for what.
pub(crate) struct ServiceAccountRef<'a> {
    pub(crate) name: &'a str,
    pub(crate) pod: &'a crate::pod::PodId,
    pub(crate) audience: Option<&'a str>,
    pub(crate) expiration_s: i64,
}

struct ObjectWatch {
    versions: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

/// A share in the watch of one object.
pub(crate) struct Subscription {
    versions: watch::Receiver<Seen>,
    _watch: Arc<ObjectWatch>,
}

impl Subscription {
    /// Waits until the object exists in a version other than `known`.
    pub(crate) async fn changed_from(&mut self, known: Option<&Version>) {
        let differs = |seen: &Seen| match seen {
            Seen::Present(version) => Some(version) != known,
            Seen::Unknown | Seen::Absent => false,
        };
        if self.versions.wait_for(differs).await.is_err() {
            // The watching task is gone, which happens only at shutdown.
            std::future::pending::<()>().await;
        }
    }
}

impl Subscription {
    /// What is known now.
    pub(crate) fn seen(&self) -> Seen {
        self.versions.borrow().clone()
    }

    /// Waits until something else is known.
    pub(crate) async fn changed(&mut self) {
        if self.versions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps one watch open and publishes the version of what it sees.
async fn follow(client: kube::Client, key: ObjectKey, versions: watch::Sender<Seen>) {
    let mut backoff = Backoff::new(backoff::API);
    loop {
        let watch = watch_once(&client, &key, &versions);
        match tokio::time::timeout(WATCH_TIMEOUT, watch).await {
            Ok(Ok(())) => backoff.reset(),
            Ok(Err(cause)) => tracing::debug!(object = ?key, cause, "watch ended"),
            Err(_) => tracing::debug!(object = ?key, "watch ended: nothing was heard"),
        }
        backoff.wait().await;
    }
}

async fn watch_once(
    client: &kube::Client,
    key: &ObjectKey,
    versions: &watch::Sender<Seen>,
) -> Result<(), String> {
    let response = metadata(client, &key.watch_path()).await?;
    if !response.status().is_success() {
        return Err(response.status().to_string());
    }
    // A watch begins with what exists and says nothing of what does not. Asked after it began, so
    // that an object which is made now comes by the watch.
    if metadata(client, &key.path()).await?.status() == StatusCode::NOT_FOUND {
        versions.send_replace(Seen::Absent);
    }
    let mut body = response.into_body();
    let mut line = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| root_cause(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            if line.len() + part.len() > OBJECT_BYTES_MAX {
                return Err("a watch event is too long".to_owned());
            }
            line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                publish(&line, versions)?;
                line.zeroize();
            }
        }
    }
    Ok(())
}

/// Asks for an object's metadata, or a watch of it.
async fn metadata(client: &kube::Client, path: &str) -> Result<Response<Body>, String> {
    const METADATA_ONLY: &str =
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
    let request = Request::get(path)
        .header(header::ACCEPT, METADATA_ONLY)
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    client.send(request).await.map_err(|error| root_cause(&error))
}

fn publish(line: &[u8], versions: &watch::Sender<Seen>) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Line {
        r#type: String,
        object: Object,
    }
    #[derive(Deserialize)]
    struct Object {
        #[serde(default)]
        metadata: Metadata,
        #[serde(default)]
        code: Option<u16>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Metadata {
        uid: String,
        resource_version: String,
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| describe(&error))?;
    let Metadata { uid, resource_version } = line.object.metadata;
    match line.r#type.as_str() {
        "ADDED" | "MODIFIED" => {
            let version = Version { uid, resource_version };
            versions.send_if_modified(|seen| {
                let differs = !matches!(seen, Seen::Present(known) if *known == version);
                *seen = Seen::Present(version);
                differs
            });
        }
        "DELETED" => {
            versions.send_replace(Seen::Absent);
        }
        "ERROR" => return Err(format!("the API server ended it with {:?}", line.object.code)),
        _ => {}
    }
    Ok(())
}

async fn read_body(mut body: Body, max: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let hint = http_body::Body::size_hint(&body);
    // Sized at once where the length is known: a growing buffer leaves copies behind.
    let expected = usize::try_from(hint.lower()).unwrap_or(max).min(max);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| root_cause(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > max {
            return Err("the answer is too long".to_owned());
        }
        append(&mut bytes, &data);
    }
    Ok(bytes)
}

/// Appends, erasing the old buffer where it has to move.
fn append(bytes: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    if bytes.capacity() - bytes.len() < data.len() {
        let mut larger = Zeroizing::new(Vec::with_capacity((bytes.len() + data.len()) * 2));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(data);
}

fn refusal(key: &ObjectKey, code: StatusCode, body: &[u8]) -> FetchError {
    #[derive(Default, Deserialize)]
    struct Status {
        #[serde(default)]
        message: String,
    }
    if code == StatusCode::NOT_FOUND {
        return FetchError::NotFound(key.clone());
    }
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let message = if status.message.is_empty() {
        format!("failed to get {key}: the API server answered {code}")
    } else {
        status.message
    };
    FetchError::Refused { key: key.clone(), message }
}

/// Where and why parsing failed, without what was parsed: serde quotes its input for some errors.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field has the wrong form",
        serde_json::error::Category::Eof => "it ends too early",
        _ => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// The innermost cause, which for a failed connection is the one that a person can act on.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_worded_as_upstream_words_them() {
        let key = ObjectKey::secret("myns", "mysecret");
        let missing = refusal(&key, StatusCode::NOT_FOUND, b"");
        assert_eq!(missing.to_string(), "secret \"mysecret\" not found");
        let status =
            br#"{"kind":"Status","message":"secrets \"mysecret\" is forbidden: no","code":403}"#;
        let denied = refusal(&key, StatusCode::FORBIDDEN, status);
        assert_eq!(denied.to_string(), "secrets \"mysecret\" is forbidden: no");
        let odd = refusal(&key, StatusCode::BAD_GATEWAY, b"<html>");
        assert!(odd.to_string().contains("502 Bad Gateway"), "{odd}");
    }

    #[test]
    fn a_parse_error_does_not_quote_the_secret() {
        let body = br#"{"metadata":{"name":"s"},"data":{"k":"hunter2!"},"immutable":"canary"}"#;
        let error = serde_json::from_slice::<Secret>(body).expect_err("not base64");
        let text = describe(&error);
        assert!(!text.contains("hunter2") && !text.contains("canary"), "{text}");
    }

    #[test]
    fn watch_events_publish_versions_and_nothing_else() {
        let (sender, versions) = watch::channel(Seen::Unknown);
        let added = br#"{"type":"ADDED","object":{"metadata":{"uid":"u","resourceVersion":"7"}}}"#;
        publish(added, &sender).expect("an event");
        let seven = Version { uid: "u".to_owned(), resource_version: "7".to_owned() };
        assert_eq!(*versions.borrow(), Seen::Present(seven.clone()));
        publish(br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#, &sender)
            .expect("an event");
        assert_eq!(*versions.borrow(), Seen::Present(seven));
        publish(br#"{"type":"DELETED","object":{"metadata":{}}}"#, &sender).expect("an event");
        assert_eq!(*versions.borrow(), Seen::Absent);
        let error = br#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#;
        assert!(publish(error, &sender).is_err());
        assert!(publish(b"{", &sender).is_err());
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        let key = ObjectKey::secret("a/b", "x?y");
        assert_eq!(key.path(), "/api/v1/namespaces/a%2Fb/secrets/x%3Fy");
    }
}
