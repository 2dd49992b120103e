//! What a RUN is given beside its root: mounts, secrets, agents; its network, name and rights.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use crate::session;
use crate::session::{Outcome, Session, output_of};

/// Every line of `expected` was written by a RUN.
#[track_caller]
fn assert_shown(built: &Outcome, expected: &[&str]) {
    for line in expected {
        let shown = |text: &str| text.split_once("] ").is_some_and(|(_, rest)| rest == *line);
        assert!(built.stderr.lines().any(shown), "{line}: {built}");
    }
}

/// A cache that no earlier test has filled.
fn cache() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!("mounts-{}", now.unwrap().as_nanos())
}

#[test]
fn mounts_are_there_for_one_run_and_leave_no_trace() {
    let session = session();
    for (file, content) in [
        ("context/sub/deep/file", "bound\n"),
        ("context/one", "single\n"),
        ("context/sub/.wh.deep", "plain\n"),
        ("secret", "s3cr3t-value"),
    ] {
        session.write(file, content);
    }
    let text = "\
FROM debian:bookworm-slim AS other
RUN mkdir -p /from/seed && echo other > /from/file && echo seed > /from/seed/file
FROM debian:bookworm-slim
RUN rm -rf /opt
RUN --mount=type=bind,source=sub,target=/mnt \\
    --mount=type=bind,source=one,target=/new/single,rw \\
    --mount=type=bind,from=other,source=/from,target=/opt/from,rw \\
    --mount=type=cache,id=ID,target=/var/cache/deep/x,mode=0700,uid=33 \\
    --mount=type=cache,id=seeded-ID,from=other,source=/from/seed,target=/seeded \\
    --mount=type=tmpfs,target=/memory,size=1m \\
    --mount=type=tmpfs,target=/memory/below \\
    --mount=type=secret,id=key,env=KEY,target=/run/secrets/key,uid=33,mode=0440 \\
    --mount=type=ssh <<EOT
set -e
cat /mnt/.wh.deep /mnt/deep/file /new/single /opt/from/file /seeded/file
(touch /mnt/x || echo 'read-only') 2> /dev/null
echo changed > /new/single
echo changed > /opt/from/file
echo more >> /var/cache/deep/x/lines
echo lines: $(wc -l < /var/cache/deep/x/lines)
stat -c '%a %u %n' /var/cache/deep/x /run/secrets/key
test \"$KEY\" = \"$(cat /run/secrets/key)\" && echo ${#KEY} letters
(head -c 2m /dev/zero > /memory/file || echo full) 2> /dev/null
touch /memory/below/x
echo $SSH_AUTH_SOCK
ls -d /run/buildkit 2> /dev/null || echo no agent
EOT
RUN --mount=type=secret,id=key,target=/outer/inner/key --mount=type=tmpfs,target=/outer \\
    --mount=type=cache,id=ID,target=/other,mode=0711,uid=44 <<EOT
stat -c '%a %u %n' /other
test -s /outer/inner/key && echo nested
EOT
RUN <<EOT
for path in /outer /other /new /opt /var/cache/deep /memory /run/secrets /run/buildkit /seeded /mnt/deep; do
  test -e $path && echo left $path
done
echo done
EOT
";
    let text = text.replace("ID", &cache());
    let arguments = ["--no-cache", "--secret", "id=key,src=secret"];
    for lines in ["lines: 1", "lines: 2"] {
        let built = session.build(&text, &arguments).success();
        let expected = [
            "plain",
            "bound",
            "single",
            "other",
            "seed",
            "read-only",
            lines,
            "700 33 /var/cache/deep/x",
            "440 33 /run/secrets/key",
            "12 letters",
            "full",
            "/run/buildkit/ssh_agent.0",
            "no agent",
            // As it was when it was new.
            "700 33 /other",
            "nested",
            "done",
        ];
        assert_shown(&built, &expected);
        assert!(!built.stderr.contains("] left "), "{built}");
    }
}

