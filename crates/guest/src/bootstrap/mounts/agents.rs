//! Sockets on which a step finds an SSH agent. What comes in goes to the host and back, unread: the
//! host decides what an agent is asked.

use std::path::Path;
use std::sync::Arc;

use firebuild_protocol::v1::AgentData;
use firebuild_protocol::v1::bootstrap_client::BootstrapClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::error::{Doing as _, Result};

/// How many connections are served at once; others wait.
const CONNECTIONS: usize = 8;
/// How many messages of a connection may wait for the host.
const WAITING: usize = 2;
/// The largest piece in one message, in bytes.
const PIECE: usize = 16 << 10;

/// The sockets of one step, served while this lives.
pub(super) struct Agents {
    command: u32,
    client: BootstrapClient<Channel>,
    turns: Arc<Semaphore>,
    listening: JoinSet<()>,
}

impl Agents {
    /// None yet.
    pub(super) fn new(command: u32, client: BootstrapClient<Channel>) -> Self {
        Self {
            command,
            client,
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
            listening: JoinSet::new(),
        }
    }

    /// Listens at `at` for agent `id`.
    pub(super) fn listen(&mut self, id: &str, at: &Path) -> Result<()> {
        let listener = UnixListener::bind(at).doing(|| format!("listen at `{}`", at.display()))?;
        let hello = AgentData {
            command: self.command,
            id: id.to_owned(),
            data: Vec::new().into(),
        };
        let serving = serve(
            listener,
            self.client.clone(),
            hello,
            Arc::clone(&self.turns),
        );
        self.listening.spawn(serving);
        Ok(())
    }
}

async fn serve(
    listener: UnixListener,
    client: BootstrapClient<Channel>,
    hello: AgentData,
    turns: Arc<Semaphore>,
) {
    // They end when this does.
    let mut connections = JoinSet::new();
    while let Ok(turn) = Arc::clone(&turns).acquire_owned().await {
        let Ok((connection, _)) = listener.accept().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let (client, hello) = (client.clone(), hello.clone());
        connections.spawn(async move {
            relay(connection, client, hello).await;
            drop(turn);
        });
    }
}

/// Passes on until the host ends the conversation. One that it refuses ends at once.
async fn relay(connection: UnixStream, mut client: BootstrapClient<Channel>, hello: AgentData) {
    let (sender, messages) = mpsc::channel(WAITING);
    let (read, mut write) = connection.into_split();
    let to_host = async {
        send(read, sender, hello).await;
        // The host may still have something to say.
        std::future::pending::<()>().await;
    };
    let from_host = async {
        let Ok(answer) = client.agent(ReceiverStream::new(messages)).await else {
            return;
        };
        let mut answer = answer.into_inner();
        while let Ok(Some(message)) = answer.message().await {
            if write.write_all(&message.data).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = to_host => {}
        () = from_host => {}
    }
}

async fn send(mut read: OwnedReadHalf, sender: mpsc::Sender<AgentData>, hello: AgentData) {
    if sender.send(hello).await.is_err() {
        return;
    }
    let mut buffer = vec![0; PIECE];
    while let Ok(length @ 1..) = read.read(&mut buffer).await {
        let message = AgentData {
            data: buffer[..length].to_vec().into(),
            ..AgentData::default()
        };
        if sender.send(message).await.is_err() {
            return;
        }
    }
}
