//! `firebuild run`: a microVM from an image.

mod environment;
mod foreground;
mod health;
mod limits;
mod network;
mod policy;
mod secrets;
mod volumes;
mod workload;

use std::process::ExitCode;

use clap::Args;
use firebuild_builder::rootfs::{self, RootFs};
use firebuild_builder::verified::{self, Verified};
use firebuild_core::{Digest, MachineName, Reference};
use firebuild_machine::spec::{ImageName, check_host_name};
use firebuild_machine::{Host, MachineSpec, Purpose, Record, client};
use firebuild_oci::Trust;
use firebuild_protocol::boot::RootVerity;
use firebuild_store::Store;

use super::exec::check_terminal as attach_check;
use super::gone::GoneFlags;
use super::machine::{BootstrapArguments, VmArguments};
use super::pulling::{PullArguments, Pulling};
use super::storage::StorageArguments;
use super::{Format, Global, image, lifecycle};
use crate::arguments::values;
use crate::error::hinted;
use crate::{progress, terminal};
use environment::EnvironmentArguments;
pub(crate) use limits::LimitArguments;
use network::NetworkArguments;
use policy::PolicyArguments;
use secrets::SecretArguments;
use volumes::VolumeArguments;
use workload::WorkloadArguments;

pub(super) use foreground::pass_signals_on;
pub(super) use workload::environment;

/// What `--init-system` starts.
const INIT: &str = "/sbin/init";

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
    /// What the guest calls itself
    #[arg(long, value_name = "NAME", value_parser = values::form(|text: &str| Ok(check_host_name(text)?)))]
    hostname: Option<String>,
    #[command(flatten)]
    workload: WorkloadArguments,
    #[command(flatten)]
    policy: PolicyArguments,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    environment: EnvironmentArguments,
    #[command(flatten)]
    secrets: SecretArguments,
    #[command(flatten)]
    volumes: VolumeArguments,
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
    #[command(flatten)]
    gone: GoneFlags,
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
        self.gone.warn();
        attach_check(self.workload.wanted(), self.detach)?;
        let host = lifecycle::host(global)?;
        // What the VM will run from stays until its record names it.
        let lease = host.store.lease()?;
        let spec = self.spec(&host)?;
        let attached = client::run(&host, spec, lifecycle::supervisor_command(global)?)?;
        drop(lease);
        if self.detach {
            return self.tell(attached.record()).map(|()| ExitCode::SUCCESS);
        }
        foreground::show(&host, attached)
    }

    fn spec(&self, host: &Host) -> anyhow::Result<MachineSpec> {
        // Before anything is fetched.
        let egress = self.vm.egress()?;
        let (reference, command) = self.image()?;
        let style = progress::Style::default();
        let provider = self.storage.provider()?;
        Pulling::new(&host.store, &self.pull, (Trust::host(), style), provider).have(&reference)?;
        self.storage
            .bring_kernel(&host.store, self.vm.wanted_kernel())?;
        let image = image::find(&host.store, &reference)?;
        let (root, verity) = self.root(&host.store, &reference)?;
        let config = &image.config.config;
        let mut workload = self.workload.workload(&image.config, command)?;
        if self.environment.is_init() && command.is_empty() {
            workload.arguments = vec![INIT.to_owned()];
        }
        self.environment.furnish(&mut workload)?;
        let stop_signal = self.policy.stop_signal(&image.config)?;
        let purpose = Purpose::Run {
            workload,
            stop_signal: self.environment.stop_signal(stop_signal),
        };
        let kernel = self.vm.kernel(&host.store)?;
        let mut spec = MachineSpec {
            name: self.name.clone(),
            image: Some(ImageName {
                reference: reference.familiar(),
                digest: image.manifest.digest,
            }),
            verity,
            cpus: self.vm.cpus(),
            memory: self.vm.memory(),
            disk: self.vm.disk(),
            hostname: self.hostname.clone(),
            secrets: self.secrets.secrets()?,
            ssh: self.secrets.ssh()?,
            names: self.environment.names()?,
            mounts: self.volumes.mounts(config, self.environment.is_init())?,
            read_only: self.volumes.read_only(),
            networks: self.network.networks()?,
            address: self.network.address(),
            cni: self.network.or_cni(self.vm.cni()?)?,
            ports: self.network.ports(config),
            egress,
            connect_time: self.bootstrap.connect_time(),
            remove: self.rm,
            certificates: self.bootstrap.certificates()?,
            ..MachineSpec::new(purpose, root.images, kernel)
        };
        self.policy.apply(&mut spec);
        self.limits.apply(&mut spec);
        self.vm.apply(&mut spec)?;
        Ok(spec)
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
            (Some(from), first) => {
                check_first(first.map(|(first, _)| first.as_str()))?;
                (from.clone(), &self.words[..])
            }
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

/// What follows `--from IMAGE` and looks like a flag is one that does not exist, unless `--` says that it
/// is the image's.
fn check_first(first: Option<&str>) -> anyhow::Result<()> {
    let flag = first.filter(|first| first.starts_with('-') && *first != "--");
    match flag {
        Some(flag) if !std::env::args_os().any(|word| word == "--") => Err(hinted(
            format!("`run` has no flag `{flag}`"),
            "what is for the image's own program stands behind `--`",
        )),
        _ => Ok(()),
    }
}

/// A root hash as it is printed, or as other digests are written.
fn root_hash(text: &str) -> Result<Digest, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let digest = format!("sha256:{}", hex.to_ascii_lowercase()).parse();
    digest.map_err(|_| "a root hash has 64 hexadecimal digits".to_owned())
}
