//! `build --debug`: a shell where a RUN failed, which finds everything as the command left it.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::commands::build_vm;
use crate::mounts::SshAgent;
use crate::session as ready;
use crate::session::{Outcome, Session, output_of};
use crate::traces::assert_gone;

/// Fails in its fourth command, which is given whatever a command can be given.
const TEXT: &str = "\
FROM debian:bookworm-slim
RUN echo one > /one
RUN echo two > /two
RUN mkdir -m 777 /made
ENV COLOUR=blue
ARG SIZE=large
WORKDIR /work
USER games
RUN --network=none \\
    --mount=type=secret,id=key,target=/run/secrets/key,env=KEY,uid=5 \\
    --mount=type=cache,id=debug-test,target=/cache,uid=5 \\
    --mount=type=tmpfs,target=/memory \\
    --mount=type=bind,source=file,target=/context/file <<EOT
#!/bin/sh
test -e /made/partial && echo it is not the first time
cd /tmp && echo partial > /made/partial && echo kept > /cache/file && echo noted > /memory/file
sleep 1000 &
exit 42
EOT
";

const LOOK: &str = "\
cat /one /two /made/partial /run/secrets/key /cache/file /memory/file /context/file
echo $COLOUR $SIZE $KEY
echo $(id -un) $(pwd) $(hostname) $(ls /sys/class/net) $(grep CapEff /proc/self/status | cut -f2)
tty
ls /proc | grep -c '^[0-9]'
ls /dev/pipes
echo to stderr >&2
echo more > /made/more
";

const FOUND: &str = "\
one
two
partial
s3cr3t-value
kept
noted
from the context
blue large s3cr3t-value
games /work buildkitsandbox lo 0000000000000000
not a tty
";

/// `firebuild build` with these arguments and this standard input.
fn build_with_input(session: &Session, text: &str, arguments: &[&str], input: &[u8]) -> Outcome {
    session.write("context/Dockerfile", text);
    let all: Vec<&str> = [&["build"], arguments, &["context"]].concat();
    let mut child = session
        .command(&all)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Its other end may be closed before it has taken everything.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let outcome = child.wait_with_output().unwrap().into();
    writing.join().unwrap();
    outcome
}

