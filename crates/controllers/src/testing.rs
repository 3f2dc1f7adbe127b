//! API servers for tests of one controller: none, and one that answers as the test says.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A client of a server that refuses everything, for what is only put together.
pub(crate) fn unreachable_client() -> Client {
    Api::answering(|_| None).client()
}

type Answer = dyn Fn(&str) -> Option<Value> + Send + Sync;

/// A server that keeps what it was asked.
#[derive(Clone)]
pub(crate) struct Api {
    asked: Arc<Mutex<Vec<String>>>,
    answer: Arc<Answer>,
}

impl Api {
    /// A server that responds with the object that `answer` returns for a method and path without the
    /// query, `GET /api/v1/nodes/a`, or that there is none.
    pub(crate) fn answering(
        answer: impl Fn(&str) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        Self { asked: Arc::default(), answer: Arc::new(answer) }
    }

    /// Method and path of every request so far, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked.lock().clone()
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
        let (code, body) = match (self.answer)(&line) {
            Some(object) => (200, object),
            None => {
                let missing = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "NotFound", "message": "not found", "code": 404 });
                (404, missing)
            }
        };
        self.asked.lock().push(line);
        let response = Response::builder().status(code);
        response.body(Body::from(body.to_string().into_bytes())).expect("a valid response")
    }
}
