//! A VM's life in the hands of its supervisor, from the inherited lock to the last record.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use firebuild_protocol::v1::machine_server::MachineServer;
use firebuild_protocol::v1::{Shutdown, Signal, to_guest};
use firebuild_store::MachineLock;
use jiff::Timestamp;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal as Terminations, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::{First, Starter};
use crate::control::{self, Published, Request};
use crate::error::Report;
use crate::machine::Ended;
use crate::output::{Stream, Writer};
use crate::record::{Exit, State};
use crate::session::{Event, Line, Session};
use crate::spec::Purpose;
use crate::{Error, Host, Machine};

/// How long a workload may take to end if nobody says otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// How long a guest may take to power off once its workload has ended, without emulation.
const POWER_OFF: Duration = Duration::from_secs(10);

/// How much room there has to be for a message of the guest, with what is kept beside its bytes.
const ROOM: u64 = 2 * firebuild_protocol::MESSAGE_LIMIT as u64;

/// How many requests wait.
const REQUESTS: usize = 16;

/// Lives through it all. Returns when everything is given back and everybody knows.
pub(super) async fn live(
    host: &Host,
    lock: MachineLock,
    mut starter: Starter,
) -> Result<(), Error> {
    let mut machine = Machine::adopt(host, lock)?;
    let published = Published::new();
    let mut server = None;
    match begin(&mut machine, &published, &mut server, &starter).await {
        Ok(mut life) => {
            starter.tell(&First::Started).await;
            published.position.send_replace(Some(0));
            let attached = tokio::spawn(control::attached(starter.0, published.clone()));
            let end = life.go_on(&mut machine).await;
            let released = finish(machine, end, &published).await;
            let _ = attached.await;
            wait_for(server).await;
            released
        }
        Err(error) => {
            let reason = Report::from(&error);
            // It never ran: nothing is worth keeping but the reason, which is told.
            machine.forget_at_end();
            let end = State::Failed {
                reason: reason.clone(),
            };
            let released = finish(machine, end, &published).await;
            starter.tell(&First::Failed(reason)).await;
            wait_for(server).await;
            released
        }
    }
}

/// Gives everything back and tells those who wait.
async fn finish(machine: Machine, end: State, published: &Published) -> Result<(), Error> {
    machine.end().await;
    published.last(machine.record().spec.remove).await;
    let (record, result) = match machine.release(end).await {
        Ok(record) => (record, Ok(())),
        Err((record, error)) => (record, Err(error)),
    };
    published.ended.send_replace(Some(Arc::new(record)));
    result
}

async fn wait_for(server: Option<JoinHandle<()>>) {
    if let Some(server) = server {
        let _ = server.await;
    }
}

/// What the supervisor keeps while the workload runs.
struct Life {
    line: Line,
    requests: mpsc::Receiver<Request>,
    terminations: Terminations,
    published: Published,
    output: Writer,
    stop_signal: u8,
    exit: Option<Exit>,
    trouble: Option<Report>,
    deadline: Option<Instant>,
}

/// Starts the VM and its workload.
async fn begin(
    machine: &mut Machine,
    published: &Published,
    server: &mut Option<JoinHandle<()>>,
    starter: &Starter,
) -> Result<Life, Error> {
    let id = machine.id().clone();
    let Purpose::Run {
        workload,
        stop_signal,
    } = machine.record().spec.purpose.clone()
    else {
        return Err(Error::Spec(
            "supervisors are for VMs that run something".to_owned(),
        ));
    };
    let terminations =
        signal(SignalKind::terminate()).map_err(|source| Error::io("wait for signals", source))?;
    let (session, line) = Session::new(&workload)
        .map_err(|source| Error::io("tell the guest its workload", source))?;
    let directory = machine.record().directories.state.clone();
    let output = Writer::create(&directory)
        .map_err(|source| Error::io(format!("keep the output of VM `{id}`"), source))?;
    machine.start(MachineServer::new(session)).await?;
    let (sender, requests) = mpsc::channel(REQUESTS);
    *server = Some(listen(machine, sender, published)?);
    let mut life = Life {
        line,
        requests,
        terminations,
        published: published.clone(),
        output,
        stop_signal,
        exit: None,
        trouble: None,
        deadline: None,
    };
    tokio::select! {
        connected = machine.connected() => connected?,
        () = refused(&mut life.requests, &mut life.terminations) => return Err(Error::GivenUp(id)),
        () = starter.gave_up() => return Err(Error::GivenUp(id)),
    }
    tokio::select! {
        started = life.started(machine) => started?,
        () = starter.gave_up() => return Err(Error::GivenUp(id)),
    }
    machine.mark_running()?;
    Ok(life)
}

fn listen(
    machine: &Machine,
    requests: mpsc::Sender<Request>,
    published: &Published,
) -> Result<JoinHandle<()>, Error> {
    let path = machine.record().directories.control();
    let doing = || format!("listen on `{}`", path.display());
    let listener = UnixListener::bind(&path).map_err(|source| Error::io(doing(), source))?;
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|source| Error::io(doing(), source))?;
    let served = control::serve(listener, requests, published.clone());
    Ok(tokio::spawn(served))
}

impl Life {
    /// Waits until the guest has started the workload.
    async fn started(&mut self, machine: &Machine) -> Result<(), Error> {
        let id = machine.id();
        loop {
            tokio::select! {
                biased;
                event = self.line.events.recv() => match event {
                    Some(Event::Started) => return Ok(()),
                    Some(Event::Output(stream, data)) => self.keep(stream, &data),
                    other => return Err(not_started(machine, other)),
                },
                _ = machine.ended() => return Err(not_started(machine, None)),
                () = refused(&mut self.requests, &mut self.terminations) => {
                    return Err(Error::GivenUp(id.clone()));
                }
            }
        }
    }

