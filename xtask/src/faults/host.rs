//! What there is on the host: looked at before and after, inside namespaces of our own, where
//! everything that is there is firebuild's.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

use super::place;
use crate::shell;

/// Where what commands write goes.
pub(super) const OUTPUT: &str = "/run/faults-output";

/// A file for what a command writes.
pub(super) fn output() -> anyhow::Result<std::fs::File> {
    Ok(fs_err::File::create(OUTPUT)?.into_parts().0)
}

/// Whether a word of a command line names a VMM's program.
pub(super) fn is_vmm(word: &str) -> bool {
    word.rsplit('/').next().is_some_and(|name| {
        name.starts_with("qemu-system-") || name == "firecracker" || name == "jailer"
    })
}

/// The process that a thread is of.
pub(super) fn leader(thread: i32) -> Option<i32> {
    status(thread, "Tgid")
}

fn status(process: i32, field: &str) -> Option<i32> {
    let status = fs_err::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line?.trim().parse().ok()
}

/// Waits until a process that was killed has let go of everything.
pub(super) fn until_dead(process: i32) -> anyhow::Result<()> {
    for _ in 0..5000 {
        let stat = fs_err::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ") {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    bail!("process {process} does not die")
}

/// Everything that is on the host, a line each. What is there twice is there twice.
pub(super) fn everything() -> anyhow::Result<BTreeSet<String>> {
    let mut found = Lines::default();
    let ip = |what: &[&str]| shell::quiet(Command::new("ip").args(what));
    found.add("link", &devices(&ip(&["-br", "link"])?, |_| false));
    let is_given = |word: &str| word.contains('/') && !word.starts_with("fe80:");
    found.add("address", &devices(&ip(&["-br", "address"])?, is_given));
    for family in ["-4", "-6"] {
        let routes = ip(&[family, "route"])?;
        let given = routes.lines().filter(|line| !line.starts_with("fe80:"));
        let given = given.collect::<Vec<_>>().join("\n");
        found.add("route", &given.replace(" linkdown", ""));
    }
    found.add("route", &ip(&["rule"])?);
    found.add(
        "rule",
        &shell::quiet(Command::new("nft").args(["list", "ruleset"]))?,
    );
    let mounts = fs_err::read_to_string("/proc/self/mountinfo")?;
    let mounts: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    found.add("mount", &mounts.join("\n"));
    found.add("socket", &sockets()?);
    let listening = Command::new("ss").args(["-Hlntu"]).output()?;
    found.add("port", &String::from_utf8_lossy(&listening.stdout));
    for place in place::OWN {
        found.add("file", &tree(Path::new(place), &|_| true).join("\n"));
    }
    let is_directory = |path: &Path| path.is_dir() && !path.is_symlink();
    let groups = tree(Path::new("/sys/fs/cgroup"), &is_directory);
    found.add("cgroup", &groups.join("\n"));
    found.add("process", &processes()?.join("\n"));
    Ok(found.0)
}

/// A line for each device: its name, and those of the other words that are wanted. Whether a bridge is up, and
/// which hardware and link-local address it has, depends on whether anything is plugged into it yet, or still.
fn devices(listed: &str, wanted: impl Fn(&str) -> bool) -> String {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        words
            .filter(|word| wanted(word))
            .fold(name, |line, word| line + " " + word)
    };
    listed.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Lines of a kind.
#[derive(Default)]
struct Lines(BTreeSet<String>);

impl Lines {
    fn add(&mut self, kind: &str, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line = format!("{kind}: {}", line.trim());
            let again = (2..).map(|number| format!("{line} (number {number})"));
            for line in std::iter::once(line.clone()).chain(again) {
                if self.0.insert(line) {
                    break;
                }
            }
        }
    }
}

/// What of `before` and `after` is trouble: everything that is there now and was not, and, unless the host
/// was started again meanwhile, everything that was there and is not.
pub(super) fn difference(
    before: &BTreeSet<String>,
    after: &BTreeSet<String>,
    rebooted: bool,
) -> Vec<String> {
    let left = after.difference(before);
    let left = left.map(|it| format!("left on the host: {it}"));
    let gone = before
        .difference(after)
        .filter(|it| !rebooted && !is_others(it));
    let gone = gone.map(|it| format!("gone from the host: {it}"));
    left.chain(gone).collect()
}

/// Whether a line is of a mount that was there when this namespace was made: it goes when who made it
/// removes the directory that it is on.
fn is_others(line: &str) -> bool {
    let mount = line.strip_prefix("mount: ");
    mount.is_some_and(|path| !place::is_own(path) && !path.starts_with("/sys/"))
}

/// The sockets that have a path or a name.
fn sockets() -> anyhow::Result<String> {
    let sockets = fs_err::read_to_string("/proc/net/unix")?;
    let names = sockets.lines().skip(1).filter_map(|line| {
        // Number, references, protocol, flags, type, state, inode.
        let name = line.split_whitespace().nth(7)?;
        (name.starts_with('/') || name.starts_with('@')).then_some(name)
    });
    Ok(names.collect::<Vec<_>>().join("\n"))
}

/// The processes of this process namespace but this one, by their command lines.
pub(super) fn processes() -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_ok_and(|number| number > 1) {
            let stat = fs_err::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default();
            let line = fs_err::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if !stat.contains(") Z ") && !stat.is_empty() {
                found.push(line);
            }
        }
    }
    Ok(found)
}

/// All paths below a directory for which `wanted` holds.
pub(super) fn tree(directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    // What goes away while it is looked at is gone.
    for entry in fs_err::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if wanted(&path) {
            found.push(path.display().to_string());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&path, wanted));
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_and_what_is_gone_is_told_but_not_what_is_of_others() {
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
        let before = lines(&[
            "link: lo",
            "rule: ours",
            "mount: /data/of-others",
            "mount: /run/x",
        ]);
        let after = lines(&["link: lo", "link: tap"]);
        let left = "left on the host: link: tap".to_owned();
        let gone = ["mount: /run/x", "rule: ours"].map(|it| format!("gone from the host: {it}"));
        assert_eq!(
            difference(&before, &after, true),
            std::slice::from_ref(&left)
        );
        let [mount, rule] = gone;
        assert_eq!(difference(&before, &after, false), [left, mount, rule]);
        assert!(difference(&before, &before, false).is_empty());
    }

    #[test]
    fn what_is_there_twice_is_there_twice() {
        let mut lines = Lines::default();
        lines.add("process", "sleep 1\nsleep 1\n\n");
        assert_eq!(lines.0.len(), 2, "{:?}", lines.0);
    }
}
