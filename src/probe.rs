//! The seam to the nodes: one probe, from outside, over a new connection.
//!
//! A node may be broken or hostile. Whatever it sends, a probe ends within its time limit, reads a limited number of
//! bytes, holds one socket while it runs and none afterwards. Nothing is resolved, followed or kept: the only address
//! that is ever connected to is the target's.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::core::model::{Answer, ProbeTarget, Scheme};

/// Whoever asks nodes whether they serve.
#[expect(async_fn_in_trait, reason = "driven on one thread: no future has to be Send")]
pub trait Prober {
    /// Makes one probe. Ends within the target's `timeout`, whatever the node does.
    async fn probe(&self, target: ProbeTarget) -> Answer;
}

/// The longest status line that is read, and the longest interim response.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;

/// The most headers of an interim response.
pub const MAX_HEADERS: usize = 256;

/// The most bytes that one probe reads from its socket, TLS handshake and interim responses included. More than this
/// is read only by what the last read brought with it.
pub const MAX_READ_BYTES: usize = 128 * 1024;

/// One read's piece; a usual answer fits.
const PIECE_BYTES: usize = 2 * 1024;

const AGENT: &str = concat!("eipwatch/", env!("CARGO_PKG_VERSION"));
const CLOSED: &str = "closed without an answer";

/// The prober on real sockets.
///
/// Runs in a tokio runtime with I/O and time enabled. Starts no task: a probe is its future, and to drop the future is
/// to close the socket. How many run side by side is the caller's to limit; each takes one descriptor.
#[derive(Debug, Default)]
pub struct Sockets {
    tls: OnceLock<Result<Arc<rustls::ClientConfig>, rustls::Error>>,
}

impl Prober for Sockets {
    async fn probe(&self, target: ProbeTarget) -> Answer {
        match tokio::time::timeout(target.timeout, self.ask(&target)).await {
            Ok(Ok(answer) | Err(answer)) => answer,
            Err(_) => Answer::TimedOut,
        }
    }
}

impl Sockets {
    /// Opens nothing yet.
    pub fn new() -> Sockets {
        Sockets::default()
    }

    /// What the node answers, or else why it does not.
    async fn ask(&self, target: &ProbeTarget) -> Result<Answer, Answer> {
        match target.scheme {
            // Closed with FIN. RST would spare this side the TIME_WAIT, but many servers log a reset, or fail the accept;
            // a socket in TIME_WAIT holds no descriptor, and its port stays usable towards every other node.
            Scheme::Tcp => connect(target).await.map(|_| Answer::Connected),
            Scheme::Http => {
                let request = request(target)?;
                get(&request, connect(target).await?).await
            }
            Scheme::Https => {
                let request = request(target)?;
                let tls = TlsConnector::from(self.tls()?);
                let stream = connect(target).await?;
                let stream = tls.connect(server_name(target), stream).await.map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => Answer::Failed("TLS: closed during the handshake".into()),
                    _ => from_io(&error),
                })?;
                get(&request, stream).await
            }
        }
    }

    fn tls(&self) -> Result<Arc<rustls::ClientConfig>, Answer> {
        match self.tls.get_or_init(tls_config) {
            Ok(config) => Ok(config.clone()),
            Err(error) => Err(Answer::NotAsked(format!("no TLS here: {error}"))),
        }
    }
}

/// A new connection.
async fn connect(target: &ProbeTarget) -> Result<Limited, Answer> {
    let node = SocketAddr::from((target.ip, target.port));
    let socket = TcpStream::connect(node).await.map_err(|error| from_io(&error))?;
    // A loopback port that nobody listens on may be chosen as the local one, and TCP then connects it to itself.
    if socket.local_addr().is_ok_and(|local| local == node) {
        return Err(Answer::Refused);
    }
    // Else the request may wait for the acknowledgement of the handshake's last message. Without it, only slower.
    let _ = socket.set_nodelay(true);
    Ok(Limited { socket, left_bytes: MAX_READ_BYTES })
}

