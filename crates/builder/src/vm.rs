//! A stage's build VM: started when the first command needs it, kept for the next ones.

use std::collections::VecDeque;
use std::time::Duration;

use firebuild_core::ByteSize;
use firebuild_machine::spec::CertificateFiles;
use firebuild_machine::{Ended, Host, Machine, MachineSpec, Purpose, State};
use firebuild_plan::lower::BoxError;
use firebuild_plan::{Origin, Run};
use firebuild_protocol::command::{self, Command};
use firebuild_protocol::v1::bootstrap_server::BootstrapServer;
use firebuild_protocol::v1::exit::How;
use firebuild_store::{KernelId, Lease, Store};

use crate::bootstrap::{self, Conversation, Output, Turns};
use crate::error::{Exit, StepError};
use crate::progress::{Event, Place, Progress};
use crate::rootfs;
use crate::stage::{Layer, StageState};

/// How many of a failed command's last lines its error keeps.
const TAIL_LINES: usize = 20;

/// The longest part of such a line that is kept, in bytes.
const TAIL_LINE: usize = 4096;

/// Layers above a root file system that exists already are laid on in the guest up to this size
/// together; beyond it, a new root file system is quicker.
const LAID_ON_LIMIT: u64 = 16 << 20;

/// How long the agent may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);

/// How build VMs are made.
#[derive(Debug, Clone)]
pub struct VmOptions {
    /// Where they run.
    pub host: Host,
    /// What they boot; asked for when the first one starts, because most builds start none.
    pub kernel: KernelChoice,
    /// Number of processors: 1 to 32.
    pub cpus: u8,
    /// Memory in MiB.
    pub memory: u32,
    /// How much all the steps of a stage may write together.
    pub disk: ByteSize,
    /// How long the guest has to reach the host; the usual time if none.
    pub connect_time: Option<Duration>,
    /// The user's own certificates; one-time ones if none.
    pub certificates: Option<CertificateFiles>,
}

/// How a kernel is chosen.
#[derive(Debug, Clone)]
pub struct KernelChoice {
    /// The kernel that was named, if one was.
    pub wanted: Option<KernelId>,
    /// Gives the wanted kernel, or the one that there is.
    pub choose: fn(&Store, Option<&KernelId>) -> Result<KernelId, BoxError>,
}

impl KernelChoice {
    fn make(&self, store: &Store) -> Result<KernelId, crate::Error> {
        (self.choose)(store, self.wanted.as_ref()).map_err(crate::Error::Kernel)
    }
}

/// A build VM and the conversation with its agent.
#[derive(Debug)]
pub(crate) struct BuildVm {
    machine: Machine,
    conversation: Conversation,
    /// How many of the stage's layers the guest has.
    laid: usize,
    /// The number of the next command.
    next: u32,
}

impl BuildVm {
    /// Starts a VM on the files of a stage as it is so far.
    pub(crate) async fn start(
        lease: &Lease,
        options: &VmOptions,
        state: &StageState,
        progress: &mut dyn Progress,
    ) -> Result<Self, StepError> {
        let store = lease.store();
        let laid = ready(store, &state.layers);
        let root = rootfs::of_layers(store, state, laid)?;
        let spec = MachineSpec {
            purpose: Purpose::Build,
            name: None,
            image: None,
            rootfs: root.key,
            kernel: options.kernel.make(store)?,
            kernel_arguments: Vec::new(),
            cpus: options.cpus,
            memory: options.memory,
            disk: options.disk,
            hostname: Some("buildkitsandbox".to_owned()),
            address: None,
            ports: Vec::new(),
            connect_time: options.connect_time,
            remove: true,
            certificates: options.certificates.clone(),
        };
        let (service, conversation) = bootstrap::conversation(lease.clone(), options.disk.0);
        let server = BootstrapServer::new(service)
            .max_decoding_message_size(firebuild_protocol::MESSAGE_LIMIT);
        let server = Turns::new(server);
        let mut machine = Machine::create(&options.host, spec)?;
        progress.event(Event::Note {
            text: &format!("starting build VM {}", machine.id()),
        });
        machine.start(server).await?;
        machine.connected().await?;
        machine.mark_running()?;
        Ok(Self {
            machine,
            conversation,
            laid,
            next: 0,
        })
    }

    /// Lays the stage's layers on that the guest does not have yet.
    pub(crate) async fn lay_on(
        &mut self,
        store: &Store,
        layers: &[Layer],
        origin: &Origin,
    ) -> Result<(), StepError> {
        for layer in &layers[self.laid..] {
            let index = self.number();
            let resource = format!("layers/{}", layer.digest);
            self.conversation
                .offer(&resource, store.blob_path(&layer.digest));
            self.conversation.send(Command::Copy(command::Lay {
                index,
                original: origin.text.clone(),
                resource,
            }));
            loop {
                match self.event().await? {
                    bootstrap::Event::Finished {
                        command,
                        exit: How::Status(0),
                    } if command == index => break,
                    bootstrap::Event::Connected | bootstrap::Event::Output { .. } => {}
                    other => return Err(unexpected(&other)),
                }
            }
            self.laid += 1;
        }
        Ok(())
    }

