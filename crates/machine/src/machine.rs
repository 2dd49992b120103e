//! A VM's life as its owner has it in hand: a supervisor, or a build.
//!
//! [`Machine::create`] writes the record and takes the lock; [`Machine::start`] brings up network,
//! disk, services and VMM; [`Machine::connected`] waits for the agent; [`Machine::ended`] waits for
//! the end; [`Machine::release`] gives everything back. The record's documentation
//! ([`crate::record`]) has the states.
//!
//! What must hold: whatever a step made is found by [`Machine::release`] even if the step failed,
//! and by [`crate::reconcile`] if the process was killed. Dropping a machine releases it.

mod network;

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use firebuild_core::MachineId;
use firebuild_network::Attachment;
use firebuild_protocol::boot::BootArguments;
use firebuild_protocol::metadata::{Credentials, Metadata};
use firebuild_protocol::secret::Ssh;
use firebuild_protocol::workload::Workload;
use firebuild_protocol::{HOST_ADDRESS, METADATA_ADDRESS};
use firebuild_store::{Identity, MachineLock};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::agent::{self, Agent, Contact, GuestService, Options, Sides};
use crate::boot::{CommandLine, Needs, tsc_khz};
use crate::change::Change;
use crate::error::Report;
use crate::events::{self, Action};
use crate::health::{Health, HealthStatus};
use crate::limits::Limits;
use crate::metadata::withdraw::Withdrawing;
use crate::paths::Directories;
use crate::record::{self, Record, State};
use crate::secret::Contents;
use crate::spec::{CONNECT_TIME, MachineSpec, Purpose};
use crate::vmm::{Acceleration, AttachedDisk, Launch, Running, Vmm, VmmExit, group};
use crate::volumes::{self, Layout};
use crate::{Error, Host, admission, disk, metadata, rate, reconcile, share};

/// How often the guest is to be heard, in milliseconds.
const PING_INTERVAL: u32 = 5_000;

/// How long a build's guest may say nothing, without emulation.
const SILENCE: Duration = Duration::from_secs(30);

/// How many calls a guest that runs a workload may have at once: its session, and one for each of
/// what commands want beside the workload.
const CALLS: u32 = 128;

/// How many bytes of each may be under way.
const CALL_WINDOW: u32 = 64 << 10;

/// How long a VMM that does not answer may take to end, and so to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often the record is written at most because of the workload's health.
const HEALTH_NOTES: Duration = Duration::from_secs(1);

/// How many lines of a console are shown with an error.
const SHOWN_LINES: usize = 12;

/// A VM in the hands of its owner.
#[derive(Debug)]
pub struct Machine {
    host: Host,
    record: Record,
    lock: Option<MachineLock>,
    /// Kept for its reserved ports.
    attachment: Option<Attachment>,
    services: Option<Services>,
    running: Option<Running>,
    /// What runs it.
    vmm: Option<Arc<dyn Vmm>>,
    patience: u32,
    /// Disks that the VM gets when it is started.
    attached: Vec<AttachedDisk>,
    /// Its volumes while it runs: they are locked for as long as they are open, and not every VMM gets
    /// these very files.
    held: Vec<File>,
    /// When the record was last written because of the workload's health, and how that was.
    health_written: Option<(Instant, HealthStatus)>,
    /// What is in its secrets.
    secrets: Contents,
}

#[derive(Debug)]
struct Services {
    agent: Agent,
    metadata: metadata::Service,
    listening: Option<AbortHandle>,
    names: Option<AbortHandle>,
}

impl Drop for Services {
    fn drop(&mut self) {
        for task in self.listening.iter().chain(&self.names) {
            task.abort();
        }
    }
}

/// Why a VM that ran runs no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its VMM has ended: the guest powered off or rebooted, or something killed it.
    Vmm(VmmExit),
    /// Its guest has said nothing for this long.
    Silent(Duration),
}

impl Machine {
    /// Writes the record of a new VM and takes its lock.
    ///
    /// # Errors
    /// [`Error::Spec`]; [`Error::SocketPath`]; [`Error::Store`] if the name is taken or the root
    /// file system is not there.
    pub fn create(host: &Host, spec: MachineSpec) -> Result<Self, Error> {
        spec.check()?;
        let id = MachineId::from_random(crate::random()?);
        let directories = Directories::of(&host.store, &host.run, &id)?;
        let identity = Identity {
            id: id.clone(),
            name: spec.name.clone(),
            rootfs: spec.rootfs.clone(),
        };
        let record = Record::new(id, spec, directories);
        // Until the record is there, and counts.
        let _admission = admission::admit(host, &record)?;
        let lock = host
            .store
            .machines()
            .create(&identity, &record::encode(&record)?)?;
        events::note(&host.store, &record, Action::Create);
        Ok(Self::new(host.clone(), record, lock))
    }