fn request(target: &ProbeTarget) -> Result<String, Answer> {
    let sendable = |text: &str, what: &str| {
        let is_sendable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_sendable { Ok(()) } else { Err(Answer::NotAsked(format!("{what} cannot be sent in a request"))) }
    };
    let default_port = match target.scheme {
        Scheme::Https => 443,
        _ => 80,
    };
    // The policy's host is sent as it stands, as a load balancer in front of the node would pass it on.
    let host = match &target.host {
        Some(host) => host.to_string(),
        None if target.port == default_port => target.ip.to_string(),
        None => format!("{}:{}", target.ip, target.port),
    };
    sendable(&host, "the host")?;
    sendable(&target.path, "the path")?;
    let path = &target.path;
    Ok(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ))
}

/// The name for the TLS handshake. An address is never sent as one (RFC 6066, section 3).
fn server_name(target: &ProbeTarget) -> ServerName<'static> {
    let name = target.host.as_deref().and_then(|host| ServerName::try_from(host.to_owned()).ok());
    name.unwrap_or_else(|| ServerName::from(std::net::IpAddr::V4(target.ip)))
}

/// Sends the request and waits for the status line of the answer: what follows it is not waited for, and goes with the connection.
async fn get<S>(request: &str, mut stream: S) -> Result<Answer, Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request.as_bytes()).await.map_err(|error| from_io(&error))?;
    stream.flush().await.map_err(|error| from_io(&error))?;
    let mut head = Vec::with_capacity(PIECE_BYTES);
    loop {
        let before = head.len();
        if stream.read_buf(&mut head).await.map_err(|error| from_io(&error))? == 0 {
            return Err(Answer::Failed(CLOSED.into()));
        }
        // Only the end of a line tells more than the first bytes did: what is dripped is not read again and again.
        let tells = before == 0 || head.iter().skip(before).any(|byte| *byte == b'\n');
        if tells && let Some(code) = status(&mut head)? {
            return Ok(Answer::Status(code));
        }
        if head.len() >= MAX_HEAD_BYTES {
            return Err(endless());
        }
        head.reserve(PIECE_BYTES);
    }
}

/// The status, once its line has been read. Takes interim responses out of what was read.
fn status(head: &mut Vec<u8>) -> Result<Option<u16>, Answer> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = httparse::ParserConfig::default()
            .ignore_invalid_headers_in_responses(true)
            .parse_response(&mut response, head);
        match (response.code, response.reason, parsed) {
            // 101 is the end of HTTP. Of the others nothing but the line counts, however the headers look.
            (Some(code @ (101 | 200..)), Some(_), _) => return Ok(Some(code)),
            (_, _, Ok(httparse::Status::Complete(length))) => drop(head.drain(..length)),
            (_, _, Ok(httparse::Status::Partial)) => return Ok(None),
            (_, _, Err(httparse::Error::TooManyHeaders)) => return Err(endless()),
            (_, _, Err(error)) => return Err(Answer::Failed(format!("not HTTP: {error}"))),
        }
    }
}

fn endless() -> Answer {
    Answer::Failed("not HTTP: a head without end".into())
}

// The kinds that `io::ErrorKind` has no stable name for. Source: errno.h of Linux, and of macOS and the BSDs.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };

/// Sorts errors by whom they accuse: the node, or this side.
fn from_io(error: &io::Error) -> Answer {
    use io::ErrorKind;
    if let Some(error) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        return Answer::Failed(match error {
            rustls::Error::InvalidMessage(_) => "TLS: the answer is not TLS".into(),
            rustls::Error::AlertReceived(alert) => format!("TLS: alert {alert:?}"),
            error => format!("TLS: {error}"),
        });
    }
    match (error.kind(), error.raw_os_error()) {
        (_, Some(EMFILE | ENFILE)) => Answer::NotAsked("no descriptors left".into()),
        (_, Some(ENOBUFS)) | (ErrorKind::OutOfMemory, _) => Answer::NotAsked("no memory left".into()),
        // EAGAIN, too, is how Linux says it.
        (ErrorKind::AddrNotAvailable | ErrorKind::WouldBlock, _) => Answer::NotAsked("no local ports left".into()),
        (ErrorKind::PermissionDenied, _) => Answer::NotAsked("not permitted on this side".into()),
        (ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset, _) => Answer::Refused,
        (ErrorKind::TimedOut, _) => Answer::TimedOut,
        (ErrorKind::HostUnreachable, _) => Answer::Failed("no route to the node".into()),
        (ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown, _) => Answer::Failed("no route to its network".into()),
        (ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted, _) => {
            Answer::Failed(CLOSED.into())
        }
        _ => Answer::Failed(error.to_string()),
    }
}

