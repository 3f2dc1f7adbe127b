//! One run of a credential provider plugin: the request on its standard input, the response on its
//! standard output, upstream's `credentialprovider.kubelet.k8s.io`.
//!
//! A response is credentials: its bytes are erased, and no error quotes them. What a plugin writes
//! on its standard error is read and dropped, since plugins have been seen to print tokens there;
//! upstream logs it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use coffer_api::go;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::super::credential::Hidden;
use super::config::ProviderConfig;

/// Upstream's limit for one run.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// Room for what plugins usually say, so that the buffer need not move and leave a copy behind.
const RESPONSE_BYTES_USUAL: usize = 64 * 1024;

/// Why a plugin gave no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum PluginError {
    #[error("it cannot be run: {0}")]
    Run(#[from] std::io::Error),
    #[error("it did not respond within {} s", RUN_TIMEOUT.as_secs())]
    Timeout,
    #[error("{status}; what it said on standard error ({said_bytes} bytes) may hold credentials")]
    Exit { status: ExitStatus, said_bytes: usize },
    #[error("its response is too long")]
    TooLong,
    #[error("error decoding credential provider plugin response from stdout")]
    Malformed,
    #[error(
        "apiVersion from credential plugin response did not match expected apiVersion:{expected}"
    )]
    ApiVersion { expected: String },
}

/// What a plugin is asked.
pub(super) struct Question<'a> {
    /// The image without tag and digest.
    pub(super) image: &'a str,
    pub(super) service_account_token: Option<&'a str>,
    pub(super) service_account_annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    kind: &'static str,
    api_version: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account_token: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    service_account_annotations: &'a BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawResponse {
    kind: String,
    api_version: String,
    cache_key_type: CacheKeyType,
    #[serde(default)]
    cache_duration: Option<String>,
    #[serde(default)]
    auth: Option<BTreeMap<String, RawAuth>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuth {
    #[serde(default)]
    username: Hidden,
    #[serde(default)]
    password: Hidden,
}

/// For what else the answer is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum CacheKeyType {
    Image,
    Registry,
    Global,
}

/// What a plugin responded.
pub(super) struct Answer {
    pub(super) cache_key_type: CacheKeyType,
    /// `None` where the plugin leaves it to the configuration.
    pub(super) cache_duration: Option<Duration>,
    pub(super) auth: Vec<(String, Hidden, Hidden)>,
}

/// A plugin that can be run.
pub(super) struct Plugin {
    pub(super) config: ProviderConfig,
    pub(super) program: PathBuf,
}

impl Plugin {
    pub(super) async fn run(&self, question: &Question<'_>) -> Result<Answer, PluginError> {
        let request = Request {
            kind: "CredentialProviderRequest",
            api_version: &self.config.api_version,
            image: question.image,
            service_account_token: question.service_account_token,
            service_account_annotations: question.service_account_annotations,
        };
        let request = Zeroizing::new(serde_json::to_vec(&request).map_err(std::io::Error::other)?);
        let run = self.execute(&request);
        let response =
            tokio::time::timeout(RUN_TIMEOUT, run).await.map_err(|_| PluginError::Timeout)??;
        parse(&response, &self.config.api_version)
    }

    /// Writes the request and reads the response to its end. Dropping it kills the plugin.
    async fn execute(&self, request: &[u8]) -> Result<Zeroizing<Vec<u8>>, PluginError> {
        let mut command = Command::new(&self.program);
        command.args(&self.config.args);
        command.envs(self.config.env.iter().map(|variable| (&variable.name, &variable.value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A plugin that does not read its input may know the answer all the same.
                let _ = stdin.write_all(request).await;
            }
        };
        let ((), response, said_bytes) = tokio::join!(write, read(stdout), drain(stderr));
        let response = response?;
        let status = child.wait().await?;
        if !status.success() {
            return Err(PluginError::Exit { status, said_bytes });
        }
        Ok(response)
    }
}

async fn read(output: Option<impl AsyncRead + Unpin>) -> Result<Zeroizing<Vec<u8>>, PluginError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(RESPONSE_BYTES_USUAL));
    let Some(output) = output else { return Ok(bytes) };
    let limit = u64::try_from(RESPONSE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    output.take(limit).read_to_end(&mut bytes).await?;
    if bytes.len() > RESPONSE_BYTES_MAX { Err(PluginError::TooLong) } else { Ok(bytes) }
}

async fn drain(output: Option<impl AsyncRead + Unpin>) -> usize {
    let Some(mut output) = output else { return 0 };
    let mut buffer = Zeroizing::new([0; 4096]);
    let mut total = 0;
    while let Ok(length @ 1..) = output.read(&mut *buffer).await {
        total += length;
    }
    total
}

fn parse(bytes: &[u8], api_version: &str) -> Result<Answer, PluginError> {
    let raw: RawResponse = serde_json::from_slice(bytes).map_err(|_| PluginError::Malformed)?;
    if raw.api_version != api_version {
        return Err(PluginError::ApiVersion { expected: api_version.to_owned() });
    }
    if raw.kind != "CredentialProviderResponse" {
        return Err(PluginError::Malformed);
    }
    // A negative duration is zero.
    let duration = |text: String| {
        let parsed = go::duration::parse(&text).map_err(|_| PluginError::Malformed)?;
        Ok::<_, PluginError>(parsed.try_into().unwrap_or_default())
    };
    let auth = raw.auth.unwrap_or_default().into_iter();
    Ok(Answer {
        cache_key_type: raw.cache_key_type,
        cache_duration: raw.cache_duration.map(duration).transpose()?,
        auth: auth.map(|(registry, raw)| (registry, raw.username, raw.password)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "credentialprovider.kubelet.k8s.io/v1";

    #[test]
    fn a_response_is_read_strictly_and_never_quoted() {
        let good = br#"{"kind":"CredentialProviderResponse",
            "apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry",
            "cacheDuration":"6h0m0s","auth":{"r.io":{"username":"u","password":"canary"}}}"#;
        let answer = parse(good, V1).expect("good");
        assert_eq!(answer.cache_key_type, CacheKeyType::Registry);
        assert_eq!(answer.cache_duration, Some(Duration::from_secs(6 * 60 * 60)));
        assert_eq!(answer.auth.len(), 1);

        let text = std::str::from_utf8(good).expect("text");
        for (from, to) in [
            ("Registry", "canary"),
            ("\"cacheKeyType\"", "\"canary\""),
            ("k8s.io/v1", "k8s.io/canary"),
            ("CredentialProviderResponse", "Canary"),
            ("\"password\":\"canary\"", "\"password\":[\"canary\"]"),
            ("6h0m0s", "canary"),
        ] {
            let error = parse(text.replacen(from, to, 1).as_bytes(), V1).err().expect(to);
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        let negative = text.replacen("6h0m0s", "-1s", 1);
        let answer = parse(negative.as_bytes(), V1).expect("good");
        assert_eq!(answer.cache_duration, Some(Duration::ZERO));
    }
}
