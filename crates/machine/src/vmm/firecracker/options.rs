//! What can be asked of Firecracker and of its jailer, beyond what every VM has.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::{CgroupSetting, CgroupVersion};
use super::version::Version;
use crate::Error;

/// Where jails are if nobody says otherwise: the jailer's own default.
pub const CHROOT_BASE: &str = "/srv/jailer";

/// What can be asked of Firecracker and of its jailer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct FirecrackerOptions {
    /// The program; `firecracker` of `PATH` if none.
    pub firecracker: Option<PathBuf>,
    /// The jailer; `jailer` beside the program or of `PATH` if none.
    pub jailer: Option<PathBuf>,
    /// The directory of jails.
    pub chroot_base: PathBuf,
    /// The user to run as; one of the VM's own if none.
    pub uid: Option<u32>,
    /// The group to run as; one of the VM's own if none.
    pub gid: Option<u32>,
    /// The NUMA node whose processors and memory the VM uses.
    pub numa_node: Option<u32>,
    /// The version of control groups; the one that the host has its controllers in if none.
    pub cgroup_version: Option<CgroupVersion>,
    /// What to write to files of the VM's own control group, such as `memory.max=256M`.
    pub cgroups: Vec<CgroupSetting>,
    /// The control group in which the VM gets its own; `firebuild` if none.
    pub parent_cgroup: Option<String>,
    /// How many files Firecracker may have open; the jailer's default if none.
    pub open_files: Option<u64>,
    /// The largest file that Firecracker may write, in bytes; no limit if none.
    pub file_size: Option<u64>,
    /// Which processor the guest sees; the host's if none.
    pub cpu_template: Option<CpuTemplate>,
    /// Whether pairs of the guest's processors are threads of one core. x86 only.
    pub smt: bool,
    /// Which pages the guest's memory is made of.
    pub huge_pages: HugePages,
    /// A device by which the host takes memory from the guest.
    pub balloon: Option<Balloon>,
    /// Whether the guest has a device that gives it random numbers.
    pub entropy: bool,
    /// How much of those it gets.
    pub entropy_limit: Option<RateLimiter>,
    /// How quick each of the VM's drives is.
    pub drive_limit: Option<RateLimiter>,
    /// What each of the guest's network devices receives.
    pub receive_limit: Option<RateLimiter>,
    /// What each of the guest's network devices sends.
    pub send_limit: Option<RateLimiter>,
    /// How many bytes the guest's console takes; what is more is dropped.
    pub console_limit: Option<TokenBucket>,
    /// Whether every call of Firecracker's interface is written to a file in the VM's directory.
    pub log_http_calls: bool,
}

impl Default for FirecrackerOptions {
    fn default() -> Self {
        Self {
            firecracker: None,
            jailer: None,
            chroot_base: CHROOT_BASE.into(),
            uid: None,
            gid: None,
            numa_node: None,
            cgroup_version: None,
            cgroups: Vec::new(),
            parent_cgroup: None,
            open_files: None,
            file_size: None,
            cpu_template: None,
            smt: false,
            huge_pages: HugePages::default(),
            balloon: None,
            // QEMU's guests have one, too: a guest that waits for randomness boots late.
            entropy: true,
            entropy_limit: None,
            drive_limit: None,
            receive_limit: None,
            send_limit: None,
            console_limit: None,
            log_http_calls: false,
        }
    }
}

/// A processor that guests see on any host of a fleet (`docs/cpu_templates` of Firecracker).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are Firecracker's, and have no long form"
)]
pub enum CpuTemplate {
    C3,
    T2,
    T2S,
    T2CL,
    T2A,
    V1N1,
}

/// Pages of a guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum HugePages {
    /// What the kernel gives.
    #[default]
    None,
    /// Large ones where the kernel has some. Since 1.17.
    Transparent,
    /// Those of 2 MiB that the host has set aside.
    #[serde(rename = "2M")]
    TwoMib,
}

/// A device by which the host takes memory from a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Balloon {
    /// How much to take from the beginning, in MiB.
    pub amount: u32,
    /// Whether a guest that has no memory left gets some back.
    #[serde(default)]
    pub deflate_on_oom: bool,
    /// Whether the guest tells which pages it does not use, and the host takes them. Since 1.14.
    #[serde(default)]
    pub free_page_reporting: bool,
}

/// A limit in bytes, in operations, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimiter {
    /// Of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<TokenBucket>,
    /// Of operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops: Option<TokenBucket>,
}

/// So much in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBucket {
    /// How much: bytes or operations, at least 1.
    pub size: u64,
    /// In how many milliseconds, at least 1.
    pub refill_time: u64,
    /// How much more there is once, at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time_burst: Option<u64>,
}

impl TokenBucket {
    /// So much a second.
    #[must_use]
    pub fn per_second(size: u64) -> Self {
        Self {
            size,
            refill_time: 1000,
            one_time_burst: None,
        }
    }
}

impl FirecrackerOptions {
    /// Checks what types alone do not say, for a VM of this many processors and MiB of memory.
    ///
    /// # Errors
    /// [`Error::Spec`] says which value can not be, and why.
    pub fn check(&self, cpus: u8, memory: u32) -> Result<(), Error> {
        let no = |text: String| Err(Error::Spec(text));
        if self.smt && cpus > 1 && !cpus.is_multiple_of(2) {
            return no(format!(
                "with two threads a core, a VM has 1 processor or an even number, not {cpus}"
            ));
        }
        if self.huge_pages == HugePages::TwoMib && !memory.is_multiple_of(2) {
            return no(format!(
                "with pages of 2 MiB, a VM's memory is an even number of MiB, not {memory}"
            ));
        }
        if let Some(balloon) = self.balloon.filter(|balloon| balloon.amount > memory) {
            return no(format!(
                "a balloon of {} MiB is larger than the VM's memory, which has {memory}",
                balloon.amount
            ));
        }
        let limiters = [
            self.entropy_limit,
            self.drive_limit,
            self.receive_limit,
            self.send_limit,
        ];
        let buckets = limiters.into_iter().flatten();
        let buckets = buckets.flat_map(|limiter| [limiter.bandwidth, limiter.ops]);
        let mut buckets = buckets.chain([self.console_limit]).flatten();
        if buckets.any(|bucket| bucket.size == 0 || bucket.refill_time == 0) {
            return no("a rate limit is at least 1 in at least 1 ms".to_owned());
        }
        for setting in &self.cgroups {
            setting.check()?;
        }
        super::cgroup::check_parent(self.parent_cgroup())
    }

