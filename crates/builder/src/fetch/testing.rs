//! A web server for tests: on loopback, on threads of its own, and as rude as a test wants it.

#![allow(clippy::unwrap_used, reason = "a test's server may fail it")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a client asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// What the server does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    /// Say nothing more until the client goes away.
    stall: bool,
    /// What is said again and again until the client goes away.
    forever: Vec<u8>,
}

impl Answer {
    /// A status line's end, headers, and a body.
    pub(crate) fn new(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
        let measured = headers
            .iter()
            .any(|(name, _)| matches!(*name, "Content-Length" | "Transfer-Encoding"));
        if !measured {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
        }
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(body);
        let (stall, forever) = (false, Vec::new());
        Self {
            bytes,
            stall,
            forever,
        }
    }

    pub(crate) fn file(body: &[u8]) -> Self {
        Self::new("200 OK", &[], body)
    }

    pub(crate) fn status(status: &str) -> Self {
        Self::new(status, &[], b"")
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::new("302 Found", &[("Location", to)], b"")
    }

    /// Closes the connection without a word.
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    /// Without what is behind this many bytes.
    pub(crate) fn cut(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self
    }

    /// A body without an end, and without a length that it would be told by.
    pub(crate) fn endless(headers: &[(&str, &str)]) -> Self {
        let mut headers = headers.to_vec();
        headers.push(("Transfer-Encoding", "chunked"));
        let chunk = vec![b' '; 1 << 16];
        let mut forever = format!("{:x}\r\n", chunk.len()).into_bytes();
        forever.extend(chunk);
        forever.extend(b"\r\n");
        Self {
            forever,
            ..Self::new("200 OK", &headers, b"")
        }
    }

    /// Says what it says and then nothing, without an end.
    pub(crate) fn stalling(self) -> Self {
        let stall = true;
        Self { stall, ..self }
    }
}

/// A server. It ends when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    /// The server's certificate as PEM, if it has one.
    pub(crate) certificate: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    thread: Option<JoinHandle<()>>,
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

impl Server {
    pub(crate) fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::run(None, Box::new(handler))
    }

    /// A server with a certificate that nobody signed.
    pub(crate) fn encrypted(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
            .unwrap();
        let mut server = Self::run(Some(Arc::new(config)), Box::new(handler));
        server.certificate = made.cert.pem();
        server
    }

    fn run(tls: Option<Arc<ServerConfig>>, handler: Box<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let log = Arc::clone(&asked);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let handler: Arc<Handler> = Arc::from(handler);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if stream.peer_addr().is_ok_and(is_stop(&stream)) {
                    return;
                }
                let (tls, log, handler) = (tls.clone(), Arc::clone(&log), Arc::clone(&handler));
                std::thread::spawn(move || connection(stream, tls, &log, &*handler));
            }
        });
        Self {
            address,
            scheme,
            certificate: String::new(),
            asked,
            thread: Some(thread),
        }
    }

    /// The address of a path, which begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What was asked for so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let _ = stream.write_all(STOP);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What ends a server: no request begins so.
const STOP: &[u8] = b"\0";

fn is_stop(stream: &TcpStream) -> impl Fn(SocketAddr) -> bool {
    let mut first = [1];
    let stop = stream.peek(&mut first).is_ok() && first == *STOP;
    move |_| stop
}

fn connection(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    log: &Mutex<Vec<Asked>>,
    handler: &Handler,
) {
    let raw = stream.try_clone().unwrap();
    match tls {
        None => converse(stream, log, handler),
        Some(config) => {
            let connection = ServerConnection::new(config).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            converse(&mut stream, log, handler);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }
    let _ = raw.shutdown(Shutdown::Both);
}

/// One request and its answer; a client that goes away ends it.
fn converse(mut stream: impl Read + Write, log: &Mutex<Vec<Asked>>, handler: &Handler) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.lines();
    let mut first = lines.next().unwrap().split(' ').map(str::to_owned);
    let (method, path) = (first.next().unwrap(), first.next().unwrap());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let mut asked = Asked {
        method,
        path,
        headers: headers.collect(),
        body: Vec::new(),
    };
    let length = asked.header("content-length");
    asked.body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    if stream.read_exact(&mut asked.body).is_err() {
        return;
    }
    log.lock().unwrap().push(asked.clone());
    let answer = handler(&asked);
    let mut said = stream
        .write_all(&answer.bytes)
        .and_then(|()| stream.flush());
    while said.is_ok() && !answer.forever.is_empty() {
        said = stream.write_all(&answer.forever);
    }
    if said.is_ok() && answer.stall {
        let _ = stream.read(&mut byte);
    }
}

/// What `git http-backend` answers for the repositories in a directory.
pub(crate) fn git_backend(repositories: &Path, asked: &Asked) -> Answer {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &asked.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_LENGTH", asked.body.len().to_string());
    for (variable, header) in [
        ("CONTENT_TYPE", "content-type"),
        ("GIT_PROTOCOL", "git-protocol"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
    ] {
        command.envs(asked.header(header).map(|value| (variable, value)));
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&asked.body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(output[..end].to_vec()).unwrap();
    let headers: Vec<(&str, &str)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let status = headers.iter().find(|(name, _)| *name == "Status");
    let status = status.map_or("200 OK", |(_, status)| status);
    Answer::new(status, &headers, &output[end + 4..])
}