    /// From the workload's start to the VM's end.
    async fn go_on(&mut self, machine: &mut Machine) -> State {
        let mut position = self.published.position.subscribe();
        let ended = loop {
            let deadline = self.deadline;
            let has_room = self.has_room();
            let time_is_up = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = self.line.events.recv(), if has_room => self.hear(machine, event),
                ended = machine.ended() => break ended,
                Ok(()) = position.changed(), if !has_room => {}
                Some(request) = self.requests.recv() => self.serve(machine, request),
                _ = self.terminations.recv() => self.stop(machine, GRACE),
                () = time_is_up => {
                    self.deadline = None;
                    machine.kill();
                }
            }
        };
        self.verdict(machine, ended)
    }

    fn hear(&mut self, machine: &mut Machine, event: Event) {
        match event {
            Event::Output(stream, data) => self.keep(stream, &data),
            Event::Exited(exit) => {
                self.exit.get_or_insert(exit);
                self.line.tell(to_guest::Message::Shutdown(Shutdown {
                    signal: 0,
                    grace_milliseconds: 0,
                }));
                self.expect_end(machine, Duration::ZERO);
            }
            // What it was told to do: the workload is its own affair.
            Event::Started => {}
            Event::Failed(text, _) => {
                let text = format!("the guest of VM `{}` reports: {text}", machine.id());
                self.trouble.get_or_insert(Report::new(text));
                self.expect_end(machine, Duration::ZERO);
            }
            Event::Confused(text) => {
                let id = machine.id().clone();
                let error = Error::GuestConfused { id, text };
                self.trouble.get_or_insert(Report::from(&error));
                machine.kill();
            }
            Event::Closed => self.expect_end(machine, Duration::ZERO),
        }
    }

    /// Whether more output can be kept without removing what who started the supervisor has not
    /// read yet. If not, the guest is not listened to, and has to wait; unless it is to end.
    fn has_room(&self) -> bool {
        let position = *self.published.position.borrow();
        self.deadline.is_some()
            || self.output.room() > ROOM
            || position.is_none_or(|at| at >= self.output.number())
    }

    fn keep(&mut self, stream: Stream, data: &[u8]) {
        // A full disk must not stop the workload; what fits later is kept again.
        let _ = self.output.write(Timestamp::now(), stream, data);
        self.published.grown();
    }

    fn serve(&mut self, machine: &mut Machine, request: Request) {
        match request {
            Request::Signal(number) => {
                self.line.tell(to_guest::Message::Signal(Signal {
                    number: number.into(),
                }));
            }
            Request::Stop(grace) => self.stop(machine, grace),
            Request::Kill => {
                self.exit.get_or_insert(Exit::Signal(9));
                machine.kill();
            }
            Request::Wait | Request::Follow => {}
        }
    }

    fn stop(&mut self, machine: &mut Machine, grace: Duration) {
        // Whatever else it says, the VM is to end.
        let _ = machine.mark_stopping();
        self.line.tell(to_guest::Message::Shutdown(Shutdown {
            signal: self.stop_signal.into(),
            grace_milliseconds: u32::try_from(grace.as_millis()).unwrap_or(u32::MAX),
        }));
        self.expect_end(machine, grace);
    }

    /// From now on the VM has this long, and the time that powering off takes.
    fn expect_end(&mut self, machine: &Machine, grace: Duration) {
        let limit = Instant::now() + grace + POWER_OFF * machine.patience();
        self.deadline = Some(self.deadline.map_or(limit, |old| old.min(limit)));
    }

    fn verdict(&mut self, machine: &Machine, ended: Ended) -> State {
        // What the guest said last may still be in the queue.
        while let Ok(event) = self.line.events.try_recv() {
            match event {
                Event::Output(stream, data) => self.keep(stream, &data),
                Event::Exited(exit) => {
                    self.exit.get_or_insert(exit);
                }
                _ => {}
            }
        }
        match (self.exit, self.trouble.take()) {
            (Some(exit), _) => State::Stopped { exit },
            (None, Some(reason)) => State::Failed { reason },
            (None, None) => State::Failed {
                reason: unexplained(machine, ended),
            },
        }
    }
}

/// Returns when somebody wants a VM to end that has not started yet.
async fn refused(requests: &mut mpsc::Receiver<Request>, terminations: &mut Terminations) {
    loop {
        tokio::select! {
            Some(request) = requests.recv() => {
                if matches!(request, Request::Stop(_) | Request::Kill) {
                    return;
                }
            }
            _ = terminations.recv() => return,
        }
    }
}

/// Why the workload did not start, by what the guest said instead.
fn not_started(machine: &Machine, event: Option<Event>) -> Error {
    let id = machine.id().clone();
    match event {
        Some(Event::Failed(text, status)) => Error::GuestReports { id, text, status },
        Some(Event::Confused(text)) => Error::GuestConfused { id, text },
        Some(Event::Exited(_)) => Error::GuestConfused {
            id,
            text: "its workload ended before it started".to_owned(),
        },
        _ => Error::GuestFailed {
            id,
            console: machine.console(),
        },
    }
}

/// A VM that ended without a word about its workload.
fn unexplained(machine: &Machine, ended: Ended) -> Report {
    let id = machine.id();
    let mut text = match ended {
        Ended::Vmm(exit) if exit.is_success() => {
            format!("VM `{id}` rebooted or powered off while its workload ran")
        }
        Ended::Vmm(exit) => format!("the VMM of VM `{id}` {exit} while its workload ran"),
        Ended::Silent(after) => format!("VM `{id}` has been silent for {} s", after.as_secs()),
    };
    for line in machine.console() {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    Report::new(text)
}
