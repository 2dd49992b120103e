//! What there is on the host: looked at before and after, inside namespaces of our own, where
//! everything that is there is firebuild's.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

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

/// Everything that is on the host, a line each.
pub(super) fn everything() -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut add = |kind: &str, text: &str| {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            found.insert(format!("{kind}: {}", line.trim()));
        }
    };
    let ip = |what: &[&str]| shell::quiet(Command::new("ip").args(what));
    let links = ip(&["-br", "link"])?;
    add("link", &links);
    add("address", &ip(&["-br", "address"])?);
    add("route", &ip(&["route"])?);
    add(
        "rule",
        &shell::quiet(Command::new("nft").args(["list", "ruleset"]))?,
    );
    let mounts = fs_err::read_to_string("/proc/self/mountinfo")?;
    let mounts: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    add("mount", &mounts.join("\n"));
    let sockets = fs_err::read_to_string("/proc/net/unix")?;
    let sockets: Vec<&str> = sockets
        .lines()
        .filter_map(|line| line.split('/').next().and(line.split_once('/')))
        .map(|(_, path)| path)
        .collect();
    add("socket", &sockets.join("\n"));
    let listening = Command::new("ss")
        .args(["-Hlntu"])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    add("port", &listening);
    add("file", &tree(Path::new("/run"), &|_| true).join("\n"));
    let is_ours = |path: &Path| path.to_string_lossy().contains("firebuild");
    add(
        "cgroup",
        &directories(Path::new("/sys/fs/cgroup"), &is_ours).join("\n"),
    );
    add("process", &processes()?.join("\n"));
    Ok(found)
}

/// The processes of this process namespace but this one, by their command lines.
fn processes() -> anyhow::Result<Vec<String>> {
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

fn directories(directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<String> {
    tree(directory, &|path| path.is_dir() && wanted(path))
}
