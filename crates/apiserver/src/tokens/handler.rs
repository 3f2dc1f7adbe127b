//! The door to TokenRequest: reads the body, admits, answers.

use coffer_api::status::Failure;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::body::{self, MediaType, Payload};
use crate::handlers::{Call, Handlers};
use crate::options::WriteOptions;
use crate::respond::{self, Answer};
use crate::{admission, decode};

/// What is posted.
const KIND: (&str, &str) = ("TokenRequest", "authentication.k8s.io/v1");

/// What a client asks. Go's clients send an empty status along, whose time is null and no time.
#[derive(serde::Deserialize)]
struct Asked {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: TokenRequestSpec,
}

impl Handlers {
    /// `serviceaccounts/NAME/token`.
    pub(crate) async fn token(&self, call: &Call, payload: Payload) -> Result<Answer, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let media = MediaType::of_object(&call.headers)?;
        let bytes = body::take(payload)?;
        let asked: Asked = decode::value(&bytes, media, KIND.0, KIND.1)?;
        let mut warnings = decode::value_warnings(&bytes, media, KIND, options.field_validation)?;
        let request = TokenRequest { metadata: asked.metadata, spec: asked.spec, status: None };
        let (namespace, name) = (call.path.namespace.as_str(), call.path.name.as_str());
        let given = request.metadata.namespace.as_deref().unwrap_or_default();
        if !given.is_empty() && given != namespace {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        // The account and the pod may have been made a moment ago.
        self.registry.settle().await?;
        let resources = &self.registry.resources;
        let (permit, path) = (&call.permit, &call.path);
        let of_node =
            admission::node_token::check(resources, &self.authorizer, permit, path, &request)?;
        let of_all = self.access.service_account_max_token_expiration_s;
        let max_s = of_node.into_iter().chain(of_all).min();
        let tokens = &self.authenticator.tokens;
        let (now, account) = (jiff::Timestamp::now(), (namespace, name));
        let how = (options.dry_run, max_s);
        let (answer, shortened) =
            super::request::create(tokens, resources, account, request, now, how)?;
        warnings.extend(shortened);
        let mut answer = respond::value(StatusCode::CREATED, call.accept.syntax, &answer);
        respond::warn(&mut answer, &warnings);
        Ok(answer)
    }
}
