//! The standard streams of a process that a person looks into a failed step with.
//!
//! Nothing of them is kept here: what the guest sends is read when the person's end has taken what
//! came before, and until then waits on the guest's side of the connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use firebuild_protocol::v1::{FromTerminal, Opened, ToTerminal, from_terminal};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// How many messages may wait for the guest.
const WAITING: usize = 2;

/// The one process whose streams the guest may open.
#[derive(Debug, Default)]
pub(super) struct Terminals(Mutex<Option<Expected>>);

#[derive(Debug)]
struct Expected {
    command: u32,
    to_guest: mpsc::Receiver<Result<ToTerminal, Status>>,
    from_guest: oneshot::Sender<Streaming<FromTerminal>>,
}

/// The builder's end of a process's streams.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) to_guest: mpsc::Sender<Result<ToTerminal, Status>>,
    /// Comes when the guest has opened them.
    pub(crate) from_guest: oneshot::Receiver<Streaming<FromTerminal>>,
}

impl Terminals {
    /// Lets the guest open the streams of `command`'s process, once.
    pub(super) fn expect(&self, command: u32) -> Streams {
        let (to_guest, from_builder) = mpsc::channel(WAITING);
        let (to_builder, from_guest) = oneshot::channel();
        *self.expected() = Some(Expected {
            command,
            to_guest: from_builder,
            from_guest: to_builder,
        });
        Streams {
            to_guest,
            from_guest,
        }
    }

    /// Ends what `command` was allowed, and has not used.
    pub(super) fn end(&self, command: u32) {
        let _ = self
            .expected()
            .take_if(|expected| expected.command == command);
    }

    fn expected(&self) -> MutexGuard<'_, Option<Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the streams that the guest names. The result is what comes from the builder.
    pub(super) async fn open(
        &self,
        mut guest: Streaming<FromTerminal>,
    ) -> Result<ReceiverStream<Result<ToTerminal, Status>>, Status> {
        let named = match guest.message().await?.and_then(|first| first.message) {
            Some(from_terminal::Message::Opened(Opened { command })) => command,
            _ => {
                return Err(Status::invalid_argument(
                    "the first message names no command",
                ));
            }
        };
        let found = self
            .expected()
            .take_if(|expected| expected.command == named);
        let expected = found.ok_or_else(|| Status::not_found("the command has no streams"))?;
        // A builder that is gone needs nothing.
        let _ = expected.from_guest.send(guest);
        Ok(ReceiverStream::new(expected.to_guest))
    }
}
