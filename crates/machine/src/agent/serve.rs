//! The listener for the agent, for any gRPC service.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tonic::body::Body;
use tonic::codegen::Service;

use super::contact::{Contact, Ear, Heard};
use crate::connections;

/// How many connections there may be at once: a guest needs one, and another while it gives up the
/// first.
const CONNECTIONS: usize = 2;

/// How many bytes the headers of a call may have.
const HEADERS: u32 = 16 << 10;

/// A gRPC service for guests: what `tonic` generates (`BootstrapServer`, `MachineServer`) is one.
pub trait GuestService:
    Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GuestService for S where
    S: Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// What a guest is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a connected guest may say nothing at all; none: as long as it likes.
    pub silence: Option<Duration>,
    /// How many bytes may be under way on one call, to be kept by the host: 64 KiB to 16 MiB.
    pub window: u32,
    /// How many bytes may be under way on all calls of a connection: what calls leave unread that
    /// are held up is taken from it.
    pub connection_window: u32,
    /// How many calls there may be at once on a connection.
    pub calls: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            silence: None,
            window: 64 << 10,
            connection_window: 128 << 10,
            calls: 32,
        }
    }
}

/// A served agent. Dropping it ends the service and closes the guest's connections.
#[derive(Debug)]
pub struct Agent {
    contact: watch::Receiver<Contact>,
    tasks: [AbortHandle; 2],
}

impl Agent {
    /// Where the conversation is, now and later.
    #[must_use]
    pub fn contact(&self) -> watch::Receiver<Contact> {
        self.contact.clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Serves `service` to the guest. Has to be called within a tokio runtime.
pub fn serve<S: GuestService>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    service: S,
    options: Options,
) -> Agent {
    let (ear, contact) = Ear::new();
    let server = Server {
        service,
        tls: TlsAcceptor::from(tls),
        ear: ear.clone(),
        options,
    };
    let each = move |stream| server.clone().connection(stream);
    let watchdog = async move {
        if let Some(limit) = options.silence {
            ear.silence(limit).await;
        }
    };
    Agent {
        contact,
        tasks: [
            tokio::spawn(connections::serve(listener, CONNECTIONS, each)).abort_handle(),
            tokio::spawn(watchdog).abort_handle(),
        ],
    }
}

#[derive(Clone)]
struct Server<S> {
    service: S,
    tls: TlsAcceptor,
    ear: Ear,
    options: Options,
}

impl<S: GuestService> Server<S> {
    async fn connection(self, stream: TcpStream) {
        // Small messages back and forth; without it each waits for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let handshake = self.tls.accept(stream);
        let Ok(Ok(stream)) = tokio::time::timeout(self.options.handshake, handshake).await else {
            return;
        };
        let stream = Heard::new(stream, self.ear.clone());
        let window = self.options.window;
        // What goes wrong here is between the guest and its own calls; a guest that is gone shows
        // by its silence or by the end of its VMM.
        let _ = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.options.calls)
            .max_header_list_size(HEADERS)
            .initial_stream_window_size(window)
            .initial_connection_window_size(self.options.connection_window)
            .max_send_buf_size(window as usize)
            .serve_connection(TokioIo::new(stream), Noted(self))
            .await;
    }
}

/// The service, and a note for every call.
struct Noted<S>(Server<S>);

impl<S: GuestService> hyper::service::Service<Request<Incoming>> for Noted<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.ear.called();
        // The services that tonic generates are always ready.
        Box::pin(self.0.service.clone().call(request))
    }
}
