//! What a RUN's mounts are, from the plan's words to what the guest is told and offered.
//!
//! * [`bind`]: files of contexts, stages and images, as archives that the guest unpacks.
//! * [`cache`]: disks that outlive VMs.
//! * [`carry`]: what such a disk holds, out of it and into it.
//! * [`sensitive`]: secrets and agents; certificates and proxies.
//!
//! Nothing of any of them is in a layer. Only the content of bind mounts is in a step's key.

pub(crate) mod bind;
pub(crate) mod cache;
pub(crate) mod carry;
pub(crate) mod sensitive;

use std::collections::BTreeMap;
use std::path::PathBuf;

use firebuild_plan::Mount;
use firebuild_plan::Run;
use firebuild_plan::mount::{self, Access};
use firebuild_protocol::command;

use crate::current::Current;
use crate::error::StepError;
use bind::Bound;
use sensitive::{Agent, CERTIFICATES, Secret};

/// What the guest may read for one command.
#[derive(Debug)]
pub(crate) enum Material {
    /// A file of the host's.
    File(PathBuf),
    /// Bytes that are on no disk, and that are withdrawn when the command has ended.
    Secret(Vec<u8>),
}

/// Everything about a RUN's mounts that the guest is told.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    /// In the plan's order.
    pub(crate) mounts: Vec<command::Mount>,
    /// What is read for them, by name.
    pub(crate) materials: Vec<(String, Material)>,
    /// The agents that it may talk to, by their ids.
    pub(crate) agents: BTreeMap<String, Agent>,
    /// Variables that the process sees beside those of the plan.
    pub(crate) variables: Vec<(String, String)>,
    /// What must not be shown.
    pub(crate) secrets: Vec<Vec<u8>>,
}

impl Current<'_> {
    /// Looks whether all secrets and agents are there that a RUN cannot do without.
    pub(crate) fn check_given(&self, run: &Run) -> Result<(), StepError> {
        for mount in &run.mounts {
            match mount {
                Mount::Secret(secret) => drop(self.build.request.secrets.read(secret)?),
                Mount::Ssh(ssh) => drop(self.build.request.agents.id(ssh)?),
                Mount::Bind(_) | Mount::Cache(_) | Mount::Tmpfs(_) => {}
            }
        }
        Ok(())
    }

    /// Prepares the mounts of a RUN that is going to be executed. `bound` are those of its bind
    /// mounts and of its caches' first contents; the VM has the disks of its caches.
    pub(crate) async fn mount(
        &mut self,
        run: &Run,
        bound: &[Option<Bound>],
    ) -> Result<Mounted, StepError> {
        let mut mounted = Mounted::default();
        for (number, (mount, bound)) in run.mounts.iter().zip(bound).enumerate() {
            let archive = match bound {
                Some(bound) => Some(self.archive(bound, &mut mounted).await?),
                None => None,
            };
            self.mount_one(number, mount, archive, &mut mounted)?;
        }
        self.certify(run, &mut mounted);
        for (name, value) in &self.build.request.proxies {
            if !sets(run, name) {
                mounted.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(mounted)
    }

    fn mount_one(
        &self,
        number: usize,
        mount: &Mount,
        archive: Option<(String, bool)>,
        mounted: &mut Mounted,
    ) -> Result<(), StepError> {
        let told = match mount {
            Mount::Bind(bind) => {
                let (resource, single) = archive.unwrap_or_default();
                command::Mount::Bind {
                    target: bind.target.clone(),
                    resource,
                    single,
                    read_only: bind.read_only,
                }
            }
            Mount::Cache(cache) => command::Mount::Cache {
                target: cache.target.clone(),
                disk: self.serial(&cache.id)?,
                read_only: cache.read_only,
                seed: archive.map(|(resource, _)| resource),
                access: wire(cache.access),
            },
            Mount::Tmpfs(tmpfs) => command::Mount::Tmpfs {
                target: tmpfs.target.clone(),
                size: tmpfs.size,
                read_only: tmpfs.read_only,
            },
            Mount::Secret(secret) => match self.build.request.secrets.read(secret)? {
                None => return Ok(()),
                Some(Secret(content)) => {
                    let resource = format!("secrets/{number}");
                    mounted.secrets.extend(sensitive::masks(&content));
                    mounted
                        .materials
                        .push((resource.clone(), Material::Secret(content)));
                    command::Mount::File {
                        target: secret.target.clone(),
                        variable: secret.variable.clone(),
                        resource,
                        access: wire(secret.access),
                    }
                }
            },
            Mount::Ssh(ssh) => command::Mount::Agent {
                target: ssh.target.clone(),
                id: self.agent(ssh, mounted)?,
                access: wire(ssh.access),
            },
        };
        mounted.mounts.push(told);
        Ok(())
    }

    /// What the guest calls the agent of a mount; nothing if there is none and the RUN can do
    /// without.
    fn agent(&self, ssh: &mount::Ssh, mounted: &mut Mounted) -> Result<String, StepError> {
        let agents = &self.build.request.agents;
        let id = agents.id(ssh)?;
        if let Some(agent) = agents.get(&id) {
            mounted.agents.insert(id.clone(), agent.clone());
        }
        Ok(id)
    }

    /// The bundle of certificates, where tools look for it.
    fn certify(&self, run: &Run, mounted: &mut Mounted) {
        let Some(bundle) = &self.build.request.certificates else {
            return;
        };
        let resource = "certificates".to_owned();
        mounted
            .materials
            .push((resource.clone(), Material::Secret(bundle.clone())));
        mounted.mounts.push(command::Mount::File {
            target: Some(CERTIFICATES.to_owned()),
            variable: None,
            resource,
            access: command::Access {
                mode: 0o444,
                uid: 0,
                gid: 0,
            },
        });
        for name in sensitive::CERTIFICATE_VARIABLES {
            if !sets(run, name) {
                mounted
                    .variables
                    .push((name.to_owned(), CERTIFICATES.to_owned()));
            }
        }
    }
}

/// Whether the plan sets a variable itself.
fn sets(run: &Run, name: &str) -> bool {
    let mut set = run.environment.iter().chain(&run.build_args);
    set.any(|(set, _)| set == name)
}

fn wire(access: Access) -> command::Access {
    let Access { mode, uid, gid } = access;
    command::Access { mode, uid, gid }
}
