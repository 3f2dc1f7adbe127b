//! The secrets that scenarios write: one value of the wanted size, random, and new at each write.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;

use anyhow::Result;

use super::run::{self, Failed, Work, in_row};
use crate::context::Context;
use crate::measure::report::Phase;
use crate::measure::stats::Tally;
use crate::transport::client::{APPLICATION_JSON, Client};
use crate::transport::target::Target;

/// Clients that fill a namespace before a scenario.
const POPULATE_CLIENTS: usize = 64;

/// Names and bodies of secrets in one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    /// `/api/v1/namespaces/NS/secrets`
    pub(crate) path: String,
    prefix: &'static str,
    size: usize,
}

impl Secrets {
    /// Secrets of a namespace whose names begin with `prefix`.
    pub(crate) fn new(namespace: &str, prefix: &'static str, context: &Context) -> Self {
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        Self { path, prefix, size: context.options.size as usize }
    }

    /// The name of the secret of a number.
    pub(crate) fn name(&self, number: u64) -> String {
        format!("{}-{number:07}", self.prefix)
    }

    /// The path of the secret of a number.
    pub(crate) fn path_of(&self, number: u64) -> String {
        format!("{}/{}-{number:07}", self.path, self.prefix)
    }

    /// The body of a create, or of an update that does not say from which revision.
    pub(crate) fn body(&self, number: u64) -> Bytes {
        self.body_at(number, "")
    }

    /// The body of an update from a revision.
    pub(crate) fn body_at(&self, number: u64, revision: &str) -> Bytes {
        let (name, value) = (self.name(number), payload(self.size));
        let revision = match revision {
            "" => String::new(),
            revision => format!(",\"resourceVersion\":\"{revision}\""),
        };
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{{\"name\":\"{name}\"{revision}}},\
             \"type\":\"Opaque\",\"data\":{{\"value\":\"{value}\"}}}}"
        )
        .into()
    }

    /// Creates the secrets of these numbers.
    pub(crate) async fn populate(
        &self,
        context: &Context,
        target: &Arc<Target>,
        numbers: std::ops::Range<u64>,
    ) -> Result<Phase> {
        let count = numbers.end - numbers.start;
        let name = format!("populate with {count} secrets");
        let work = Arc::new(Create { secrets: self.clone(), first: numbers.start });
        run::run(context, target, &name, POPULATE_CLIENTS, (Some(count), None), work).await
    }
}

/// Creates secrets, each once.
pub(crate) struct Create {
    pub(crate) secrets: Secrets,
    /// The number of the first.
    pub(crate) first: u64,
}

impl Work for Create {
    const ROWS: &'static [&'static str] = &["create"];

    async fn step(&self, client: &mut Client, number: u64, tally: &Tally) -> Result<(), Failed> {
        let body = self.secrets.body(self.first + number);
        let start = Instant::now();
        let body = Some((APPLICATION_JSON, body));
        client.call(Method::POST, &self.secrets.path, body).await.map_err(in_row(0))?;
        tally.record(0, start.elapsed());
        Ok(())
    }
}

/// Random bytes in base64: what a server cannot compress or have seen before.
fn payload(size: usize) -> String {
    let mut state = random();
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&next(&mut state).to_le_bytes());
    }
    STANDARD.encode(&bytes[..size])
}

/// A number that differs at each call; nothing here must be unpredictable.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    thread_local! {
        static STATE: std::cell::Cell<u64> = std::cell::Cell::new(RandomState::new().hash_one(0));
    }
    STATE.with(|cell| {
        let mut state = cell.get();
        let value = next(&mut state);
        cell.set(state);
        value
    })
}

/// SplitMix64: a few instructions for eight bytes, so that making bodies is not what is measured.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(size: usize) -> Secrets {
        Secrets { path: "/api/v1/namespaces/n/secrets".to_owned(), prefix: "s", size }
    }

    #[test]
    fn a_body_is_a_secret_whose_value_has_the_size_asked_for() {
        for size in [1, 7, 8, 1024] {
            let body: serde_json::Value = serde_json::from_slice(&secrets(size).body(3)).unwrap();
            assert_eq!(body["metadata"]["name"], "s-0000003");
            assert!(body["metadata"].get("resourceVersion").is_none());
            let value = STANDARD.decode(body["data"]["value"].as_str().unwrap()).unwrap();
            assert_eq!(value.len(), size);
        }
    }

    #[test]
    fn an_update_names_its_revision_and_has_a_new_value() {
        let secrets = secrets(16);
        let one: serde_json::Value = serde_json::from_slice(&secrets.body_at(1, "42")).unwrap();
        let two: serde_json::Value = serde_json::from_slice(&secrets.body_at(1, "42")).unwrap();
        assert_eq!(one["metadata"]["resourceVersion"], "42");
        assert_ne!(one["data"], two["data"]);
    }
}
