//! Values of Secrets in what runtimes, programs and registries say: events, status, logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_api::secret::{Secret, SecretBytes};
use coffer_testkit::{Attacks, in_namespace};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::json;

use super::started_with;
use crate::handler::Failure;
use crate::pod::{Layout, PodId};
use crate::redact::tests::spellings;
use crate::redact::{Foreign, Redactor, RuntimeWords, WITHHELD};
use crate::runtime::RuntimeError;
use crate::snapshot::{Keep, Snapshot, Superseded};
use crate::volume::{Protected, Volumes};

const VALUES: &[&str] = &[
    "hunter2-canary",
    "with\"quote-canary",
    "back\\slash-canary",
    "line\nbreak-canary",
    "tab\tand\r\ncrlf-canary",
    "gr\u{fc}\u{df}e-\u{1f512}-canary",
    "100%25-canary%s%n",
    "glob*?[a-z]{1,2}$(x)-canary",
    "it's-'quoted'-canary",
    "\u{1b}[31m-escape-canary",
    "AKIA/canary+slash==",
    "-----BEGIN KEY-----\nMIIcanary0123456789\nabcdefcanary\n-----END KEY-----\n",
];

/// A pod's redactor, by its environment, by its snapshot, and by what its volumes held before.
fn redactors(value: &str) -> [Redactor; 3] {
    let key = json!({ "secretKeyRef": { "name": "s", "key": "k" } });
    let container = json!({ "name": "c", "env": [{ "name": "A", "valueFrom": key },
        { "name": "B", "value": "x-$(A)" }] });
    let (environment, _) = started_with(container, &[("k", value.as_bytes())], &[]).expect("text");
    let mut by_environment = Redactor::default();
    environment.add_to(&mut by_environment);

    let root = tempfile::tempdir().expect("a directory");
    let layout = Layout::new(root.path());
    std::fs::create_dir_all(layout.snapshot("u")).expect("made");
    let snapshot = Snapshot::of(&layout, "u");
    let mut secret = Secret::default();
    secret.data.insert("k".to_owned(), SecretBytes::new(value.as_bytes().to_vec()));
    snapshot.add("s", Some(&secret), &Keep::All).expect("recorded");
    let mut by_snapshot = Redactor::default();
    by_snapshot.add_snapshot(&snapshot).expect("readable");

    let memory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
    let layout = Layout::new(memory.path());
    std::fs::create_dir_all(layout.snapshot("u")).expect("made");
    let snapshot = Snapshot::of(&layout, "u");
    let superseded = [(Superseded::Value, value.as_bytes())];
    snapshot.keep_superseded(superseded.into_iter()).expect("kept");
    let mut by_superseded = Redactor::default();
    by_superseded.add_snapshot(&snapshot).expect("readable");
    [by_environment, by_snapshot, by_superseded]
}

/// A program has read its secret before the volume followed it, and prints it afterwards.
#[test]
fn what_a_live_volume_held_before_is_in_no_text() {
    in_namespace(|| {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        runtime.block_on(async {
            let version = Arc::new(AtomicUsize::new(1));
            let objects = super::objects({
                let version = version.clone();
                move |path| {
                    let version = version.load(Ordering::SeqCst);
                    let value = STANDARD.encode(format!("canary-of-version-{version}"));
                    path.ends_with("/secrets/s").then(|| {
                        json!({ "apiVersion": "v1", "kind": "Secret",
                    "metadata": { "name": "s", "namespace": "ns", "uid": "s",
                        "resourceVersion": version.to_string() },
                    "data": { "k": value } })
                    })
                }
            });
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
                "spec": { "containers": [], "volumes": [
                    { "name": "v", "secret": { "secretName": "s" } },
                    { "name": "w", "projected": { "sources": [{ "secret": { "name": "s" } }] } }] },
            }))
            .expect("a pod");
            let (pod, id) = (Arc::new(pod), PodId::new("ns", "p", "u").expect("an identity"));
            let root = tempfile::tempdir().expect("a directory");
            let layout = Layout::new(root.path());
            let protected = Arc::new(Protected::new([]));
            let volumes = Volumes::new(layout.clone(), objects, super::NODE, protected);
            let shown = |version: usize| {
                let redactor = Redactor::of_pod(&layout, &id, crate::pod::spec(&pod));
                redactor.redact(&format!("login as canary-of-version-{version}: no").into())
            };
            let mut seen = Vec::new();
            let mut done = volumes.set_up(&id, &pod).await.is_ok();
            seen.push(shown(1));
            for next in 2..5 {
                version.store(next, Ordering::SeqCst);
                done &= volumes.refresh(&id, &pod, vec!["s".to_owned()]).await.is_ok();
                seen.extend((1..=next).map(shown));
            }
            volumes.tear_down(&id).await.expect("unmounted");
            assert!(done, "set up and refreshed");
            assert!(seen.iter().all(|text| text == "login as <redacted>: no"), "{seen:?}");
        });
    });
}