    /// Takes over a VM that [`create`](Self::create) made in another process.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Io`] if the record cannot be understood.
    pub fn adopt(host: &Host, lock: MachineLock) -> Result<Self, Error> {
        let record = record::read(&host.store, lock.id())?;
        Ok(Self::new(host.clone(), record, lock))
    }

    /// Takes a VM that has ended, to begin once more: it is [`State::Starting`] from now on.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Io`] if the record cannot be understood; [`Error::Spec`] if the VM is
    /// one that is not kept.
    pub fn begin_again(host: &Host, lock: MachineLock) -> Result<Self, Error> {
        let mut machine = Self::adopt(host, lock)?;
        if !machine.record.lasts() {
            let text = format!("VM `{}` is not one that can be started again", machine.id());
            return Err(Error::Spec(text));
        }
        let _admission = admission::admit(host, &machine.record)?;
        machine.record.begin_again();
        machine.save()?;
        Ok(machine)
    }

    fn new(host: Host, record: Record, lock: MachineLock) -> Self {
        Self {
            host,
            record,
            lock: Some(lock),
            attachment: None,
            services: None,
            running: None,
            vmm: None,
            patience: 1,
            attached: Vec::new(),
            held: Vec::new(),
            health_written: None,
            secrets: Contents::default(),
        }
    }

    /// The VM.
    #[must_use]
    pub fn id(&self) -> &MachineId {
        &self.record.id
    }

    /// Its record as it is now.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Leaves the VM to a child process, which inherits the lock: nothing is released here.
    ///
    /// # Errors
    /// [`Error::Store`] if too many files are open.
    pub fn hand_over(mut self) -> Result<OwnedFd, Error> {
        match self.lock.take() {
            Some(lock) => Ok(lock.hand_over()?),
            None => Err(Error::NotRunning(self.id().clone())),
        }
    }

    /// By how much time-outs are longer on this host: 4 under emulation.
    #[must_use]
    pub fn patience(&self) -> u32 {
        self.patience
    }

    /// Gives the VM what is in its secrets.
    pub fn set_secrets(&mut self, secrets: Contents) {
        self.secrets = secrets;
    }

    /// What the guest is told to run: `workload` with all that it finds around it.
    pub(crate) fn furnished(&self, workload: Workload) -> Workload {
        let spec = &self.record.spec;
        let ssh = spec.ssh.as_ref().map(|access| Ssh {
            user: access.user.clone(),
            keys: access.keys.clone(),
        });
        Workload {
            secrets: self.secrets.told(&spec.secrets),
            ssh,
            ..volumes::furnished(workload, spec)
        }
    }

    /// Gives the VM one more disk, which it writes to and which outlives it. Has to be called before
    /// [`start`](Self::start); the record does not tell of it.
    pub fn add_disk(&mut self, disk: AttachedDisk) {
        self.attached.push(disk);
    }

