//! QEMU's `microvm` machine: virtio over MMIO, no PCI, no disk controllers, nothing that the guest
//! does not need.
//!
//! QEMU runs sandboxed, as a user of its own, in the VM's network namespace, and opens nothing by
//! name that belongs to the VM: disks come as a set of descriptors (`-add-fd`), the tap by number,
//! kernel and initramfs as `/proc/self/fd/N`.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Value, json};

use super::group::{self, Groups};
use super::qmp::Qmp;
use super::{Acceleration, Launch, Pending, Running, Vmm, VmmFacts};
use crate::boot::Restart;
use crate::limits::{DiskRates, Limits};
use crate::spec::MachineSpec;
use crate::{Error, sys};

/// The host's QEMU.
#[derive(Debug, Clone)]
pub struct Qemu {
    facts: VmmFacts,
}

impl Qemu {
    /// The QEMU that [`super::detect`] found.
    #[must_use]
    pub fn new(facts: VmmFacts) -> Self {
        Self { facts }
    }

    async fn launch(&self, launch: Launch) -> Result<Running, Error> {
        let doing = || format!("prepare QEMU for VM `{}`", launch.id);
        let console = launch.console.clone();
        let namespace = launch.namespace.clone();
        let (ids, root) = (launch.ids, launch.id.clone());
        let mut command = Command::new(&self.facts.program);
        namespace
            .enter_on_start(&mut command, None)
            .map_err(|source| Error::io(doing(), source))?;
        let groups = match launch.disk_lasts || launch.limits != Limits::default() {
            true => group::make(&launch.id, &launch.limits)?,
            false => Groups::default(),
        };
        let failed = |source| Error::io(format!("prepare QEMU for VM `{root}`"), source);
        let (arguments, mut kept) = prepare(launch, self.facts.acceleration).map_err(failed)?;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        command
            .args(arguments)
            .args(control(theirs.as_raw_fd()))
            .env_clear();
        kept.push(theirs.into());
        sys::confine(&mut command, self.with_device(ids), kept, groups);
        log::debug!("start {}", firebuild_core::words(&command));
        let running = Running::start(command, &console).await?;
        Ok(running.with_qmp(Qmp::new(ours)))
    }

    /// The ids, with the group of `/dev/kvm` if that is how it is shared out.
    fn with_device(&self, ids: Option<super::ids::Ids>) -> Option<super::ids::Ids> {
        let mut ids = ids?;
        if self.facts.acceleration == Acceleration::Kvm {
            let kvm = fs_err::metadata(super::detect::KVM).ok()?;
            match kvm.mode() & 0o066 {
                all if all & 0o006 == 0o006 => {}
                group if group & 0o060 == 0o060 => ids.device_group = Some(kvm.gid()),
                // Only its owner may open it.
                _ => return None,
            }
        }
        Some(ids)
    }
}

impl Vmm for Qemu {
    fn facts(&self) -> &VmmFacts {
        &self.facts
    }

    fn serves_metadata(&self) -> bool {
        false
    }

    fn restart(&self) -> Restart {
        Restart::TripleFault
    }

    /// As `microvm` has transports: 8 where interrupts are the old ones, 24 with a second controller.
    fn device_room(&self, acpi: bool) -> usize {
        if acpi { 24 } else { 8 }
    }

    fn check(&self, spec: &MachineSpec) -> Result<(), Error> {
        // What somebody asked for is not passed over in silence.
        match spec.firecracker.only_here() {
            Some(what) => Err(self.offers_no(what)),
            None => Ok(()),
        }
    }

    fn start(&self, launch: Launch) -> Pending<'_, Running> {
        Box::pin(self.launch(launch))
    }

    fn pause<'a>(&'a self, running: &'a Running) -> Pending<'a, ()> {
        Box::pin(running.qmp("stop"))
    }

    fn resume<'a>(&'a self, running: &'a Running) -> Pending<'a, ()> {
        Box::pin(running.qmp("cont"))
    }

    fn set_rates<'a>(&'a self, running: &'a Running, rates: &'a DiskRates) -> Pending<'a, ()> {
        Box::pin(async move {
            let failed = |source| Error::io("change the rates of the VM's disks", source);
            set_rates(running, rates).await.map_err(failed)
        })
    }
}