#[test]
fn a_mount_that_cannot_be_fails_the_step() {
    let session = session();
    session.write("context/sub/file", "");
    let text = "\
FROM debian:bookworm-slim
RUN --mount=type=bind,source=sub,target=/etc/passwd true
";
    let built = session.build(text, &[]);
    assert_ne!(built.status, 0, "{built}");
    let reason = "cannot mount on `/etc/passwd`: what is there is not a directory";
    assert!(built.stderr.contains(reason), "{built}");
}

/// An agent with one key, at `socket`, ended with the test.
pub(crate) struct SshAgent(Child);

impl SshAgent {
    pub(crate) fn start(session: &Session) -> Self {
        let mut process = Command::new("ssh-agent")
            .arg("-D")
            .args(["-a".as_ref(), session.path("socket").as_os_str()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It says where it listens when it does.
        let mut line = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let agent = Self(process);
        let key = session.path("key");
        for (program, arguments) in [
            ("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f"][..]),
            ("ssh-add", &["-q"]),
        ] {
            let mut command = Command::new(program);
            command.env("SSH_AUTH_SOCK", session.path("socket"));
            let status = command.args(arguments).arg(&key).status();
            assert!(status.unwrap().success(), "{program}");
        }
        agent
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn an_agent_of_the_hosts_lists_its_keys_and_nothing_else() {
    let session = session();
    let _agent = SshAgent::start(&session);
    let text = r#"
FROM debian:bookworm-slim
RUN --mount=type=ssh,mode=0666 <<ASK
#!/usr/bin/perl
use IO::Socket::UNIX;
sub ask {
    my $agent = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die "$!";
    print $agent pack("NC", 1, $_[0]);
    $agent->flush;
    my ($head, $body);
    read($agent, $head, 4) == 4 or die "no answer";
    read($agent, $body, unpack("N", $head));
    return unpack("C", $body) . " with " . length($body);
}
print "listed: ", (split / /, ask(11))[0], "\n";
print "removed: ", ask(19), "\n";
print "listed again: ", (ask(11) =~ / with 5$/ ? "none" : "a key"), "\n";
ASK
"#;
    let socket = format!("default={}", session.path("socket").display());
    let built = session.build(text, &["--no-cache", "--ssh", &socket]);
    let expected = ["listed: 12", "removed: 5 with 1", "listed again: a key"];
    assert_shown(&built.success(), &expected);
}

/// What asks the agent of a RUN: for its keys, for a signature, and to forget all keys.
const SIGNER: &str = r#"
use IO::Socket::UNIX;
use MIME::Base64;
sub ask {
    my ($agent, $body) = (IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) || die("$!"), "");
    print $agent pack("N/a*", $_[0]);
    $agent->flush;
    read($agent, my $head, 4) == 4 or die "no answer";
    read($agent, $body, unpack("N", $head));
    return $body;
}
my ($kind, $count, $key) = unpack("CNN/a*", ask(pack("C", 11)));
print "$count: ", encode_base64($key, ""), "\n";
my ($signed, $signature) = unpack("CN/a*", ask(pack("CN/a*N/a*N", 13, $key, "data", 0)));
print "$signed with ", length($signature), "\n";
print join(" ", unpack("C*", ask(pack("C", 19)))), "\n";
"#;

#[test]
fn a_key_given_to_the_build_signs_and_is_nowhere_else() {
    let session = session();
    let key = session.path("key");
    output_of(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()],
    );
    session.write("context/signer", SIGNER);
    let text = "\
FROM debian:bookworm-slim
RUN --mount=type=ssh,id=deploy --mount=type=bind,source=signer,target=/signer perl /signer
";
    let given = format!("deploy={}", key.display());
    let built = session.build(text, &["--no-cache", "--ssh", &given]);
    let built = built.success();
    let public = fs_err::read_to_string(key.with_extension("pub")).unwrap();
    let listed = format!("1: {}", public.split(' ').nth(1).unwrap());
    // SSH_AGENT_SIGN_RESPONSE, and SSH_AGENT_FAILURE.
    assert_shown(&built, &[&listed, "14 with 83", "5"]);
    let text = fs_err::read_to_string(&key).unwrap();
    // The line that has the private half and hardly anything else.
    let secret = text.lines().rev().nth(2).unwrap();
    assert!(!built.stderr.contains(secret), "{built}");
    let mut search = Command::new("grep");
    search.args(["-rlF", secret]).arg(session.root());
    let found = search.output().unwrap().stdout;
    assert_eq!(String::from_utf8(found).unwrap(), "");
}

#[test]
fn a_run_has_the_rights_of_every_container() {
    let session = session();
    let text = r#"
FROM debian:bookworm-slim
RUN <<EOT
set -e
grep -E 'CapInh|CapEff|CapBnd|CapAmb' /proc/self/status | tr -s '\t' ' '
mount -t tmpfs x /mnt 2> /dev/null || echo no mount
useradd -m bob
su bob -c 'echo user $(id -un) $(grep CapEff /proc/self/status | cut -f2)'
touch /file
chown bob:bob /file
chmod 4755 /file
mknod /null c 1 3
perl -MSocket -e 'socket(S, AF_INET, SOCK_RAW, 1) or die "$!"; print "raw socket\n"'
mkdir -p /tmp/package/DEBIAN
printf 'Package: some\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' > /tmp/package/DEBIAN/control
dpkg-deb -b /tmp/package /tmp/some.deb > /dev/null
apt-get install -qq -y /tmp/some.deb > /tmp/log 2>&1 || cat /tmp/log
dpkg-query -W some | tr '\t' ' '
EOT
RUN --security=insecure mount -t tmpfs x /mnt && echo mounted
RUN --network=none <<EOT
#!/bin/bash
ls /sys/class/net
(echo > /dev/tcp/127.0.0.1/9) 2>&1 | grep -o 'Connection refused'
getent hosts $HOSTNAME
EOT
RUN hostname && echo "name $HOSTNAME" && getent hosts box && cat /etc/hostname
"#;
    let arguments = [
        "--no-cache",
        "--allow",
        "security.insecure",
        "--build-arg",
        "BUILDKIT_SANDBOX_HOSTNAME=box",
    ];
    let built = session.build(text, &arguments).success();
    let expected = [
        "CapInh: 0000000000000000",
        "CapEff: 00000000a80425fb",
        "CapBnd: 00000000a80425fb",
        "CapAmb: 0000000000000000",
        "no mount",
        "user bob 0000000000000000",
        "raw socket",
        "some 1",
        "mounted",
        "lo",
        "Connection refused",
        "127.0.0.1       box",
        "box",
        "name box",
    ];
    assert_shown(&built, &expected);
}

#[test]
fn a_run_makes_every_device_node_and_opens_those_of_every_container() {
    let session = session();
    let text = r#"
FROM debian:bookworm-slim
RUN <<EOT
set -e
mkdir /nodes
while read major minor blocks name; do
  case $major in [0-9]*)
    for directory in /nodes /dev /tmpfs; do
      mknod $directory/$name b $major $minor
      head -c 1 $directory/$name 2>&1 | sed "s,.*: ,read ," | sort -u
      { echo x > $directory/$name; } 2>&1 | sed "s,.*: ,write ,"
    done
  esac
done < /proc/partitions
mknod /nodes/mem c 1 1
head -c 1 /nodes/mem 2>&1 | sed "s,.*: ,memory ,"
mknod /nodes/null c 1 3
echo x > /nodes/null && echo null is there
script -qec 'echo a terminal; tty' /dev/null
rm /dev/random && ln -s urandom /dev/random && head -c 1 /dev/random | wc -c
cat /proc/self/cgroup
EOT
RUN stat -c '%n %F' /nodes/vda /nodes/mem
RUN --security=insecure head -c 1 /nodes/vda > /dev/null && echo open
"#;
    let text = text.replace("RUN <<EOT", "RUN --mount=type=tmpfs,target=/tmpfs <<EOT");
    let arguments = ["--no-cache", "--allow", "security.insecure"];
    let built = session.build(&text, &arguments).success();
    let expected = [
        "read Operation not permitted",
        "write Operation not permitted",
        "memory Operation not permitted",
        "null is there",
        "a terminal",
        "/dev/pts/0",
        "1",
        "0::/",
        "/nodes/vda block special file",
        "/nodes/mem character special file",
        "open",
    ];
    assert_shown(&built, &expected);
    let lines = built.stderr.lines();
    let refused = lines.filter(|line| line.ends_with("Operation not permitted"));
    // Two drives in three directories, to read and to write; and the memory.
    assert_eq!(refused.count(), 13, "{built}");
}