    /// Brings up everything, with `service` for the guest's agent to call. Has to be called within
    /// a tokio runtime.
    ///
    /// # Errors
    /// The first that goes wrong; [`release`](Self::release) takes back what was done.
    pub async fn start<S: GuestService>(&mut self, service: S) -> Result<(), Error> {
        let vmm = self.host.vmm_for(&self.record.spec)?;
        vmm.check(&self.record.spec)?;
        self.vmm = Some(Arc::clone(&vmm));
        self.patience = vmm.facts().acceleration.patience();
        self.record.state = State::Starting;
        self.record.processes.owner = Some(std::process::id());
        self.record.vmm = Some(vmm.facts().clone());
        self.save()?;
        self.make_runtime()?;
        let spec = &self.record.spec;
        let needs = Needs {
            verity: spec.verity.is_some(),
            sharing: spec.mounts.iter().any(|mount| mount.shared().is_some()),
        };
        let boot = (self.host.kernels)(&self.host.store, &spec.kernel, needs)?;
        let sides = match &self.record.spec.certificates {
            Some(files) => Sides::read(files)?,
            None => Sides::generate(self.id())?,
        };
        let disk = disk::open(&self.record)?;
        let roots = disk::open_roots(&self.host.store, &self.record)?;
        self.check_devices(vmm.as_ref(), boot.acpi)?;
        let volumes = volumes::open(&self.host.store, &self.record)?;
        self.held = volumes::duplicates(&volumes)?;
        self.attached.extend(volumes);
        self.attach(vmm.as_ref())?;
        let document = self.serve(vmm.as_ref(), &sides, service)?;
        let (namespace, interfaces) = self.interfaces()?;
        let ids = self.ids().filter(|ids| ids.are_possible());
        let layout = Layout::of(&self.record.spec.mounts);
        let shares = share::serve(&layout, &self.record.directories.runtime)?;
        let launch = Launch {
            shares,
            id: self.id().clone(),
            cpus: self.record.spec.cpus,
            memory: self.record.spec.memory,
            command_line: self.command_line(vmm.as_ref())?,
            kernel: boot.kernel,
            initramfs: boot.initramfs,
            acpi: boot.acpi,
            roots,
            disk,
            disk_lasts: self.record.lasts(),
            limits: self.record.spec.limits,
            attached: std::mem::take(&mut self.attached),
            namespace,
            interfaces,
            ids,
            runtime: self.record.directories.runtime.clone(),
            console: self.record.directories.console.clone(),
            metadata: document.document(),
            firecracker: self.record.spec.firecracker.clone(),
        };
        if let Some(attachment) = &mut self.attachment {
            // Taps have one user at a time; the VMM's own descriptor is passed on with the launch.
            attachment.close_taps();
        }
        if let Some(rate) = launch.limits.network {
            let taps = launch.interfaces.iter().map(|it| it.device.clone());
            rate::limit(&launch.namespace, &taps.collect::<Vec<_>>(), rate)?;
        }
        let running = vmm.start(launch).await?;
        self.record.processes.vmm = Some(running.pid());
        self.record.processes.vmm_user = ids.map(|ids| ids.uid);
        self.running = Some(running);
        self.save()
    }

    /// Waits until the agent has called, and withdraws the secrets from the metadata.
    ///
    /// # Errors
    /// [`Error::VmmFailed`], [`Error::GuestFailed`], [`Error::GuestTimeout`].
    pub async fn connected(&mut self) -> Result<(), Error> {
        let (Some(running), Some(services)) = (&self.running, &self.services) else {
            return Err(Error::NotRunning(self.id().clone()));
        };
        let limit = self.connect_time();
        let mut contact = services.agent.contact();
        let called = contact.wait_for(|contact| *contact != Contact::Waiting);
        tokio::select! {
            biased;
            _ = called => {}
            exit = running.ended() => return Err(self.start_failed(running, exit)),
            () = tokio::time::sleep(limit) => return Err(Error::GuestTimeout {
                id: self.id().clone(),
                after: limit,
                console: running.console(SHOWN_LINES),
            }),
        }
        services.metadata.withdraw_secrets();
        if services.listening.is_none()
            && let Some(vmm) = &self.vmm
        {
            let running = running.clone();
            let document = services.metadata.document();
            if let Err(error) = vmm.set_metadata(&running, &document).await {
                // A VM that has just ended says itself why.
                let ended = tokio::time::timeout(LAST_WORDS, running.ended()).await;
                return Err(ended.map_or(error, |exit| self.start_failed(&running, exit)));
            }
        }
        Ok(())
    }