fn tls_config() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    // Every probe makes its whole handshake, and nothing that a node sent is kept.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Takes every certificate: the probe asks whether the node serves, and sends nothing that is secret.
///
/// Signatures are not verified either. They would prove only that the node holds the key of a certificate that nobody
/// trusts, and the verification refuses certificates that nodes do have: of X.509 version 1, for instance, or with a P-521 key.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::ED448,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]
    }
}

/// A socket that gives at most [`MAX_READ_BYTES`]; under TLS, so that an endless handshake counts as well.
struct Limited {
    socket: TcpStream,
    left_bytes: usize,
}

impl AsyncRead for Limited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left_bytes == 0 {
            return Poll::Ready(Err(io::Error::other("too many bytes before the answer")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        self.left_bytes = self.left_bytes.saturating_sub(buf.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::sign::CertifiedKey;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::task::JoinHandle;
    use tokio::time::{sleep, timeout};

    use super::*;

    /// For nodes that let a probe time out.
    const SHORT: Duration = Duration::from_millis(200);
    /// For all others: an answer that took so long would be a time-out, and fail the test.
    const LONG: Duration = Duration::from_secs(20);
    /// What a busy machine may add.
    const SLACK: Duration = Duration::from_secs(10);

    fn target(scheme: Scheme, port: u16, timeout: Duration) -> ProbeTarget {
        let path = if scheme == Scheme::Tcp { "" } else { "/health?deep=1" };
        ProbeTarget { scheme, ip: Ipv4Addr::LOCALHOST, port, path: path.into(), host: None, timeout }
    }

    async fn probe(target: ProbeTarget) -> Answer {
        timeout(target.timeout + SLACK, Sockets::new().probe(target)).await.expect("ends within its time limit")
    }

    /// A node that takes one connection, and what it saw of it.
    async fn node<S: Future<Output: Send + 'static> + Send>(
        serve: impl FnOnce(TcpStream) -> S + Send + 'static,
    ) -> (u16, JoinHandle<S::Output>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (port, tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await }))
    }

    /// What the node saw, once its connection is over.
    async fn seen<T>(node: JoinHandle<T>) -> T {
        timeout(SLACK, node).await.expect("the prober closed the connection").unwrap()
    }

