//! Simulated guests against the agent's listener, in one process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a guest's console is its standard output"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use firebuild_core::MachineId;
use firebuild_machine::agent::{self, Agent, Contact, Options, Side, Sides};
use firebuild_machine::testing::guest;
use firebuild_protocol::identity::Identities;
use firebuild_protocol::v1::bootstrap_client::BootstrapClient;
use firebuild_protocol::v1::bootstrap_server::{Bootstrap, BootstrapServer};
use firebuild_protocol::v1::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Response, Status, Streaming};

/// Answers pings; the rest is the builder's.
struct Pings;

#[tonic::async_trait]
impl Bootstrap for Pings {
    type AgentStream = tokio_stream::Empty<Result<AgentData, Status>>;
    type TerminalStream = tokio_stream::Empty<Result<ToTerminal, Status>>;
    type ResourceChunkStream = tokio_stream::Empty<Result<Chunk, Status>>;

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        let id = request.into_inner().id;
        Ok(Response::new(PingResponse { id }))
    }

    async fn commands(
        &self,
        _: Request<CommandsRequest>,
    ) -> Result<Response<CommandsResponse>, Status> {
        std::future::pending().await
    }

    async fn resource_chunk(
        &self,
        _: Request<ResourceRequest>,
    ) -> Result<Response<Self::ResourceChunkStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn layer(
        &self,
        _: Request<Streaming<LayerChunk>>,
    ) -> Result<Response<LayerReceipt>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn finished(&self, _: Request<CommandResult>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn std_out(&self, _: Request<LogMessage>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn std_err(&self, _: Request<LogMessage>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn abort(&self, _: Request<AbortRequest>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn terminal(
        &self,
        _: Request<Streaming<FromTerminal>>,
    ) -> Result<Response<Self::TerminalStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn agent(
        &self,
        _: Request<Streaming<AgentData>>,
    ) -> Result<Response<Self::AgentStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn success(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn id() -> MachineId {
    "abcdefghij0123456789".parse().unwrap()
}

async fn serve(sides: &Sides, options: Options) -> (Agent, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = sides.host.server().unwrap();
    let agent = agent::serve(listener, tls, BootstrapServer::new(Pings), options);
    (agent, address)
}

/// Whether a guest of this side gets an answer.
async fn ping(address: SocketAddr, side: &Side, name: &str) -> Result<String, guest::Failure> {
    let channel = guest::connect(address, side.client()?, name).await?;
    let request = PingRequest { id: "x".to_owned() };
    let answer = BootstrapClient::new(channel).ping(request).await?;
    Ok(answer.into_inner().id)
}

fn contact(agent: &Agent) -> Contact {
    *agent.contact().borrow()
}

#[tokio::test]
async fn the_right_guest_is_served() {
    let sides = Sides::generate(&id()).unwrap();
    let (agent, address) = serve(&sides, Options::default()).await;
    assert_eq!(contact(&agent), Contact::Waiting);
    let answer = ping(address, &sides.guest, &sides.server_name).await;
    assert_eq!(answer.unwrap(), "x");
    assert_eq!(contact(&agent), Contact::Connected);
}

#[tokio::test]
async fn nobody_else_is() {
    let sides = Sides::generate(&id()).unwrap();
    let other = Sides::generate(&id()).unwrap();
    let (agent, address) = serve(&sides, Options::default()).await;
    let past = SystemTime::now() - Duration::from_secs(3 * 3600);
    let expired = Identities::generate(id().as_str(), past, Duration::from_secs(60)).unwrap();
    let with = |authority: &Side, identity: &Side| Side {
        authority: authority.authority.clone(),
        identity: identity.identity.clone(),
    };
    let cases = [
        // Its certificate is by an authority that this server does not know.
        (with(&sides.guest, &other.guest), "abcdefghij0123456789"),
        // It expects another authority's server.
        (with(&other.guest, &sides.guest), "abcdefghij0123456789"),
        // It expects another name.
        (sides.guest.clone(), "abcdefghij0123456780"),
        // It shows a server's certificate.
        (sides.host.clone(), "abcdefghij0123456789"),
    ];
    for (index, (side, name)) in cases.iter().enumerate() {
        assert!(ping(address, side, name).await.is_err(), "case {index}");
    }
    let stale = Sides {
        host: Side {
            authority: expired.authority.clone(),
            identity: sides.host.identity.clone(),
        },
        guest: Side {
            authority: sides.guest.authority.clone(),
            identity: expired.guest.clone(),
        },
        server_name: sides.server_name.clone(),
    };
    let (strict, expired_address) = serve(&stale, Options::default()).await;
    assert!(
        ping(expired_address, &stale.guest, &stale.server_name)
            .await
            .is_err()
    );
    assert_eq!(contact(&agent), Contact::Waiting);
    assert_eq!(contact(&strict), Contact::Waiting);
    // And the right one still is.
    assert!(
        ping(address, &sides.guest, &sides.server_name)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_guest_without_a_certificate_is_refused() {
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::version::TLS13;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    let sides = Sides::generate(&id()).unwrap();
    let (agent, address) = serve(&sides, Options::default()).await;
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(sides.guest.authority.as_bytes());
    roots.add(authority.unwrap()).unwrap();
    let mut tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let called = async {
        let channel = guest::connect(address, Arc::new(tls), &sides.server_name).await?;
        let request = PingRequest::default();
        BootstrapClient::new(channel).ping(request).await?;
        Ok::<_, guest::Failure>(())
    };
    assert!(called.await.is_err());
    assert_eq!(contact(&agent), Contact::Waiting);
}

#[tokio::test]
async fn what_is_no_handshake_is_hung_up_on() {
    let sides = Sides::generate(&id()).unwrap();
    let options = Options {
        handshake: Duration::from_millis(200),
        ..Options::default()
    };
    let (agent, address) = serve(&sides, options).await;
    // More than there are places for: some say nonsense, some nothing at all.
    let mut streams = Vec::new();
    for index in 0..6 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if index % 2 == 0 {
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
        }
        streams.push(stream);
    }
    for mut stream in streams {
        let mut rest = Vec::new();
        // Ends only when the server hangs up.
        let _ = stream.read_to_end(&mut rest).await;
    }
    assert_eq!(contact(&agent), Contact::Waiting);
    assert!(
        ping(address, &sides.guest, &sides.server_name)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_guest_that_goes_silent_is_noticed() {
    let sides = Sides::generate(&id()).unwrap();
    let options = Options {
        silence: Some(Duration::from_millis(300)),
        ..Options::default()
    };
    let (agent, address) = serve(&sides, options).await;
    let tls = sides.guest.client().unwrap();
    let channel = guest::connect(address, tls, &sides.server_name)
        .await
        .unwrap();
    let mut client = BootstrapClient::new(channel);
    // A call that has no answer is open all the while: it does not count as saying something.
    let mut waiting = client.clone();
    let commands = tokio::spawn(async move { waiting.commands(CommandsRequest::default()).await });
    let start = tokio::time::Instant::now();
    for _ in 0..10 {
        client.ping(PingRequest::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(contact(&agent), Contact::Connected);
    let mut contact = agent.contact();
    contact.wait_for(|c| *c == Contact::Silent).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(600 + 200));
    // The owner ends the VM; the connection ends with the service.
    drop(agent);
    assert!(commands.await.unwrap().is_err());
}

#[tokio::test]
async fn a_guest_that_has_not_called_is_not_silent() {
    let sides = Sides::generate(&id()).unwrap();
    let options = Options {
        silence: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let (agent, _) = serve(&sides, options).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(contact(&agent), Contact::Waiting);
}
