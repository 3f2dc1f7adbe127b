//! Watching one object, for its metadata only. All who wait for the same one share the watch.

use std::sync::Arc;
use std::time::Duration;

use coffer_api::redact;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use zeroize::{Zeroize as _, Zeroizing};

use super::read::{OBJECT_BYTES_MAX, root_cause};
use super::{ObjectKey, Version};
use crate::backoff::{self, Backoff};

/// How long a watch lasts before it is opened again. A connection that died unnoticed is noticed
/// a little after this.
pub(super) const WATCH_S: u64 = 290;
const WATCH_TIMEOUT: Duration = Duration::from_secs(WATCH_S + 30);

/// What a watch knows of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectState {
    /// Nothing yet.
    Unknown,
    Absent,
    Present(Version),
}

/// The watch of one object, for as long as it is held.
pub(super) struct ObjectWatch {
    versions: watch::Receiver<ObjectState>,
    _task: AbortOnDropHandle<()>,
}

impl ObjectWatch {
    pub(super) fn start(client: kube::Client, key: ObjectKey) -> Self {
        let (sender, versions) = watch::channel(ObjectState::Unknown);
        let task = AbortOnDropHandle::new(tokio::spawn(follow(client, key, sender)));
        Self { versions, _task: task }
    }
}

/// A share in the watch of one object.
pub(crate) struct Subscription {
    versions: watch::Receiver<ObjectState>,
    _watch: Arc<ObjectWatch>,
}

impl Subscription {
    pub(super) fn of(watch: Arc<ObjectWatch>) -> Self {
        Self { versions: watch.versions.clone(), _watch: watch }
    }

    /// Waits until the object exists in a version other than `known`.
    pub(crate) async fn changed_from(&mut self, known: Option<&Version>) {
        let differs = |seen: &ObjectState| match seen {
            ObjectState::Present(version) => Some(version) != known,
            ObjectState::Unknown | ObjectState::Absent => false,
        };
        if self.versions.wait_for(differs).await.is_err() {
            // The watching task has ended, which happens only at shutdown.
            std::future::pending::<()>().await;
        }
    }

    /// What is known now.
    pub(crate) fn seen(&self) -> ObjectState {
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
async fn follow(client: kube::Client, key: ObjectKey, versions: watch::Sender<ObjectState>) {
    let mut backoff = Backoff::new(backoff::API);
    loop {
        let watch = watch_once(&client, &key, &versions);
        match tokio::time::timeout(WATCH_TIMEOUT, watch).await {
            Ok(Ok(())) => backoff.reset(),
            Ok(Err(cause)) => tracing::debug!(object = ?key, cause, "watch ended"),
            Err(_) => tracing::debug!(object = ?key, "watch ended: no event in time"),
        }
        backoff.wait().await;
    }
}

async fn watch_once(
    client: &kube::Client,
    key: &ObjectKey,
    versions: &watch::Sender<ObjectState>,
) -> Result<(), String> {
    let response = metadata(client, &key.watch_path()).await?;
    if !response.status().is_success() {
        return Err(response.status().to_string());
    }
    // A watch begins with what exists and says nothing of what does not. Asked after it began, so
    // that an object which is made now comes by the watch.
    if metadata(client, &key.path()).await?.status() == StatusCode::NOT_FOUND {
        versions.send_replace(ObjectState::Absent);
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

fn publish(line: &[u8], versions: &watch::Sender<ObjectState>) -> Result<(), String> {
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
    let line: Line = serde_json::from_slice(line).map_err(|error| redact::json(&error))?;
    let Metadata { uid, resource_version } = line.object.metadata;
    match line.r#type.as_str() {
        "ADDED" | "MODIFIED" => {
            let version = Version { uid, resource_version };
            versions.send_if_modified(|seen| {
                let differs = !matches!(seen, ObjectState::Present(known) if *known == version);
                *seen = ObjectState::Present(version);
                differs
            });
        }
        "DELETED" => {
            versions.send_replace(ObjectState::Absent);
        }
        "ERROR" => return Err(format!("the API server ended it with {:?}", line.object.code)),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_events_publish_versions_and_nothing_else() {
        let (sender, versions) = watch::channel(ObjectState::Unknown);
        let added = br#"{"type":"ADDED","object":{"metadata":{"uid":"u","resourceVersion":"7"}}}"#;
        publish(added, &sender).expect("an event");
        let seven = Version { uid: "u".to_owned(), resource_version: "7".to_owned() };
        assert_eq!(*versions.borrow(), ObjectState::Present(seven.clone()));
        publish(br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#, &sender)
            .expect("an event");
        assert_eq!(*versions.borrow(), ObjectState::Present(seven));
        publish(br#"{"type":"DELETED","object":{"metadata":{}}}"#, &sender).expect("an event");
        assert_eq!(*versions.borrow(), ObjectState::Absent);
        let error = br#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#;
        assert!(publish(error, &sender).is_err());
        assert!(publish(b"{", &sender).is_err());
    }
}
