//! `firebuild system verify`: whether everything in the store is what it should be.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;
use firebuild_builder::care::{self, Finding, Outcome, Part, Remedy, Report};
use firebuild_builder::progress::Event;
use firebuild_builder::rootfs::Ext4;
use firebuild_core::ByteSize;
use firebuild_oci::Trust;
use firebuild_store::Store;
use serde::Serialize;

use crate::command::pulling::AskingArguments;
use crate::command::{Format, Global, block_on};
use crate::error::Negative;
use crate::progress::layers::{Direction, Layers};
use crate::{progress, terminal};

/// How often it is told how far it is.
const TELL: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = "\
`--repair` makes again what can be made from what is whole, and removes bytes that are not what their
name says. Images that need such bytes keep their names: pull, import or build them again, and only
what is missing comes. `--repair --pull` does that for images that were pulled: as they were, whatever
their registries have under their names now.")]
pub(crate) struct Verify {
    /// Mend what can be mended
    #[arg(long)]
    repair: bool,
    /// Then fetch what images lack that came from registries
    #[arg(long, requires = "repair")]
    pull: bool,
    #[command(flatten)]
    asking: AskingArguments,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What JSON shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    images: u64,
    blobs: u64,
    /// What the blobs have together.
    bytes: u64,
    root_file_systems: u64,
    records: u64,
    broken: Vec<Broken>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Broken {
    kind: &'static str,
    digest: Option<String>,
    problem: String,
    images: Vec<String>,
    /// `repair`, `fetch` or `by-hand`.
    remedy: &'static str,
    /// What became of it: `found`, and with `--repair` `mended`, `missing` or `left`.
    state: &'static str,
}

impl Verify {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let told = Mutex::new(Instant::now());
        let report = care::verify(&store, &|done, total| tell(&told, done, total))?;
        if terminal::is_seen() {
            terminal::print_error_bytes(b"\r\x1b[K")?;
        }
        let mut outcomes = match self.repair && !report.findings.is_empty() {
            true => care::repair(&store, &report)?,
            false => None,
        };
        if self.repair && outcomes.is_none() && !report.findings.is_empty() {
            terminal::say(
                "nothing was mended: a build, a command that reads images, or a starting VM is at work; try again when it has ended",
            );
        }
        if let Some(outcomes) = outcomes.as_mut().filter(|_| self.pull) {
            self.restore(&store)?;
            care::look_again(&store, &report, outcomes)?;
        }
        let mended = |outcome: &Outcome| *outcome == Outcome::Mended;
        let whole = match &outcomes {
            Some(outcomes) => outcomes.iter().all(mended),
            None => report.findings.is_empty(),
        };
        let shown = Shown::of(report, outcomes.as_deref());
        match self.format {
            Format::Json => terminal::print_json(&shown)?,
            Format::Text => shown.print()?,
        }
        if whole {
            return Ok(());
        }
        Err(Negative.into())
    }
}

impl Verify {
    /// Fetches what images lack. What cannot be fetched is told, and the others are.
    fn restore(&self, store: &Store) -> anyhow::Result<()> {
        let incomplete = care::incomplete(store)?;
        if incomplete.is_empty() {
            return Ok(());
        }
        let shown = progress::on_demand(progress::Style::Auto, Instant::now());
        let registry = self.asking.client(Trust::host(), &*shown)?;
        let watcher = Layers::watcher(Arc::clone(&shown), Direction::Here);
        for (reference, descriptor) in &incomplete {
            let wanted = (reference, descriptor);
            let restoring = firebuild_oci::restore(store, &registry, wanted, Ext4, &watcher);
            let name = reference.familiar();
            let text = match block_on(restoring)? {
                Ok(true) => format!("`{name}` is whole again"),
                // The findings say that something is missing.
                Ok(false) => continue,
                Err(error) => format!("`{name}` cannot be fetched: {}", causes(&error)),
            };
            let (stage, text) = (None, text.as_str());
            shown.event(Event::Note { stage, text });
        }
        Ok(())
    }
}

