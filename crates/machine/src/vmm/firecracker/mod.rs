//! Firecracker, under its jailer.
//!
//! * [`options`]: what can be asked of it. [`version`]: what each version of it knows.
//! * `jail`, `bring`: the directory that it is locked into, and how files get there.
//! * `jailer`, [`cgroup`]: what the jailer is told, and the control groups that it makes.
//! * [`config`]: the calls that make a VM, in their order. `api`: how they are made.
//! * `words`: what Firecracker says.
//!
//! Whatever can be known to be wrong is said before anything starts. Then the jail is filled, the
//! jailer is started and becomes Firecracker, its socket is connected to, and the calls are made,
//! each once. If anything fails the process is killed, and the error has its own last words and its
//! status. The jail goes with [`crate::reconcile`], which knows it by the VM's record alone.
//!
//! What Firecracker has none of here: snapshots, and vsock, so there is neither a socket of a guest
//! that could be stale nor memory that could be restored twice.

mod api;
mod bring;
pub mod cgroup;
pub mod config;
mod jail;
mod jailer;
pub mod options;
pub mod version;
mod words;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use firebuild_core::MachineId;
use firebuild_protocol::metadata::Document;
use serde_json::{Value, json};

pub(crate) use self::api::Api;
use self::api::Failure;
use self::cgroup::{CgroupSetting, CgroupVersion, Hierarchies};
use self::config::Call;
use self::jail::Jail;
use self::jailer::Jailer;
pub use self::options::FirecrackerOptions;
pub use self::version::Version;
use self::words::Words;
use super::console::Console;
use super::group::{self, Groups};
use super::ids::Ids;
use super::{Launch, Pending, Running, Vmm, VmmExit, VmmFacts};
use crate::boot::Restart;
use crate::limits::DiskRates;
use crate::mount::Mount;
use crate::record::Record;
use crate::spec::MachineSpec;
use crate::{Error, sys};

/// What it is called.
pub const NAME: &str = "firecracker";

/// The program's name, and its jailer's.
pub const PROGRAMS: [&str; 2] = ["firecracker", "jailer"];

/// How long jailer and Firecracker may take until the interface answers. The jailer takes longer
/// the more is mounted on the host, and when many of them start at once.
const READY_TIME: Duration = Duration::from_secs(20);

/// How long to wait before the interface is tried again, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// How long a process that no longer answers may take to end by itself, and to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How many lines of Firecracker's are shown with an error.
const SHOWN_LINES: usize = 12;

/// The file with the calls, beside the console.
const HTTP_LOG: &str = "firecracker-http.log";

/// The host's Firecracker.
#[derive(Debug, Clone)]
pub struct Firecracker {
    facts: VmmFacts,
    jailer: PathBuf,
    version: Version,
}