    /// Notes that what the VM is for runs now.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn mark_running(&mut self) -> Result<(), Error> {
        self.record.state = State::Running;
        self.record.started = Some(Timestamp::now());
        self.record.health = match &self.record.spec.purpose {
            Purpose::Run { workload, .. } if workload.health.is_some() => Some(Health::new()),
            _ => None,
        };
        self.health_written = None;
        self.note(Action::Start);
        self.save()
    }

    /// Notes how the workload is, as its guest says. Whatever a guest says, the record is not written
    /// more than once a second for it; what is not written is written with the next note.
    pub(crate) fn note_health(&mut self, probed: &firebuild_protocol::v1::Probed) {
        let Some(health) = &mut self.record.health else {
            // Nobody asked.
            return;
        };
        health.note(probed, Timestamp::now());
        let status = health.status;
        let before = self.health_written;
        if before.is_some_and(|(written, _)| written.elapsed() < HEALTH_NOTES) {
            return;
        }
        self.health_written = Some((Instant::now(), status));
        // A full disk must not stop the workload; what fits later is kept again.
        let _ = self.save();
        if before.is_none_or(|(_, told)| told != status) && status != HealthStatus::Starting {
            let more = [("health", status.word())];
            events::write(&self.host.store, &self.record, "health_status", &more);
        }
    }

    /// Notes that the VM was asked to end.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn mark_stopping(&mut self) -> Result<(), Error> {
        self.record.state = State::Stopping;
        self.note(Action::Stop);
        self.save()
    }

    /// Waits for the VM's end, and does not bring it about. Returns at once if it does not run.
    pub async fn ended(&self) -> Ended {
        let (Some(running), Some(services)) = (&self.running, &self.services) else {
            return Ended::Vmm(VmmExit::Unknown);
        };
        let mut contact = services.agent.contact();
        let silent = contact.wait_for(|contact| *contact == Contact::Silent);
        tokio::select! {
            biased;
            exit = running.ended() => Ended::Vmm(exit),
            Ok(_) = silent => Ended::Silent(self.silence()),
        }
    }

    /// The VMM's process.
    #[must_use]
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// The last lines of the guest's console.
    #[must_use]
    pub fn console(&self) -> Vec<String> {
        self.running
            .as_ref()
            .map(|running| running.console(SHOWN_LINES))
            .unwrap_or_default()
    }

    /// Kills the VMM. [`ended`](Self::ended) tells when it is gone.
    pub fn kill(&self) {
        if let Some(running) = &self.running {
            running.kill();
        }
    }

    /// Ends the VM if it runs, gives back everything that it had, and writes its last record. For a
    /// build, and with `--rm`, the record goes as well. The lock is free afterwards.
    ///
    /// # Errors
    /// What could not be given back, beside the last record: the next command tries again.
    pub async fn release(mut self, end: State) -> Result<Record, (Record, Error)> {
        self.end().await;
        self.record.finish(end);
        match self.give_back() {
            Ok(()) => Ok(self.record.clone()),
            Err(error) => Err((self.record.clone(), error)),
        }
    }

    /// Ends the VM if it runs, and waits until its VMM is gone.
    pub async fn end(&self) {
        if let Some(running) = &self.running {
            running.kill();
            running.ended().await;
        }
    }

    /// Ends the VM if it runs, and gives back everything but its lock, its disk and its directory of
    /// sockets: it will be started again.
    ///
    /// # Errors
    /// What could not be given back; [`Error::Store`].
    pub async fn rest(&mut self, end: &State) -> Result<(), Error> {
        self.end().await;
        events::note_end(&self.host.store, &self.record, end);
        self.running = None;
        self.held.clear();
        self.services = None;
        self.attachment = None;
        self.record.processes.vmm = None;
        let cleared = reconcile::clear(&self.host, &self.record);
        self.record.state = State::Restarting;
        self.note(Action::Restart);
        self.record.restart_count = self.record.restart_count.saturating_add(1);
        self.save().and(cleared)
    }

    /// Stops the guest's processors.
    ///
    /// # Errors
    /// [`Error::NotRunning`]; those of the VMM.
    pub async fn pause(&mut self) -> Result<(), Error> {
        self.switch(true).await
    }

    /// Lets the guest's processors go on.
    ///
    /// # Errors
    /// [`Error::NotRunning`]; those of the VMM.
    pub async fn resume(&mut self) -> Result<(), Error> {
        self.switch(false).await
    }

    async fn switch(&mut self, to_paused: bool) -> Result<(), Error> {
        let (from, to) = match to_paused {
            true => (State::Running, State::Paused),
            false => (State::Paused, State::Running),
        };
        if self.record.state == to {
            return Ok(());
        }
        let running = self.running.clone().filter(|_| self.record.state == from);
        let (running, vmm) = running
            .zip(self.vmm.clone())
            .ok_or_else(|| Error::NotRunning(self.id().clone()))?;
        match to_paused {
            true => vmm.pause(&running).await?,
            false => vmm.resume(&running).await?,
        }
        self.record.state = to;
        self.note(match to_paused {
            true => Action::Pause,
            false => Action::Unpause,
        });
        self.save()
    }

    /// Applies a change that is possible while the VM runs.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn change(&mut self, change: &Change) -> Result<(), Error> {
        let mut spec = self.record.spec.clone();
        spec.limits.change(&change.limits);
        spec.check()?;
        if change.limits != Limits::default() && self.running.is_some() {
            group::change(self.id(), &change.limits)?;
        }
        change.apply(&self.host.store, &mut self.record);
        self.save()
    }

    fn note(&self, action: Action) {
        events::note(&self.host.store, &self.record, action);
    }

    /// Notes that the workload was sent a signal.
    pub(crate) fn note_signal(&self, number: u8) {
        let number = number.to_string();
        let more = [("signal", number.as_str())];
        events::note_with(&self.host.store, &self.record, Action::Kill, &more);
    }

    /// Notes that somebody wanted the VM to be down.
    pub fn note_stopped(&mut self) {
        self.record.was_stopped = true;
    }

    /// Makes the record go with the VM.
    pub fn forget_at_end(&mut self) {
        self.record.spec.remove = true;
    }

    /// Everything of [`release`](Self::release) that needs no waiting.
    fn give_back(&mut self) -> Result<(), Error> {
        self.running = None;
        self.held.clear();
        self.services = None;
        self.attachment = None;
        match self.lock.take() {
            Some(lock) => reconcile::bury(&self.host, lock, &mut self.record),
            None => Ok(()),
        }
    }

    /// Before anything is started that would only fail later, in words of the VMM's.
    fn check_devices(&self, vmm: &dyn Vmm, acpi: bool) -> Result<(), Error> {
        /// The source of random numbers, the VM's own disk.
        const ALWAYS: usize = 2;
        let spec = &self.record.spec;
        let mounts = Layout::of(&spec.mounts).devices();
        // Without a network there is a device for the host alone.
        let networks = spec.networks.len().max(1);
        let needed = ALWAYS + spec.rootfs.len() + networks + self.attached.len() + mounts;
        let room = vmm.device_room(acpi);
        if needed <= room {
            return Ok(());
        }
        Err(Error::TooManyDevices {
            id: self.id().clone(),
            needed,
            vmm: vmm.facts().name.clone(),
            room,
        })
    }

    fn save(&self) -> Result<(), Error> {
        match &self.lock {
            Some(lock) => record::write(&self.host.store, lock, &self.record),
            None => Ok(()),
        }
    }

    /// Makes the directory of the VM's sockets. [`start`](Self::start) does it, for whoever needs none
    /// before.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn make_runtime(&self) -> Result<(), Error> {
        let runtime = &self.record.directories.runtime;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(runtime)
            .map_err(|e| Error::io(format!("make the directory `{}`", runtime.display()), e))
    }

    /// Starts the services of the VM's namespace and returns the metadata.
    fn serve<S: GuestService>(
        &mut self,
        vmm: &dyn Vmm,
        sides: &Sides,
        service: S,
    ) -> Result<Metadata, Error> {
        let listener = self.listen((HOST_ADDRESS, 0).into())?;
        let port = listener
            .local_addr()
            .map_err(|source| Error::io("listen for the guest", source))?;
        let metadata = self.metadata(sides, port)?;
        let document = metadata::Service::new(metadata.clone())?;
        let listening = if vmm.serves_metadata() {
            None
        } else {
            let listener = self.listen((METADATA_ADDRESS, 80).into())?;
            Some(tokio::spawn(document.clone().serve(listener)).abort_handle())
        };
        let is_build = matches!(self.record.spec.purpose, Purpose::Build);
        let patient = Options {
            handshake: Options::default().handshake * self.patience,
            ..Options::default()
        };
        // A build moves layers; another VM has many calls, none of which may hold up the others.
        let options = if is_build {
            Options {
                silence: Some(self.silence()),
                window: 4 << 20,
                connection_window: 8 << 20,
                ..patient
            }
        } else {
            Options {
                window: CALL_WINDOW,
                connection_window: CALL_WINDOW * CALLS,
                calls: CALLS,
                ..patient
            }
        };
        let service = Withdrawing::new(service, document.clone());
        let agent = agent::serve(listener, sides.host.server()?, service, options);
        self.services = Some(Services {
            agent,
            metadata: document,
            listening,
            names: self.serve_names()?,
        });
        Ok(metadata)
    }

    fn listen(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        let doing = || {
            format!(
                "listen on `{address}` in the network namespace of VM `{}`",
                self.id()
            )
        };
        let attachment = self.attachment.as_ref();
        let namespace = attachment.map(|attachment| &attachment.namespace);
        let namespace = namespace.ok_or_else(|| Error::NotRunning(self.id().clone()))?;
        let listener = namespace
            .listen(address)
            .map_err(|source| Error::io(doing(), source))?;
        listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener))
            .map_err(|source| Error::io(doing(), source))
    }

    fn metadata(&self, sides: &Sides, server: SocketAddr) -> Result<Metadata, Error> {
        let spec = &self.record.spec;
        let credentials = Credentials {
            grpc_host_port: server.to_string(),
            server_name: sides.server_name.clone(),
            tls_ca_cert: sides.guest.authority.clone(),
            tls_cert: sides.guest.identity.certificate.clone(),
            tls_key: sides.guest.identity.key.clone(),
            ping_interval: PING_INTERVAL,
        };
        let (bootstrap, session) = match spec.purpose {
            Purpose::Build => (Some(credentials), None),
            Purpose::Run { .. } => (None, Some(credentials)),
        };
        let name = spec.name.as_ref().map(ToString::to_string);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Metadata {
            vm_id: self.id().to_string(),
            hostname: spec
                .hostname
                .clone()
                .or(name)
                .unwrap_or_else(|| self.id().to_string()),
            image_tag: spec.image.as_ref().map(|image| image.reference.clone()),
            time: now.unwrap_or_default().as_secs(),
            root_images: u8::try_from(spec.rootfs.len()).unwrap_or(u8::MAX),
            drives: self.drives(),
            network: self.network()?,
            bootstrap,
            session,
        })
    }

    /// What the drives are called, in the order in which every VMM gets them.
    fn drives(&self) -> Vec<String> {
        let roots = (0..self.record.spec.rootfs.len()).map(crate::vmm::root_serial);
        let attached = self.attached.iter().map(|disk| disk.serial.clone());
        roots.chain(["disk".to_owned()]).chain(attached).collect()
    }

    fn command_line(&self, vmm: &dyn Vmm) -> Result<String, Error> {
        let attachment = self.attachment.as_ref();
        let interfaces = attachment.map_or(&[][..], |attachment| &attachment.interfaces);
        let first = interfaces.first();
        let first = first.ok_or_else(|| Error::NotRunning(self.id().clone()))?;
        let arguments = BootArguments {
            address: first.address,
            prefix: first.subnet.prefix(),
            mac: (interfaces.len() > 1).then(|| first.mac.octets()),
        };
        let emulated = vmm.facts().acceleration == Acceleration::Tcg;
        let mut line = CommandLine {
            arguments,
            restart: vmm.restart(),
            tsc_khz: emulated.then(tsc_khz),
            debug: false,
        }
        .to_string();
        let spec = &self.record.spec;
        let verity = spec.verity.as_ref().map(ToString::to_string);
        for argument in verity.iter().chain(&spec.kernel_arguments) {
            line.push(' ');
            line.push_str(argument);
        }
        Ok(line)
    }

    fn start_failed(&self, running: &Running, exit: VmmExit) -> Error {
        let id = self.id().clone();
        if exit == VmmExit::Status(0) {
            // The guest reset or powered off its machine: its console says why.
            let console = running.console(SHOWN_LINES);
            return Error::GuestFailed { id, console };
        }
        let vmm = self.record.vmm.as_ref();
        let meaning = self.vmm.as_ref().and_then(|vmm| vmm.explain(exit));
        let mut said: Vec<String> = meaning.into_iter().collect();
        said.extend(running.complaints(SHOWN_LINES));
        if said.is_empty() {
            said = running.console(SHOWN_LINES);
        }
        Error::VmmFailed {
            vmm: vmm.map_or_else(|| "the VMM".to_owned(), |vmm| format!("`{}`", vmm.name)),
            id,
            exit,
            said,
        }
    }

    fn connect_time(&self) -> Duration {
        let given = self.record.spec.connect_time;
        given.unwrap_or(CONNECT_TIME * self.patience)
    }

    fn silence(&self) -> Duration {
        SILENCE * self.patience
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let reason = Report::new(format!("the owner of VM `{}` gave it up", self.id()));
            self.record.finish(State::Failed { reason });
            // What is left is found by the next command.
            let _ = self.give_back();
        }
    }
}
