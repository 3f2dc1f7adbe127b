//! Tokens of an OpenID Connect issuer, which is a real one over HTTPS with a private authority.

use std::collections::BTreeMap;

use coffer_apiserver::{AccessConfig, OidcConfig};
use coffer_testkit::OidcIssuer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::Caller;
use crate::support::{self, TestServer};

struct Stage {
    issuer: OidcIssuer,
    server: TestServer,
}

impl Stage {
    async fn start(change: impl FnOnce(&mut OidcConfig)) -> Self {
        let issuer = OidcIssuer::start().await.unwrap();
        let mut config = OidcConfig {
            issuer_url: issuer.url(),
            client_id: "coffer".to_owned(),
            username_claim: "sub".to_owned(),
            username_prefix: Some("oidc:".to_owned()),
            groups_claim: Some("groups".to_owned()),
            groups_prefix: "oidc:".to_owned(),
            required_claims: BTreeMap::new(),
            signing_algs: vec!["RS256".to_owned(), "ES256".to_owned()],
            ca_pem: Some(std::fs::read(issuer.ca().path()).unwrap()),
        };
        change(&mut config);
        let access = AccessConfig { oidc: Some(config), ..support::access() };
        let server = TestServer::start_with(TempDir::new().unwrap(), access).await;
        Self { issuer, server }
    }

