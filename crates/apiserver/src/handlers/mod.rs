//! From a permitted request to a response: one function per verb, special subresources apart.

mod eviction;
mod patch;
mod payload;
mod read;
mod review;
mod subresource;
mod token;
mod tunnel;
mod watch;
mod write;

use std::sync::Arc;

use coffer_api::kinds::Namespace;
use coffer_api::status::Failure;
use coffer_api::subresource::SubresourceName;
use coffer_net::{Holding, Incoming};
use http::Request;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::authn::Authenticator;
use crate::authz::{Permit, rbac};
use crate::body::Payload;
use crate::call::Call;
use crate::core::Core;
use crate::executor::{self, Executor};
use crate::failure::too_many_requests;
use crate::identity::MASTERS;
use crate::kubelets::Kubelets;
use crate::memory_pool::MemoryReservation;
use crate::registry::ListQuery;
use crate::representation::Include;
use crate::request::{RequestInfo, ResourcePath, Verb};
use crate::respond::{self, Accepted, Form, Response, Syntax};
use crate::reviews;
use crate::tunnels::Tunnels;

/// What all handlers work with.
pub(crate) struct Handlers {
    pub(crate) core: Core,
    pub(crate) authenticator: Authenticator,
    /// How long a requested token lives at most, in seconds.
    pub(crate) token_lifetime_max_s: Option<i64>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) kubelets: Kubelets,
    pub(crate) tunnels: Tunnels,
    pub(crate) shutdown: tokio_util::sync::CancellationToken,
}

impl Handlers {
    /// Handles one permitted resource request.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        permit: Permit,
        info: RequestInfo,
        request: Request<Incoming>,
    ) -> Result<Response, Failure> {
        if let Some(review) = info.resource.as_ref().and_then(|(_, path)| reviews::find(path)) {
            let (parts, body) = request.into_parts();
            let payload = self.executor.read_body(&permit.identity().user, body).await;
            let (handlers, user) = (self.clone(), permit.identity().user.clone());
            let mut bytes = payload.len();
            if review.shows_rights() {
                bytes = bytes.max(executor::HEAVY_BYTES + 1);
            }
            let work = async move {
                handlers.post_review(review, &permit, &info, &parts.headers, payload).await
            };
            let response = self.executor.run(&user, bytes, Box::pin(work)).await?;
            return self.with_reservation(&user, response, None);
        }
        let Some((verb, path)) = info.resource else { return Err(Failure::no_such_path()) };
        let found = self.core.resources().find(&path.group, &path.version, &path.resource);
        let Some(resource) = found.cloned() else {
            return self.not_served(verb, &path, info.accepted);
        };
        // A namespaced object is named with its namespace; only lists and watches span them.
        let spans = resource.info.namespaced && path.namespace.is_empty();
        // `/namespaces/x` is the namespace itself; any other cluster-scoped resource below a
        // namespace is not served, or a right in the namespace would reach the whole cluster.
        let own = resource.is::<Namespace>() && path.namespace == path.name;
        if !resource.info.namespaced && !path.namespace.is_empty() && !own {
            return Err(Failure::no_such_path());
        }
        if spans && !matches!(verb, Verb::List | Verb::Watch) {
            return Err(if path.name.is_empty() {
                Failure::method_not_allowed()
            } else {
                Failure::no_such_path()
            });
        }
        if !path.subresource.is_empty() {
            let request = (info.query, info.accepted, request);
            return Box::pin(self.subresource(verb, permit, resource, path, request)).await;
        }
        let accept = info.accepted.any()?;
        let (parts, body) = request.into_parts();
        let call =
            Call { permit, resource, path, query: info.query, headers: parts.headers, accept };
        if verb == Verb::Watch {
            return Box::pin(self.watch(call)).await;
        }
        let handlers = self.clone();
        if matches!(verb, Verb::List | Verb::DeleteCollection) {
            if verb == Verb::DeleteCollection && !call.resource.info.deletion.by_collection {
                return Err(Failure::method_not_allowed());
            }
            // Before the state is taken, and before the queue: what waits holds nothing.
            let query = ListQuery::parse(&call.query, &call.resource)?;
            let slot = self.slot_for_list(&call, &query).await?;
            let work = move |call, body| async move {
                match verb {
                    Verb::List => handlers.list(&call, &query, slot).await,
                    _ => handlers.post_delete_collection(&call, &query, body, slot).await,
                }
            };
            return self.execute(verb, call, body, work).await;
        }
        self.execute(verb, call, body, move |call, body| async move {
            handlers.whole(verb, &call, body).await
        })
        .await
    }

    /// A request for an object or a collection. A read does not carry the state that a write needs.
    async fn whole(&self, verb: Verb, call: &Call, body: Payload) -> Result<Response, Failure> {
        match verb {
            Verb::Get => self.get(call).await,
            Verb::Create if call.path.name.is_empty() => Box::pin(self.post_new(call, body)).await,
            Verb::Update if !call.path.name.is_empty() => {
                Box::pin(self.post_update(call, body)).await
            }
            Verb::Patch if !call.path.name.is_empty() => {
                Box::pin(self.post_patch(call, body)).await
            }
            Verb::Delete => Box::pin(self.post_delete(call, body)).await,
            _ => Err(Failure::method_not_allowed()),
        }
    }

    /// Reads the body and does the work on the executor.
    async fn execute<W: Future<Output = Result<Response, Failure>> + Send + 'static>(
        &self,
        verb: Verb,
        call: Call,
        body: Incoming,
        work: impl FnOnce(Call, Payload) -> W,
    ) -> Result<Response, Failure> {
        let user = call.permit.identity().user.clone();
        let payload = match verb {
            Verb::Get | Verb::List | Verb::Watch => Payload::empty(),
            _ => self.executor.read_body(&user, body).await,
        };
        let weight = weight(verb, &call, payload.len());
        // Mostly short, however large the object is.
        let include = Include::parse(&call.query);
        let is_summary = verb == Verb::Get
            && call.accept.form != Form::Object
            && !matches!(include, Ok(Include::Object));
        let response_bytes = if is_summary { 0 } else { response_bytes(verb, &call, weight) };
        let reservation = match response_bytes > executor::HEAVY_BYTES {
            true => Some(self.executor.memory.reserve_response(&user, response_bytes).await?),
            false => None,
        };
        let bytes = weight.saturating_add(self.judged(verb, &call));
        let response = self.executor.run(&user, bytes, Box::pin(work(call, payload))).await?;
        if reservation.is_none() && !is_summary {
            return Ok(response);
        }
        self.with_reservation(&user, response, reservation)
    }

    /// A response that is made for one client, if memory can be reserved for it. `reservation`: what it has
    /// already.
    fn with_reservation(
        &self,
        user: &str,
        response: Response,
        reservation: Option<MemoryReservation>,
    ) -> Result<Response, Failure> {
        let bytes = length(&response);
        if bytes <= executor::HEAVY_BYTES {
            return Ok(response);
        }
        let reservation =
            reservation.or_else(|| self.executor.memory.try_reserve_response(user, bytes));
        let reservation = reservation.ok_or_else(too_many_requests)?;
        Ok(response.map(|body| Holding::new(body, reservation).boxed_unsync()))
    }

    /// How many bytes of other objects a request is judged by, in addition to its own object: roles, where a
    /// role or binding is written; a pod's account and owner; a namespace's pods; the budgets of an evicted pod.
    fn judged(&self, verb: Verb, call: &Call) -> usize {
        let (who, path) = (call.permit.identity(), &call.path);
        if (verb, &*path.subresource) == (Verb::Create, "eviction") {
            return self.core.bytes_to_evict(&path.namespace, &path.name, executor::HEAVY_BYTES);
        }
        if !matches!(verb, Verb::Create | Verb::Update | Verb::Patch) {
            return 0;
        }
        if call.resource.info.group == rbac::GROUP && !who.in_group(MASTERS) {
            return self.core.authorizer.roles.bytes_to_evaluate(who, &path.namespace);
        }
        if !path.subresource.is_empty() {
            return 0;
        }
        // Whose pods violate what it enforces from now on: a second's work at most, whatever they are.
        if verb != Verb::Create && call.resource.info.plural == "namespaces" {
            return executor::HEAVY_BYTES + 1;
        }
        self.core.admission.bytes_to_judge(&call.resource, &path.namespace)
    }

    /// The response for a resource that is not served. Asked for a kind it does not know, kubectl
    /// lists the custom resource definitions before it says so: an empty list lets it name the kind
    /// instead of a failed request.
    fn not_served(
        &self,
        verb: Verb,
        path: &ResourcePath,
        accepted: Accepted,
    ) -> Result<Response, Failure> {
        let definitions = ("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let asked = (path.group.as_str(), path.version.as_str(), path.resource.as_str());
        if asked != definitions || verb != Verb::List {
            return Err(Failure::no_such_path());
        }
        let list = serde_json::json!({
            "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": { "resourceVersion": self.core.registry.revision().to_string() },
            "items": [],
        });
        Ok(respond::value(http::StatusCode::OK, accepted.any()?.syntax, &list))
    }
}

