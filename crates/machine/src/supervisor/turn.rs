//! One turn of a VM: from the start of its VMM to the end of it.

use std::time::Duration;

use firebuild_protocol::v1::machine_server::MachineServer;
use firebuild_protocol::v1::{Shutdown, Signal, to_guest};
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::Starter;
use super::life::Life;
use crate::control::{Answer, Asked, Request, Stop};
use crate::error::Report;
use crate::machine::Ended;
use crate::output::Stream;
use crate::record::{Exit, State};
use crate::session::{Event, Line, Session};
use crate::spec::Purpose;
use crate::{Error, Machine};

/// How long a guest may take to power off once its workload has ended, without emulation.
const POWER_OFF: Duration = Duration::from_secs(10);

/// Through how many tasks' hands a message to the guest goes before it is sent. It is under way then
/// while the disk is waited for.
const HANDS: usize = 4;

/// How much room there has to be for a message of the guest, with what is kept beside its bytes.
const ROOM: u64 = 2 * firebuild_protocol::MESSAGE_LIMIT as u64;

/// What the supervisor keeps while the workload runs.
pub(super) struct Turn {
    line: Line,
    stop_signal: u8,
    exit: Option<Exit>,
    trouble: Option<Report>,
    deadline: Option<Instant>,
}

impl Turn {
    /// Starts the VM and its workload. A `starter` may give up meanwhile.
    pub(super) async fn begin(
        machine: &mut Machine,
        life: &mut Life,
        starter: Option<&Starter>,
    ) -> Result<Self, Error> {
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
        let workload = machine.furnished(workload);
        let (session, line) = Session::new(&workload, life.published.processes.clone())
            .map_err(|source| Error::io("tell the guest its workload", source))?;
        tokio::select! {
            booting = machine.wait_for_boot() => booting?,
            () = gave_up(starter) => return Err(Error::GivenUp(id.clone())),
            () = life.refused() => return Err(Error::GivenUp(id.clone())),
        }
        machine.start(MachineServer::new(session)).await?;
        let mut turn = Self {
            line,
            stop_signal,
            exit: None,
            trouble: None,
            deadline: None,
        };
        let started = async {
            tokio::select! {
                connected = machine.connected() => connected?,
                () = life.refused() => return Err(Error::GivenUp(id.clone())),
            }
            turn.line.begin();
            turn.started(machine, life).await
        };
        tokio::select! {
            started = started => started?,
            () = gave_up(starter) => return Err(Error::GivenUp(id.clone())),
        }
        machine.mark_running()?;
        life.published.processes.open(turn.line.tasks.clone());
        Ok(turn)
    }

    /// Waits until the guest has started the workload.
    async fn started(&mut self, machine: &mut Machine, life: &mut Life) -> Result<(), Error> {
        loop {
            let event = tokio::select! {
                biased;
                event = self.line.events.recv() => event,
                _ = machine.ended() => None,
                () = life.refused() => return Err(Error::GivenUp(machine.id().clone())),
            };
            match event {
                Some(Event::Started) => return Ok(()),
                Some(Event::Output(stream, data)) => keep(life, stream, &data),
                Some(Event::Boot(boot, received)) => machine.note_boot(&boot, received),
                Some(Event::Launch(boot, received)) => machine.note_launch(&boot, received),
                other => return Err(not_started(machine, other)),
            }
        }
    }

