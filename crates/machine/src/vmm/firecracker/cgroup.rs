//! The control groups that the jailer makes for a VM, and their removal, which it leaves to others.
//!
//! A VM's own group is `PARENT/ID` in the hierarchy of every controller of version 1 that has a
//! setting, or in the one hierarchy of version 2. Without any setting the jailer makes no group: in
//! version 2 it moves Firecracker into the parent if that exists, and says nothing if it does not.
//! So that case is looked at here, before anything starts.

use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use firebuild_core::MachineId;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Where the kernel tells its mounts.
const MOUNTS: &str = "/proc/self/mounts";

/// How long the kernel may take to empty the group of processes that have ended.
const EMPTYING: Duration = Duration::from_secs(2);

/// A version of control groups (`cgroups(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupVersion {
    /// A hierarchy for each controller, or for some of them together.
    #[serde(rename = "1")]
    V1,
    /// One hierarchy.
    #[serde(rename = "2")]
    V2,
}

/// What is written to a file of a control group: `FILE=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupSetting {
    file: String,
    value: String,
}

/// The hierarchies that a host has mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// Of version 1: where, and the mount's options, among which the controllers are.
    v1: Vec<(PathBuf, String)>,
    /// Of version 2.
    v2: Option<PathBuf>,
}

/// Whether there is a controller that VMs are limited by.
fn is_of_use(controllers: &[String]) -> bool {
    let used = |name: &String| ["cpu", "memory", "pids", "io", "cpuset"].contains(&name.as_str());
    controllers.iter().any(used)
}

impl Hierarchies {
    /// Those of this host.
    pub(crate) fn of_host() -> Result<Self, Error> {
        let mounts = fs_err::read_to_string(MOUNTS)
            .map_err(|source| Error::io("look for control groups", source))?;
        Ok(Self::parse(&mounts))
    }

    fn parse(mounts: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let mut words = line.split(' ').skip(1);
            let (Some(place), Some(kind), Some(options)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            match kind {
                "cgroup" => found.v1.push((place.into(), options.to_owned())),
                "cgroup2" if found.v2.is_none() => found.v2 = Some(place.into()),
                _ => {}
            }
        }
        found
    }

    /// The version that the host has its controllers in.
    fn version(&self) -> Option<CgroupVersion> {
        match &self.v2 {
            // Beside hierarchies of version 1, what is left over for this one may be of no use to VMs.
            Some(root) if self.v1.is_empty() || is_of_use(&controllers(root)) => {
                Some(CgroupVersion::V2)
            }
            _ => (!self.v1.is_empty()).then_some(CgroupVersion::V1),
        }
    }

    /// Where a version has a controller, if it has it.
    pub(crate) fn root_of(&self, version: CgroupVersion, controller: &str) -> Option<PathBuf> {
        let found = match version {
            CgroupVersion::V1 => self.v1.iter().find_map(|(root, options)| {
                let mut options = options.split(',');
                options.any(|option| option == controller).then_some(root)
            }),
            CgroupVersion::V2 => {
                let has = |root: &&PathBuf| controllers(root).iter().any(|it| it == controller);
                self.v2.as_ref().filter(has)
            }
        };
        found.cloned()
    }

