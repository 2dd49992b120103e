//! What the address plugin `host-local` leaves where it is killed: it makes an address's file first, and
//! writes whose the address is afterwards. A file in which nothing stands is nobody's, is never
//! released, and keeps its address from everybody.
//!
//! Its files are those of version 1 of the reference plugins: a directory for each network, with a file
//! for each address that is given, and one on which every plugin at work holds a lock.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::configuration::NetworkList;

/// The name of the plugin.
const KIND: &str = "host-local";

/// Where its files are unless the configuration says otherwise.
const DATA: &str = "/var/lib/cni/networks";

/// The file that is locked.
const LOCK: &str = "lock";

/// How often the lock is tried, and how long after each other.
const TRIES: (u32, Duration) = (100, Duration::from_millis(10));

/// Releases the addresses of a network that are nobody's. Where a plugin works for longer than a
/// second, they are left for the next time.
///
/// # Errors
/// A file or directory cannot be read or removed.
pub(super) fn sweep(list: &NetworkList) -> io::Result<()> {
    let plugins = list.plugins.iter();
    let ipams = plugins.filter_map(|plugin| plugin.configuration.get("ipam"));
    for ipam in ipams.filter(|ipam| ipam["type"] == KIND) {
        let data = ipam["dataDir"].as_str().filter(|path| !path.is_empty());
        let data: PathBuf = data.unwrap_or(DATA).into();
        match sweep_in(&data.join(&list.name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

fn sweep_in(directory: &Path) -> io::Result<()> {
    let lock = fs_err::File::open(directory.join(LOCK))?;
    if !is_had(&lock)? {
        return Ok(());
    }
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_address = name
            .to_str()
            .is_some_and(|name| name.parse::<IpAddr>().is_ok());
        let facts = entry.metadata()?;
        if is_address && facts.is_file() && facts.len() == 0 {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Takes the lock, if it can be had soon.
fn is_had(lock: &fs_err::File) -> io::Result<bool> {
    let (most, pause) = TRIES;
    for _ in 0..most {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            // Whoever holds it does not tell when it lets go.
            Err(Errno::WOULDBLOCK) => std::thread::sleep(pause),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nobodys_goes_unless_a_plugin_is_at_work() {
        let data = tempfile::tempdir().unwrap();
        let network = data.path().join("machines");
        fs_err::create_dir(&network).unwrap();
        let nobodys = ["10.1.2.3", "fd00::7"];
        let kept = ["10.1.2.4", "last_reserved_ip.0", "10.1.2", "lock"];
        for name in nobodys.iter().chain(&kept) {
            let content = if *name == "10.1.2.4" {
                "vm\r\neth0"
            } else {
                ""
            };
            fs_err::write(network.join(name), content).unwrap();
        }
        let text = serde_json::json!({
            "cniVersion": "1.0.0", "name": "machines", "type": "bridge",
            "ipam": {"type": KIND, "dataDir": data.path()},
        });
        let list = NetworkList::read(text.to_string().as_bytes()).unwrap();
        let there = |names: &[&str]| {
            let mut names = names.iter();
            names.all(|name| network.join(name).exists())
        };
        let at_work = fs_err::File::open(network.join(LOCK)).unwrap();
        flock(&at_work, FlockOperation::LockExclusive).unwrap();
        sweep(&list).unwrap();
        assert!(there(&nobodys) && there(&kept));
        drop(at_work);
        sweep(&list).unwrap();
        assert!(nobodys.iter().all(|name| !network.join(name).exists()));
        assert!(there(&kept));
        fs_err::remove_dir_all(&network).unwrap();
        sweep(&list).unwrap();
    }
}