/// The group in which drives are limited together whose VM began without a limit.
const LATER: &str = "later";

/// Changes the group of drives that was made when the VM began, or else puts all drives into one.
async fn set_rates(running: &Running, rates: &DiskRates) -> io::Result<()> {
    let rate = |rate: Option<u64>| rate.unwrap_or(0);
    let objects = running.qmp_with("qom-list", json!({"path": "/objects"}));
    let objects = objects.await?;
    let is_limit = |object: &Value| object.get("name").and_then(Value::as_str) == Some("limit");
    if objects
        .as_array()
        .is_some_and(|all| all.iter().any(is_limit))
    {
        let limits = json!({
            "bps-read": rate(rates.read_bytes),
            "bps-write": rate(rates.write_bytes),
            "iops-read": rate(rates.read_operations),
            "iops-write": rate(rates.write_operations),
        });
        let change = json!({"path": "/objects/limit", "property": "limits", "value": limits});
        return running.qmp_with("qom-set", change).await.map(drop);
    }
    let drives = running.qmp_with("query-block", json!({})).await?;
    for drive in drives.as_array().into_iter().flatten() {
        // QEMU's own name for the device, which only QEMU gets to see again.
        let Some(device) = drive.get("qdev").and_then(Value::as_str) else {
            continue;
        };
        let limits = json!({
            "id": device,
            "group": LATER,
            "bps": 0,
            "bps_rd": rate(rates.read_bytes),
            "bps_wr": rate(rates.write_bytes),
            "iops": 0,
            "iops_rd": rate(rates.read_operations),
            "iops_wr": rate(rates.write_operations),
        });
        running.qmp_with("block_set_io_throttle", limits).await?;
    }
    Ok(())
}

/// The arguments by which QEMU takes commands over an open socket.
pub(super) fn control(socket: i32) -> [String; 4] {
    [
        "-chardev".to_owned(),
        format!("socket,id=control,fd={socket}"),
        "-mon".to_owned(),
        "chardev=control,mode=control".to_owned(),
    ]
}

/// The numbers of the descriptors that QEMU inherits.
#[derive(Debug, Clone)]
struct Numbers {
    kernel: i32,
    initramfs: i32,
    /// Of the root file system's images, the lowest first.
    roots: Vec<i32>,
    disk: i32,
    /// One for each network device.
    taps: Vec<i32>,
    /// One for each attached disk.
    attached: Vec<i32>,
    /// One for each directory of the host's.
    shares: Vec<i32>,
}

fn prepare(launch: Launch, acceleration: Acceleration) -> io::Result<(Vec<String>, Vec<OwnedFd>)> {
    let kernel = readable_by_all(&launch.kernel)?;
    let initramfs = readable_by_all(&launch.initramfs)?;
    let disk: OwnedFd = launch.disk.try_clone()?.into();
    let roots = duplicates(launch.roots.iter())?;
    let taps = launch.interfaces.iter().map(|it| it.tap.try_clone());
    let taps = taps.collect::<io::Result<Vec<OwnedFd>>>()?;
    let attached = duplicates(launch.attached.iter().map(|disk| &disk.file))?;
    let shares = launch.shares.iter().map(|share| share.socket.try_clone());
    let shares = shares.collect::<io::Result<Vec<OwnedFd>>>()?;
    let raw = |fds: &[OwnedFd]| fds.iter().map(AsRawFd::as_raw_fd).collect();
    let numbers = Numbers {
        kernel: kernel.as_raw_fd(),
        initramfs: initramfs.as_raw_fd(),
        roots: raw(&roots),
        disk: disk.as_raw_fd(),
        taps: raw(&taps),
        attached: raw(&attached),
        shares: raw(&shares),
    };
    let arguments = arguments(&launch, acceleration, &numbers);
    let mut kept = vec![kernel, initramfs, disk];
    kept.extend(taps);
    kept.extend(roots);
    kept.extend(attached);
    kept.extend(shares);
    Ok((arguments, kept))
}

