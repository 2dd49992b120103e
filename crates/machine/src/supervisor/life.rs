//! A VM's life in the hands of its supervisor, from the inherited lock to the last record: one turn
//! ([`super::turn`]), and as many more as its restart policy wants.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use firebuild_store::MachineLock;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal as Terminations, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::turn::Turn;
use super::{First, Starter};
use crate::control::{self, Answer, Asked, Published, Request};
use crate::error::Report;
use crate::output::Writer;
use crate::record::State;
use crate::restart::Delay;
use crate::secret::Contents;
use crate::supervisor::processes::Note;
use crate::{Error, Host, Machine, sys};

/// How long after a workload's start a supervisor has seldom anything to do.
const RESTLESS: Duration = Duration::from_secs(3);

/// How many requests wait.
const REQUESTS: usize = 16;

/// Lives through it all. Returns when everything is given back and everybody knows.
pub(super) async fn live(
    host: &Host,
    (lock, secrets): (MachineLock, Contents),
    mut starter: Starter,
) -> Result<(), Error> {
    let mut machine = Machine::adopt(host, lock)?;
    machine.set_secrets(secrets);
    let is_new = machine.record().started.is_none();
    let (published, notes) = Published::new();
    let mut server = None;
    let begun = match Life::open(&machine, (&published, notes), &mut server) {
        Ok(mut life) => match Turn::begin(&mut machine, &mut life, Some(&starter)).await {
            Ok(turn) => Ok((life, turn)),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    match begun {
        Ok((mut life, turn)) => {
            starter.tell(&First::Started).await;
            machine.tell_start();
            let resting = tokio::spawn(rest());
            published.position.send_replace(Some(0));
            let attached = tokio::spawn(control::attached(starter.0, published.clone()));
            let end = life.go_on(&mut machine, turn).await;
            resting.abort();
            if life.end() {
                machine.note_stopped();
            }
            let released = finish(machine, end, &published).await;
            let _ = attached.await;
            wait_for(server).await;
            released
        }
        Err(error) => {
            let reason = Report::from(&error);
            if is_new {
                // It never ran: nothing is worth keeping but the reason, which is told.
                machine.forget_at_end();
            }
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

/// Once what a start brings along is over, most of the program is not needed for days.
async fn rest() {
    tokio::time::sleep(RESTLESS).await;
    sys::rest();
}

/// Gives everything back and tells those who wait.
async fn finish(mut machine: Machine, end: State, published: &Published) -> Result<(), Error> {
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

/// What the supervisor keeps from turn to turn.
pub(super) struct Life {
    pub(super) requests: mpsc::Receiver<Asked>,
    pub(super) terminations: Terminations,
    pub(super) published: Published,
    /// What there is to tell of processes beside the workload.
    pub(super) notes: mpsc::Receiver<Note>,
    pub(super) output: Writer,
    /// Whether somebody wants an end that stays.
    pub(super) is_unwanted: bool,
    /// Whether that was asked for this VM, and not of all processes because the host ends.
    pub(super) was_asked: bool,
}

impl Life {
    /// Listens for requests, and keeps output.
    fn open(
        machine: &Machine,
        (published, notes): (&Published, mpsc::Receiver<Note>),
        server: &mut Option<JoinHandle<()>>,
    ) -> Result<Self, Error> {
        let id = machine.id();
        let terminations = signal(SignalKind::terminate())
            .map_err(|source| Error::io("wait for signals", source))?;
        let directory = &machine.record().directories.state;
        let output = Writer::open(directory, machine.record().spec.log)
            .map_err(|source| Error::io(format!("keep the output of VM `{id}`"), source))?;
        machine.make_runtime()?;
        let (sender, requests) = mpsc::channel(REQUESTS);
        *server = Some(listen(machine, sender, published)?);
        Ok(Self {
            requests,
            terminations,
            published: published.clone(),
            notes,
            output,
            is_unwanted: false,
            was_asked: false,
        })
    }

    /// From the workload's first start to the end that stays.
    async fn go_on(&mut self, machine: &mut Machine, turn: Turn) -> State {
        let mut delay = Delay::new();
        let mut turn = Some(turn);
        loop {
            let begun = Instant::now();
            let end = match turn.take() {
                Some(mut turn) => turn.go_on(machine, self).await,
                None => match Turn::begin(machine, self, None).await {
                    Ok(mut turn) => {
                        machine.tell_start();
                        turn.go_on(machine, self).await
                    }
                    Err(error) => State::Failed {
                        reason: Report::from(&error),
                    },
                },
            };
            let record = machine.record();
            let again = record.spec.restart.applies(&end, record.restart_count);
            if self.is_unwanted || !again {
                return end;
            }
            if let Err(error) = machine.rest(&end).await {
                let reason = Report::from(&error);
                return State::Failed { reason };
            }
            if !self.waits(machine, delay.after(begun.elapsed())).await {
                return end;
            }
        }
    }

    /// Waits until it is time to start again. Returns false if somebody wants the end instead.
    async fn waits(&mut self, machine: &mut Machine, delay: Duration) -> bool {
        let time = Instant::now() + delay;
        loop {
            let asked = tokio::select! {
                () = sleep_until(time) => return true,
                _ = self.terminations.recv() => return false,
                Some(asked) = self.requests.recv() => asked,
            };
            match &asked.request {
                Request::Stop(stop) => {
                    self.note_asked(!stop.host_ends);
                    return false;
                }
                Request::Kill => {
                    self.note_asked(true);
                    return false;
                }
                Request::Change(change) => {
                    let changed = machine.change(change).await;
                    asked.reply(Answer::of(changed));
                }
                _ => asked.refuse("does not run at this moment"),
            }
        }
    }

    /// Returns when somebody wants a VM to end that has not started yet, or not again.
    pub(super) async fn refused(&mut self) {
        loop {
            tokio::select! {
                Some(asked) = self.requests.recv() => match asked.request {
                    Request::Stop(_) | Request::Kill => return self.note_asked(true),
                    _ => asked.refuse("does not run at this moment"),
                },
                _ = self.terminations.recv() => {
                    self.is_unwanted = true;
                    return;
                }
            }
        }
    }

    /// Refuses what was asked when it was too late: the server ends when all who asked are answered.
    /// Returns whether somebody wanted this VM in particular to be down.
    fn end(mut self) -> bool {
        self.requests.close();
        while let Ok(asked) = self.requests.try_recv() {
            asked.refuse("has ended");
        }
        self.was_asked
    }

    /// Notes that somebody wants the VM's end, and whether it is this VM that is to be down.
    pub(super) fn note_asked(&mut self, in_particular: bool) {
        self.is_unwanted = true;
        self.was_asked |= in_particular;
    }
}

impl Asked {
    /// Answers that it cannot be, because the VM `is_so`.
    pub(super) fn refuse(self, is_so: &str) {
        self.reply(Answer::Refused(Report::new(format!("the VM {is_so}"))));
    }

    /// Answers, if an answer is waited for.
    pub(super) fn reply(self, answer: Answer) {
        if let Some(waiting) = self.answer {
            // Who asked may have gone.
            let _ = waiting.send(answer);
        }
    }
}

fn listen(
    machine: &Machine,
    requests: mpsc::Sender<Asked>,
    published: &Published,
) -> Result<JoinHandle<()>, Error> {
    let path = machine.record().directories.control();
    let doing = || format!("listen on `{}`", path.display());
    // One that a supervisor left behind that was killed.
    let _ = fs_err::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|source| Error::io(doing(), source))?;
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|source| Error::io(doing(), source))?;
    let served = control::serve(listener, requests, published.clone());
    Ok(tokio::spawn(served))
}
