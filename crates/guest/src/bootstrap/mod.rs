//! What the agent of a build VM does: the host's commands, in order, until there are none.
//!
//! Every step has a directory of its own on the VM's disk, which overlays those of the steps
//! before it and the image; so what the directory holds at the end is just what the step changed.

mod changes;
mod lay;
mod mounts;
mod run;
mod shell;
#[cfg(test)]
mod tests;
mod transfer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use firebuild_protocol::MESSAGE_LIMIT;
use firebuild_protocol::command::{Command, Lay, Run};
use firebuild_protocol::metadata::{Credentials, Metadata};
use firebuild_protocol::v1::bootstrap_client::BootstrapClient;
use firebuild_protocol::v1::exit::How;
use firebuild_protocol::v1::{
    AbortRequest, CommandResult, CommandsRequest, Empty, Exit, PingRequest,
};
use tonic::transport::Channel;

use crate::console;
use crate::drives::DISK;
use crate::error::{Doing as _, GuestError, Result, call, chain};
use crate::launch::Root;
use crate::phases;
use crate::reaper::Reaper;
use mounts::Sources;
use shell::Kept;
use transfer::Form;

/// How long the host may take to take an abort.
const ABORT: Duration = Duration::from_secs(10);
/// The shortest time between two pings that the host can ask for.
const SHORTEST_PING: Duration = Duration::from_millis(100);

/// How a command of the agent's own ends.
const ENDED: Exit = Exit {
    how: Some(How::Status(0)),
};

/// A build VM's state.
struct Build {
    client: BootstrapClient<Channel>,
    reaper: Reaper,
    hostname: String,
    sources: Sources,
    /// The finished steps' directories and the image, the newest first.
    layers: Vec<PathBuf>,
    /// How many directories were made, including those of failed steps.
    directories: u32,
    /// What the last step left, if it is to be looked into.
    kept: Option<Kept>,
}

/// Obeys the host until it has no more commands, in a root file system made of `layers`, the highest
/// first. A failure of the agent's own is told to the host.
pub(crate) async fn serve(
    channel: Channel,
    credentials: &Credentials,
    metadata: &Metadata,
    layers: Vec<PathBuf>,
    reaper: Reaper,
) -> Result<()> {
    let client = BootstrapClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    let mut build = Build {
        client: client.clone(),
        reaper,
        hostname: metadata.hostname.clone(),
        sources: Sources::new(client.clone(), metadata.network.clone()),
        layers,
        directories: 0,
        kept: None,
    };
    let interval = Duration::from_millis(credentials.ping_interval.into()).max(SHORTEST_PING);
    let failure = tokio::select! {
        result = build.obey() => match result {
            Ok(()) => return Ok(()),
            Err(error) => error,
        },
        error = ping(client.clone(), metadata.vm_id.clone(), interval) => error,
    };
    abort(client, &failure).await;
    Err(failure)
}

/// Tells the host that the guest is alive, until the host is not.
async fn ping(mut client: BootstrapClient<Channel>, id: String, interval: Duration) -> GuestError {
    loop {
        tokio::time::sleep(interval).await;
        if let Err(status) = client.ping(PingRequest { id: id.clone() }).await {
            return call("Ping")(status);
        }
    }
}

async fn abort(mut client: BootstrapClient<Channel>, failure: &GuestError) {
    let drive = match failure {
        GuestError::Cache { serial, .. } => serial.clone(),
        _ => String::new(),
    };
    let request = AbortRequest {
        error: chain(failure),
        drive,
    };
    // Whether it arrives or not, the reason is on the console as well.
    let _ = tokio::time::timeout(ABORT, client.abort(request)).await;
}

impl Build {
    async fn obey(&mut self) -> Result<()> {
        let mut finished = 0;
        loop {
            let commands = self.commands(finished).await?;
            if commands.is_empty() {
                self.client
                    .success(Empty {})
                    .await
                    .map_err(call("Success"))?;
                return Ok(());
            }
            for command in commands {
                console::debug(|| format!("command {}", command.index()));
                let succeeded = self.execute(&command).await?;
                finished += 1;
                if !succeeded {
                    // What comes next is the host's to say.
                    break;
                }
            }
        }
    }

