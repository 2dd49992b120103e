//! A host of its own for each test, whose build VMs are processes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebuild_builder::contexts::Contexts;
use firebuild_builder::debug::Debugger;
use firebuild_builder::progress::{Event, Progress, Wait};
use firebuild_builder::{
    Agents, Built, Error, KernelChoice, NoCache, Request, Secrets, StoreBases, VmOptions, build,
};
use firebuild_core::{ByteSize, Digest, Platform, Reference};
use firebuild_machine::host::Boot;
use firebuild_machine::spec::CertificateFiles;
use firebuild_machine::testing::ProcessVmm;
use firebuild_machine::vmm::firecracker::FirecrackerOptions;
use firebuild_machine::{Host, client, reconcile};
use firebuild_network::{Builtin, Settings, Subnet};
use firebuild_plan::ignore::Patterns;
use firebuild_plan::lower::{self, lower};
use firebuild_store::{Collected, KernelId, Store};

use crate::debug::User;

/// How this program knows that it is a guest, and which.
pub(crate) const GUEST: &str = "FIREBUILD_TEST_GUEST";

/// A host of a test's own. Nothing is left of it afterwards.
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) certificates: Option<CertificateFiles>,
    pub(crate) no_cache: NoCache,
    pub(crate) jobs: usize,
    pub(crate) connect_time: Option<Duration>,
    pub(crate) build_args: BTreeMap<String, String>,
    pub(crate) secrets: Secrets,
    /// Who looks into failed steps.
    pub(crate) user: Option<User>,
    root: tempfile::TempDir,
}

/// What a build said, and how it ended.
pub(crate) struct Told {
    pub(crate) events: Vec<String>,
    pub(crate) result: Result<Built, Error>,
}

/// Writes down what a build says.
#[derive(Default)]
struct Notes {
    events: Mutex<Vec<String>>,
}

impl Progress for Notes {
    fn event(&self, event: Event<'_>) {
        let text = match event {
            Event::Step { place, text, .. } => {
                format!("{} {}/{} {text}", place.stage.name, place.step, place.steps)
            }
            Event::Cached { place, .. } => format!("{} {} cached", place.stage.name, place.step),
            Event::Done { place, .. } => format!("{} {} done", place.stage.name, place.step),
            Event::Failed { place, .. } => format!("{} {} failed", place.stage.name, place.step),
            Event::Line {
                place,
                output,
                line,
            } => {
                let line = String::from_utf8_lossy(&line[..line.len().min(400)]).into_owned();
                if line == "the guest is silent from now on" {
                    // Time passes as soon as there is nothing else to do.
                    tokio::time::pause();
                }
                format!("{} {} {output:?}: {line}", place.stage.name, place.step)
            }
            Event::Build { stages, steps, .. } => format!("build {stages} {steps}"),
            Event::StageStarted { stage } => format!("stage {} started", stage.name),
            Event::StageDone { stage, .. } => format!("stage {} done", stage.name),
            Event::Waiting { stage, wait } => {
                format!("stage {} waits: {}", stage.name, name_of(wait))
            }
            Event::Waited { stage, wait, .. } => {
                format!("stage {} waited: {}", stage.name, name_of(wait))
            }
            Event::VmStarting { stage, .. } => format!("VM of {} starts", stage.name),
            Event::VmReady { stage, .. } => format!("VM of {} is ready", stage.name),
            Event::VmEnded { stage, .. } => format!("VM of {} ended", stage.name),
            Event::Debugging { stage } => format!("looking into {}", stage.name),
            Event::Fetching { source, .. } => format!("fetching {source}"),
            Event::Fetched { source, bytes, .. } => format!("fetched {source}: {bytes:?}"),
            Event::Sending { source, .. } => format!("sending {source}"),
            Event::Sent { source, bytes, .. } => format!("sent {source}: {bytes:?}"),
            Event::Note { text, .. } => format!("note: {text}"),
            Event::Warning { text, .. } => format!("warning: {text}"),
        };
        self.events.lock().unwrap().push(text);
    }
}

fn name_of(wait: Wait<'_>) -> &str {
    match wait {
        Wait::Stage(stage) => stage.name,
        Wait::Step => "the same step",
        Wait::Slot => "a slot",
        Wait::Cache(id) => id,
    }
}

impl Place {
    /// A host whose guests do what they are told.
    pub(crate) fn new() -> Self {
        Self::with_guests("obedient")
    }

