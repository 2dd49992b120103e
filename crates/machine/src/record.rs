//! A VM's record: what `inspect` prints and what outlives the VM, as JSON.
//!
//! # The life of a VM
//!
//! ```text
//!  (nothing) --1--> Created --2--> Starting --3--> Running <--4--> Paused
//!                      |              |  ^            |  \           |
//!                      |5             |5 |8           |6  \6         |6
//!                      v              v  |            v    v         v
//!                   Failed     Failed or |        Stopped  Stopping -> Stopped
//!                              Restarting+<--7--- (or Failed)          (or Failed)
//!
//!  Stopped or Failed --9--> Starting        Stopped or Failed --10--> (nothing)
//! ```
//!
//! 1. `run` or a build writes the record, and holds the VM's lock from then on; `run` hands the
//!    lock to the supervisor, so that there is no moment at which nobody has it.
//! 2. The supervisor (or the build) sets up network and disk and starts the VMM.
//! 3. The workload runs (or the build's agent is connected).
//! 4. `pause` stops the guest's processors, `unpause` lets them go on.
//! 5. Something of 2 failed, or the guest did not reach the host. A VM that never ran goes, with its
//!    record; of another the reason stays in the record.
//! 6. Somebody asked for the end (`Stopping`), or it came: the VMM has ended. `Stopped` if the
//!    workload's exit is known; `Failed` if it is not: the guest rebooted, the VMM crashed or was
//!    killed, the supervisor was killed (then the next command writes it).
//! 7. Its restart policy wants it to be started again, and nobody has asked for its end. Everything
//!    but lock, disk and control socket is released; the supervisor waits for the delay.
//! 8. The delay is over. If somebody asked for the end instead, it is `Stopped` or `Failed` as it
//!    was before 7.
//! 9. `start`, `restart`, or the host's start: who does it takes the lock, writes `Starting`, and
//!    hands the lock to a new supervisor. Id, name, disk, address (if it is free) are what they were.
//! 10. `rm`, `purge`; with `--rm`, and for a build, it comes by itself once everything else is gone.
//!
//! Every arrow can be interrupted, by a signal or by the host's end: whoever dies leaves a lock that
//! is free and a record that says less than the end, and the next command makes that `Failed` and
//! releases what is left. The disk stays through all but 10; it has a journal, so a guest mounts it
//! however it ended.
//!
//! Before `Stopped`, `Failed` or `Restarting` is written everything else that the VM had is released.
//! A VM runs exactly when its lock is held: a record that says `Running` while nobody holds the lock
//! is that of a supervisor that died. Process ids are here for people; nothing is done by them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firebuild_core::MachineId;
use firebuild_network::{EgressReport, Interface, Listener, Namespace, Realm, Route};
use firebuild_protocol::v1;
use firebuild_store::{MachineLock, Store};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::Report;
use crate::health::Health;
use crate::paths::Directories;
use crate::spec::{MachineSpec, Purpose};
use crate::vmm::VmmFacts;

/// A VM's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    /// The VM.
    pub id: MachineId,
    /// What it is to be.
    pub spec: MachineSpec,
    /// Where it is in its life.
    pub state: State,
    /// When it was made.
    pub created: Timestamp,
    /// When its workload (or its build's agent) had started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When its end was noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// What runs it, and why that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm: Option<VmmFacts>,
    /// The processes, while they are there.
    #[serde(default)]
    pub processes: Processes,
    /// Its network interfaces, in the order of its devices.
    #[serde(default)]
    pub network_interfaces: Vec<NetworkInterface>,
    /// How often it was started again by its restart policy since somebody started it.
    #[serde(default)]
    pub restart_count: u32,
    /// Whether it is down because somebody wanted that: then it stays down when the host starts,
    /// with the policy `unless-stopped`.
    #[serde(default)]
    pub was_stopped: bool,
    /// Whether something of it was killed since its last start because there was no memory left: by the
    /// guest's kernel, or, the VMM, by the host's.
    #[serde(
        default,
        rename = "OOMKilled",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub oom_killed: bool,
    /// How its workload is, if that is looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Where its files are.
    pub directories: Directories,
}

