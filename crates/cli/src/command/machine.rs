//! What `build` and `run` share about microVMs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use firebuild_builder::{KernelChoice, VmOptions};
use firebuild_core::ByteSize;
use firebuild_machine::spec::{CertificateFiles, CniNetwork, Egress, check_host_name};
use firebuild_machine::{Host, MachineSpec};
use firebuild_store::{KernelId, Store};

use super::cni::CniArguments;
use super::egress::EgressArguments;
use super::firecracker::VmmArguments;
use super::kernel;
use crate::arguments::values;
use crate::error::hinted;
use crate::{progress, tracing};

/// The machine that a VM is.
#[derive(Debug, Args)]
pub(crate) struct VmArguments {
    /// Number of processors
    #[arg(long, env = "FIREBUILD_CPU", default_value_t = 1, value_name = "N", value_parser = values::whole::<u8>(1, 32), help_heading = "Machine")]
    cpu: u8,
    /// Memory in MiB
    #[arg(
        long,
        env = "FIREBUILD_MEM",
        value_name = "MIB",
        value_parser = values::whole::<u32>(32, 1 << 20),
        help_heading = "Machine"
    )]
    mem: Option<u32>,
    /// How much the VM's own disk can hold; it takes room only for what is written
    #[arg(
        long,
        env = "FIREBUILD_DISK_SIZE",
        default_value = "10G",
        value_name = "SIZE",
        help_heading = "Machine"
    )]
    disk_size: ByteSize,
    /// The kernel to boot, if several are installed
    #[arg(
        long,
        visible_alias = "vmlinux-id",
        env = "FIREBUILD_KERNEL",
        value_name = "ID",
        help_heading = "Machine"
    )]
    kernel: Option<KernelId>,
    #[command(flatten)]
    vmm: VmmArguments,
    #[command(flatten)]
    cni: CniArguments,
    #[command(flatten)]
    egress: EgressArguments,
}

/// Memory of a VM that a build starts, in MiB: package managers need some.
const BUILD_MEMORY: u32 = 1024;

/// Memory of a VM that runs a workload, in MiB.
const RUN_MEMORY: u32 = 128;

impl VmArguments {
    /// Build VMs on this host.
    pub(crate) fn options(
        &self,
        store: &Store,
        bootstrap: &BootstrapArguments,
    ) -> anyhow::Result<VmOptions> {
        Ok(VmOptions {
            host: Host {
                watch: tracing::machine::watch_builds(),
                ..Host::new(store.clone())
            },
            kernel: KernelChoice {
                wanted: self.kernel.clone(),
                // The other conversion hides what the error is, and with it the hint.
                choose: |store, wanted, progress| {
                    kernel::choose(store, wanted, progress)
                        .map_err(anyhow::Error::reallocate_into_boxed_dyn_error_without_backtrace)
                },
            },
            cpus: self.cpu,
            memory: self.mem.unwrap_or(BUILD_MEMORY),
            disk: self.disk_size,
            connect_time: bootstrap.connect_time(),
            certificates: bootstrap.certificates()?,
            vmm: self.vmm.kind(),
            firecracker: self.vmm.options()?,
            kernel_arguments: self.vmm.kernel_arguments()?,
            cni: self.cni()?,
            egress: self.egress.rules()?,
        })
    }

    /// The network by CNI that the VM is to be in, if it is to be in one.
    pub(crate) fn cni(&self) -> anyhow::Result<Option<CniNetwork>> {
        self.cni.network()
    }

    /// Number of processors.
    pub(crate) fn cpus(&self) -> u8 {
        self.cpu
    }

    /// Memory of a VM that runs a workload.
    pub(crate) fn memory(&self) -> u32 {
        self.mem.unwrap_or(RUN_MEMORY)
    }

    /// What a VM may reach.
    pub(crate) fn egress(&self) -> anyhow::Result<Egress> {
        self.egress.rules()
    }

    /// Notes what is to run a VM, and what is asked of it.
    pub(crate) fn apply(&self, spec: &mut MachineSpec) -> anyhow::Result<()> {
        spec.vmm = self.vmm.kind();
        spec.firecracker = self.vmm.options()?;
        spec.kernel_arguments = self.vmm.kernel_arguments()?;
        Ok(())
    }

