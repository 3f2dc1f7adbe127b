//! exec, attach, port-forward and logs: which kubelet a request is for, and what it is to be asked.
//!
//! The streams themselves are `kubelets`'.

use std::sync::Arc;

use coffer_api::status::Failure;
use coffer_api::subresource::SubresourceName;
use coffer_net::Incoming;
use http::Request;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::Handlers;
use crate::authz::Permit;
use crate::cache::CachedObject;
use crate::kubelets::Endpoint;
use crate::object::Resource;
use crate::request::{Query, ResourcePath};
use crate::respond::Response;

impl Handlers {
    /// Sends a request on to the kubelet of a pod.
    pub(super) async fn tunnel(
        self: &Arc<Self>,
        permit: &Permit,
        resource: Arc<Resource>,
        path: ResourcePath,
        query: Query,
        request: Request<Incoming>,
    ) -> Result<Response, Failure> {
        let user = &permit.identity().user;
        // First: such requests have no other limit, and a refused request returns its place immediately.
        let place = (&self.tunnels, self.tunnels.enter(user)?);
        let pod = self.core.registry.get(&resource, &path.namespace, &path.name).await?;
        let node = pod.field("spec.nodeName").and_then(|node| self.node(node));
        let bytes = pod.bytes.len() + node.as_ref().map_or(0, |node| node.bytes.len());
        let is_log = path.subresource == "log";
        let handlers = self.clone();
        let work = async move { handlers.target(&resource, &pod, node.as_deref(), &path, &query) };
        let (endpoint, target) = self.executor.run(user, bytes, Box::pin(work)).await?;
        if is_log {
            self.kubelets.stream(place, &endpoint, &target).await
        } else {
            self.kubelets.upgrade(place, &endpoint, &target, request).await
        }
    }

    fn node(&self, name: &str) -> Option<Arc<CachedObject>> {
        let nodes = self.core.resources().of::<Node>();
        nodes.shard().get(&nodes.key("", name))
    }

    /// Where a pod's kubelet is, and what it is to be asked.
    fn target(
        &self,
        resource: &Resource,
        pod: &CachedObject,
        node: Option<&CachedObject>,
        path: &ResourcePath,
        query: &Query,
    ) -> Result<(Endpoint, String), Failure> {
        let object = resource.parse(&pod.bytes)?;
        let pod = object.pod().ok_or_else(Failure::no_such_path)?;
        let spec = pod.spec.as_ref();
        let name = spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        if name.is_empty() {
            return Err(Failure::bad_request(format!(
                "pod {} does not have a host assigned",
                path.name
            )));
        }
        let sub = SubresourceName::parse(&path.subresource);
        let container = match sub {
            Some(SubresourceName::PortForward) => String::new(),
            _ => container(pod, query.get("container"))?,
        };
        let target = kubelet_path(path, &container, query);
        Ok((self.endpoint(name, node)?, target))
    }

    fn endpoint(&self, name: &str, node: Option<&CachedObject>) -> Result<Endpoint, Failure> {
        let nodes = self.core.resources().of::<Node>();
        let found = node.ok_or_else(|| Failure::not_found(nodes.group_resource(), name))?;
        let object = nodes.parse(&found.bytes)?;
        let node = object.of_kind::<Node>().ok_or_else(Failure::no_such_path)?;
        let status = node.status.clone().unwrap_or_default();
        let addresses = status.addresses.unwrap_or_default();
        let address = ["InternalIP", "ExternalIP", "Hostname"]
            .iter()
            .find_map(|wanted| addresses.iter().find(|address| address.type_ == *wanted))
            .map(|address| address.address.clone())
            .ok_or_else(|| Failure::internal(format!("node {name} has no address")))?;
        let port = status
            .daemon_endpoints
            .and_then(|endpoints| endpoints.kubelet_endpoint)
            .and_then(|endpoint| u16::try_from(endpoint.port).ok())
            .unwrap_or(10250);
        Ok(Endpoint { node: name.to_owned(), address, port })
    }
}

/// The container meant: the one named, or the pod's only (or default) one.
fn container(pod: &Pod, named: Option<&str>) -> Result<String, Failure> {
    const DEFAULT: &str = coffer_api::well_known::annotation::DEFAULT_CONTAINER;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = pod.spec.as_ref() else { return Err(Failure::no_such_path()) };
    let inits = || spec.init_containers.iter().flatten().map(|container| container.name.as_str());
    let main: Vec<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    let ephemeral = || spec.ephemeral_containers.iter().flatten().map(|it| it.name.as_str());
    if let Some(named) = named {
        let known = main.iter().copied().chain(inits()).chain(ephemeral()).any(|it| it == named);
        return if known {
            Ok(named.to_owned())
        } else {
            Err(Failure::bad_request(format!("container {named} is not valid for pod {name}")))
        };
    }
    let default = pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT));
    match (main.as_slice(), default) {
        ([only], _) => Ok((*only).to_owned()),
        (all, Some(default)) if all.contains(&default.as_str()) => Ok(default.clone()),
        (all, _) => {
            let mut choices = format!("choose one of: [{}]", all.join(" "));
            let inits: Vec<&str> = inits().collect();
            if !inits.is_empty() {
                choices.push_str(&format!(" or one of the init containers: [{}]", inits.join(" ")));
            }
            Err(Failure::bad_request(format!(
                "a container name must be specified for pod {name}, {choices}"
            )))
        }
    }
}

/// The kubelet's path for a subresource; stream options get the kubelet's names.
fn kubelet_path(path: &ResourcePath, container: &str, query: &Query) -> String {
    let (namespace, pod) = (&path.namespace, &path.name);
    let mut out = form_urlencoded::Serializer::new(String::new());
    let verb = match SubresourceName::parse(&path.subresource) {
        Some(SubresourceName::Log) => {
            for (name, value) in query.iter().filter(|(name, _)| *name != "container") {
                out.append_pair(name, value);
            }
            "containerLogs"
        }
        Some(SubresourceName::PortForward) => {
            for port in query.all("ports").iter().flat_map(|ports| ports.split(',')) {
                out.append_pair("port", port);
            }
            "portForward"
        }
        _ => {
            let streams =
                [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
            for (ours, theirs) in streams {
                if query.flag(ours) {
                    out.append_pair(theirs, "1");
                }
            }
            for argument in query.all("command") {
                out.append_pair("command", argument);
            }
            path.subresource.as_str()
        }
    };
    let container = if container.is_empty() { String::new() } else { format!("/{container}") };
    let query = out.finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/{verb}/{namespace}/{pod}{container}{mark}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_options_get_the_kubelets_names() {
        let path = ResourcePath {
            namespace: "n".into(),
            name: "p".into(),
            subresource: "exec".into(),
            ..Default::default()
        };
        let query = Query::parse("command=ls&command=/a%20b&stdin=true&stdout=true&tty=false");
        let target = kubelet_path(&path, "c", &query);
        assert_eq!(target, "/exec/n/p/c?input=1&output=1&command=ls&command=%2Fa+b");
    }
}
