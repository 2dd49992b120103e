//! The name server of one VM: in its namespace, at an address that nobody else reaches, served by the
//! process that owns the VM (docs/adr/0006).
//!
//! It answers for the VMs that share a network with this one, and asks the host's servers, from the
//! host, about everything else. What must hold: a guest that floods it costs the host no more than
//! [`MOST_AT_ONCE`] questions at a time, each of bounded size and time.

mod message;
mod names;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firebuild_core::MachineId;
use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::egress::opening::{Opening, Said};
use crate::lease::Lease;
use crate::{AGENT_ADDRESS, Builtin, Error, resolver};
use message::Decision;
pub(crate) use message::text_of;
use names::Names;

/// How many questions are worked on at a time. Others that come by UDP meanwhile are lost.
const MOST_AT_ONCE: usize = 64;
/// How many TCP connections there are at a time.
const MOST_CONNECTIONS: usize = 16;
/// How many questions one of them may bring.
const MOST_OF_ONE: usize = 100;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// How long each of the host's servers may take.
const PATIENCE: Duration = Duration::from_millis(2500);
/// The longest message by UDP, in bytes.
const LONGEST: usize = 4096;
const PORT: u16 = 53;

/// The name server of a VM, which listens already.
#[derive(Debug)]
pub struct NameServer {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    server: Server,
}

#[derive(Debug)]
struct Server {
    names: Mutex<Names>,
    /// What it does for the VM's egress rules, if there are any.
    opening: Option<Arc<Opening>>,
    leads_out: bool,
    /// The servers to ask; the host's own, by its configuration, if there are none.
    servers: Vec<IpAddr>,
    resolv_conf: PathBuf,
    asked: Arc<Semaphore>,
}

impl Builtin {
    /// The name server of a VM that is attached, with `servers` behind it in place of the host's.
    ///
    /// # Errors
    /// The namespace is not there, or the address is taken.
    pub fn name_server(&self, id: &MachineId, servers: &[IpAddr]) -> Result<NameServer, Error> {
        let settings = self.settings();
        let leases = settings.leases.join(settings.name.table());
        let lease = Lease::read(&leases, id)?;
        let leads_out = lease.reached().is_some();
        let address = SocketAddr::from((AGENT_ADDRESS, PORT));
        let listen = || {
            let udp = std::net::UdpSocket::bind(address)?;
            let tcp = std::net::TcpListener::bind(address)?;
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok((udp, tcp))
        };
        let listening = self.namespace(id).run(listen);
        let (udp, tcp) = listening
            .and_then(|made: io::Result<_>| made)
            .map_err(Error::system("listen for a VM's questions about names"))?;
        let opening = Opening::of(&lease, self.namespace(id), settings.name.table());
        let server = Server {
            opening: opening.map(Arc::new),
            names: Mutex::new(Names::new(leases, id.clone())),
            leads_out,
            servers: servers.to_vec(),
            resolv_conf: settings.resolv_conf.clone(),
            asked: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        };
        Ok(NameServer { udp, tcp, server })
    }
}

impl NameServer {
    /// Answers until it is dropped. Has to be called in a runtime whose threads are in the host's
    /// network namespace.
    ///
    /// # Errors
    /// The sockets cannot be used.
    pub async fn serve(self) -> io::Result<()> {
        let udp = Arc::new(UdpSocket::from_std(self.udp)?);
        let tcp = TcpListener::from_std(self.tcp)?;
        let opening = self.server.opening.clone();
        let server = Arc::new(self.server);
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(opening) = opening {
            tasks.spawn(async move { opening.keep_counts().await });
        }
        let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut buffer = vec![0; LONGEST];
        loop {
            while tasks.try_join_next().is_some() {}
            let connecting = async {
                let permit = Arc::clone(&connections).acquire_owned().await;
                (permit, tcp.accept().await)
            };
            tokio::select! {
                received = udp.recv_from(&mut buffer) => {
                    let Ok((length, peer)) = received else { continue };
                    let Ok(permit) = Arc::clone(&server.asked).try_acquire_owned() else { continue };
                    let (server, udp) = (Arc::clone(&server), Arc::clone(&udp));
                    let question = buffer[..length].to_vec();
                    tasks.spawn(async move {
                        if let Some(answer) = server.answer(&question, false).await {
                            let _ = udp.send_to(&answer, peer).await;
                        }
                        drop(permit);
                    });
                }
                (permit, accepted) = connecting => {
                    let Ok((stream, _)) = accepted else { continue };
                    let server = Arc::clone(&server);
                    tasks.spawn(async move {
                        let _ = server.converse(stream).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

impl Server {
    /// Questions and answers over TCP (RFC 7766), each after its length.
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        for _ in 0..MOST_OF_ONE {
            let mut length = [0; 2];
            timeout(IDLE, stream.read_exact(&mut length)).await??;
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            timeout(IDLE, stream.read_exact(&mut question)).await??;
            let permit = self.asked.acquire().await;
            let Some(answer) = self.answer(&question, true).await else {
                break;
            };
            drop(permit);
            timeout(IDLE, stream.write_all(&framed(&answer))).await??;
        }
        Ok(())
    }

    async fn answer(&self, question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let decision = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            message::decide(question, &mut names, self.leads_out)
        };
        let opening = self.opening.as_ref();
        let (answer, said) = match decision {
            Decision::Nothing => return None,
            Decision::Answer(answer) => (answer, Said::Here),
            Decision::Forward(name) if opening.is_some_and(|it| !it.lets_ask(&name)) => {
                return message::refusal(question);
            }
            Decision::Forward(_) => (self.forward(question, by_tcp).await?, Said::Elsewhere),
        };
        match opening {
            // What could not be opened is of no use to the guest, which may ask again.
            Some(opening) if opening.open(&answer, said).await.is_err() => {
                message::failure(question, ResponseCode::ServFail)
            }
            _ => Some(answer),
        }
    }

    /// Asks the servers behind this one, one after the other.
    async fn forward(&self, question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let servers = match &self.servers[..] {
            [] => resolver::servers_of(&self.resolv_conf),
            servers => servers.to_vec(),
        };
        for server in servers {
            let server = SocketAddr::new(server, PORT);
            let asked = async {
                if by_tcp {
                    ask_tcp(server, question).await
                } else {
                    ask_udp(server, question).await
                }
            };
            if let Ok(Ok(answer)) = timeout(PATIENCE, asked).await {
                return Some(answer);
            }
        }
        message::failure(question, ResponseCode::ServFail)
    }
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each question, so that nobody else can answer.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        if message::answers(question, &answer[..length]) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&framed(question)).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).await?;
    if message::answers(question, &answer) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A message after its length; one that is too long for that is none that came here.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(0);
    let message = &message[..usize::from(length)];
    [&length.to_be_bytes()[..], message].concat()
}