/// An error with its causes in one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = chain.map(ToString::to_string).collect();
    texts.join(": ")
}

/// Shows on a terminal how far it is.
fn tell(told: &Mutex<Instant>, done: u64, total: u64) {
    if !terminal::is_seen() {
        return;
    }
    // Whoever finds it locked leaves it to the other.
    if let Ok(mut told) = told.try_lock()
        && told.elapsed() > TELL
    {
        *told = Instant::now();
        let (done, total) = (ByteSize(done), ByteSize(total));
        let line = format!("\rreading {done} of {total}\x1b[K");
        // Nobody may be listening.
        let _ = terminal::print_error_bytes(line.as_bytes());
    }
}

impl Shown {
    fn of(report: Report, outcomes: Option<&[Outcome]>) -> Self {
        let outcome = |at| outcomes.and_then(|outcomes| outcomes.get(at)).copied();
        let findings = report.findings.into_iter().enumerate();
        Self {
            images: report.images,
            blobs: report.blobs,
            bytes: report.bytes,
            root_file_systems: report.rootfs,
            records: report.records,
            broken: findings
                .map(|(at, finding)| Broken::of(finding, outcome(at)))
                .collect(),
        }
    }

    /// What is broken to standard output, everything else to standard error.
    fn print(&self) -> anyhow::Result<()> {
        for broken in &self.broken {
            terminal::print(broken.text())?;
        }
        let size = ByteSize(self.bytes);
        terminal::say(format_args!(
            "looked at {} images, {} blobs ({size}), {} root file systems, {} records: {} broken",
            self.images,
            self.blobs,
            self.root_file_systems,
            self.records,
            self.broken.len()
        ));
        let waits = |broken: &Broken| broken.state == "found" && broken.remedy != "by-hand";
        if self.broken.iter().any(waits) {
            terminal::say("hint: `firebuild system verify --repair` mends what can be mended");
        }
        Ok(())
    }
}

impl Broken {
    fn of(finding: Finding, outcome: Option<Outcome>) -> Self {
        let (kind, digest) = match finding.part {
            Part::Index => ("index", None),
            Part::Blob(digest) => ("blob", Some(digest)),
            Part::RootFs(key) => ("root-file-system", Some(key)),
            Part::Layer(diff_id) => ("layer-record", Some(diff_id)),
            Part::Result(key) => ("build-cache", Some(key)),
            Part::Download(key) => ("download", Some(key)),
        };
        Self {
            kind,
            digest: digest.map(|digest| digest.to_string()),
            problem: finding.problem,
            images: finding.images,
            remedy: match finding.remedy {
                Remedy::Repair => "repair",
                Remedy::Fetch => "fetch",
                Remedy::ByHand => "by-hand",
            },
            state: match outcome {
                None => "found",
                Some(Outcome::Mended) => "mended",
                Some(Outcome::Missing) => "missing",
                Some(Outcome::Left) => "left",
            },
        }
    }

    fn text(&self) -> String {
        let kind = self.kind.replace('-', " ");
        let digest = self.digest.as_deref().unwrap_or("(the list of images)");
        let mut text = format!("{kind} {digest}: {}\n", self.problem);
        if !self.images.is_empty() {
            let what = match self.remedy {
                "fetch" => "hurts",
                _ => "belongs to",
            };
            text.push_str(&format!("  {what} {}\n", self.images.join(", ")));
        }
        text.push_str(match (self.state, self.remedy) {
            ("mended", _) => "  mended\n",
            ("missing", _) | ("found", "fetch") => {
                "  these have to be imported or built again, after `firebuild system verify --repair`, or pulled, which `--repair --pull` does\n"
            }
            ("left", "by-hand") | ("found", "by-hand") => {
                "  bring the file back from a backup, or remove it: then no image has a name\n"
            }
            ("left", _) => "  a VM runs from it: remove that VM with `firebuild rm`, and repair again\n",
            _ => "  can be mended\n",
        });
        text
    }
}
