//! What commands do with VMs: start one, list them, watch one, end it, remove it.
//!
//! All of it blocks until it is done, and needs no runtime. All of it can be done by any number of
//! processes at once. A command should begin with [`crate::reconcile::reconcile`].

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use firebuild_core::{MachineId, MachineName};

use crate::change::Change;
pub use crate::control::Stop;
use crate::control::{Answer, Request};
use crate::output::{Entry, Reader};
use crate::paths::Directories;
use crate::record::{self, Record, State};
use crate::vmm::console::ConsoleReader;
use crate::watch::Watch;
use crate::{Error, Host, Machine, MachineSpec, Report, reconcile, supervisor};

/// How long a supervisor may take to begin or to end its work, before it is said to be busy.
const OTHERS_TIME: Duration = Duration::from_secs(30);

/// After how long to look again in the meantime.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Makes a VM, starts its supervisor, and waits until its workload has started. `supervisor` is
/// this program with its hidden subcommand and whatever that needs to find the same [`Host`];
/// [`supervisor::main`] gets what is appended.
///
/// # Errors
/// Whatever keeps the workload from starting. Nothing is left of the VM then.
pub fn run(host: &Host, spec: MachineSpec, supervisor: Command) -> Result<Attached, Error> {
    // Before anything is made: the commonest reasons why nothing will come of it.
    host.vmm_for(&spec)?.check(&spec)?;
    host.store.kernels().get(&spec.kernel)?;
    let machine = Machine::create(host, spec)?;
    let made = machine.record().clone();
    let id = made.id.clone();
    let connection = supervisor::spawn(supervisor, machine).inspect_err(|_| {
        // A supervisor has done it, unless it died. What cannot be removed now is found by the
        // next command.
        let _ = reconcile::reconcile_one(host, &id);
        let _ = reconcile::remove_ended(host, &id);
    })?;
    let record = match record::read(&host.store, &id) {
        // It has ended by now, and was to be removed.
        Err(error) if is_gone(&error) => made,
        other => other?,
    };
    Ok(Attached {
        logs: Logs {
            reader: Reader::new(&record.directories.state),
            id,
            connection: Some(connection),
            over: false,
        },
        record,
    })
}

/// Starts a VM that has ended, with its disk as it was, and waits until its workload has started. One
/// that runs is left alone, and so is one that is about to be started by its restart policy.
///
/// # Errors
/// [`Error::Store`]; whatever keeps the workload from starting, and then the VM is as it was, with
/// that as its end.
pub fn start(host: &Host, id: &MachineId, supervisor: Command) -> Result<(), Error> {
    reconcile::reconcile_one(host, id)?;
    let Some(lock) = host.store.machines().lock(id)? else {
        return Ok(());
    };
    let record = record::read(&host.store, id)?;
    host.vmm_for(&record.spec)?.check(&record.spec)?;
    host.store.kernels().get(&record.spec.kernel)?;
    let machine = Machine::begin_again(host, lock)?;
    let started = supervisor::spawn(supervisor, machine).map(drop);
    started.inspect_err(|_| {
        // A supervisor has done it, unless it died.
        let _ = reconcile::reconcile_one(host, id);
    })
}

/// Stops the processors of a VM's guest.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Reported`], [`Error::Store`], [`Error::Io`].
pub fn pause(host: &Host, id: &MachineId) -> Result<(), Error> {
    tell(host, id, &Request::Pause)
}

/// Lets the processors of a VM's guest go on.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Reported`], [`Error::Store`], [`Error::Io`].
pub fn unpause(host: &Host, id: &MachineId) -> Result<(), Error> {
    tell(host, id, &Request::Resume)
}

/// Gives a VM another name, whether it runs or not.
///
/// # Errors
/// [`Error::Store`] if another VM has the name; [`Error::Io`].
pub fn rename(host: &Host, id: &MachineId, name: MachineName) -> Result<(), Error> {
    host.store.machines().rename(id, &name)?;
    let name = Some(name);
    change(
        host,
        id,
        Change {
            name,
            ..Change::default()
        },
    )
}