/// Where a VM is in its life. See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", tag = "Status")]
pub enum State {
    /// Its record is written.
    Created,
    /// It is being started.
    Starting,
    /// Its workload runs.
    Running,
    /// Its processors stand still, because somebody wanted that.
    Paused,
    /// It was asked to end.
    Stopping,
    /// It has ended, and will be started again in a moment.
    Restarting,
    /// Its workload has ended, and everything is released.
    Stopped {
        /// How the workload ended.
        #[serde(rename = "Exit")]
        exit: Exit,
    },
    /// It ended otherwise, and everything is released.
    Failed {
        /// Why.
        #[serde(rename = "Reason")]
        reason: Report,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status.
    Status(u8),
    /// By the signal of this number.
    Signal(u8),
}

/// The processes of a VM, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Processes {
    /// Who owns it: its supervisor, or a build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
    /// The VMM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm: Option<u32>,
    /// The user that the VMM runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm_user: Option<u32>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInterface {
    /// The network that it is in; `none` for the one of a VM that is in no network.
    #[serde(default)]
    pub network: String,
    /// What it has on the host and in the guest.
    pub static_configuration: StaticConfiguration,
    /// The ports that it has on the host.
    #[serde(default)]
    pub ports: Vec<Listener>,
    /// What it may reach, and what was refused until its end; [`Record::count`] has what was refused until
    /// now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressReport>,
}

/// What an interface has on the host and in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StaticConfiguration {
    /// The guest's hardware address.
    pub mac_address: String,
    /// The tap in the VM's network namespace.
    pub host_dev_name: String,
    /// The network namespace.
    pub namespace: String,
    /// The host's end of the cable.
    pub bridge_port: String,
    /// The guest's network.
    #[serde(rename = "IPConfiguration")]
    pub ip_configuration: IpConfiguration,
}

/// A guest's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpConfiguration {
    /// The guest's address.
    #[serde(rename = "IP")]
    pub ip: Ipv4Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
    /// The gateway; none without a way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// What it has of IPv6.
    #[serde(rename = "IPv6", default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Configuration>,
    /// The largest packet, in bytes; 1500 if none.
    #[serde(rename = "MTU", default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// What is reached in another way than by the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// The name servers.
    pub nameservers: Vec<IpAddr>,
    /// Domains in which the guest looks for names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

/// What an interface has of IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv6Configuration {
    /// The guest's address.
    #[serde(rename = "IP")]
    pub ip: Ipv6Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
    /// The gateway; none without a way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv6Addr>,
}

impl Record {
    /// The record of a VM that was made now.
    #[must_use]
    pub fn new(id: MachineId, spec: MachineSpec, directories: Directories) -> Self {
        Self {
            id,
            spec,
            state: State::Created,
            created: Timestamp::now(),
            started: None,
            finished: None,
            vmm: None,
            processes: Processes::default(),
            network_interfaces: Vec::new(),
            restart_count: 0,
            was_stopped: false,
            oom_killed: false,
            health: None,
            directories,
        }
    }

