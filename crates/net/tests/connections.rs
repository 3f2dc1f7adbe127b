//! Silent, slow and idle clients, and more of them than there are places, on real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coffer_net::{Bounds, Connected, Gate, Incoming, MayPause, Settings};
use coffer_testkit::eventually;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

/// Longer than any limit of these tests.
const TIMEOUT: Duration = Duration::from_secs(60);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;
type Sender = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

struct Server {
    address: SocketAddr,
    connector: TlsConnector,
    gate: Gate,
    shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Bytes of a large response: more than a client's system buffers.
const LARGE: usize = 32 << 20;
/// The number of large responses that the server still holds.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// The bytes of a large response.
struct Large(Vec<u8>);

impl Large {
    fn bytes() -> Bytes {
        HELD.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Self(vec![b'l'; LARGE]))
    }
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::SeqCst);
    }
}

/// `/in` authenticates; `/watch` does, says `w` and then nothing more; `/large` and `/page` are long,
/// `/page` may be left unread; other paths need no authentication.
async fn respond(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if matches!(path, "/in" | "/watch") {
        request.extensions().get::<Connected>().unwrap().authenticated(None);
    }
    let word = futures::stream::iter([Ok(Frame::data(Bytes::from("w")))]);
    if path == "/watch" {
        return Response::new(
            StreamBody::new(word.chain(futures::stream::pending())).boxed_unsync(),
        );
    }
    if matches!(path, "/large" | "/page") {
        let large = futures::stream::iter([Ok(Frame::data(Large::bytes()))]);
        let mut response = Response::new(StreamBody::new(large).boxed_unsync());
        if path == "/page" {
            response.extensions_mut().insert(MayPause);
        }
        return response;
    }
    Response::new(StreamBody::new(word).boxed_unsync())
}

impl Server {
    async fn start(bounds: Bounds, settings: Settings) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![cert.der().clone()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(chain[0].clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (gate, shutdown) = (Gate::new("the test", bounds), CancellationToken::new());
        let (entrance, stop) = (gate.clone(), shutdown.clone());
        let tls = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
            loop {
                let Some(connection) = entrance.admit(listener.accept().await).await else {
                    continue;
                };
                let (tls, stop) = (tls.clone(), stop.clone());
                tokio::spawn(
                    async move { connection.serve(tls, &settings, |_| respond, stop).await },
                );
            }
        }));
        Self { address, connector: TlsConnector::from(Arc::new(client)), gate, shutdown }
    }

    async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        self.connector.connect("localhost".try_into().unwrap(), stream).await
    }

    /// A client that replies to pings, and how its connection ends.
    async fn client(&self) -> (Sender, tokio::task::JoinHandle<hyper::Result<()>>) {
        let stream = TokioIo::new(self.tls().await.unwrap());
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        (sender, tokio::spawn(connection))
    }
}

async fn get(sender: &mut Sender, path: &str) -> hyper::Result<Response<hyper::body::Incoming>> {
    let uri = format!("https://localhost{path}");
    sender.send_request(Request::get(uri).body(Empty::new()).unwrap()).await
}

/// Whether the server closes a connection, on which `client` writes as long as it can.
async fn is_closed<S>(stream: S, client: impl AsyncFnOnce(&mut tokio::io::WriteHalf<S>)) -> bool
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut reading, mut writing) = tokio::io::split(stream);
    let end = async {
        let mut buffer = [0; 4096];
        while matches!(reading.read(&mut buffer).await, Ok(read) if read > 0) {}
    };
    let write = async {
        client(&mut writing).await;
        std::future::pending().await
    };
    let ended = async {
        tokio::select! { () = end => {}, () = write => {} }
    };
    timeout(TIMEOUT, ended).await.is_ok()
}

