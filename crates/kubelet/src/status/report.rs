//! Tells the API server a pod's status, and at the end that the pod is over.
//!
//! One task per pod, so that a pod worker never waits for the API server. Only the newest status
//! is kept; what is sent is the difference to what was sent last, as a strategic merge patch of
//! the `status` subresource that names the pod's uid (a pod of the same name made since is left
//! alone).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coffer_api::reason::Reason;
use coffer_client::error::{has_reason, is_conflict, is_not_found, message};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use super::mirror;
use crate::backoff::{self, Backoff};
use crate::objects::root_cause;
use crate::pod::PodId;

/// How long the API server may take for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last word of a kubelet that ends may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// What all annotations of this kubelet begin with.
const OUR_PREFIX: &str = "coffer.dev/";

/// What the API server should know.
#[derive(Clone, Default, PartialEq)]
struct Report {
    status: Option<PodStatus>,
    annotations: BTreeMap<String, String>,
    seen: Option<ServerConditions>,
    /// Nothing of the pod is left here.
    is_over: bool,
}

/// The conditions that the API server showed last, and in which version of the pod.
#[derive(Clone, PartialEq)]
struct ServerConditions {
    version: u64,
    conditions: Vec<Value>,
}

impl ServerConditions {
    /// `None` for a pod that is not from the API server, or whose versions are not numbers.
    fn of(pod: &Pod) -> Option<Self> {
        let version = pod.metadata.resource_version.as_ref()?.parse().ok()?;
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        Some(Self { version, conditions: conditions.map(|condition| json!(condition)).collect() })
    }
}

/// The pod worker's end.
pub(crate) struct Reporter {
    report: watch::Sender<Report>,
    task: AbortOnDropHandle<()>,
}

impl Reporter {
    /// Begins reporting about a pod that the API server knows as `known`.
    pub(crate) fn new(client: kube::Client, id: PodId, known: &Pod) -> Self {
        let annotations = known.metadata.annotations.iter().flatten();
        let annotations = annotations.filter(|(key, _)| key.starts_with(OUR_PREFIX));
        let sent = Sent {
            status: known.status.as_ref().map(object).unwrap_or_default(),
            annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
            version: ServerConditions::of(known).map_or(0, |seen| seen.version),
        };
        let (report, reports) = watch::channel(Report::default());
        let pods = Api::namespaced(client, id.namespace());
        let run = async move {
            run(pods, id, sent, reports, None).await;
        };
        let task = AbortOnDropHandle::new(tokio::spawn(run));
        Self { report, task }
    }

    /// Begins reporting about a static pod, by way of a mirror pod that is kept in the API.
    /// `recheck` says that the mirror may be removed.
    pub(crate) fn mirrored(client: kube::Client, fixed: Arc<Pod>, recheck: Arc<Notify>) -> Self {
        let (report, reports) = watch::channel(Report::default());
        let run = run_mirrored(client, fixed, reports, recheck);
        let task = AbortOnDropHandle::new(tokio::spawn(run));
        Self { report, task }
    }

    /// The status is this now.
    pub(crate) fn status(&self, status: PodStatus) {
        self.report.send_if_modified(|report| {
            let differs = report.status.as_ref() != Some(&status);
            report.status = Some(status);
            differs
        });
    }

    /// The API server shows the pod so. Where others wrote a condition that is the kubelet's to
    /// write (of a node that fell silent, "not ready"), the kubelet's word is said again.
    pub(crate) fn seen(&self, pod: &Pod) {
        let Some(seen) = ServerConditions::of(pod) else { return };
        self.report.send_if_modified(|report| {
            let differs =
                report.seen.as_ref().is_none_or(|known| known.conditions != seen.conditions);
            report.seen = Some(seen);
            differs
        });
    }

    /// The pod has these annotations of ours.
    pub(crate) fn annotations(&self, annotations: BTreeMap<String, String>) {
        self.report.send_if_modified(|report| {
            let differs = report.annotations != annotations;
            report.annotations = annotations;
            differs
        });
    }

    /// Waits until what was said last has been sent, for a while: the API server may have ended, too.
    pub(crate) async fn leave(self) {
        let Self { report, task } = self;
        drop(report);
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, task).await;
    }

    /// Nothing of the pod is left on this node: its object may go. Waits until it does not exist any more.
    pub(crate) async fn finish(self) {
        self.report.send_modify(|report| report.is_over = true);
        // An aborted task means that the kubelet ends; the next one finishes.
        let _ = self.task.await;
    }
}

/// What was sent, to send differences.
#[derive(Default)]
struct Sent {
    status: Map<String, Value>,
    annotations: BTreeMap<String, String>,
    /// The version of the pod that came of it.
    version: u64,
}