    /// A host with guests of some kind.
    pub(crate) fn with_guests(kind: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir(root.path().join("context")).unwrap();
        let store = Store::open(&root.path().join("store")).unwrap();
        let kernel = store.temporary_directory().unwrap();
        let id: KernelId = "none".parse().unwrap();
        store.kernels().put(&id, kernel, false).unwrap();
        Self {
            host: host(root.path(), store, kind),
            certificates: None,
            no_cache: NoCache::Nothing,
            jobs: 2,
            connect_time: None,
            build_args: BTreeMap::new(),
            secrets: Secrets::default(),
            user: None,
            root,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes a file of the context.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root().join("context").join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    /// Builds a Dockerfile under the name `test`.
    pub(crate) fn build(&self, dockerfile: &str) -> Told {
        let options = lower::Options {
            build_args: self.build_args.clone(),
            ..lower::Options::new(Platform::host())
        };
        let parsed = firebuild_dockerfile::parse(dockerfile.as_bytes()).unwrap();
        let plan = lower(&parsed, &options, &StoreBases(&self.host.store)).unwrap();
        let ignore = fs_err::read(self.root().join("context/.dockerignore")).unwrap_or_default();
        let ignore = Patterns::parse(&ignore).unwrap();
        let request = Request {
            contexts: &Contexts::directory(&self.root().join("context"), ignore),
            tags: &[name()],
            no_cache: self.no_cache.clone(),
            jobs: NonZeroUsize::new(self.jobs),
            vm: VmOptions {
                host: self.host.clone(),
                kernel: KernelChoice {
                    wanted: None,
                    choose: |_, _, _| Ok("none".parse().unwrap()),
                },
                cpus: 1,
                memory: 64,
                disk: ByteSize::mib(8),
                connect_time: self.connect_time,
                certificates: self.certificates.clone(),
                vmm: None,
                firecracker: FirecrackerOptions::default(),
                kernel_arguments: Vec::new(),
                cni: None,
                egress: Default::default(),
            },
            cache_from: Vec::new().into(),
            secrets: self.secrets.clone(),
            agents: Agents::default(),
            certificates: None,
            proxies: lower::proxies(&self.build_args),
            debugger: self.user.as_ref().map(|user| user as &dyn Debugger),
        };
        let notes = Notes::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let result = runtime.block_on(build(&self.host.store, &plan, &request, &notes));
        // Whatever happened, no VM is left, and nothing half-made.
        assert!(client::list(&self.host).unwrap().is_empty());
        assert!(self.host.network.known().unwrap().is_empty());
        assert_eq!(self.entries("store/v1/tmp"), 0);
        Told {
            events: notes.events.into_inner().unwrap(),
            result,
        }
    }

    /// Builds what must fail. The result is the error with its causes.
    pub(crate) fn failure(&self, dockerfile: &str) -> String {
        let told = self.build(dockerfile);
        let error = told.result.unwrap_err();
        assert_eq!(self.host.store.tags().get(&name()).unwrap(), None);
        let mut causes = vec![error.to_string()];
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        for (index, cause) in causes.iter().enumerate().skip(1) {
            assert!(!causes[index - 1].contains(cause), "repeated: {causes:?}");
        }
        causes.join(" <- ")
    }

    /// The number of results in the build cache, after a check that nothing else is kept.
    pub(crate) fn cached(&self) -> usize {
        let store = &self.host.store;
        assert!(matches!(store.collect().unwrap(), Collected::Freed { .. }));
        let records = store.cache().list().unwrap();
        let mut layers: Vec<Digest> = records.iter().map(|entry| entry.record.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        if store.tags().list().unwrap().is_empty() {
            assert_eq!(self.entries("store/v1/images/blobs/sha256"), layers.len());
        }
        records.len()
    }

    fn entries(&self, directory: &str) -> usize {
        fs_err::read_dir(self.root().join(directory))
            .unwrap()
            .count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = reconcile::purge(&self.host);
        let _ = self.host.network.teardown_unused_host_parts();
    }
}

/// The name that images get.
pub(crate) fn name() -> Reference {
    "test".parse().unwrap()
}

fn host(root: &Path, store: Store, kind: &'static str) -> Host {
    let hash = Digest::of(root.as_os_str().as_encoded_bytes());
    let mut settings = Settings::of_host(store.path());
    settings.name = format!("fbb{}", &hash.hex()[..8]).parse().unwrap();
    settings.leases = root.join("leases");
    let third = hash.bytes()[5];
    // Other tests look for a free one at the same time.
    settings.subnets = (0..8)
        .filter_map(|step| Subnet::new([10, 252, third.wrapping_add(step * 31), 0].into(), 24))
        .collect();
    Host {
        network: Builtin::new(settings),
        watch: None,
        cni: firebuild_network::cni::Directories {
            cache: root.join("cni"),
            ..Default::default()
        },
        run: root.join("run"),
        vmm: Some(Arc::new(ProcessVmm::new(move || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", "role", "--nocapture", "--test-threads=1"])
                .env(GUEST, kind);
            command
        }))),
        kernels: |_, _, _| {
            let nothing = || fs_err::File::open("/dev/null").unwrap().into_parts().0;
            Ok(Boot {
                kernel: nothing(),
                initramfs: nothing(),
                acpi: true,
            })
        },
        store,
    }
}
