//! A docker-registry on loopback, and pushing to it over its HTTP API; around it a proxy that writes
//! down what it is sent, a token server, and a private certificate authority.

mod recorder;
mod seen;
pub(crate) mod serve;
mod tls;
mod token;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::recorder::{Recorder, RecorderBuilder};
pub use self::seen::{Seen, SeenCredential};
pub use self::tls::PrivateCa;
use self::token::Signer;
pub use self::token::TokenServer;
use crate::process::Running;
use coffer_containerd::image::{Blob, Image, MANIFEST_MEDIA_TYPE};

/// A registry with its images in a temporary directory.
pub struct Registry {
    address: SocketAddr,
    access: Access,
    client: Client<HttpConnector, Full<Bytes>>,
    // Ended before its directory is removed: fields are dropped in this order.
    _process: Running,
    _directory: TempDir,
}

/// How this registry lets its own images in.
enum Access {
    Open,
    Password(String),
    Token(Arc<Signer>),
}

impl Access {
    fn authorization(&self, repository: &str) -> Result<Option<String>> {
        Ok(match self {
            Self::Open => None,
            Self::Password(basic) => Some(basic.clone()),
            Self::Token(signer) => {
                let actions = ["pull", "push"];
                let scope = json!({ "type": "repository", "name": repository, "actions": actions });
                Some(format!("Bearer {}", signer.token(&[scope])?))
            }
        })
    }
}

impl Registry {
    /// A registry that anyone may pull from.
    ///
    /// # Errors
    /// When docker-registry is not installed or does not start.
    pub async fn open() -> Result<Self> {
        Self::start(Access::Open, |_| Ok(Value::Null)).await
    }

    /// A registry that asks for this name and password.
    ///
    /// # Errors
    /// When docker-registry or htpasswd is not installed, or it does not start.
    pub async fn with_password(user: &str, password: &str) -> Result<Self> {
        let pair = STANDARD.encode(format!("{user}:{password}"));
        let access = Access::Password(format!("Basic {pair}"));
        Self::start(access, |directory| {
            let file = directory.join("htpasswd");
            htpasswd(&file, user, password)?;
            Ok(json!({ "htpasswd": { "realm": "test", "path": file } }))
        })
        .await
    }

    /// A registry that sends its clients to a token server.
    ///
    /// # Errors
    /// When docker-registry is not installed or does not start.
    pub async fn with_tokens(server: &TokenServer) -> Result<Self> {
        let signer = server.signer();
        Self::start(Access::Token(signer.clone()), |_| {
            Ok(json!({ "token": {
                "realm": server.realm(),
                "service": token::SERVICE,
                "issuer": token::ISSUER,
                "rootcertbundle": signer.certificate_path(),
            }}))
        })
        .await
    }

    async fn start(access: Access, auth: impl FnOnce(&Path) -> Result<Value>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("coffer-registry-").tempdir()?;
        let storage = directory.path().join("storage");
        let mut config = json!({
            "version": 0.1,
            "log": { "level": "info", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": storage }, "delete": { "enabled": true } },
            "http": { "addr": "127.0.0.1:0" },
        });
        match auth(directory.path())? {
            Value::Null => {}
            auth => config["auth"] = auth,
        }
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config.to_string())?;
        let mut command = tokio::process::Command::new("docker-registry");
        command.arg("serve").arg(&path).env("OTEL_TRACES_EXPORTER", "none");
        let mut process = Running::start(command)?;
        let address = process.until(Duration::from_secs(30), listening_address).await?;
        Ok(Self {
            address,
            access,
            client: Client::builder(TokioExecutor::new()).build_http(),
            _process: process,
            _directory: directory,
        })
    }

    /// `127.0.0.1:PORT`, as it stands in image references.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A value for `--registry-mirror` that makes this registry a mirror of another.
    pub fn mirror_of(&self, host: &str) -> String {
        format!("{host}={}", self.url())
    }

    /// Puts an image in; `repository` is `library/redis` for what Docker Hub calls `redis`.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn push(&self, image: &Image, repository: &str, tag: &str) -> Result<()> {
        for blob in image.blobs() {
            self.push_blob(repository, blob).await?;
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        let bytes = Bytes::copy_from_slice(image.manifest().bytes());
        let call = Call { repository, method: Method::PUT, content_type: MANIFEST_MEDIA_TYPE };
        self.call(call, &path, bytes, StatusCode::CREATED).await?;
        Ok(())
    }

    async fn push_blob(&self, repository: &str, blob: &Blob) -> Result<()> {
        let start = format!("/v2/{repository}/blobs/uploads/");
        let plain = "application/octet-stream";
        let call = |method| Call { repository, method, content_type: plain };
        let begun =
            self.call(call(Method::POST), &start, Bytes::new(), StatusCode::ACCEPTED).await?;
        let location = begun
            .headers()
            .get(header::LOCATION)
            .and_then(|location| location.to_str().ok()?.parse::<http::Uri>().ok())
            .context("the registry named no place to upload to")?;
        let to = location.path_and_query().context("the registry's place has no path")?;
        let separator = if location.query().is_some() { '&' } else { '?' };
        let path = format!("{to}{separator}digest={}", blob.digest());
        let bytes = Bytes::copy_from_slice(blob.bytes());
        self.call(call(Method::PUT), &path, bytes, StatusCode::CREATED).await?;
        Ok(())
    }

