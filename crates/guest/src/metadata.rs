//! Reads the VM's metadata: MMDS V2, which is HTTP/1.1 with a session token.
//!
//! The service is the host's, but its answers are bounded all the same. The link may need a moment
//! to come up; until then requests are tried again.

use std::net::SocketAddr;
use std::time::Duration;

use firebuild_protocol::METADATA_ADDRESS;
use firebuild_protocol::metadata::{Metadata, PATH, TOKEN_HEADER, TOKEN_PATH, TOKEN_TTL_HEADER};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::console;
use crate::error::{GuestError, Result};

/// The largest answer that is read, in bytes: hosts may raise the service's own limit.
const LARGEST: usize = 1 << 20;
/// How long the service may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one attempt may take at first. Lost packets are sent again after a second by the
/// kernel, which is longer than a link takes to come up.
const FIRST_ATTEMPT: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Reads the metadata from its usual address.
pub(crate) async fn read() -> Result<Metadata> {
    read_from(SocketAddr::from((METADATA_ADDRESS, 80))).await
}

async fn read_from(address: SocketAddr) -> Result<Metadata> {
    let mut connection = None;
    let token = format!(
        "PUT {TOKEN_PATH} HTTP/1.1\r\nHost: {}\r\n{TOKEN_TTL_HEADER}: 60\r\nContent-Length: 0\r\n\r\n",
        address.ip()
    );
    let token = patiently(address, &mut connection, &token).await?;
    let token = String::from_utf8(token)
        .ok()
        .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or_else(|| GuestError::Metadata("the session token is none".to_owned()))?;
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n{TOKEN_HEADER}: {token}\r\n\r\n",
        address.ip()
    );
    let body = patiently(address, &mut connection, &request).await?;
    serde_json::from_slice(&body).map_err(|error| GuestError::Metadata(error.to_string()))
}

/// Sends a request until it is answered, on the connection of the last one if there is one.
async fn patiently(
    address: SocketAddr,
    connection: &mut Option<TcpStream>,
    request: &str,
) -> Result<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    let (mut attempt, mut pause) = (FIRST_ATTEMPT, FIRST_PAUSE);
    loop {
        // The service may have closed it, which is no failure.
        let reused = connection.is_some();
        let exchange = exchange(address, connection.take(), request);
        let failure = match timeout(attempt, exchange).await {
            Ok(Ok((body, stream))) => {
                *connection = Some(stream);
                return Ok(body);
            }
            Ok(Err(Failure::Final(message))) => return Err(GuestError::Metadata(message)),
            Ok(Err(Failure::Again(_))) if reused => continue,
            Ok(Err(Failure::Again(message))) => message,
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= end {
            return Err(GuestError::Metadata(format!("`{address}`: {failure}")));
        }
        console::debug(|| format!("metadata: {failure}; again"));
        sleep(pause).await;
        attempt = (attempt * 2).min(Duration::from_secs(5));
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

enum Failure {
    /// The service is not there yet.
    Again(String),
    /// It answered, and the answer is no use.
    Final(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Again(error.to_string())
    }
}

/// One request and its answer.
async fn exchange(
    address: SocketAddr,
    connection: Option<TcpStream>,
    request: &str,
) -> std::result::Result<(Vec<u8>, TcpStream), Failure> {
    let mut stream = match connection {
        Some(stream) => stream,
        None => TcpStream::connect(address).await?,
    };
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    let mut received = Vec::new();
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(Failure::Again("the answer was cut off".to_owned()));
        }
        if let Some(body) = body(&received)? {
            return Ok((body, stream));
        }
        if received.len() > LARGEST {
            return Err(Failure::Final(format!(
                "the answer has more than {LARGEST} bytes"
            )));
        }
    }
}

/// The body of an answer, once all of it has been received.
fn body(received: &[u8]) -> std::result::Result<Option<Vec<u8>>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(received);
    let start =
        match parsed.map_err(|error| Failure::Final(format!("the answer is no HTTP: {error}")))? {
            httparse::Status::Complete(start) => start,
            httparse::Status::Partial => return Ok(None),
        };
    let length = answer
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| {
            std::str::from_utf8(header.value)
                .ok()?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .ok_or_else(|| Failure::Final("the answer does not tell its length".to_owned()))?;
    if length > LARGEST {
        return Err(Failure::Final(format!("the answer has {length} bytes")));
    }
    let Some(body) = received.get(start..start + length) else {
        return Ok(None);
    };
    match answer.code {
        Some(200) => Ok(Some(body.to_vec())),
        code => Err(Failure::Final(format!(
            "status {}: {}",
            code.unwrap_or(0),
            String::from_utf8_lossy(body)
                .chars()
                .take(200)
                .collect::<String>()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(answer: &str) -> String {
        match body(answer.as_bytes()) {
            Ok(Some(body)) => String::from_utf8(body).unwrap(),
            Ok(None) => "more".to_owned(),
            Err(Failure::Final(message) | Failure::Again(message)) => format!("error: {message}"),
        }
    }

    #[test]
    fn answers() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc"),
            ("HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nabc", "ab"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "more"),
            ("HTTP/1.1 200 OK\r\nConte", "more"),
            (
                "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno",
                "error: status 401: no",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\nab",
                "error: the answer does not tell its length",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
                "error: the answer has 99999999999 bytes",
            ),
            (
                "SSH-2.0-x\r\n",
                "error: the answer is no HTTP: invalid HTTP version",
            ),
        ] {
            assert_eq!(outcome(answer), expected, "{answer}");
        }
    }

    /// A service that answers each connection with the next of `answers`; none closes it.
    async fn service(
        answers: Vec<Option<String>>,
    ) -> (SocketAddr, tokio::task::JoinHandle<Vec<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                requests.push(String::from_utf8(request).unwrap());
                if let Some(answer) = answer {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
            requests
        });
        (address, task)
    }

    fn ok(body: &str) -> Option<String> {
        Some(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    #[tokio::test]
    async fn a_token_is_fetched_and_shown() {
        let document =
            r#"{"vm-id":"a","hostname":"h","time":1,"network":{"address":"10.0.0.2","prefix":24}}"#;
        let (address, task) = service(vec![None, ok("t0ken"), ok(document)]).await;
        let metadata = read_from(address).await.unwrap();
        assert_eq!(metadata.hostname, "h");
        let requests = task.await.unwrap();
        assert!(requests[1].starts_with("PUT /latest/api/token HTTP/1.1\r\n"));
        assert!(requests[1].contains("X-metadata-token-ttl-seconds: 60\r\n"));
        assert!(requests[2].starts_with("GET /latest/meta-data HTTP/1.1\r\n"));
        assert!(requests[2].contains("X-metadata-token: t0ken\r\n"));
    }

    #[tokio::test]
    async fn a_refusal_is_final() {
        let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nnever";
        let (address, _task) = service(vec![Some(refusal.to_owned())]).await;
        let error = read_from(address).await.unwrap_err().to_string();
        assert_eq!(error, "cannot read the metadata: status 401: never");
    }
}
