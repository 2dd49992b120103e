//! A command that still runs: its lines are awaited, it is sent signals, and it is ended with the
//! test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::session::Session;

/// How long anything may take before the test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running command.
pub(crate) struct Live {
    child: Child,
    lines: Receiver<String>,
    /// What it wrote so far, both streams as they came.
    pub(crate) seen: Vec<String>,
}

impl Live {
    /// Starts a command.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        pass_on(child.stdout.take().unwrap(), sender.clone());
        pass_on(child.stderr.take().unwrap(), sender);
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line with `part` in it.
    #[track_caller]
    pub(crate) fn until(&mut self, part: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with `{part}`, but {:#?}", self.seen),
            }
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended: its status, and all that it wrote.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.seen),
            }
        }
        let status = self.child.wait().unwrap();
        (status.code(), std::mem::take(&mut self.seen).join("\n"))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pass_on(stream: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            if lines
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
}

/// A VM of this name, removed with the test however that ends.
pub(crate) struct Named<'a> {
    /// Whose it is.
    pub(crate) session: &'a Session,
    /// Its name.
    pub(crate) name: &'static str,
}

impl<'a> Named<'a> {
    /// Nothing has this name from now on, until the test gives it.
    pub(crate) fn new(session: &'a Session, name: &'static str) -> Self {
        session.run(&["rm", "-f", name]);
        Self { session, name }
    }

    /// Its record.
    pub(crate) fn inspect(&self) -> serde_json::Value {
        self.session.json(&["inspect", self.name])
    }
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        self.session.run(&["rm", "-f", self.name]);
    }
}
