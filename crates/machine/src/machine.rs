//! A VM's life as its owner has it in hand: a supervisor, or a build.
//!
//! [`Machine::create`] writes the record and takes the lock; [`Machine::start`] brings up network,
//! disk, services and VMM; [`Machine::connected`] waits for the agent; [`Machine::ended`] waits for
//! the end; [`Machine::release`] gives everything back. The record's documentation
//! ([`crate::record`]) has the states.
//!
//! What must hold: whatever a step made is found by [`Machine::release`] even if the step failed,
//! and by [`crate::reconcile`] if the process was killed. Dropping a machine releases it.

mod boot;
mod network;
mod notes;
mod services;

use std::fs::File;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebuild_core::MachineId;
use firebuild_network::Attachment;
use firebuild_protocol::secret::Ssh;
use firebuild_protocol::workload::Workload;
use firebuild_store::{Identity, MachineLock};

use self::services::Services;
use crate::agent::{Contact, GuestService, Sides};
use crate::boot::{Needs, TscMeasurement};
use crate::error::Report;
use crate::events::{self, Action};
use crate::health::HealthStatus;
use crate::paths::Directories;
use crate::phases::{Part, Phases};
use crate::record::{self, Record, State};
use crate::secret::Contents;
use crate::spec::MachineSpec;
use crate::vmm::{Acceleration, AttachedDisk, Launch, Running, Vmm, VmmExit};
use crate::volumes::{self, Layout};
use crate::{Error, Host, admission, disk, rate, reconcile, share};

/// How long a VMM that does not answer may take to end, and so to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a turn to boot is called.
const BOOT: &str = "boot";

