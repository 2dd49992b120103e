//! The metrics over HTTP, until the command is ended.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use firebuild_machine::Host;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Semaphore};

use crate::body::Whole;
use crate::terminal;

/// The most that are served at once.
const CONNECTIONS: usize = 32;

/// How long a request may take to arrive, and a connection to live.
const PATIENCE: Duration = Duration::from_secs(10);

/// What Prometheus expects.
const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves the metrics at an address.
///
/// # Errors
/// If nobody can listen there.
pub(crate) async fn serve(host: Host, address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen at `{address}`"))?;
    let address = listener.local_addr()?;
    terminal::print(format_args!("http://{address}/metrics\n"))?;
    // The store is looked at by one at a time, however many ask.
    let host = Arc::new(Mutex::new(host));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut ended = signal(SignalKind::terminate())?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = ended.recv() => return Ok(()),
        };
        let (Ok((stream, _)), Ok(place)) = (accepted, room.clone().try_acquire_owned()) else {
            // Who is one too many is closed.
            continue;
        };
        let host = host.clone();
        tokio::spawn(async move {
            let answering = service_fn(move |request| answer(host.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(16 * 1024)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answering);
            // What becomes of it is the other side's business.
            let _ = tokio::time::timeout(PATIENCE * 3, connection).await;
            drop(place);
        });
    }
}

async fn answer(
    host: Arc<Mutex<Host>>,
    request: Request<Incoming>,
) -> Result<Response<Whole>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match gathered(host).await {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => {
                let said = format!("warning: the metrics cannot be gathered: {error:#}");
                terminal::say(&said);
                (StatusCode::INTERNAL_SERVER_ERROR, said)
            }
        },
        (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, "see /metrics\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "GET /metrics\n".to_owned()),
    };
    let mut response = Response::new(Whole::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(TYPE);
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn gathered(host: Arc<Mutex<Host>>) -> anyhow::Result<String> {
    let host = host.lock_owned().await;
    tokio::task::spawn_blocking(move || super::gather(&host)).await?
}
