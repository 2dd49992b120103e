//! The conversation with the agent of a VM that runs a workload: the service `Machine` of
//! `firebuild.proto`, as a supervisor offers it.
//!
//! There is one session in a VM's life. What the guest says becomes [`Event`]s, in order, through a
//! channel of few places: a guest that writes faster than the host keeps is slowed down by TCP.

use std::pin::Pin;
use std::sync::Mutex;
use std::time::Instant;

use firebuild_protocol::v1::machine_server::Machine;
use firebuild_protocol::v1::{
    self, FromGuest, FromTerminal, Start, ToGuest, ToTerminal, from_guest, output, to_guest,
};
use firebuild_protocol::workload::Workload;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::output::Stream;
use crate::record::Exit;
use crate::supervisor::processes::Processes;

/// How many of the guest's messages wait for the supervisor.
const WAITING: usize = 4;

/// How many messages to the guest wait for it.
const UNDER_WAY: usize = 16;

/// How many messages about tasks wait for it, so that the others always find room.
const TASKS: usize = 4;

/// How many characters of a guest's own words are kept.
const TEXT: usize = 1000;

/// What a guest says.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// How it booted, and when it said that.
    Boot(v1::Boot, Instant),
    /// What it did until the workload ran, and when it said that.
    Launch(v1::Boot, Instant),
    /// The workload runs.
    Started,
    /// The workload wrote something.
    Output(Stream, bytes::Bytes),
    /// The workload has ended.
    Exited {
        /// How.
        exit: Exit,
        /// How many processes the guest's kernel has killed for want of memory.
        oom_kills: u64,
    },
    /// The workload's health was looked into.
    Probed(v1::Probed),
    /// The agent could not do what it was told. The number is 126, 127 or 0.
    Failed(String, u8),
    /// The guest does not keep to the protocol.
    Confused(String),
    /// The session has ended.
    Closed,
}

/// The service, for one session.
#[derive(Debug)]
pub(crate) struct Session {
    once: Mutex<Option<Ends>>,
    processes: Processes,
}

#[derive(Debug)]
struct Ends {
    start: ToGuest,
    /// Tells that the guest may be told to start.
    begun: oneshot::Receiver<()>,
    events: mpsc::Sender<Event>,
    orders: mpsc::Sender<ToGuest>,
    to_guest: [mpsc::Receiver<ToGuest>; 2],
}

/// The supervisor's side of a session.
#[derive(Debug)]
pub(crate) struct Line {
    /// What the guest says.
    pub(crate) events: mpsc::Receiver<Event>,
    orders: mpsc::Sender<ToGuest>,
    begin: Option<oneshot::Sender<()>>,
    /// For what commands want beside the workload. Who sends waits until there is room.
    pub(crate) tasks: mpsc::Sender<ToGuest>,
}

impl Session {
    /// A session in which the guest is told to start `workload`, and opens the calls of `processes`.
    pub(crate) fn new(
        workload: &Workload,
        processes: Processes,
    ) -> Result<(Self, Line), serde_json::Error> {
        let start = to_guest::Message::Start(Start {
            workload: serde_json::to_string(workload)?,
        });
        let (event_sender, events) = mpsc::channel(WAITING);
        let (orders, ordered) = mpsc::channel(UNDER_WAY);
        let (tasks, begun) = mpsc::channel(TASKS);
        let (begin, may_begin) = oneshot::channel();
        let ends = Ends {
            start: message(start),
            begun: may_begin,
            events: event_sender,
            orders: orders.clone(),
            to_guest: [ordered, begun],
        };
        let session = Self {
            once: Mutex::new(Some(ends)),
            processes,
        };
        let line = Line {
            events,
            orders,
            begin: Some(begin),
            tasks,
        };
        Ok((session, line))
    }
}

impl Line {
    /// Lets the guest start its workload, as soon as it is there: to be called once the metadata have
    /// no secrets any more, which a workload could read otherwise.
    pub(crate) fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            // Nobody listens where the guest has gone.
            let _ = begin.send(());
        }
    }

    /// Tells the guest something. A guest that does not listen any more, or is slow to, is not
    /// waited for: returns whether it was told.
    pub(crate) fn tell(&self, order: to_guest::Message) -> bool {
        self.orders.try_send(message(order)).is_ok()
    }
}

fn message(message: to_guest::Message) -> ToGuest {
    ToGuest {
        message: Some(message),
    }
}

#[tonic::async_trait]
impl Machine for Session {
    type SessionStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<ToGuest, Status>> + Send + 'static>>;
    type TerminalStream = ReceiverStream<Result<ToTerminal, Status>>;

