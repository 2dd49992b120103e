//! A host of its own for each test, and what the test program does in its other roles.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use firebuild_core::{ByteSize, Digest};
use firebuild_machine::boot::Needs;
use firebuild_machine::host::Boot;
use firebuild_machine::record::Record;
use firebuild_machine::testing::ProcessVmm;
use firebuild_machine::{Error, Host, MachineSpec, Purpose, client, reconcile, supervisor};
use firebuild_network::{Builtin, Settings, Subnet};
use firebuild_protocol::workload::Workload;
use firebuild_store::{KernelId, Store};

/// Which role the program has.
pub(crate) const ROLE: &str = "FIREBUILD_TEST_ROLE";
/// The directory of the test.
const ROOT: &str = "FIREBUILD_TEST_ROOT";

/// A host of a test's own. Nothing is left of it afterwards.
pub(crate) struct Place {
    pub(crate) host: Host,
    root: tempfile::TempDir,
    role: &'static str,
}

impl Place {
    /// A host whose VMs are processes.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = host(root.path());
        let kernel = host.store.temporary_directory().unwrap();
        let id: KernelId = "none".parse().unwrap();
        host.store.kernels().put(&id, kernel, false).unwrap();
        let made = host
            .store
            .rootfs(&rootfs(), |_| Ok::<_, firebuild_store::Error>(()));
        made.unwrap();
        let role = "supervisor";
        Self { host, root, role }
    }

    /// A host whose VMs are VMs, with the files of a kernel and a root file system image.
    pub(crate) fn real(kernel: &Path, image: &Path) -> Self {
        let mut place = Self::new();
        let staged = place.host.store.temporary_directory().unwrap();
        for file in ["kernel.json", "vmlinux", "modules", "config"] {
            std::os::unix::fs::symlink(kernel.join(file), staged.path().join(file)).unwrap();
        }
        let id: KernelId = "none".parse().unwrap();
        place.host.store.kernels().put(&id, staged, true).unwrap();
        fs_err::copy(image, place.host.store.rootfs_path(&rootfs())).unwrap();
        place.host = really(place.host.clone());
        place.role = "real-supervisor";
        place
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn supervisor(&self) -> Command {
        program(self.role, self.root())
    }

    /// Nothing of the VM is left on the host.
    pub(crate) fn assert_released(&self, record: &Record) {
        assert!(!record.directories.runtime.exists());
        // The disk stays for as long as the record does.
        let kept = client::inspect(&self.host, record.id.as_str()).is_ok();
        assert_eq!(record.directories.disk.exists(), kept);
        let namespace = self.host.network.namespace(&record.id);
        assert!(!namespace.path().exists());
        let known = self.host.network.known().unwrap();
        assert!(!known.contains(&record.id));
        let running = self.host.store.machines().is_running(&record.id);
        assert!(!running.unwrap_or_default());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for record in client::list(&self.host).unwrap_or_default() {
            let _ = client::kill(&self.host, &record.id);
        }
        let _ = reconcile::purge(&self.host);
        let _ = self.host.network.teardown_unused_host_parts();
    }
}

fn rootfs() -> Digest {
    Digest::of(b"none")
}

/// The name of a test's network, and of its rules on the host.
pub(crate) fn network(root: &Path) -> String {
    let hash = Digest::of(root.as_os_str().as_encoded_bytes());
    format!("fbm{}", &hash.hex()[..8])
}

/// The same host, in whatever process.
pub(crate) fn host(root: &Path) -> Host {
    let store = Store::open(&root.join("store")).unwrap();
    let hash = Digest::of(root.as_os_str().as_encoded_bytes());
    let mut settings = Settings::of_host(store.path());
    settings.name = network(root).parse().unwrap();
    settings.leases = root.join("leases");
    let third = hash.bytes()[5];
    // Other tests look for a free one at the same time.
    settings.subnets = (0..8)
        .filter_map(|step| Subnet::new([10, 251, third.wrapping_add(step * 31), 0].into(), 24))
        .collect();
    Host {
        watch: None,
        network: Builtin::new(settings),
        cni: firebuild_network::cni::Directories {
            cache: root.join("cni"),
            ..Default::default()
        },
        run: root.join("run"),
        vmm: Some(Arc::new(ProcessVmm::new(|| {
            program("guest", Path::new("/"))
        }))),
        kernels: no_kernel,
        store,
    }
}

/// The same host, with the kernels of its store and the VMM that there is.
fn really(host: Host) -> Host {
    Host {
        vmm: None,
        kernels: Host::new(host.store.clone()).kernels,
        ..host
    }
}

fn no_kernel(_: &Store, _: &KernelId, _: Needs) -> Result<Boot, Error> {
    let nothing = || fs_err::File::open("/dev/null").unwrap().into_parts().0;
    Ok(Boot {
        kernel: nothing(),
        initramfs: nothing(),
        acpi: true,
    })
}

/// What makes this program, as one of tests, take a role: more follows for supervisors.
const TO_BE: [&str; 4] = ["--exact", "role", "--nocapture", "--test-threads=1"];

/// What follows, for a supervisor.
pub(crate) fn passed_on() -> Vec<std::ffi::OsString> {
    std::env::args_os().skip(1 + TO_BE.len()).collect()
}

/// This program in another role.
pub(crate) fn program(role: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(TO_BE).env(ROLE, role).env(ROOT, root);
    command
}

/// A VM that runs `arguments`.
pub(crate) fn spec(arguments: &[&str]) -> MachineSpec {
    let silent = arguments == ["never-calls"];
    let purpose = Purpose::Run {
        workload: Workload::new(arguments.iter().map(|&a| a.to_owned()).collect()),
        stop_signal: 15,
    };
    MachineSpec {
        kernel_arguments: arguments.iter().map(|a| format!("test={a}")).collect(),
        memory: 64,
        disk: ByteSize::mib(16),
        connect_time: silent.then_some(Duration::from_secs(1)),
        ..MachineSpec::new(purpose, vec![rootfs()], "none".parse().unwrap())
    }
}

/// The directory that the environment names.
pub(crate) fn root() -> PathBuf {
    std::env::var_os(ROOT).unwrap().into()
}

pub(crate) fn be_supervisor(real: bool) {
    let host = host(&root());
    let host = if real { really(host) } else { host };
    let code = supervisor::main(&host, &passed_on());
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}
