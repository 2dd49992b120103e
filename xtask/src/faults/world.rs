//! A host of its own: a process namespace whose first process this is, with a network and mounts
//! that nobody else sees. When it ends, all of that is gone, as after a reboot; the store stays.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::scenario::Scenario;
use super::trace::{Death, Passed, Trace};
use super::{host, place};

/// How long a command may take, in seconds, before it is said to hang.
const PATIENCE: u32 = 60;

/// Where it is written what there was, for after a reboot.
const KEPT: &str = "kept.json";

/// What the tests' images are called.
pub(super) const IMAGE: &str = "test/small";

/// A host of its own.
#[derive(Debug)]
pub(crate) struct World {
    /// Where programs, the context and the store are.
    directory: PathBuf,
    trace: Trace,
    /// What there was on the host and in the store before anything.
    host: BTreeSet<String>,
    store: BTreeSet<String>,
    /// What was kept when the host went down.
    rebooted: bool,
}

/// How an interrupted command went.
pub(super) struct Interrupted {
    /// The points that were passed.
    pub(super) passed: Vec<Passed>,
    /// Whether somebody was killed.
    pub(super) killed: bool,
    /// The command's exit status; none if it did not end.
    pub(super) status: Option<i32>,
    /// What it wrote.
    pub(super) said: String,
}

impl World {
    /// Makes this process's namespaces a host, with the store and all else in the directory `name`
    /// of `base`.
    pub(super) fn new(base: &Path, name: &str, groups: &str) -> anyhow::Result<Self> {
        place::settle(base, name, groups)?;
        // It is there before and after.
        fs_err::write(host::OUTPUT, "")?;
        Ok(Self {
            directory: Path::new(place::BASE).join(name),
            trace: Trace::default(),
            host: BTreeSet::new(),
            store: BTreeSet::new(),
            rebooted: false,
        })
    }