    /// Something that only Firecracker can do, if it is asked for.
    #[must_use]
    pub fn only_here(&self) -> Option<&'static str> {
        let own = |it: Option<RateLimiter>| it.is_some();
        let asked = [
            (self.cpu_template.is_some(), "CPU templates"),
            (self.smt, "two threads a core"),
            (
                self.huge_pages != HugePages::None,
                "a choice of memory pages",
            ),
            (self.balloon.is_some(), "a balloon"),
            (own(self.entropy_limit), "a limit for random numbers"),
            (own(self.drive_limit), "this limit for drives"),
            (own(self.receive_limit), "a limit for what is received"),
            (own(self.send_limit), "a limit for what is sent"),
            (self.console_limit.is_some(), "a limit for the console"),
            (
                self.numa_node.is_some(),
                "the jailer's choice of a NUMA node",
            ),
            (!self.cgroups.is_empty(), "the jailer's control groups"),
            (self.parent_cgroup.is_some(), "the jailer's control groups"),
        ];
        let mut asked = asked.into_iter().filter(|(is_asked, _)| *is_asked);
        asked.next().map(|(_, what)| what)
    }

    /// Checks that a version of Firecracker knows all that is asked for.
    ///
    /// # Errors
    /// [`Error::Spec`] says what needs which version.
    pub fn check_version(&self, version: Version) -> Result<(), Error> {
        if self.console_limit.is_some() {
            let place = ("/serial", Some("rate_limiter"), None);
            version.require(place, "a limit for the guest's console")?;
        }
        if self.huge_pages == HugePages::Transparent {
            let place = ("/machine-config", Some("huge_pages"), Some("Transparent"));
            version.require(place, "memory of transparent huge pages")?;
        }
        if self.balloon.is_some_and(|it| it.free_page_reporting) {
            let place = ("/balloon", Some("free_page_reporting"), None);
            version.require(place, "the reporting of free pages")?;
        }
        Ok(())
    }

    /// The control group in which VMs get their own.
    #[must_use]
    pub fn parent_cgroup(&self) -> &str {
        self.parent_cgroup.as_deref().unwrap_or("firebuild")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_old_and_wrong_ones() {
        let options: FirecrackerOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(options, FirecrackerOptions::default());
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(
            serde_json::from_str::<FirecrackerOptions>(&text).unwrap(),
            options
        );
        for wrong in [r#"{"Uids":1}"#, r#"{"CpuTemplate":"T9"}"#, r#"{"Uid":-1}"#] {
            assert!(serde_json::from_str::<FirecrackerOptions>(wrong).is_err());
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        type Change = fn(&mut FirecrackerOptions);
        let changes: [(Change, &str); 8] = [
            (|it| it.smt = true, "even number, not 3"),
            (|it| it.huge_pages = HugePages::TwoMib, "not 129"),
            (
                |it| {
                    it.balloon = Some(Balloon {
                        amount: 130,
                        ..Balloon::default()
                    });
                },
                "balloon of 130 MiB",
            ),
            (
                |it| it.console_limit = Some(TokenBucket::per_second(0)),
                "rate limit",
            ),
            (
                |it| {
                    it.drive_limit = Some(RateLimiter {
                        bandwidth: None,
                        ops: Some(TokenBucket {
                            refill_time: 0,
                            ..TokenBucket::per_second(1)
                        }),
                    });
                },
                "rate limit",
            ),
            (|it| it.parent_cgroup = Some("/a".to_owned()), "`/a`"),
            (
                |it| it.parent_cgroup = Some("a/../b".to_owned()),
                "`a/../b`",
            ),
            (|it| it.parent_cgroup = Some(String::new()), "``"),
        ];
        assert!(FirecrackerOptions::default().check(3, 129).is_ok());
        for (change, said) in changes {
            let mut options = FirecrackerOptions::default();
            change(&mut options);
            let error = options.check(3, 129).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn pitfall_10_what_needs_a_newer_version_is_refused_before_anything_starts() {
        type Change = fn(&mut FirecrackerOptions);
        let changes: [(Change, Version); 3] = [
            (
                |it| it.console_limit = Some(TokenBucket::per_second(1)),
                Version::new(1, 16),
            ),
            (
                |it| it.huge_pages = HugePages::Transparent,
                Version::new(1, 17),
            ),
            (
                |it| {
                    it.balloon = Some(Balloon {
                        free_page_reporting: true,
                        ..Balloon::default()
                    });
                },
                Version::new(1, 14),
            ),
        ];
        for (change, since) in changes {
            let mut options = FirecrackerOptions::default();
            change(&mut options);
            for minor in 10..=17 {
                let version = Version::new(1, minor);
                let checked = options.check_version(version);
                assert_eq!(checked.is_ok(), version >= since, "{version} {options:?}");
                if let Err(error) = checked {
                    let end = format!("needs Firecracker {since}; this is {version}");
                    assert!(error.to_string().ends_with(&end), "{error}");
                }
            }
        }
    }
}
