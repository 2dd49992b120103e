//! The unit that starts VMs with the host.

use std::path::Path;
use std::process::Command;

use crate::session;

/// What systemd says of a unit.
fn complaints(unit: &Path) -> String {
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(unit)
        .output()
        .unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_unit_is_shown_written_and_removed() {
    let (session, _place) = session();
    let units = session.path("units");
    fs_err::create_dir(&units).unwrap();
    let directory = units.to_str().unwrap();
    let shown = session.ok(&["system", "install", "--print"]);
    let root = session.root().display().to_string();
    assert!(
        shown.contains("system boot") && shown.contains(&root),
        "{shown}"
    );
    assert!(fs_err::read_dir(&units).unwrap().next().is_none());
    let said = session
        .run(&["system", "install", "--unit-dir", directory])
        .failure();
    assert!(said.contains("hint: give --yes"), "{said}");
    for _ in 0..2 {
        session.ok(&["system", "install", "--unit-dir", directory, "--yes"]);
    }
    let unit = units.join("firebuild.service");
    assert_eq!(fs_err::read_to_string(&unit).unwrap(), shown);
    assert_eq!(complaints(&unit), "");
    let wrong = session.write("wrong/firebuild.service", shown.replace("Wants=", "Wnats="));
    assert!(complaints(&wrong).contains("Wnats"));
    session.ok(&["system", "uninstall", "--unit-dir", directory, "--yes"]);
    assert!(!unit.exists());
    session.ok(&["system", "uninstall", "--unit-dir", directory, "--yes"]);
    fs_err::write(&unit, "[Unit]").unwrap();
    for command in ["install", "uninstall"] {
        let refused = session.run(&["system", command, "--unit-dir", directory, "--yes"]);
        let said = refused.failure();
        assert!(said.contains("was not written by firebuild"), "{said}");
    }
    assert!(unit.exists());
}

#[test]
fn a_host_without_vms_starts_and_ends() {
    let (session, _place) = session();
    assert_eq!(session.ok(&["system", "boot"]), "");
    assert_eq!(session.ok(&["system", "halt"]), "");
}