    /// The guest's address in its first network, once it has one.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        let interface = self.network_interfaces.first()?;
        let ip = interface.static_configuration.ip_configuration.ip;
        // That of a VM without a network leads nowhere.
        Some(ip).filter(|ip| !ip.is_link_local())
    }

    /// Reads what its egress rules did until now, while its network namespace is there.
    pub fn count(&mut self, realm: &Realm) {
        let Some(first) = self.network_interfaces.first() else {
            return;
        };
        if self.network_interfaces.iter().all(|it| it.egress.is_none()) {
            return;
        }
        let namespace = Namespace::at(&first.static_configuration.namespace);
        let wires = self.network_interfaces.len();
        // Without it, what was counted last stands.
        let reports = self.spec.egress.reports(realm, &namespace, wires);
        for (interface, report) in self
            .network_interfaces
            .iter_mut()
            .zip(reports.into_iter().flatten())
        {
            interface.egress = report;
        }
    }

    /// Whether its disk and its record stay when it has ended.
    #[must_use]
    pub fn lasts(&self) -> bool {
        !self.spec.remove && matches!(self.spec.purpose, Purpose::Run { .. })
    }

    /// Begins once more after an end.
    pub(crate) fn begin_again(&mut self) {
        self.state = State::Starting;
        self.finished = None;
        self.restart_count = 0;
        self.was_stopped = false;
    }

    /// Marks the end, unless it is marked already.
    pub fn finish(&mut self, end: State) {
        if !self.state.is_final() {
            self.state = end;
            self.finished = Some(Timestamp::now());
            self.processes = Processes::default();
        }
    }
}

/// Reads a VM's record. It must be understood whole: a VM must not be started without what a newer
/// firebuild has written about it, say that its disk is read-only.
///
/// # Errors
/// [`Error::Store`]; [`Error::DamagedRecord`] if it cannot be understood.
pub fn read(store: &Store, id: &MachineId) -> Result<Record, Error> {
    let bytes = store.machines().record(id)?;
    serde_json::from_slice(&bytes).map_err(|source| Error::DamagedRecord {
        id: id.clone(),
        source,
    })
}

/// Where a VM is in its life, by its record; whatever else that says is passed over.
///
/// # Errors
/// Those of [`read`].
pub(crate) fn state(store: &Store, id: &MachineId) -> Result<State, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Life {
        state: State,
    }
    let bytes = store.machines().record(id)?;
    let life: Result<Life, _> = serde_json::from_slice(&bytes);
    life.map(|life| life.state)
        .map_err(|source| Error::DamagedRecord {
            id: id.clone(),
            source,
        })
}

/// Writes a VM's record whole.
pub(crate) fn write(store: &Store, lock: &MachineLock, record: &Record) -> Result<(), Error> {
    store.machines().write_record(lock, &encode(record)?)?;
    tell(record);
    Ok(())
}

/// Writes a VM's record whole, where the next one says the same and more: see
/// [`firebuild_store::Machines::note_record`].
pub(crate) fn note(store: &Store, lock: &MachineLock, record: &Record) -> Result<(), Error> {
    store.machines().note_record(lock, &encode(record)?)?;
    tell(record);
    Ok(())
}

fn tell(record: &Record) {
    log::debug!(
        "the record of VM `{}` says {}",
        record.id,
        record.state.word()
    );
}

pub(crate) fn encode(record: &Record) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record)
        .map_err(|source| Error::io(format!("write the record of VM `{}`", record.id), source))
}

impl State {
    /// Whether the VM has ended, by its record.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Stopped { .. } | Self::Failed { .. })
    }

    /// One lower-case word, for people and scripts.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Stopped { .. } => "stopped",
            Self::Failed { .. } => "failed",
        }
    }
}

impl Exit {
    /// The status as a shell tells it: 128 more than the signal's number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

impl TryFrom<v1::Exit> for Exit {
    type Error = &'static str;

    /// What a guest reports, if it makes sense.
    fn try_from(exit: v1::Exit) -> Result<Self, Self::Error> {
        use v1::exit::How;
        match exit.how {
            Some(How::Status(status)) => {
                let status = status.try_into().map_err(|_| "an exit status above 255")?;
                Ok(Self::Status(status))
            }
            Some(How::Signal(signal @ 1..=64)) => {
                Ok(Self::Signal(signal.try_into().unwrap_or_default()))
            }
            Some(How::Signal(_)) => Err("a signal that is not 1 to 64"),
            None => Err("an exit that is none"),
        }
    }
}

impl NetworkInterface {
    /// The gateway, if there is a way out by this device.
    pub(crate) fn gateway(&self) -> Option<Ipv4Addr> {
        self.static_configuration.ip_configuration.gateway
    }