    /// Executes a command. The result is its change.
    pub(crate) async fn run(
        &mut self,
        run: &Run,
        origin: &Origin,
        place: Place<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Layer, StepError> {
        let index = self.number();
        self.conversation
            .send(Command::Run(wire(index, run, origin)));
        let mut tail = VecDeque::new();
        loop {
            match self.event().await? {
                bootstrap::Event::Output {
                    command,
                    stream,
                    lines,
                } if command == index => {
                    for line in lines {
                        progress.event(Event::Line {
                            place,
                            output: stream,
                            line: &line,
                        });
                        keep(&mut tail, stream, line);
                    }
                }
                bootstrap::Event::Layer { command, blob } if command == index => {
                    let layer = Layer {
                        digest: blob.digest,
                        size: blob.size,
                    };
                    self.laid += usize::from(layer.unless_empty().is_some());
                    return Ok(layer);
                }
                bootstrap::Event::Finished { command, exit } if command == index => {
                    let exit = match exit {
                        How::Status(status) => Exit::Status(status),
                        How::Signal(signal) => Exit::Signal(signal),
                    };
                    return Err(StepError::Command {
                        exit,
                        tail: tail.into(),
                    });
                }
                bootstrap::Event::Connected => {}
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Lets the agent say goodbye, and gives everything back. The VM's disk has nothing that is
    /// still needed, so nobody waits for it to be written.
    pub(crate) async fn finish(mut self) -> Result<(), crate::Error> {
        self.conversation.end();
        let goodbye = async {
            while !matches!(self.event().await, Ok(bootstrap::Event::Success) | Err(_)) {}
        };
        // A guest that does not say it is stopped all the same.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        self.machine
            .release(State::Stopped {
                exit: firebuild_machine::record::Exit::Status(0),
            })
            .await
            .map_err(|(_, error)| error)?;
        Ok(())
    }

    /// Stops the VM of a build that failed. That error is the one that counts.
    pub(crate) async fn abandon(self) {
        let _ = self
            .machine
            .release(State::Failed {
                reason: firebuild_machine::Report::new("the build failed"),
            })
            .await;
    }

    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// What the guest does next. What it did before its end comes before the end.
    async fn event(&mut self) -> Result<bootstrap::Event, StepError> {
        tokio::select! {
            biased;
            Some(event) = self.conversation.events.recv() => Ok(event),
            ended = self.machine.ended() => Err(match ended {
                Ended::Vmm(_) => StepError::Ended(self.machine.console()),
                Ended::Silent(time) => StepError::Silent(time),
            }),
        }
    }
}

/// How many of the layers a root file system that exists has, if the rest is little; else all.
fn ready(store: &Store, layers: &[Layer]) -> usize {
    let mut above = 0;
    for count in (0..=layers.len()).rev() {
        if store.rootfs_path(&rootfs::key(&layers[..count])).exists() {
            return count;
        }
        let Some(layer) = count.checked_sub(1).and_then(|top| layers.get(top)) else {
            break;
        };
        above += layer.size;
        if above > LAID_ON_LIMIT {
            break;
        }
    }
    layers.len()
}

fn wire(index: u32, run: &Run, origin: &Origin) -> command::Run {
    use firebuild_plan::operation::Command as Planned;
    command::Run {
        index,
        original: origin.text.clone(),
        form: match &run.command {
            Planned::Shell(text) => command::Form::Shell(text.clone()),
            Planned::Exec(arguments) => command::Form::Exec(arguments.clone()),
        },
        shell: run.shell.clone(),
        environment: run.environment.clone(),
        build_args: run.build_args.clone(),
        workdir: run.workdir.clone(),
        user: run.user.clone(),
        hostname: run.hostname.clone(),
        offline: false,
        privileged: false,
        mounts: Vec::new(),
        files: run
            .files
            .iter()
            .map(|file| command::File {
                path: file.path.clone(),
                mode: file.mode,
                content: file.content.clone(),
            })
            .collect(),
    }
}

fn keep(tail: &mut VecDeque<(Output, Vec<u8>)>, stream: Output, mut line: Vec<u8>) {
    line.truncate(TAIL_LINE);
    line.shrink_to_fit();
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back((stream, line));
}

/// An event that ends the step, or should not have come.
fn unexpected(event: &bootstrap::Event) -> StepError {
    match event {
        bootstrap::Event::Abort(reason) => StepError::Abort(reason.clone()),
        bootstrap::Event::Violation(what) => StepError::Violation(what.clone()),
        bootstrap::Event::Host(what) => StepError::Host(what.clone()),
        _ => StepError::Violation("it spoke of a command that does not run".to_owned()),
    }
}