    /// Where the store is.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("store/v1")
    }

    /// Has a processor that can run VMs, as it says.
    pub(super) fn pretend_kvm(&self) -> anyhow::Result<()> {
        place::pretend_kvm(&self.directory)
    }

    fn firebuild(&self, words: &[&str]) -> Command {
        let programs = Path::new(place::BASE).join("bin");
        let paths = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(programs.join("firebuild"));
        command
            .args(words)
            .current_dir(&self.directory)
            .env("PATH", format!("{}:{paths}", programs.display()))
            .env("FIREBUILD_ROOT", self.directory.join("store"))
            .env("FIREBUILD_PULL", "never")
            .env("FIREBUILD_CNI_CONF_DIR", self.directory.join("cni"))
            .env("TMPDIR", "/tmp")
            .env(
                "FIREBUILD_PROFILE_CONF_DIR",
                self.directory.join("profiles"),
            )
            .env("FIREBUILD_REGISTRIES_CONF", "/dev/null");
        command
    }

    /// Runs firebuild, while everything that is followed goes on: its status, none if it hangs, and
    /// what it wrote.
    pub(super) fn call(&mut self, words: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
        let child = self.launch(words, host::OUTPUT)?;
        let status = self.trace.wait(child, PATIENCE)?;
        Ok((status, fs_err::read_to_string(host::OUTPUT)?))
    }

    /// Starts firebuild; what it writes goes to a file.
    pub(super) fn launch(&self, words: &[&str], output: &str) -> anyhow::Result<i32> {
        let output = fs_err::File::create(output)?.into_parts().0;
        let mut command = self.firebuild(words);
        command
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(i32::try_from(command.spawn()?.id())?)
    }

    /// Waits for one of many that were launched: its status, none if it hangs.
    pub(super) fn ended(&mut self, process: i32) -> anyhow::Result<Option<i32>> {
        self.trace.wait(process, 5 * PATIENCE)
    }

    /// Runs firebuild, which has to succeed. What it wrote.
    pub(super) fn ok(&mut self, words: &[&str]) -> anyhow::Result<String> {
        let (status, said) = self.call(words)?;
        ensure!(
            status == Some(0),
            "`firebuild {}` ended with {status:?}: {said}",
            words.join(" ")
        );
        Ok(said)
    }

    /// All records.
    pub(super) fn records(&mut self) -> anyhow::Result<Vec<Value>> {
        let said = self.ok(&["ls", "-a", "--format", "json"])?;
        // Standard error is in the same file.
        let start = said.find('[').context("no list of VMs")?;
        Ok(serde_json::from_str(&said[start..])?)
    }

    /// A process of a running VM.
    fn process(&mut self, vm: &str, which: &str) -> anyhow::Result<i32> {
        let records = self.records()?;
        let record = records.iter().find(|record| record["Spec"]["Name"] == vm);
        let number = record.and_then(|record| record["Processes"][which].as_i64());
        Ok(i32::try_from(number.with_context(|| {
            format!("VM `{vm}` has no process `{which}`: {records:?}")
        })?)?)
    }

    /// Kills the supervisor of a VM.
    pub(super) fn kill_supervisor(&mut self, vm: &str) -> anyhow::Result<()> {
        use nix::sys::signal::{Signal, kill};
        let supervisor = self.process(vm, "Owner")?;
        kill(nix::unistd::Pid::from_raw(supervisor), Signal::SIGKILL)?;
        ensure!(
            self.trace.wait(supervisor, PATIENCE)?.is_some(),
            "it does not die"
        );
        Ok(())
    }

    /// Does once what will be done, so that what is made once is there; then looks at everything.
    pub(super) fn begin(&mut self, scenario: Scenario) -> anyhow::Result<()> {
        scenario.prepare(self)?;
        let words = scenario.command();
        let (status, said) = self.call(&words)?;
        ensure!(
            status == Some(scenario.status()),
            "undisturbed, `firebuild {}` ended with {status:?}: {said}",
            words.join(" ")
        );
        self.clear(scenario)?;
        self.look()
    }

    /// Looks at everything that there is.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        self.host = host::everything()?;
        self.store = self.stored();
        let kept = serde_json::to_string(&(&self.host, &self.store))?;
        Ok(fs_err::write(self.directory.join(KEPT), kept)?)
    }

    /// Remembers what there was before the host went down.
    pub(super) fn after_reboot(&mut self) -> anyhow::Result<()> {
        let kept = fs_err::read_to_string(self.directory.join(KEPT))?;
        (self.host, self.store) = serde_json::from_str(&kept)?;
        self.rebooted = true;
        Ok(())
    }

    /// All paths of the store, relative to it.
    fn stored(&self) -> BTreeSet<String> {
        let root = self.root();
        let below = |path: &String| {
            let path = Path::new(path).strip_prefix(&root);
            path.ok().map(|path| path.display().to_string())
        };
        host::tree(&root, &|_| true)
            .iter()
            .filter_map(below)
            .collect()
    }

    /// Does what is interrupted, up to a death, if any.
    pub(super) fn interrupt(
        &mut self,
        scenario: Scenario,
        death: Option<Death>,
    ) -> anyhow::Result<Interrupted> {
        scenario.prepare(self)?;
        let words = scenario.command();
        if scenario.follows_supervisor() {
            let supervisor = self.process(super::scenario::VM, "Owner")?;
            let vmm = self.process(super::scenario::VM, "Vmm")?;
            self.trace.follow(supervisor, "supervisor")?;
            self.trace.knows_vmm(vmm);
        }
        let is_recorded = death.is_none();
        self.trace.count(death);
        let command = self.firebuild(&words);
        let child = self.trace.start(&command)?;
        let status = self.trace.wait(child, PATIENCE)?;
        let said = fs_err::read_to_string(host::OUTPUT)?;
        if is_recorded {
            // Its supervisor's last points are points too.
            self.quiet()?;
        }
        let killed = self.trace.has_killed();
        self.trace.stop_counting();
        Ok(Interrupted {
            passed: std::mem::take(&mut self.trace.passed),
            killed,
            status,
            said,
        })
    }

    /// Waits until every VM that is on its way somewhere has got there.
    fn quiet(&mut self) -> anyhow::Result<Vec<Value>> {
        for _ in 0..1000 {
            let records = self.records()?;
            let moving = records.iter().any(|record| {
                matches!(
                    record["State"]["Status"].as_str(),
                    Some("Created" | "Starting" | "Stopping" | "Restarting")
                )
            });
            if !moving {
                return Ok(records);
            }
            self.trace.breathe()?;
        }
        bail!("a VM neither starts nor ends: {:?}", self.records()?)
    }

    /// Ends and removes all VMs.
    fn clear(&mut self, scenario: Scenario) -> anyhow::Result<()> {
        for record in self.quiet()? {
            let id = record["Id"].as_str().context("no id")?.to_owned();
            let (status, said) = self.call(&["rm", "-f", &id])?;
            // One that goes by itself may be quicker.
            ensure!(
                status == Some(0) || said.contains("there is no VM"),
                "`firebuild rm -f {id}` ended with {status:?}: {said}"
            );
        }
        for words in scenario.tidy() {
            self.call(words)?;
        }
        self.ok(&["purge"])?;
        // Supervisors end after they have told that they do.
        for _ in 0..500 {
            if host::processes()?.is_empty() {
                break;
            }
            self.trace.breathe()?;
        }
        Ok(())
    }

    /// What is wrong after an interruption. Nothing, if all is well; everything is removed
    /// afterwards.
    pub(super) fn trouble(&mut self, scenario: Scenario) -> anyhow::Result<Vec<String>> {
        let mut trouble = Vec::new();
        // The next command. What it tells may end while it tells it: then another says what is so.
        let told = self.quiet()?;
        if told.iter().any(|record| lies(record).is_some()) {
            self.trace.breathe()?;
            trouble.extend(self.quiet()?.iter().filter_map(lies));
        }
        self.clear(scenario)?;
        trouble.extend(self.left(scenario)?);
        let (status, said) = self.call(&["system", "verify"])?;
        if status != Some(0) {
            trouble.push(format!("`system verify` ended with {status:?}: {said}"));
        }
        self.ok(&["image", "inspect", IMAGE])?;
        // The same, undisturbed.
        let (status, said) = self.again(scenario)?;
        if status != Some(scenario.status()) {
            trouble.push(format!("done again it ended with {status:?}: {said}"));
        }
        self.clear(scenario)?;
        self.look()?;
        Ok(trouble)
    }

    /// What there is now and was not, or is not any more.
    pub(super) fn left(&self, scenario: Scenario) -> anyhow::Result<Vec<String>> {
        let now = host::everything()?;
        let mut trouble = host::difference(&self.host, &now, self.rebooted);
        let stored = self.stored();
        for path in stored.difference(&self.store) {
            let half_made = path.starts_with("tmp/") || path.starts_with("machines/");
            // Nobody holds a lock whose file has no content and no process.
            let kept = path.starts_with("locks/") || scenario.keeps() && !half_made;
            if !kept {
                trouble.push(format!("left in the store: {path}"));
            }
        }
        if !scenario.keeps() && !scenario.removes() {
            for path in self.store.difference(&stored) {
                trouble.push(format!("gone from the store: {path}"));
            }
        }
        Ok(trouble)
    }

    fn again(&mut self, scenario: Scenario) -> anyhow::Result<(Option<i32>, String)> {
        scenario.prepare(self)?;
        let words = scenario.command();
        self.call(&words)
    }
}

/// What a record says that is not so.
fn lies(record: &Value) -> Option<String> {
    let owner = record["Processes"]["Owner"].as_u64();
    let alive = owner.is_some_and(|owner| Path::new(&format!("/proc/{owner}")).exists());
    let status = record["State"]["Status"].as_str().unwrap_or_default();
    let is_final = matches!(status, "Stopped" | "Failed");
    (alive == is_final).then(|| format!("a record lies: {record}"))
}
