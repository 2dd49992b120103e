//! What the agent of any other VM does: run one workload, and talk with the host about it.
//!
//! * [`tasks`]: what the host wants beside it.
//! * [`input`]: what is typed into it. [`health`]: how it is. [`figures`]: what it uses.

mod figures;
mod health;
mod input;
mod settings;
mod ssh;
mod tasks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use firebuild_protocol::MESSAGE_LIMIT;
use firebuild_protocol::v1::machine_client::MachineClient;
use firebuild_protocol::v1::phase::What;
use firebuild_protocol::v1::{
    Exit, Failed, FromGuest, Hello, Output, Shutdown, Started, ToGuest, WorkloadExited, exit,
    from_guest, output, to_guest,
};
use firebuild_protocol::workload::Workload;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::console;
use crate::drives::DISK;
use crate::error::{Doing as _, GuestError, Result, call};
use crate::forwarding::{Written, forward};
use crate::launch::{
    self, Attachment, Isolation, Launch, Namespaces, Refusal, Root, Running, SUPPLIED, Streams,
    Terminal,
};
use crate::phases;
use crate::reaper::{self, Child, Reaper};
use crate::shutdown::Requests;
use crate::volumes;

use input::Input;
use tasks::Place;

/// How many messages may wait for the host.
const WAITING: usize = 16;
/// The largest piece of output in one message, in bytes.
const PIECE: usize = 32 << 10;
/// How long the host may take to answer the workload's end.
const FAREWELL: Duration = Duration::from_secs(5);
/// What a workload gets when the VM is to end and nobody says how.
const DEFAULT_SHUTDOWN: Shutdown = Shutdown {
    signal: 15,
    grace_milliseconds: 10_000,
};

/// A conversation with the host.
struct Session {
    client: MachineClient<Channel>,
    to_host: mpsc::Sender<FromGuest>,
    from_host: Streaming<ToGuest>,
    reaper: Reaper,
}

/// A workload that runs.
struct Workloads {
    child: Child,
    /// Whether it is the image's own init.
    is_init: bool,
    /// Set when the workload has ended: output that others still hold is not waited for.
    ended: watch::Sender<bool>,
    forwarding: Vec<JoinHandle<()>>,
    /// None where the kernel keeps no namespaces.
    place: Option<Arc<Place>>,
}

/// Runs the host's workload in a root file system made of `layers`, the highest first, until it ends, the host wants it to end, or the host is gone. Returns
/// how long what is left may take to end.
pub(crate) async fn serve(
    channel: Channel,
    hostname: &str,
    layers: Vec<PathBuf>,
    reaper: Reaper,
    mut requests: Requests,
) -> Result<()> {
    let mut session = open(channel, reaper).await?;
    let workload = session.receive_start().await?;
    phases::begin();
    let check = workload.health.clone();
    let access = workload.ssh.clone();
    if access.is_some()
        && let Some(refusal) = ssh::check(&layers)?
    {
        return session.refuse(refusal).await;
    }
    let attachments = match prepare(&workload, &layers).await {
        Ok(attachments) => attachments,
        Err(error) => return session.refuse(Refusal::from(error)).await,
    };
    phases::over(What::Mounts);
    let launch = describe(workload, hostname, layers, attachments);
    console::debug(|| "the host has told what to start".to_owned());
    let started = launch::start(&launch, &session.reaper).await?;
    phases::over(What::Launch);
    let running = match started.program {
        Ok(running) => running,
        Err(refusal) => return session.refuse(refusal).await,
    };
    console::debug(|| format!("workload {} started", running.child.pid()));
    let mut workload = session.adopt(running, started.namespaces, &launch).await?;
    let watching = check
        .zip(workload.place.clone())
        .map(|(check, place)| tokio::spawn(health::watch(place, check, session.to_host.clone())));
    if let (Some(access), Some(place)) = (&access, &workload.place) {
        ssh::start(place, access).await;
    }
    let end = session.converse(&mut workload, &mut requests).await;
    if let Some(watching) = watching {
        watching.abort();
    }
    session.finish(workload, end).await;
    Ok(())
}

/// Mounts what the workload has beyond its root, which may take as long as copying takes.
async fn prepare(workload: &Workload, layers: &[PathBuf]) -> Result<Vec<Attachment>> {
    let (mounts, layers) = (workload.mounts.clone(), layers.to_vec());
    console::let_kernel_complain();
    settings::apply(&workload.settings)?;
    let prepared = tokio::task::spawn_blocking(move || volumes::prepare(&mounts, &layers));
    let told = |error: tokio::task::JoinError| GuestError::Told(error.to_string());
    let mut attachments = prepared.await.map_err(told)??;
    attachments.extend(volumes::keep_secret(&workload.secrets)?);
    Ok(attachments)
}

/// Why the conversation came to its end.
enum End {
    /// The workload ended.
    Exited(Exit),
    /// It is to end.
    Shutdown(Shutdown),
}