    async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(request).unwrap()
    }

    async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) {
        while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    }

    /// Writes `piece` until the connection ends.
    async fn write_for_ever(stream: &mut (impl AsyncWrite + Unpin), piece: &[u8], pause: Duration) {
        while stream.write_all(piece).await.is_ok() && stream.flush().await.is_ok() {
            if pause.is_zero() { tokio::task::yield_now().await } else { sleep(pause).await }
        }
    }

    /// Sends `answer` to one request over http, and waits for the end.
    async fn answer_to(answer: &[u8], limit: Duration) -> (Answer, String) {
        let answer = answer.to_vec();
        let (port, node) = node(async move |mut stream: TcpStream| {
            let request = read_request(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            until_closed(&mut stream).await;
            request
        })
        .await;
        (probe(target(Scheme::Http, port, limit)).await, seen(node).await)
    }

    fn failed(text: &str) -> Answer {
        Answer::Failed(text.into())
    }

    /// A port that is taken, so that nobody else gets it meanwhile, but not listened on.
    fn closed_port() -> (u16, TcpSocket) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        (socket.local_addr().unwrap().port(), socket)
    }

    #[tokio::test]
    async fn tcp_passes_when_accepted_and_closes_in_order() {
        let (port, node) = node(async |mut stream: TcpStream| stream.read(&mut [0; 8]).await).await;
        assert_eq!(probe(target(Scheme::Tcp, port, LONG)).await, Answer::Connected);
        assert_eq!(seen(node).await.expect("an end, not a reset"), 0);
    }

    #[tokio::test]
    async fn nobody_listening_is_refused() {
        let (port, _taken) = closed_port();
        for scheme in [Scheme::Tcp, Scheme::Http, Scheme::Https] {
            assert_eq!(probe(target(scheme, port, LONG)).await, Answer::Refused, "{scheme:?}");
        }
    }

    /// Linux drops what does not fit into the queue of a listener, as a dead host would.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_that_is_not_accepted_times_out() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let node = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = timeout(SHORT, TcpStream::connect(node)).await {
            queue.push(stream.unwrap());
            assert!(queue.len() < 100, "the queue fills");
        }
        assert_eq!(probe(target(Scheme::Tcp, node.port(), SHORT)).await, Answer::TimedOut);
    }

    #[tokio::test]
    async fn the_request_is_complete() {
        let (answer, request) = answer_to(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", LONG).await;
        assert_eq!(answer, Answer::Status(200));
        let (line, headers) = request.split_once("\r\n").unwrap();
        assert_eq!(line, "GET /health?deep=1 HTTP/1.1");
        let version = env!("CARGO_PKG_VERSION");
        let mut headers: Vec<_> = headers.trim_end().split("\r\n").collect();
        headers.sort_unstable();
        assert!(headers[2].starts_with("Host: 127.0.0.1:"), "{headers:?}");
        headers.remove(2);
        assert_eq!(headers, ["Accept: */*", "Connection: close", &format!("User-Agent: eipwatch/{version}")]);
    }

    #[test]
    fn host_header_and_server_name_are_the_policys_host_or_the_address() {
        let seen = |scheme, port, host: Option<&str>| {
            let target = ProbeTarget { host: host.map(Into::into), ..target(scheme, port, LONG) };
            let request = request(&target).unwrap();
            let header = request.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap().to_owned();
            (header, server_name(&target).to_str().into_owned())
        };
        let pair = |header: &str, name: &str| (header.to_owned(), name.to_owned());
        assert_eq!(seen(Scheme::Http, 80, None), pair("127.0.0.1", "127.0.0.1"));
        assert_eq!(seen(Scheme::Https, 443, None), pair("127.0.0.1", "127.0.0.1"));
        assert_eq!(seen(Scheme::Http, 443, None), pair("127.0.0.1:443", "127.0.0.1"));
        assert_eq!(seen(Scheme::Https, 8443, Some("node.example")), pair("node.example", "node.example"));
        assert_eq!(seen(Scheme::Https, 443, Some("node.example")), pair("node.example", "node.example"));
        assert_eq!(seen(Scheme::Https, 8443, Some("-/-")), pair("-/-", "127.0.0.1"));
    }

    #[tokio::test]
    async fn what_cannot_be_sent_accuses_no_node() {
        let (port, _taken) = closed_port();
        let sane = target(Scheme::Http, port, LONG);
        let host = ProbeTarget { host: Some("a\r\nX: y".into()), ..sane.clone() };
        assert_eq!(probe(host).await, Answer::NotAsked("the host cannot be sent in a request".into()));
        for path in ["/a b", "/a\r\nX: y", "", "/\u{e4}"] {
            let path = ProbeTarget { path: path.into(), ..sane.clone() };
            assert_eq!(probe(path).await, Answer::NotAsked("the path cannot be sent in a request".into()));
        }
    }

    #[tokio::test]
    async fn the_status_is_the_answer() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        for (answer, status) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", 204),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnever", 404),
            ("HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n", 503),
            ("HTTP/1.1 200\r\n\r\n", 200),
            ("HTTP/1.0 200 OK\r\n\r\nuntil closed", 200),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 201 Created\r\n\r\n",
                201,
            ),
            ("HTTP/1.1 200 OK\r\nno colon here\r\nSpaced : yes\r\nFolded: a\r\n b\r\n\r\n", 200),
            // Nothing but the line counts, whatever becomes of the rest.
            ("HTTP/1.1 200 OK\r\n", 200),
            ("HTTP/1.1 101 Switching Protocols\r\n", 101),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: six\r\n\r\n", 200),
            ("HTTP/1.0 503 No\r\nTransfer-Encoding: chunked\r\n\r\n", 503),
            (&many, 200),
            ("HTTP/1.1 301 Moved\r\nLocation: http://169.254.169.254/latest/meta-data/\r\n\r\n", 301),
        ] {
            assert_eq!(answer_to(answer.as_bytes(), LONG).await.0, Answer::Status(status), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let location = elsewhere.local_addr().unwrap();
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{location}/\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answer_to(answer.as_bytes(), LONG).await.0, Answer::Status(302));
        assert!(timeout(SHORT, elsewhere.accept()).await.is_err(), "nobody came");
    }

    #[tokio::test]
    async fn what_is_not_http_fails_at_once() {
        let line = format!("HTTP/1.1 200 {}", "O".repeat(2 * MAX_HEAD_BYTES));
        let headers = format!("HTTP/1.1 103 Early Hints\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        let settings = "\0\0\x0c\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\0\x7f\x7f";
        for (answer, text) in [
            ("SSH-2.0-OpenSSH_9.6\r\n", "not HTTP: invalid HTTP version"),
            ("220 mail.example ESMTP\r\n", "not HTTP: invalid HTTP version"),
            ("HTTP/1.1 fine\r\n\r\n", "not HTTP: invalid response status"),
            ("HTTP/2 200\r\n\r\n", "not HTTP: invalid HTTP version"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not HTTP: invalid HTTP version"),
            (settings, "not HTTP: invalid HTTP version"),
            (&line, "not HTTP: a head without end"),
            (&headers, "not HTTP: a head without end"),
        ] {
            let start: String = answer.chars().take(30).collect();
            assert_eq!(answer_to(answer.as_bytes(), LONG).await.0, failed(text), "{start:?}");
        }
    }

    #[tokio::test]
    async fn a_banner_before_the_request_is_not_http() {
        let (port, node) = node(async |mut stream: TcpStream| {
            stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.unwrap();
            until_closed(&mut stream).await;
        })
        .await;
        let answer = probe(target(Scheme::Http, port, LONG)).await;
        assert!(matches!(&answer, Answer::Failed(text) if text.starts_with("not HTTP: ")), "{answer:?}");
        seen(node).await;
    }

    #[tokio::test]
    async fn closed_or_reset_before_the_answer() {
        for part in ["", "HTT", "HTTP/1.1 200 OK", "HTTP/1.1 103 Early Hints\r\nA: "] {
            let (port, node) = node(async move |mut stream: TcpStream| {
                read_request(&mut stream).await;
                stream.write_all(part.as_bytes()).await.unwrap();
            })
            .await;
            assert_eq!(probe(target(Scheme::Http, port, LONG)).await, failed(CLOSED), "{part:?}");
            seen(node).await;
        }
        let (port, _) = node(async |mut stream: TcpStream| {
            read_request(&mut stream).await;
            stream.set_zero_linger().unwrap();
        })
        .await;
        assert_eq!(probe(target(Scheme::Http, port, LONG)).await, Answer::Refused);
        // Whether the end or the reset is seen first is the kernel's choice.
        let (port, _) = node(async |stream: TcpStream| drop(stream)).await;
        let answer = probe(target(Scheme::Http, port, LONG)).await;
        assert!(answer == Answer::Refused || answer == failed(CLOSED), "{answer:?}");
    }

    #[tokio::test]
    async fn silence_times_out_and_the_connection_is_closed() {
        for scheme in [Scheme::Http, Scheme::Https] {
            let (port, node) = node(async |mut stream: TcpStream| until_closed(&mut stream).await).await;
            assert_eq!(probe(target(scheme, port, SHORT)).await, Answer::TimedOut, "{scheme:?}");
            seen(node).await;
        }
    }

    #[tokio::test]
    async fn a_dripping_head_times_out_and_the_connection_is_closed() {
        for start in ["", "HTTP/1.1 200 ", "HTTP/1.1 103 Early Hints\r\nA: "] {
            let (port, node) = node(async move |mut stream: TcpStream| {
                stream.write_all(start.as_bytes()).await.unwrap();
                let drop = if start.is_empty() { b"\r\n" } else { b"ab" };
                write_for_ever(&mut stream, drop, Duration::from_millis(5)).await;
            })
            .await;
            assert_eq!(probe(target(Scheme::Http, port, SHORT)).await, Answer::TimedOut, "{start:?}");
            seen(node).await;
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_given_up_within_its_bytes() {
        for (piece, text) in [
            ("A: bcdefghijklmnop\r\n", "not HTTP: a head without end"),
            ("abcdefghijklmnopqr", "not HTTP: a head without end"),
            ("\r\nHTTP/1.1 100 Continue\r\n", "too many bytes before the answer"),
        ] {
            let (port, node) = node(async move |mut stream: TcpStream| {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n").await.unwrap();
                write_for_ever(&mut stream, piece.repeat(50).as_bytes(), Duration::ZERO).await;
            })
            .await;
            assert_eq!(probe(target(Scheme::Http, port, LONG)).await, failed(text), "{piece:?}");
            seen(node).await;
        }
    }

    #[tokio::test]
    async fn an_answer_in_single_bytes_is_the_same_answer() {
        let (near, far) = tokio::io::duplex(1);
        let (mut read, mut write) = tokio::io::split(far);
        let answer = b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n";
        let mut asked = tokio::io::sink();
        let node = async { tokio::join!(tokio::io::copy(&mut read, &mut asked), write.write_all(answer)) };
        let asked = async {
            tokio::select! { got = get("GET", near) => got, over = node => panic!("{over:?}") }
        };
        assert_eq!(tokio::time::timeout(LONG, asked).await, Ok(Ok(Answer::Status(200))));
    }

    #[tokio::test]
    async fn an_endless_body_is_not_read() {
        let (port, node) = node(async |mut stream: TcpStream| {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            write_for_ever(&mut stream, &[b'x'; 4096], Duration::ZERO).await;
        })
        .await;
        assert_eq!(probe(target(Scheme::Http, port, LONG)).await, Answer::Status(200));
        seen(node).await;
    }

    #[tokio::test]
    async fn no_more_bytes_are_read_than_one_probe_may() {
        let (port, node) =
            node(async |mut stream: TcpStream| write_for_ever(&mut stream, &[0; 4096], Duration::ZERO).await).await;
        let mut limited = connect(&target(Scheme::Tcp, port, LONG)).await.unwrap();
        let mut read = Vec::new();
        let error = timeout(SLACK, limited.read_to_end(&mut read)).await.unwrap().unwrap_err();
        assert_eq!(from_io(&error), failed("too many bytes before the answer"));
        assert!((MAX_READ_BYTES..2 * MAX_READ_BYTES).contains(&read.len()), "{}", read.len());
        drop(limited);
        seen(node).await;
    }

    // Both self-signed, with `openssl req -x509` and `openssl ca -selfsign`, by the key node-key.der, used nowhere else.

    /// A certificate for node.example, good for a hundred years.
    const GOOD: &[u8] = include_bytes!("../tests/data/node.der");
    /// One for another name, of X.509 version 1, over since 2021.
    const EXPIRED: &[u8] = include_bytes!("../tests/data/node-expired.der");

    #[derive(Debug)]
    struct Fixed(Arc<CertifiedKey>);

    impl rustls::server::ResolvesServerCert for Fixed {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }
    }

    type Tls = tokio_rustls::server::TlsStream<TcpStream>;

    /// A node that serves one connection over TLS. Nothing is read of the certificate, so that any can be presented.
    async fn tls_node<S: Future<Output: Send + 'static> + Send>(
        certificate: &'static [u8],
        version: &'static rustls::SupportedProtocolVersion,
        serve: impl FnOnce(Tls) -> S + Send + 'static,
    ) -> (u16, JoinHandle<S::Output>) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(&include_bytes!("../tests/data/node-key.der")[..]).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let certified = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Fixed(Arc::new(certified))));
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        node(async move |stream: TcpStream| serve(acceptor.accept(stream).await.unwrap()).await).await
    }

    #[tokio::test]
    async fn https_takes_any_certificate_and_sends_names_only() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for (certificate, host) in [(GOOD, Some("node.example")), (EXPIRED, Some("node.example")), (GOOD, None)] {
                let (port, node) = tls_node(certificate, version, async |mut stream: Tls| {
                    read_request(&mut stream).await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    until_closed(&mut stream).await;
                    stream.get_ref().1.server_name().map(str::to_owned)
                })
                .await;
                let target = ProbeTarget { host: host.map(Into::into), ..target(Scheme::Https, port, LONG) };
                assert_eq!(probe(target).await, Answer::Status(200), "{version:?}, {host:?}");
                assert_eq!(seen(node).await.as_deref(), host, "{version:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_hostile_answer_over_tls_is_bounded_too() {
        let (port, node) = tls_node(GOOD, &rustls::version::TLS13, async |mut stream: Tls| {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\n").await.unwrap();
            write_for_ever(&mut stream, &b"A: bcdefghijklmnop\r\n".repeat(50), Duration::ZERO).await;
        })
        .await;
        assert_eq!(probe(target(Scheme::Https, port, LONG)).await, failed("not HTTP: a head without end"));
        seen(node).await;
        let (port, node) = tls_node(GOOD, &rustls::version::TLS13, async |mut stream: Tls| {
            write_for_ever(&mut stream, b"\r\n", Duration::from_millis(5)).await;
        })
        .await;
        assert_eq!(probe(target(Scheme::Https, port, SHORT)).await, Answer::TimedOut);
        seen(node).await;
        let (port, node) = tls_node(GOOD, &rustls::version::TLS13, async |mut stream: Tls| {
            read_request(&mut stream).await;
        })
        .await;
        assert_eq!(probe(target(Scheme::Https, port, LONG)).await, failed(CLOSED));
        seen(node).await;
    }

    #[tokio::test]
    async fn a_port_without_tls_says_so() {
        for (answer, text) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "TLS: the answer is not TLS"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "TLS: the answer is not TLS"),
            (b"\x15\x03\x03\0\x02\x02\x28", "TLS: alert HandshakeFailure"),
            (b"\x16\x03\x03\0\x40\x02", "TLS: closed during the handshake"),
        ] {
            let (port, node) = node(async move |mut stream: TcpStream| {
                let _ = stream.read(&mut [0; 4096]).await;
                stream.write_all(answer).await.unwrap();
                stream.shutdown().await.unwrap();
                until_closed(&mut stream).await;
            })
            .await;
            assert_eq!(probe(target(Scheme::Https, port, LONG)).await, failed(text));
            seen(node).await;
        }
    }

    #[tokio::test]
    async fn a_probe_that_is_dropped_closes_its_socket() {
        for scheme in [Scheme::Http, Scheme::Https] {
            let (accepted, is_accepted) = tokio::sync::oneshot::channel();
            let (port, node) = node(async move |mut stream: TcpStream| {
                stream.read_u8().await.unwrap();
                accepted.send(()).unwrap();
                until_closed(&mut stream).await;
            })
            .await;
            let sockets = Sockets::new();
            tokio::select! {
                answer = sockets.probe(target(scheme, port, LONG)) => panic!("{answer:?}"),
                _ = is_accepted => {}
            }
            #[cfg(target_os = "linux")]
            assert_eq!(sockets_towards(port), 0, "{scheme:?}: at once, without another turn of the runtime");
            seen(node).await;
        }
    }

    /// How many sockets with a descriptor are connected, or connecting, to this local port.
    #[cfg(target_os = "linux")]
    fn sockets_towards(port: u16) -> usize {
        // Columns: sl local_address rem_address st queues timer retransmits uid timeout inode; inode 0 has no descriptor.
        let port = format!(":{port:04X}");
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row[2].ends_with(&port) && row[9] != "0").count()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn five_hundred_at_once_on_one_thread_leave_nothing_behind() {
        const PROBES: usize = 500;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Answers one by one, and only when all are connected, so that 500 descriptors are enough.
        let node = tokio::spawn(async move {
            while sockets_towards(port) < PROBES {
                sleep(Duration::from_millis(10)).await;
            }
            for _ in 0..PROBES {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_request(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        });
        let sockets = Sockets::new();
        let probes = (0..PROBES).map(|_| sockets.probe(target(Scheme::Http, port, LONG)));
        let answers = timeout(LONG + SLACK, futures_util::future::join_all(probes)).await.unwrap();
        assert_eq!(answers, vec![Answer::Status(200); PROBES]);
        seen(node).await;
        assert_eq!(sockets_towards(port), 0);
    }

    #[test]
    fn errors_accuse_the_node_or_this_side() {
        #[cfg(target_os = "linux")]
        for (errno, answer) in [
            (1, Answer::NotAsked("not permitted on this side".into())),
            (11, Answer::NotAsked("no local ports left".into())),
            (12, Answer::NotAsked("no memory left".into())),
            (13, Answer::NotAsked("not permitted on this side".into())),
            (23, Answer::NotAsked("no descriptors left".into())),
            (24, Answer::NotAsked("no descriptors left".into())),
            (32, failed(CLOSED)),
            (99, Answer::NotAsked("no local ports left".into())),
            (100, failed("no route to its network")),
            (101, failed("no route to its network")),
            (103, failed(CLOSED)),
            (104, Answer::Refused),
            (105, Answer::NotAsked("no memory left".into())),
            (110, Answer::TimedOut),
            (111, Answer::Refused),
            (113, failed("no route to the node")),
        ] {
            assert_eq!(from_io(&io::Error::from_raw_os_error(errno)), answer, "{errno}");
        }
    }
}
