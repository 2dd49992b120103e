//! What commands say to a VM's supervisor, over its Unix socket: one request a connection, as a
//! line of JSON, and its answers, each a line.
//!
//! The socket is in a directory that only root may enter.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use firebuild_protocol::task::Task;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::change::Change;
use crate::record::Record;
use crate::supervisor::processes::{self, Note, Processes};
use crate::{Error, Report};

/// How many bytes a request may have: a process's arguments and environment are in it.
pub(crate) const REQUEST: u64 = 1 << 20;

/// How many bytes the number of a segment may have, with its line feed.
const POSITION: u64 = 21;

/// How long whoever follows the output may take to read the rest of it at the end.
const LAST_READ: Duration = Duration::from_secs(5);

/// What is asked of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Say when the VM has ended, and how.
    Wait,
    /// Say when there is more output, and when there will be none.
    Follow,
    /// Send the workload a signal.
    Signal(u8),
    /// Ask the workload to end, and kill it after a time. Answered as `Wait`.
    Stop(Stop),
    /// End the VM at once. Answered as `Wait`.
    Kill,
    /// Do something in the VM. What follows, both ways, are frames (see [`crate::frames`]).
    Task(Box<Task>),
    /// Send the process of this task a signal.
    SignalTask(u32, u8),
    /// Stop the guest's processors.
    Pause,
    /// Let the guest's processors go on.
    Resume,
    /// Change something about the VM.
    Change(Box<Change>),
}

/// How a workload is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stop {
    /// How long it may take; what the VM's own time is, if none.
    pub grace: Option<Duration>,
    /// The number of the signal, 1 to 64; the VM's own, if none.
    pub signal: Option<u8>,
    /// Whether the host ends, and nobody wants this VM in particular to be down.
    pub host_ends: bool,
}

impl Stop {
    /// With the VM's own signal, and this much time.
    #[must_use]
    pub fn within(grace: Duration) -> Self {
        Self {
            grace: Some(grace),
            ..Self::default()
        }
    }
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done, as far as the supervisor can tell.
    Done,
    /// It cannot be done.
    Refused(Report),
    /// There is more output.
    Grown,
    /// There will be no more output.
    Last,
    /// The VM has ended, everything is given back, and this is its last record.
    Ended(Box<Record>),
}

impl Answer {
    /// Whether it was done.
    pub(crate) fn of(done: Result<(), Error>) -> Self {
        match done {
            Ok(()) => Self::Done,
            Err(error) => Self::Refused(Report::from(&error)),
        }
    }
}

/// A request on its way to the task that has the VM in hand.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What is asked.
    pub(crate) request: Request,
    /// Where the answer goes, for what is answered at once.
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
}

/// What a supervisor publishes to those who wait.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// Counts up with every output; none once there will be no more.
    pub(crate) output: watch::Sender<Option<u64>>,
    /// Which segment of the output who started the supervisor reads, if it still does.
    pub(crate) position: watch::Sender<Option<u64>>,
    /// The last record, once the VM has ended.
    pub(crate) ended: watch::Sender<Option<Arc<Record>>>,
    /// What goes on beside the workload.
    pub(crate) processes: Processes,
}

impl Published {
    /// Nothing yet; and what there will be to tell of processes beside the workload.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Note>) {
        let (processes, notes) = Processes::new();
        let published = Self {
            output: watch::Sender::new(Some(0)),
            position: watch::Sender::new(None),
            ended: watch::Sender::new(None),
            processes,
        };
        (published, notes)
    }

    /// Says that there will be no more output. If the output is about to be removed, waits until
    /// those who follow it have read the last of it, but not for long.
    pub(crate) async fn last(&self, is_removed: bool) {
        self.output.send_replace(None);
        if is_removed {
            let _ = tokio::time::timeout(LAST_READ, self.output.closed()).await;
        }
    }

    pub(crate) fn grown(&self) {
        self.output
            .send_modify(|count| *count = count.map(|count| count.wrapping_add(1)));
    }
}

