//! The connection to the host: gRPC over TLS 1.3 with certificates on both sides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use firebuild_protocol::metadata::Credentials;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::{self, cipher_suite, kx_group};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version::TLS13};
use tonic::transport::{Channel, Endpoint};

use crate::error::{GuestError, Result};

/// How long the host's server may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// How often a connection is probed, and how long the host may take to answer: an emulated or
/// paused neighbour may hold it up.
const PROBE: Duration = Duration::from_secs(15);
const PROBE_ANSWER: Duration = Duration::from_secs(30);

/// How many bytes may be under way to the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    stream: u32,
    connection: u32,
    /// Whether the connection is probed. A supervisor takes its VM along when it dies, and is not to be
    /// woken by a guest that has nothing to say.
    probed: bool,
}

impl Windows {
    /// Few streams, of layers.
    pub(crate) const WIDE: Self = Self {
        stream: 1 << 20,
        connection: 2 << 20,
        probed: true,
    };
    /// Many streams, each of which may be read slowly and must not hold up the others: all of them
    /// together fit in.
    pub(crate) const MANY: Self = Self {
        stream: 64 << 10,
        connection: 16 << 20,
        probed: false,
    };
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Connects to the host. The host's name is verified, and the guest shows its certificate.
pub(crate) async fn connect(credentials: &Credentials, windows: Windows) -> Result<Channel> {
    let address: SocketAddr = credentials
        .grpc_host_port
        .parse()
        .map_err(|_| told(format!("`{}` is no address", credentials.grpc_host_port)))?;
    let tls = TlsConnector::from(Arc::new(configuration(credentials)?));
    let name = ServerName::try_from(credentials.server_name.clone())
        .map_err(|_| told(format!("`{}` is no server's name", credentials.server_name)))?;
    // The scheme is for the HTTP library alone; the connector below speaks TLS.
    let mut endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| told(error.to_string()))?
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection);
    if windows.probed {
        endpoint = endpoint
            .http2_keep_alive_interval(PROBE)
            .keep_alive_timeout(PROBE_ANSWER)
            .keep_alive_while_idle(true);
    }
    let connector = tower::service_fn(move |_| {
        let (tls, name) = (tls.clone(), name.clone());
        async move {
            let stream = reach(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, Failure>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|source| GuestError::Connect {
            address: address.to_string(),
            source: source.into(),
        })
}

/// Opens a TCP connection, again and again while the host's server is not there yet.
async fn reach(address: SocketAddr) -> std::io::Result<TcpStream> {
    let end = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

fn configuration(credentials: &Credentials) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&credentials.tls_ca_cert, "authority")? {
        roots
            .add(certificate)
            .map_err(|error| told(format!("the authority's certificate: {error}")))?;
    }
    let own = certificates(&credentials.tls_cert, "guest")?;
    let key = PrivateKeyDer::from_pem_slice(credentials.tls_key.as_bytes())
        .map_err(|_| told("the guest's key is no PEM".to_owned()))?;
    let mut configuration = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| told(error.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(own, key)
        .map_err(|error| told(format!("the guest's certificate: {error}")))?;
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    Ok(configuration)
}

/// One curve for keys and signatures and one hash for all come first: in an emulated guest the
/// first run of any code costs more than what it computes.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::SECP256R1, kx_group::X25519, kx_group::SECP384R1],
        ..ring::default_provider()
    }
}

fn certificates(pem: &str, whose: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    certificates
        .ok()
        .filter(|list| !list.is_empty())
        .ok_or_else(|| told(format!("the {whose}'s certificate is no PEM")))
}

fn told(message: String) -> GuestError {
    GuestError::Told(message)
}