async fn open(channel: Channel, reaper: Reaper) -> Result<Session> {
    let (to_host, messages) = mpsc::channel(WAITING);
    let hello = Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: Some(phases::take()),
    };
    // There is room for it.
    let _ = to_host
        .send(message(from_guest::Message::Hello(hello)))
        .await;
    let mut client = MachineClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    let answer = client.session(ReceiverStream::new(messages)).await;
    let from_host = answer.map_err(call("Session"))?.into_inner();
    Ok(Session {
        client,
        to_host,
        from_host,
        reaper,
    })
}

fn message(message: from_guest::Message) -> FromGuest {
    FromGuest {
        message: Some(message),
    }
}

impl Session {
    async fn receive_start(&mut self) -> Result<Workload> {
        let first = self.from_host.message().await.map_err(call("Session"))?;
        let Some(ToGuest {
            message: Some(to_guest::Message::Start(start)),
        }) = first
        else {
            return Err(GuestError::Told("the first message is no Start".to_owned()));
        };
        serde_json::from_str(&start.workload)
            .map_err(|error| GuestError::Told(format!("the workload: {error}")))
    }

    async fn send(&self, what: from_guest::Message) -> Result<()> {
        let gone = || GuestError::Told("the host has ended the session".to_owned());
        self.to_host.send(message(what)).await.map_err(|_| gone())
    }

    async fn refuse(mut self, refusal: Refusal) -> Result<()> {
        let (error, status) = match refusal {
            Refusal::Agent(error) => (error, 0),
            Refusal::Program(error, status) => (error, status),
        };
        self.send(from_guest::Message::Failed(Failed { error, status }))
            .await?;
        self.say_farewell().await;
        Ok(())
    }

    async fn adopt(
        &self,
        running: Running,
        namespaces: Option<Namespaces>,
        launch: &Launch,
    ) -> Result<Workloads> {
        let Running {
            child,
            stdout,
            stderr,
            other_end,
        } = running;
        let pid = child.pid();
        let doing = || "listen to the workload".to_owned();
        let (ended, watching) = watch::channel(false);
        let (input, forwarding) = match (launch.streams, other_end) {
            (Streams::Terminal { .. }, Some(end)) => {
                let terminal = Arc::new(Terminal::new(end).doing(doing)?);
                let written = Arc::clone(&terminal);
                let shown = self.forward(written, output::Stream::Stdout, &watching);
                (Input::Terminal(terminal), vec![shown])
            }
            (_, end) => {
                let forwarding = vec![
                    self.forward(stdout, output::Stream::Stdout, &watching),
                    self.forward(stderr, output::Stream::Stderr, &watching),
                ];
                (Input::of_pipe(end).doing(doing)?, forwarding)
            }
        };
        let place = namespaces.map(|namespaces| {
            let means = (self.client.clone(), self.reaper.clone());
            Arc::new(Place::new(means, launch, namespaces, pid, input))
        });
        // Last, so that whatever the host wants then can be done.
        self.send(from_guest::Message::Boot(phases::take())).await?;
        self.send(from_guest::Message::Started(Started { pid }))
            .await?;
        Ok(Workloads {
            child,
            is_init: launch.isolation == Isolation::Init,
            ended,
            forwarding,
            place,
        })
    }

    /// Passes on what the workload writes.
    fn forward(
        &self,
        written: impl Written + 'static,
        stream: output::Stream,
        ended: &watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let said = move |data| {
            let stream = stream.into();
            message(from_guest::Message::Output(Output { stream, data }))
        };
        let to_host = self.to_host.clone();
        tokio::spawn(forward(written, PIECE, to_host, ended.clone(), said))
    }

    /// Obeys the host while the workload runs.
    async fn converse(&mut self, workload: &mut Workloads, requests: &mut Requests) -> End {
        let pid = workload.child.pid();
        loop {
            let told = tokio::select! {
                exit = workload.child.exited() => return End::Exited(exit),
                () = requests.next() => return End::Shutdown(DEFAULT_SHUTDOWN),
                told = self.from_host.message() => told,
            };
            match told {
                Ok(Some(ToGuest { message })) => match message {
                    Some(to_guest::Message::Signal(signal)) => reaper::send(pid, signal.number),
                    Some(to_guest::Message::Shutdown(shutdown)) => return End::Shutdown(shutdown),
                    Some(to_guest::Message::Task(task)) => {
                        if let Some(place) = &workload.place {
                            place.begin(task);
                        }
                    }
                    Some(to_guest::Message::TaskSignal(signal)) => {
                        if let Some(place) = &workload.place {
                            place.signal(signal);
                        }
                    }
                    // A second one, or what this version does not know.
                    Some(to_guest::Message::Start(_)) | None => {}
                },
                Ok(None) | Err(_) => {
                    console::debug(|| "the host is gone".to_owned());
                    return End::Shutdown(DEFAULT_SHUTDOWN);
                }
            }
        }
    }