/// Changes what can change of a VM, whether it runs or not.
///
/// # Errors
/// [`Error::Reported`], [`Error::Busy`], [`Error::Store`], [`Error::Io`].
pub fn change(host: &Host, id: &MachineId, change: Change) -> Result<(), Error> {
    let patience = Instant::now() + OTHERS_TIME;
    let request = Request::Change(Box::new(change.clone()));
    loop {
        match tell(host, id, &request) {
            Err(Error::NotRunning(_)) => {}
            other => return other,
        }
        reconcile::reconcile_one(host, id)?;
        if let Some(lock) = host.store.machines().lock(id)? {
            let mut record = record::read(&host.store, id)?;
            record.spec.limits.change(&change.limits);
            record.spec.check()?;
            change.apply(&host.store, &mut record);
            return record::write(&host.store, &lock, &record);
        }
        if Instant::now() > patience {
            return Err(Error::Busy(id.clone()));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A VM that was just started, and everything that becomes of it: an iterator over what its
/// workload writes. Dropping it leaves the VM alone.
#[derive(Debug)]
pub struct Attached {
    record: Record,
    logs: Logs,
}

impl Attached {
    /// The record, as it was when the workload had started.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Waits until the VM has ended and everything is given back. Returns its last record, even
    /// if that is removed by now.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Io`].
    pub fn finish(self, host: &Host) -> Result<Record, Error> {
        if let Some(mut connection) = self.logs.connection {
            // All is read that was to be read: files may go.
            let _ = connection.get_mut().shutdown(Shutdown::Write);
            while let Some(answer) = next(&mut connection) {
                if let Answer::Ended(record) = answer {
                    return Ok(*record);
                }
            }
        }
        wait(host, &self.record.id)
    }
}

impl Iterator for Attached {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.logs.reader.number();
        let entry = self.logs.next();
        let now = self.logs.reader.number();
        if let (Some(number), Some(connection)) = (now, &mut self.logs.connection)
            && now != before
        {
            // The supervisor keeps segments until they are read. If it is gone, all is written.
            let _ = writeln!(connection.get_mut(), "{number}");
        }
        entry
    }
}

/// All VMs, oldest first. VMs of builds are among them. Those whose records cannot be understood are
/// left out: see [`survey`].
///
/// # Errors
/// [`Error::Store`].
pub fn list(host: &Host) -> Result<Vec<Record>, Error> {
    survey(host).map(|survey| survey.records)
}

/// Everything that is known of the VMs of a host.
#[derive(Debug, Default)]
pub struct Survey {
    /// Records, oldest first.
    pub records: Vec<Record>,
    /// VMs whose records cannot be understood.
    pub damaged: Vec<Damaged>,
}

/// A VM whose record cannot be understood.
#[derive(Debug)]
pub struct Damaged {
    /// The VM.
    pub id: MachineId,
    /// Its name, if that can be read.
    pub name: Option<MachineName>,
    /// Whether it runs all the same.
    pub runs: bool,
    /// What is wrong with its record.
    pub reason: Report,
}

/// All VMs, also those whose records cannot be understood, once it is cleaned up after those whose
/// owners died: each record is read once, and nobody need [`reconcile::reconcile`] before.
///
/// # Errors
/// [`Error::Store`].
pub fn survey(host: &Host) -> Result<Survey, Error> {
    let machines = host.store.machines();
    let mut survey = Survey::default();
    for identity in machines.identities()? {
        let (id, name) = (identity.id, identity.name);
        match cleaned_up(host, &id) {
            Ok(mut record) => {
                // The name that counts is the one that nobody else can have.
                record.spec.name = name;
                survey.records.push(record);
            }
            Err(error @ Error::DamagedRecord { .. }) => survey.damaged.push(Damaged {
                runs: machines.is_running(&id).unwrap_or(false),
                reason: Report::from(&error),
                name,
                id,
            }),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let age = |record: &Record| (record.created, record.id.clone());
    survey.records.sort_by_cached_key(age);
    Ok(survey)
}

/// A VM's record, after its owner was cleaned up after if it died.
fn cleaned_up(host: &Host, id: &MachineId) -> Result<Record, Error> {
    let record = record::read(&host.store, id)?;
    // What cannot be cleaned up stays for the next time.
    if !record.state.is_final() && reconcile::reconcile_one(host, id).unwrap_or(false) {
        return record::read(&host.store, id);
    }
    Ok(record)
}

/// Has CNI's plugins check that the network of a VM that runs is as they made it.
///
/// # Errors
/// [`Error::NotRunning`]; [`Error::Spec`] if its network is not theirs; [`Error::Network`] with what a
/// plugin finds amiss; those of [`inspect`].
pub fn check_network(host: &Host, id: &MachineId) -> Result<(), Error> {
    let record = record::read(&host.store, id)?;
    if record.state.is_final() || !host.store.machines().is_running(id)? {
        return Err(Error::NotRunning(id.clone()));
    }
    let Some(network) = &record.spec.cni else {
        let text =
            format!("VM `{id}` is in no network by CNI: there is nothing that plugins could check");
        return Err(Error::Spec(text));
    };
    Ok(host.cni(Some(network)).check(id)?)
}

/// The id of the VM with that name, id, or beginning of an id.
///
/// # Errors
/// [`Error::Store`] if there is none or more than one.
pub fn find(host: &Host, name: &str) -> Result<MachineId, Error> {
    Ok(host.store.machines().find(name)?.id)
}

/// The record of the VM with that name, id, or beginning of an id.
///
/// # Errors
/// [`Error::Store`] if there is none or more than one; [`Error::DamagedRecord`].
pub fn inspect(host: &Host, name: &str) -> Result<Record, Error> {
    let id = find(host, name)?;
    record::read(&host.store, &id)
}

/// Waits until a VM has ended. Returns its last record, at once if it has ended already.
///
/// # Errors
/// [`Error::Store`], [`Error::Io`].
pub fn wait(host: &Host, id: &MachineId) -> Result<Record, Error> {
    ask(host, id, &Request::Wait)
}

/// Asks a VM's workload to end, kills it after a while, and waits until everything is given back.
/// One that has ended is left alone.
///
/// # Errors
/// [`Error::Store`], [`Error::Io`].
pub fn stop(host: &Host, id: &MachineId, stop: Stop) -> Result<Record, Error> {
    ask(host, id, &Request::Stop(stop))
}

/// Ends a VM at once, and waits until everything is given back. One that has ended is left alone.
///
/// # Errors
/// [`Error::Store`], [`Error::Io`].
pub fn kill(host: &Host, id: &MachineId) -> Result<Record, Error> {
    ask(host, id, &Request::Kill)
}

/// Sends a VM's workload the signal of that number.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Spec`] if there is no such signal, [`Error::Store`],
/// [`Error::Io`].
pub fn signal(host: &Host, id: &MachineId, number: u8) -> Result<(), Error> {
    if !(1..=64).contains(&number) {
        return Err(Error::Spec(format!("signals are 1 to 64, not {number}")));
    }
    tell(host, id, &Request::Signal(number))
}

/// Asks a supervisor for something that it answers at once.
fn tell(host: &Host, id: &MachineId, request: &Request) -> Result<(), Error> {
    let record = record::read(&host.store, id)?;
    let mut connection =
        connect(&record.directories, request)?.ok_or_else(|| Error::NotRunning(id.clone()))?;
    match next(&mut connection) {
        Some(Answer::Done) => Ok(()),
        Some(Answer::Refused(report)) => Err(Error::Reported(report)),
        _ => Err(Error::NotRunning(id.clone())),
    }
}

/// Removes the record of a VM that has ended, and its logs, unless that is done already.
///
/// # Errors
/// [`Error::IsRunning`], [`Error::Store`].
pub fn rm(host: &Host, id: &MachineId) -> Result<(), Error> {
    let patience = Instant::now() + OTHERS_TIME;
    loop {
        match reconcile::reconcile_one(host, id) {
            Err(error) if is_gone(&error) => return Ok(()),
            other => other?,
        };
        if reconcile::remove_ended(host, id)? {
            return Ok(());
        }
        match record::read(&host.store, id) {
            // Somebody else was quicker.
            Err(error) if is_gone(&error) => return Ok(()),
            // Whoever wrote its last record is about to let go of it.
            Ok(record) if record.state.is_final() && Instant::now() < patience => {
                std::thread::sleep(LOOK_AGAIN);
            }
            _ => return Err(Error::IsRunning(id.clone())),
        }
    }
}

/// Ends a VM at once if it runs, and removes it. It need not be known what its record says.
///
/// # Errors
/// [`Error::Store`], [`Error::Io`]; what of it could not be given back.
pub fn end_and_remove(host: &Host, id: &MachineId) -> Result<(), Error> {
    match kill(host, id) {
        Err(Error::DamagedRecord { .. }) => {
            let directories = Directories::of(&host.store, &host.run, id)?;
            // Its supervisor has not forgotten what it is, and answers when everything is given back.
            let connection = connect(&directories, &Request::Kill)?;
            let _ = connection.and_then(|mut connection| next(&mut connection));
        }
        other => drop(other?),
    }
    rm(host, id)
}

/// What a VM's workload wrote, from the oldest that is kept. With `follow`, goes on until the VM
/// has ended.
///
/// # Errors
/// [`Error::Store`] if there is no such VM; [`Error::Io`].
pub fn logs(host: &Host, id: &MachineId, follow: bool) -> Result<Logs, Error> {
    let record = record::read(&host.store, id)?;
    let connection = if follow {
        connect(&record.directories, &Request::Follow)?
    } else {
        None
    };
    Ok(Logs {
        id: id.clone(),
        reader: Reader::new(&record.directories.state),
        over: connection.is_none(),
        connection,
    })
}

/// What a VM's guest wrote to its console since it was started last. With `follow`, goes on until the VM
/// has ended.
///
/// # Errors
/// [`Error::Store`] if there is no such VM; [`Error::Io`].
pub fn console(host: &Host, id: &MachineId, follow: bool) -> Result<ConsoleLog, Error> {
    let record = record::read(&host.store, id)?;
    let doing = || format!("follow the console of VM `{id}`");
    let end = match follow {
        true => connect(&record.directories, &Request::Wait)?,
        false => None,
    };
    let watch = end.map(|end| Ok((Watch::of(&record.directories.state)?, end)));
    let watch = watch
        .transpose()
        .map_err(|e: std::io::Error| Error::io(doing(), e))?;
    Ok(ConsoleLog {
        id: id.clone(),
        reader: ConsoleReader::new(&record.directories.console),
        watch,
    })
}

/// What a guest wrote to its console, as an iterator over pieces.
#[derive(Debug)]
pub struct ConsoleLog {
    id: MachineId,
    reader: ConsoleReader,
    watch: Option<(Watch, BufReader<UnixStream>)>,
}

impl Iterator for ConsoleLog {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let failed = |source| {
            let doing = format!("read the console of VM `{}`", self.id);
            Some(Err(Error::io(doing, source)))
        };
        loop {
            match self.reader.more() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Some(Ok(bytes)),
                Err(source) => return failed(source),
            }
            let (watch, end) = self.watch.as_mut()?;
            match watch.wait(None, Some(end.get_ref().as_fd())) {
                Ok(true) => {}
                // The VM has ended: there is one last look.
                Ok(false) => self.watch = None,
                Err(source) => return failed(source),
            }
        }
    }
}

/// What a workload wrote, as an iterator.
#[derive(Debug)]
pub struct Logs {
    id: MachineId,
    reader: Reader,
    connection: Option<BufReader<UnixStream>>,
    over: bool,
}

impl Logs {
    /// The next entry that is there already.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn next_ready(&mut self) -> Result<Option<Entry>, Error> {
        let doing = || format!("read the output of VM `{}`", self.id);
        self.reader
            .next_entry()
            .map_err(|source| Error::io(doing(), source))
    }
}

impl Iterator for Logs {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.reader.next_entry() {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) if self.over => return None,
                Ok(None) => {}
                Err(source) => {
                    let doing = format!("read the output of VM `{}`", self.id);
                    return Some(Err(Error::io(doing, source)));
                }
            }
            // Anything but news of more is the end: after it, there is one last look.
            let news = self.connection.as_mut().and_then(next);
            self.over = !matches!(news, Some(Answer::Grown));
        }
    }
}

