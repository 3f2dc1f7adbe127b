//! One HTTP client for the tests: it sends requests as they are written and returns responses as they come.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::support::TestServer;

/// A running server and an administrator's client of it.
pub(crate) struct ApiClient {
    pub(crate) server: TestServer,
    pub(crate) client: kube::Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The object of a response that must be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        self.json()
    }

    /// Code, reason and message of a response that must be a failure.
    #[track_caller]
    pub(crate) fn refusal(&self) -> (u16, String, String) {
        let status = self.json();
        assert_eq!(status["kind"], "Status", "{}: {status}", self.status);
        assert_eq!(status["code"], self.status.as_u16(), "{status}");
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text("reason"), text("message"))
    }
}

impl ApiClient {
    pub(crate) async fn start() -> Self {
        let server = TestServer::start().await;
        let client = server.admin().await;
        Self { server, client }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Response {
        send(&self.client, method, path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> Response {
        self.send(Method::POST, path, &[JSON], object.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> Response {
        self.send(Method::PUT, path, &[JSON], object.to_string()).await
    }

    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Response {
        let media = ("content-type", "application/merge-patch+json");
        self.send(Method::PATCH, path, &[media], patch.to_string()).await
    }

    pub(crate) async fn apply(&self, path: &str, object: &Value) -> Response {
        let media = ("content-type", "application/apply-patch+yaml");
        self.send(Method::PATCH, path, &[media], object.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Response {
        self.send(Method::DELETE, path, &[], "").await
    }

    /// The first event of a watch, which is left then.
    pub(crate) async fn first_event(&self, path: &str) -> Value {
        use futures::{AsyncBufReadExt as _, StreamExt as _};
        let request = Request::get(path).body(Vec::new()).unwrap();
        let mut lines = self.client.request_stream(request).await.unwrap().lines();
        serde_json::from_str(&lines.next().await.unwrap().unwrap()).unwrap()
    }

    pub(crate) async fn close(self) {
        drop(self.client);
        self.server.stop().await;
    }
}

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// One request of a client's.
pub(crate) async fn send(
    client: &kube::Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = kube::client::Body::from(body.into());
    let response = client.send(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response { status: parts.status, headers: parts.headers, body }
}
