//! What goes over the wire, and what is repeated: against a server of a few lines that answers as it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use segue_client::{Client, Error, Outcome};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;

const OK: &str = "0";
const CANCELLED: &str = "1";
const INVALID_ARGUMENT: &str = "3";
const UNAVAILABLE: &str = "14";
/// No answer at all.
const SILENCE: &str = "silence";
/// A message of gRPC that has nothing in it: all fields have their defaults.
const EMPTY_MESSAGE: [u8; 5] = [0; 5];
const WRITE: &str = "UPDATE x SET y = 1";

#[derive(Debug, Clone)]
struct Call {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// Answers with the statuses that it was given, then with empty messages.
#[derive(Clone, Default)]
struct Server {
    calls: Arc<Mutex<Vec<Call>>>,
    statuses: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Server {
    fn with(statuses: &[&'static str]) -> Self {
        let made = Self::default();
        made.statuses.lock().unwrap().extend(statuses);
        made
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Listens on a socket in a folder, and gives a client of it.
    async fn listen(&self, folder: &Path, options: &str) -> Client {
        let socket = folder.join("a socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = self.clone();
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(tokio::spawn(server.clone().serve(stream)));
            }
        }));
        let path = socket.display().to_string().replace(' ', "%20");
        Client::new(
            segue_client::Options::parse(&format!("segue+unix://{path}?{options}")).unwrap(),
        )
        .unwrap()
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let service = service_fn(|request| self.clone().answer(request));
        let _ = Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.calls.lock().unwrap().push(Call {
            path: head.uri.path().to_owned(),
            headers: head.headers,
            body,
        });
        let status = self.statuses.lock().unwrap().pop_front().unwrap_or(OK);
        let response = Response::builder().header("content-type", "application/grpc");
        match status {
            SILENCE => std::future::pending().await,
            OK => {
                let trailers = HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static(OK),
                )]);
                let frames =
                    [Frame::data(Bytes::from_static(&EMPTY_MESSAGE)), Frame::trailers(trailers)];
                let frames = tokio_stream::iter(frames.map(Ok::<_, Infallible>));
                Ok(response.body(StreamBody::new(frames).boxed()).unwrap())
            }
            failed => {
                Ok(response.header("grpc-status", failed).body(Full::default().boxed()).unwrap())
            }
        }
    }
}

#[tokio::test]
async fn deadline_trace_context_and_user_agent_are_sent_along() {
    let (server, folder) = (Server::default(), tempfile::tempdir().unwrap());
    let client = server.listen(folder.path(), "application_name=shop&timeout=20").await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client.with_traceparent(traceparent).execute(WRITE, &[]).await.unwrap();
    let call = server.calls().remove(0);
    assert_eq!(call.path, "/segue.v1.Sql/Execute");
    assert_eq!(call.headers["traceparent"], traceparent);
    assert!(call.headers["user-agent"].to_str().unwrap().starts_with("shop segue-client-rust/"));
    // gRPC writes at most eight digits and a unit; here microseconds.
    let timeout = call.headers["grpc-timeout"].to_str().unwrap();
    let micros: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..=20_000_000).contains(&micros), "{timeout}");
}

#[tokio::test]
async fn a_write_is_repeated_by_its_key_alone_and_with_the_same_one() {
    for (status, keyed, calls) in [
        (UNAVAILABLE, true, 2),
        (UNAVAILABLE, false, 1),
        // What is wrong in itself comes again.
        (INVALID_ARGUMENT, true, 1),
    ] {
        let (server, folder) = (Server::with(&[status]), tempfile::tempdir().unwrap());
        let client = server.listen(folder.path(), "").await;
        let client = if keyed { client } else { client.without_idempotency_key() };
        let made = client.execute(WRITE, &[]).await;
        let found = server.calls();
        assert_eq!((found.len(), made.is_ok()), (calls, calls == 2), "{status} {keyed}: {made:?}");
        if let [first, second] = &found[..] {
            assert_eq!(first.body, second.body, "the key of a repeat");
            client.execute(WRITE, &[]).await.unwrap();
            assert_ne!(server.calls()[2].body, second.body, "the key of another write");
        }
        if let Err(error) = made {
            assert_eq!(error.outcome, Outcome::Unknown, "{error:?}");
        }
    }
}

#[tokio::test]
async fn an_unknown_outcome_stays_so_when_the_repeat_is_stopped() {
    let (server, folder) = (Server::with(&[UNAVAILABLE, SILENCE]), tempfile::tempdir().unwrap());
    let client = server.listen(folder.path(), "timeout=500ms").await;
    let begun = Instant::now();
    let error = client.execute(WRITE, &[]).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded(_)), "{error:?}");
    assert_eq!(
        (error.outcome, error.is_retryable(), server.calls().len()),
        (Outcome::Unknown, false, 2)
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// A repeat after a commit whose answer was lost would be a second one.
#[tokio::test]
async fn a_transaction_whose_commit_may_have_taken_effect_is_not_run_again() {
    for status in [UNAVAILABLE, CANCELLED] {
        let (server, folder) = (Server::with(&[status]), tempfile::tempdir().unwrap());
        let client = server.listen(folder.path(), "").await;
        let made: Result<(), Error> = client
            .transaction(|tx| async move {
                // The function hides the error behind one that says that it may be run again.
                let _ = tx.last().execute(WRITE, &[]).await;
                Err(Error::retry("it may pass"))
            })
            .await;
        assert_eq!(made.unwrap_err().message, "it may pass");
        assert_eq!(server.calls().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn no_sidecar_is_an_error_when_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("segue+unix://{}/none?connect_timeout=300ms", folder.path().display());
    let begun = Instant::now();
    let error = Client::connect(&url).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert_eq!(error.outcome, Outcome::NotApplied);
    assert!((Duration::from_millis(300)..Duration::from_secs(10)).contains(&begun.elapsed()));
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_is_spoken_to_whom_the_certificate_names() {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::{ServerConfig, crypto::ring};

    let folder = tempfile::tempdir().unwrap();
    let (key, cert) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=sidecar.test", "-addext", "subjectAltName=DNS:sidecar.test"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl is needed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&cert).unwrap()],
            PrivateKeyDer::from_pem_file(&key).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::default();
    let serving = server.clone();
    drop(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(tokio::spawn(serving.clone().serve(stream)));
            }
        }
    }));
    let url = format!("segue+tls://127.0.0.1:{port}?connect_timeout=2&ca={}", cert.display());
    Client::connect(&format!("{url}&server_name=sidecar.test")).await.unwrap();
    assert_eq!(server.calls()[0].path, "/segue.v1.Sql/Info");
    let error = Client::connect(&url).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable(it) if it.message.contains("certificate")),
        "{error:?}"
    );
    let missing = Client::connect("segue+tls://127.0.0.1?ca=/no/such/file").await.unwrap_err();
    assert!(missing.message.contains("option ca"), "{missing:?}");
}