/// Asks a supervisor for something that ends with the VM, and waits for that.
fn ask(host: &Host, id: &MachineId, request: &Request) -> Result<Record, Error> {
    let before = record::read(&host.store, id)?;
    let patience = Instant::now() + OTHERS_TIME;
    loop {
        if let Some(mut connection) = connect(&before.directories, request)?
            && let Some(Answer::Ended(record)) = next(&mut connection)
        {
            return Ok(*record);
        }
        // Nobody answers: it has ended, or its supervisor has died, or is about to listen, or is
        // just giving everything back.
        match reconcile::reconcile_one(host, id).and_then(|_| record::read(&host.store, id)) {
            Ok(record) if record.state.is_final() => return Ok(record),
            Ok(_) if Instant::now() < patience => std::thread::sleep(LOOK_AGAIN),
            Ok(_) => return Err(Error::Busy(id.clone())),
            Err(error) if is_gone(&error) => return Ok(removed(before)),
            Err(error) => return Err(error),
        }
    }
}

/// The record of a VM that ended and is removed.
fn removed(mut record: Record) -> Record {
    let reason = Report::new(format!("VM `{}` has been removed", record.id));
    record.finish(State::Failed { reason });
    record
}

/// A connection to a VM's supervisor, with a request said; none if nobody listens.
fn connect(
    directories: &Directories,
    request: &Request,
) -> Result<Option<BufReader<UnixStream>>, Error> {
    let path = directories.control();
    let doing = || format!("ask the supervisor that listens at `{}`", path.display());
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(source) => return Err(Error::io(doing(), source)),
    };
    let mut line = serde_json::to_vec(request).map_err(|e| Error::io(doing(), e))?;
    line.push(b'\n');
    match stream.write_all(&line) {
        Ok(()) => Ok(Some(BufReader::new(stream))),
        Err(error) if is_absence(&error) => Ok(None),
        Err(source) => Err(Error::io(doing(), source)),
    }
}

pub(crate) fn is_absence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    matches!(
        error.kind(),
        NotFound | ConnectionRefused | ConnectionReset | BrokenPipe
    )
}

/// The next answer; none if there is none.
fn next(connection: &mut BufReader<UnixStream>) -> Option<Answer> {
    let mut line = String::new();
    connection.read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Store(firebuild_store::Error::NoMachine(_)))
}
