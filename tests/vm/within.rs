//! What is done in a VM that runs: more processes, files, figures, health.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::debug::terminal::OnTerminal;
use crate::live::Named;
use crate::session::{Outcome, Session};
use crate::{BASE, session};

fn run(session: &Session, name: &str, more: &[&str]) {
    let arguments = [&["run", "-d", "--name", name][..], more].concat();
    session.ok(&arguments);
}

fn piped(session: &Session, arguments: &[&str], input: &[u8]) -> Outcome {
    let mut command = session.command(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let typing = std::thread::spawn(move || stdin.write_all(&input));
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    let _ = typing.join();
    outcome
}

#[test]
fn processes_run_beside_the_workload() {
    let session = session();
    let vm = Named::new(&session, "within");
    let workload = ["-e", "A=run", "-w", "/usr", BASE, "--", "sleep", "1000"];
    run(&session, vm.name, &workload);
    let script = "echo $A $B $HOME $PWD $(id -u); echo wrong >&2; exit 7";
    let ran = session.run(&[
        "exec", "-u", "games", "-e", "B=exec", vm.name, "--", "sh", "-c", script,
    ]);
    let expected = (7, "run exec /usr/games /usr 5\n", "wrong\n");
    let found = (ran.status, ran.stdout.as_str(), ran.stderr.as_str());
    assert_eq!(found, expected, "{ran}");
    for (arguments, status) in [
        (&["exec", vm.name, "nowhere"][..], 127),
        (&["exec", vm.name, "/etc/passwd"], 126),
        (&["exec", "-w", "/nowhere", vm.name, "true"], 126),
        (&["exec", "-u", "nobody-here", vm.name, "true"], 125),
        (&["exec", vm.name, "sh", "-c", "kill -9 $$"], 137),
        (&["exec", "-it", vm.name, "true"], 125),
        (&["exec", "nobody", "true"], 125),
    ] {
        let ran = session.run(arguments);
        assert_eq!(ran.status, status, "{arguments:?}: {ran}");
    }
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let ran = piped(&session, &["exec", "-i", vm.name, "sha256sum"], &bytes);
    let expected = firebuild_core::Digest::of(&bytes);
    assert!(ran.stdout.starts_with(&expected.hex()), "{ran}");
    std::thread::scope(|scope| {
        for number in 0..12 {
            let session = &session;
            scope.spawn(move || {
                let text = format!("number {number}");
                let said = session.ok(&["exec", "within", "echo", &text]);
                assert_eq!(said.trim_end(), text);
            });
        }
    });
    session.ok(&[
        "exec",
        "-d",
        vm.name,
        "sh",
        "-c",
        "sleep 900 & echo $! > /left",
    ]);
    let top = session.ok(&["top", vm.name, "-o", "pid,args"]);
    assert!(top.contains("sleep 1000"), "{top}");
    // Nor is the one that waits for what the next `exec` wants.
    assert!(!top.contains("/proc/self/exe"), "{top}");
    let stats = session.ok(&["stats", "--no-stream", "--format", "json", vm.name]);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert!(stats["MemoryUsed"].as_u64() > Some(1 << 20), "{stats}");
    assert!(stats["HostMemory"].as_u64() > Some(1 << 20), "{stats}");
    session.ok(&["stop", "-t", "0", vm.name]);
    let said = session.run(&["exec", vm.name, "true"]).failure();
    assert!(said.contains("does not run"), "{said}");
}

#[test]
fn a_terminal_is_that_of_the_process() {
    let session = session();
    let vm = Named::new(&session, "seen");
    run(&session, vm.name, &["-it", BASE, "--", "sh"]);
    let mut shell = OnTerminal::start(&session, &["exec", "-it", vm.name, "sh"], (31, 97));
    shell.until("# ");
    shell.type_in(b"stty size; tty; exit 5\n");
    shell.until("31 97");
    shell.until("/dev/pts/");
    assert_eq!(shell.ended().code(), Some(5));
    let mut attached = OnTerminal::start(&session, &["attach", vm.name], (21, 87));
    attached.type_in(b"echo $((40 + 2)); stty size\r");
    attached.until("42");
    attached.until("21 87");
    // Left, and not ended.
    attached.type_in(b"\x10\x11");
    assert_eq!(attached.ended().code(), Some(0));
    assert_eq!(vm.inspect()["State"]["Status"], "Running");
    let mut attached = OnTerminal::start(&session, &["attach", vm.name], (21, 87));
    attached.type_in(b"exit 6\r");
    assert_eq!(attached.ended().code(), Some(6));
}

#[test]
fn files_go_both_ways() {
    let session = session();
    let vm = Named::new(&session, "copied");
    run(&session, vm.name, &[BASE, "--", "sleep", "1000"]);
    let script = "mkdir -p /a/tree && cd /a/tree && echo text > file && ln file again && ln -s /etc/passwd link \
                  && truncate -s 20M sparse && echo end >> sparse && chown -R 7:8 . && chmod 4750 file";
    session.ok(&["exec", vm.name, "sh", "-c", script]);
    let there = session.path("there");
    let path = there.to_str().unwrap();
    session.ok(&["cp", "copied:/a/tree", path]);
    let found = fs_err::metadata(there.join("file")).unwrap();
    assert_eq!(
        (
            found.mode() & 0o7777,
            found.uid(),
            found.gid(),
            found.nlink()
        ),
        (0o4750, 7, 8, 2)
    );
    let target = fs_err::read_link(there.join("link")).unwrap();
    assert_eq!(target.to_str(), Some("/etc/passwd"));
    let sparse = fs_err::metadata(there.join("sparse")).unwrap();
    assert_eq!(sparse.len(), (20 << 20) + 4);
    assert!(sparse.blocks() * 512 < 1 << 20);
    let back = format!("{path}/.");
    session.ok(&["cp", &back, "copied:/b"]);
    let script = "cd /b && stat -c '%a %u:%g %h' file && readlink link && du -k sparse && cmp sparse /a/tree/sparse && echo same";
    let said = session.ok(&["exec", vm.name, "sh", "-c", script]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["4750 7:8 2", "/etc/passwd"], "{said}");
    let used: u64 = lines[2].split_whitespace().next().unwrap().parse().unwrap();
    assert!(used < 1000 && lines[3] == "same", "{said}");
    let failed = session.run(&["cp", "copied:/none", path]).failure();
    assert!(failed.contains("/none"), "{failed}");
    let failed = session.run(&["cp", path, "copied:/etc/passwd"]).failure();
    assert!(failed.contains("is not a directory"), "{failed}");
}

#[test]
fn health_is_looked_into() {
    let session = session();
    let vm = Named::new(&session, "healthy");
    let check = [
        "--health-cmd",
        "test -e /well || { echo ill; false; }",
        "--health-interval",
        "300ms",
        "--health-retries",
        "2",
    ];
    run(
        &session,
        vm.name,
        &[&check[..], &[BASE, "--", "sleep", "1000"]].concat(),
    );
    let until = |status: &str| {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let health = vm.inspect()["Health"].clone();
            if health["Status"] == status {
                return health;
            }
            assert!(Instant::now() < end, "{health}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let ill = until("unhealthy");
    let log = ill["Log"].as_array().unwrap();
    assert!(
        log.len() <= 5 && log[0]["ExitCode"] == 1 && log[0]["Output"] == "ill\n",
        "{ill}"
    );
    session.ok(&["exec", vm.name, "touch", "/well"]);
    until("healthy");
    assert!(session.ok(&["ls"]).contains("running (healthy)"));
}
