//! The jailer's command line.
//!
//! The jailer becomes Firecracker: it is neither asked to run in the background nor for a process
//! namespace, both of which would make Firecracker the child of a process that has ended. So the
//! process that is started is the one that is watched, by a descriptor of its own, and its standard
//! output is the guest's console.

use std::ffi::OsString;
use std::path::Path;

use firebuild_core::MachineId;
use firebuild_network::Namespace;

use super::cgroup::{CgroupSetting, CgroupVersion};
use super::jail::SOCKET;
use super::options::FirecrackerOptions;
use crate::Error;
use crate::vmm::ids::Ids;

/// Where the kernel tells of NUMA nodes.
const NODES: &str = "/sys/devices/system/node";

/// What the jailer is told.
#[derive(Debug)]
pub(super) struct Jailer<'a> {
    /// The VM.
    pub(super) id: &'a MachineId,
    /// Firecracker's program, which is no link.
    pub(super) program: &'a Path,
    /// Whom to become.
    pub(super) ids: Ids,
    /// The network namespace to enter.
    pub(super) namespace: &'a Namespace,
    /// The control groups to make, if any.
    pub(super) cgroups: Option<(CgroupVersion, &'a [CgroupSetting])>,
    /// The rest.
    pub(super) options: &'a FirecrackerOptions,
}

impl Jailer<'_> {
    /// The arguments of the jailer, and behind them those of Firecracker.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let options = self.options;
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        add("--id", self.id.as_str().into());
        add("--exec-file", self.program.into());
        add("--uid", self.ids.uid.to_string().into());
        add("--gid", self.ids.gid.to_string().into());
        add("--chroot-base-dir", options.chroot_base.clone().into());
        add("--netns", self.namespace.path().into());
        if let Some((version, settings)) = self.cgroups {
            add("--cgroup-version", version.to_string().into());
            add("--parent-cgroup", options.parent_cgroup().into());
            for setting in settings {
                add("--cgroup", setting.to_string().into());
            }
        }
        for (limit, value) in [
            ("no-file", options.open_files),
            ("fsize", options.file_size),
        ] {
            if let Some(value) = value {
                add("--resource-limit", format!("{limit}={value}").into());
            }
        }
        arguments.extend(["--".into(), "--api-sock".into(), SOCKET.into()]);
        arguments
    }
}

/// The settings that keep a VM on one NUMA node: what the jailer's own option for it was.
///
/// # Errors
/// [`Error::Spec`] if the host has no such node.
pub(super) fn numa_settings(node: u32) -> Result<[CgroupSetting; 2], Error> {
    let cpus = fs_err::read_to_string(format!("{NODES}/node{node}/cpulist"));
    let cpus = cpus.map_err(|_| Error::Spec(format!("this host has no NUMA node {node}")))?;
    Ok([
        CgroupSetting::new("cpuset.mems", node.to_string()),
        CgroupSetting::new("cpuset.cpus", cpus.trim()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(options: &FirecrackerOptions, settings: &[CgroupSetting]) -> Vec<String> {
        let jailer = Jailer {
            id: &MachineId::from_random([1; 20]),
            program: Path::new("/usr/bin/firecracker-v1.12.0"),
            ids: Ids {
                uid: 700_001,
                gid: 700_002,
                device_group: None,
            },
            namespace: &Namespace::at("/run/netns/x"),
            cgroups: (!settings.is_empty()).then_some((CgroupVersion::V2, settings)),
            options,
        };
        let arguments = jailer.arguments().into_iter();
        arguments.map(|it| it.into_string().unwrap()).collect()
    }

    #[test]
    fn arguments_are_those_of_its_documentation() {
        let id = MachineId::from_random([1; 20]);
        let line = arguments(&FirecrackerOptions::default(), &[]).join(" ");
        let expected = format!(
            "--id {id} --exec-file /usr/bin/firecracker-v1.12.0 --uid 700001 --gid 700002 \
             --chroot-base-dir /srv/jailer --netns /run/netns/x -- --api-sock /run/firecracker.socket"
        );
        assert_eq!(line, expected);
        let options = FirecrackerOptions {
            open_files: Some(99),
            file_size: Some(1 << 30),
            ..FirecrackerOptions::default()
        };
        let settings = [CgroupSetting::new("memory.max", "1G")];
        let line = arguments(&options, &settings).join(" ");
        for part in [
            " --cgroup-version 2 --parent-cgroup firebuild --cgroup memory.max=1G ",
            " --resource-limit no-file=99 --resource-limit fsize=1073741824 -- ",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn pitfall_09_firecracker_is_our_own_child() {
        let all = FirecrackerOptions::default();
        for detour in ["--daemonize", "--new-pid-ns"] {
            assert!(!arguments(&all, &[]).iter().any(|it| it == detour));
        }
    }

    #[test]
    fn a_node_is_its_processors_and_its_memory() {
        let settings = numa_settings(0).map(|it| it.map(|setting| setting.to_string()));
        if Path::new(NODES).join("node0").exists() {
            let [memory, cpus] = settings.unwrap();
            assert_eq!(memory, "cpuset.mems=0");
            assert!(cpus.starts_with("cpuset.cpus=0"), "{cpus}");
        } else {
            assert!(settings.is_err());
        }
        let error = numa_settings(4_000_000).unwrap_err();
        assert!(
            error.to_string().contains("no NUMA node 4000000"),
            "{error}"
        );
    }
}