    async fn commands(&mut self, finished: u32) -> Result<Vec<Command>> {
        let boot = (finished == 0).then(phases::take);
        let request = CommandsRequest { finished, boot };
        let answer = self.client.commands(request).await;
        let text = answer.map_err(call("Commands"))?.into_inner().commands;
        serde_json::from_str(&text).map_err(|error| GuestError::Told(error.to_string()))
    }

    async fn execute(&mut self, command: &Command) -> Result<bool> {
        if !matches!(command, Command::Shell(_)) {
            self.forget().await?;
        }
        match command {
            Command::Run(run) => self.run(run).await,
            Command::Shell(shell) => self.shell(shell).await.map(|()| true),
            Command::Copy(lay) | Command::Add(lay) => self.lay(lay).await.map(|()| true),
            Command::Save(save) => {
                let data = self.sources.data(&save.disk, None).await?;
                // No directory is as this one is said to be, so the layer tells what it is.
                let nothing = firebuild_core::tree::Metadata::root_owned(0);
                transfer::send_layer(&mut self.client, save.index, data, nothing).await?;
                Ok(true)
            }
            Command::Fill(fill) => {
                self.sources.data(&fill.disk, Some(&fill.resource)).await?;
                self.finished(fill.index, ENDED).await?;
                Ok(true)
            }
        }
    }

    async fn run(&mut self, run: &Run) -> Result<bool> {
        let (upper, work) = self.next_directory();
        let root = Root {
            lowers: self.layers.clone(),
            upper: upper.clone(),
            work,
            volatile: true,
        };
        let below = run::root_attributes(&self.layers)?;
        let hostname = match run.hostname.as_str() {
            "" => &self.hostname,
            own => own,
        };
        let mounts = self.sources.prepare(run, hostname).await?;
        let launch = run::describe(run, root, hostname, &mounts);
        let executed = run::execute(&self.client, &self.reaper, run.index, &launch).await;
        let (exit, namespaces) = match executed {
            Ok(ended) => ended,
            Err(error) => {
                mounts.end().await?;
                return Err(error);
            }
        };
        let left = Kept {
            launch,
            mounts,
            namespaces,
        };
        self.leave(run, &exit, left).await?;
        if exit.how != Some(How::Status(0)) {
            self.finished(run.index, exit).await?;
            return Ok(false);
        }
        console::debug(|| format!("command {} has ended", run.index));
        transfer::send_layer(&mut self.client, run.index, upper.clone(), below).await?;
        self.layers.insert(0, upper);
        Ok(true)
    }

    async fn lay(&mut self, lay: &Lay) -> Result<()> {
        let (upper, _) = self.next_directory();
        let doing = || format!("make `{}`", upper.display());
        fs_err::create_dir_all(&upper).doing(doing)?;
        // A layer need not mention the root directory, which is this one.
        if let Some(below) = self.layers.first() {
            crate::attributes::copy(below, &upper).doing(doing)?;
        }
        transfer::lay_resource(&mut self.client, &lay.resource, &upper, Form::Layer).await?;
        self.layers.insert(0, upper);
        self.finished(lay.index, ENDED).await
    }

    async fn finished(&mut self, command: u32, exit: Exit) -> Result<()> {
        let result = CommandResult {
            command,
            exit: Some(exit),
        };
        self.client
            .finished(result)
            .await
            .map_err(call("Finished"))?;
        Ok(())
    }

    /// A step's own directory, and overlayfs' one beside it. Their names are short: the list of all
    /// of them must fit into the 4096 bytes of a mount's options.
    fn next_directory(&mut self) -> (PathBuf, PathBuf) {
        let number = self.directories;
        self.directories += 1;
        let disk = Path::new(DISK);
        (
            disk.join(number.to_string()),
            disk.join(format!("w{number}")),
        )
    }
}
