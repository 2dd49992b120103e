//! A guest without a VM: it reads its metadata and calls the host as `vminit` does, and can be told
//! to misbehave.

use std::net::SocketAddr;
use std::sync::Arc;

use firebuild_protocol::metadata::{
    Credentials, Metadata, PATH, TOKEN_HEADER, TOKEN_PATH, TOKEN_TTL_HEADER,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};

use crate::agent::Side;
use firebuild_protocol::identity::Identity;

/// What goes wrong for a guest.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads the metadata from the service at `address`.
///
/// # Errors
/// The service cannot be reached or answers with anything but metadata.
pub async fn metadata(address: SocketAddr) -> Result<Metadata, Failure> {
    let token = request(
        address,
        &format!("PUT {TOKEN_PATH} HTTP/1.0\r\n{TOKEN_TTL_HEADER}: 60\r\n\r\n"),
    )
    .await?;
    let get = format!(
        "GET {PATH} HTTP/1.0\r\nAccept: application/json\r\n{TOKEN_HEADER}: {token}\r\n\r\n"
    );
    Ok(serde_json::from_str(&request(address, &get).await?)?)
}

/// The body of the answer to one HTTP request, if the answer is 200.
///
/// # Errors
/// The service cannot be reached, or it refuses.
pub async fn request(address: SocketAddr, request: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(answer.into()),
    }
}

/// The TLS side that a guest makes of its metadata.
#[must_use]
pub fn side(credentials: &Credentials) -> Side {
    Side {
        authority: credentials.tls_ca_cert.clone(),
        identity: Identity {
            certificate: credentials.tls_cert.clone(),
            key: credentials.tls_key.clone(),
        },
    }
}

/// Calls the host as the metadata says.
///
/// # Errors
/// The host cannot be reached, or the two do not trust each other.
pub async fn call(credentials: &Credentials) -> Result<Channel, Failure> {
    let address = credentials.grpc_host_port.parse()?;
    let tls = side(credentials).client()?;
    connect(address, tls, &credentials.server_name).await
}

/// Calls the server at `address` with any TLS configuration.
///
/// # Errors
/// The server cannot be reached, or the two do not trust each other as far as this side can tell:
/// a server's refusal of the client's certificate shows with the first call.
pub async fn connect(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    server_name: &str,
) -> Result<Channel, Failure> {
    let name = ServerName::try_from(server_name.to_owned())?;
    let tls = TlsConnector::from(tls);
    let connector = tower::service_fn(move |_| {
        let (tls, name) = (tls.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, Failure>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    // As the agent has it: what one call leaves unread holds up no other.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(16 << 20);
    Ok(endpoint.connect_with_connector(connector).await?)
}
