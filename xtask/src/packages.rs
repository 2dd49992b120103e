//! What demo and tests need of others: Debian's packages, and one program of Python's registry.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::shell;

/// Rotel, a receiver of OpenTelemetry's protocol: the version and the digest that are trusted.
const RECEIVER: &str = "rotel==0.0.1a15 \
    --hash=sha256:2f4117e58410c933e0dc042a268ef738dab2e3a5d63b5831209acdac2a6ddcb7\n";

/// What firebuild itself uses, and a client for the demonstration's server.
pub(crate) const DEMO: [&str; 4] = [
    "qemu-system-x86",
    "mmdebstrap",
    "nftables",
    "postgresql-client",
];

/// What the tests judge by.
pub(crate) const TEST: [&str; 25] = [
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
    "python3-pip",
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

/// Puts the receiver below the build directory, where the tests look for it.
///
/// Its package has the program itself, for any Python, and is not installed beyond that directory.
pub(crate) fn receiver(target: &Path) -> anyhow::Result<()> {
    let directory = target.join("tools/rotel-0.0.1a15");
    if directory.join("rotel/rotel-agent").exists() {
        return Ok(());
    }
    shell::say("fetching a receiver for traces");
    let tools = target.join("tools");
    fs_err::create_dir_all(&tools)?;
    // Whole or not at all.
    let partial = tools.join("partial");
    if partial.exists() {
        fs_err::remove_dir_all(&partial)?;
    }
    let wanted = tools.join("rotel.txt");
    fs_err::write(&wanted, RECEIVER)?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
    ])
    .args(["--no-deps", "--require-hashes", "--no-compile"])
    .args(["--only-binary", ":all:", "--python-version", "3.11"])
    .args(["--platform", "manylinux_2_34_x86_64"])
    .arg("--target")
    .arg(&partial)
    .arg("--requirement")
    .arg(&wanted);
    shell::run(&mut pip)?;
    let program = partial.join("rotel/rotel-agent");
    fs_err::set_permissions(program, std::fs::Permissions::from_mode(0o755))?;
    fs_err::rename(partial, directory)?;
    Ok(())
}

fn installed(package: &str) -> bool {
    let status = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output();
    status.is_ok_and(|output| output.stdout == b"installed")
}
