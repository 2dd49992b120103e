//! What a RUN's mounts need before its process starts, and what becomes of that when it has ended.
//!
//! Files of the host's are fetched once per VM and lie on its disk; a cache's disk is mounted once
//! per VM; secrets and sockets are made anew for every RUN, in memory that goes with it.

mod agents;
mod caches;
mod memory;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use firebuild_protocol::command::{Access, Mount, Run, SINGLE};
use firebuild_protocol::metadata::Network;
use firebuild_protocol::v1::bootstrap_client::BootstrapClient;
use rustix::fs::{FileType, lstat};
use tonic::transport::Channel;

use self::agents::Agents;
use self::memory::Memory;
use super::transfer::{self, Form};
use crate::drives::DISK;
use crate::error::{Doing as _, GuestError, Result};
use crate::launch::{Attachment, Root, SUPPLIED, Source};
use crate::volumes::memory_of_step;

/// What mounts of this VM were made of so far.
pub(super) struct Sources {
    client: BootstrapClient<Channel>,
    network: Network,
    /// Archives that were unpacked, and where.
    trees: HashMap<String, PathBuf>,
    /// Disks that are mounted, and where.
    caches: HashMap<String, PathBuf>,
    /// How many directories were made.
    directories: u32,
}

/// What the process of one RUN is given.
pub(super) struct Mounts {
    /// What to mount.
    pub(super) attachments: Vec<Attachment>,
    /// Environment with the content of secrets.
    pub(super) secrets: Vec<(String, Vec<u8>)>,
    /// The directory of files that take the place of those for all.
    pub(super) supplied: PathBuf,
    agents: Agents,
    memory: Option<Memory>,
    /// Directories that are dropped after the step.
    scratch: Vec<PathBuf>,
    /// Caches that the step can write to.
    caches: Vec<PathBuf>,
}

impl Sources {
    /// Nothing yet.
    pub(super) fn new(client: BootstrapClient<Channel>, network: Network) -> Self {
        Self {
            client,
            network,
            trees: HashMap::new(),
            caches: HashMap::new(),
            directories: 0,
        }
    }

    /// Makes everything that `run` mounts. `hostname` is what its machine is called.
    pub(super) async fn prepare(&mut self, run: &Run, hostname: &str) -> Result<Mounts> {
        let mut mounts = Mounts {
            attachments: Vec::new(),
            secrets: Vec::new(),
            supplied: PathBuf::from(SUPPLIED),
            agents: Agents::new(run.index, self.client.clone()),
            memory: None,
            scratch: Vec::new(),
            caches: Vec::new(),
        };
        if !run.hostname.is_empty() || run.offline {
            let network = Network {
                address: if run.offline {
                    std::net::Ipv4Addr::LOCALHOST
                } else {
                    self.network.address
                },
                ..self.network.clone()
            };
            mounts.supplied = mounts.memory()?.supply(hostname, &network)?;
        }
        for mount in &run.mounts {
            self.add(mount, &mut mounts).await?;
        }
        Ok(mounts)
    }

    async fn add(&mut self, mount: &Mount, mounts: &mut Mounts) -> Result<()> {
        match mount {
            Mount::Bind {
                target,
                resource,
                single,
                read_only,
            } => {
                let tree = self.tree(resource).await?;
                let source = if *read_only {
                    shared(&tree, *single)?
                } else {
                    self.scratch(tree, *single, mounts)
                };
                mounts.attach(target, source, *read_only);
            }
            Mount::Cache {
                target,
                disk,
                read_only,
                seed,
                access,
            } => {
                let cache = self.cache(disk).await?;
                let seed = seed.as_deref();
                let data = caches::data(&mut self.client, &cache, seed, *access).await?;
                if !read_only {
                    mounts.caches.push(cache);
                }
                mounts.attach(target, Source::Directory(data), *read_only);
            }
            Mount::Tmpfs {
                target,
                size,
                read_only,
            } => mounts.attach(target, memory_of_step(*size), *read_only),
            Mount::File {
                target,
                variable,
                resource,
                access,
            } => {
                let content = transfer::fetch(&mut self.client, resource).await?;
                if let Some(target) = target {
                    let file = mounts.memory()?.file(&content, *access)?;
                    mounts.attach(target, Source::Data(file), true);
                }
                if let Some(variable) = variable {
                    mounts.secrets.push((variable.clone(), content));
                }
            }
            Mount::Agent { target, id, access } => {
                if !id.is_empty() {
                    let at = mounts.memory()?.place();
                    mounts.agents.listen(id, &at)?;
                    memory::give(&at, *access)?;
                    mounts.attach(target, Source::File(at), false);
                }
            }
        }
        Ok(())
    }

