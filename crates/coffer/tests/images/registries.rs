//! What registries are shown: a credential goes to the one that it is for, however the pull gets
//! there.

use std::net::Ipv4Addr;

use coffer_testkit::{PrivateCa, Recorder, Registry, SeenCredential, TokenServer};

use crate::stage::{
    PASSWORD, Pod, Stage, USER, builder, open_registry, private_registry, with_app,
};

fn basic() -> SeenCredential {
    SeenCredential::Basic(format!("{USER}:{PASSWORD}"))
}

/// TLS by an authority that only the environment names; before the registry a mirror that would
/// like to have the password.
#[tokio::test]
async fn a_mirror_is_not_shown_the_password_of_the_registry() {
    let (private, open) = (private_registry().await, open_registry().await);
    let authority = PrivateCa::new().unwrap();
    let own = Recorder::before(private.url()).tls(&authority).unwrap().start().await.unwrap();
    let curious = Recorder::before(open.url()).at(Ipv4Addr::new(127, 0, 0, 2)).demanding_password();
    let curious = curious.start().await.unwrap();
    let coffer = builder()
        .env("SSL_CERT_FILE", authority.path())
        .arg("--registry-mirror")
        .arg(format!("{}={}", own.host(), curious.url()));
    let stage = Stage::new(coffer).await;

    stage.create_secret("pull", &format!("https://{}", own.host()), PASSWORD).await;
    let pod = Pod::new("app", format!("{}/private/app:1", own.host())).secret("pull");
    stage.run(&pod).await;
    assert!(!curious.seen().is_empty(), "the mirror is asked first");
    assert_eq!(curious.credentials(), []);
    assert_eq!(own.credentials(), [basic()]);
    stage.assert_no_leak().await;
}

#[tokio::test]
async fn neither_another_registry_nor_a_redirects_target_is_shown_the_password() {
    let (private, open) = (private_registry().await, open_registry().await);
    let at = |last| Ipv4Addr::new(127, 0, 0, last);
    let start = |builder: coffer_testkit::RecorderBuilder| async { builder.start().await.unwrap() };
    let other = start(Recorder::before(open.url()).at(at(2)).demanding_password()).await;
    let store = start(Recorder::before(open.url()).at(at(3))).await;
    let thief = start(Recorder::before(open.url()).at(at(4)).demanding_password()).await;
    let redirecting = |target: &Recorder, last| {
        Recorder::before(private.url()).at(at(last)).redirecting_blobs_to(&target.url())
    };
    let honest = start(redirecting(&store, 5)).await;
    let devious = start(redirecting(&thief, 6)).await;
    let nowhere = Recorder::before(private.url()).at(at(7));
    let nowhere = start(nowhere.redirecting_blobs_to("http://127.0.0.8:9")).await;
    let stage = Stage::new(builder()).await;
    for (name, recorder) in [("honest", &honest), ("devious", &devious), ("nowhere", &nowhere)] {
        stage.create_secret(name, &recorder.host(), PASSWORD).await;
    }

    // Blobs lie elsewhere, as in an object store: fetched from there, without the password.
    let pod = Pod::new("honest", format!("{}/private/app:1", honest.host()));
    stage.run(&pod.secret("honest").secret("devious")).await;
    assert!(store.seen().iter().any(|seen| seen.path.contains("/blobs/")));
    assert_eq!(store.credentials(), []);
    assert_eq!(honest.credentials(), [basic()]);

    // A registry that is not what the secret is for asks for a password, and gets none.
    let pod = Pod::new("other", format!("{}/private/app:1", other.host()));
    stage.fail(&pod.secret("honest").secret("devious"), "ImagePullBackOff").await;
    assert!(!other.seen().is_empty());
    assert_eq!(other.credentials(), []);

    // The registry redirects the pull to a host that asks for the password.
    assert_eq!(devious.credentials(), []);
    let pod = Pod::new("devious", format!("{}/private/bait:1", devious.host()));
    stage.fail(&pod.secret("honest").secret("devious"), "ImagePullBackOff").await;
    assert!(!thief.seen().is_empty(), "the pull followed the redirect");
    assert_eq!(thief.credentials(), []);
    assert_eq!(devious.credentials(), [basic()]);

    // No server listens there. The runtime's error contains the whole signed URL; the event does not.
    let pod = Pod::new("nowhere", format!("{}/private/bait:1", nowhere.host())).secret("nowhere");
    stage.fail(&pod, "ImagePullBackOff").await;
    let event = stage.until_event(&pod, "Warning Failed Failed to pull image").await;
    assert!(event.contains("connection refused"), "{event}");
    let shown = stage.kubectl.ok(&["get", "pods,events", "-o", "yaml"]).await.unwrap();
    assert!(!shown.contains(Recorder::SIGNATURE), "{shown}");
    stage.assert_no_leak().await;
}