    /// Claims of a valid token, with some changed; null removes one.
    fn claims(&self, change: Value) -> Value {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let mut claims = json!({
            "iss": self.issuer.url(), "aud": "coffer", "sub": "jane", "groups": ["dev", "ops"],
            "iat": now, "exp": now + 600,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }

    fn token(&self, change: Value) -> String {
        self.issuer.token(&self.claims(change)).unwrap()
    }

    async fn whoami(&self, token: &str) -> (u16, Value) {
        let caller = Caller::new("oidc", self.server.bearer(Some(token)));
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let reply = caller.request("POST", path, Some(&json!({}))).await;
        (reply.code, reply.body["status"]["userInfo"].clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_names_its_subject_with_prefixes() {
    let stage = Stage::start(|_| {}).await;
    let (code, user) = stage.whoami(&stage.token(json!({}))).await;
    assert_eq!((code, &user["username"]), (201, &json!("oidc:jane")));
    assert_eq!(user["groups"], json!(["oidc:dev", "oidc:ops", "system:authenticated"]));
    // Keys are asked for once, for however many tokens.
    for _ in 0..3 {
        assert_eq!(stage.whoami(&stage.token(json!({}))).await.0, 201);
    }
    assert_eq!(stage.issuer.asked(), 1);
    // Without a prefix configured a name says whose it is.
    let stage = Stage::start(|config| config.username_prefix = None).await;
    let (_, user) = stage.whoami(&stage.token(json!({}))).await;
    assert_eq!(user["username"], json!(format!("{}#jane", stage.issuer.url())));
    // The cluster's own tokens are as good as before.
    let admin = Caller::new("admin", stage.server.admin().await);
    admin
        .make("/api/v1/namespaces/default/serviceaccounts", json!({ "metadata": { "name": "a" } }))
        .await;
    let path = "/api/v1/namespaces/default/serviceaccounts/a/token";
    let made = admin.make(path, json!({})).await;
    let (code, user) = stage.whoami(made["status"]["token"].as_str().unwrap()).await;
    assert_eq!((code, &user["username"]), (201, &json!("system:serviceaccount:default:a")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_wrong_in_any_way_is_refused() {
    let stage = Stage::start(|config| {
        config.required_claims.insert("tenant".to_owned(), "t1".to_owned());
    })
    .await;
    let good = json!({ "tenant": "t1" });
    assert_eq!(stage.whoami(&stage.token(good)).await.0, 201);
    for (name, value) in [
        ("exp", json!(1)),
        ("exp", Value::Null),
        ("nbf", json!(4_000_000_000_u64)),
        ("aud", json!("another")),
        ("aud", Value::Null),
        ("iss", json!("https://127.0.0.1:1")),
        ("iss", json!(format!("{}/", stage.issuer.url()))),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("groups", json!([{ "name": "dev" }])),
        ("tenant", json!("t2")),
        ("tenant", Value::Null),
    ] {
        let mut change = json!({ "tenant": "t1" });
        change[name] = value.clone();
        assert_eq!(stage.whoami(&stage.token(change)).await.0, 401, "{name}: {value}");
    }
    let claims = stage.claims(json!({ "tenant": "t1" }));
    for header in [
        json!({ "alg": "none", "kid": "key-0" }),
        json!({ "alg": "none" }),
        json!({ "alg": "HS256", "kid": "key-0" }),
        // A key is for the algorithm that it is for.
        json!({ "alg": "RS256", "kid": "key-0" }),
        json!({ "alg": "ES384", "kid": "key-0" }),
        json!({ "alg": "ES256", "kid": "other" }),
    ] {
        let token = stage.issuer.token_with(&header, &claims).unwrap();
        assert_eq!(stage.whoami(&token).await.0, 401, "{header}");
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        assert_eq!(stage.whoami(&format!("{unsigned}.")).await.0, 401, "{header}, unsigned");
    }
    // Another issuer's key under the name of ours.
    let stranger = OidcIssuer::start().await.unwrap();
    assert_eq!(stage.whoami(&stranger.token(&claims).unwrap()).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_algorithm_that_is_not_configured_is_refused() {
    let stage = Stage::start(|config| config.signing_algs = vec!["RS256".to_owned()]).await;
    assert_eq!(stage.whoami(&stage.token(json!({}))).await.0, 401);
    assert_eq!(stage.issuer.asked(), 0, "the issuer is not bothered with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_ends() {
    let stage = Stage::start(|_| {}).await;
    let old = stage.token(json!({}));
    assert_eq!(stage.whoami(&old).await.0, 201);
    stage.issuer.rotate().unwrap();
    assert_eq!(stage.whoami(&stage.token(json!({}))).await.0, 201);
    assert_eq!(stage.issuer.asked(), 2);
    assert_eq!(stage.whoami(&old).await.0, 401);
    // Tokens that name unknown keys do not cause a request to the issuer each.
    let asked = stage.issuer.asked();
    let began = std::time::Instant::now();
    let strangers = (0..20).map(|at| {
        let header = json!({ "alg": "ES256", "kid": format!("none-{at}") });
        stage.issuer.token_with(&header, &stage.claims(json!({}))).unwrap()
    });
    let strangers: Vec<String> = strangers.collect();
    let responses = futures::future::join_all(strangers.iter().map(|token| stage.whoami(token)));
    assert!(responses.await.iter().all(|(code, _)| *code == 401));
    let most = 2 + usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(stage.issuer.asked() - asked <= most, "{} of {most}", stage.issuer.asked() - asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_accepted_after_an_outage_of_the_issuer_and_known_keys_during_it() {
    let stage = Stage::start(|_| {}).await;
    stage.issuer.set_down(true);
    assert_eq!(stage.whoami(&stage.token(json!({}))).await.0, 401);
    stage.issuer.set_down(false);
    assert_eq!(stage.whoami(&stage.token(json!({}))).await.0, 201);
    stage.issuer.set_down(true);
    assert_eq!(stage.whoami(&stage.token(json!({}))).await.0, 201);
    // An authority that is not the issuer's is not spoken with.
    let other = coffer_testkit::PrivateCa::new().unwrap();
    let stage = Stage::start(|config| {
        config.ca_pem = Some(std::fs::read(other.path()).unwrap());
    })
    .await;
    assert_eq!(stage.whoami(&stage.token(json!({}))).await.0, 401);
    assert_eq!(stage.issuer.asked(), 0);
}
