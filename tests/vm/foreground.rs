//! `run` in the foreground: what the workload gets, and what comes back.

use rustix::process::Signal;

use crate::live::{Live, Named};
use crate::session::Outcome;
use crate::traces::{assert_gone, id};
use crate::{BASE, session};

const ALL: &str = r#"
echo "hostname $(hostname)"
echo "env $A $B $C"
. /etc/profile.d/run-env.sh; echo "profile $A $C"
echo "user $(id -u):$(id -g) $PWD $HOME"
echo "hosts $(grep -c "$(hostname)" /etc/hosts)"
grep -q ^nameserver /etc/resolv.conf && echo resolver
echo "root $(awk '$2 == "/" { print $3 }' /proc/mounts)"
touch /tmp/mine && echo writable
# An orphan is reaped by the agent, whose child it becomes.
sh -c 'sh -c "exit 0" & exec true'
tries=0
while grep -lq '^State:.Z' /proc/[0-9]*/status 2>/dev/null && [ $tries -lt 100 ]; do tries=$((tries + 1)); done
[ $tries -lt 100 ] && echo reaped
echo wrong >&2
exit 3
"#;

#[test]
fn a_workload_gets_what_was_said_and_its_end_comes_back() {
    let session = session();
    let file = session.write("env", "# a comment\nA=file\nB=file\n\nC=of many words\n");
    let ran = session.run(&[
        "run",
        "--rm",
        "--hostname",
        "chosen",
        "--env-file",
        file.to_str().unwrap(),
        "-e",
        "A=flag",
        "-u",
        "games",
        "-w",
        "/usr",
        BASE,
        "--",
        "sh",
        "-c",
        ALL,
    ]);
    let expected = "\
hostname chosen
env flag file of many words
profile flag of many words
user 5:60 /usr /usr/games
hosts 1
resolver
root overlay
writable
reaped
";
    assert_eq!((ran.status, ran.stdout.as_str()), (3, expected), "{ran}");
    assert!(ran.stderr.ends_with("wrong\n"), "{ran}");
}

#[test]
fn what_cannot_be_started_says_why() {
    let session = session();
    for (program, status) in [("/nowhere", 127), ("/etc/passwd", 126)] {
        let ran = session.run(&["run", "--rm", BASE, "--", program]);
        assert_eq!(ran.status, status, "{ran}");
        assert!(ran.stderr.contains(program), "{ran}");
    }
    let left = session.json(&["ls", "-a", "--format", "json"]);
    assert_eq!(left, serde_json::json!([]));
}

#[test]
fn a_signal_reaches_the_workload() {
    let session = session();
    let vm = Named::new(&session, "signalled");
    let script = "trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let arguments = ["run", "--name", vm.name, BASE, "--", "sh", "-c", script];
    let mut run = Live::start(&mut session.command(&arguments));
    run.until("ready");
    let id = id(&vm.inspect());
    run.signal(Signal::TERM);
    let (status, said) = run.end();
    assert_eq!(status, Some(7), "{said}");
    assert!(said.ends_with("caught"), "{said}");
    assert_gone(&session, &id);
    let record = vm.inspect();
    assert_eq!(record["State"]["Status"], "Stopped", "{record}");
    assert_eq!(session.ok(&["logs", vm.name]), "ready\ncaught\n");
    session.ok(&["rm", vm.name]);
    assert_eq!(session.run(&["inspect", vm.name]).status, 125);
}

#[test]
fn without_a_vmm_nothing_is_begun() {
    let session = session();
    // The first time, the image's root file system is made; nothing is to be seen of that here.
    let mut run = session.command(&["run", "--name", "nothing", BASE, "--", "true"]);
    let said = Outcome::of(run.env("PATH", "/nonexistent")).failure();
    assert!(said.contains("qemu-system"), "{said}");
    assert!(said.contains("hint: ") && said.contains("apt"), "{said}");
    assert_eq!(session.run(&["inspect", "nothing"]).status, 125);
}