fn duplicates<'a>(files: impl Iterator<Item = &'a File>) -> io::Result<Vec<OwnedFd>> {
    files.map(|file| Ok(file.try_clone()?.into())).collect()
}

/// A descriptor that any user may open again through `/proc`: the file's own, or if its permission
/// bits are in the way, that of a copy in memory.
fn readable_by_all(file: &File) -> io::Result<OwnedFd> {
    if file.metadata()?.mode() & 0o004 != 0 {
        return Ok(file.try_clone()?.into());
    }
    let mut copy = File::from(memfd_create("firebuild", MemfdFlags::CLOEXEC)?);
    let mut from = file.try_clone()?;
    from.rewind()?;
    io::copy(&mut from, &mut copy)?;
    Ok(copy.into())
}

fn arguments(launch: &Launch, acceleration: Acceleration, numbers: &Numbers) -> Vec<String> {
    let (accel, cpu) = match acceleration {
        Acceleration::Kvm => ("kvm", "host"),
        // Linux 6.12 uses cmpxchg16b where QEMU 7.2 emulates it wrongly, and panics at random.
        Acceleration::Tcg => ("tcg", "max,-cx16"),
    };
    let Numbers {
        kernel, initramfs, ..
    } = numbers;
    // Without it, QEMU adds the devices to the command line.
    let acpi = if launch.acpi { "on" } else { "off" };
    // Who serves directories reads and writes the guest's memory, which is shared only then.
    let memory = match launch.shares.is_empty() {
        true => "",
        false => ",memory-backend=memory",
    };
    let mut arguments = Vec::new();
    for (option, value) in [
        ("-name", format!("firebuild-{}", launch.id)),
        // The guest's clock has to be right before it can check a certificate.
        (
            "-machine",
            format!("microvm,accel={accel},rtc=on,acpi={acpi}{memory}"),
        ),
        ("-cpu", cpu.to_owned()),
        ("-smp", launch.cpus.to_string()),
        ("-m", format!("{}M", launch.memory)),
        ("-global", "virtio-mmio.force-legacy=false".to_owned()),
        ("-display", "none".to_owned()),
        (
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".to_owned(),
        ),
        ("-kernel", format!("/proc/self/fd/{kernel}")),
        ("-initrd", format!("/proc/self/fd/{initramfs}")),
        ("-append", launch.command_line.clone()),
        ("-device", "virtio-rng-device".to_owned()),
        ("-chardev", "stdio,id=console,signal=off".to_owned()),
        ("-serial", "chardev:console".to_owned()),
    ] {
        arguments.extend([option.to_owned(), value]);
    }
    arguments.extend(interfaces(launch, numbers));
    arguments.extend(drives(launch, numbers));
    arguments.extend(shares(launch, numbers));
    for switch in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        arguments.push(switch.to_owned());
    }
    arguments
}

/// The arguments of all network devices.
fn interfaces(launch: &Launch, numbers: &Numbers) -> Vec<String> {
    let pairs = launch.interfaces.iter().zip(&numbers.taps).enumerate();
    let device = |(index, (interface, fd)): (usize, (&super::GuestInterface, &i32))| {
        let mac = interface.mac;
        [
            "-netdev".to_owned(),
            format!("tap,id=net{index},fd={fd},vhost=off"),
            "-device".to_owned(),
            format!("virtio-net-device,netdev=net{index},mac={mac}"),
        ]
    };
    pairs.flat_map(device).collect()
}

/// The arguments by which all drives together are no faster than `rates`; none if they may be.
fn throttle(rates: &DiskRates) -> Vec<String> {
    let mut object = "throttle-group,id=limit".to_owned();
    for (name, rate) in [
        ("bps-read", rates.read_bytes),
        ("bps-write", rates.write_bytes),
        ("iops-read", rates.read_operations),
        ("iops-write", rates.write_operations),
    ] {
        if let Some(rate) = rate {
            object.push_str(&format!(",x-{name}={rate}"));
        }
    }
    match rates.is_empty() {
        true => Vec::new(),
        false => vec!["-object".to_owned(), object],
    }
}

