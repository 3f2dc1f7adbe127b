//! Service accounts against a real API server: every namespace has one, each has a valid token, and tokens
//! are invalid after the deletion of their Secret or account.

mod cluster;

use cluster::{Cluster, within};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::{Value, json};

/// The account's token Secret, once it is listed.
async fn token_secret(client: &Client, namespace: &str, account: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let listed = |account: Option<&ServiceAccount>| {
        account.is_some_and(|account| account.secrets.as_ref().is_some_and(|all| !all.is_empty()))
    };
    let found = within("listed", await_condition(accounts, account, listed)).await;
    found.unwrap().secrets.unwrap()[0].name.clone().unwrap()
}

fn is_full(secret: Option<&Secret>) -> bool {
    let data = secret.and_then(|secret| secret.data.as_ref());
    data.is_some_and(|data| {
        ["token", "namespace", "ca.crt"].iter().all(|key| data.contains_key(*key))
    })
}

async fn filled(client: &Client, namespace: &str, name: &str) -> Secret {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    within("filled", await_condition(secrets, name, is_full)).await.unwrap()
}

/// The user name that the API server derives from a Secret's token.
async fn holder(cluster: &Cluster, secret: &Secret) -> Result<String, kube::Error> {
    let token = String::from_utf8(secret.data.as_ref().unwrap()["token"].0.clone()).unwrap();
    let client = cluster.bearer(&token);
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .body(review.to_string().into_bytes())
        .unwrap();
    let review: Value = client.request(request).await?;
    Ok(review["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_namespace_gets_an_account_with_a_valid_token() {
    let cluster = Cluster::start().await;
    let client = cluster.client.clone();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    cluster.create(&namespaces, json!({ "metadata": { "name": "myns" } })).await;
    let name = token_secret(&client, "myns", "default").await;
    assert!(name.starts_with("default-token-"), "{name}");
    let secret = filled(&client, "myns", &name).await;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/service-account-token"));
    assert_eq!(secret.data.as_ref().unwrap()["namespace"].0, b"myns");
    let user = holder(&cluster, &secret).await.unwrap();
    assert_eq!(user, "system:serviceaccount:myns:default");

    let maps: Api<ConfigMap> = Api::namespaced(client, "myns");
    let published =
        await_condition(maps, "kube-root-ca.crt", |map: Option<&ConfigMap>| map.is_some());
    let map = within("published", published).await.unwrap();
    let certificate = secret.data.as_ref().unwrap()["ca.crt"].0.clone();
    assert_eq!(map.data.unwrap()["ca.crt"].as_bytes(), certificate);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_token_secret_is_recreated_and_its_old_token_is_invalid() {
    let cluster = Cluster::start().await;
    let client = cluster.client.clone();
    let name = token_secret(&client, "default", "default").await;
    let old = filled(&client, "default", &name).await;
    let secrets = cluster.namespaced::<Secret>();
    secrets.delete(&name, &DeleteParams::default()).await.unwrap();
    let uid = old.metadata.uid.clone();
    let again = |secret: Option<&Secret>| {
        is_full(secret) && secret.is_some_and(|secret| secret.metadata.uid != uid)
    };
    let new = within("again", await_condition(secrets, &name, again)).await.unwrap();
    assert_eq!(holder(&cluster, &new).await.unwrap(), "system:serviceaccount:default:default");
    let refused = holder(&cluster, &old).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 401), "{refused}");
    cluster.stop().await;
}

/// All token Secrets of a deleted account are deleted, including one that a user created. The account
/// `default` is recreated with a new token.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_secrets_of_a_deleted_account_are_deleted() {
    let cluster = Cluster::start().await;
    let client = cluster.client.clone();
    let made = token_secret(&client, "default", "default").await;
    let made = filled(&client, "default", &made).await;
    let secrets = cluster.namespaced::<Secret>();
    let manual = json!({ "metadata": { "name": "manual", "annotations": {
            "kubernetes.io/service-account.name": "default" } },
        "type": "kubernetes.io/service-account-token" });
    cluster.create(&secrets, manual).await;
    let manual = filled(&client, "default", "manual").await;
    assert_eq!(holder(&cluster, &manual).await.unwrap(), "system:serviceaccount:default:default");

    let accounts = cluster.namespaced::<ServiceAccount>();
    accounts.delete("default", &DeleteParams::default()).await.unwrap();
    for secret in [&made, &manual] {
        let (name, uid) =
            (secret.metadata.name.as_deref().unwrap(), secret.metadata.uid.as_deref().unwrap());
        let deleted = await_condition(secrets.clone(), name, conditions::is_deleted(uid));
        within(name, deleted).await;
    }
    let name = token_secret(&client, "default", "default").await;
    let new = filled(&client, "default", &name).await;
    assert_ne!(new.metadata.uid, made.metadata.uid);
    let all = secrets.list(&ListParams::default()).await.unwrap();
    assert_eq!(all.items.len(), 1, "one account, one token");
    cluster.stop().await;
}
