//! What a command has done in a running VM beside its workload, and what passes between the two.
//!
//! Neither side gets ahead of the other. A command that goes, however it goes, takes along what was
//! begun for it: the guest hangs up on the process, and kills it if that does not end it.

use firebuild_core::MachineId;
use firebuild_protocol::task::Task;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::control::{REQUEST, Request};
use crate::frames::{self, Finish, Told};
use crate::record::{self, Exit, Record, State};
use crate::terminal::{Input, Shown};
use crate::{Error, Host, reconcile};

/// A task that has begun.
#[derive(Debug)]
pub struct Conversation {
    record: Record,
    id: u32,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its process ended.
    Exited(Exit),
    /// It is left to itself.
    Left,
}

/// Sends signals to the process of a task.
#[derive(Debug, Clone)]
pub struct Signals {
    record: Record,
    id: u32,
}

/// Has `task` begun in the VM of that name, id, or beginning of an id. Only that VM is looked at. To
/// be called within a tokio runtime.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::IsStopping`], [`Error::IsPaused`], [`Error::TooMany`]; [`Error::GuestReports`] if the
/// task cannot be done; [`Error::Spec`] if it is too long to be told; [`Error::Store`],
/// [`Error::Io`].
pub async fn begin(host: &Host, name: &str, task: &Task) -> Result<Conversation, Error> {
    let id = host.store.machines().find(name)?.id;
    let record = record::read(&host.store, &id)?;
    if record.state == State::Paused {
        return Err(Error::IsPaused(id));
    }
    let request = Request::Task(Box::new(task.clone()));
    let Some(stream) = ask(&record, &request).await? else {
        // Nobody listens: it has ended, or its supervisor was killed.
        let _ = reconcile::reconcile_one(host, &id);
        return Err(Error::NotRunning(id));
    };
    let (reader, writer) = stream.into_split();
    let mut conversation = Conversation {
        record,
        id: 0,
        reader: BufReader::new(reader),
        writer,
    };
    match conversation.hear().await? {
        Told::Started(number) => {
            conversation.id = number;
            Ok(conversation)
        }
        Told::Finished(finish) => match conversation.explain(finish) {
            Err(Error::EndedMeanwhile(_)) => Err(absent(host, id)),
            Err(error) => Err(error),
            Ok(_) => Err(conversation.confused("a task ended before it began")),
        },
        Told::Shown(_) => Err(conversation.confused("a task wrote before it began")),
    }
}

/// Why a VM takes no task.
fn absent(host: &Host, id: MachineId) -> Error {
    match record::read(&host.store, &id) {
        Ok(record) if record.state == State::Stopping => Error::IsStopping(id),
        _ => Error::NotRunning(id),
    }
}

/// A connection to the supervisor, with a request said; none if nobody listens.
async fn ask(record: &Record, request: &Request) -> Result<Option<UnixStream>, Error> {
    let doing = || format!("ask the supervisor of VM `{}`", record.id);
    let mut line = serde_json::to_vec(request).map_err(|e| Error::io(doing(), e))?;
    line.push(b'\n');
    if line.len() as u64 > REQUEST {
        return Err(Error::Spec(format!(
            "the process's arguments and environment have {} bytes; they can have {REQUEST}",
            line.len()
        )));
    }
    let mut stream = match UnixStream::connect(record.directories.control()).await {
        Ok(stream) => stream,
        Err(error) if crate::client::is_absence(&error) => return Ok(None),
        Err(source) => return Err(Error::io(doing(), source)),
    };
    match stream.write_all(&line).await {
        Ok(()) => Ok(Some(stream)),
        Err(error) if crate::client::is_absence(&error) => Ok(None),
        Err(source) => Err(Error::io(doing(), source)),
    }
}

impl Conversation {
    /// The VM, as it was when the task began.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What sends signals to the task's process.
    #[must_use]
    pub fn signals(&self) -> Signals {
        Signals {
            record: self.record.clone(),
            id: self.id,
        }
    }

    /// Connects the task with a user's end until it ends. An end of `input` is no more than that
    /// nothing else comes.
    ///
    /// # Errors
    /// [`Error::EndedMeanwhile`]; [`Error::GuestReports`], [`Error::GuestConfused`]; [`Error::Io`].
    pub async fn connect(
        mut self,
        mut input: mpsc::Receiver<Input>,
        output: mpsc::Sender<Shown>,
    ) -> Result<Ending, Error> {
        let Self {
            reader,
            writer,
            record,
            ..
        } = &mut self;
        let typing = async {
            while let Some(input) = input.recv().await {
                if frames::write_input(writer, &input).await.is_err() {
                    break;
                }
            }
            // The supervisor ends the conversation.
            std::future::pending().await
        };
        let showing = async {
            loop {
                match hear(reader, record).await? {
                    Told::Shown(shown) => {
                        if output.send(shown).await.is_err() {
                            return Ok::<_, Error>(None);
                        }
                    }
                    Told::Finished(finish) => return Ok(Some(finish)),
                    Told::Started(_) => {}
                }
            }
        };
        let finish = tokio::select! {
            finish = showing => finish?,
            () = typing => None,
        };
        match finish {
            Some(finish) => self.explain(finish),
            None => Ok(Ending::Left),
        }
    }

    async fn hear(&mut self) -> Result<Told, Error> {
        hear(&mut self.reader, &self.record).await
    }

    fn explain(&self, finish: Finish) -> Result<Ending, Error> {
        let id = self.record.id.clone();
        Err(match finish {
            Finish::Exited(exit) => return Ok(Ending::Exited(exit)),
            Finish::Left => return Ok(Ending::Left),
            Finish::Failed(text, status) => Error::GuestReports { id, text, status },
            Finish::NotRunning => Error::EndedMeanwhile(id),
            Finish::TooMany(most) => Error::TooMany { id, most },
            Finish::Confused(text) => Error::GuestConfused { id, text },
        })
    }

    fn confused(&self, text: &str) -> Error {
        Error::GuestConfused {
            id: self.record.id.clone(),
            text: text.to_owned(),
        }
    }
}

/// The next frame. A supervisor that says nothing more has ended, and so has the VM.
async fn hear(reader: &mut BufReader<OwnedReadHalf>, record: &Record) -> Result<Told, Error> {
    match frames::read_told(reader).await {
        Ok(Some(told)) => Ok(told),
        Ok(None) => Err(Error::EndedMeanwhile(record.id.clone())),
        Err(error)
            if crate::client::is_absence(&error)
                || error.kind() == std::io::ErrorKind::UnexpectedEof =>
        {
            Err(Error::EndedMeanwhile(record.id.clone()))
        }
        Err(source) => {
            let doing = format!("hear of what VM `{}` does", record.id);
            Err(Error::io(doing, source))
        }
    }
}

impl Signals {
    /// Sends the signal of that number. A process that has ended does not mind.
    pub async fn send(&self, number: u8) {
        // Whatever goes wrong is seen by who waits for the process.
        if let Ok(Some(mut stream)) = ask(&self.record, &Request::SignalTask(self.id, number)).await
        {
            let mut answer = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
        }
    }
}
