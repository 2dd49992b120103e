//! Stages in VMs of their own, at the same time.

use crate::session as ready;
use crate::session::Outcome;

const TEXT: &str = "FROM debian:bookworm-slim AS a\n\
                    RUN echo begun; sleep 4; echo a > /a; echo ended\n\
                    FROM debian:bookworm-slim AS b\n\
                    RUN echo begun; sleep 4; echo b > /b; echo ended\n\
                    FROM debian:bookworm-slim\n\
                    RUN echo first > /first\n\
                    COPY --from=a /a /\nCOPY --from=b /b /\n\
                    RUN cat /first /a /b\n";

/// The position of a line.
#[track_caller]
fn at(built: &Outcome, line: &str) -> usize {
    let position = built.stderr.lines().position(|one| one == line);
    position.unwrap_or_else(|| panic!("no `{line}` in {built}"))
}

#[test]
fn independent_stages_have_their_vms_at_the_same_time() {
    let session = ready();
    let built = session
        .build(TEXT, &["--no-cache", "--jobs", "3"])
        .success();
    let begun = ["a", "b"].map(|stage| at(&built, &format!("[{stage} 2/2] begun")));
    let ended = ["a", "b"].map(|stage| at(&built, &format!("[{stage} 2/2] ended")));
    assert!(begun.iter().max() < ended.iter().min(), "{built}");
    for line in ["first", "a", "b"] {
        at(&built, &format!("[stage-2 5/5] {line}"));
    }
    let again = session.build(TEXT, &["--jobs", "1"]).success();
    assert_eq!(again.stdout, built.stdout);
    assert!(!again.stderr.contains("starting build VM"), "{again}");
}

#[test]
fn one_vm_at_a_time_is_enough_for_every_plan() {
    let session = ready();
    let built = session
        .build(TEXT, &["--no-cache", "--jobs", "1"])
        .success();
    // Three stages want one at once.
    assert!(
        built.stderr.contains("waiting until another build VM ends"),
        "{built}"
    );
    at(&built, "[stage-2 5/5] first");
}
