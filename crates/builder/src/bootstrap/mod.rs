//! The builder's half of the conversation with a build VM's agent: the `Bootstrap` service.
//!
//! The guest is hostile. What it may read is what was offered to it by name; what it sends is
//! bounded in size and number, and every byte of a layer is checked before anything believes it.
//! The builder talks to the service through [`Conversation`]; the guest's calls become [`Event`]s.

mod agent;
mod terminal;
mod turns;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use firebuild_core::layer::Limits;
use firebuild_oci::LayerIndex;
use firebuild_protocol::chunk::{self, ChunkError};
use firebuild_protocol::command::Command;
use firebuild_protocol::v1;
use firebuild_store::{Blob, BlobWriter, Lease};
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use agent::Agents;
pub(crate) use terminal::Streams;
use terminal::Terminals;
pub(crate) use turns::Turns;

use crate::mounts::Material;
use crate::mounts::sensitive::Agent;

/// How many events may wait for the builder before the guest has to. Each may be a message of the
/// largest size.
const WAITING_EVENTS: usize = 2;

/// How many lines one message may have: an agent sends what it reads at once, 64 KiB. The limit of
/// bytes alone would let two million empty lines take a hundred megabytes.
const MOST_LINES: usize = 128 << 10;

/// The longest reason for an abort that is passed on, in bytes.
const LONGEST_REASON: usize = 4096;

/// What the guest did.
#[derive(Debug)]
pub(crate) enum Event {
    /// The agent asked for its first commands then, and said how it booted.
    Connected(v1::Boot, Instant),
    /// The running command wrote lines.
    Output {
        command: u32,
        stream: Output,
        lines: Vec<Vec<u8>>,
    },
    /// A RUN ended well, and this is its change.
    Layer { command: u32, blob: Blob },
    /// A RUN ended otherwise, or a layer was laid on.
    Finished { command: u32, exit: v1::exit::How },
    /// The agent gave up; `drive` is the serial of a cache's disk that it could not mount.
    Abort { reason: String, drive: String },
    /// The guest broke the protocol's rules.
    Violation(String),
    /// The host could not keep what the guest sent.
    Host(String),
    /// Everything is done.
    Success,
}

/// Which of its two outputs a command wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The builder's end.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// None once no command will follow.
    commands: Option<mpsc::UnboundedSender<Command>>,
    pub(crate) events: mpsc::Receiver<Event>,
    shared: Arc<Shared>,
}

impl Conversation {
    /// Gives the guest one more command.
    pub(crate) fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // The receiver lives as long as the service, which ends only with the VM.
            let _ = commands.send(command);
        }
    }

    /// Tells the guest that no command will follow.
    pub(crate) fn end(&mut self) {
        self.commands = None;
    }

    /// Lets the guest read something under the name `path`.
    pub(crate) fn give(&self, path: &str, material: Material) {
        let material = Arc::new(material);
        self.shared.resources().insert(path.to_owned(), material);
    }

    /// Takes back every secret that was given.
    pub(crate) fn withdraw_secrets(&self) {
        let is_secret = |material: &Material| matches!(material, Material::Secret(_));
        self.shared
            .resources()
            .retain(|_, material| !is_secret(material));
    }

    /// Lets `command` talk to these SSH agents, by the ids that its mounts name, until it has
    /// ended. To be called before the command is sent.
    pub(crate) fn allow_agents(&self, command: u32, agents: BTreeMap<String, Agent>) {
        self.shared.agents.allow(command, agents);
    }

    /// Ends what `command` was allowed.
    pub(crate) fn withdraw_agents(&self, command: u32) {
        self.shared.agents.end(command);
    }

    /// Lets the guest open the streams of `command`'s process. To be called before the command is
    /// sent.
    pub(crate) fn expect_terminal(&self, command: u32) -> Streams {
        self.shared.terminals.expect(command)
    }
}

#[derive(Debug)]
struct Shared {
    lease: Lease,
    /// The most bytes that one layer may have.
    layer_limit: u64,
    resources: Mutex<BTreeMap<String, Arc<Material>>>,
    agents: Agents,
    terminals: Terminals,
    /// Held while a resource is sent: what waits to be sent takes memory too.
    sending: Arc<Semaphore>,
    commands: tokio::sync::Mutex<mpsc::UnboundedReceiver<Command>>,
    events: mpsc::Sender<Event>,
}

