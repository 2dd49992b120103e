//! One gRPC call to a collector: OTLP over HTTP/2 without encryption.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;

use super::otlp::ExportTraceServiceRequest;
use crate::body::Whole;
use crate::command::block_on;

/// How long all of it may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Where collectors are, unless somebody says otherwise.
const USUAL: &str = "127.0.0.1:4317";

/// The service of OTLP.
const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A collector's host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collector(String);

impl Collector {
    /// The one that OpenTelemetry's own variables name, or the usual one.
    pub(super) fn from_environment() -> anyhow::Result<Self> {
        let names = [
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ];
        for name in names {
            let value = std::env::var(name).unwrap_or_default();
            if !value.is_empty() {
                let parsed: Result<Self, _> = value.parse();
                return parsed.map_err(|why| anyhow::anyhow!("the variable `{name}`: {why}"));
            }
        }
        Ok(Self(USUAL.to_owned()))
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Collector {
    type Err = &'static str;

    /// `HOST:PORT`, with or without `http://`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write HOST:PORT, such as 127.0.0.1:4317";
        if text.starts_with("https://") {
            return Err("spans are sent without encryption only, such as to 127.0.0.1:4317");
        }
        let text = text.strip_prefix("http://").unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let whole = !host.is_empty() && host.len() <= 253 && host.chars().all(plain);
        match port.parse::<u16>() {
            Ok(1..) if whole => Ok(Self(text.to_owned())),
            _ => Err(FORM),
        }
    }
}

/// Sends spans; gives up after a moment.
pub(super) fn send(
    collector: &Collector,
    request: &ExportTraceServiceRequest,
) -> anyhow::Result<()> {
    let mut body = vec![0];
    let message = request.encode_to_vec();
    body.extend(u32::try_from(message.len())?.to_be_bytes());
    body.extend(message);
    let body = Bytes::from(body);
    block_on(async {
        let sending = tokio::time::timeout(PATIENCE, call(collector, body));
        sending.await.context("it takes too long")?
    })?
}

async fn call(collector: &Collector, body: Bytes) -> anyhow::Result<()> {
    let stream = TcpStream::connect(&collector.0).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let request = Request::post(format!("http://{collector}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Whole::new(body))?;
    let response = sender.send_request(request).await?;
    let answered = status(response).await;
    driving.abort();
    answered
}

/// The status of a call, which stands in the trailers, or in the headers if there is no body.
async fn status(mut response: Response<Incoming>) -> anyhow::Result<()> {
    ensure!(
        response.status().is_success(),
        "it answers {}",
        response.status()
    );
    let mut found = response.headers().get("grpc-status").cloned();
    let body = response.body_mut();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        if let Ok(trailers) = frame?.into_trailers() {
            found = trailers.get("grpc-status").cloned().or(found);
        }
    }
    match found.as_ref().map(hyper::header::HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        Some(other) => bail!("it refuses with status {}", String::from_utf8_lossy(other)),
        None => bail!("it does not speak gRPC"),
    }
}