    /// The same of IPv6.
    pub(crate) fn gateway6(&self) -> Option<Ipv6Addr> {
        let configuration = &self.static_configuration.ip_configuration;
        configuration.ipv6.as_ref()?.gateway
    }

    /// The facts of a device in `namespace`.
    pub(crate) fn new(namespace: &Namespace, interface: &Interface) -> Self {
        let ipv6 = interface.ipv6.as_ref();
        Self {
            network: interface.network.clone(),
            static_configuration: StaticConfiguration {
                mac_address: interface.mac.to_string(),
                host_dev_name: interface.tap.clone(),
                namespace: namespace.path().display().to_string(),
                bridge_port: interface.host_device.clone(),
                ip_configuration: IpConfiguration {
                    ip: interface.address,
                    prefix: interface.subnet.prefix(),
                    gateway: interface.gateway,
                    ipv6: ipv6.map(|ipv6| Ipv6Configuration {
                        ip: ipv6.address,
                        prefix: ipv6.prefix,
                        gateway: ipv6.gateway,
                    }),
                    mtu: interface.mtu,
                    routes: interface.routes.clone(),
                    nameservers: interface.dns.iter().copied().map(IpAddr::V4).collect(),
                    search: interface.search.clone(),
                },
            },
            ports: interface.listeners.clone(),
            egress: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spec::tests::sample;

    fn record() -> Record {
        let root = tempfile::tempdir().unwrap();
        let store = firebuild_store::Store::open(root.path()).unwrap();
        let id = MachineId::from_random([5; 20]);
        let directories = Directories::of(&store, Path::new("/run/x"), &id).unwrap();
        let mut record = Record::new(id, sample(&["a"]), directories);
        record.network_interfaces = vec![NetworkInterface {
            network: "default".into(),
            static_configuration: StaticConfiguration {
                mac_address: "02:00:00:00:00:01".into(),
                host_dev_name: "tap0".into(),
                namespace: "/run/netns/x".into(),
                bridge_port: "fbx".into(),
                ip_configuration: IpConfiguration {
                    ip: [10, 0, 0, 2].into(),
                    prefix: 24,
                    gateway: Some([10, 0, 0, 1].into()),
                    ipv6: None,
                    mtu: None,
                    routes: Vec::new(),
                    nameservers: Vec::new(),
                    search: Vec::new(),
                },
            },
            ports: Vec::new(),
            egress: None,
        }];
        record
    }

    #[test]
    fn keeps_the_path_that_scripts_know() {
        let json = serde_json::to_value(record()).unwrap();
        let ip = &json["NetworkInterfaces"][0]["StaticConfiguration"]["IPConfiguration"]["IP"];
        assert_eq!(ip, "10.0.0.2");
        assert_eq!(json["State"]["Status"], "Created");
        let created = json["Created"].as_str().unwrap();
        assert!(created.ends_with('Z') && created.contains('T'), "{created}");
    }

    #[test]
    fn the_first_end_is_the_end() {
        let mut record = record();
        let exit = Exit::Signal(9);
        record.finish(State::Stopped { exit });
        let first = record.clone();
        let reason = Report::new("later");
        record.finish(State::Failed { reason });
        assert_eq!(record, first);
        let text = serde_json::to_string(&record).unwrap();
        assert!(
            text.contains(r#""Status":"Stopped","Exit":{"Signal":9}"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }

    #[test]
    fn exits_of_guests_are_checked() {
        use v1::exit::How;
        for (how, expected) in [
            (Some(How::Status(255)), Some(255)),
            (Some(How::Status(256)), None),
            (Some(How::Signal(9)), Some(137)),
            (Some(How::Signal(0)), None),
            (Some(How::Signal(u32::MAX)), None),
            (None, None),
        ] {
            let exit = Exit::try_from(v1::Exit { how }).ok();
            assert_eq!(exit.map(Exit::code), expected, "{how:?}");
        }
    }
}