/// The arguments of all directories of the host's.
fn shares(launch: &Launch, numbers: &Numbers) -> Vec<String> {
    let mut arguments = Vec::new();
    if !launch.shares.is_empty() {
        let size = launch.memory;
        arguments.extend([
            "-object".to_owned(),
            format!("memory-backend-memfd,id=memory,size={size}M,share=on"),
        ]);
    }
    for (share, fd) in launch.shares.iter().zip(&numbers.shares) {
        let tag = &share.tag;
        arguments.extend([
            "-chardev".to_owned(),
            format!("socket,id={tag},fd={fd}"),
            "-device".to_owned(),
            format!("vhost-user-fs-device,chardev={tag},tag={tag}"),
        ]);
    }
    arguments
}

/// The arguments of all drives.
fn drives(launch: &Launch, numbers: &Numbers) -> Vec<String> {
    let mut arguments = throttle(&launch.limits.disks);
    let is_limited = !arguments.is_empty();
    let mut set = 0;
    let mut add = |fd: i32, node: &str, serial: &str, kind: &str, more: &str| {
        set += 1;
        arguments.extend([
            "-add-fd".to_owned(),
            format!("fd={fd},set={set}"),
            "-blockdev".to_owned(),
            format!(
                "driver=raw,node-name={node},{kind},file.driver=file,file.filename=/dev/fdset/{set},file.locking=off{more}"
            ),
        ]);
        let mut drive = node.to_owned();
        if is_limited {
            drive.push_str("-limited");
            let kind = kind.split(',').next().unwrap_or_default();
            arguments.extend([
                "-blockdev".to_owned(),
                format!(
                    "driver=throttle,node-name={drive},throttle-group=limit,{kind},file={node}"
                ),
            ]);
        }
        arguments.extend([
            "-device".to_owned(),
            format!("virtio-blk-device,drive={drive},serial={serial}"),
        ]);
    };
    for (index, fd) in numbers.roots.iter().enumerate() {
        let name = super::root_serial(index);
        // Many VMs have it open, none can write it: nothing to lock.
        add(*fd, &name, &name, "read-only=on", "");
    }
    let own = match launch.disk_lasts {
        true => "discard=unmap",
        // It ends with the VM, so nothing has to reach the host's disk at any time.
        false => "discard=unmap,cache.no-flush=on",
    };
    add(numbers.disk, "disk", "disk", own, ",file.discard=unmap");
    for (index, (disk, fd)) in launch.attached.iter().zip(&numbers.attached).enumerate() {
        // It outlives the VM: what the guest flushes reaches the host's disk, and what it discards
        // takes no more room there.
        let node = format!("attached{index}");
        let (kind, more) = match disk.read_only {
            true => ("read-only=on", ""),
            false => ("discard=unmap", ",file.discard=unmap"),
        };
        add(*fd, &node, &disk.serial, kind, more);
    }
    arguments
}

/// The name of the program for guests of the host's architecture.
#[must_use]
pub fn program() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "qemu-system-aarch64",
        _ => "qemu-system-x86_64",
    }
}

