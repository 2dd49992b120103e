//! What commands want done in a VM beside its workload, as its supervisor arranges it: each task is
//! told to the guest, which opens a call about it, and that call is joined with the command's
//! connection.
//!
//! What must hold: no task waits for another, nor the workload for any; whatever either end does,
//! only so much of a task is kept here as is under way.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firebuild_protocol::task::{Process, Streams, Task};
use firebuild_protocol::v1::{
    self, FromTerminal, Opened, TaskSignal, ToGuest, ToTerminal, from_terminal, to_guest,
};
use tokio::io::{BufReader, Interest};
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::frames::{self, Finish, Told};
use crate::record::Exit;
use crate::session::shown;
use crate::terminal::{self, Broken, End};

/// How many tasks there can be at once: fewer than the guest may have calls.
const MOST: usize = 100;

/// How many letters of a command are told.
const SHOWN: usize = 256;

/// How many messages to the guest wait, for one task.
const WAITING: usize = 2;

/// How long a VM whose guest has gone may take until that is known.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the guest may take to open the call about a task, and then to begin it: an emulated one
/// may have much to do.
const OPENING: Duration = Duration::from_secs(60);

/// How many notes wait at most; more are left out.
const NOTES: usize = 256;

/// Something that is to be told of a process beside the workload.
#[derive(Debug)]
pub(crate) struct Note {
    /// Which it is.
    pub(crate) id: u32,
    /// What became of it.
    pub(crate) what: Beside,
}

/// What becomes of a process beside the workload.
#[derive(Debug)]
pub(crate) enum Beside {
    /// Somebody wants this to be executed.
    Ordered(String),
    /// It has begun.
    Begun,
    /// It has ended.
    Ended(Exit),
}

/// All tasks of a VM.
#[derive(Debug, Clone)]
pub(crate) struct Processes {
    state: Arc<Mutex<State>>,
    /// How to tell the guest something, while its workload runs.
    guest: watch::Sender<Option<mpsc::Sender<ToGuest>>>,
    notes: mpsc::Sender<Note>,
}

#[derive(Debug, Default)]
struct State {
    last: u32,
    /// How many tasks there are.
    count: usize,
    /// Those whose call the guest has not opened yet.
    expected: HashMap<u32, Expected>,
}

#[derive(Debug)]
struct Expected {
    to_guest: mpsc::Receiver<Result<ToTerminal, Status>>,
    opened: oneshot::Sender<Streaming<FromTerminal>>,
}

/// A task that was told to the guest, for as long as it is of interest.
#[derive(Debug)]
struct Order {
    processes: Processes,
    guest: mpsc::Sender<ToGuest>,
    id: u32,
    /// Whether the guest is to end it if it has not ended by itself.
    is_bound: bool,
}