impl Shared {
    fn resources(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Material>>> {
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service, to be served to one guest.
#[derive(Debug, Clone)]
pub(crate) struct Service(Arc<Shared>);

/// A service and the builder's end of it. A layer may have up to `layer_limit` bytes.
pub(crate) fn conversation(lease: Lease, layer_limit: u64) -> (Service, Conversation) {
    let (command_sender, commands) = mpsc::unbounded_channel();
    let (event_sender, events) = mpsc::channel(WAITING_EVENTS);
    let shared = Arc::new(Shared {
        lease,
        layer_limit,
        resources: Mutex::default(),
        agents: Agents::default(),
        terminals: Terminals::default(),
        sending: Arc::new(Semaphore::new(1)),
        commands: tokio::sync::Mutex::new(commands),
        events: event_sender,
    });
    (
        Service(shared.clone()),
        Conversation {
            commands: Some(command_sender),
            events,
            shared,
        },
    )
}

type AgentAnswers = Pin<Box<dyn Stream<Item = Result<v1::AgentData, Status>> + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = Result<v1::Chunk, Status>> + Send>>;

impl Service {
    async fn tell(&self, event: Event) -> Result<Response<v1::Empty>, Status> {
        self.0
            .events
            .send(event)
            .await
            .map_err(|_| Status::aborted("the build has ended"))?;
        Ok(Response::new(v1::Empty {}))
    }

    /// Tells the builder what the guest did wrong, and the guest too.
    async fn refuse(&self, what: String) -> Status {
        let _ = self.tell(Event::Violation(what.clone())).await;
        Status::invalid_argument(what)
    }

    async fn output(
        &self,
        message: v1::LogMessage,
        stream: Output,
    ) -> Result<Response<v1::Empty>, Status> {
        if message.line.len() > MOST_LINES {
            return Err(self
                .refuse(format!(
                    "it sent more than {MOST_LINES} lines in one message"
                ))
                .await);
        }
        let lines = message.line.into_iter().map(|line| line.to_vec()).collect();
        self.tell(Event::Output {
            command: message.command,
            stream,
            lines,
        })
        .await
    }

    /// Takes a whole layer into the store.
    async fn receive(
        &self,
        mut stream: Streaming<v1::LayerChunk>,
    ) -> Result<(u32, Blob), ReceiveError> {
        let mut writer = self.0.lease.blob_writer().map_err(ReceiveError::host)?;
        let mut receiver = chunk::Receiver::default();
        let mut command = None;
        while let Some(message) = stream.message().await.map_err(ReceiveError::Broken)? {
            if *command.get_or_insert(message.command) != message.command {
                return Err(ReceiveError::Guest(
                    "it mixed the layers of two commands".to_owned(),
                ));
            }
            let chunk = message.chunk.ok_or_else(|| {
                ReceiveError::Guest("it sent a message without a chunk".to_owned())
            })?;
            if let Some(data) = receiver.accept(chunk, self.0.layer_limit)? {
                writer.write_all(&data).map_err(ReceiveError::host)?;
            }
        }
        receiver.finish()?;
        let command =
            command.ok_or_else(|| ReceiveError::Guest("it sent an empty layer".to_owned()))?;
        // Other VMs are to be served while it is made durable and read.
        let kept = tokio::task::spawn_blocking(move || keep(writer)).await;
        Ok((command, kept.map_err(ReceiveError::host)??))
    }
}

/// Gives a layer its name, if it is one.
fn keep(writer: BlobWriter) -> Result<Blob, ReceiveError> {
    let staged = writer.finish().map_err(ReceiveError::host)?;
    LayerIndex::of_file(staged.file(), 0, Limits::default()).map_err(|error| {
        ReceiveError::Guest(format!(
            "it sent a layer that is not valid: {}",
            chain(&error)
        ))
    })?;
    staged.commit().map_err(ReceiveError::host)
}

/// Why a layer was not taken.
#[derive(Debug)]
enum ReceiveError {
    Guest(String),
    Host(String),
    Broken(Status),
}

impl ReceiveError {
    fn host(error: impl std::error::Error) -> Self {
        Self::Host(chain(&error))
    }
}

impl From<ChunkError> for ReceiveError {
    fn from(error: ChunkError) -> Self {
        Self::Guest(format!("it sent a layer that is not valid: {error}"))
    }
}

/// An error and its causes on one line, for a message that leaves the process.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[tonic::async_trait]
impl v1::bootstrap_server::Bootstrap for Service {
    type AgentStream = AgentAnswers;
    type TerminalStream = ReceiverStream<Result<v1::ToTerminal, Status>>;
    type ResourceChunkStream = Chunks;

    async fn commands(
        &self,
        request: Request<v1::CommandsRequest>,
    ) -> Result<Response<v1::CommandsResponse>, Status> {
        let request = request.into_inner();
        if request.finished == 0 {
            let boot = request.boot.unwrap_or_default();
            self.tell(Event::Connected(boot, Instant::now())).await?;
        }
        let mut waiting = self.0.commands.lock().await;
        // A closed channel means that no commands will follow.
        let mut commands: Vec<Command> = waiting.recv().await.into_iter().collect();
        while let Ok(command) = waiting.try_recv() {
            commands.push(command);
        }
        let commands = serde_json::to_string(&commands)
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::CommandsResponse { commands }))
    }

    async fn resource_chunk(
        &self,
        request: Request<v1::ResourceRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let path = request.into_inner().path;
        let material = self.0.resources().get(&path).cloned();
        let Some(material) = material else {
            let shown: String = path.chars().take(300).collect();
            return Err(Status::not_found(format!(
                "`{shown}` is not a resource of this build"
            )));
        };
        let turn = Arc::clone(&self.0.sending).acquire_owned().await;
        let turn = turn.map_err(|_| Status::aborted("the build has ended"))?;
        Ok(Response::new(match &*material {
            Material::File(path) => {
                let file = fs_err::File::open(path);
                let file = file.map_err(|error| Status::internal(error.to_string()))?;
                Box::pin(pieces(file, turn))
            }
            Material::Secret(content) => {
                Box::pin(pieces(std::io::Cursor::new(content.clone()), turn))
            }
        }))
    }

    async fn layer(
        &self,
        request: Request<Streaming<v1::LayerChunk>>,
    ) -> Result<Response<v1::LayerReceipt>, Status> {
        match self.receive(request.into_inner()).await {
            Ok((command, blob)) => {
                self.0.agents.end(command);
                self.tell(Event::Layer { command, blob }).await?;
                Ok(Response::new(v1::LayerReceipt {}))
            }
            Err(ReceiveError::Guest(what)) => Err(self.refuse(what).await),
            Err(ReceiveError::Host(what)) => {
                let _ = self.tell(Event::Host(what.clone())).await;
                Err(Status::internal(what))
            }
            Err(ReceiveError::Broken(status)) => Err(status),
        }
    }

    async fn agent(
        &self,
        request: Request<Streaming<v1::AgentData>>,
    ) -> Result<Response<Self::AgentStream>, Status> {
        let answers = self.0.agents.connect(request.into_inner()).await?;
        Ok(Response::new(Box::pin(answers)))
    }

    async fn terminal(
        &self,
        request: Request<Streaming<v1::FromTerminal>>,
    ) -> Result<Response<Self::TerminalStream>, Status> {
        let opened = self.0.terminals.open(request.into_inner()).await?;
        Ok(Response::new(opened))
    }

    async fn finished(
        &self,
        request: Request<v1::CommandResult>,
    ) -> Result<Response<v1::Empty>, Status> {
        let result = request.into_inner();
        self.0.agents.end(result.command);
        self.0.terminals.end(result.command);
        match result.exit.and_then(|exit| exit.how) {
            Some(exit) => {
                self.tell(Event::Finished {
                    command: result.command,
                    exit,
                })
                .await
            }
            None => Err(self
                .refuse("it did not say how a command ended".to_owned())
                .await),
        }
    }

    async fn std_out(
        &self,
        request: Request<v1::LogMessage>,
    ) -> Result<Response<v1::Empty>, Status> {
        self.output(request.into_inner(), Output::Stdout).await
    }

    async fn std_err(
        &self,
        request: Request<v1::LogMessage>,
    ) -> Result<Response<v1::Empty>, Status> {
        self.output(request.into_inner(), Output::Stderr).await
    }

    async fn ping(
        &self,
        request: Request<v1::PingRequest>,
    ) -> Result<Response<v1::PingResponse>, Status> {
        Ok(Response::new(v1::PingResponse {
            id: request.into_inner().id,
        }))
    }

    async fn abort(
        &self,
        request: Request<v1::AbortRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        let v1::AbortRequest {
            error: mut reason,
            drive,
        } = request.into_inner();
        if reason.len() > LONGEST_REASON {
            let end = (0..=LONGEST_REASON)
                .rev()
                .find(|at| reason.is_char_boundary(*at))
                .unwrap_or(0);
            reason.truncate(end);
        }
        self.tell(Event::Abort { reason, drive }).await
    }

    async fn success(&self, _: Request<v1::Empty>) -> Result<Response<v1::Empty>, Status> {
        self.tell(Event::Success).await
    }
}

/// A local file, or bytes in memory, as checked chunks, a megabyte at a time.
fn pieces(
    file: impl std::io::Read + Send,
    turn: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<v1::Chunk, Status>> + Send {
    let state = Some((file, chunk::Sender::default(), turn));
    futures::stream::unfold(state, |state| async {
        let (mut file, mut sender, turn) = state?;
        let mut data = Vec::with_capacity(chunk::SIZE);
        let read = (&mut file).take(chunk::SIZE as u64).read_to_end(&mut data);
        match read {
            Err(error) => Some((Err(Status::internal(error.to_string())), None)),
            Ok(0) => Some((Ok(sender.end()), None)),
            Ok(_) => Some((Ok(sender.piece(data)), Some((file, sender, turn)))),
        }
    })
}
