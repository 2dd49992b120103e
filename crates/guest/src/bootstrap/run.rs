//! One RUN: a process in the root as the steps before left it, its output, its change.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use firebuild_core::tree::Metadata;
use firebuild_protocol::command::{Mount, Run};
use firebuild_protocol::v1::bootstrap_client::BootstrapClient;
use firebuild_protocol::v1::exit::How;
use firebuild_protocol::v1::{Exit, LogMessage};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tonic::transport::Channel;

use super::mounts::Mounts;
use crate::attributes;
use crate::error::{Doing as _, GuestError, Result, call};
use crate::launch::{self, Isolation, Launch, Namespaces, Refusal, Root, Streams};
use crate::lines::Lines;
use crate::reaper::Reaper;

/// How long output without a line feed is kept back.
const PARTIAL: Duration = Duration::from_millis(300);
/// What a step ends with whose program could not be started for another reason than that the
/// program is missing or not executable.
pub(super) const NOT_STARTED: u32 = 125;
/// Where programs look for an SSH agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Error,
}

/// Executes the process and waits until it has ended and all its output is with the host. Its
/// namespaces come back if they are kept.
pub(super) async fn execute(
    client: &BootstrapClient<Channel>,
    reaper: &Reaper,
    index: u32,
    launch: &Launch,
) -> Result<(Exit, Option<Namespaces>)> {
    let started = launch::start(launch, reaper).await?;
    let namespaces = started.namespaces;
    let running = match started.program {
        Ok(running) => running,
        Err(Refusal::Agent(message)) => return Err(GuestError::Told(message)),
        Err(Refusal::Program(message, status)) => {
            let line = vec![Bytes::from(message)];
            send(&mut client.clone(), index, Stream::Error, line).await?;
            let status = if status == 0 { NOT_STARTED } else { status };
            let exit = Exit {
                how: Some(How::Status(status)),
            };
            return Ok((exit, namespaces));
        }
    };
    // All processes of the step end with its first one, so both pipes end as well.
    let output = forward(client.clone(), index, Stream::Output, running.stdout);
    let error = forward(client.clone(), index, Stream::Error, running.stderr);
    let (exit, output, error) = tokio::join!(running.child.exit(), output, error);
    output.and(error).map(|()| (exit, namespaces))
}

/// What to start.
pub(super) fn describe(run: &Run, root: Root, hostname: &str, mounts: &Mounts) -> Launch {
    let mut environment = run.environment.clone();
    environment.retain(|(name, _)| !run.build_args.iter().any(|(argument, _)| argument == name));
    environment.extend(run.build_args.iter().cloned());
    let socket = run.mounts.iter().find_map(|mount| match mount {
        Mount::Agent { target, .. } => Some(target.clone()),
        _ => None,
    });
    if !environment.iter().any(|(name, _)| name == AGENT) {
        environment.extend(socket.map(|socket| (AGENT.to_owned(), socket)));
    }
    let files = run.files.iter();
    Launch {
        root,
        joined: Vec::new(),
        kept: run.keep,
        streams: Streams::Output,
        isolation: Isolation::Step,
        offline: run.offline,
        privileged: run.privileged,
        copying: None,
        arguments: run.arguments(),
        environment,
        secrets: mounts.secrets.clone(),
        workdir: run.workdir.clone(),
        user: run.user.clone(),
        hostname: hostname.to_owned(),
        supplied: mounts.supplied.clone(),
        attachments: mounts.attachments.clone(),
        process_ids: None,
        limits: Vec::new(),
        shared_memory: None,
        read_only: false,
        directories: Vec::new(),
        files: files
            .map(|file| (file.path.clone(), file.mode, file.content.clone()))
            .collect(),
        profile: None,
    }
}

/// Sends lines as they come. The next are read when the host has taken the last: what a process
/// writes meanwhile waits in the pipe, and comes in one message.
async fn forward(
    mut client: BootstrapClient<Channel>,
    command: u32,
    stream: Stream,
    mut pipe: pipe::Receiver,
) -> Result<()> {
    let mut lines = Lines::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let patience = if lines.is_empty() {
            Duration::MAX
        } else {
            PARTIAL
        };
        let Ok(read) = tokio::time::timeout(patience, pipe.read(&mut buffer)).await else {
            send(
                &mut client,
                command,
                stream,
                lines.flush().into_iter().collect(),
            )
            .await?;
            continue;
        };
        let read = read.doing(|| "read a step's output".to_owned())?;
        let mut ready = lines.push(&buffer[..read]);
        if read == 0 {
            ready.extend(lines.flush());
        }
        send(&mut client, command, stream, ready).await?;
        if read == 0 {
            return Ok(());
        }
    }
}

async fn send(
    client: &mut BootstrapClient<Channel>,
    command: u32,
    stream: Stream,
    line: Vec<Bytes>,
) -> Result<()> {
    if line.is_empty() {
        return Ok(());
    }
    let message = LogMessage { command, line };
    match stream {
        Stream::Output => client.std_out(message).await.map_err(call("StdOut"))?,
        Stream::Error => client.std_err(message).await.map_err(call("StdErr"))?,
    };
    Ok(())
}

/// The attributes of the root directory that a step starts from.
pub(super) fn root_attributes(lowers: &[PathBuf]) -> Result<Metadata> {
    let Some(top) = lowers.first() else {
        return Ok(Metadata::root_owned(0o755));
    };
    rustix::fs::lstat(top)
        .map_err(std::io::Error::from)
        .and_then(|stat| attributes::read(top, &stat))
        .doing(|| format!("read `{}`", top.display()))
}