    /// Where each hierarchy begins.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        self.v1.iter().map(|(root, _)| root).chain(&self.v2)
    }

    fn has(&self, version: CgroupVersion, controller: &str) -> bool {
        match version {
            CgroupVersion::V1 => self.v1.iter().any(|(_, options)| {
                let mut options = options.split(',');
                options.any(|option| option == controller)
            }),
            CgroupVersion::V2 => self.v2.as_ref().is_some_and(|root| {
                controller == "cgroup" || controllers(root).iter().any(|it| it == controller)
            }),
        }
    }

    /// Which version the jailer is to use for these settings. None if it is not to make any group.
    ///
    /// # Errors
    /// [`Error::Spec`] if the host has not what the settings need, or the parent is not there and
    /// would be passed over in silence.
    pub(super) fn plan(
        &self,
        wanted: Option<CgroupVersion>,
        settings: &[CgroupSetting],
        parent: Option<&str>,
    ) -> Result<Option<CgroupVersion>, Error> {
        if settings.is_empty() && parent.is_none() {
            return Ok(None);
        }
        let no = |text: String| Err(Error::Spec(text));
        let Some(version) = wanted.or_else(|| self.version()) else {
            return no("this host has no control groups mounted".to_owned());
        };
        for setting in settings {
            if !self.has(version, setting.controller()) {
                return no(format!(
                    "this host has no controller `{}` in control groups of version {version}",
                    setting.controller()
                ));
            }
        }
        match (settings, parent, version, &self.v2) {
            ([], Some(parent), CgroupVersion::V2, Some(root)) if root.join(parent).is_dir() => {}
            ([], Some(parent), ..) => {
                return no(format!(
                    "the control group `{parent}` is not there, and without a setting none is made"
                ));
            }
            _ => {}
        }
        Ok(Some(version))
    }

    /// Kills what is left in a VM's own groups, and removes them.
    ///
    /// # Errors
    /// A group cannot be removed.
    pub(crate) fn remove(&self, parent: &str, id: &MachineId) -> io::Result<()> {
        let mut trouble = Ok(());
        for root in self.roots() {
            let removed = remove_group(&root.join(parent).join(id.as_str()));
            trouble = trouble.and(removed);
        }
        trouble
    }
}

fn controllers(root: &Path) -> Vec<String> {
    let text = fs_err::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn remove_group(group: &Path) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        match fs_err::remove_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if begin.elapsed() > EMPTYING {
                    return Err(error);
                }
                // Since Linux 5.14; older ones have only what has ended by now.
                let _ = fs_err::write(group.join("cgroup.kill"), "1");
                // A group tells nobody that it is empty who does not watch it already.
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// Checks a group's path as the jailer does: relative, and nothing but names.
pub(super) fn check_parent(parent: &str) -> Result<(), Error> {
    let mut parts = Path::new(parent).components();
    let names = parts.all(|part| matches!(part, Component::Normal(_)));
    if !parent.is_empty() && names && parent.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Error::Spec(format!(
        "`{parent}` cannot be a control group; it is a relative path such as `vms/firebuild`"
    )))
}

impl CgroupSetting {
    /// A setting of the file `file`, such as `memory.max`.
    #[must_use]
    pub fn new(file: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            value: value.into(),
        }
    }

    fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let name = |part: &str| {
            let mut bytes = part.bytes();
            !part.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let file = self.file.contains('.') && self.file.split('.').all(name);
        let value = !self.value.is_empty()
            && self
                .value
                .bytes()
                .all(|b| b == b' ' || b.is_ascii_graphic());
        if file && value {
            return Ok(());
        }
        Err(Error::Spec(format!(
            "`{self}` is no setting of a control group; one is FILE=VALUE, such as `memory.max=256M`"
        )))
    }
}

impl fmt::Display for CgroupSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.file, self.value)
    }
}

impl FromStr for CgroupSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, value) = text.split_once('=').unwrap_or((text, ""));
        let setting = Self::new(file, value);
        setting.check().map_err(|error| error.to_string())?;
        Ok(setting)
    }
}

impl TryFrom<String> for CgroupSetting {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CgroupSetting> for String {
    fn from(setting: CgroupSetting) -> Self {
        setting.to_string()
    }
}

impl fmt::Display for CgroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "1",
            Self::V2 => "2",
        })
    }
}

