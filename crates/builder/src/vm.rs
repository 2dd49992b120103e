//! A stage's build VM: started when the first command needs it, kept for the next ones.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use firebuild_core::ByteSize;
use firebuild_machine::spec::{CertificateFiles, CniNetwork, Egress};
use firebuild_machine::vmm::VmmKind;
use firebuild_machine::vmm::firecracker::FirecrackerOptions;
use firebuild_machine::{Ended, Host, Machine, MachineSpec, Purpose, State};
use firebuild_plan::lower::BoxError;
use firebuild_plan::{Network, Origin, Run, Security};
use firebuild_protocol::command::{self, Command};
use firebuild_protocol::v1::bootstrap_server::BootstrapServer;
use firebuild_protocol::v1::exit::How;
use firebuild_store::{KernelId, Lease, Store};

use crate::bootstrap::{self, Conversation, Output, Turns};
use crate::error::{Exit, StepError};
use crate::mounts::cache::Disks;
use crate::mounts::sensitive::{Agent, masked};
use crate::mounts::{Material, Mounted};
use crate::progress::{Event, Place, Progress, StageRef};
use crate::rootfs::RootFs;
use crate::schedule::{Held, Slot};
use crate::stage::Layer;

/// How many of a failed command's last lines its error keeps.
const TAIL_LINES: usize = 20;

/// The longest part of such a line that is kept, in bytes.
const TAIL_LINE: usize = 4096;

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
    /// Which VMM is to run them; the best that the host has if none.
    pub vmm: Option<VmmKind>,
    /// What is asked of Firecracker, if that is the VMM.
    pub firecracker: FirecrackerOptions,
    /// More words for the kernel's command line.
    pub kernel_arguments: Vec<String>,
    /// The network by CNI that they are in; the host's own if none.
    pub cni: Option<CniNetwork>,
    /// What build VMs may reach.
    pub egress: Egress,
}

/// How a kernel is chosen.
#[derive(Debug, Clone)]
pub struct KernelChoice {
    /// The kernel that was named, if one was.
    pub wanted: Option<KernelId>,
    /// Gives the wanted kernel, or the one that there is; if it has to be fetched, tells that.
    pub choose: fn(&Store, Option<&KernelId>, &dyn Progress) -> Result<KernelId, BoxError>,
}

impl KernelChoice {
    fn make(&self, store: &Store, progress: &dyn Progress) -> Result<KernelId, crate::Error> {
        (self.choose)(store, self.wanted.as_ref(), progress).map_err(crate::Error::Kernel)
    }
}

/// What every build VM needs.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) options: &'a VmOptions,
    pub(crate) progress: &'a dyn Progress,
    /// Whether a failed command's root is kept to be looked into.
    pub(crate) keep: bool,
}

/// A command that failed and was kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) index: u32,
    /// The program of the shell that it had.
    pub(crate) shell: Option<String>,
    /// The agents that it could talk to.
    pub(crate) agents: BTreeMap<String, Agent>,
}

/// A build VM and the conversation with its agent.
pub(crate) struct BuildVm<'a> {
    progress: &'a dyn Progress,
    stage: StageRef<'a>,
    started: Instant,
    machine: Machine,
    pub(crate) conversation: Conversation,
    /// How many of the stage's layers the guest has.
    laid: usize,
    /// The number of the next command.
    next: u32,
    keep: bool,
    kept: Option<Kept>,
    /// Dropped after the machine, like the slot.
    disks: Disks,
    _slot: Slot,
}