/// What would be read of a text that has a value in it, wherever it comes from.
fn shown(redactor: &Redactor, text: &str) -> Vec<String> {
    let status = tonic::Status::unknown(text);
    let error = RuntimeError::from(status);
    let words = RuntimeWords::new(["/etc/app.conf"]);
    let end = Foreign::tail(text.as_bytes().to_vec(), false);
    vec![
        error.redacted(redactor),
        error.to_string(),
        format!("{error:?}"),
        error.redacted_by(|text| redactor.redact_error(text, &words)),
        Failure::Foreign(text.into()).redacted(redactor),
        Failure::Runtime(error).redacted(redactor),
        redactor.redact_tail(&end, 2048),
        redactor.redact_tail(&end, text.len() / 2),
        redactor.redact_head(&text.into(), text.len() / 2),
    ]
}

/// The core of a value in each spelling, as a search of the disk would look for it.
fn is_seen(text: &str, value: &str) -> bool {
    let mut parts = vec![value.to_owned()];
    parts.extend(value.lines().filter(|line| line.len() >= 8).map(str::to_owned));
    parts
        .iter()
        .flat_map(|part| spellings(part))
        .any(|(_, spelled)| text.contains(spelled.trim_matches(['"', '\'', '='])))
        || text.contains("canary")
}

#[test]
fn a_value_is_in_no_event_status_or_log() {
    let mut attacks = Attacks::group("values of Secrets in events, status and logs");
    for value in VALUES {
        for redactor in redactors(value) {
            for (spelling, spelled) in spellings(value) {
                let text = format!("OCI runtime create failed: exec: {spelled}: no such file");
                let all = shown(&redactor, &text);
                let seen = all.iter().find(|told| is_seen(told, value));
                attacks.attempt(spelling, seen.is_none(), (value, seen));
            }
            // Cut by the runtime.
            let cut = &value[..value.floor_char_boundary(value.len() * 2 / 3)];
            for text in [format!("exec: \"{cut}...\""), format!("login as {cut}\u{2026}: no")] {
                let seen = redactor.redact(&text.as_str().into());
                attacks.attempt("cut", !seen.contains(cut), (value, seen));
            }
        }
    }
    for value in ["1", "no", "471", "\"", "ü"] {
        for redactor in redactors(value) {
            let text = format!("exec: \"{value}\": executable file not found in $PATH");
            let seen = redactor.redact(&text.as_str().into());
            attacks.attempt("a short value", seen == WITHHELD, &seen);
            let known = redactor.redact_error(&text.as_str().into(), &RuntimeWords::new([]));
            let rest = known.strip_prefix("exec: \"<redacted>\"");
            let is_known = |word: &str| "executable file not found in $PATH".contains(word);
            let words = rest.map(|rest| rest.replace(": ", " ").replace("\"<redacted>\"", ""));
            let failed = words.is_some_and(|words| words.split_whitespace().all(is_known));
            attacks.attempt("a short value in an error", failed, known);
        }
    }
    attacks.finish();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a value is made of, and however a text around it.
    #[test]
    fn random_values_are_in_no_text(
        core in "[a-z0-9]{6,12}",
        odd in "[\\PC\n\t\"'%\\\\$*?]{0,12}",
        around in "\\PC{0,40}",
    ) {
        let value = format!("{core}{odd}canary{core}");
        for redactor in redactors(&value) {
            for (spelling, spelled) in spellings(&value) {
                let text = format!("{around} {spelled} {around}");
                let words = RuntimeWords::new([]);
                let text = Foreign::from(text);
                for told in [redactor.redact(&text), redactor.redact_error(&text, &words)] {
                    prop_assert!(!told.contains("canary"), "{}: {:?}", spelling, told);
                    prop_assert!(!told.contains(&core) || around.contains(&core), "{}", spelling);
                }
            }
        }
    }

    /// The runtime gets nothing of a value, however it is put together.
    #[test]
    fn random_values_are_in_no_request_of_a_runtime_with_placeholders(
        value in "[\\PC\n\t]{1,60}",
        before in "[a-z/:@]{0,10}",
    ) {
        prop_assume!(!value.contains('\0'));
        let value = format!("canary{value}");
        let key = json!({ "secretKeyRef": { "name": "s", "key": "k" } });
        let container = json!({ "name": "c",
            "envFrom": [{ "prefix": "ALL_", "secretRef": { "name": "s" } }],
            "env": [{ "name": "A", "valueFrom": key }, { "name": "B", "value": format!("{before}$(A)") },
                { "name": "C", "value": "$(A)$(B)$(ALL_k)" }],
            "command": ["$(A)", "x$(B)"], "args": ["$(C)", "plain", "$(ALL_k)"] });
        let (environment, line) =
            started_with(container, &[("k", value.as_bytes())], &[]).expect("text");
        let memory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let layout = Layout::new(memory.path());
        std::fs::create_dir_all(layout.snapshot("u")).expect("made");
        let snapshot = Snapshot::of(&layout, "u");
        let id = crate::pod::PodId::new("ns", "p", "u").expect("an identity");
        let values = environment.iter().map(|(_, value)| value);
        for value in values.chain(&line.command).chain(&line.args) {
            let told = value.for_runtime(Some((&snapshot, &id))).expect("kept");
            prop_assert!(!told.contains("canary"), "{}", told);
        }
    }
}
