//! Firecracker's interface: HTTP/1.1 over a Unix socket, JSON bodies.
//!
//! A connection lives for a few calls that belong together; each call has its time, and of an
//! answer no more than a bounded part is read: Firecracker is trusted more than its guest, but not
//! more than it has to be.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

use super::config::Call;
use super::words::Words;
use crate::vmm::console::Console;

/// How long one call may take: a start with much memory is the longest.
const CALL_TIME: Duration = Duration::from_secs(30);

/// The most bytes of an answer that are read.
const ANSWER: usize = 256 << 10;

/// How many characters of a fault are shown.
const FAULT: usize = 1000;

/// The interface of one Firecracker. Clones mean the same.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    socket: PathBuf,
    log: Option<Arc<Mutex<Console>>>,
    words: Arc<Words>,
}

/// Why a call did not do what it was to do.
#[derive(Debug)]
pub(super) enum Failure {
    /// Firecracker could not be talked to.
    Io(io::Error),
    /// It refused.
    Refused {
        /// The status of the answer.
        status: u16,
        /// Its own words.
        fault: String,
    },
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Io(io::Error::other(error))
    }
}

/// A connection to the interface.
pub(super) struct Connection {
    sender: http1::SendRequest<String>,
    driver: AbortHandle,
    log: Option<Arc<Mutex<Console>>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Api {
    /// The interface at `socket`; calls are written to `log`.
    pub(super) fn new(socket: PathBuf, log: Option<Console>, words: Words) -> Self {
        Self {
            socket,
            log: log.map(|log| Arc::new(Mutex::new(log))),
            words: Arc::new(words),
        }
    }

    /// Takes what Firecracker has said by now to where its complaints are.
    pub(super) fn catch_up(&self) {
        self.words.catch_up();
    }

    /// Connects. Firecracker is ready for calls exactly when this succeeds.
    pub(super) async fn connect(&self) -> io::Result<Connection> {
        let stream = UnixStream::connect(&self.socket).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(64 << 10).title_case_headers(true);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // The calls tell what goes wrong.
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            driver: driver.abort_handle(),
            log: self.log.clone(),
        })
    }

    /// One call, on a connection of its own.
    pub(super) async fn call(&self, call: &Call) -> Result<Value, Failure> {
        self.connect().await?.call(call).await
    }
}

impl Connection {
    /// Makes a call and returns the answer's body, which is null if it has none.
    pub(super) async fn call(&mut self, call: &Call) -> Result<Value, Failure> {
        let answered = tokio::time::timeout(CALL_TIME, self.exchange(call)).await;
        let answered =
            answered.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        self.note(call, &answered);
        let (status, body) = answered?;
        if status.is_success() {
            return Ok(body);
        }
        Err(Failure::Refused {
            status: status.as_u16(),
            fault: fault(&body),
        })
    }

    async fn exchange(&mut self, call: &Call) -> Result<(StatusCode, Value), Failure> {
        self.sender.ready().await?;
        let body = call.body.as_ref().map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(call.method)
            .uri(&call.path)
            .header("Host", "localhost")
            .header("Accept", "application/json");
        if call.body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let request = request.body(body).map_err(io::Error::other)?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = read(answer.into_body()).await?;
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        let value = match &body[..] {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes).unwrap_or_else(|_| text()),
        };
        Ok((status, value))
    }

    /// Writes the call and its answer to the log, without secrets.
    fn note(&self, call: &Call, answered: &Result<(StatusCode, Value), Failure>) {
        let Some(log) = &self.log else { return };
        let body = call.body.as_ref().map(blanked).unwrap_or_default();
        let answer = match answered {
            Ok((status, Value::Null)) => status.as_u16().to_string(),
            Ok((status, body)) => format!("{} {}", status.as_u16(), blanked(body)),
            Err(Failure::Io(error)) => error.to_string(),
            Err(Failure::Refused { status, fault }) => format!("{status} {fault}"),
        };
        let line = format!("{} {call} {body} -> {answer}\n", jiff::Timestamp::now());
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written must not keep the VM from running.
        let _ = log.write(line.as_bytes());
    }
}

/// The text of a value without what only the guest may know.
fn blanked(value: &Value) -> String {
    fn blank(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    // The credentials of the guest's metadata, as a whole.
                    if matches!(name.as_str(), "session" | "bootstrap") && !value.is_null() {
                        *value = "(secret)".into();
                    } else {
                        blank(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(blank),
            _ => {}
        }
    }
    let mut value = value.clone();
    blank(&mut value);
    value.to_string()
}

/// Firecracker's own words about what it did not do, fit to be shown.
fn fault(body: &Value) -> String {
    let fault = body.get("fault_message").and_then(Value::as_str);
    let text = fault.map_or_else(|| body.to_string(), str::to_owned);
    let shown = text.chars().filter(|c| !c.is_control()).take(FAULT);
    shown.collect()
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let data: Bytes = frame?.into_data().unwrap_or_default();
        bytes.extend_from_slice(&data);
        if bytes.len() > ANSWER {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_not_logged() {
        let body = json!({"latest": {"meta-data": {
            "hostname": "web",
            "session": {"tls-key": "K", "grpc-host-port": "x"},
            "bootstrap": null,
        }}, "list": [{"session": "S"}]});
        let text = blanked(&body);
        assert!(text.contains("web") && text.contains("null"), "{text}");
        assert!(!text.contains('K') && !text.contains("\"S\""), "{text}");
    }

    #[test]
    fn faults_are_fit_to_be_shown() {
        let text = format!("no\u{1b}[31m {}", "x".repeat(2 * FAULT));
        let shown = fault(&json!({"fault_message": text}));
        assert!(shown.starts_with("no[31m x") && shown.len() == FAULT);
        assert_eq!(fault(&json!({"other": 1})), r#"{"other":1}"#);
        assert_eq!(fault(&Value::Null), "null");
    }
}
