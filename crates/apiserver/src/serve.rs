//! Connections (the rules for them are `coffer-net`'s), and the one way every request goes:
//! authn → authz → (admission → registry → store) → encode.

use std::sync::Arc;

use coffer_api::status::Failure;
use coffer_net::{Bounds, Connected, Connection, Fault, Gate, Incoming, Settings, descriptors};
use http::{HeaderMap, Request, StatusCode};
use rustls_pki_types::CertificateDer;
use tokio_rustls::TlsAcceptor;

use crate::authn;
use crate::certificates::Certificates;
use crate::handlers::Handlers;
use crate::identity::{ANONYMOUS, Identity};
use crate::limits::Limits;
use crate::listen::Listeners;
use crate::request::{Query, RequestInfo, Verb};
use crate::respond::{self, Accepted, Response, Syntax};
use crate::tasks::Group;
use crate::{deadline, discovery, encoding, health, tokens};

/// Connections served at a time, where the limit of open files leaves room for as many.
const CONNECTIONS_MAX: usize = 16 * 1024;

/// Everything a connection needs.
pub(crate) struct Service {
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) limits: Limits,
    pub(crate) tasks: Group,
}

/// Accepts connections for as long as it is polled.
pub(crate) async fn run(listeners: Listeners, certificates: Certificates, service: Arc<Service>) {
    let places = Bounds::sharing(descriptors::connections_now(CONNECTIONS_MAX));
    let gate = Gate::new("the API server", places);
    loop {
        let Some(connection) = gate.admit(listeners.accept().await).await else { continue };
        let (tls, own) = (certificates.acceptor(), service.clone());
        service.tasks.spawn_to_end(async move {
            if let Err(error) = serve(connection, tls, own).await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

async fn serve(
    connection: Connection,
    tls: TlsAcceptor,
    service: Arc<Service>,
) -> Result<(), Fault> {
    let shutdown = service.tasks.stop().clone();
    let service_of = |certificate: Option<&CertificateDer<'static>>| {
        // Verified once, at the handshake; every request of the connection is this caller's unless
        // it brings a token.
        let caller = certificate.map(|leaf| Identity::from_certificate(leaf).map(Arc::new));
        move |request| {
            let (service, caller) = (service.clone(), caller.clone());
            async move { service.respond(caller, request).await }
        }
    };
    connection.serve(tls, &Settings::default(), service_of, shutdown).await
}

impl Service {
    async fn respond(
        &self,
        caller: Option<Result<Arc<Identity>, Failure>>,
        request: Request<Incoming>,
    ) -> Response {
        let head = request.method() == http::Method::HEAD;
        let accepted = Accepted::of(request.headers());
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let takes_gzip = encoding::takes_gzip(request.headers());
        let indents = encoding::wants_indent(&query, &accepted, request.headers());
        let info = RequestInfo::parse(request.method(), request.uri(), query, accepted);
        // A watch is never indented nor compressed: its lines must leave as they come.
        let verb = info.as_ref().ok().and_then(|info| Some(info.resource.as_ref()?.0));
        let openapi = request.uri().path().starts_with("/openapi/");
        let mut response = match self.handle(caller, info, request).await {
            Ok(response) => response,
            Err(failure) => respond::failure(&failure, accepted.syntax()),
        };
        if verb != Some(Verb::Watch) && !openapi && indents {
            response = encoding::indented(response);
        }
        if matches!(verb, Some(Verb::Get | Verb::List)) {
            response = encoding::compressed(response, takes_gzip).await;
        }
        if head {
            *response.body_mut() = respond::full(bytes::Bytes::new());
        }
        response
    }

    async fn handle(
        &self,
        caller: Option<Result<Arc<Identity>, Failure>>,
        info: Result<RequestInfo, Failure>,
        request: Request<Incoming>,
    ) -> Result<Response, Failure> {
        let Handlers { authenticator, core, .. } = &*self.handlers;
        let headers = request.headers();
        let identity = authenticator.authenticate(&core.registry, caller, headers).await?;
        if identity.user != ANONYMOUS
            && let Some(connected) = request.extensions().get::<Connected>()
        {
            connected.authenticated(Some(&identity.user));
        }
        let identity = authn::impersonate(&core.authorizer, identity, headers).await?;
        let info = info?;
        let time = deadline::of(&info)?;
        let slot = self.limits.enter(&identity, &info).await?;
        let permit = core.authorizer.check(identity, &info).await?;
        if info.resource.is_some() {
            // On the heap from here: it is large, and would be copied from hand to hand.
            let handled = Box::pin(self.handlers.handle(permit, info, request));
            let response = match time {
                Some(time) => tokio::time::timeout(time, handled)
                    .await
                    .unwrap_or_else(|_| Err(deadline::exceeded()))?,
                None => handled.await?,
            };
            return Ok(encoding::holding(response, slot));
        }
        Box::pin(self.non_resource(&info, request.headers())).await
    }

    /// Non-resource paths: health, version, discovery, OpenAPI.
    async fn non_resource(
        &self,
        info: &RequestInfo,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        if !matches!(&*info.method, "get" | "head") {
            return Err(Failure::method_not_allowed());
        }
        let no_page = || Ok(respond::text(StatusCode::NOT_FOUND, "404 page not found\n"));
        if info.path.contains("//") {
            return no_page();
        }
        let path = info.path.trim_end_matches('/');
        let registry = &self.handlers.core.registry;
        if let Some(response) =
            health::response(path, &info.query, registry, self.tasks.stop()).await
        {
            return Ok(response);
        }
        let ok = StatusCode::OK;
        if let Some(response) = discovery::aggregated(self.resources(), path, headers) {
            return Ok(response);
        }
        if let Some((media, bytes)) = tokens::document(&self.handlers.authenticator.tokens, path) {
            return Ok(respond::typed(ok, media, respond::full(bytes)));
        }
        match path {
            "/version" => Ok(respond::value(ok, Syntax::Json, &discovery::version())),
            "" => Ok(respond::value(ok, Syntax::Json, &discovery::paths(self.resources()))),
            _ if path.starts_with("/openapi/") => {
                crate::openapi_routes::response(path, &info.query, headers)
            }
            _ => match discovery::document(self.resources(), path) {
                Some(document) => Ok(respond::value(ok, info.accepted.syntax(), &document?)),
                None => no_page(),
            },
        }
    }

    fn resources(&self) -> &crate::object::Resources {
        self.handlers.core.resources()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The future of a request is moved several times before it is first polled, whatever the request.
    /// Large parts that few requests need are on the heap, where they are needed.
    const REQUEST_BYTES_MAX: usize = 6 << 10;

    #[test]
    fn the_future_of_a_request_is_small() {
        type Caller = Option<Result<Arc<Identity>, Failure>>;
        fn size<'a, F: Future>(_: impl Fn(&'a Service, Caller, Request<Incoming>) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(Service::respond);
        assert!(bytes <= REQUEST_BYTES_MAX, "{bytes}");
    }
}
