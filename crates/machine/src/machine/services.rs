//! What a VM's owner serves in the VM's namespace: metadata, the agent, names.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use firebuild_protocol::metadata::{Credentials, Metadata};
use firebuild_protocol::{HOST_ADDRESS, METADATA_ADDRESS};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::Machine;
use crate::agent::{self, Agent, GuestService, Options, Sides};
use crate::metadata::withdraw::Withdrawing;
use crate::spec::Purpose;
use crate::vmm::Vmm;
use crate::{Error, metadata};

/// How often the guest is to be heard, in milliseconds.
const PING_INTERVAL: u32 = 5_000;

/// How long a build's guest may say nothing, without emulation.
const SILENCE: Duration = Duration::from_secs(30);

/// How many calls a guest that runs a workload may have at once: its session, and one for each of
/// what commands want beside the workload.
const CALLS: u32 = 128;

/// How many bytes of each may be under way.
const CALL_WINDOW: u32 = 64 << 10;

/// What runs beside a VMM, for as long as this is there.
#[derive(Debug)]
pub(super) struct Services {
    /// What the agent calls.
    pub(super) agent: Agent,
    /// What it reads first.
    pub(super) metadata: metadata::Service,
    /// Who serves the metadata, if the VMM does not.
    pub(super) listening: Option<AbortHandle>,
    /// Who answers about names, if there are any.
    names: Option<AbortHandle>,
}

impl Drop for Services {
    fn drop(&mut self) {
        for task in self.listening.iter().chain(&self.names) {
            task.abort();
        }
    }
}

impl Machine {
    /// Starts the services of the VM's namespace and returns the metadata.
    pub(super) fn serve<S: GuestService>(
        &mut self,
        vmm: &dyn Vmm,
        sides: &Sides,
        service: S,
    ) -> Result<Metadata, Error> {
        let listener = self.listen((HOST_ADDRESS, 0).into())?;
        let port = listener
            .local_addr()
            .map_err(|source| Error::io("listen for the guest", source))?;
        let metadata = self.metadata(sides, port)?;
        let document = metadata::Service::new(metadata.clone())?;
        let listening = if vmm.serves_metadata() {
            None
        } else {
            let listener = self.listen((METADATA_ADDRESS, 80).into())?;
            Some(tokio::spawn(document.clone().serve(listener)).abort_handle())
        };
        let is_build = matches!(self.record.spec.purpose, Purpose::Build);
        let patient = Options {
            handshake: Options::default().handshake * self.patience,
            ..Options::default()
        };
        // A build moves layers; another VM has many calls, none of which may hold up the others.
        let options = if is_build {
            Options {
                silence: Some(self.silence()),
                window: 4 << 20,
                connection_window: 8 << 20,
                ..patient
            }
        } else {
            Options {
                window: CALL_WINDOW,
                connection_window: CALL_WINDOW * CALLS,
                calls: CALLS,
                ..patient
            }
        };
        let service = Withdrawing::new(service, document.clone());
        let agent = agent::serve(listener, sides.host.server()?, service, options);
        self.services = Some(Services {
            agent,
            metadata: document,
            listening,
            names: self.serve_names()?,
        });
        Ok(metadata)
    }

    pub(super) fn listen(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        let doing = || {
            format!(
                "listen on `{address}` in the network namespace of VM `{}`",
                self.id()
            )
        };
        let attachment = self.attachment.as_ref();
        let namespace = attachment.map(|attachment| &attachment.namespace);
        let namespace = namespace.ok_or_else(|| Error::NotRunning(self.id().clone()))?;
        let listener = namespace
            .listen(address)
            .map_err(|source| Error::io(doing(), source))?;
        listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener))
            .map_err(|source| Error::io(doing(), source))
    }

    pub(super) fn metadata(&self, sides: &Sides, server: SocketAddr) -> Result<Metadata, Error> {
        let spec = &self.record.spec;
        let credentials = Credentials {
            grpc_host_port: server.to_string(),
            server_name: sides.server_name.clone(),
            tls_ca_cert: sides.guest.authority.clone(),
            tls_cert: sides.guest.identity.certificate.clone(),
            tls_key: sides.guest.identity.key.clone(),
            ping_interval: PING_INTERVAL,
        };
        let (bootstrap, session) = match spec.purpose {
            Purpose::Build => (Some(credentials), None),
            Purpose::Run { .. } => (None, Some(credentials)),
        };
        let name = spec.name.as_ref().map(ToString::to_string);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Metadata {
            vm_id: self.id().to_string(),
            hostname: spec
                .hostname
                .clone()
                .or(name)
                .unwrap_or_else(|| self.id().to_string()),
            image_tag: spec.image.as_ref().map(|image| image.reference.clone()),
            time: now.unwrap_or_default().as_secs(),
            root_images: u8::try_from(spec.rootfs.len()).unwrap_or(u8::MAX),
            drives: self.drives(),
            network: self.network()?,
            bootstrap,
            session,
        })
    }

    /// What the drives are called, in the order in which every VMM gets them.
    pub(super) fn drives(&self) -> Vec<String> {
        let roots = (0..self.record.spec.rootfs.len()).map(crate::vmm::root_serial);
        let attached = self.attached.iter().map(|disk| disk.serial.clone());
        roots.chain(["disk".to_owned()]).chain(attached).collect()
    }

    pub(super) fn silence(&self) -> Duration {
        SILENCE * self.patience
    }
}
