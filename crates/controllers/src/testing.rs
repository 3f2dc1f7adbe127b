//! API servers for tests of one controller: none, and one that answers as the test says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// A client of a server that refuses everything, for what is only put together.
pub(crate) fn unreachable_client() -> Client {
    Api::answering(|_| None).client()
}

/// A server that keeps what it was asked.
#[derive(Clone)]
pub(crate) struct Api {
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<dyn Fn(&Asked) -> Option<Value> + Send + Sync>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its method and path, without the query: `GET /api/v1/nodes/a`.
    pub(crate) line: String,
    /// Its body; null without one.
    pub(crate) body: Value,
}

impl Api {
    /// A server that answers with the object that `answer` returns, or that there is none.
    pub(crate) fn answering(
        answer: impl Fn(&Asked) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        Self { asked: Arc::default(), answer: Arc::new(answer) }
    }

    /// Every request so far, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().map(|asked| asked.line.clone()).collect()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.serve(request).await) }
        });
        Client::new(service, "default")
    }

    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let line = format!("{} {}", request.method(), request.uri().path());
        let body = request.into_body().collect().await.expect("in memory").to_bytes();
        let asked = Asked { line, body: serde_json::from_slice(&body).unwrap_or_default() };
        self.asked.lock().expect("not poisoned").push(asked.clone());
        let (code, body) = match (self.answer)(&asked) {
            Some(object) => (200, object),
            None => {
                let missing = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "NotFound", "message": "not found", "code": 404 });
                (404, missing)
            }
        };
        let response = Response::builder().status(code);
        response.body(Body::from(body.to_string().into_bytes())).expect("a valid response")
    }
}