impl<'a> BuildVm<'a> {
    /// Starts a stage's VM on a root file system and the number of the stage's layers in it.
    pub(crate) async fn start(
        ground: Ground<'a>,
        stage: StageRef<'a>,
        (root, laid): (RootFs, usize),
        (slot, disks): (Slot, Disks),
    ) -> Result<Self, StepError> {
        let Ground {
            lease,
            options,
            progress,
            keep,
        } = ground;
        let started = Instant::now();
        let store = lease.store();
        let kernel = options.kernel.make(store, progress)?;
        let spec = MachineSpec {
            cpus: options.cpus,
            memory: options.memory,
            disk: options.disk,
            hostname: Some("buildkitsandbox".to_owned()),
            connect_time: options.connect_time,
            remove: true,
            certificates: options.certificates.clone(),
            vmm: options.vmm,
            firecracker: options.firecracker.clone(),
            kernel_arguments: options.kernel_arguments.clone(),
            cni: options.cni.clone(),
            egress: options.egress.clone(),
            ..MachineSpec::new(Purpose::Build, root.images, kernel)
        };
        let (service, conversation) = bootstrap::conversation(lease.clone(), options.disk.0);
        let server = BootstrapServer::new(service)
            .max_decoding_message_size(firebuild_protocol::MESSAGE_LIMIT);
        let server = Turns::new(server);
        let mut machine = Machine::create(&options.host, spec)?;
        for disk in disks.attached()? {
            machine.add_disk(disk);
        }
        let id = machine.id().to_string();
        progress.event(Event::VmStarting { stage, id: &id });
        machine.start(server).await?;
        machine.connected().await?;
        machine.mark_running()?;
        progress.event(Event::VmReady {
            stage,
            id: &id,
            duration: started.elapsed(),
        });
        Ok(Self {
            progress,
            stage,
            started,
            machine,
            conversation,
            laid,
            next: 0,
            keep,
            kept: None,
            disks,
            _slot: slot,
        })
    }

    /// Lays the stage's layers on that the guest does not have yet.
    pub(crate) async fn lay_on(
        &mut self,
        store: &Store,
        layers: &[Layer],
        origin: &Origin,
    ) -> Result<(), StepError> {
        let lease = store.lease()?;
        for layer in &layers[self.laid..] {
            // These are small, so this is quickly done even for one that is kept compressed.
            firebuild_oci::plain_layer(&lease, &layer.digest).map_err(crate::Error::from)?;
            let index = self.number();
            let resource = format!("layers/{}", layer.digest);
            self.conversation
                .give(&resource, Material::File(store.blob_path(&layer.digest)));
            self.conversation.send(Command::Copy(command::Lay {
                index,
                original: origin.text.clone(),
                resource,
            }));
            self.laid_on(index).await?;
            self.laid += 1;
        }
        Ok(())
    }