#[test]
fn what_a_cache_holds_goes_out_and_in_again() {
    let session = session();
    let (one, other) = (cache(), cache());
    let text = format!(
        "FROM debian:bookworm-slim\n\
         RUN --mount=type=cache,id={one},target=/c,mode=0750,uid=5 cd /c && echo kept > file && chown 7:8 file \
         && chmod 4711 file && ln file hard && ln -s file soft && mkdir -m 700 dir && mkfifo dir/pipe\n"
    );
    session.build(&text, &[]).success();
    let archive = session.path("cache.tar").display().to_string();
    session.ok(&["build", "cache", "export", &one, "-o", &archive]);
    session.ok(&["build", "cache", "import", &other, &archive]);
    let text = format!(
        "FROM debian:bookworm-slim\n\
         RUN --mount=type=cache,id={other},target=/c cd /c && stat -c '%n %a %u %g %h %F' . * dir/* && cat hard && readlink soft\n"
    );
    let built = session.build(&text, &[]).success();
    assert_shown(
        &built,
        &[
            ". 750 5 0 3 directory",
            "dir 700 0 0 2 directory",
            "dir/pipe 644 0 0 1 fifo",
            "file 4711 7 8 2 regular file",
            "hard 4711 7 8 2 regular file",
            "soft 777 0 0 1 symbolic link",
            "kept",
        ],
    );
    let again = session
        .run(&["build", "cache", "import", &other, &archive])
        .failure();
    assert!(again.contains("there is a cache mount"), "{again}");
    for id in [&one, &other] {
        session.ok(&["build", "cache", "rm", id]);
    }
    let none = session.run(&["build", "cache", "export", &one]).failure();
    assert!(none.contains("there is no cache mount"), "{none}");
}

