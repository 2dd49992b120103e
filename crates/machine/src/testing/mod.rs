//! What tests of this crate, and of those above it, need instead of a VM: a guest that is a program
//! of ours ([`guest`]), and a VMM that starts a process in its place ([`ProcessVmm`]).

pub mod guest;

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::agent::GuestService;
use crate::boot::Restart;
use crate::vmm::group::{self, Groups};
use crate::vmm::{Acceleration, Launch, Pending, Running, Vmm, VmmFacts};
use crate::{Error, sys};

/// Takes over a descriptor that a VMM's stand-in was started with.
///
/// # Errors
/// There is none of that number.
pub fn inherited(number: std::os::fd::RawFd) -> std::io::Result<std::os::fd::OwnedFd> {
    sys::inherited(number)
}

/// A service that has no calls: whatever a guest asks for is "unimplemented".
#[must_use]
pub fn no_calls() -> impl GuestService {
    tower::service_fn(|_: http::Request<hyper::body::Incoming>| {
        let refused = tonic::Status::unimplemented("there are no calls").into_http();
        std::future::ready(Ok::<_, std::convert::Infallible>(refused))
    })
}

/// A VMM that starts a process in the VM's network namespace and takes that for the guest. The
/// process gets the kernel's command line in the environment variable `FIREBUILD_COMMAND_LINE`.
pub struct ProcessVmm {
    facts: VmmFacts,
    command: Box<dyn Fn() -> Command + Send + Sync>,
}

impl ProcessVmm {
    /// A VMM whose guests are what `command` makes.
    #[must_use]
    pub fn new(command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        Self {
            facts: VmmFacts {
                name: "process".to_owned(),
                program: PathBuf::from("/proc/self/exe"),
                acceleration: Acceleration::Kvm,
                reason: "a process, because this is a test".to_owned(),
            },
            command: Box::new(command),
        }
    }

    async fn launch(&self, launch: Launch) -> Result<Running, Error> {
        let mut command = (self.command)();
        command.env("FIREBUILD_COMMAND_LINE", &launch.command_line);
        launch
            .namespace
            .enter_on_start(&mut command, None)
            .map_err(|source| Error::io("enter the namespace", source))?;
        let groups = match launch.limits == crate::limits::Limits::default() {
            true => Groups::default(),
            false => group::make(&launch.id, &launch.limits)?,
        };
        sys::confine(&mut command, None, Vec::new(), groups);
        Running::start(command, &launch.console).await
    }
}

impl Vmm for ProcessVmm {
    fn facts(&self) -> &VmmFacts {
        &self.facts
    }

    fn serves_metadata(&self) -> bool {
        false
    }

    fn restart(&self) -> Restart {
        Restart::TripleFault
    }

    fn start(&self, launch: Launch) -> Pending<'_, Running> {
        Box::pin(self.launch(launch))
    }

    fn pause<'a>(&'a self, running: &'a Running) -> Pending<'a, ()> {
        Box::pin(std::future::ready(send(running, Signal::STOP)))
    }

    fn resume<'a>(&'a self, running: &'a Running) -> Pending<'a, ()> {
        Box::pin(std::future::ready(send(running, Signal::CONT)))
    }
}

fn send(running: &Running, signal: Signal) -> Result<(), Error> {
    let sent = running.signal(signal);
    sent.map_err(|source| Error::io("send a signal", source))
}