    /// The size of the VM's own disk.
    pub(crate) fn disk(&self) -> ByteSize {
        self.disk_size
    }

    /// The kernel that was asked for.
    pub(crate) fn wanted_kernel(&self) -> Option<&KernelId> {
        self.kernel.as_ref()
    }

    /// The kernel that a VM would boot, if it is clear without fetching one.
    pub(crate) fn known_kernel(&self, store: &Store) -> Option<KernelId> {
        if self.kernel.is_some() {
            return self.kernel.clone();
        }
        match &store.kernels().list().ok()?[..] {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    /// The kernel to boot.
    pub(crate) fn kernel(&self, store: &Store) -> anyhow::Result<KernelId> {
        let shown = progress::shown(progress::Style::Plain, Instant::now());
        kernel::choose(store, self.kernel.as_ref(), &*shown)
    }
}

/// The conversation with a VM's agent. Without certificates of the user's own, one-time ones are
/// made for every VM.
#[derive(Debug, Args)]
pub(crate) struct BootstrapArguments {
    /// How long a VM's agent may take until it calls, in seconds [default: 30, four times that under emulation]
    #[arg(long = "bootstrap-initial-communication-timeout", env = "FIREBUILD_BOOTSTRAP_INITIAL_COMMUNICATION_TIMEOUT", value_name = "SECONDS", value_parser = seconds, help_heading = "Agent")]
    timeout: Option<Duration>,
    /// The certificate of the authority of both sides, PEM
    #[arg(
        long = "bootstrap-tls-ca-cert",
        value_name = "FILE",
        help_heading = "Agent"
    )]
    ca: Option<PathBuf>,
    /// The host's certificate, PEM
    #[arg(
        long = "bootstrap-tls-cert",
        value_name = "FILE",
        help_heading = "Agent"
    )]
    certificate: Option<PathBuf>,
    /// The host's key, PEM
    #[arg(
        long = "bootstrap-tls-key",
        value_name = "FILE",
        help_heading = "Agent"
    )]
    key: Option<PathBuf>,
    /// The guest's certificate, PEM
    #[arg(
        long = "bootstrap-tls-client-cert",
        value_name = "FILE",
        help_heading = "Agent"
    )]
    client_certificate: Option<PathBuf>,
    /// The guest's key, PEM
    #[arg(
        long = "bootstrap-tls-client-key",
        value_name = "FILE",
        help_heading = "Agent"
    )]
    client_key: Option<PathBuf>,
    /// The name in the host's certificate
    #[arg(
        long = "bootstrap-tls-server-name",
        value_name = "NAME",
        value_parser = values::form(|text: &str| Ok(check_host_name(text)?)),
        help_heading = "Agent"
    )]
    server_name: Option<String>,
}

/// A number of seconds, with or without `s`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse::<u64>();
    let number = number.ok().filter(|seconds| (1..=86_400).contains(seconds));
    number
        .map(Duration::from_secs)
        .ok_or_else(|| "a number of seconds from 1 to 86400 is needed".to_owned())
}

impl BootstrapArguments {
    /// How long the agent may take.
    pub(crate) fn connect_time(&self) -> Option<Duration> {
        self.timeout
    }

    /// The user's own certificates: all of them or none.
    pub(crate) fn certificates(&self) -> anyhow::Result<Option<CertificateFiles>> {
        let Self {
            timeout: _,
            ca,
            certificate,
            key,
            client_certificate,
            client_key,
            server_name,
        } = self;
        match (
            ca,
            certificate,
            key,
            client_certificate,
            client_key,
            server_name,
        ) {
            (None, None, None, None, None, None) => Ok(None),
            (
                Some(ca),
                Some(certificate),
                Some(key),
                Some(client_certificate),
                Some(client_key),
                Some(server_name),
            ) => Ok(Some(CertificateFiles {
                authority: ca.clone(),
                server_certificate: certificate.clone(),
                server_key: key.clone(),
                client_certificate: client_certificate.clone(),
                client_key: client_key.clone(),
                server_name: server_name.clone(),
            })),
            _ => Err(hinted(
                "certificates of your own need all of their parts",
                "give all of --bootstrap-tls-{ca-cert,cert,key,client-cert,client-key,server-name}, or none",
            )),
        }
    }
}
