//! What can go wrong, by what the caller can do about it.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use firebuild_core::MachineId;
use rustix::io::Errno;

use crate::cni::CniError;
use crate::{Listener, Mac, NetworkName, Subnet};

/// Why a VM could not be attached to the network, or its attachment not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another VM has published the same port.
    #[error("port `{port}` is already published by VM `{by}`")]
    PortTaken {
        /// The port asked for.
        port: Listener,
        /// Who has it.
        by: MachineId,
    },
    /// The same port was asked for twice.
    #[error("port `{0}` is published twice")]
    PortTwice(Listener),
    /// A program of the host has the port, or the host has not the address.
    #[error("port `{port}` of the host cannot be had")]
    PortUnavailable {
        /// The port asked for.
        port: Listener,
        /// What the kernel says.
        source: io::Error,
    },
    /// A port is to be published on a device that is not there or has no IPv4 address.
    #[error("network device `{0}` does not exist or has no IPv4 address")]
    NoInterface(String),
    /// Another VM has the address asked for.
    #[error("address `{address}` is in use by VM `{by}`")]
    AddressTaken {
        /// The address asked for.
        address: Ipv4Addr,
        /// Who has it.
        by: MachineId,
    },
    /// The address asked for is none that a guest of the network can have.
    #[error("address `{address}` is not one for guests of the network `{subnet}`")]
    AddressOutside {
        /// The address asked for.
        address: Ipv4Addr,
        /// The network.
        subnet: Subnet,
    },
    /// Every address of the network is in use.
    #[error("all addresses of the network `{0}` are in use")]
    AddressesExhausted(Subnet),
    /// No network of that name is defined.
    #[error("there is no network `{0}`")]
    NoNetwork(NetworkName),
    /// A network of that name is defined already.
    #[error("there is a network `{0}` already")]
    NetworkExists(NetworkName),
    /// The host's kernel has no IPv6 for a network that is to have it.
    #[error("the network `{0}` cannot have IPv6: this host has none")]
    NoIpv6(NetworkName),
    /// VMs are in the network that is to go.
    #[error("the network `{network}` is in use by VM `{by}`")]
    NetworkInUse {
        /// The network.
        network: NetworkName,
        /// One of the VMs.
        by: MachineId,
    },
    /// The network `default` cannot go.
    #[error("the network `default` is always there")]
    NetworkStays,
    /// What a network or a VM's place in it is to be makes no sense; the text says what does.
    #[error("{0}")]
    Definition(String),
    /// A network's addresses are in use otherwise.
    #[error("the subnet `{subnet}` of the network `{network}` overlaps with {with}")]
    SubnetTaken {
        /// The network.
        network: NetworkName,
        /// Its subnet.
        subnet: String,
        /// What has these addresses.
        with: String,
    },
    /// The definition of a network cannot be read.
    #[error("the definition `{}` of a network is damaged", path.display())]
    DamagedDefinition {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// Another VM of the network has the hardware address asked for.
    #[error("hardware address `{mac}` is in use by VM `{by}`")]
    MacTaken {
        /// The address asked for.
        mac: Mac,
        /// Who has it.
        by: MachineId,
    },
    /// A port is to be published of a VM that nobody outside can reach.
    #[error("port `{0}` cannot be published: the VM has no network with a way out")]
    PortUnreachable(Listener),
    /// Every network that firebuild would use clashes with the host's routes.
    #[error("no network is free for VMs: the host has routes into each of `{0}`")]
    NoSubnet(String),
    /// The VM is attached already, or its last attachment was not removed.
    #[error("VM `{0}` is attached to the network already")]
    Attached(MachineId),
    /// The program `nft` is not there.
    #[error("cannot start `nft`")]
    NftMissing(#[source] io::Error),
    /// The kernel's driver of taps is not there.
    #[error("cannot open `/dev/net/tun`")]
    TapMissing(#[source] io::Error),
    /// `nft` refused what it was given.
    #[error("nft could not {doing}: {said}")]
    Nft {
        /// What it was to do.
        doing: &'static str,
        /// The first lines of its answer.
        said: String,
    },
    /// A file of firebuild's own network state cannot be read.
    #[error("the address record `{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A lease, or the lock of all, could not be read or written.
    #[error("cannot keep the network's address records")]
    File(#[from] io::Error),
    /// A network by CNI could not be used.
    #[error(transparent)]
    Cni(#[from] CniError),
    /// The kernel refused something.
    #[error("cannot {doing}")]
    System {
        /// What was being done, and to what.
        doing: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl Error {
    /// What a person can do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::PortTaken { by, .. } => Some(format!(
                "stop that VM (`firebuild stop {by}`) or publish on another port of the host"
            )),
            Self::PortUnavailable { port, source } => Some(unavailable(port, source)),
            Self::NoInterface(_) => Some("`ip -brief address` lists devices and addresses".into()),
            Self::AddressTaken { .. } | Self::AddressOutside { .. } => {
                Some("leave the address out to be given a free one".into())
            }
            Self::NoNetwork(name) => Some(format!(
                "`firebuild network ls` lists those there are; `firebuild network create {name}` makes it"
            )),
            Self::NetworkExists(name) => {
                Some(format!("`firebuild network inspect {name}` shows it"))
            }
            Self::NoIpv6(_) => Some(
                "leave `--ipv6` out, or boot the host without `ipv6.disable=1` on its kernel's command line (`modprobe ipv6` if that is a module)"
                    .into(),
            ),
            Self::NetworkInUse { by, .. } => Some(format!("stop that VM: `firebuild stop {by}`")),
            Self::SubnetTaken { .. } => Some(
                "make it with other addresses: `firebuild network create --subnet CIDR`".into(),
            ),
            Self::DamagedDefinition { path, .. } => Some(format!(
                "remove `{}` and make the network again",
                path.display()
            )),
            Self::MacTaken { .. } => Some("leave `mac=` out to be given one".into()),
            Self::PortUnreachable(_) => {
                Some("put the VM into one more network that is not internal".into())
            }
            Self::AddressesExhausted(_) => {
                Some("stop a VM, or run `firebuild purge` to release what ended VMs left".into())
            }
            Self::Cni(error) => error.hint(),
            Self::NftMissing(_) => Some("install it: `apt-get install nftables`".into()),
            Self::TapMissing(_) => Some("load the kernel's driver of taps: `modprobe tun`".into()),
            Self::Attached(id) => Some(format!("`firebuild purge` removes what `{id}` left")),
            Self::Damaged { path, .. } => Some(format!(
                "remove `{}` if its VM does not run, then run `firebuild purge`",
                path.display()
            )),
            Self::System { source, .. } | Self::File(source)
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some("networks of VMs need root: run firebuild as root".into())
            }
            Self::System { source, .. }
                if source.raw_os_error() == Some(Errno::XFULL.raw_os_error()) =>
            {
                Some("a bridge holds 1023 VMs: stop one first".into())
            }
            _ => None,
        }
    }

    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }
}

fn unavailable(port: &Listener, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "a program of this host has it (`ss -lnp 'sport = {}'` says which): stop that or publish on another port",
            port.host
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address; `ip -brief address` lists those it has".to_owned()
        }
        _ => "publish on another port of the host".to_owned(),
    }
}

/// Everything that went wrong while something was taken down; the rest of it is gone.
#[derive(Debug)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// The errors, in the order in which they came up.
    #[must_use]
    pub fn all(&self) -> &[Error] {
        &self.0
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

// No source: there are several, and the text has them.
impl std::error::Error for Errors {}

/// Collects the errors of steps that must all be tried.
#[derive(Default)]
pub(crate) struct Trouble(Vec<Error>);

impl Trouble {
    pub(crate) fn note<T>(&mut self, step: Result<T, Error>) -> Option<T> {
        step.map_err(|error| self.0.push(error)).ok()
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_result(self) -> Result<(), Errors> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Errors(self.0))
        }
    }
}