impl FromStr for CgroupVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1" => Ok(Self::V1),
            "2" => Ok(Self::V2),
            _ => Err("control groups have the versions 1 and 2".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of files: its hierarchy of version 2 has these controllers.
    fn host(directory: &Path, v1: &[&str], v2: Option<&str>) -> Hierarchies {
        let mut mounts = "proc /proc proc rw 0 0\n".to_owned();
        for controllers in v1 {
            let place = directory.join(controllers);
            fs_err::create_dir_all(&place).unwrap();
            mounts += &format!(
                "cgroup {} cgroup rw,relatime,{controllers} 0 0\n",
                place.display()
            );
        }
        if let Some(controllers) = v2 {
            let place = directory.join("unified");
            fs_err::create_dir_all(&place).unwrap();
            fs_err::write(place.join("cgroup.controllers"), controllers).unwrap();
            mounts += &format!("cgroup2 {} cgroup2 rw,nsdelegate 0 0\n", place.display());
        }
        Hierarchies::parse(&mounts)
    }

    #[test]
    fn settings_are_a_file_and_a_value() {
        for good in [
            "memory.max=256M",
            "cpu.cfs_quota_us=-1",
            "io.max=8:0 rbps=1",
        ] {
            let setting: CgroupSetting = good.parse().unwrap();
            assert_eq!(setting.to_string(), good);
        }
        for bad in [
            "",
            "memory.max",
            "memory.max=",
            "max=1",
            "a/b.c=1",
            "..=1",
            "a.b=\n",
        ] {
            assert!(bad.parse::<CgroupSetting>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_version_is_the_one_with_controllers() {
        for (v1, v2, expected) in [
            (
                &["memory", "cpu,cpuacct"][..],
                Some(""),
                Some(CgroupVersion::V1),
            ),
            (
                &["memory", "cpu,cpuacct"],
                Some("hugetlb misc"),
                Some(CgroupVersion::V1),
            ),
            (&["hugetlb"], Some("cpu memory"), Some(CgroupVersion::V2)),
            (&[], Some("hugetlb"), Some(CgroupVersion::V2)),
            (&[], Some("cpu memory"), Some(CgroupVersion::V2)),
            (&[], Some(""), Some(CgroupVersion::V2)),
            (&["memory"], None, Some(CgroupVersion::V1)),
            (&[], None, None),
        ] {
            let directory = tempfile::tempdir().unwrap();
            assert_eq!(host(directory.path(), v1, v2).version(), expected);
        }
    }

    #[test]
    fn what_the_host_lacks_is_said_before_anything_starts() {
        let directory = tempfile::tempdir().unwrap();
        let host = host(directory.path(), &["cpu,cpuacct"], Some("memory"));
        let memory = [CgroupSetting::new("memory.max", "1M")];
        let cpu = [CgroupSetting::new("cpu.shares", "9")];
        let plan = |version, settings: &[CgroupSetting]| host.plan(version, settings, None);
        assert_eq!(plan(None, &[]).unwrap(), None);
        assert_eq!(plan(None, &memory).unwrap(), Some(CgroupVersion::V2));
        let v1 = Some(CgroupVersion::V1);
        assert_eq!(plan(v1, &cpu).unwrap(), v1);
        for (version, settings) in [(v1, &memory), (None, &cpu)] {
            let error = plan(version, settings).unwrap_err().to_string();
            assert!(error.contains("has no controller"), "{error}");
        }
    }

    #[test]
    fn pitfall_08_a_parent_that_would_be_passed_over_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let host = host(directory.path(), &[], Some("memory"));
        let plan = || host.plan(None, &[], Some("vms"));
        let error = plan().unwrap_err().to_string();
        assert!(error.contains("`vms` is not there"), "{error}");
        fs_err::create_dir(directory.path().join("unified/vms")).unwrap();
        assert_eq!(plan().unwrap(), Some(CgroupVersion::V2));
        // With a setting the jailer makes it.
        let memory = [CgroupSetting::new("memory.max", "1M")];
        assert!(host.plan(None, &memory, Some("other")).is_ok());
    }

    #[test]
    fn groups_are_removed_wherever_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let host = host(directory.path(), &["cpu", "memory"], Some(""));
        let id = MachineId::from_random([1; 20]);
        let own = directory.path().join("cpu/firebuild").join(id.as_str());
        fs_err::create_dir_all(&own).unwrap();
        host.remove("firebuild", &id).unwrap();
        assert!(!own.exists() && own.parent().unwrap().exists());
        host.remove("firebuild", &id).unwrap();
    }
}
