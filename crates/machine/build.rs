//! Builds `vminit`, the guest's agent, which the machine crate carries inside itself.
//!
//! The agent is another package with another profile and a static C library, so it takes a cargo
//! of its own: nested, in a target directory of its own, which all profiles of the outer build
//! share and which stays between builds. `FIREBUILD_VMINIT=/path` supplies a finished one instead.

#![allow(
    clippy::print_stdout,
    reason = "a build script speaks to cargo on its standard output"
)]

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the outer cargo sets for this script and the inner one must not see: flags and wrappers
/// that were meant for the outer build, and everything that describes this package and this build.
/// Build scripts of the agent's dependencies ask for some of it, so that any other value, as
/// `cargo clippy` and other profiles have, would make the agent anew.
const LEAKS: [&str; 24] = [
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_TARGET",
    "CARGO_CFG_TARGET_FEATURE",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "DEBUG",
    "HOST",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "TARGET",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=FIREBUILD_VMINIT");
    let output = PathBuf::from(variable("OUT_DIR")?).join("vminit");
    let finished = match env::var_os("FIREBUILD_VMINIT") {
        Some(path) => {
            println!("cargo:rerun-if-changed={}", Path::new(&path).display());
            PathBuf::from(path)
        }
        // Not watched: it is newer than this script's start, so the next build would run the
        // script, and compile all that depends on it, once more for nothing.
        None => build()?,
    };
    let agent = fs_err::read(&finished)?;
    check_static(&agent)
        .map_err(|reason| format!("the agent `{}` {reason}", finished.display()))?;
    println!("cargo:rustc-env=FIREBUILD_INITRAMFS_KEY={}", key(&agent)?);
    fs_err::write(&output, agent)?;
    Ok(())
}

/// What changes whenever an initramfs of the same kernel might: with the agent, and with the code that
/// makes the archive (FNV-1a of 64 bits; nobody else chooses what goes in).
fn key(agent: &[u8]) -> Result<String, Box<dyn Error>> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(agent);
    for source in ["initramfs", "kernel", "modules"] {
        let path = format!("src/boot/{source}.rs");
        println!("cargo:rerun-if-changed={path}");
        add(&fs_err::read(path)?);
    }
    Ok(format!("{hash:016x}"))
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set `{name}`"))
}

fn build() -> Result<PathBuf, Box<dyn Error>> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest
        .ancestors()
        .nth(2)
        .ok_or("the crate is not in its workspace")?;
    for source in [
        "Cargo.toml",
        "Cargo.lock",
        "crates/guest",
        "crates/protocol",
        "crates/core",
    ] {
        println!(
            "cargo:rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let target_directory = target_directory(Path::new(&variable("OUT_DIR")?));
    let mut cargo = Command::new(variable("CARGO")?);
    for name in leaking_variables() {
        cargo.env_remove(name);
    }
    cargo
        .current_dir(workspace)
        .args(["rustc", "--locked", "--quiet"])
        .args(["--package", "firebuild-guest", "--bin", "vminit"])
        .args(["--profile", "guest", "--target-dir"])
        .arg(&target_directory)
        // For the last crate only: as RUSTFLAGS it would break procedural macros. Not relocatable,
        // because an emulated guest takes its time to relocate, at every start of the program.
        .args(["--", "-C", "target-feature=+crt-static", "-C", "relocation-model=static"]);
    let status = cargo.status()?;
    if !status.success() {
        return Err(
            format!("cannot build the guest's agent: {cargo:?} ended with {status}").into(),
        );
    }
    Ok(target_directory.join("guest/vminit"))
}

fn leaking_variables() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        let described = [
            "CARGO_PKG_",
            "CARGO_CFG_",
            "CARGO_FEATURE_",
            "CARGO_PROFILE_",
            "DEP_",
        ];
        LEAKS.contains(&name.as_ref()) || described.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// `OUT_DIR` is `TARGET_DIR/PROFILE/build/PACKAGE-HASH/out`. One directory for all profiles is
/// taken where that holds, so that a debug build and a release build make the agent once.
fn target_directory(out: &Path) -> PathBuf {
    let mut ancestors = out.ancestors().skip(2);
    match (ancestors.next(), ancestors.next(), ancestors.next()) {
        (Some(build), Some(_), Some(target)) if build.ends_with("build") => target.join("vminit"),
        _ => out.join("target"),
    }
}

/// An agent that wants a dynamic linker would die before its first line.
fn check_static(agent: &[u8]) -> Result<(), &'static str> {
    const INTERPRETER: u32 = 3;
    let field = |at: usize, length: usize| {
        let bytes = agent.get(at..at + length)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0_u64, |value, byte| value << 8 | u64::from(*byte)),
        )
    };
    let number = |at, length| field(at, length).ok_or("is too short");
    if !agent.starts_with(b"\x7fELF\x02\x01") {
        return Err("is no 64-bit ELF program");
    }
    let (start, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for index in 0..count {
        let header = usize::try_from(start + index * size).map_err(|_| "is damaged")?;
        if number(header, 4)? == u64::from(INTERPRETER) {
            return Err("is not static: it names a dynamic linker");
        }
    }
    Ok(())
}
