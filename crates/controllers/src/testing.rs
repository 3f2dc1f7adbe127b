//! A fake API server for tests of one controller.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A client whose requests all fail with 404, for controllers that are not run.
pub(crate) fn unreachable_client() -> Client {
    Api::responding(|_| None).client()
}

type Responder = dyn Fn(&str) -> Option<Value> + Send + Sync;

/// A server that records its requests.
#[derive(Clone)]
pub(crate) struct Api {
    requests: Arc<Mutex<Vec<String>>>,
    respond: Arc<Responder>,
}

impl Api {
    /// A server that responds with the object that `respond` returns for a method and a path without query
    /// (`GET /api/v1/nodes/a`), or with 404 for `None`.
    pub(crate) fn responding(
        respond: impl Fn(&str) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        Self { requests: Arc::default(), respond: Arc::new(respond) }
    }

    /// Method and path of every request so far, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests.lock().clone()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.serve(&request)) }
        });
        Client::new(service, "default")
    }

    fn serve(&self, request: &Request<Body>) -> Response<Body> {
        let line = format!("{} {}", request.method(), request.uri().path());
        let (code, body) = match (self.respond)(&line) {
            Some(object) => (200, object),
            None => {
                let missing = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "NotFound", "message": "not found", "code": 404 });
                (404, missing)
            }
        };
        self.requests.lock().push(line);
        let response = Response::builder().status(code);
        response.body(Body::from(body.to_string().into_bytes())).expect("a valid response")
    }
}
