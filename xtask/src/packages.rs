//! The Debian packages that demo and tests need.

use std::process::{Command, Stdio};

use crate::shell;

/// What firebuild itself uses, and a client for the demonstration's server.
pub(crate) const DEMO: [&str; 4] = [
    "qemu-system-x86",
    "mmdebstrap",
    "nftables",
    "postgresql-client",
];

/// What the tests judge by.
pub(crate) const TEST: [&str; 24] = [
    "buildah",
    "bzip2",
    "chromium",
    "containernetworking-plugins",
    "cpio",
    "cryptsetup-bin",
    "docker-registry",
    "e2fsprogs",
    "fish",
    "git",
    "groff",
    "iproute2",
    "iptables",
    "iputils-ping",
    "openssh-client",
    "python3",
    "python3-prometheus-client",
    "skopeo",
    "systemd",
    "time",
    "umoci",
    "xz-utils",
    "zsh",
    "zstd",
];

/// Installs those of `wanted` that are missing; asks no registry if none is.
pub(crate) fn install(wanted: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    shell::say(&format!("installing {}", missing.join(" ")));
    shell::run(Command::new("apt-get").args(["-qq", "update"]))?;
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-qq", "install", "-y", "--no-install-recommends"])
        .args(&missing);
    shell::run(install.stdout(Stdio::null()))
}

fn installed(package: &str) -> bool {
    let status = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output();
    status.is_ok_and(|output| output.stdout == b"installed")
}
