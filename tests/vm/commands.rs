//! What a RUN sees, what it shows, and how it fails.

use crate::session;
use crate::traces::assert_gone;

/// The build VM that a build's messages name.
pub(crate) fn build_vm(messages: &str) -> &str {
    messages
        .lines()
        .find_map(|line| Some(line.split_once("starting build VM ")?.1))
        .unwrap()
}

#[test]
fn a_command_sees_what_the_dockerfile_says() {
    let session = session();
    session.write("context/file", "from the context");
    let text = r#"
FROM debian:bookworm-slim
ENV GREETING="hello world"
ARG WHO=nobody
RUN echo "1: $GREETING, $WHO, $(id -u):$(id -g), $PWD, $HOME, $PATH" && echo "1: error" >&2
RUN ["/bin/echo", "2: $GREETING"]
WORKDIR /made/here
COPY file copied
RUN cat copied && echo " 3: $PWD $(stat -c '%u:%g %a' . copied | tr '\n' ' ')" && echo changed > copied
RUN <<SCRIPT
set -e
for word in $(cat copied) $(ls /made); do
  echo "4: $word"
done
SCRIPT
RUN <<PERL
#!/usr/bin/perl
print "5: perl\n";
PERL
USER games:nogroup
SHELL ["/bin/bash", "-c"]
RUN echo "6: $(id -un):$(id -gn) $HOME ${BASH_VERSION%%.*}"
WORKDIR /root
RUN echo "7: $PWD $(ls /proc/self/fd | tr '\n' ' ')"
"#;
    let built = session
        .build(
            text,
            &["--no-cache", "-t", "test/sees", "--build-arg", "WHO=me"],
        )
        .success();
    for line in [
        "[stage-0 2/12] 1: hello world, me, 0:0, /, /root, /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "[stage-0 2/12] 1: error",
        "[stage-0 3/12] 2: $GREETING",
        "[stage-0 6/12] from the context 3: /made/here 0:0 755 0:0 644 ",
        "[stage-0 7/12] 4: changed",
        "[stage-0 7/12] 4: here",
        "[stage-0 8/12] 5: perl",
        "[stage-0 10/12] 6: games:nogroup /usr/games 5",
        // Whoever cannot enter a working directory can still work in it. Nothing else is open.
        "[stage-0 12/12] 7: /root 0 1 2 3 ",
    ] {
        let tail = line.split_once("] ").unwrap().1;
        assert!(
            built.stderr.lines().any(|shown| shown
                .split_once("] ")
                .is_some_and(|(place, rest)| place.starts_with("[stage-0 ") && rest == tail)),
            "{line}: {built}"
        );
    }
    assert_eq!(
        built.stderr.matches("starting build VM").count(),
        1,
        "{built}"
    );
    assert_gone(&session, build_vm(&built.stderr));
    let config = session.json(&["image", "inspect", "test/sees"])["Config"]["config"].clone();
    assert_eq!(config["User"], "games:nogroup");
    assert_eq!(config["WorkingDir"], "/root");
    assert_eq!(config["Env"].as_array().unwrap().len(), 2);
    let again = session
        .build(text, &["-t", "test/sees", "--build-arg", "WHO=me"])
        .success();
    assert_eq!(again.stdout, built.stdout);
    assert!(!again.stderr.contains("starting build VM"), "{again}");
    let other = session.build(text, &["--build-arg", "WHO=you", "--target", "nothing"]);
    assert!(other.failure().contains("`nothing`"));
}

#[test]
fn a_command_that_fails_shows_its_end_and_leaves_nothing() {
    let session = session();
    let text = "\
FROM debian:bookworm-slim
RUN echo first
RUN seq 100; \\
    echo broken >&2; \\
    exit 42
";
    let failed = session.build(text, &["--no-cache", "-t", "test/fails"]);
    let said = failed.failure();
    let end = "\
error: stage `stage-0`: the command exited with status 42
 --> context/Dockerfile:3:1
  |
3 | RUN seq 100; \\
  | ^^^^^^^^^^^^^^
  |
  = note: its last lines were:
";
    let shown = &said[said.find("error: ").unwrap()..];
    assert!(shown.starts_with(end), "{shown}");
    assert!(
        shown.contains("100\n") && shown.trim_end().ends_with("broken"),
        "{shown}"
    );
    assert!(!shown.contains(" 91\n"), "{shown}");
    assert_gone(&session, build_vm(&said));
    assert_eq!(session.run(&["image", "inspect", "test/fails"]).status, 125);
    assert_eq!(
        session
            .ok(&["ls", "-a"])
            .lines()
            .filter(|line| line.contains("(build)"))
            .count(),
        0
    );
}
