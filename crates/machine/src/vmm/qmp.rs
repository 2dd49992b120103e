//! QEMU's machine protocol (QMP), over one end of a socket pair whose other end QEMU inherits: there
//! is no socket's path that anybody else could find.
//!
//! QEMU is not trusted, because a guest may have taken it over: what it says is bounded in length, in
//! number and in time, and nothing is done by it.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How many bytes a message of QEMU's may have.
const MESSAGE: u64 = 64 << 10;

/// How many messages may come before the answer: events that nobody waited for.
const MESSAGES: usize = 10_000;

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A conversation with QEMU. It begins with the first command: before that, QEMU sends no events.
#[derive(Debug)]
pub(crate) struct Qmp(State);

#[derive(Debug)]
enum State {
    New(Option<StdStream>),
    Open(BufReader<UnixStream>),
}

impl Qmp {
    /// A conversation over our end of the pair.
    pub(crate) fn new(ours: StdStream) -> Self {
        Self(State::New(Some(ours)))
    }

    /// Has QEMU execute a command.
    ///
    /// # Errors
    /// QEMU refuses, says nothing in time, or does not keep to the protocol.
    pub(crate) async fn execute(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let answer = timeout(PATIENCE, self.ask(command, arguments)).await;
        answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn ask(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        if let State::New(stream) = &mut self.0 {
            let stream = stream.take().ok_or(io::ErrorKind::NotConnected)?;
            stream.set_nonblocking(true)?;
            let mut stream = BufReader::new(UnixStream::from_std(stream)?);
            let greeting = message(&mut stream).await?;
            if greeting.get("QMP").is_none() {
                return Err(confused("QEMU does not greet"));
            }
            exchange(&mut stream, "qmp_capabilities", json!({})).await?;
            self.0 = State::Open(stream);
        }
        match &mut self.0 {
            State::Open(stream) => exchange(stream, command, arguments).await,
            State::New(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

async fn exchange(
    stream: &mut BufReader<UnixStream>,
    command: &str,
    arguments: Value,
) -> io::Result<Value> {
    let order = json!({"execute": command, "arguments": arguments});
    let line = format!("{order}\r\n");
    stream.get_mut().write_all(line.as_bytes()).await?;
    for _ in 0..MESSAGES {
        let mut answer = message(stream).await?;
        if let Some(result) = answer.get_mut("return") {
            return Ok(result.take());
        }
        if let Some(error) = answer.get("error") {
            let said = error
                .get("desc")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let said = firebuild_core::printable(said, 200);
            return Err(io::Error::other(format!(
                "QEMU refuses `{command}`: {said}"
            )));
        }
    }
    Err(confused("QEMU says much, but does not answer"))
}

async fn message(stream: &mut BufReader<UnixStream>) -> io::Result<Value> {
    let mut line = Vec::new();
    stream.take(MESSAGE).read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(b'\n') => {
            serde_json::from_slice(&line).map_err(|_| confused("QEMU does not send JSON"))
        }
        Some(_) => Err(confused("a message of QEMU's does not end")),
    }
}

fn confused(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// What comes of a command if QEMU says `said`, one after the other.
    async fn with(said: Vec<Vec<u8>>) -> io::Result<Value> {
        let (ours, mut theirs) = StdStream::pair().unwrap();
        let speaker = std::thread::spawn(move || {
            for message in said {
                if theirs.write_all(&message).is_err() {
                    return;
                }
            }
            // Reads what is asked, so that nothing is refused.
            let _ = theirs.shutdown(std::net::Shutdown::Write);
            let _ = theirs.read_to_end(&mut Vec::new());
        });
        let result = Qmp::new(ours).execute("stop", json!({})).await;
        speaker.join().unwrap();
        result
    }

    const GREETING: &[u8] = b"{\"QMP\": {\"version\": {}}}\r\n";
    const DONE: &[u8] = b"{\"return\": {}}\r\n";

    #[tokio::test]
    async fn events_come_between_and_refusals_are_told() {
        let event = b"{\"event\": \"STOP\"}\r\n";
        let said = [GREETING, DONE, event, event, DONE].map(<[u8]>::to_vec);
        assert_eq!(with(said.to_vec()).await.unwrap(), json!({}));
        let refusal = b"{\"error\": {\"class\": \"x\", \"desc\": \"no \\u001bsuch\"}}\n";
        let said = [GREETING, DONE, refusal].map(<[u8]>::to_vec);
        let error = with(said.to_vec()).await.unwrap_err().to_string();
        assert!(error.starts_with("QEMU refuses `stop`: no"), "{error}");
        assert!(!error.contains('\u{1b}'));
    }

    #[tokio::test]
    async fn whatever_is_said_there_is_an_end() {
        let flood = b"{\"event\": \"X\"}\n".repeat(2 * MESSAGES);
        for said in [
            vec![],
            vec![b"{}\n".to_vec()],
            vec![b"nonsense\n".to_vec()],
            vec![vec![b'x'; 1 << 20]],
            vec![GREETING.to_vec(), flood],
            vec![GREETING.to_vec(), b"{\"return\": {}}".to_vec()],
            vec![GREETING.to_vec(), b"[[[[[[".repeat(1000)],
        ] {
            assert!(with(said).await.is_err());
        }
    }

    #[tokio::test]
    async fn the_real_one_understands() {
        use std::os::fd::{AsRawFd as _, OwnedFd};

        use crate::vmm::group::Groups;

        let (ours, theirs) = StdStream::pair().unwrap();
        let theirs = OwnedFd::from(theirs);
        let mut command = std::process::Command::new(super::super::qemu::program());
        command
            .args(["-machine", "none", "-nodefaults", "-display", "none", "-S"])
            .args(super::super::qemu::control(theirs.as_raw_fd()))
            .stdin(std::process::Stdio::null());
        crate::sys::confine(&mut command, None, vec![theirs], Groups::default());
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut qmp = Qmp::new(ours);
        let status = qmp.execute("query-status", json!({})).await.unwrap();
        assert_eq!(status["running"], false);
        assert!(qmp.execute("no-such", json!({})).await.is_err());
        let _ = qmp.execute("quit", json!({})).await;
        child.wait().unwrap();
    }
}
