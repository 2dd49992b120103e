//! What a VM has on the host, and that it is gone.

use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::session::{Session, output_of};

/// How long a supervisor may take to end after it said that its VM has.
const LAST_WORDS: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Everything on the host that belongs to VM `id`, but for its record, its logs, and the disk that goes
/// with them.
pub(crate) fn traces(session: &Session, id: &str) -> Vec<String> {
    let mut found = Vec::new();
    // A device's name holds 15 bytes.
    let device = format!("fb{}", &id[..13]);
    if output_of("ip", &["-o", "link"]).contains(&device) {
        found.push(format!("device {device}"));
    }
    if output_of("nft", &["list", "ruleset"]).contains(id) {
        found.push("rules".to_owned());
    }
    for directory in ["/run/netns", "/run/firebuild"] {
        paths(Path::new(directory), id, &mut found);
    }
    let directory = session.root().join("v1/machines").join(id);
    let disk = directory.join("disk.img");
    // The disk of a VM that can be started again stays for as long as its record does.
    if disk.exists() && !directory.join("record.json").exists() {
        found.push(disk.display().to_string());
    }
    found.extend(processes(id).map(|process| format!("process {process:?}")));
    found
}

/// The processes that have `id` among their arguments.
fn processes(id: &str) -> impl Iterator<Item = Pid> {
    fs_err::read_dir("/proc").unwrap().filter_map(move |entry| {
        let path = entry.unwrap().path();
        let number: i32 = path.file_name()?.to_str()?.parse().ok()?;
        let arguments = fs_err::read(path.join("cmdline")).ok()?;
        let named = String::from_utf8_lossy(&arguments).contains(id);
        named.then(|| Pid::from_raw(number))?
    })
}

/// The paths below `directory` that have `id` in their name or in their text.
fn paths(directory: &Path, id: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs_err::read_dir(directory) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let in_text =
            || path.is_file() && fs_err::read_to_string(&path).is_ok_and(|text| text.contains(id));
        if path.display().to_string().contains(id) || in_text() {
            found.push(path.display().to_string());
        } else if path.is_dir() {
            paths(&path, id, found);
        }
    }
}

/// The VM's id from its record.
pub(crate) fn id(record: &serde_json::Value) -> String {
    record["Id"].as_str().unwrap().to_owned()
}

/// Nothing is left of VM `id`. Its supervisor may be about to end: it has told so after everything
/// else was gone.
#[track_caller]
pub(crate) fn assert_gone(session: &Session, id: &str) {
    for process in processes(id) {
        // Not there any more is as good.
        if let Ok(process) = pidfd_open(process, PidfdFlags::empty()) {
            poll(
                &mut [PollFd::new(&process, PollFlags::IN)],
                Some(&LAST_WORDS),
            )
            .unwrap();
        }
    }
    assert_eq!(traces(session, id), Vec::<String>::new());
}