#[test]
fn a_damaged_cache_is_named_with_what_to_do() {
    let session = session();
    let id = cache();
    let text = format!(
        "FROM debian:bookworm-slim\nRUN --mount=type=cache,id={id},target=/c echo kept > /c/file\n"
    );
    session.build(&text, &["--no-cache"]).success();
    damage(&session, &id);
    let said = session.build(&text, &["--no-cache"]).failure();
    for part in [
        format!("error: stage `stage-0`: cache mount `{id}` is damaged: "),
        format!("hint: remove it with `firebuild build cache rm {id}`: the next"),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    let said = session.run(&["build", "cache", "export", &id]).failure();
    assert!(
        said.contains(&format!("cache mount `{id}` is damaged")),
        "{said}"
    );
    session.ok(&["build", "cache", "rm", &id]);
    session.build(&text, &["--no-cache"]).success();
    session.ok(&["build", "cache", "rm", &id]);
}

/// Writes over the beginning of a cache's file system.
fn damage(session: &Session, id: &str) {
    use std::os::unix::fs::FileExt as _;
    for entry in fs_err::read_dir(session.root().join("v1/cache-mounts")).unwrap() {
        let path = entry.unwrap().path();
        let record = path.with_extension("json");
        if path != record && fs_err::read_to_string(record).unwrap().contains(id) {
            let disk = fs_err::OpenOptions::new().write(true).open(path).unwrap();
            disk.file().write_all_at(&[0xff; 4096], 0).unwrap();
            return;
        }
    }
    panic!("there is no disk of `{id}`");
}
