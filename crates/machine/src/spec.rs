//! What a VM is to be: fixed when it is made, and part of its record.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use firebuild_core::{ByteSize, Digest, MachineName};
pub use firebuild_network::Egress;
use firebuild_network::cni::{self, Directories};
use firebuild_network::{Join, PublishedPort, Request};
use firebuild_protocol::boot::RootVerity;
use firebuild_protocol::workload::Workload;
use firebuild_store::KernelId;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::limits::{Limits, VMM_MEMORY};
use crate::mount::{self, Mount};
use crate::names::Names;
use crate::output::LogLimits;
use crate::restart::RestartPolicy;
use crate::secret::SecretFile;
use crate::vmm::VmmKind;
use crate::vmm::firecracker::FirecrackerOptions;

/// How long a guest has to reach the host, without emulation.
pub const CONNECT_TIME: Duration = Duration::from_secs(30);

/// How long a workload may take to end if nobody says otherwise, as Docker has it.
pub const STOP_TIME: Duration = Duration::from_secs(10);

/// The most images that a root file system has: each is a drive.
const MOST_ROOT_IMAGES: usize = 8;

/// What a VM is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct MachineSpec {
    /// What it is for.
    pub purpose: Purpose,
    /// What a person calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<MachineName>,
    /// The image that it runs, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageName>,
    /// The keys of the root file system's images in the store, the lowest first: 1 to 8.
    pub rootfs: Vec<Digest>,
    /// What that has to be, in which the guest is not to trust the host's disk: the only image is one
    /// with a dm-verity tree, and the guest refuses any other. None for images without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verity: Option<RootVerity>,
    /// The kernel.
    pub kernel: KernelId,
    /// More words for the kernel's command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<String>,
    /// Number of processors: 1 to 32.
    pub cpus: u8,
    /// Memory, in MiB: 32 to 1 TiB.
    pub memory: u32,
    /// How much the VM's own disk can hold. It takes room only for what is written.
    pub disk: ByteSize,
    /// What the guest calls itself; its name, or its id, if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Files that are never on a disk: where they come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretFile>,
    /// Who may come in by SSH, if anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshAccess>,
    /// Names that it is given beyond those of its networks.
    #[serde(default)]
    pub names: Names,
    /// What its workload has mounted in its root: at most [`MOST_MOUNTS`](crate::mount::MOST_MOUNTS).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Whether its workload cannot write to its root.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// The networks that it is in, in the order of its devices; with none it reaches nothing but its
    /// metadata and its agent's server.
    #[serde(default = "default_network")]
    pub networks: Vec<Join>,
    /// The guest's address in the first of them, if it has to be a certain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The network by CNI that it is in, in place of those of the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni: Option<CniNetwork>,
    /// Published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// What it may reach.
    #[serde(default, skip_serializing_if = "Egress::is_open")]
    pub egress: Egress,
    /// How long the guest has to reach the host; [`CONNECT_TIME`], and under emulation four times
    /// that, if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_time: Option<Duration>,
    /// Whether the record goes with the VM.
    #[serde(default)]
    pub remove: bool,
    /// Whether it is started again when it has ended.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How long its workload may take to end when it was asked to; [`STOP_TIME`] if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_time: Option<Duration>,
    /// What it may take of its host.
    #[serde(default)]
    pub limits: Limits,
    /// How much of its output is kept.
    #[serde(default)]
    pub log: LogLimits,
    /// By how much the memory of all VMs may exceed the host's, in hundredths, when this one is started:
    /// 100 to 10,000. What [`crate::OVERCOMMIT`] is, if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overcommit: Option<u32>,
    /// The user's own certificates; one-time ones if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificateFiles>,
    /// Which VMM is to run it; the best that the host has if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm: Option<VmmKind>,
    /// What is asked of Firecracker, if that is the VMM.
    #[serde(default, skip_serializing_if = "is_default")]
    pub firecracker: FirecrackerOptions,
}

/// Who comes into a VM by SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SshAccess {
    /// The user, by the image's passwd.
    pub user: String,
    /// The public keys, a line each.
    pub keys: Vec<String>,
    /// The files that they came from.
    #[serde(default)]
    pub identities: Vec<PathBuf>,
}

