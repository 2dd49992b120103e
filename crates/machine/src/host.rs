//! What a host offers to its VMs: store, network, VMM, kernels.

use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use firebuild_core::MachineId;
use firebuild_network::cni::{self, Cni};
use firebuild_network::{Attachment, Builtin, Request, Settings};
use firebuild_store::{KernelId, Store};

use crate::boot::{self, Kernel, Needs};
use crate::phases::Watch;
use crate::spec::CniNetwork;
use crate::spec::MachineSpec;
use crate::vmm::firecracker::FirecrackerOptions;
use crate::vmm::{Vmm, VmmKind, detect};
use crate::{Error, paths};

/// What a host offers to its VMs.
#[derive(Clone)]
pub struct Host {
    /// All state.
    pub store: Store,
    /// The networks of its own.
    pub network: Builtin,
    /// Where everything of CNI is, for VMs whose records do not say.
    pub cni: cni::Directories,
    /// Where sockets are: a short path.
    pub run: PathBuf,
    /// The VMM; the best that there is, if none.
    pub vmm: Option<Arc<dyn Vmm>>,
    /// Where kernels come from.
    pub kernels: Loader,
    /// Who is told what takes time.
    pub watch: Option<Watch>,
}

/// Finds a kernel and makes its initramfs, for a VM with these needs.
pub type Loader = fn(&Store, &KernelId, Needs) -> Result<Boot, Error>;

/// What a VM boots.
#[derive(Debug)]
pub struct Boot {
    /// The kernel.
    pub kernel: File,
    /// The initramfs that goes with it.
    pub initramfs: File,
    /// Whether the kernel finds its devices through ACPI; else they are on its command line.
    pub acpi: bool,
}

impl Host {
    /// This host, with its state in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let network = Builtin::new(Settings::of_host(store.path()));
        Self {
            store,
            network,
            cni: cni::Directories::default(),
            run: paths::RUN.into(),
            vmm: None,
            kernels: load,
            watch: None,
        }
    }

    /// The driver of networks by CNI, with the directories of one VM or the host's.
    #[must_use]
    pub fn cni(&self, of: Option<&CniNetwork>) -> Cni {
        let directories = of.map_or(&self.cni, |network| &network.directories);
        let settings = cni::Settings::beside(self.network.settings(), directories.clone());
        Cni::new(settings)
    }

    /// Attaches a VM to the network by CNI that it is to be in, or else to networks of the host's own.
    /// The name servers that it was given are for plugins that take some.
    pub(crate) fn attach(
        &self,
        request: &Request,
        to: Option<&CniNetwork>,
        servers: &[IpAddr],
    ) -> Result<Attachment, firebuild_network::Error> {
        match to {
            None => self.network.setup(request),
            Some(network) => self.cni(to).setup(&network.request(request, servers)),
        }
    }

    /// The VMs of which this host has anything in a network.
    pub(crate) fn attached(&self) -> Result<Vec<MachineId>, firebuild_network::Error> {
        let mut attached = self.network.known()?;
        attached.extend(self.cni(None).known()?);
        Ok(attached)
    }

    /// The VMM.
    ///
    /// # Errors
    /// [`Error::VmmMissing`].
    pub fn vmm(&self) -> Result<Arc<dyn Vmm>, Error> {
        self.vmm_of(None, &FirecrackerOptions::default())
    }

    /// The VMM for a VM like this.
    ///
    /// # Errors
    /// [`Error::VmmMissing`], [`Error::VmmUnusable`], [`Error::VmmVersion`].
    pub fn vmm_for(&self, spec: &MachineSpec) -> Result<Arc<dyn Vmm>, Error> {
        self.vmm_of(spec.vmm, &spec.firecracker)
    }

    /// The VMM of a kind, or the best, with what is asked of it if it is Firecracker.
    ///
    /// # Errors
    /// As [`vmm_for`](Self::vmm_for).
    pub fn vmm_of(
        &self,
        kind: Option<VmmKind>,
        options: &FirecrackerOptions,
    ) -> Result<Arc<dyn Vmm>, Error> {
        match &self.vmm {
            Some(vmm) => Ok(Arc::clone(vmm)),
            None => detect::detect(kind, options),
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("store", &self.store)
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

/// The kernel `id` of the store, with the agent that this program carries.
fn load(store: &Store, id: &KernelId, needs: Needs) -> Result<Boot, Error> {
    let kernel = Kernel::open(&store.kernels().get(id)?)?;
    let vmlinux = fs_err::File::open(kernel.vmlinux());
    let vmlinux = vmlinux.map_err(|source| Error::io(format!("open the kernel `{id}`"), source))?;
    Ok(Boot {
        kernel: vmlinux.into_parts().0,
        initramfs: boot::kept::open(store, id, &kernel, needs)?,
        acpi: kernel.facts().acpi,
    })
}