/// A file of `bytes` in memory, which can be passed to a VMM like any other.
///
/// # Errors
/// No memory is left, or no descriptor.
pub fn in_memory(bytes: &[u8]) -> io::Result<File> {
    use std::io::Write as _;
    let mut file = File::from(memfd_create("firebuild", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::tests::launch;
    use super::*;

    fn numbers() -> Numbers {
        Numbers {
            kernel: 10,
            initramfs: 11,
            roots: vec![12, 16],
            disk: 13,
            taps: vec![14],
            attached: vec![15],
            shares: Vec::new(),
        }
    }

    /// The values of an option.
    fn values<'a>(arguments: &'a [String], option: &str) -> Vec<&'a str> {
        let pairs = arguments.iter().zip(&arguments[1..]);
        let found = pairs.filter(|(name, _)| *name == option);
        found.map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn the_command_line_follows_from_the_launch() {
        let tcg = arguments(&launch(), Acceleration::Tcg, &numbers());
        let mac = launch().interfaces[0].mac;
        for (option, expected) in [
            ("-machine", vec!["microvm,accel=tcg,rtc=on,acpi=on"]),
            ("-cpu", vec!["max,-cx16"]),
            ("-smp", vec!["2"]),
            ("-m", vec!["512M"]),
            ("-kernel", vec!["/proc/self/fd/10"]),
            ("-initrd", vec!["/proc/self/fd/11"]),
            ("-append", vec!["console=ttyS0 a,b=c"]),
            (
                "-add-fd",
                vec!["fd=12,set=1", "fd=16,set=2", "fd=13,set=3", "fd=15,set=4"],
            ),
            ("-netdev", vec!["tap,id=net0,fd=14,vhost=off"]),
            (
                "-device",
                vec![
                    "virtio-rng-device",
                    &format!("virtio-net-device,netdev=net0,mac={mac}"),
                    "virtio-blk-device,drive=root,serial=root",
                    "virtio-blk-device,drive=root1,serial=root1",
                    "virtio-blk-device,drive=disk,serial=disk",
                    "virtio-blk-device,drive=attached0,serial=cache0",
                ],
            ),
        ] {
            assert_eq!(values(&tcg, option), expected, "{option}");
        }
        let drives = values(&tcg, "-blockdev");
        assert!(drives[0].contains("node-name=root,read-only=on,"));
        assert!(drives[1].contains("node-name=root1,read-only=on,"));
        assert!(!drives[2].contains("read-only"));
        // The VM's own disk ends with it; an attached one does not.
        assert!(drives[2].contains("no-flush=on") && !drives[3].contains("no-flush"));
        let mut limited = launch();
        limited.limits.disks.read_bytes = Some(1000);
        let limited = arguments(&limited, Acceleration::Tcg, &numbers());
        assert_eq!(
            values(&limited, "-object"),
            ["throttle-group,id=limit,x-bps-read=1000"]
        );
        let drives = values(&limited, "-blockdev");
        let root =
            "driver=throttle,node-name=root-limited,throttle-group=limit,read-only=on,file=root";
        assert_eq!(drives[1], root);
        let devices = values(&limited, "-device");
        assert!(devices.contains(&"virtio-blk-device,drive=disk-limited,serial=disk"));
        let lasting = Launch {
            disk_lasts: true,
            ..launch()
        };
        let lasting = arguments(&lasting, Acceleration::Tcg, &numbers());
        assert!(!values(&lasting, "-blockdev")[2].contains("no-flush"));
        for switch in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            assert!(tcg.iter().any(|argument| argument == switch), "{switch}");
        }
        let sandbox = values(&tcg, "-sandbox")[0];
        for denied in ["elevateprivileges", "spawn", "resourcecontrol", "obsolete"] {
            assert!(sandbox.contains(&format!("{denied}=deny")), "{sandbox}");
        }
    }

    #[test]
    fn kvm_and_kernels_without_acpi_differ() {
        let launch = Launch {
            acpi: false,
            ..launch()
        };
        let kvm = arguments(&launch, Acceleration::Kvm, &numbers());
        assert_eq!(
            values(&kvm, "-machine"),
            ["microvm,accel=kvm,rtc=on,acpi=off"]
        );
        assert_eq!(values(&kvm, "-cpu"), ["host"]);
    }

    #[test]
    fn what_others_may_not_read_is_copied() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kernel");
        fs_err::write(&path, "kernel").unwrap();
        for (mode, is_copied) in [(0o644, false), (0o600, true)] {
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = fs_err::File::open(&path).unwrap().into_parts().0;
            let fd = readable_by_all(&file).unwrap();
            let name = fs_err::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
            assert_eq!(name.to_string_lossy().starts_with("/memfd:"), is_copied);
            let copy = fs_err::read(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
            assert_eq!(copy, b"kernel");
        }
    }
}
