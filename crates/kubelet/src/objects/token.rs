//! Tokens of service accounts, for projected volumes.

use coffer_api::subresource::SubresourceName;
use http::{Method, Request, header};
use kube::client::Body;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{FetchError, Kind, ObjectKey, Objects};

/// Whose token is wanted, by which pod, for what.
pub(crate) struct ServiceAccountRef<'a> {
    pub(crate) name: &'a str,
    pub(crate) pod: &'a crate::pod::PodId,
    pub(crate) audience: Option<&'a str>,
    pub(crate) expiration_s: i64,
}

impl Objects {
    /// A fresh token of a service account, bound to one pod.
    pub(crate) async fn service_account_token(
        &self,
        account: &ServiceAccountRef<'_>,
    ) -> Result<Zeroizing<String>, FetchError> {
        #[derive(Deserialize)]
        struct Answer {
            status: Token,
        }
        #[derive(Deserialize)]
        struct Token {
            token: String,
        }
        let key = ObjectKey {
            kind: Kind::ServiceAccount,
            namespace: account.pod.namespace().to_owned(),
            name: account.name.to_owned(),
        };
        let ask = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": account.audience.map(|audience| vec![audience]).unwrap_or_default(),
                "expirationSeconds": account.expiration_s,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": account.pod.name(),
                    "uid": account.pod.uid(),
                },
            },
        });
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/{}", key.path(), SubresourceName::Token))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(ask.to_string().into_bytes()))
            .map_err(|error| FetchError::Malformed {
                key: key.clone(),
                cause: error.to_string(),
            })?;
        let answer: Answer = self.fetch(key, request).await?;
        Ok(Zeroizing::new(answer.status.token))
    }
}