/// What a VM is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it in a process, or in a line of a list"
)]
pub enum Purpose {
    /// Executes commands of a build, and is gone with the process that started it.
    Build,
    /// Runs a process, under a supervisor.
    Run {
        /// The process.
        workload: Workload,
        /// The number of the signal that asks it to end: 1 to 64.
        stop_signal: u8,
    },
}

/// A network by CNI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CniNetwork {
    /// Its name.
    pub network: String,
    /// Where everything of CNI is for this VM.
    #[serde(default)]
    pub directories: Directories,
}

impl CniNetwork {
    /// What a VM asks of it, with the name servers that the VM was given.
    pub(crate) fn request(&self, request: &Request, servers: &[IpAddr]) -> cni::Request {
        let first = request.networks.first();
        cni::Request {
            id: request.id.clone(),
            network: self.network.clone(),
            vmm_uid: request.vmm_uid,
            vmm_gid: request.vmm_gid,
            address: first.and_then(|join| join.address),
            mac: first.and_then(|join| join.mac),
            dns: servers.to_vec(),
            ports: request.ports.clone(),
            egress: request.egress.clone(),
            metadata_address: request.metadata_address,
        }
    }
}

/// An image, by what it was called when the VM was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageName {
    /// Its name.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: Digest,
}

/// Certificates and keys of the user's own, all PEM. The guest gets the client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CertificateFiles {
    /// The certificate of the authority of both sides.
    pub authority: PathBuf,
    /// The server's certificate.
    pub server_certificate: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// The guest's certificate.
    pub client_certificate: PathBuf,
    /// The guest's key.
    pub client_key: PathBuf,
    /// The name in the server's certificate.
    pub server_name: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl MachineSpec {
    /// A VM of the least that one can have: no name, one processor, 128 MiB, a disk of 10 GiB.
    #[must_use]
    pub fn new(purpose: Purpose, rootfs: Vec<Digest>, kernel: KernelId) -> Self {
        Self {
            purpose,
            name: None,
            image: None,
            rootfs,
            verity: None,
            kernel,
            kernel_arguments: Vec::new(),
            cpus: 1,
            memory: 128,
            disk: ByteSize::mib(10 << 10),
            hostname: None,
            secrets: Vec::new(),
            ssh: None,
            names: Names::default(),
            mounts: Vec::new(),
            read_only: false,
            networks: default_network(),
            address: None,
            cni: None,
            ports: Vec::new(),
            egress: Egress::default(),
            connect_time: None,
            remove: false,
            restart: RestartPolicy::No,
            stop_time: None,
            limits: Limits::default(),
            log: LogLimits::default(),
            overcommit: None,
            certificates: None,
            vmm: None,
            firecracker: FirecrackerOptions::default(),
        }
    }

    /// How long its workload may take to end when it was asked to.
    #[must_use]
    pub fn stop_time(&self) -> Duration {
        self.stop_time.unwrap_or(STOP_TIME)
    }

    /// Checks what types alone do not say.
    ///
    /// # Errors
    /// [`Error::Spec`] says which value can not be, and what can.
    pub fn check(&self) -> Result<(), Error> {
        let no = |text: String| Err(Error::Spec(text));
        if !(1..=32).contains(&self.cpus) {
            return no(format!("a VM has 1 to 32 processors, not {}", self.cpus));
        }
        if !(32..=1 << 20).contains(&self.memory) {
            return no(format!(
                "a VM has 32 to 1048576 MiB of memory, not {}",
                self.memory
            ));
        }
        if !(1..=MOST_ROOT_IMAGES).contains(&self.rootfs.len()) {
            let found = self.rootfs.len();
            return no(format!(
                "a root file system has 1 to {MOST_ROOT_IMAGES} images, not {found}"
            ));
        }
        if self.verity.is_some() && self.rootfs.len() > 1 {
            return no("a root file system that is verified has one image".to_owned());
        }
        self.log.check().map_err(Error::Spec)?;
        let guest = ByteSize::mib(self.memory.into());
        let least = ByteSize(guest.0 + VMM_MEMORY.0);
        if let Some(most) = self.limits.memory_max.filter(|most| *most < least) {
            return no(format!(
                "a VM with {guest} of memory needs a limit of {least} at least, which has room for its VMM, not {most}"
            ));
        }
        if self.remove && self.restart != RestartPolicy::No {
            return no(format!(
                "a VM that is removed when it has ended is not started again: `--rm` and `--restart {}` exclude each other",
                self.restart
            ));
        }
        mount::check_all(&self.mounts)?;
        self.names.check()?;
        for secret in &self.secrets {
            Mount::new(&secret.target, mount::Source::Anonymous).check()?;
        }
        if self.ssh.is_some() && self.read_only {
            return no("an SSH server needs a root that can be written: `--ssh-user` and `--read-only` exclude each other".to_owned());
        }
        self.hostname.as_deref().map_or(Ok(()), check_host_name)?;
        self.check_networks()?;
        self.firecracker.check(self.cpus, self.memory)?;
        if let Purpose::Run {
            workload,
            stop_signal,
        } = &self.purpose
        {
            if workload.arguments.is_empty() {
                return no("the image has no command, and none was given".to_owned());
            }
            if !(1..=64).contains(stop_signal) {
                return no(format!("signals are 1 to 64, not {stop_signal}"));
            }
        }
        Ok(())
    }

    fn check_networks(&self) -> Result<(), Error> {
        if self.cni.is_none() && self.networks.is_empty() && !self.egress.is_open() {
            return Err(Error::Spec(
                "a VM without a network reaches nothing that egress rules could be about"
                    .to_owned(),
            ));
        }
        let first = self.networks.first().map(|join| join.address);
        match (self.address, first) {
            (Some(address), None) => Err(Error::Spec(format!(
                "the address `{address}` needs a network to be in"
            ))),
            (Some(address), Some(Some(other))) if address != other => Err(Error::Spec(format!(
                "the VM is to have both `{address}` and `{other}`"
            ))),
            _ => Ok(()),
        }
    }
}