fn blobs(session: &Session) -> BTreeSet<String> {
    let blobs = session.root().join("v1/images/blobs");
    let listed = output_of("find", &[blobs.as_os_str(), "-type".as_ref(), "f".as_ref()]);
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_finds_what_the_command_left() {
    let session = ready();
    session.write("context/file", "from the context\n");
    session.write("secret", "s3cr3t-value\n");
    let secret = ["--secret", "id=key,src=secret"];
    // What is made before the step that fails is there from now on.
    session.build(TEXT, &secret).failure();
    let before = blobs(&session);
    let arguments = [&secret[..], &["--debug"]].concat();
    let built = build_with_input(&session, TEXT, &arguments, LOOK.as_bytes());
    assert_eq!(built.status, 125, "{built}");
    // The first process of the step's, its parent's substitution, and the programs in the pipe.
    let rest = built.stdout.strip_prefix(FOUND);
    let rest: Vec<&str> = rest.unwrap_or_else(|| panic!("{built}")).lines().collect();
    let [processes, heredoc] = rest[..] else {
        panic!("{built}");
    };
    assert!(processes.parse::<u32>().unwrap() < 6, "{built}");
    assert_eq!(heredoc, "EOT", "{built}");
    for part in [
        "starting `/bin/sh` where the step failed",
        "\nto stderr\n",
        "error: stage `stage-0`: the command exited with status 42\n",
    ] {
        assert!(built.stderr.contains(part), "{part}: {built}");
    }
    assert!(!built.stderr.contains("warning"), "{built}");
    assert_gone(&session, build_vm(&built.stderr));
    // Nothing is kept of the step, nor of what the shell did.
    assert_eq!(blobs(&session).difference(&before).next(), None);
    let again = session.build(TEXT, &secret).failure();
    assert!(again.contains("exited with status 42"), "{again}");
    assert!(!again.contains("not the first time"), "{again}");
    assert!(!again.contains("starting `/bin/sh`"), "{again}");
    session.ok(&["build", "cache", "rm", "debug-test"]);
}

#[test]
fn the_shell_is_the_dockerfiles_or_the_one_that_was_named() {
    let session = ready();
    let text = "\
FROM debian:bookworm-slim
SHELL [\"/bin/bash\", \"-c\"]
RUN [\"no-such-program\"]
";
    let input = b"echo bash ${BASH_VERSION%%.*}\n";
    let built = build_with_input(&session, text, &["--debug"], input);
    assert_eq!((built.status, built.stdout.as_str()), (125, "bash 5\n"));
    assert!(built.stderr.contains("exited with status 127"), "{built}");
    let input = "through and through\n".repeat(100_000);
    let named = build_with_input(&session, text, &["--debug=cat"], input.as_bytes());
    assert_eq!(named.status, 125, "{}", named.stderr);
    assert!(named.stdout == input, "{} bytes", named.stdout.len());
    let missing = build_with_input(&session, text, &["--debug=/no/shell"], b"");
    assert_eq!((missing.status, missing.stdout.as_str()), (125, ""));
    for part in [
        "cannot start a shell in the failed step: cannot execute `/no/shell`",
        "`--debug=PROGRAM` starts another",
        "exited with status 127",
    ] {
        assert!(missing.stderr.contains(part), "{part}: {missing}");
    }
    assert_gone(&session, build_vm(&missing.stderr));
}

#[test]
fn the_shell_has_the_commands_rights_and_agents() {
    let session = ready();
    let _agent = SshAgent::start(&session);
    let text = "\
FROM debian:bookworm-slim
RUN --security=insecure --mount=type=ssh mount -t tmpfs x /mnt && echo inside > /mnt/file && exit 5
";
    // What a command has mounted itself is there, too; and the agent answers again.
    let input = r#"
cat /mnt/file
umount /mnt && ls /mnt
hostname changed && hostname
exec perl -e '
    use IO::Socket::UNIX;
    my $agent = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die "$!";
    print $agent pack("NC", 1, 11);
    $agent->flush;
    read($agent, my $answer, 9) == 9 or die "no answer";
    my (undef, $kind, $keys) = unpack("NCN", $answer);
    print "$kind: $keys\n";
'
"#;
    let socket = format!("default={}", session.path("socket").display());
    let arguments = ["--debug", "--allow", "security.insecure", "--ssh", &socket];
    let built = build_with_input(&session, text, &arguments, input.as_bytes());
    assert_eq!(built.stdout, "inside\nchanged\n12: 1\n", "{built}");
    assert!(built.stderr.contains("exited with status 5"), "{built}");
}

#[test]
fn the_other_stages_end_before_the_shell_begins() {
    let session = ready();
    let text = "\
FROM debian:bookworm-slim AS slow
RUN echo begun; sleep 1000
FROM debian:bookworm-slim AS broken
RUN sleep 3; exit 9
FROM debian:bookworm-slim
COPY --from=slow /etc/passwd /one
COPY --from=broken /etc/passwd /two
";
    let arguments = ["--debug", "--jobs", "2", "--progress", "json"];
    let built = build_with_input(&session, text, &arguments, b"echo here\n");
    assert_eq!((built.status, built.stdout.as_str()), (125, "here\n"));
    let events: Vec<serde_json::Value> = built
        .stderr
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let at = |event: &str, stage: &str| {
        let found = |one: &serde_json::Value| one["event"] == event && one["stage"] == stage;
        events.iter().position(found)
    };
    let debugging = at("debugging", "broken");
    assert!(debugging.is_some(), "{built}");
    // On a slow machine it may not have started yet.
    if at("vm-starting", "slow").is_some() {
        let ended = at("vm-ended", "slow");
        assert!(ended.is_some() && ended < debugging, "{built}");
    }
    assert!(at("vm-ended", "broken") > debugging, "{built}");
    assert!(built.stderr.contains("exited with status 9"), "{built}");
}

#[test]
fn a_flood_waits_for_its_reader() {
    const SIZE: usize = 24 << 20;
    let session = ready();
    session.write(
        "context/Dockerfile",
        "FROM debian:bookworm-slim\nRUN false\n",
    );
    let mut child = session
        .command(&["build", "--debug", "context"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let script = format!("echo begun; head -c {SIZE} /dev/zero; cat\n");
    stdin.write_all(script.as_bytes()).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut begun = [0; 6];
    stdout.read_exact(&mut begun).unwrap();
    let before = most_memory(child.id());
    let mut left = vec![1; SIZE];
    for piece in left.chunks_mut(1 << 20) {
        stdout.read_exact(piece).unwrap();
    }
    assert!(left.iter().all(|byte| *byte == 0));
    let grown = most_memory(child.id()) - before;
    assert!(grown < 4 << 10, "{grown} KiB");
    // `cat` has waited for this.
    drop(stdin);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(
        (rest, child.wait().unwrap().code()),
        (Vec::new(), Some(125))
    );
}

/// The most memory that a process has had so far, in KiB.
fn most_memory(process: u32) -> u64 {
    let status = fs_err::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.unwrap().split_whitespace().next();
    words.unwrap().parse().unwrap()
}

pub(crate) mod terminal {
    //! The same on a terminal: one of the kernel's, whose other end the test has.

    use std::os::fd::{AsFd as _, OwnedFd};
    use std::process::Child;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

    use super::*;

    /// How long anything may take before the test fails instead of hanging.
    const PATIENCE: Timespec = Timespec {
        tv_sec: 180,
        tv_nsec: 0,
    };

    /// A command on a terminal of its own.
    pub(crate) struct OnTerminal {
        person: OwnedFd,
        /// Held so that the terminal's state outlives the command.
        terminal: OwnedFd,
        child: Child,
        /// What was shown and not awaited yet.
        shown: Vec<u8>,
    }

    impl OnTerminal {
        pub(crate) fn start(session: &Session, arguments: &[&str], size: (u16, u16)) -> Self {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let person = openpt(flags).unwrap();
            unlockpt(&person).unwrap();
            let terminal = ioctl_tiocgptpeer(&person, flags).unwrap();
            let end = || Stdio::from(terminal.try_clone().unwrap());
            let built = session.command(arguments);
            // The program that makes the terminal its own before it becomes the command.
            let mut command = Command::new("setsid");
            command.arg("--ctty").arg(built.get_program());
            command.args(built.get_args()).env("TERM", "some-kind");
            for (name, value) in built.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command.current_dir(built.get_current_dir().unwrap());
            command.stdin(end()).stdout(end()).stderr(end());
            let on = Self {
                child: command.spawn().unwrap(),
                person,
                terminal,
                shown: Vec::new(),
            };
            on.resize(size);
            on
        }

        fn resize(&self, (rows, columns): (u16, u16)) {
            let size = Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            tcsetwinsize(&self.person, size).unwrap();
        }

        fn state(&self) -> Termios {
            tcgetattr(&self.terminal).unwrap()
        }

        /// Waits until the command has ended.
        pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
            self.child.wait().unwrap()
        }

        pub(crate) fn type_in(&self, keys: &[u8]) {
            assert_eq!(rustix::io::write(&self.person, keys).unwrap(), keys.len());
        }

        /// Waits until `part` is shown; the text up to its end.
        #[track_caller]
        pub(crate) fn until(&mut self, part: &str) -> String {
            let mut buffer = [0; 4096];
            loop {
                let found = self.shown.windows(part.len());
                let found = found.into_iter().position(|text| text == part.as_bytes());
                if let Some(at) = found {
                    let rest = self.shown.split_off(at + part.len());
                    let text = std::mem::replace(&mut self.shown, rest);
                    return String::from_utf8_lossy(&text).into_owned();
                }
                let mut awaited = [PollFd::new(&self.person, PollFlags::IN)];
                let ready = poll(&mut awaited, Some(&PATIENCE)).unwrap();
                let shown = String::from_utf8_lossy(&self.shown);
                assert!(ready > 0, "no `{part}`, but {shown}");
                let length = rustix::io::read(self.person.as_fd(), &mut buffer).unwrap();
                self.shown.extend_from_slice(&buffer[..length]);
            }
        }
    }

    impl Drop for OnTerminal {
        fn drop(&mut self) {
            // It may have ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    const TEXT: &str = "FROM debian:bookworm-slim\nUSER games\nENV PS1=ready:\nRUN false\n";

    fn start(session: &Session) -> OnTerminal {
        session.write("context/Dockerfile", TEXT);
        let mut on = OnTerminal::start(session, &["build", "--debug", "context"], (33, 101));
        let before = on.state();
        on.until("starting `/bin/sh`");
        on.until("ready:");
        assert_ne!(on.state().local_modes, before.local_modes);
        on
    }

    #[test]
    fn a_shell_has_the_terminal_until_it_ends() {
        let session = ready();
        let mut on = start(&session);
        on.type_in(b"tty; stty size; echo $TERM; ls -l $(tty)\n");
        let shown = on.until("ready:");
        assert!(
            shown.contains("\r\n/dev/pts/0\r\n33 101\r\nsome-kind\r\n"),
            "{shown}"
        );
        assert!(shown.contains(" games tty "), "{shown}");
        // The kernel tells the shell, and the shell tells us, that the size has changed.
        on.type_in(b"trap 'stty size' WINCH; echo set\n");
        on.until("\r\nset\r\n");
        on.until("ready:");
        on.resize((20, 60));
        on.type_in(b"until [ \"$(stty size)\" = '20 60' ]; do :; done; echo as large\n");
        on.until("\r\nas large\r\n");
        on.until("ready:");
        // A key that would end this command ends the one in the guest.
        on.type_in(b"sh -c 'echo sleeping; exec sleep 1000'\n");
        on.until("\r\nsleeping\r\n");
        on.type_in(b"\x03");
        on.until("ready:");
        on.type_in(b"exit 3\n");
        on.until("exited with status 1");
        assert_eq!(on.child.wait().unwrap().code(), Some(125));
        assert!(
            on.state()
                .local_modes
                .contains(rustix::termios::LocalModes::ECHO)
        );
    }

    #[test]
    fn the_terminal_is_given_back_when_the_build_is_ended() {
        use rustix::process::{Pid, Signal, kill_process};
        let session = ready();
        for signal in [Signal::TERM, Signal::HUP] {
            let mut on = start(&session);
            kill_process(Pid::from_child(&on.child), signal).unwrap();
            on.until("the build was interrupted");
            assert_eq!(on.child.wait().unwrap().code(), Some(125));
            assert!(
                on.state()
                    .local_modes
                    .contains(rustix::termios::LocalModes::ECHO)
            );
        }
    }
}
