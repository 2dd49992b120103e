//! `firebuild run`: a microVM from an image.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use firebuild_builder::rootfs::{self, RootFs};
use firebuild_builder::verified::{self, Verified};
use firebuild_core::config::{DEFAULT_PATH, ProcessConfig};
use firebuild_core::{Digest, MachineName, Reference};
use firebuild_machine::client::{self, Attached};
use firebuild_machine::spec::ImageName;
use firebuild_machine::{Host, MachineSpec, Purpose, Record, State};
use firebuild_network::PublishedPort;
use firebuild_oci::Trust;
use firebuild_protocol::boot::RootVerity;
use firebuild_protocol::workload::Workload;
use firebuild_store::Store;
use tokio::signal::unix::{SignalKind, signal};

use super::machine::{BootstrapArguments, VmArguments};
use super::pulling::{PullArguments, Pulling};
use super::storage::StorageArguments;
use super::{Format, Global, image, lifecycle};
use crate::error::{self, hinted};
use crate::{progress, terminal};

/// The signal that asks a workload to end where its image names none: SIGTERM.
const DEFAULT_STOP_SIGNAL: u8 = 15;

#[derive(Debug, Args)]
#[command(
    override_usage = "firebuild run [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]\n       firebuild run [OPTIONS] --from IMAGE [-- COMMAND [ARGUMENT]...]"
)]
pub(crate) struct Run {
    /// Leave it running and print what it is
    #[arg(long, short, visible_alias = "daemonize")]
    detach: bool,
    /// What to call it
    #[arg(long, value_name = "NAME")]
    name: Option<MachineName>,
    /// Remove it when it has ended
    #[arg(long)]
    rm: bool,
    /// Publish a guest's port on the host: [interface:][host:]guest[/tcp|udp] (may be repeated)
    #[arg(long = "publish", short, visible_alias = "port", value_name = "PORT")]
    ports: Vec<PublishedPort>,
    /// Set an environment variable; without a value it is taken from the environment
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the environment variables of a file of NAME=VALUE lines; `--env` wins
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// What the guest calls itself
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Give it this address
    #[arg(long, value_name = "ADDRESS")]
    ip_address: Option<Ipv4Addr>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Run as this user
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Start in this directory
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Run no root file system but the one with this root hash, as `image export --type ext4 --verity`
    /// prints it; the guest verifies every block that it reads
    #[arg(long, value_name = "HASH", value_parser = root_hash)]
    root_hash: Option<Digest>,
    #[command(flatten)]
    pull: PullArguments,
    #[command(flatten)]
    storage: StorageArguments,
    /// The image, as the original tool has it
    #[arg(long, value_name = "IMAGE")]
    from: Option<Reference>,
    /// How `--detach` prints
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    vm: VmArguments,
    #[command(flatten)]
    bootstrap: BootstrapArguments,
    /// The image, and what to run in place of its command
    #[arg(
        value_name = "IMAGE [COMMAND]...",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

impl Run {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let host = lifecycle::host(global)?;
        // What the VM will run from stays until its record names it.
        let lease = host.store.lease()?;
        let spec = self.spec(&host)?;
        let attached = client::run(&host, spec, lifecycle::supervisor_command(global)?)?;
        drop(lease);
        if self.detach {
            return self.tell(attached.record()).map(|()| ExitCode::SUCCESS);
        }
        foreground(&host, attached)
    }

    fn spec(&self, host: &Host) -> anyhow::Result<MachineSpec> {
        let (reference, command) = self.image()?;
        let style = progress::Style::default();
        let provider = self.storage.provider()?;
        Pulling::new(&host.store, &self.pull, (Trust::host(), style), provider).have(&reference)?;
        self.storage
            .bring_kernel(&host.store, self.vm.wanted_kernel())?;
        let image = image::find(&host.store, &reference)?;
        let (root, verity) = self.root(&host.store, &reference)?;
        let config = &image.config.config;
        let stop_signal = config
            .stop_signal
            .as_deref()
            .map(lifecycle::signal)
            .transpose()?;
        Ok(MachineSpec {
            purpose: Purpose::Run {
                workload: self.workload(config, command)?,
                stop_signal: stop_signal.unwrap_or(DEFAULT_STOP_SIGNAL),
            },
            name: self.name.clone(),
            image: Some(ImageName {
                reference: reference.familiar(),
                digest: image.manifest.digest,
            }),
            rootfs: root.images,
            verity,
            kernel: self.vm.kernel(&host.store)?,
            kernel_arguments: Vec::new(),
            cpus: self.vm.cpus(),
            memory: self.vm.memory(),
            disk: self.vm.disk(),
            hostname: self.hostname.clone(),
            address: self.ip_address,
            ports: self.ports.clone(),
            connect_time: self.bootstrap.connect_time(),
            remove: self.rm,
            certificates: self.bootstrap.certificates()?,
        })
    }

    /// The root file system, and what the guest is to hold it against.
    fn root(
        &self,
        store: &Store,
        reference: &Reference,
    ) -> anyhow::Result<(RootFs, Option<RootVerity>)> {
        match &self.root_hash {
            None => Ok((rootfs::of_image(store, reference)?, None)),
            Some(hash) => {
                let Verified { root, verity } = verified::of_image(store, reference, hash)?;
                Ok((root, Some(verity)))
            }
        }
    }