impl Sent {
    /// Takes back what others have overwritten since.
    fn correct(&mut self, seen: &ServerConditions) {
        // Our own last write counts: it shows what others had written before it.
        if seen.version < self.version {
            return;
        }
        let Some(Value::Array(conditions)) = self.status.get_mut("conditions") else { return };
        conditions.retain_mut(|ours| {
            let theirs = seen.conditions.iter().find(|theirs| theirs["type"] == ours["type"]);
            if let Some(theirs) = theirs.filter(|theirs| theirs["status"] != ours["status"]) {
                ours.clone_from(theirs);
            }
            theirs.is_some()
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// The pod is not there any more, or is another one.
    Gone,
}

/// Reports until the pod is over, or removed; or, for a mirror, until it should be looked after.
async fn run(
    pods: Api<Pod>,
    id: PodId,
    mut sent: Sent,
    mut reports: watch::Receiver<Report>,
    recheck: Option<&Notify>,
) -> Outcome {
    let mut backoff = Backoff::new(backoff::API);
    loop {
        let rechecked = async {
            match recheck {
                Some(recheck) => recheck.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = reports.changed() => {
                if changed.is_err() {
                    return Outcome::Done;
                }
            }
            () = rechecked => return Outcome::Gone,
        }
        loop {
            let report = reports.borrow_and_update().clone();
            let sending = send(&pods, &id, &mut sent, &report);
            let Ok(outcome) = tokio::time::timeout(REQUEST_TIMEOUT, sending).await else {
                tracing::debug!(pod = %id, "pod status update timed out, retrying");
                continue;
            };
            match outcome {
                Ok(Outcome::Done) if report.is_over => return Outcome::Done,
                Ok(Outcome::Done) => {
                    backoff.reset();
                    break;
                }
                Ok(Outcome::Gone) => return Outcome::Gone,
                Err(error) => {
                    let cause = root_cause(&error);
                    tracing::debug!(pod = %id, cause, "pod status update failed, retrying");
                    backoff.wait().await;
                }
            }
        }
    }
}

async fn run_mirrored(
    client: kube::Client,
    fixed: Arc<Pod>,
    mut reports: watch::Receiver<Report>,
    recheck: Arc<Notify>,
) {
    let mut backoff = Backoff::new(backoff::API);
    let mut is_refusal_logged = false;
    loop {
        if reports.has_changed().is_err() {
            return;
        }
        let ensuring = mirror::ensure(&client, &fixed);
        match tokio::time::timeout(REQUEST_TIMEOUT, ensuring).await {
            Ok(Ok(Some(id))) => {
                backoff.reset();
                let pods = Api::namespaced(client.clone(), id.namespace());
                reports.mark_changed();
                let outcome = run(pods, id, Sent::default(), reports.clone(), Some(&recheck)).await;
                if outcome == Outcome::Done || reports.borrow().is_over {
                    return;
                }
                continue;
            }
            Ok(Ok(None)) => {}
            // Such as by the namespace's Pod Security Standard. It may be allowed later.
            Ok(Err(error)) if !is_refusal_logged && has_reason(&error, &[Reason::Forbidden]) => {
                is_refusal_logged = true;
                tracing::warn!(
                    pod = fixed.metadata.name,
                    namespace = fixed.metadata.namespace,
                    cause = message(&error),
                    "mirror pod rejected: the static pod runs, but the API server does not show it"
                );
            }
            Ok(Err(error)) => {
                tracing::debug!(cause = root_cause(&error), "mirror pod creation failed, retrying");
            }
            Err(_) => tracing::debug!("mirror pod creation timed out, retrying"),
        }
        backoff.wait().await;
    }
}

async fn send(
    pods: &Api<Pod>,
    id: &PodId,
    sent: &mut Sent,
    report: &Report,
) -> kube::Result<Outcome> {
    let status = report.status.as_ref().map(object).unwrap_or_else(|| sent.status.clone());
    report.seen.iter().for_each(|seen| sent.correct(seen));
    let changes = difference(&sent.status, &status);
    let annotations: BTreeMap<_, _> = report
        .annotations
        .iter()
        .filter(|(key, value)| sent.annotations.get(*key) != Some(*value))
        .collect();
    if !changes.is_empty() || !annotations.is_empty() {
        let mut metadata = json!({"uid": id.uid()});
        if !annotations.is_empty() {
            metadata["annotations"] = json!(annotations);
        }
        let mut patch = json!({"metadata": metadata});
        if !changes.is_empty() {
            patch["status"] = Value::Object(changes);
        }
        let params = PatchParams::default();
        match pods.patch_status(id.name(), &params, &Patch::Strategic(&patch)).await {
            Ok(written) => {
                sent.status = status;
                sent.version =
                    ServerConditions::of(&written).map_or(sent.version, |seen| seen.version);
                sent.annotations.extend(report.annotations.clone());
            }
            Err(error) if is_not_found(&error) => return Ok(Outcome::Gone),
            Err(error) if is_conflict(&error) => {
                // Either the name is another pod's by now, or another writer was first.
                return match pods.get_metadata_opt(id.name()).await? {
                    Some(found) if found.metadata.uid.as_deref() == Some(id.uid()) => Err(error),
                    _ => Ok(Outcome::Gone),
                };
            }
            // Said once and not again until it changes: the same patch would be refused again.
            Err(error) if has_reason(&error, &[Reason::Invalid, Reason::BadRequest]) => {
                let message = message(&error);
                tracing::warn!(pod = %id, message, "pod status rejected by the API server");
                sent.status = status;
            }
            Err(error) => return Err(error),
        }
    }
    if report.is_over { delete(pods, id).await } else { Ok(Outcome::Done) }
}

/// Deletes the object itself, which only the node's kubelet does once nothing runs.
async fn delete(pods: &Api<Pod>, id: &PodId) -> kube::Result<Outcome> {
    let uid = Some(id.uid().to_owned());
    let params = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions { uid, resource_version: None });
    match pods.delete(id.name(), &params).await {
        Ok(_) => Ok(Outcome::Done),
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Outcome::Gone),
        Err(error) => Err(error),
    }
}

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        // A status always is an object.
        _ => Map::new(),
    }
}