impl Firecracker {
    /// Firecracker as `facts` say, with its jailer.
    ///
    /// # Errors
    /// [`Error::VmmVersion`] if it is too old; [`Error::VmmMissing`]; [`Error::Io`].
    pub fn new(mut facts: VmmFacts, jailer: PathBuf) -> Result<Self, Error> {
        // The jailer goes by the program's real name, and so does whoever removes the jail.
        facts.program = fs_err::canonicalize(&facts.program)
            .map_err(|source| Error::io("find Firecracker", source))?;
        let version = Version::of(&facts.program)?;
        Ok(Self {
            facts,
            jailer,
            version,
        })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    async fn launch(&self, launch: Launch) -> Result<Running, Error> {
        let plan = self.plan(&launch)?;
        let calls = config::calls(&launch, self.version)?;
        plan.jail.fill(&launch, plan.ids)?;
        let doing = || format!("prepare Firecracker for VM `{}`", launch.id);
        let log = launch
            .firecracker
            .log_http_calls
            .then(|| Console::create(&launch.console.with_file_name(HTTP_LOG)));
        let log = log.transpose().map_err(|e| Error::io(doing(), e))?;
        let pipe = words::open(&plan.jail.outside(jail::LOG)).map_err(|e| Error::io(doing(), e))?;
        let groups = group::make(&launch.id, &launch.limits)?;
        let command = self.command(&launch, &plan, groups);
        let Launch {
            id,
            console,
            interfaces,
            ..
        } = launch;
        for interface in interfaces {
            // Closed here, so that Firecracker can open it: a tap has one user at a time.
            sys::give_tap(&interface.tap, plan.ids)
                .map_err(|e| Error::io(format!("give the tap device to VM `{id}`"), e))?;
        }
        let running = Running::start(command, &console).await?;
        let words = Words::read(pipe, running.recent_complaints());
        let api = Api::new(plan.jail.outside(jail::SOCKET), log, words);
        running.set_api(api.clone());
        match boot(&running, &api, &calls).await {
            Ok(()) => Ok(running),
            Err(trouble) => Err(self.failed(id, &running, &api, trouble).await),
        }
    }

    /// All that can be wrong before anything is made.
    fn plan(&self, launch: &Launch) -> Result<Plan, Error> {
        let options = &launch.firecracker;
        options.check(launch.cpus, launch.memory)?;
        options.check_version(self.version)?;
        config::check(launch)?;
        let jail = Jail::of(options, &self.facts.program, &launch.id);
        jail.check()?;
        let mut settings = options.cgroups.clone();
        if let Some(node) = options.numa_node {
            settings.extend(jailer::numa_settings(node)?);
        }
        let parent = options.parent_cgroup.as_deref();
        let groups = match (&settings[..], parent) {
            ([], None) => None,
            _ => Hierarchies::of_host()?.plan(options.cgroup_version, &settings, parent)?,
        };
        Ok(Plan {
            jail,
            ids: ids(options, launch.ids)?,
            groups,
            settings,
        })
    }

    /// `groups` are what the process enters: the jailer leaves it there, or in groups below.
    fn command(&self, launch: &Launch, plan: &Plan, groups: Groups) -> Command {
        let jailer = Jailer {
            id: &launch.id,
            program: &self.facts.program,
            ids: plan.ids,
            namespace: &launch.namespace,
            cgroups: plan.groups.map(|version| (version, &plan.settings[..])),
            options: &launch.firecracker,
        };
        let mut command = Command::new(&self.jailer);
        command.args(jailer.arguments()).env_clear();
        // The jailer changes the user itself, and closes what it inherits.
        log::debug!("start {}", firebuild_core::words(&command));
        sys::confine(&mut command, None, Vec::new(), groups);
        command
    }

    /// Ends what did not start, and tells why it did not.
    async fn failed(&self, id: MachineId, running: &Running, api: &Api, trouble: Trouble) -> Error {
        let vmm = format!("`{NAME}`");
        let ends_itself = matches!(&trouble, Trouble::Call(_, Failure::Io(_)));
        if ends_itself {
            let _ = tokio::time::timeout(LAST_WORDS, running.ended()).await;
        }
        let by_itself = running.exit();
        running.kill();
        running.ended().await;
        api.catch_up();
        let said = self.said(running, by_itself);
        match (by_itself, trouble) {
            (_, Trouble::Call(call, Failure::Refused { status, fault })) => Error::VmmRefused {
                vmm,
                id,
                call: call.to_string(),
                status,
                fault,
            },
            (Some(exit), _) | (None, Trouble::Ended(exit)) => Error::VmmFailed {
                vmm,
                id,
                exit,
                said,
            },
            (None, Trouble::Late) => Error::VmmSilent {
                vmm,
                id,
                after: READY_TIME,
                said,
            },
            (None, Trouble::Call(call, Failure::Io(source))) => {
                Error::io(format!("make the call `{call}` for VM `{id}`"), source)
            }
        }
    }

    /// Its own words. Before the guest has started, the console is Firecracker's as well.
    fn said(&self, running: &Running, exit: Option<VmmExit>) -> Vec<String> {
        let mut said: Vec<String> = exit
            .and_then(|exit| self.explain(exit))
            .into_iter()
            .collect();
        said.extend(running.console(SHOWN_LINES / 2));
        said.extend(running.complaints(SHOWN_LINES));
        said
    }
}

/// What is settled before anything is made.
struct Plan {
    jail: Jail,
    ids: Ids,
    groups: Option<CgroupVersion>,
    settings: Vec<CgroupSetting>,
}

/// Why a VM does not run.
enum Trouble {
    /// The process has ended.
    Ended(VmmExit),
    /// Nothing answered in time.
    Late,
    /// A call failed.
    Call(Call, Failure),
}

/// Waits until the interface is there, and makes all calls.
async fn boot(running: &Running, api: &Api, calls: &[Call]) -> Result<(), Trouble> {
    let mut connection = tokio::select! {
        biased;
        exit = running.ended() => return Err(Trouble::Ended(exit)),
        connected = ready(api) => connected.ok_or(Trouble::Late)?,
    };
    for call in calls {
        let called = connection.call(call).await;
        called.map_err(|failure| Trouble::Call(call.clone(), failure))?;
    }
    Ok(())
}

/// Connects as soon as that can be done: the socket's name is there before anybody listens.
async fn ready(api: &Api) -> Option<api::Connection> {
    let begin = Instant::now();
    let [mut pause, most] = RETRY;
    while begin.elapsed() < READY_TIME {
        if let Ok(connection) = api.connect().await {
            return Some(connection);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(most);
    }
    None
}

/// Whom Firecracker becomes: what was asked for, or else the VM's own.
fn ids(options: &FirecrackerOptions, own: Option<Ids>) -> Result<Ids, Error> {
    let user = options.uid.or(own.map(|ids| ids.uid));
    let group = options.gid.or(own.map(|ids| ids.gid)).or(options.uid);
    match (user, group) {
        (Some(uid), Some(gid)) => Ok(Ids {
            uid,
            gid,
            device_group: None,
        }),
        _ => Err(Error::Spec(
            "the jailer needs root, and a user for the VM that this host does not allow".to_owned(),
        )),
    }
}

impl Vmm for Firecracker {
    fn facts(&self) -> &VmmFacts {
        &self.facts
    }

    fn serves_metadata(&self) -> bool {
        true
    }

    fn restart(&self) -> Restart {
        Restart::Keyboard
    }

    fn check(&self, spec: &MachineSpec) -> Result<(), Error> {
        let options = &spec.firecracker;
        options.check(spec.cpus, spec.memory)?;
        if let Some(path) = spec.mounts.iter().find_map(Mount::shared) {
            return Err(Error::NoSharing(path.to_owned()));
        }
        if spec.limits.disks != DiskRates::default() {
            return Err(Error::Spec(
                "Firecracker limits a disk's reads and writes together: \
                 give `--drive-limit` in place of `--device-read-bps` and its like"
                    .to_owned(),
            ));
        }
        options.check_version(self.version)?;
        // All ids have the same length.
        let id = MachineId::from_random([0; 20]);
        Jail::of(options, &self.facts.program, &id).check()
    }

    fn explain(&self, exit: VmmExit) -> Option<String> {
        let VmmExit::Status(status) = exit else {
            return None;
        };
        // `src/vmm/src/lib.rs` of Firecracker.
        let meaning = match status {
            148 => "it made a system call that its filter does not allow",
            149 => "it got SIGBUS: the host may have run out of huge pages, or of space for a file",
            150 => "it got SIGSEGV",
            151 => "a file became larger than its limit",
            152 => "its configuration is wrong",
            153 => "its arguments are wrong",
            154 => "it got SIGXCPU",
            155 => "it got SIGPIPE",
            156 => "it got SIGHUP",
            157 => "it got SIGILL",
            _ => return None,
        };
        Some(format!("status {status} of Firecracker: {meaning}"))
    }

    fn start(&self, launch: Launch) -> Pending<'_, Running> {
        Box::pin(self.launch(launch))
    }

    fn set_metadata<'a>(&'a self, running: &'a Running, document: &'a Document) -> Pending<'a, ()> {
        Box::pin(async move {
            let call = config::metadata(document)?;
            ask(running, &call).await.map(drop)
        })
    }

    fn pause<'a>(&'a self, running: &'a Running) -> Pending<'a, ()> {
        Box::pin(turn(running, "Paused", "Paused"))
    }

    fn resume<'a>(&'a self, running: &'a Running) -> Pending<'a, ()> {
        Box::pin(turn(running, "Resumed", "Running"))
    }
}