    /// From the workload's start to the VM's end.
    pub(super) async fn go_on(&mut self, machine: &mut Machine, life: &mut Life) -> State {
        let mut position = life.published.position.subscribe();
        let ended = loop {
            let deadline = self.deadline;
            let has_room = self.has_room(life);
            let time_is_up = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = self.line.events.recv(), if has_room => {
                    self.hear(machine, life, event);
                }
                ended = machine.ended() => break ended,
                Ok(()) = position.changed(), if !has_room => {}
                Some(asked) = life.requests.recv() => self.serve(machine, life, asked).await,
                Some(note) = life.notes.recv() => machine.note_beside(&note),
                _ = life.terminations.recv() => {
                    life.published.processes.close();
                    // The host is about to end, perhaps: nobody wants the VM in particular to be down.
                    life.is_unwanted = true;
                    self.stop(machine, Stop::default()).await;
                }
                () = time_is_up => {
                    self.deadline = None;
                    machine.kill();
                }
            }
        };
        life.published.processes.close();
        self.verdict(machine, life, ended)
    }

    fn hear(&mut self, machine: &mut Machine, life: &mut Life, event: Event) {
        match event {
            Event::Output(stream, data) => keep(life, stream, &data),
            Event::Exited { exit, oom_kills } => {
                machine.note_ending();
                life.published.processes.close();
                self.exited(machine, exit, oom_kills);
                self.line.tell(to_guest::Message::Shutdown(Shutdown {
                    signal: 0,
                    grace_milliseconds: 0,
                }));
                self.expect_end(machine, Duration::ZERO);
            }
            // What it was told to do: the workload is its own affair.
            Event::Started | Event::Boot(..) | Event::Launch(..) => {}
            Event::Probed(probed) => machine.note_health(&probed),
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
    fn has_room(&self, life: &Life) -> bool {
        let position = *life.published.position.borrow();
        self.deadline.is_some()
            || life.output.room() > ROOM
            || position.is_none_or(|at| at >= life.output.number())
    }

    async fn serve(&mut self, machine: &mut Machine, life: &mut Life, asked: Asked) {
        let answer = match &asked.request {
            Request::Signal(number) => {
                self.line.tell(to_guest::Message::Signal(Signal {
                    number: (*number).into(),
                }));
                machine.note_signal(*number);
                Answer::Done
            }
            Request::Stop(stop) => {
                machine.note_ending();
                life.note_asked(!stop.host_ends);
                life.published.processes.close();
                self.stop(machine, *stop).await;
                Answer::Done
            }
            Request::Kill => {
                machine.note_ending();
                life.note_asked(true);
                self.exit.get_or_insert(Exit::Signal(9));
                machine.note_signal(9);
                machine.kill();
                Answer::Done
            }
            Request::Pause => Answer::of(machine.pause().await),
            Request::Resume => Answer::of(machine.resume().await),
            Request::Change(change) => Answer::of(machine.change(change).await),
            // Those are served where they arrive.
            Request::Wait | Request::Follow | Request::Task(_) | Request::SignalTask(..) => {
                Answer::Done
            }
        };
        asked.reply(answer);
    }

    async fn stop(&mut self, machine: &mut Machine, stop: Stop) {
        if machine.record().state == State::Paused {
            // One that stands still cannot end by itself.
            let _ = machine.resume().await;
        }
        let grace = stop.grace.unwrap_or(machine.record().spec.stop_time());
        self.line.tell(to_guest::Message::Shutdown(Shutdown {
            signal: stop.signal.unwrap_or(self.stop_signal).into(),
            grace_milliseconds: u32::try_from(grace.as_millis()).unwrap_or(u32::MAX),
        }));
        for _ in 0..HANDS {
            tokio::task::yield_now().await;
        }
        // Whatever else it says, the VM is to end.
        let _ = machine.mark_stopping();
        self.expect_end(machine, grace);
    }

    /// From now on the VM has this long, and the time that powering off takes.
    fn expect_end(&mut self, machine: &Machine, grace: Duration) {
        let limit = Instant::now() + grace + POWER_OFF * machine.patience();
        self.deadline = Some(self.deadline.map_or(limit, |old| old.min(limit)));
    }

    /// The workload has ended; a guest that says so again is not listened to.
    fn exited(&mut self, machine: &mut Machine, exit: Exit, oom_kills: u64) {
        if self.exit.is_none() {
            self.exit = Some(exit);
            machine.note_guests_oom(oom_kills);
        }
    }

    fn verdict(&mut self, machine: &mut Machine, life: &mut Life, ended: Ended) -> State {
        while let Ok(note) = life.notes.try_recv() {
            machine.note_beside(&note);
        }
        // What the guest said last may still be in the queue.
        while let Ok(event) = self.line.events.try_recv() {
            match event {
                Event::Output(stream, data) => keep(life, stream, &data),
                Event::Exited { exit, oom_kills } => self.exited(machine, exit, oom_kills),
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

/// Returns when nobody wants the start any more that `starter` wanted.
async fn gave_up(starter: Option<&Starter>) {
    match starter {
        Some(starter) => starter.gave_up().await,
        None => std::future::pending().await,
    }
}

fn keep(life: &mut Life, stream: Stream, data: &[u8]) {
    // A full disk must not stop the workload; what fits later is kept again.
    let _ = life.output.write(Timestamp::now(), stream, data);
    life.published.grown();
}

/// Why the workload did not start, by what the guest said instead.
fn not_started(machine: &Machine, event: Option<Event>) -> Error {
    let id = machine.id().clone();
    match event {
        Some(Event::Failed(text, status)) => Error::GuestReports { id, text, status },
        Some(Event::Confused(text)) => Error::GuestConfused { id, text },
        Some(Event::Exited { .. }) => Error::GuestConfused {
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