/// Bytes of a response that is whole.
fn length(response: &Response) -> usize {
    let bytes = response.body().size_hint().exact().unwrap_or(u64::MAX);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// How many bytes a request for work on so many may make for its response alone.
fn response_bytes(verb: Verb, call: &Call, weight: usize) -> usize {
    match verb {
        // They take what they need chunk by chunk.
        Verb::List | Verb::Watch | Verb::DeleteCollection => 0,
        _ if call.accept.syntax == Syntax::Yaml => weight.saturating_mul(respond::YAML_GROWTH_MAX),
        _ => weight,
    }
}

/// How many bytes a request's work is about: its body's and the stored object's.
fn weight(verb: Verb, call: &Call, body_bytes: usize) -> usize {
    let Call { resource, path, accept, .. } = call;
    let object = || {
        let found = resource.shard().get(&resource.key(&path.namespace, &path.name));
        found.map_or(0, |object| object.bytes.len())
    };
    let bytes = match verb {
        // The bytes are sent as they are.
        Verb::Get
            if (accept.form, accept.syntax) == (Form::Object, Syntax::Json)
                && path.subresource != SubresourceName::Scale.as_str() =>
        {
            0
        }
        // Made piece by piece, while it is sent.
        Verb::List | Verb::Watch | Verb::DeleteCollection => body_bytes,
        Verb::Create if path.name.is_empty() => body_bytes,
        _ => body_bytes + object(),
    };
    if executor::is_own_status(call.permit.identity(), verb, path, bytes) { 0 } else { bytes }
}
