//! One thing of each kind that could be left behind: whoever looks for what is left has to find them all.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command};

use super::place;
use crate::shell;

/// What is left: each stays for as long as this lives, and longer.
#[derive(Debug)]
pub(super) struct Litter {
    _socket: UnixListener,
    _port: TcpListener,
    process: Child,
    /// How each is told of.
    names: Vec<String>,
}

impl Litter {
    /// Leaves one of each, in this world and in the store at `root`.
    pub(super) fn leave(root: &Path) -> anyhow::Result<Self> {
        for words in [
            &["ip", "link", "add", "litter", "type", "bridge"][..],
            &["ip", "address", "add", "192.0.2.77/24", "dev", "uplink"],
            &["ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.1"],
            &["ip", "rule", "add", "from", "192.0.2.78", "table", "7"],
            &["ip", "netns", "add", "litter"],
            &["nft", "add", "table", "inet", "litter"],
            &["mount", "--bind", "/usr", "/opt"],
        ] {
            shell::quiet(Command::new(words[0]).args(&words[1..]))?;
        }
        let mut names: Vec<String> = [
            "left on the host: link: litter ",
            "left on the host: address: uplink ",
            "left on the host: route: 198.51.100.0/24 ",
            "left on the host: route: 32765:",
            "left on the host: rule: table inet litter",
            "left on the host: mount: /opt",
            "left on the host: mount: /run/netns/litter",
            "left on the host: socket: /run/litter.socket",
            "left on the host: port: tcp",
            "left on the host: process: sleep 12345",
            "left on the host: file: /run/netns/litter",
            "left in the store: machines/litter",
            "left in the store: tmp/litter",
            "left in the store: networks/litter",
        ]
        .map(str::to_owned)
        .into();
        for place in place::OWN {
            fs_err::write(format!("{place}/litter"), "")?;
            names.push(format!("left on the host: file: {place}/litter"));
        }
        for hierarchy in place::hierarchies()? {
            let group = hierarchy.join("litter");
            fs_err::create_dir(&group)?;
            names.push(format!("left on the host: cgroup: {}", group.display()));
        }
        for directory in ["machines", "tmp", "networks"] {
            fs_err::create_dir_all(root.join(directory))?;
            fs_err::write(root.join(directory).join("litter"), "")?;
        }
        Ok(Self {
            _socket: UnixListener::bind("/run/litter.socket")?,
            _port: TcpListener::bind("127.0.0.1:0")?,
            process: Command::new("sleep").arg("12345").spawn()?,
            names,
        })
    }

    /// What nobody tells of.
    pub(super) fn missing(mut self, told: &[String]) -> Vec<String> {
        let missing = std::mem::take(&mut self.names);
        let squeezed = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ") + " ";
        let told: Vec<String> = told.iter().map(squeezed).collect();
        missing
            .into_iter()
            .filter(|name| !told.iter().any(|line| line.starts_with(name.as_str())))
            .collect()
    }
}

impl Drop for Litter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