fn default_network() -> Vec<Join> {
    vec![Join::default()]
}

/// Checks the name by which a VM is to call itself.
///
/// # Errors
/// [`Error::Spec`].
pub fn check_host_name(name: &str) -> Result<(), Error> {
    if is_hostname(name) {
        return Ok(());
    }
    let shown = firebuild_core::shortened(name, 100);
    Err(Error::Spec(format!(
        "`{shown}` cannot be a host name: one is letters, digits, `-` and `_`, with dots between, 64 at most"
    )))
}

/// RFC 1123, section 2.1, without the limit to names that start the same for everyone.
fn is_hostname(name: &str) -> bool {
    name.len() <= 64
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A VM that runs `arguments`.
    pub(crate) fn sample(arguments: &[&str]) -> MachineSpec {
        let purpose = Purpose::Run {
            workload: Workload {
                environment: vec![("PATH".to_owned(), "/bin".to_owned())],
                ..Workload::new(arguments.iter().map(|&a| a.to_owned()).collect())
            },
            stop_signal: 15,
        };
        MachineSpec {
            disk: ByteSize::mib(64),
            ..MachineSpec::new(purpose, vec![Digest::of(b"root")], "k".parse().unwrap())
        }
    }

    #[test]
    fn values_have_bounds() {
        assert!(sample(&["a"]).check().is_ok());
        type Change = fn(&mut MachineSpec);
        let changes: [Change; 7] = [
            |spec| spec.cpus = 0,
            |spec| spec.cpus = 33,
            |spec| spec.memory = 31,
            |spec| spec.hostname = Some("a b".to_owned()),
            |spec| spec.hostname = Some(String::new()),
            |spec| spec.hostname = Some("-a".to_owned()),
            |spec| spec.hostname = Some("a..b".to_owned()),
        ];
        for change in changes {
            let mut spec = sample(&["a"]);
            change(&mut spec);
            assert!(spec.check().is_err(), "{spec:?}");
        }
        assert!(sample(&[]).check().is_err());
    }

    #[test]
    fn survives_its_record() {
        let spec = MachineSpec {
            connect_time: Some(Duration::from_millis(1500)),
            ports: vec!["8080:80".parse().unwrap()],
            egress: Egress::of(["allow=a.org:443".parse().unwrap()]).unwrap(),
            verity: Some(RootVerity {
                root_hash: Digest::of(b"root hash"),
                salt: Digest::of(b"salt"),
                data_blocks: 7,
            }),
            ..sample(&["a", "b"])
        };
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<MachineSpec>(&text).unwrap(), spec);
        assert!(serde_json::from_str::<MachineSpec>(&text.replace("Cpus", "Cpu")).is_err());
    }
}