/// The lists that are merged by key; all others are replaced whole.
fn merge_key(field: &str) -> Option<&'static str> {
    match field {
        "conditions" => Some("type"),
        "podIPs" | "hostIPs" => Some("ip"),
        _ => None,
    }
}

/// The patch that makes `after` of `before`.
fn difference(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (field, value) in after {
        let old = before.get(field);
        if old == Some(value) {
            continue;
        }
        let change = match (merge_key(field), value) {
            (Some(key), Value::Array(items)) => merged(key, field, old, items),
            _ => value.clone(),
        };
        patch.insert(field.clone(), change);
    }
    for (field, _) in before {
        // A field that this kubelet does not compute is another's.
        let ours = matches!(field.as_str(), "reason" | "message" | "podIP" | "podIPs");
        if ours && !after.contains_key(field) {
            patch.insert(field.clone(), Value::Null);
        }
    }
    patch
}

/// The entries that are new or changed, with what they have lost; for addresses, also which are
/// to be removed.
fn merged(key: &str, field: &str, old: Option<&Value>, items: &[Value]) -> Value {
    let old = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let changed = items.iter().filter(|item| !old.contains(item)).map(|item| {
        let mut item = item.clone();
        let before = old.iter().find(|before| before[key] == item[key]);
        for lost in before.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            if item.get(lost).is_none() {
                item[lost] = Value::Null;
            }
        }
        item
    });
    let mut changes: Vec<Value> = changed.collect();
    if field != "conditions" {
        let gone = old.iter().filter(|item| !items.iter().any(|new| new[key] == item[key]));
        changes.extend(gone.map(|item| json!({"$patch": "delete", key: item[key]})));
    }
    Value::Array(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_condition_that_another_overwrote_is_sent_again() {
        let ours = fields(json!({ "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}] }));
        let seen = |version: &str, ready: &str| {
            let pod = json!({
                "metadata": { "resourceVersion": version },
                "status": { "conditions": [{"type": "Ready", "status": ready, "reason": "theirs"},
                    {"type": "Initialized", "status": "True"}, {"type": "x", "status": "y"}] },
            });
            ServerConditions::of(&serde_json::from_value(pod).unwrap()).unwrap()
        };
        let mut sent = Sent { status: ours.clone(), version: 7, ..Default::default() };
        // What the API server had before it heard our last word says nothing.
        for (version, ready) in [("6", "False"), ("7", "True"), ("8", "True")] {
            sent.correct(&seen(version, ready));
            assert!(difference(&sent.status, &ours).is_empty(), "{version}");
        }
        // That was written before our last word, which was about something else.
        let mut unheard = Sent { status: ours.clone(), version: 7, ..Default::default() };
        unheard.correct(&seen("7", "False"));
        assert!(!difference(&unheard.status, &ours).is_empty());
        sent.correct(&seen("9", "False"));
        let again = json!({ "conditions": [{"type": "Ready", "status": "True", "reason": null}] });
        assert_eq!(difference(&sent.status, &ours), fields(again));
    }

    #[test]
    fn only_what_changed_is_sent() {
        let before = fields(json!({
            "phase": "Pending", "qosClass": "BestEffort", "message": "old",
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
                {"type": "other", "status": "x"}],
            "podIPs": [{"ip": "10.0.0.1"}],
        }));
        let after = fields(json!({
            "phase": "Running", "qosClass": "BestEffort",
            "conditions": [{"type": "Ready", "status": "True"}],
            "podIPs": [{"ip": "10.0.0.2"}],
        }));
        let expected = fields(json!({
            "phase": "Running", "message": null,
            "conditions": [{"type": "Ready", "status": "True", "reason": null}],
            "podIPs": [{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}],
        }));
        assert_eq!(difference(&before, &after), expected);
        assert!(difference(&after, &after).is_empty());
    }
}
