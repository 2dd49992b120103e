//! What worlds run: programs, and a store to begin with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::place;
use super::world::IMAGE;
use crate::shell;

/// Builds what is run, Firecracker's stand-in only if it is wanted, and a store to copy.
pub(super) fn prepare(root: &Path, wants_firecracker: bool) -> anyhow::Result<PathBuf> {
    shell::cargo(&["build", "--quiet", "--package", "firebuild"])?;
    let guest = [
        "--package",
        "firebuild-builder",
        "--example",
        "process_guest",
    ];
    shell::cargo(&[&["build", "--quiet"], &guest[..]].concat())?;
    let target = shell::target(root);
    // Where those who have given up their rights can get at it.
    let directory = std::env::temp_dir().join(format!("firebuild-faults-{}", std::process::id()));
    let programs = directory.join("bin");
    fs_err::create_dir_all(&programs)?;
    fs_err::copy(target.join("debug/firebuild"), programs.join("firebuild"))?;
    let guest = target.join("debug/examples/process_guest");
    fs_err::copy(guest, programs.join("process_guest"))?;
    let vmm = programs.join(format!("qemu-system-{}", std::env::consts::ARCH));
    fs_err::write(&vmm, vmm_script())?;
    shell::quiet(Command::new("chmod").arg("755").arg(&vmm))?;
    let template = directory.join("template");
    fs_err::create_dir_all(template.join("context"))?;
    fs_err::write(template.join("context/file"), "some content")?;
    fs_err::write(
        template.join("context/Dockerfile"),
        format!(
            "FROM {IMAGE}\nCOPY file /copied\nRUN touch first\nRUN touch second\nCOPY file /last\n"
        ),
    )?;
    fs_err::create_dir_all(template.join("cni"))?;
    fs_err::write(template.join("cni/machines.conflist"), NETWORK)?;
    if wants_firecracker {
        stand_in(&programs.join("stand-in"))?;
    }
    fs_err::write(template.join("kernel"), kernel())?;
    fs_err::write(
        template.join("Smallfile"),
        "FROM scratch\nCOPY file /file\n",
    )?;
    let firebuild = |words: &[&str]| {
        let mut command = Command::new(programs.join("firebuild"));
        command
            .arg("--root")
            .arg(template.join("store"))
            .args(words);
        shell::quiet(command.current_dir(&template))
    };
    firebuild(&["kernel", "import", "--id", "stand-in", "kernel"])?;
    firebuild(&["build", "-t", IMAGE, "-f", "Smallfile", "context"])?;
    Ok(directory)
}

/// A network by CNI, of plugins that Debian has.
const NETWORK: &str = r#"{
  "name": "machines",
  "cniVersion": "0.4.0",
  "plugins": [
    {
      "type": "bridge", "bridge": "machines0", "isDefaultGateway": true,
      "ipam": { "type": "host-local", "subnet": "192.168.127.0/24" }
    },
    { "type": "tc-redirect-tap" }
  ]
}"#;

/// Puts the programs there that stand in for Firecracker and its jailer in the tests of its driver.
fn stand_in(directory: &Path) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words =
        "test --package firebuild-machine --test firecracker --no-run --message-format json";
    let built = shell::output(Command::new(cargo).args(words.split(' ')))?;
    let program = built
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["target"]["name"] == "firecracker")
        .find_map(|line| line["executable"].as_str().map(PathBuf::from))
        .context("cargo does not say what it has built")?;
    fs_err::create_dir_all(directory)?;
    fs_err::write(directory.join("behaviour.json"), r#"{"minor": 12}"#)?;
    fs_err::copy(&program, directory.join("firecracker"))?;
    fs_err::hard_link(directory.join("firecracker"), directory.join("jailer"))?;
    Ok(())
}

/// A program with the name of a VMM, that starts a process in place of a VM.
fn vmm_script() -> String {
    format!(
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do\n  case $1 in -append) export FIREBUILD_COMMAND_LINE=\"$2\";; -chardev) case $2 in socket,id=control,fd=*) export FIREBUILD_CONTROL=${{2##*=}};; esac;; esac\n  shift\ndone\necho guest\nexec {}/bin/process_guest\n",
        place::BASE
    )
}

/// The least that is taken for a kernel: an ELF file for x86-64 with something to load, the note by
/// which it is entered, and a release.
fn kernel() -> Vec<u8> {
    const HEADERS: u8 = 0x40;
    const HEADER: u8 = 0x38;
    let notes = [&[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0][..], b"Xen\0abcd"].concat();
    let mut file = vec![0; usize::from(HEADERS + 2 * HEADER)];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[0x12] = 62;
    file[0x20] = HEADERS;
    file[0x36] = HEADER;
    file[0x38] = 2;
    for (index, kind) in [1, 4].into_iter().enumerate() {
        let header = usize::from(HEADERS) + index * usize::from(HEADER);
        file[header] = kind;
        file[header + 8] = HEADERS + 2 * HEADER;
        file[header + 32] = 20;
    }
    file.extend(notes);
    file.extend(b"Linux version 6.1.0-stand-in (none) #1 SMP\n\0");
    file
}

/// A copy of the store that nobody has touched yet, in the directory `name` of `directory`.
pub(super) fn fresh(directory: &Path, name: &str) -> anyhow::Result<()> {
    let copy = directory.join(name);
    if copy.exists() {
        fs_err::remove_dir_all(&copy)?;
    }
    let template = directory.join("template");
    shell::quiet(Command::new("cp").arg("-a").args([&template, &copy]))?;
    Ok(())
}