fn hurried() -> Settings {
    Settings {
        handshake_max: Duration::from_millis(300),
        head_max: Duration::from_millis(300),
        idle_max: Duration::from_millis(600),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_client_without_a_request_in_time_is_closed() {
    let server = Server::start(Bounds::sharing(100), hurried()).await;
    let tcp = TcpStream::connect(server.address).await.unwrap();
    assert!(is_closed(tcp, async |_| ()).await, "TCP alone");
    let trickled = async |bytes: &'static [u8]| {
        let stream = server.tls().await.unwrap();
        is_closed(stream, async move |writing| {
            for byte in bytes.iter().chain(std::iter::repeat(&b'x')) {
                if writing.write_all(&[*byte]).await.and(writing.flush().await).is_err() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    };
    assert!(trickled(b"GET / HTTP/1.1\r\nhost: ").await, "trickled headers");
    for (what, bytes) in [
        ("nothing", &b""[..]),
        ("half a preface", &PREFACE[..7]),
        ("a preface", PREFACE),
        ("half a line", b"GET / HT"),
        ("half a head", b"GET / HTTP/1.1\r\nhost: a\r\n"),
    ] {
        let stream = server.tls().await.unwrap();
        let closed = is_closed(stream, async |writing| {
            writing.write_all(bytes).await.unwrap();
            writing.flush().await.unwrap();
        });
        assert!(closed.await, "{what}");
    }
    let stream = server.tls().await.unwrap();
    let settled = is_closed(stream, async |writing| {
        writing.write_all(PREFACE).await.unwrap();
        writing.write_all(SETTINGS).await.unwrap();
        writing.flush().await.unwrap();
    });
    assert!(settled.await, "HTTP/2 without a stream");
}

/// It is notified, and closed in order. A client with a request in progress is not idle.
#[tokio::test]
async fn an_idle_client_is_closed_despite_pings_and_a_watch_is_not() {
    let server = Server::start(Bounds::sharing(100), hurried()).await;
    let (mut watching, _alive) = server.client().await;
    let mut watch = get(&mut watching, "/watch").await.unwrap().into_body();
    assert_eq!(watch.frame().await.unwrap().unwrap().into_data().unwrap(), "w");
    for path in ["/in", "/"] {
        let (mut sender, ended) = server.client().await;
        let body = get(&mut sender, path).await.unwrap().into_body();
        body.collect().await.unwrap();
        let ended = timeout(TIMEOUT, ended).await.expect("it is still open").unwrap();
        ended.unwrap();
    }
    get(&mut watching, "/in").await.unwrap();
}

#[tokio::test]
async fn silent_clients_lock_no_client_out_however_many_they_are() {
    const ALL: usize = 16;
    let server = Server::start(Bounds::sharing(ALL), Settings::default()).await;
    let (mut working, _alive) = server.client().await;
    let mut watch = get(&mut working, "/watch").await.unwrap().into_body();
    watch.frame().await.unwrap().unwrap();
    let mut silent = Vec::new();
    for _ in 0..ALL * 4 {
        silent.push(server.tls().await);
        let (mut newcomer, _alive) = server.client().await;
        get(&mut newcomer, "/").await.unwrap();
        assert!(server.gate.connections() <= ALL);
    }
    // Anonymous clients are limited, too; the authenticated one is still served.
    let mut anonymous = Vec::new();
    for _ in 0..ALL * 2 {
        let (mut newcomer, alive) = server.client().await;
        get(&mut newcomer, "/").await.unwrap();
        anonymous.push((newcomer, alive));
    }
    let (mut newcomer, _alive) = server.client().await;
    get(&mut newcomer, "/in").await.unwrap();
    get(&mut working, "/in").await.unwrap();
}

/// Each has proved who it is, and all do nothing: the one that has done so longest is closed.
#[tokio::test]
async fn idle_authenticated_clients_make_room() {
    const ALL: usize = 8;
    let server = Server::start(Bounds::sharing(ALL), Settings::default()).await;
    let mut idle = Vec::new();
    for _ in 0..ALL {
        let (mut sender, ended) = server.client().await;
        get(&mut sender, "/in").await.unwrap().into_body().collect().await.unwrap();
        idle.push((sender, ended));
    }
    let newcomer = async {
        loop {
            // All have just been used at first.
            let Ok(stream) = server.tls().await else { continue };
            let handshake =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let Ok((mut sender, connection)) = handshake.await else { continue };
            tokio::spawn(connection);
            if get(&mut sender, "/in").await.is_ok() {
                break;
            }
        }
    };
    timeout(TIMEOUT, newcomer).await.expect("it is not admitted");
    let (_, ended) = idle.remove(0);
    timeout(TIMEOUT, ended).await.expect("the idle one is still open").unwrap().unwrap();
}

/// Serializes the tests that count large responses.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn impatient() -> Settings {
    Settings { stall_max: Duration::from_millis(400), ..Settings::default() }
}

/// A client with an HTTP/2 window of its own, which reads its connection and so much of each stream.
async fn with_window(server: &Server, bytes: u32) -> (Sender, tokio::task::JoinHandle<()>) {
    let stream = TokioIo::new(server.tls().await.unwrap());
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(bytes);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

/// Each client could keep the whole response in memory for any time.
#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_the_response_dropped() {
    let _alone = ALONE.lock().await;
    let server = Server::start(Bounds::sharing(100), impatient()).await;
    let mut unread = Vec::new();
    for path in ["/large", "/large"] {
        let mut stream = server.tls().await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        unread.push(stream);
    }
    let mut streams = Vec::new();
    // The last one is a response of one byte, for which the window is closed.
    for (path, window) in [("/large", 1), ("/large", 65_535), ("/large", 0), ("/", 0)] {
        let (mut sender, ended) = with_window(&server, window).await;
        let response = get(&mut sender, path).await.unwrap();
        streams.push((sender, response, ended));
    }
    eventually("connections to be closed", async || server.gate.connections() == 0).await;
    eventually("responses to be dropped", async || HELD.load(Ordering::SeqCst) == 0).await;
}

/// A client may have many watches on a connection, and be slow with one of them.
#[tokio::test]
async fn a_response_that_is_not_read_is_dropped_and_concurrent_ones_continue() {
    let _alone = ALONE.lock().await;
    let server = Server::start(Bounds::sharing(100), impatient()).await;
    let (mut sender, _ended) = with_window(&server, 65_535).await;
    let mut watch = get(&mut sender, "/watch").await.unwrap().into_body();
    watch.frame().await.unwrap().unwrap();
    let mut unread = get(&mut sender, "/large").await.unwrap().into_body();
    eventually("the response to be dropped", async || HELD.load(Ordering::SeqCst) == 0).await;
    get(&mut sender, "/in").await.unwrap().into_body().collect().await.unwrap();
    assert!(futures::poll!(std::pin::pin!(watch.frame())).is_pending(), "the watch has ended");
    // It is seen to be broken off, not taken for the whole.
    let mut read = 0;
    let error = loop {
        match timeout(TIMEOUT, unread.frame()).await.unwrap() {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    assert!(error.is_some(), "{read} bytes of {LARGE}, and an end");
}

/// A hundred times slower than a network, and never idle for as long as the limit.
#[tokio::test]
async fn a_slow_and_steady_reader_gets_the_whole_response() {
    let _alone = ALONE.lock().await;
    let server = Server::start(Bounds::sharing(100), impatient()).await;
    let (mut sender, _ended) = with_window(&server, 65_535).await;
    let mut response = get(&mut sender, "/large").await.unwrap().into_body();
    let (mut read, mut pauses) = (0, 0);
    while let Some(frame) = response.frame().await {
        read += frame.unwrap().data_ref().map_or(0, Bytes::len);
        if read > pauses * (LARGE / 30) {
            pauses += 1;
            sleep(impatient().stall_max / 4).await;
        }
    }
    assert_eq!(read, LARGE);
}

#[tokio::test]
async fn a_response_that_may_be_left_unread_is_complete_afterwards() {
    let _alone = ALONE.lock().await;
    let server = Server::start(Bounds::sharing(100), impatient()).await;
    let mut stream = server.tls().await.unwrap();
    let request = "GET /page HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let (mut sender, _ended) = with_window(&server, 65_535).await;
    let response = get(&mut sender, "/page").await.unwrap();
    // Another client is closed meanwhile.
    let (mut other, other_ended) = with_window(&server, 1).await;
    let _unread = get(&mut other, "/large").await.unwrap();
    timeout(TIMEOUT, other_ended).await.unwrap().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), LARGE);
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    assert!(read.len() > LARGE, "{}", read.len());
}
