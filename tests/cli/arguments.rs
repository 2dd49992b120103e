//! What was typed wrongly, and things that are not there: one sentence, and what to do.

use crate::session;
use crate::session::output_of;

#[test]
fn what_no_argument_can_be_is_refused_by_name() {
    let (session, _root) = session();
    let cases: &[(&[&str], &str)] = &[
        (
            &["build", "-t", "A B", "."],
            "error: invalid value 'A B' for '--tag <NAME[:TAG]>': `A B` does not name an image: repository names are lower-case\n",
        ),
        (
            &["build", "-t", "a@sha256:12", "."],
            "error: invalid value 'a@sha256:12' for '--tag <NAME[:TAG]>': `a@sha256:12` does not name an image: what follows `@` is not a sha256 digest\n",
        ),
        (
            &["build"],
            "error: the following required arguments were not provided:\n  <CONTEXT>\n",
        ),
        (
            &["run", "--name", "x y", "a"],
            "error: invalid value 'x y' for '--name <NAME>': `x y` cannot name a VM: names are 1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit\n",
        ),
        (
            &["run", "-p", "99999", "a"],
            "error: invalid value '99999' for '--publish <PORT>': `99999` is not a port to publish: ports are numbers from 1 to 65535, or ranges such as 8000-8010\n",
        ),
        (
            &["run", "--mem", "lots", "a"],
            "error: invalid value 'lots' for '--mem <MIB>'",
        ),
        (
            &["run", "--mem", "0", "a"],
            "error: invalid value '0' for '--mem <MIB>': a whole number from 32 to 1048576 is needed\n",
        ),
        (
            &["run", "--cpu", "0", "a"],
            "error: invalid value '0' for '--cpu <N>'",
        ),
        (
            &["run", "--disk-size", "1X", "a"],
            "error: invalid value '1X' for '--disk-size <SIZE>': `1X` is not a size; write a number of bytes with an optional unit, such as `512M` or `2G`\n",
        ),
        (
            &["frobnicate"],
            "error: unrecognized subcommand 'frobnicate'\n",
        ),
        (
            &["run"],
            "error: no image was named\nhint: firebuild run NAME[:TAG]; see `firebuild images`\n",
        ),
        (
            &["baseos", "--bootstrap", "plan9:4"],
            "error: `plan9:4` is not a distribution that firebuild knows\nhint: write `debian:SUITE`, such as `debian:bookworm`\n",
        ),
        (
            &["kernel", "pull", "debian:../x"],
            "error: `debian:../x` is not a distribution that firebuild knows\nhint: write `debian:SUITE`, such as `debian:bookworm`\n",
        ),
    ];
    for (arguments, said) in cases {
        let shown = session.run(arguments).failure();
        assert!(shown.starts_with(said), "{arguments:?}: {shown}");
    }
}

#[test]
fn what_is_not_there_is_named_with_what_to_do() {
    let (session, _root) = session();
    let no_vm = "error: there is no VM `ghost`\nhint: see `firebuild ls -a`\n";
    for command in ["inspect", "logs", "stop", "kill", "rm"] {
        assert_eq!(session.run(&[command, "ghost"]).failure(), no_vm);
    }
    let no_image = "\
error: image `ghost:latest` is not in the store; looked for `docker.io/library/ghost:latest`
hint: import it with `firebuild image import FILE --tag ghost:latest`, or build it with `firebuild build -t ghost:latest …`
";
    let output = session.path("out");
    let output = output.to_str().unwrap();
    let cases: [&[&str]; 4] = [
        &["run", "ghost"],
        &["image", "inspect", "ghost"],
        &["image", "tag", "ghost", "other"],
        &[
            "image",
            "export",
            "ghost",
            "--type",
            "rootfs-tar",
            "-o",
            output,
        ],
    ];
    for arguments in cases {
        assert_eq!(session.run(arguments).failure(), no_image, "{arguments:?}");
    }
    assert_eq!(
        session.run(&["image", "rm", "ghost"]).failure(),
        "error: no image `ghost:latest`\nhint: see `firebuild image ls`\n"
    );
    assert_eq!(
        session
            .run(&["kernel", "rm", "ghost"])
            .failure()
            .lines()
            .next(),
        Some("error: there is no kernel `ghost`")
    );
}

/// The first run fetches a kernel; where the tool for that is missing, it is named.
#[test]
fn a_missing_tool_is_named_with_how_to_install_it() {
    let (session, _root) = session();
    session.write("context/file", "x");
    session
        .build("FROM scratch\nCOPY file /\n", &["-t", "one"])
        .success();
    let mut run = session.command(&["run", "one", "/file"]);
    let shown = crate::session::Outcome::of(run.env("PATH", "/nonexistent")).failure();
    assert!(shown.contains("mmdebstrap"), "{shown}");
    assert!(shown.contains("hint: "), "{shown}");
    assert!(shown.contains("apt"), "{shown}");
}

#[test]
fn keys_that_cannot_be_used_are_refused_before_anything_is_done() {
    let (session, _root) = session();
    session.write("file", "no key");
    for (name, passphrase) in [("plain", ""), ("locked", "secret")] {
        let key = session.path(name).display().to_string();
        let arguments = ["-q", "-t", "ed25519", "-N", passphrase, "-f", &key];
        output_of("ssh-keygen", &arguments);
    }
    let _listener = std::os::unix::net::UnixListener::bind(session.path("socket")).unwrap();
    for (given, expected) in [
        (
            "x=locked",
            "error: there is no SSH agent for `--ssh x`\n\
             caused by: cannot use `locked` as a private key\n\
             caused by: it is encrypted\n\
             hint: give it to an agent with `eval $(ssh-agent)` and `ssh-add locked`, and name no key: `--ssh x`\n",
        ),
        (
            "x=plain.pub",
            "error: there is no SSH agent for `--ssh x`\n\
             caused by: cannot use `plain.pub` as a private key\n\
             caused by: it is a public key\n\
             hint: name the private key, such as `--ssh x=plain`\n",
        ),
        (
            "x=plain,file",
            "error: there is no SSH agent for `--ssh x`\n\
             caused by: cannot use `file` as a private key\n\
             caused by: it is not a private key in OpenSSH's form or in PEM\n\
             hint: an agent's socket or private keys are needed\n",
        ),
        (
            "x=plain,socket",
            "error: `--ssh x` names `socket`, a socket, among others\n\
             hint: an agent is one socket, or one or more keys\n",
        ),
        (
            "x=missing",
            "error: there is no SSH agent for `--ssh x`\n\
             caused by: cannot read the key `missing`\n\
             caused by: failed to open file `missing`: No such file or directory (os error 2)\n\
             hint: an agent's socket or private keys are needed\n",
        ),
    ] {
        let built = session.build("FROM scratch\nCOPY Dockerfile /\n", &["--ssh", given]);
        assert_eq!(built.failure(), expected, "{given}");
    }
    session
        .build("FROM scratch\n", &["--ssh", "x=plain"])
        .success();
}

#[test]
fn a_shell_needs_standard_input_and_a_command_that_failed() {
    let (session, _root) = session();
    let taken = session.run(&["build", "--debug", "-"]).failure();
    assert_eq!(
        taken,
        "error: the shell of `--debug` needs standard input, which the build reads itself\n\
         hint: give a file or a directory in place of `-`\n"
    );
    let copy = session
        .build("FROM scratch\nCOPY missing /\n", &["--debug"])
        .failure();
    assert!(copy.contains("COPY missing /"), "{copy}");
    let note = "`--debug` opens a shell only where a command of a RUN failed";
    assert!(copy.contains(note), "{copy}");
}
