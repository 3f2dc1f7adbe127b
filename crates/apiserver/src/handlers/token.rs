//! POST of a TokenRequest: what the client asks for, what admission and the operator allow.

use coffer_api::status::Failure;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Handlers;
use crate::admission::node_token;
use crate::body::{self, MediaType, Payload};
use crate::call::Call;
use crate::decode;
use crate::failure::same_namespace;
use crate::options::WriteOptions;
use crate::respond::{self, Response};
use crate::tokens;

/// What is posted.
const KIND: (&str, &str) = ("TokenRequest", "authentication.k8s.io/v1");

/// What a client asks. Go's clients send an empty status along, whose time is null and no time.
#[derive(serde::Deserialize)]
struct Body {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: TokenRequestSpec,
}

impl Handlers {
    /// `serviceaccounts/NAME/token`.
    pub(super) async fn post_token(
        &self,
        call: &Call,
        payload: Payload,
    ) -> Result<Response, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let media = MediaType::of_object(&call.headers)?;
        let bytes = body::take(payload)?;
        let validation = options.field_validation;
        let (asked, mut warnings): (Body, _) =
            decode::value_and_warnings(&bytes, media, KIND, &[], validation)?;
        let request = TokenRequest { metadata: asked.metadata, spec: asked.spec, status: None };
        let (namespace, name) = (call.path.namespace.as_str(), call.path.name.as_str());
        same_namespace(&request.metadata, &call.path.namespace)?;
        // The account and the pod may have been made a moment ago.
        self.core.registry.settle().await?;
        let resources = self.core.resources();
        let (permit, path) = (&call.permit, &call.path);
        let authorizer = &self.core.authorizer;
        let of_node = node_token::check(resources, authorizer, permit, path, &request)?;
        let max_s = of_node.into_iter().chain(self.token_lifetime_max_s).min();
        let tokens = &self.authenticator.tokens;
        let (now, account) = (jiff::Timestamp::now(), (namespace, name));
        let how = (options.dry_run, max_s);
        let (response, shortened) =
            tokens::request::create(tokens, resources, account, request, now, how)?;
        warnings.extend(shortened);
        let mut response = respond::value(StatusCode::CREATED, call.accept.syntax, &response);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }
}