/// Makes one call of a VM that runs.
async fn ask(running: &Running, call: &Call) -> Result<Value, Error> {
    let doing = || format!("make the call `{call}` of Firecracker");
    let missing = || {
        Error::io(
            doing(),
            std::io::Error::from(std::io::ErrorKind::NotConnected),
        )
    };
    let api = running.api().ok_or_else(missing)?;
    api.call(call).await.map_err(|failure| match failure {
        Failure::Io(source) => Error::io(doing(), source),
        Failure::Refused { status, fault } => {
            Error::io(doing(), std::io::Error::other(format!("{status}: {fault}")))
        }
    })
}

/// Pauses or resumes, unless it is so already: Firecracker may refuse that.
async fn turn(running: &Running, state: &str, shown: &str) -> Result<(), Error> {
    let now = ask(running, &Call::get("/")).await?;
    if now.get("state").and_then(Value::as_str) == Some(shown) {
        return Ok(());
    }
    let call = Call::patch("/vm", json!({ "state": state }));
    ask(running, &call).await.map(drop)
}

/// Removes whatever a VM of Firecracker's has on the host beyond its network and its files in the
/// store. Does nothing for other VMs, and where nothing is.
///
/// # Errors
/// [`Error::Io`]: something is left.
pub(crate) fn clean_up(record: &Record) -> Result<(), Error> {
    let Some(facts) = record.vmm.as_ref().filter(|facts| facts.name == NAME) else {
        return Ok(());
    };
    remove(&record.spec.firecracker, &facts.program, &record.id)
}