    async fn call(
        &self,
        Call { repository, method, content_type }: Call<'_>,
        path: &str,
        body: Bytes,
        expected: StatusCode,
    ) -> Result<Response<()>> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("{}{path}", self.url()))
            .header(header::CONTENT_TYPE, content_type);
        if let Some(authorization) = self.access.authorization(repository)? {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = self.client.request(request.body(Full::new(body))?).await?;
        let (parts, body) = response.into_parts();
        if parts.status != expected {
            let words = body.collect().await?.to_bytes();
            bail!("{method} {path}: {}: {}", parts.status, String::from_utf8_lossy(&words));
        }
        Ok(Response::from_parts(parts, ()))
    }
}

/// The part of a request that tells what it is about.
struct Call<'a> {
    repository: &'a str,
    method: Method,
    content_type: &'a str,
}

/// `… msg="listening on 127.0.0.1:39417" …`
fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("listening on ")?;
    after.split(|c: char| c == '"' || c.is_whitespace()).next()?.parse().ok()
}

fn htpasswd(file: &Path, user: &str, password: &str) -> Result<()> {
    use std::io::Write as _;
    // docker-registry takes bcrypt only; the password goes by pipe and not by command line.
    let mut command = Command::new("htpasswd");
    command.args(["-i", "-B", "-c"]).arg(file).arg(user);
    command.stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot run htpasswd: run `make deps`")?;
    let mut stdin = child.stdin.take().context("htpasswd has no standard input")?;
    stdin.write_all(password.as_bytes())?;
    drop(stdin);
    let status = child.wait()?;
    ensure!(status.success(), "htpasswd: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_containerd::image::{Layer, Run};

    fn small() -> Image {
        Image::new(vec![Layer::new().file("hello", b"world", 0o644)], &Run::default())
    }

    async fn get(url: String, authorization: Option<&str>) -> StatusCode {
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let mut request = Request::builder().uri(url).header(header::ACCEPT, MANIFEST_MEDIA_TYPE);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        client.request(request.body(Full::default()).unwrap()).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_pushed_image_can_be_pulled_anonymously() {
        let registry = Registry::open().await.unwrap();
        registry.push(&small(), "library/small", "latest").await.unwrap();
        let url = format!("{}/v2/library/small/manifests/latest", registry.url());
        assert_eq!(get(url, None).await, StatusCode::OK);
    }

    #[tokio::test]
    async fn behind_a_password_only_its_knower_pulls() {
        let registry = Registry::with_password("puller", "s3same").await.unwrap();
        registry.push(&small(), "private/small", "1").await.unwrap();
        let url = format!("{}/v2/private/small/manifests/1", registry.url());
        assert_eq!(get(url.clone(), None).await, StatusCode::UNAUTHORIZED);
        let right = format!("Basic {}", STANDARD.encode("puller:s3same"));
        assert_eq!(get(url.clone(), Some(&right)).await, StatusCode::OK);
        let wrong = format!("Basic {}", STANDARD.encode("puller:guess"));
        assert_eq!(get(url, Some(&wrong)).await, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn a_recorder_passes_on_and_remembers_who_showed_what() {
        let registry = Registry::with_password("puller", "s3same").await.unwrap();
        registry.push(&small(), "private/small", "1").await.unwrap();
        let recorder = Recorder::before(registry.url()).start().await.unwrap();
        let url = format!("{}/v2/private/small/manifests/1", recorder.url());
        assert_eq!(get(url.clone(), None).await, StatusCode::UNAUTHORIZED);
        assert!(recorder.credentials().is_empty());
        let right = format!("Basic {}", STANDARD.encode("puller:s3same"));
        assert_eq!(get(url.clone(), Some(&right)).await, StatusCode::OK);
        assert_eq!(recorder.credentials(), [SeenCredential::Basic("puller:s3same".to_owned())]);
        assert_eq!(recorder.seen().len(), 2);
        recorder.set_down(true);
        assert_eq!(get(url, Some(&right)).await, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_token_for_one_repository_opens_that_one() {
        let server = TokenServer::start("puller", "s3same").await.unwrap();
        let registry = Registry::with_tokens(&server).await.unwrap();
        registry.push(&small(), "private/small", "1").await.unwrap();
        let url = format!("{}/v2/private/small/manifests/1", registry.url());
        assert_eq!(get(url.clone(), None).await, StatusCode::UNAUTHORIZED);
        let token = |name: &str| {
            let scope = json!({ "type": "repository", "name": name, "actions": ["pull"] });
            format!("Bearer {}", server.signer().token(&[scope]).unwrap())
        };
        assert_eq!(get(url.clone(), Some(&token("private/small"))).await, StatusCode::OK);
        assert_eq!(get(url, Some(&token("other"))).await, StatusCode::UNAUTHORIZED);
    }
}