    /// The image and the command, from `--from` and the words.
    fn image(&self) -> anyhow::Result<(Reference, &[String])> {
        let (reference, rest) = match (&self.from, self.words.split_first()) {
            (Some(from), _) => (from.clone(), &self.words[..]),
            (None, Some((first, rest))) => (first.parse()?, rest),
            (None, None) => {
                return Err(hinted(
                    "no image was named",
                    "firebuild run NAME[:TAG]; see `firebuild images`",
                ));
            }
        };
        let rest = rest.strip_prefix(&["--".to_owned()]).unwrap_or(rest);
        Ok((reference, rest))
    }

    fn workload(&self, config: &ProcessConfig, command: &[String]) -> anyhow::Result<Workload> {
        let given = self.environment()?;
        let mut environment: Vec<(String, String)> = Vec::new();
        let image = config.env.iter().filter_map(|entry| entry.split_once('='));
        let path = ("PATH", DEFAULT_PATH);
        for (name, value) in std::iter::once(path).chain(image).chain(
            given
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        ) {
            match environment.iter_mut().find(|(known, _)| known == name) {
                Some(known) => value.clone_into(&mut known.1),
                None => environment.push((name.to_owned(), value.to_owned())),
            }
        }
        Ok(Workload {
            arguments: self.arguments(config, command),
            environment,
            run_environment: given.into_iter().collect(),
            workdir: match self
                .workdir
                .as_ref()
                .unwrap_or(&config.working_dir)
                .as_str()
            {
                "" => "/".to_owned(),
                directory => directory.to_owned(),
            },
            user: self.user.clone().unwrap_or_else(|| config.user.clone()),
            volumes: config.volumes.keys().cloned().collect(),
        })
    }

    /// The entrypoint and then the command; another entrypoint takes the image's command away.
    fn arguments(&self, config: &ProcessConfig, command: &[String]) -> Vec<String> {
        let (entrypoint, default) = match &self.entrypoint {
            Some(program) => (vec![program.clone()], Vec::new()),
            None => (
                config.entrypoint.clone().unwrap_or_default(),
                config.cmd.clone().unwrap_or_default(),
            ),
        };
        let command = if command.is_empty() {
            default
        } else {
            command.to_vec()
        };
        entrypoint.into_iter().chain(command).collect()
    }

    /// What the person sets: files first, in their order, then `--env`.
    fn environment(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut environment = BTreeMap::new();
        for file in &self.env_file {
            read_environment(file, &mut environment)?;
        }
        for entry in &self.env {
            add(entry, &mut environment)?;
        }
        Ok(environment)
    }

    fn tell(&self, record: &Record) -> anyhow::Result<()> {
        if self.format == Format::Json {
            return terminal::print_json(record);
        }
        let address = record
            .address()
            .map(|address| address.to_string())
            .unwrap_or_default();
        let name = record
            .spec
            .name
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        terminal::say(format_args!(
            "started{}{name} at {address}, state in {}",
            if name.is_empty() { "" } else { " " },
            record.directories.state.display()
        ));
        terminal::print(format_args!("{}\n", record.id))
    }
}

/// A root hash as it is printed, or as other digests are written.
fn root_hash(text: &str) -> Result<Digest, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let digest = format!("sha256:{}", hex.to_ascii_lowercase()).parse();
    digest.map_err(|_| "a root hash has 64 hexadecimal digits".to_owned())
}

fn read_environment(file: &Path, environment: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let text = fs_err::read_to_string(file).context("cannot read the environment file")?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if !line.is_empty() && !line.starts_with('#') {
            add(line, environment)
                .with_context(|| format!("`{}`, line {number}", file.display()))?;
        }
    }
    Ok(())
}

/// `NAME=VALUE`, or `NAME` with the value that it has here, if any.
fn add(entry: &str, environment: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (entry, std::env::var(entry).ok()),
    };
    if name.is_empty() || name.contains(char::is_whitespace) || entry.contains('\0') {
        return Err(hinted(
            format!("`{entry}` does not set an environment variable"),
            "write NAME=VALUE",
        ));
    }
    if let Some(value) = value {
        environment.insert(name.to_owned(), value);
    }
    Ok(())
}

/// Shows the workload's output, passes signals on, and ends as the workload does.
fn foreground(host: &Host, mut attached: Attached) -> anyhow::Result<ExitCode> {
    pass_signals_on(host.clone(), attached.record().clone());
    for entry in &mut attached {
        lifecycle::show(&entry?)?;
    }
    match attached.finish(host)?.state {
        State::Stopped { exit } => Ok(ExitCode::from(exit.code())),
        State::Failed { reason } => {
            let status = reason.status;
            error::report(&firebuild_machine::Error::Reported(reason).into());
            Ok(ExitCode::from(status))
        }
        other => Err(anyhow::anyhow!(
            "the VM's record says `{other:?}`, though it has ended"
        )),
    }
}

/// From now on, signals that people send to this command reach the workload instead.
fn pass_signals_on(host: Host, record: Record) {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    std::thread::spawn(move || {
        let passing = super::block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for kind in kinds {
                let (host, id) = (host.clone(), record.id.clone());
                tasks.spawn(async move {
                    let Ok(mut received) = signal(kind) else {
                        return;
                    };
                    while received.recv().await.is_some() {
                        // A workload that has just ended needs no signal any more.
                        let _ = client::signal(
                            &host,
                            &id,
                            u8::try_from(kind.as_raw_value()).unwrap_or_default(),
                        );
                    }
                });
            }
            while tasks.join_next().await.is_some() {}
        });
        // Without it, signals have their usual effect: the command ends and the VM goes on.
        drop(passing);
    });
}
