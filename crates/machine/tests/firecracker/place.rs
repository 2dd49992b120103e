//! A host of a test's own whose VMM is Firecracker: a stand-in, or where the environment names it
//! the real one.

use std::future::Future;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use firebuild_machine::boot::{Kernel, distribution};
use firebuild_machine::record::Record;
use firebuild_machine::vmm::firecracker::{Firecracker, jail_of};
use firebuild_machine::vmm::{Acceleration, VmmFacts};
use firebuild_machine::{Error, Host, Machine, MachineSpec, Purpose};

use crate::stand_in::{self, Behaviour};
use crate::{host, image};

/// Where the real programs are.
const REAL: [&str; 2] = ["FIREBUILD_TEST_FIRECRACKER", "FIREBUILD_TEST_JAILER"];

/// A host of a test's own. Nothing is left of it afterwards.
pub(crate) struct Place(host::Place);

impl Deref for Place {
    type Target = host::Place;

    fn deref(&self) -> &host::Place {
        &self.0
    }
}

impl Place {
    /// A host with the real programs where there are some, or else with stand-ins.
    pub(crate) fn new() -> Self {
        let Some(programs) = real() else {
            return Self::with(&Behaviour {
                minor: 17,
                ..Behaviour::default()
            });
        };
        let mut place = host::Place::real(&kernel(), image::image());
        place.host.vmm = Some(Arc::new(vmm(programs).unwrap()));
        Self(place)
    }

    /// A host with stand-ins that do this.
    pub(crate) fn with(behaviour: &Behaviour) -> Self {
        let mut place = host::Place::new();
        let programs = stand_in::install(&place.root().join("bin"), behaviour);
        place.host.vmm = Some(Arc::new(vmm(programs).unwrap()));
        Self(place)
    }

    /// A VM of this host that is for a build.
    pub(crate) fn build(&self) -> MachineSpec {
        let mut spec = self.run(&["build"], "");
        spec.purpose = Purpose::Build;
        spec
    }

    /// A VM of this host that does something: what a stand-in's guest is told, or else a script.
    pub(crate) fn run(&self, told: &[&str], script: &str) -> MachineSpec {
        let mut spec = host::spec(told);
        if real().is_some() {
            spec = host::spec(&["sh", "-c", script]);
            spec.kernel_arguments.clear();
            spec.memory = 256;
        }
        spec.firecracker.chroot_base = self.root().join("jails");
        spec
    }

    /// Starts a VM and waits until its agent has called.
    pub(crate) async fn connected(&self, spec: MachineSpec) -> Machine {
        let mut machine = Machine::create(&self.host, spec).unwrap();
        let service = firebuild_machine::testing::no_calls();
        machine.start(service).await.unwrap();
        machine.connected().await.unwrap();
        machine.mark_running().unwrap();
        machine
    }

    /// The error of a VM that cannot be started, of which nothing is left.
    pub(crate) async fn refused(&self, spec: MachineSpec) -> Error {
        let mut machine = Machine::create(&self.host, spec).unwrap();
        let service = firebuild_machine::testing::no_calls();
        let error = match machine.start(service).await {
            Ok(()) => machine.connected().await.unwrap_err(),
            Err(error) => error,
        };
        let record = machine.record().clone();
        drop(machine);
        self.assert_gone(&record);
        error
    }

    /// Nothing of the VM is left on the host, jail and control groups included.
    pub(crate) fn assert_gone(&self, record: &Record) {
        self.assert_released(record);
        if let Some((root, _)) = jail_of(record) {
            assert!(
                !root.parent().unwrap().exists(),
                "`{}` is left",
                root.display()
            );
        }
        let table = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !table.contains(record.id.as_str()),
            "something is still mounted"
        );
        let groups = fs_err::read_to_string("/proc/mounts").unwrap();
        let groups = groups.lines().filter(|line| line.starts_with("cgroup"));
        for root in groups.map(|line| line.split(' ').nth(1).unwrap()) {
            let group = Path::new(root).join("firebuild").join(record.id.as_str());
            assert!(!group.exists(), "`{}` is left", group.display());
        }
    }
}

/// The calls that a VM's Firecracker took, each with its status.
pub(crate) fn calls(record: &Record) -> Vec<String> {
    let (root, _) = jail_of(record).unwrap();
    let text = fs_err::read_to_string(root.join("calls")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The real programs, if they are named.
pub(crate) fn real() -> Option<[PathBuf; 2]> {
    let [program, jailer] = REAL.map(std::env::var_os);
    Some([program?.into(), jailer?.into()])
}

/// Runs a test that waits.
pub(crate) fn wait<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

/// The driver for these programs, whatever the host's KVM is worth.
pub(crate) fn vmm([program, jailer]: [PathBuf; 2]) -> Result<Firecracker, Error> {
    let facts = VmmFacts {
        name: "firecracker".to_owned(),
        program,
        acceleration: Acceleration::Kvm,
        reason: "Firecracker, because this is a test".to_owned(),
    };
    Firecracker::new(facts, jailer)
}

/// The same host, in whatever process.
pub(crate) fn same_host() -> Host {
    let root = host::root();
    let mut host = host::host(&root);
    let programs = real().unwrap_or_else(|| {
        let bin = root.join("bin");
        ["firecracker", "jailer"].map(|name| bin.join(name))
    });
    if real().is_some() {
        host.kernels = Host::new(host.store.clone()).kernels;
    }
    host.vmm = Some(Arc::new(vmm(programs).unwrap()));
    host
}

/// A supervisor, in the place of a test.
pub(crate) fn be_supervisor() -> ExitCode {
    firebuild_machine::supervisor::main(&same_host(), &crate::host::passed_on())
}

/// The kernel that real VMs boot, fetched once.
fn kernel() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = parent.join("kernel-bookworm");
    if Kernel::open(&directory).is_err() {
        let staged = tempfile::tempdir_in(parent).unwrap();
        distribution::pull("bookworm", None, staged.path()).unwrap();
        // Another test may have been quicker.
        if let Err(error) = fs_err::rename(staged.path(), &directory) {
            assert!(Kernel::open(&directory).is_ok(), "{error}");
        }
    }
    directory
}
