//! Images with an init and an SSH server of their own: machines, and who comes in.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::live::Named;
use crate::session;
use crate::session::{Outcome, Session};

/// A Debian with systemd and an SSH server, and no host keys.
const MACHINE: &str = "test/machine:1";

/// A session that has [`MACHINE`]. Making it takes a minute and a half, so it stays for the next time.
fn with_machine() -> Session {
    let session = session();
    if session.run(&["image", "inspect", MACHINE]).status != 0 {
        session.ok(&[
            "baseos",
            "--bootstrap",
            "debian:bookworm",
            "--include",
            "systemd-sysv,dbus,openssh-server",
            "--tag",
            "test/machine-base:1",
        ]);
        let text =
            "FROM test/machine-base:1\nRUN rm /etc/ssh/ssh_host_*\nCMD [\"sleep\", \"1000\"]\n";
        session.build(text, &["-t", MACHINE]).success();
    }
    session
}

/// A pair of keys; the public one.
fn key(session: &Session) -> PathBuf {
    let private = session.path("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&private)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    private.with_extension("pub")
}

/// Starts a machine that a user can come into with a key.
fn run_for(session: &Session, name: &str, (user, key): (&str, &Path), options: &[&str]) {
    let key = key.to_str().unwrap();
    let access = ["--ssh-user", user, "--identity-file", key];
    let start = ["run", "-d", "--name", name];
    session.ok(&[&start[..], &access, options, &[MACHINE]].concat());
}

/// What a person does with the command that `firebuild ssh` prints.
fn by_ssh(session: &Session, vm: &str, command: &str) -> Outcome {
    let printed = session.ok(&["ssh", "--print", vm, command]);
    assert!(printed.starts_with("ssh "), "{printed}");
    Outcome::of(Command::new("sh").args(["-c", &printed]))
}

#[test]
fn an_image_with_systemd_comes_up_as_a_machine() {
    let session = with_machine();
    let key = key(&session);
    let machine = Named::new(&session, "machine");
    run_for(&session, machine.name, ("root", &key), &["--init-system"]);
    // All units are up, and none has failed.
    let wait = "until systemctl is-system-running --wait 2> /dev/null | grep -qx 'running\\|degraded'; \
                do sleep 0.2; done; systemctl is-system-running || systemctl --failed";
    let state = session.run(&["exec", "machine", "--", "sh", "-c", wait]);
    assert_eq!(state.stdout, "running\n", "{state}");
    let processes = session.ok(&["exec", "machine", "--", "cat", "/proc/1/comm"]);
    assert_eq!(processes, "systemd\n");
    let logged = session.ok(&["logs", "--console", "machine"]);
    assert!(logged.contains("Reached target"), "{logged}");
    // The server is the one that systemd started, with the key that was put in place.
    let entered = by_ssh(&session, "machine", "hostname; systemctl is-active ssh").success();
    assert_eq!(entered.stdout, "machine\nactive\n");
    session.ok(&["stop", "machine"]);
    let ended = machine.inspect();
    assert_eq!(ended["State"]["Status"], "Stopped", "{ended}");
    assert_eq!(ended["State"]["Exit"]["Status"], 0, "{ended}");
}

#[test]
fn the_images_ssh_server_runs_beside_any_workload() {
    let session = with_machine();
    let key = key(&session);
    let keyed = Named::new(&session, "keyed");
    run_for(&session, keyed.name, ("games", &key), &[]);
    let script = "whoami; ls /etc/ssh/*_key";
    let refused = by_ssh(&session, "keyed", script);
    assert!(
        refused.stdout.contains("account is currently not"),
        "{refused}"
    );
    let shell = ["exec", "keyed", "--", "chsh", "-s", "/bin/sh", "games"];
    session.ok(&shell);
    let entered = by_ssh(&session, "keyed", script).success();
    assert_eq!(
        entered.stdout,
        "games\n/etc/ssh/firebuild_host_ed25519_key\n"
    );
    let other = session.path("other");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&other)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs_err::rename(&other, session.path("key")).unwrap();
    let stranger = by_ssh(&session, "keyed", "true");
    assert_eq!(stranger.status, 255, "{stranger}");
    assert!(stranger.stderr.contains("Permission denied"), "{stranger}");
    let without = session.run(&[
        "run",
        "--rm",
        "--ssh-user",
        "root",
        "--identity-file",
        key.to_str().unwrap(),
        crate::BASE,
        "true",
    ]);
    assert!(without.stderr.contains("openssh-server"), "{without}");
}