impl Processes {
    /// None yet, and nobody to do any; and what there will be to tell of them.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Note>) {
        let (notes, noted) = mpsc::channel(NOTES);
        let none = Self {
            state: Arc::default(),
            guest: watch::Sender::new(None),
            notes,
        };
        (none, noted)
    }

    /// Tells of a task, if it is a process.
    fn note(&self, task: &Task, id: u32, what: impl FnOnce(&Process) -> Beside) {
        if let Task::Execute(process) = task {
            let what = what(process);
            // Nobody waits for what is only told.
            let _ = self.notes.try_send(Note { id, what });
        }
    }

    /// From now on the guest that listens to `guest` takes tasks.
    pub(crate) fn open(&self, guest: mpsc::Sender<ToGuest>) {
        self.guest.send_replace(Some(guest));
    }

    /// There are no new tasks from now on.
    pub(crate) fn close(&self) {
        self.guest.send_replace(None);
        self.state().expected.clear();
    }

    /// Why a conversation broke off: where the VM ends, that shows a little later.
    async fn explain(&self, what: impl Into<String>) -> Finish {
        let mut guest = self.guest.subscribe();
        let gone = guest.wait_for(Option::is_none);
        match tokio::time::timeout(LAST_WORDS, gone).await {
            Ok(_) => Finish::NotRunning,
            Err(_) => Finish::Confused(what.into()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a call that the guest opens with the task that it names. The result is what comes from
    /// the command.
    pub(crate) async fn join(
        &self,
        mut guest: Streaming<FromTerminal>,
    ) -> Result<ReceiverStream<Result<ToTerminal, Status>>, Status> {
        let named = match guest.message().await?.and_then(|first| first.message) {
            Some(from_terminal::Message::Opened(Opened { command })) => command,
            _ => return Err(Status::invalid_argument("the first message names no task")),
        };
        let found = self.state().expected.remove(&named);
        let expected = found.ok_or_else(|| Status::not_found("there is no such task"))?;
        // A command that is gone needs nothing.
        let _ = expected.opened.send(guest);
        Ok(ReceiverStream::new(expected.to_guest))
    }

    /// Passes a signal on to a task. One that has ended does not mind.
    pub(crate) async fn signal(&self, id: u32, number: u8) {
        let guest = self.guest.borrow().clone();
        if let Some(guest) = guest {
            let _ = guest.send(signal(id, number)).await;
        }
    }

    /// A new task, to be told to the guest.
    #[allow(clippy::type_complexity, reason = "both ends of both directions, once")]
    fn order(
        &self,
    ) -> Result<
        (
            Order,
            mpsc::Sender<Result<ToTerminal, Status>>,
            oneshot::Receiver<Streaming<FromTerminal>>,
        ),
        Finish,
    > {
        let mut state = self.state();
        let guest = self.guest.borrow().clone();
        let guest = guest.ok_or(Finish::NotRunning)?;
        if state.count >= MOST {
            return Err(Finish::TooMany(MOST));
        }
        let (to_guest, from_command) = mpsc::channel(WAITING);
        let (opened, from_guest) = oneshot::channel();
        state.last = state.last.wrapping_add(1);
        state.count += 1;
        let id = state.last;
        let expected = Expected {
            to_guest: from_command,
            opened,
        };
        state.expected.insert(id, expected);
        let order = Order {
            processes: self.clone(),
            guest,
            id,
            is_bound: true,
        };
        Ok((order, to_guest, from_guest))
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        let mut state = self.processes.state();
        state.count -= 1;
        state.expected.remove(&self.id);
        drop(state);
        if self.is_bound {
            let (guest, id) = (self.guest.clone(), self.id);
            let hang_up = async move {
                let _ = guest.send(signal(id, 0)).await;
            };
            tokio::spawn(hang_up);
        }
    }
}

fn signal(id: u32, number: u8) -> ToGuest {
    let number = number.into();
    ToGuest {
        message: Some(to_guest::Message::TaskSignal(TaskSignal { id, number })),
    }
}

/// Has `task` done for the command at the other end, from its beginning to its end or that of the
/// connection.
pub(crate) async fn serve(
    processes: &Processes,
    task: &Task,
    mut reader: BufReader<ReadHalf<'_>>,
    mut writer: WriteHalf<'_>,
) -> io::Result<()> {
    let (typed, mut input) = mpsc::channel(1);
    let conversation = async {
        let finish = match perform(processes, task, &mut writer, &mut input).await? {
            Ok(finish) | Err(finish) => finish,
        };
        frames::write_told(&mut writer, &Told::Finished(finish)).await
    };
    tokio::select! {
        done = conversation => done,
        read = read_all(&mut reader, &typed) => read,
    }
}

/// Reads what the user does, to the connection's end. That shows even if nobody takes what was read.
async fn read_all(
    reader: &mut BufReader<ReadHalf<'_>>,
    typed: &mpsc::Sender<terminal::Input>,
) -> io::Result<()> {
    while let Some(input) = frames::read_input(reader).await? {
        tokio::select! {
            biased;
            sent = typed.send(input) => if sent.is_err() {
                break;
            },
            // Nothing of the kind ever comes; but the end does.
            _ = reader.get_ref().ready(Interest::PRIORITY) => return Ok(()),
        }
    }
    Ok(())
}

async fn perform(
    processes: &Processes,
    task: &Task,
    writer: &mut WriteHalf<'_>,
    input: &mut mpsc::Receiver<terminal::Input>,
) -> io::Result<Result<Finish, Finish>> {
    let (mut order, to_guest, opened) = match processes.order() {
        Ok(all) => all,
        Err(finish) => return Ok(Err(finish)),
    };
    let told = to_guest::Message::Task(v1::Task {
        id: order.id,
        task: serde_json::to_string(task)?,
    });
    processes.note(task, order.id, |process| {
        Beside::Ordered(process.arguments.join(" ").chars().take(SHOWN).collect())
    });
    let message = Some(told);
    let begun = async {
        let gone = |_| Finish::NotRunning;
        order
            .guest
            .send(ToGuest { message })
            .await
            .map_err(|_| Finish::NotRunning)?;
        let mut from_guest = opened.await.map_err(gone)?;
        match first(processes, &mut from_guest).await {
            Ok(()) => Ok(from_guest),
            Err(finish) => Err(finish),
        }
    };
    let slow = || Finish::Confused("it does not begin with what it was told to do".to_owned());
    let begun = tokio::time::timeout(OPENING, begun).await;
    let from_guest = match begun.unwrap_or_else(|_| Err(slow())) {
        Ok(from_guest) => from_guest,
        Err(finish) => return Ok(Err(finish)),
    };
    processes.note(task, order.id, |_| Beside::Begun);
    frames::write_told(writer, &Told::Started(order.id)).await?;
    if is_left(task) {
        order.is_bound = false;
        return Ok(Ok(Finish::Left));
    }
    let (output, mut written) = mpsc::channel(1);
    let conversation = async {
        let end = terminal::connect((input, &output), to_guest, from_guest).await;
        drop(output);
        end
    };
    let showing = async {
        while let Some(shown) = written.recv().await {
            frames::write_told(writer, &Told::Shown(shown)).await?;
        }
        io::Result::Ok(())
    };
    let (end, showed) = tokio::join!(conversation, showing);
    showed?;
    Ok(Ok(match end {
        Ok(End::Exited(exit)) => match Exit::try_from(exit) {
            Ok(exit) => {
                order.is_bound = false;
                processes.note(task, order.id, |_| Beside::Ended(exit));
                Finish::Exited(exit)
            }
            Err(reason) => Finish::Confused(format!("it reports {reason}")),
        },
        Ok(End::Failed(failed)) => refused(&failed),
        Ok(End::Unseen) => Finish::Left,
        Err(broken @ Broken::Early) => processes.explain(broken.to_string()).await,
        Err(broken) => Finish::Confused(broken.to_string()),
    }))
}

/// The first thing that the guest says of a task.
async fn first(processes: &Processes, guest: &mut Streaming<FromTerminal>) -> Result<(), Finish> {
    let unclear = "it does not say that a task has begun";
    let Ok(Some(said)) = guest.message().await else {
        return Err(processes.explain(unclear).await);
    };
    match said.message {
        Some(from_terminal::Message::Started(_)) => Ok(()),
        Some(from_terminal::Message::Failed(failed)) => Err(refused(&failed)),
        _ => Err(Finish::Confused(unclear.to_owned())),
    }
}

fn refused(failed: &v1::Failed) -> Finish {
    let status = match failed.status {
        126 => 126,
        127 => 127,
        _ => 0,
    };
    Finish::Failed(shown(&failed.error), status)
}

/// Whether nobody stays with the task.
fn is_left(task: &Task) -> bool {
    matches!(task, Task::Execute(process) if process.streams == Streams::Detached)
}