    async fn terminal(
        &self,
        request: Request<Streaming<FromTerminal>>,
    ) -> Result<Response<Self::TerminalStream>, Status> {
        let from_guest = request.into_inner();
        self.processes.join(from_guest).await.map(Response::new)
    }

    async fn session(
        &self,
        request: Request<Streaming<FromGuest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        use tokio_stream::StreamExt as _;

        let mut once = self.once.lock().map_err(|_| Status::internal("unusable"))?;
        let ends = once.take();
        drop(once);
        let ends = ends.ok_or_else(|| Status::already_exists("there is a session already"))?;
        tokio::spawn(listen(
            request.into_inner(),
            ends.events,
            ends.orders,
            (ends.start, ends.begun),
        ));
        let [ordered, begun] = ends.to_guest.map(ReceiverStream::new);
        Ok(Response::new(Box::pin(ordered.merge(begun).map(Ok))))
    }
}

async fn listen(
    mut guest: Streaming<FromGuest>,
    events: mpsc::Sender<Event>,
    orders: mpsc::Sender<ToGuest>,
    (start, begun): (ToGuest, oneshot::Receiver<()>),
) {
    let mut start = Some((start, begun));
    loop {
        let message = match guest.message().await {
            Ok(Some(message)) => message.message,
            Ok(None) | Err(_) => break,
        };
        let event = match (start.take(), message) {
            (Some((start, begun)), Some(from_guest::Message::Hello(hello))) => {
                let received = Instant::now();
                if begun.await.is_err() || orders.send(start).await.is_err() {
                    break;
                }
                match hello.boot {
                    Some(boot) => Event::Boot(boot, received),
                    None => continue,
                }
            }
            (None, Some(message)) => understand(message),
            _ => Event::Confused("its first message is not `Hello`".to_owned()),
        };
        let confused = matches!(event, Event::Confused(_));
        if events.send(event).await.is_err() || confused {
            break;
        }
    }
    let _ = events.send(Event::Closed).await;
}

fn understand(message: from_guest::Message) -> Event {
    let no = |what: &str| Event::Confused(what.to_owned());
    match message {
        from_guest::Message::Started(_) => Event::Started,
        from_guest::Message::Output(said) => match said.stream() {
            output::Stream::Stdout => Event::Output(Stream::Stdout, said.data),
            output::Stream::Stderr => Event::Output(Stream::Stderr, said.data),
        },
        from_guest::Message::Exited(exited) => match exited.exit.map(Exit::try_from) {
            Some(Ok(exit)) => Event::Exited {
                exit,
                oom_kills: exited.oom_kills,
            },
            Some(Err(reason)) => no(&format!("it reports {reason}")),
            None => no("it reports an exit that is none"),
        },
        from_guest::Message::Failed(failed) => {
            let status = match failed.status {
                126 => 126,
                127 => 127,
                _ => 0,
            };
            Event::Failed(shown(&failed.error), status)
        }
        from_guest::Message::Boot(boot) => Event::Launch(boot, Instant::now()),
        from_guest::Message::Hello(_) => no("it says `Hello` twice"),
        from_guest::Message::Probed(probed) => Event::Probed(probed),
    }
}

/// A guest's words, fit to be shown on a terminal.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .take(TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_checked() {
        let exit = |how| {
            from_guest::Message::Exited(v1::WorkloadExited {
                exit: Some(v1::Exit { how: Some(how) }),
                oom_kills: 7,
            })
        };
        let failed = |error: &str, status| {
            from_guest::Message::Failed(v1::Failed {
                error: error.to_owned(),
                status,
            })
        };
        for (message, expected) in [
            (
                exit(v1::exit::How::Status(3)),
                Event::Exited {
                    exit: Exit::Status(3),
                    oom_kills: 7,
                },
            ),
            (
                exit(v1::exit::How::Signal(9)),
                Event::Exited {
                    exit: Exit::Signal(9),
                    oom_kills: 7,
                },
            ),
            (
                failed("a\x1b[1mb", 127),
                Event::Failed("a [1mb".into(), 127),
            ),
            (
                failed(&"x".repeat(9999), 1),
                Event::Failed("x".repeat(TEXT), 0),
            ),
        ] {
            assert_eq!(understand(message), expected);
        }
        for message in [
            exit(v1::exit::How::Status(256)),
            exit(v1::exit::How::Signal(65)),
            from_guest::Message::Exited(v1::WorkloadExited::default()),
            from_guest::Message::Hello(v1::Hello::default()),
        ] {
            assert!(matches!(understand(message), Event::Confused(_)));
        }
    }
}