/// The same of a VM whose record cannot be read, as far as it is where it is by default.
///
/// # Errors
/// [`Error::Io`]: something is left.
pub(crate) fn clean_up_unknown(id: &MachineId) -> Result<(), Error> {
    remove(&FirecrackerOptions::default(), Path::new(NAME), id)
}

fn remove(options: &FirecrackerOptions, program: &Path, id: &MachineId) -> Result<(), Error> {
    let failed = |what: &str, source| Error::io(format!("remove the {what} of VM `{id}`"), source);
    let jail = Jail::of(options, program, id).remove();
    let groups = Hierarchies::of_host()?.remove(options.parent_cgroup(), id);
    jail.map_err(|source| failed("jail", source))?;
    groups.map_err(|source| failed("control groups", source))
}

/// The jail of a VM, for tests.
#[cfg(feature = "testing")]
#[must_use]
pub fn jail_of(record: &Record) -> Option<(PathBuf, PathBuf)> {
    let program = &record.vmm.as_ref()?.program;
    let jail = Jail::of(&record.spec.firecracker, program, &record.id);
    Some((jail.root(), jail.pid_file(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_the_vms_own_unless_others_are_named() {
        let own = Ids {
            uid: 700_001,
            gid: 700_001,
            device_group: Some(7),
        };
        for (uid, gid, expected) in [
            (None, None, (700_001, 700_001)),
            (Some(5), None, (5, 700_001)),
            (None, Some(6), (700_001, 6)),
            (Some(0), Some(0), (0, 0)),
        ] {
            let options = FirecrackerOptions {
                uid,
                gid,
                ..FirecrackerOptions::default()
            };
            let ids = ids(&options, Some(own)).unwrap();
            assert_eq!(
                (ids.uid, ids.gid, ids.device_group),
                (expected.0, expected.1, None)
            );
        }
        assert!(ids(&FirecrackerOptions::default(), None).is_err());
    }
}