    /// Where the files of an archive are.
    async fn tree(&mut self, resource: &str) -> Result<PathBuf> {
        if let Some(tree) = self.trees.get(resource) {
            return Ok(tree.clone());
        }
        let tree = self.directory("t");
        fs_err::create_dir(&tree).doing(|| format!("make `{}`", tree.display()))?;
        transfer::lay_resource(&mut self.client, resource, &tree, Form::Plain).await?;
        self.trees.insert(resource.to_owned(), tree.clone());
        Ok(tree)
    }

    /// Something whose changes are dropped after the step.
    fn scratch(&mut self, tree: PathBuf, single: bool, mounts: &mut Mounts) -> Source {
        let (upper, work) = (self.directory("x"), self.directory("y"));
        mounts.scratch.extend([upper.clone(), work.clone()]);
        Source::Scratch {
            root: Root {
                lowers: vec![tree],
                upper,
                work,
                volatile: true,
            },
            file: single.then(|| SINGLE.to_owned()),
        }
    }

    /// What steps see of a cache; a new one begins with the archive, if there is one.
    pub(super) async fn data(&mut self, disk: &str, seed: Option<&str>) -> Result<PathBuf> {
        let cache = self.cache(disk).await?;
        let access = Access {
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        let data = caches::data(&mut self.client, &cache, seed, access).await?;
        caches::sync(&cache)?;
        Ok(data)
    }

    /// Where a cache's disk is mounted.
    async fn cache(&mut self, disk: &str) -> Result<PathBuf> {
        if let Some(cache) = self.caches.get(disk) {
            return Ok(cache.clone());
        }
        let cache = caches::mount(disk.to_owned(), self.caches.len()).await?;
        self.caches.insert(disk.to_owned(), cache.clone());
        Ok(cache)
    }

    fn directory(&mut self, prefix: &str) -> PathBuf {
        let number = self.directories;
        self.directories += 1;
        Path::new(DISK).join(format!("{prefix}{number}"))
    }
}

/// A directory, or the one file that it holds, as it is.
fn shared(tree: &Path, single: bool) -> Result<Source> {
    if !single {
        return Ok(Source::Directory(tree.to_owned()));
    }
    let file = tree.join(SINGLE);
    let kind = lstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match kind {
        Ok(FileType::Directory | FileType::Symlink) | Err(_) => {
            let what = "an archive of one file holds something else";
            Err(GuestError::Told(what.to_owned()))
        }
        Ok(_) => Ok(Source::File(file)),
    }
}

impl Mounts {
    fn attach(&mut self, target: &str, source: Source, read_only: bool) {
        self.attachments.push(Attachment {
            target: target.to_owned(),
            source,
            read_only,
        });
    }

    fn memory(&mut self) -> Result<&mut Memory> {
        if self.memory.is_none() {
            self.memory = Some(Memory::mount()?);
        }
        // It is there by now.
        self.memory
            .as_mut()
            .ok_or(GuestError::Kernel("memory file system"))
    }

    /// Brings caches to their disks.
    pub(super) async fn sync(&self) -> Result<()> {
        let caches = self.caches.clone();
        let syncing = move || caches.iter().try_for_each(|cache| caches::sync(cache));
        tokio::task::spawn_blocking(syncing)
            .await
            .unwrap_or_else(|error| Err(GuestError::Told(error.to_string())))
    }

    /// Brings caches to their disks and drops what the step left elsewhere. No process of the step
    /// is there any more.
    pub(super) async fn end(self) -> Result<()> {
        drop(self.agents);
        drop(self.memory);
        let (caches, scratch) = (self.caches, self.scratch);
        let ending = tokio::task::spawn_blocking(move || {
            caches.iter().try_for_each(|cache| caches::sync(cache))?;
            for directory in scratch {
                // It goes with the VM at the latest.
                let _ = fs_err::remove_dir_all(directory);
            }
            Ok(())
        });
        ending
            .await
            .unwrap_or_else(|error| Err(GuestError::Told(error.to_string())))
    }
}