    /// Takes what a cache holds, as a layer.
    pub(crate) async fn save(&mut self, disk: String) -> Result<Layer, StepError> {
        let index = self.number();
        self.conversation
            .send(Command::Save(command::Save { index, disk }));
        loop {
            match self.event().await? {
                bootstrap::Event::Layer { command, blob } if command == index => {
                    return Ok(Layer {
                        digest: blob.digest,
                        size: blob.size,
                    });
                }
                bootstrap::Event::Connected(..) => {}
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Puts a layer into a new cache.
    pub(crate) async fn fill(
        &mut self,
        store: &Store,
        disk: String,
        layer: &firebuild_core::Digest,
    ) -> Result<(), StepError> {
        let (index, resource) = (self.number(), format!("fill/{layer}"));
        self.conversation
            .give(&resource, Material::File(store.blob_path(layer)));
        self.conversation.send(Command::Fill(command::Fill {
            index,
            disk,
            resource,
        }));
        self.laid_on(index).await
    }

    /// Waits until the guest has laid something on.
    async fn laid_on(&mut self, index: u32) -> Result<(), StepError> {
        loop {
            match self.event().await? {
                bootstrap::Event::Finished {
                    command,
                    exit: How::Status(0),
                } if command == index => return Ok(()),
                bootstrap::Event::Connected(..) | bootstrap::Event::Output { .. } => {}
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// The disks of its caches.
    pub(crate) fn disks(&self) -> &Disks {
        &self.disks
    }

    /// Executes a command. The result is its change. What is secret among the materials of its
    /// mounts is withdrawn when it has ended.
    pub(crate) async fn run(
        &mut self,
        run: &Run,
        mounted: Mounted,
        origin: &Origin,
        place: Place<'_>,
    ) -> Result<Layer, StepError> {
        let index = self.number();
        let mut command = wire(index, run, &mounted, origin);
        command.keep = self.keep;
        let secrets = mounted.secrets;
        for (name, material) in mounted.materials {
            self.conversation.give(&name, material);
        }
        if !mounted.agents.is_empty() {
            let agents = mounted.agents.clone();
            self.conversation.allow_agents(index, agents);
        }
        self.conversation.send(Command::Run(command));
        let result = self.follow(index, &secrets, place).await;
        self.conversation.withdraw_secrets();
        if self.keep && matches!(result, Err(StepError::Command { .. })) {
            self.kept = Some(Kept {
                index,
                shell: run.shell.first().cloned(),
                agents: mounted.agents,
            });
        }
        result
    }

    /// Whether there is a failed command to be looked into.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// The failed command, to be looked into.
    pub(crate) fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    /// Whose VM it is.
    pub(crate) fn stage(&self) -> StageRef<'_> {
        self.stage
    }

    /// Waits for the end of a command, and shows what it writes.
    async fn follow(
        &mut self,
        index: u32,
        secrets: &[Vec<u8>],
        place: Place<'_>,
    ) -> Result<Layer, StepError> {
        let mut tail = VecDeque::new();
        loop {
            match self.event().await? {
                bootstrap::Event::Output {
                    command,
                    stream,
                    lines,
                } if command == index => {
                    for line in lines {
                        let line = masked(line, secrets);
                        self.progress.event(Event::Line {
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
                bootstrap::Event::Connected(..) => {}
                other => return Err(self.unexpected(&other)),
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
        self.release(State::Stopped {
            exit: firebuild_machine::record::Exit::Status(0),
        })
        .await
    }

    /// Stops the VM of a build that failed. That error is the one that counts.
    pub(crate) async fn abandon(self) {
        let reason = firebuild_machine::Report::new("the build failed");
        let _ = self.release(State::Failed { reason }).await;
    }

    async fn release(self, end: State) -> Result<(), crate::Error> {
        let id = self.machine.id().to_string();
        let released = self.machine.release(end).await;
        self.progress.event(Event::VmEnded {
            stage: self.stage,
            id: &id,
            duration: self.started.elapsed(),
        });
        released.map(drop).map_err(|(_, error)| error.into())
    }

    pub(crate) fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// An event that ends the step, or should not have come.
    pub(crate) fn unexpected(&self, event: &bootstrap::Event) -> StepError {
        match event {
            bootstrap::Event::Abort { reason, drive } => match self.disks.id(drive) {
                Some(id) => StepError::DamagedCache {
                    id: id.to_owned(),
                    reason: reason.clone(),
                },
                None => StepError::Abort(reason.clone()),
            },
            bootstrap::Event::Violation(what) => StepError::Violation(what.clone()),
            bootstrap::Event::Host(what) => StepError::Host(what.clone()),
            _ => StepError::Violation("it spoke of a command that does not run".to_owned()),
        }
    }

    /// What the guest does next. What it did before its end comes before the end.
    pub(crate) async fn event(&mut self) -> Result<bootstrap::Event, StepError> {
        tokio::select! {
            biased;
            Some(event) = self.conversation.events.recv() => {
                if let bootstrap::Event::Connected(boot, received) = &event {
                    self.machine.note_boot(boot, *received);
                }
                Ok(event)
            }
            ended = self.machine.ended() => Err(match ended {
                Ended::Vmm(_) => StepError::Ended(self.machine.console()),
                Ended::Silent(time) => StepError::Silent(time),
            }),
        }
    }
}

impl Held for BuildVm<'_> {
    type Error = crate::Error;

    async fn give_back(self) -> Result<(), crate::Error> {
        self.finish().await
    }
}

fn wire(index: u32, run: &Run, mounted: &Mounted, origin: &Origin) -> command::Run {
    use firebuild_plan::operation::Command as Planned;
    let environment = run.environment.iter().chain(&mounted.variables);
    command::Run {
        index,
        original: origin.text.clone(),
        form: match &run.command {
            Planned::Shell(text) => command::Form::Shell(text.clone()),
            Planned::Exec(arguments) => command::Form::Exec(arguments.clone()),
        },
        shell: run.shell.clone(),
        environment: environment.cloned().collect(),
        build_args: run.build_args.clone(),
        workdir: run.workdir.clone(),
        user: run.user.clone(),
        hostname: run.hostname.clone(),
        offline: run.network == Network::None,
        privileged: run.security == Security::Insecure,
        keep: false,
        mounts: mounted.mounts.clone(),
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