#[tokio::test]
async fn a_token_server_is_shown_the_password_and_the_registry_the_token() {
    let server = TokenServer::start(USER, PASSWORD).await.unwrap();
    let registry = with_app(Registry::with_tokens(&server).await.unwrap()).await;
    let recorder = Recorder::before(registry.url()).start().await.unwrap();
    let image = format!("{}/private/app:1", recorder.host());
    let stage = Stage::new(builder()).await;

    let none = Pod::new("none", &*image);
    stage.fail(&none, "ImagePullBackOff").await;
    stage.create_secret("wrong", &recorder.host(), "guessed").await;
    let wrong = Pod::new("wrong", &*image).secret("wrong");
    stage.fail(&wrong, "ImagePullBackOff").await;
    let failed = stage.until_event(&wrong, "Warning Failed Failed to pull image").await;
    assert!(failed.contains("401 Unauthorized") && !failed.contains("guessed"), "{failed}");
    stage.create_secret("pull", &recorder.host(), PASSWORD).await;
    stage.run(&Pod::new("app", &*image).secret("pull")).await;

    let guessed = SeenCredential::Basic(format!("{USER}:guessed"));
    assert_eq!(server.credentials(), [basic(), guessed]);
    let all_tokens = |seen: &SeenCredential| matches!(seen, SeenCredential::Bearer(_));
    let shown = recorder.credentials();
    assert!(!shown.is_empty() && shown.iter().all(all_tokens), "{shown:?}");
    stage.assert_no_leak().await;
}

/// A registry that takes any password for a token, and refuses the token by repeating it: containerd
/// puts what it says into its error and into its log.
async fn repeating_registry() -> (u16, tokio_util::task::AbortOnDropHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(repeat(stream, port));
        }
    });
    (port, tokio_util::task::AbortOnDropHandle::new(serving))
}

async fn repeat(stream: tokio::net::TcpStream, port: u16) {
    use base64::Engine as _;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let mut stream = BufReader::new(stream);
    let (mut path, mut shown) = (String::new(), None);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) <= 2 {
            break;
        }
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        if line.to_ascii_lowercase().starts_with("authorization:") {
            shown = line.split_whitespace().nth(2).map(str::to_owned);
        }
    }
    let challenge = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"r\"");
    let answer = match shown {
        // A body is read to its end only by who asks for the token.
        Some(shown) if path.starts_with("/token") => {
            let body = format!("{{\"token\": \"{shown}\"}}");
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        }
        shown => {
            let pair =
                shown.and_then(|it| base64::engine::general_purpose::STANDARD.decode(it).ok());
            let pair = String::from_utf8(pair.unwrap_or_default()).unwrap();
            let said = SPELLINGS.iter().find(|(name, _)| path.contains(*name));
            let error = said.map(|(_, spelled)| spelled(&pair)).filter(|_| !pair.is_empty());
            let error = error.map(|error| format!(",error=\"{error}\"")).unwrap_or_default();
            format!(
                "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: {challenge}{error}\r\n\
                 content-length: 0\r\nconnection: close\r\n\r\n"
            )
        }
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

type Spelling = fn(&str) -> String;

/// By a part of the image's name.
const SPELLINGS: [(&str, Spelling); 4] = [
    ("as-it-is", |pair| format!("no {pair} here")),
    ("in-base64", |pair| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(pair)
    }),
    ("in-hex", |pair| pair.bytes().map(|byte| format!("{byte:02x}")).collect()),
    ("in-url", |pair| pair.bytes().map(|byte| format!("%{byte:02X}")).collect()),
];

#[tokio::test]
async fn a_password_that_a_registry_repeats_is_in_no_event_status_or_log() {
    let (port, _serving) = repeating_registry().await;
    let stage = Stage::new(builder()).await;
    let host = format!("127.0.0.1:{port}");
    stage.create_secret("pull", &host, PASSWORD).await;
    let mut attacks = coffer_testkit::Attacks::group("a registry that repeats the password");
    for (name, spelled) in SPELLINGS {
        let pod = Pod::new(name, format!("{host}/{name}/app:1")).secret("pull");
        stage.fail(&pod, "ImagePullBackOff").await;
        let seen = stage.until_event(&pod, "Warning Failed Failed to pull image").await;
        let secret = spelled(PASSWORD);
        // The event says what was pulled and why that failed.
        let failed = seen.contains("server message") && !seen.contains(&secret);
        attacks.attempt(name, failed, seen);
    }
    stage.assert_no_leak().await;
    let log = stage.containerd_log();
    for (name, spelled) in SPELLINGS {
        let failed = log.contains("PullImage") && !log.contains(&spelled(PASSWORD));
        attacks.attempt(name, failed, &log);
    }
    attacks.finish();
}