/// Serves commands. What they ask goes to `requests`; what they wait for is in `published`.
/// Returns when the last connection is done, once the VM has ended.
pub(crate) async fn serve(
    listener: UnixListener,
    requests: mpsc::Sender<Asked>,
    published: Published,
) {
    let mut connections = tokio::task::JoinSet::new();
    let mut ended = published.ended.subscribe();
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let requests = requests.clone();
                    let published = published.clone();
                    connections.spawn(async move {
                        // A command that was killed is none of the supervisor's business.
                        let _ = connection(stream, requests, published).await;
                    });
                }
                // Out of descriptors for the moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            () = async { drop(ended.wait_for(Option::is_some).await) } => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    mut stream: UnixStream,
    requests: mpsc::Sender<Asked>,
    published: Published,
) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    (&mut reader).take(REQUEST).read_line(&mut line).await?;
    let request: Request = serde_json::from_str(&line)?;
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    match request {
        Request::Follow => {
            // Shows that somebody follows, until the end of the connection.
            let _following = published.output.subscribe();
            follow(&mut writer, &published).await?;
            // Until the reader has what it came for; it reads files that are about to go.
            let mut rest = [0; 1];
            let _ = tokio::time::timeout(LAST_READ, reader.read(&mut rest)).await;
            return Ok(());
        }
        Request::Signal(_) | Request::Pause | Request::Resume | Request::Change(_) => {
            let (answer, answered) = oneshot::channel();
            let answer = Some(answer);
            let asked = Asked { request, answer };
            requests.send(asked).await.map_err(|_| gone())?;
            let answer = answered.await.map_err(|_| gone())?;
            return say(&mut writer, &answer).await;
        }
        Request::Stop(_) | Request::Kill => {
            let answer = None;
            let asked = Asked { request, answer };
            requests.send(asked).await.map_err(|_| gone())?;
        }
        Request::Task(task) => return beside(&published, &task, reader, writer).await,
        Request::SignalTask(id, number) => {
            published.processes.signal(id, number).await;
            return say(&mut writer, &Answer::Done).await;
        }
        Request::Wait => {}
    }
    let mut ended = published.ended.subscribe();
    let end = async {
        let ended = ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|record| record.clone())
    };
    let record = tokio::select! {
        record = end => record,
        // Who waits says nothing more: that is the end of the connection.
        _ = reader.read_u8() => None,
    };
    match record {
        Some(record) => say(&mut writer, &Answer::Ended(Box::new((*record).clone()))).await,
        None => Ok(()),
    }
}

/// Has a task done, at most until the VM has ended and the command could read what was left.
async fn beside(
    published: &Published,
    task: &Task,
    reader: BufReader<ReadHalf<'_>>,
    writer: WriteHalf<'_>,
) -> io::Result<()> {
    let mut ended = published.ended.subscribe();
    let too_late = async {
        drop(ended.wait_for(Option::is_some).await);
        tokio::time::sleep(LAST_READ).await;
    };
    tokio::select! {
        served = processes::serve(&published.processes, task, reader, writer) => served,
        () = too_late => Ok(()),
    }
}

/// Serves who started the supervisor, if that stayed: everything that `Follow` and `Wait` answer,
/// with nothing missed in between, however short the workload's life was. It says which segment
/// of the output it reads, each a line, so that none is removed before, and ends its half of the
/// connection when it has read all.
pub(crate) async fn attached(mut stream: UnixStream, published: Published) {
    let mut ended = published.ended.subscribe();
    let (reader, mut writer) = stream.split();
    {
        let _following = published.output.subscribe();
        let reading = note_position(reader, &published);
        tokio::pin!(reading);
        tokio::select! {
            () = &mut reading => {}
            _ = follow(&mut writer, &published) => {
                let _ = tokio::time::timeout(LAST_READ, reading).await;
            }
        }
        published.position.send_replace(None);
    }
    let ended = ended.wait_for(Option::is_some).await;
    let record = ended.ok().and_then(|record| record.clone());
    if let Some(record) = record {
        // It may have gone; others know as well.
        let _ = say(&mut writer, &Answer::Ended(Box::new((*record).clone()))).await;
    }
}

/// Notes which segment is being read, until there is no more to be heard.
async fn note_position<R: AsyncReadExt + Unpin>(reader: R, published: &Published) {
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    loop {
        line.clear();
        let read = (&mut reader).take(POSITION).read_line(&mut line).await;
        match (read, line.trim_end().parse()) {
            (Ok(1..), Ok(segment)) => drop(published.position.send_replace(Some(segment))),
            _ => return,
        }
    }
}

async fn follow<W: AsyncWriteExt + Unpin>(writer: &mut W, published: &Published) -> io::Result<()> {
    let mut output = published.output.subscribe();
    output.mark_changed();
    loop {
        if output.changed().await.is_err() || output.borrow_and_update().is_none() {
            return say(writer, &Answer::Last).await;
        }
        say(writer, &Answer::Grown).await?;
    }
}

async fn say<W: AsyncWriteExt + Unpin>(writer: &mut W, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
