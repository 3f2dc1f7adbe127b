//! Keys and claims; what a token hangs on is proven through the endpoint.

use super::claims::{Binding, Bound};
use super::*;

fn keys() -> ServiceAccountKeys {
    ServiceAccountKeys { signing_pem: generate_signing_key().unwrap(), accepted_pem: Vec::new() }
}

fn issue(now: i64) -> Issue<'static> {
    let bound = |name: &str| Bound { name: name.to_owned(), uid: format!("uid-of-{name}") };
    Issue {
        namespace: "n",
        account: bound("app"),
        binding: Some(Binding::Pod(bound("p"), Some(bound("node")))),
        audiences: vec!["https://a".to_owned(), "b".to_owned()],
        now: jiff::Timestamp::from_second(now).unwrap(),
        lifetime_s: 3600,
    }
}

fn parts_of(token: &str) -> jwt::Parts<'_> {
    jwt::Parts::of(token).unwrap()
}

#[test]
fn a_token_says_what_upstreams_says() {
    let ring = Keyring::new(&keys()).unwrap();
    let token = ring.sign(&Claims::of(&issue(1000), "https://issuer")).unwrap();
    let parts = parts_of(&token);
    ring.verify(&parts).unwrap();
    let mut value: serde_json::Value = parts.claims().unwrap();
    value["jti"] = "j".into();
    assert_eq!(
        value,
        serde_json::json!({
            "aud": ["https://a", "b"],
            "exp": 4600, "iat": 1000, "nbf": 1000,
            "iss": "https://issuer",
            "jti": "j",
            "kubernetes.io": {
                "namespace": "n",
                "node": { "name": "node", "uid": "uid-of-node" },
                "pod": { "name": "p", "uid": "uid-of-p" },
                "serviceaccount": { "name": "app", "uid": "uid-of-app" },
            },
            "sub": "system:serviceaccount:n:app",
        })
    );
    let identity = parts.claims::<Claims>().unwrap().identity();
    assert_eq!(identity.service_account(), Some(("n", "app")));
    assert_eq!(identity.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(
        identity.groups,
        ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]
    );
}

#[test]
fn a_token_lives_from_its_beginning_to_its_end() {
    let claims = Claims::of(&issue(1000), "i");
    for (now, good) in [(999, false), (1000, true), (4599, true), (4600, false)] {
        let now = jiff::Timestamp::from_second(now).unwrap();
        assert_eq!(claims.check_time(now).is_ok(), good, "{now}");
    }
}

#[test]
fn a_changed_byte_another_key_or_another_algorithm_is_refused() {
    let ring = Keyring::new(&keys()).unwrap();
    let token = ring.sign(&Claims::of(&issue(1000), "i")).unwrap();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (_, claims) = head.split_once('.').unwrap();
    // The signature of other claims.
    let other = ring.sign(&Claims::of(&issue(2000), "i")).unwrap();
    let forged = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
    assert_eq!(ring.verify(&parts_of(&forged)), Err(TokenError::Signature));
    // No signature at all, as the header asks.
    use base64::Engine as _;
    let none = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    assert_eq!(ring.verify(&parts_of(&format!("{none}.{claims}."))), Err(TokenError::Signature));
    // Someone else's key.
    let stranger = Keyring::new(&keys()).unwrap();
    assert_eq!(stranger.verify(&parts_of(&token)), Err(TokenError::Signature));
    for malformed in ["", "a", "a.b", "a.b.c", "..", "é.é.é"] {
        assert!(jwt::Parts::of(malformed).is_err(), "{malformed}");
    }
}

#[test]
fn tokens_of_the_key_before_are_good_for_as_long_as_it_is_accepted() {
    let (old, new) = (keys(), keys());
    let token = Keyring::new(&old).unwrap().sign(&Claims::of(&issue(1000), "i")).unwrap();
    let authority = Authority::new(Some(&old), None, Vec::new(), None).unwrap();
    let handle = authority.keys();
    let accepted_pem = vec![old.signing_pem.clone()];
    handle.replace(&ServiceAccountKeys { accepted_pem, ..new.clone() }).unwrap();
    handle.current().verify(&parts_of(&token)).unwrap();
    assert_eq!(handle.current().jwks()["keys"].as_array().unwrap().len(), 2);
    handle.replace(&new).unwrap();
    assert!(handle.current().verify(&parts_of(&token)).is_err());
    // A bad key changes nothing.
    let bad = ServiceAccountKeys { signing_pem: b"junk".to_vec().into(), accepted_pem: Vec::new() };
    assert_eq!(handle.replace(&bad), Err(KeyError::Unusable("private")));
    assert!(handle.current().signs());
}

/// The expected id was made with `openssl pkey -pubout -outform der | openssl dgst -sha256`.
#[test]
fn an_rsa_key_of_a_kube_apiserver_signs_and_has_upstreams_id() {
    let pem = include_bytes!("testdata/rsa.pem").to_vec();
    let keys = ServiceAccountKeys { signing_pem: pem.into(), accepted_pem: Vec::new() };
    let ring = Keyring::new(&keys).unwrap();
    let token = ring.sign(&Claims::of(&issue(1000), "i")).unwrap();
    let parts = parts_of(&token);
    assert_eq!(parts.header.alg, "RS256");
    assert_eq!(parts.header.kid.as_deref(), Some(include_str!("testdata/rsa.kid").trim()));
    ring.verify(&parts).unwrap();
    // Its public half alone verifies too.
    let public = include_bytes!("testdata/rsa.pub.pem").to_vec();
    let accepted_pem = vec![public.into()];
    let signing_pem = generate_signing_key().unwrap();
    let other = Keyring::new(&ServiceAccountKeys { signing_pem, accepted_pem }).unwrap();
    other.verify(&parts).unwrap();
}

#[test]
fn the_debug_form_of_keys_shows_no_key() {
    let keys = keys();
    assert_eq!(format!("{keys:?}"), "ServiceAccountKeys(1 + 0)");
    let authority = Authority::new(Some(&keys), None, Vec::new(), None).unwrap();
    assert_eq!(format!("{:?}", authority.keys()), "TokenKeys(..)");
}
