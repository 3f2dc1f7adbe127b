//! Service accounts that a run makes, with rights in a namespace and a token.

use anyhow::Result;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::workspace::{RUN_LABEL, json_body};
use crate::transport::client::{Client, parse};

/// How long a token is valid: longer than any run.
const TOKEN_SECONDS: u64 = 7200;

/// The API group of roles.
pub(crate) const RBAC: &str = "rbac.authorization.k8s.io";

#[derive(Deserialize)]
struct TokenRequest {
    status: TokenStatus,
}

#[derive(Deserialize)]
struct TokenStatus {
    token: String,
}

/// Makes an account that may do in its namespace what the rules say; returns its token. The account, its
/// Role and its RoleBinding have the run's label.
pub(crate) async fn account(
    client: &mut Client,
    namespace: &str,
    run: &str,
    name: &str,
    rules: Value,
) -> Result<String> {
    let metadata = json!({ "name": name, "labels": { RUN_LABEL: run } });
    let made = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata });
    let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    client.call(Method::POST, &accounts, json_body(&made)).await?;
    if rules.as_array().is_some_and(|rules| !rules.is_empty()) {
        let of = |plural: &str| format!("/apis/{RBAC}/v1/namespaces/{namespace}/{plural}");
        let role = json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": metadata,
            "rules": rules,
        });
        client.call(Method::POST, &of("roles"), json_body(&role)).await?;
        let binding = json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace }],
        });
        client.call(Method::POST, &of("rolebindings"), json_body(&binding)).await?;
    }
    let wanted = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "expirationSeconds": TOKEN_SECONDS },
    });
    let path = format!("{accounts}/{name}/token");
    let answer = client.call(Method::POST, &path, json_body(&wanted)).await?;
    Ok(parse::<TokenRequest>(&path, &answer)?.status.token)
}