    /// Ends the workload if it runs, and tells the host how it ended.
    async fn finish(mut self, mut workload: Workloads, end: End) {
        let by_itself = matches!(end, End::Exited(_));
        let exit = match end {
            End::Exited(exit) => exit,
            End::Shutdown(shutdown) => stop(&mut workload.child, shutdown).await,
        };
        let exit = if workload.is_init {
            powered_off(exit)
        } else {
            exit
        };
        console::debug(|| "workload ended".to_owned());
        workload.ended.send_replace(true);
        let report = async {
            for forwarding in workload.forwarding {
                let _ = forwarding.await;
            }
            let exited = from_guest::Message::Exited(WorkloadExited {
                exit: Some(exit),
                oom_kills: figures::oom_kills(),
            });
            if self.send(exited).await.is_ok() {
                self.say_farewell().await;
            }
        };
        // A host that does not listen does not keep the VM.
        let patience = if by_itself { 2 * FAREWELL } else { FAREWELL };
        let _ = tokio::time::timeout(patience, report).await;
    }

    /// Waits until the host has got the last message: it answers, or ends the session.
    async fn say_farewell(&mut self) {
        let answer = async {
            while let Ok(Some(told)) = self.from_host.message().await {
                if matches!(told.message, Some(to_guest::Message::Shutdown(_))) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL, answer).await;
    }
}

/// What the kernel does with the first process of a PID namespace that powers its machine off or
/// restarts it: that is no failure of an init's.
fn powered_off(exit: Exit) -> Exit {
    const RESTARTED: u32 = 1;
    const POWERED_OFF: u32 = 2;
    match exit.how {
        Some(exit::How::Signal(RESTARTED | POWERED_OFF)) => Exit {
            how: Some(exit::How::Status(0)),
        },
        _ => exit,
    }
}

async fn stop(child: &mut Child, shutdown: Shutdown) -> Exit {
    const KILL: u32 = 9;
    let pid = child.pid();
    if shutdown.signal != 0 {
        reaper::send(pid, shutdown.signal);
    }
    let grace = Duration::from_millis(shutdown.grace_milliseconds.into());
    match tokio::time::timeout(grace, child.exited()).await {
        Ok(exit) => exit,
        Err(_) => {
            reaper::send(pid, KILL);
            child.exited().await
        }
    }
}

fn describe(
    workload: Workload,
    hostname: &str,
    lowers: Vec<PathBuf>,
    attachments: Vec<Attachment>,
) -> Launch {
    let profile =
        (!workload.run_environment.is_empty()).then(|| profile(&workload.run_environment));
    let mut environment = workload.environment;
    if workload.is_init && !environment.iter().any(|(name, _)| name == "container") {
        // So that systemd leaves devices, clocks and file systems to us (its "container interface").
        environment.push(("container".to_owned(), "firebuild".to_owned()));
    }
    let streams = match workload.terminal {
        Some(terminal) => tasks::take_terminal(terminal, &mut environment),
        None if workload.interactive => Streams::Pipes,
        None => Streams::Output,
    };
    Launch {
        root: Root {
            lowers,
            upper: format!("{DISK}/upper").into(),
            work: format!("{DISK}/work").into(),
            volatile: false,
        },
        joined: Vec::new(),
        kept: true,
        streams,
        isolation: match workload.is_init {
            true => Isolation::Init,
            false => Isolation::Workload,
        },
        process_ids: None,
        limits: workload.limits,
        shared_memory: workload.shared_memory,
        offline: false,
        privileged: true,
        copying: None,
        arguments: workload.arguments,
        environment,
        secrets: Vec::new(),
        workdir: workload.workdir,
        user: workload.user,
        hostname: hostname.to_owned(),
        supplied: SUPPLIED.into(),
        attachments,
        directories: Vec::new(),
        read_only: workload.read_only,
        files: Vec::new(),
        profile,
    }
}

/// The file that gives login shells the environment. Names that no shell could export are left
/// out.
fn profile(environment: &[(String, String)]) -> String {
    let exportable = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    };
    let mut text = String::new();
    for (name, value) in environment.iter().filter(|(name, _)| exportable(name)) {
        text.push_str(&format!("export {name}=\""));
        for character in value.chars() {
            if matches!(character, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push_str("\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_profile_as_it_was_given() {
        let values = [
            "plain",
            "two words",
            "a\"b'c",
            "$HOME `id` $(id)",
            "back\\slash\\",
            "l1\nl2",
            "!x",
            "",
        ];
        for value in values {
            let text = profile(&[
                ("KEY".to_owned(), value.to_owned()),
                ("not a name".to_owned(), String::new()),
            ]);
            let script = format!("{text}printf %s \"$KEY\"");
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }
}
