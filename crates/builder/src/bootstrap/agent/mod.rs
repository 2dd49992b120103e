//! Connections of a RUN to SSH agents: those on the host, and keys that the build holds itself.
//!
//! An agent holds keys, and a step may use those that its mounts name, for as long as it runs: it
//! may list them and have something signed, and nothing else. So whole messages of the agent's
//! protocol (draft-miller-ssh-agent) are passed on, one at a time, and every other request is
//! answered as an agent does that refuses it. Of the host's agents a guest learns no path.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firebuild_protocol::v1::AgentData;
use futures::{Stream, TryStreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Status;

use crate::keys::Keyring;
use crate::mounts::sensitive::Agent;

/// How many connections there may be at once.
pub(super) const CONNECTIONS: usize = 8;
/// The most bytes that a message may have, as in OpenSSH's agent.
const LARGEST: usize = 256 << 10;
/// The most bytes that a guest may send at once.
const LARGEST_PIECE: usize = 64 << 10;
/// `SSH_AGENT_FAILURE`, as a whole message.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const EXTENSION: u8 = 27;
/// Tells the agent on which connection a key will be used; what it says only ever limits keys.
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// The agents that commands may talk to.
#[derive(Debug)]
pub(super) struct Agents {
    allowed: Mutex<BTreeMap<u32, Allowed>>,
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct Allowed {
    agents: BTreeMap<String, Agent>,
    /// Connections end when it is gone.
    running: watch::Sender<()>,
}

impl Default for Agents {
    fn default() -> Self {
        Self {
            allowed: Mutex::default(),
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }
}

/// What a guest sends.
pub(super) trait Guest: Stream<Item = Result<AgentData, Status>> + Unpin + Send {}

impl<S: Stream<Item = Result<AgentData, Status>> + Unpin + Send> Guest for S {}

impl Agents {
    /// Lets `command` talk to these agents, by their ids, until it has ended.
    pub(super) fn allow(&self, command: u32, agents: BTreeMap<String, Agent>) {
        let running = watch::Sender::new(());
        self.allowed().insert(command, Allowed { agents, running });
    }

    /// Ends what `command` was allowed.
    pub(super) fn end(&self, command: u32) {
        self.allowed().remove(&command);
    }

    fn allowed(&self) -> MutexGuard<'_, BTreeMap<u32, Allowed>> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the connection that the guest asks for. The stream is what the agent answers.
    pub(super) async fn connect<G: Guest>(
        &self,
        mut guest: G,
    ) -> Result<impl Stream<Item = Result<AgentData, Status>> + Send + use<G>, Status> {
        let turn = Arc::clone(&self.turns).try_acquire_owned();
        let turn =
            turn.map_err(|_| Status::resource_exhausted("too many connections to agents"))?;
        let first = guest.try_next().await?.unwrap_or_default();
        let (agent, running) = self
            .allowed()
            .get(&first.command)
            .and_then(|allowed| {
                let agent = allowed.agents.get(&first.id)?.clone();
                Some((agent, allowed.running.subscribe()))
            })
            .ok_or_else(|| Status::not_found("the command was given no such agent"))?;
        let agent = Answering::open(agent)
            .await
            .map_err(|_| Status::unavailable("the agent on the host cannot be reached"))?;
        let connection = Connection {
            guest,
            received: first.data.to_vec(),
            agent,
            running,
            _turn: turn,
        };
        Ok(futures::stream::unfold(Some(connection), answers))
    }
}

struct Connection<G> {
    guest: G,
    /// Of the guest's, and not passed on.
    received: Vec<u8>,
    agent: Answering,
    running: watch::Receiver<()>,
    _turn: OwnedSemaphorePermit,
}

/// The next answer. None if the guest or its command has ended; nothing follows an error.
async fn answers<G: Guest>(
    connection: Option<Connection<G>>,
) -> Option<(Result<AgentData, Status>, Option<Connection<G>>)> {
    let mut connection = connection?;
    let mut running = connection.running.clone();
    let answer = tokio::select! {
        biased;
        _ = running.changed() => return None,
        answer = connection.exchange() => answer.transpose()?,
    };
    let next = answer.is_ok().then_some(connection);
    let answer = answer.map(|data| AgentData {
        data: data.into(),
        ..AgentData::default()
    });
    Some((answer, next))
}

impl<G: Guest> Connection<G> {
    /// Takes one request, and has it answered.
    async fn exchange(&mut self) -> Result<Option<Vec<u8>>, Status> {
        let Some(request) = self.request().await? else {
            return Ok(None);
        };
        if !may_ask(&request[4..]) {
            return Ok(Some(FAILURE.to_vec()));
        }
        self.agent
            .ask(&request)
            .await
            .map(Some)
            .map_err(|_| Status::unavailable("the agent on the host has gone"))
    }

    /// The guest's next message, whole.
    async fn request(&mut self) -> Result<Option<Vec<u8>>, Status> {
        loop {
            let length = whole(&self.received).map_err(Status::invalid_argument)?;
            if let Some(length) = length.filter(|length| *length <= self.received.len()) {
                let rest = self.received.split_off(length);
                return Ok(Some(std::mem::replace(&mut self.received, rest)));
            }
            let Some(message) = self.guest.try_next().await? else {
                return Ok(None);
            };
            if message.data.len() > LARGEST_PIECE {
                return Err(Status::invalid_argument("too much at once"));
            }
            self.received.extend_from_slice(&message.data);
        }
    }
}

/// An agent that a connection has been opened to.
enum Answering {
    Socket(UnixStream),
    Keys(Arc<Keyring>),
}

impl Answering {
    async fn open(agent: Agent) -> std::io::Result<Self> {
        Ok(match agent {
            Agent::Socket(path) => Self::Socket(UnixStream::connect(path).await?),
            Agent::Keys(keys) => Self::Keys(keys),
        })
    }

    /// Has a whole message answered by one.
    async fn ask(&mut self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Keys(keys) => Ok(message(&keys.answer(&request[4..]))),
            Self::Socket(agent) => {
                agent.write_all(request).await?;
                let mut answer = vec![0; 4];
                agent.read_exact(&mut answer).await?;
                let length = whole(&answer).map_err(std::io::Error::other)?;
                answer.resize(length.unwrap_or(4), 0);
                agent.read_exact(&mut answer[4..]).await?;
                Ok(answer)
            }
        }
    }
}

/// A message with its length before it.
fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body].concat()
}

/// How many bytes the first message has, as far as its beginning is there.
fn whole(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(length) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    match usize::try_from(u32::from_be_bytes(*length)) {
        Ok(length @ 1..=LARGEST) => Ok(Some(4 + length)),
        _ => Err("a message to an agent is empty or too large"),
    }
}

/// Whether a step may have this done by an agent.
fn may_ask(request: &[u8]) -> bool {
    match request.split_first() {
        Some((&(REQUEST_IDENTITIES | SIGN_REQUEST), _)) => true,
        Some((&EXTENSION, rest)) => rest
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| {
                rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
            })
            .is_some_and(|name| name == SESSION_BIND),
        _ => false,
    }
}