/// How many emulated guests boot at a time, for each of the host's processors.
const BOOTING: usize = 2;

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
    /// What took time.
    phases: Phases,
    /// How often the host's kernel has killed something of it for want of memory.
    oom_kills: u64,
    /// Its turn to boot.
    booting: Option<firebuild_store::Lock>,
    /// Whether its end has been told of already.
    is_end_told: bool,
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
        let is_new = record.state == State::Created;
        let created = record.created;
        let mut machine = Self::new(host.clone(), record, lock);
        if is_new {
            machine.phases.over_since("supervisor", created.into());
        }
        Ok(machine)
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
            phases: Phases::new(),
            oom_kills: 0,
            booting: None,
            is_end_told: false,
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

    /// Waits until it may boot, which it does until its guest has called. Under emulation no more guests
    /// boot at a time than [`BOOTING`] for each processor: a kernel that gets none of it for a tenth of a
    /// second takes its timer's rate wrongly, gives the timer up, and stands still for ever.
    ///
    /// # Errors
    /// Those of [`start`](Self::start) about the VMM; [`Error::Store`].
    pub async fn wait_for_boot(&mut self) -> Result<(), Error> {
        let vmm = self.host.vmm_for(&self.record.spec)?;
        let acceleration = vmm.facts().acceleration;
        self.vmm = Some(vmm);
        if acceleration == Acceleration::Kvm {
            return Ok(());
        }
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let places = BOOTING * processors;
        let store = self.host.store.clone();
        self.booting = match store.try_turn(BOOT, places)? {
            Some(turn) => Some(turn),
            None => {
                let (tell, told) = tokio::sync::oneshot::channel();
                // Whoever wants no turn any more does not wait for the thread's end.
                std::thread::spawn(move || tell.send(store.wait_for_turn(BOOT, places)));
                let turn = told.await.map_err(std::io::Error::other);
                Some(turn.map_err(|source| Error::io("wait for a turn to boot", source))??)
            }
        };
        Ok(())
    }

    /// Brings up everything, with `service` for the guest's agent to call. Has to be called within
    /// a tokio runtime.
    ///
    /// # Errors
    /// The first that goes wrong; [`release`](Self::release) takes back what was done.
    pub async fn start<S: GuestService>(&mut self, service: S) -> Result<(), Error> {
        let tsc = TscMeasurement::begin();
        let vmm = match self.vmm.take() {
            Some(vmm) => vmm,
            None => self.host.vmm_for(&self.record.spec)?,
        };
        vmm.check(&self.record.spec)?;
        self.vmm = Some(Arc::clone(&vmm));
        self.patience = vmm.facts().acceleration.patience();
        self.record.state = State::Starting;
        self.record.oom_killed = false;
        self.record.processes.owner = Some(std::process::id());
        self.record.vmm = Some(vmm.facts().clone());
        self.note_progress()?;
        self.make_runtime()?;
        let spec = &self.record.spec;
        let needs = Needs {
            verity: spec.verity.is_some(),
            sharing: spec.mounts.iter().any(|mount| mount.shared().is_some()),
        };
        self.phases.over("record");
        let boot = (self.host.kernels)(&self.host.store, &spec.kernel, needs)?;
        self.phases.over("kernel and initramfs");
        self.check_memory(&boot)?;
        let sides = match &self.record.spec.certificates {
            Some(files) => Sides::read(files)?,
            None => Sides::generate(self.id())?,
        };
        self.phases.over("certificates");
        let disk = disk::open(&self.record)?;
        let roots = disk::open_roots(&self.host.store, &self.record)?;
        self.check_devices(vmm.as_ref(), boot.acpi)?;
        let volumes = volumes::open(&self.host.store, &self.record)?;
        self.held = volumes::duplicates(&volumes)?;
        self.attached.extend(volumes);
        self.phases.over("drives");
        self.attach(vmm.as_ref())?;
        self.phases.over("network");
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
            command_line: self.command_line(vmm.as_ref(), tsc)?,
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
        self.phases.over("services");
        let running = vmm.start(launch).await?;
        self.phases.over("start VMM");
        self.record.processes.vmm = Some(running.pid());
        self.record.processes.vmm_user = ids.map(|ids| ids.uid);
        self.running = Some(running);
        self.note_progress()
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
        self.phases.booted();
        self.booting = None;
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
        self.note_oom();
        self.is_end_told = self.record.state == State::Restarting;
        self.record.finish(end);
        let given_back = self.give_back();
        self.phases.released();
        self.phases.tell(self.host.watch, &self.record, Part::End);
        match given_back {
            Ok(()) => Ok(self.record.clone()),
            Err(error) => Err((self.record.clone(), error)),
        }
    }

    /// Ends the VM if it runs, and waits until its VMM is gone.
    pub async fn end(&mut self) {
        self.booting = None;
        self.note_ending();
        if let Some(running) = &self.running {
            running.kill();
            running.ended().await;
        }
        self.phases.ended();
    }

    /// Ends the VM if it runs, and gives back everything but its lock, its disk and its directory of
    /// sockets: it will be started again.
    ///
    /// # Errors
    /// What could not be given back; [`Error::Store`].
    pub async fn rest(&mut self, end: &State) -> Result<(), Error> {
        self.end().await;
        self.record.count(&self.host.network.settings().name);
        self.note_oom();
        events::note_end(&self.host.store, &self.record, end);
        self.running = None;
        self.held.clear();
        self.services = None;
        self.attachment = None;
        self.record.processes.vmm = None;
        let cleared = reconcile::clear(&self.host, &self.record);
        self.phases.released();
        self.phases.tell(self.host.watch, &self.record, Part::End);
        self.phases = Phases::new();
        self.record.state = State::Restarting;
        self.note(Action::Restart);
        self.record.restart_count = self.record.restart_count.saturating_add(1);
        self.save().and(cleared)
    }

    /// Everything of [`release`](Self::release) that needs no waiting.
    fn give_back(&mut self) -> Result<(), Error> {
        self.record.count(&self.host.network.settings().name);
        self.running = None;
        self.held.clear();
        self.services = None;
        self.attachment = None;
        match self.lock.take() {
            Some(lock) => reconcile::bury(&self.host, lock, &mut self.record, self.is_end_told),
            None => Ok(()),
        }
    }

    /// Writes the record, on a VM's way to where it runs: what is durable is the record of that.
    fn note_progress(&self) -> Result<(), Error> {
        match &self.lock {
            Some(lock) => record::note(&self.host.store, lock, &self.record),
            None => Ok(()),
        }
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
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let reason = Report::new(format!("the owner of VM `{}` gave it up", self.id()));
            self.record.finish(State::Failed { reason });
            // What is left is found by the next command.
            let _ = self.give_back();
            self.phases.tell(self.host.watch, &self.record, Part::End);
        }
    }
}
