//! `coffer apply -f`: applies manifests to any Kubernetes API server with server-side apply, for machines
//! without kubectl and for manifests that kubectl cannot read.
//!
//! Each object is one request; a rejected one does not stop the others. The output is that of kubectl: the
//! object's name and the result, never its content.

mod manifest;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use coffer_api::Document;
use coffer_client::path::segment;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::{ApiResource, Scope, pinned_kind};
use kube::{Client, Config, Resource};
use serde_json::Value;

/// The default field manager.
const MANAGER: &str = "coffer-apply";

#[derive(Debug, Args)]
pub(crate) struct ApplyOptions {
    /// A manifest, a directory of manifests, or `-` for standard input. May be repeated.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// The kubeconfig to reach the API server with. The default is kubectl's.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of objects without one. The default is the kubeconfig's.
    #[arg(short = 'n', long, value_name = "NAME")]
    namespace: Option<String>,
    /// The name of the manager of the applied fields.
    #[arg(long, value_name = "NAME", default_value = MANAGER)]
    field_manager: String,
    /// Apply also if other managers own the fields, and take them over.
    #[arg(long)]
    force_conflicts: bool,
    /// Send the objects for validation only, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Applies every object of every manifest.
pub(crate) async fn run(options: ApplyOptions) -> Result<()> {
    let mut objects = Vec::new();
    for path in &options.filename {
        let (found, repairs) = manifest::read(path)?;
        for repair in repairs {
            eprintln!("Warning: {repair}");
        }
        objects.extend(found);
    }
    if objects.is_empty() {
        bail!("no objects passed to apply");
    }
    let (client, namespace) = client(&options).await?;
    let mut refused = 0_usize;
    for object in &objects {
        match apply(&client, &namespace, object, &options).await {
            Ok(line) => {
                #[expect(clippy::print_stdout, reason = "the verb's output")]
                {
                    println!("{line}");
                }
            }
            Err(error) => {
                eprintln!("{}", crate::report::one_line(&error));
                refused += 1;
            }
        }
    }
    match refused {
        0 => Ok(()),
        _ => bail!("{refused} of {} objects were not applied", objects.len()),
    }
}

async fn client(options: &ApplyOptions) -> Result<(Client, String)> {
    let kubeconfig = match &options.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    }
    .context("cannot read the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("cannot use the kubeconfig")?;
    let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    Ok((crate::client::connecting(config)?, namespace))
}

/// The endpoint of one object.
struct Endpoint {
    kind: ApiResource,
    url: String,
    name: Option<String>,
}

impl Endpoint {
    async fn of(client: &Client, default: &str, object: &Document) -> Result<Self> {
        let text = |field: &str| object.value()[field].as_str().unwrap_or_default();
        let meta = |field: &str| object.value()["metadata"][field].as_str();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version.is_empty() || kind.is_empty() {
            bail!("apiVersion and kind must be set");
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        let (kind, capabilities) = pinned_kind(client, &wanted).await.map_err(|error| {
            anyhow::anyhow!("no matches for kind \"{kind}\" in version \"{api_version}\": {error}")
        })?;
        let namespace = match capabilities.scope {
            Scope::Namespaced => Some(segment(meta("namespace").unwrap_or(default))),
            Scope::Cluster => None,
        };
        let url = DynamicObject::url_path(&kind, namespace.as_deref());
        Ok(Self { kind, url, name: meta("name").map(str::to_owned) })
    }

    /// `secret/a`, `deployment.apps/a`.
    fn shown(&self, name: &str) -> String {
        let kind = self.kind.kind.to_ascii_lowercase();
        match self.kind.group.as_str() {
            "" => format!("{kind}/{name}"),
            group => format!("{kind}.{group}/{name}"),
        }
    }
}

async fn apply(
    client: &Client,
    default: &str,
    object: &Document,
    options: &ApplyOptions,
) -> Result<String> {
    let endpoint = Endpoint::of(client, default, object).await?;
    let query = query(options);
    let body = || serde_json::to_vec(object.value()).expect("JSON encodes");
    let Some(name) = &endpoint.name else {
        // Only a create can generate a name.
        let url = format!("{}?{query}", endpoint.url);
        let request = request(Method::POST, &url, "application/json", body())?;
        let (_, made) = send(client, request).await?;
        let name = made.value()["metadata"]["name"].as_str().unwrap_or_default();
        return Ok(format!("{} created{}", endpoint.shown(name), dry(options)));
    };
    let url = format!("{}/{}", endpoint.url, segment(name));
    let before = version(client, &url).await?;
    let force = if options.force_conflicts { "&force=true" } else { "" };
    let target = format!("{url}?{query}{force}");
    let request = request(Method::PATCH, &target, "application/apply-patch+yaml", body())?;
    let (status, after) = send(client, request).await?;
    let became = match before {
        _ if status == StatusCode::CREATED => "created",
        Some(before) if after.value()["metadata"]["resourceVersion"] == before => "unchanged",
        _ => "configured",
    };
    Ok(format!("{} {became}{}", endpoint.shown(name), dry(options)))
}

fn dry(options: &ApplyOptions) -> &'static str {
    if options.dry_run { " (server dry run)" } else { "" }
}

fn query(options: &ApplyOptions) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("fieldManager", &options.field_manager);
    query.append_pair("fieldValidation", "Strict");
    if options.dry_run {
        query.append_pair("dryRun", "All");
    }
    query.finish()
}

/// The resourceVersion of the current object.
async fn version(client: &Client, url: &str) -> Result<Option<String>> {
    let mut request = request(Method::GET, url, "application/json", Vec::new())?;
    let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
    request.headers_mut().insert(ACCEPT, metadata.parse()?);
    let response = client.send(request).await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let found = read(response).await?.1;
    Ok(found.value()["metadata"]["resourceVersion"].as_str().map(str::to_owned))
}

fn request(method: Method, url: &str, content: &str, body: Vec<u8>) -> Result<Request<Body>> {
    let request = Request::builder().method(method).uri(url).header(CONTENT_TYPE, content);
    Ok(request.header(ACCEPT, "application/json").body(Body::from(body))?)
}

async fn send(client: &Client, request: Request<Body>) -> Result<(StatusCode, Document)> {
    read(client.send(request).await?).await
}

/// The object of a response; a failure's Status becomes the error that kubectl would print.
async fn read(response: http::Response<Body>) -> Result<(StatusCode, Document)> {
    let status = response.status();
    let bytes = zeroize::Zeroizing::new(response.into_body().collect_bytes().await?.to_vec());
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let document = Document::new(value);
    if status.is_success() {
        return Ok((status, document));
    }
    let text = |field: &str| document.value()[field].as_str().unwrap_or_default().to_owned();
    match (text("reason"), text("message")) {
        (_, message) if message.is_empty() => bail!("Error from server: {status}"),
        (reason, message) if reason.is_empty() => bail!("Error from server: {message}"),
        (reason, message) => bail!("Error from server ({reason}): {message}"),
    }
}
