//! Builds that go as they should, and commands that fail.

use firebuild_builder::NoCache;
use firebuild_oci::find_image;

use crate::place::{Place, Told, name};

/// How many events have `what` in them.
fn count(told: &Told, what: &str) -> usize {
    told.events.iter().filter(|e| e.contains(what)).count()
}

#[test]
fn a_run_gives_a_layer_and_the_next_build_finds_it() {
    let place = Place::new();
    place.write("a", "text");
    let text = "FROM scratch\nRUN touch one\nCOPY a /\nENV X=1\nRUN touch two\nRUN nothing\n";
    let first = place.build(text);
    let lines: Vec<&str> = first
        .events
        .iter()
        .map(String::as_str)
        .filter(|event| event.starts_with("stage-0 "))
        .collect();
    assert_eq!(
        lines,
        [
            "stage-0 1/6 FROM scratch",
            "stage-0 1 done",
            "stage-0 2/6 RUN touch one",
            "stage-0 2 Stdout: touching one",
            "stage-0 2 done",
            "stage-0 3/6 COPY a /",
            "stage-0 3 done",
            "stage-0 4/6 ENV X=1",
            "stage-0 4 done",
            "stage-0 5/6 RUN touch two",
            "stage-0 5 Stdout: touching two",
            "stage-0 5 done",
            "stage-0 6/6 RUN nothing",
            "stage-0 6 done",
        ]
    );
    let image = find_image(&place.host.store, &name()).unwrap();
    assert_eq!(image.config.rootfs.diff_ids.len(), 3);
    let empty: Vec<bool> = image
        .config
        .history
        .iter()
        .map(|line| line.empty_layer)
        .collect();
    assert_eq!(empty, [false, false, true, false, true]);

    let second = place.build(text);
    assert_eq!((count(&second, " cached"), count(&second, "note:")), (4, 0));
    assert_eq!(second.result.unwrap().digest, first.result.unwrap().digest);
    assert_eq!(place.cached(), 4);
}

#[test]
fn a_failing_command_ends_the_build_and_what_was_done_is_kept() {
    let place = Place::new();
    for (command, expected) in [
        ("exit 3", "the command exited with status 3"),
        ("signal 11", "the command was ended by signal 11"),
        (
            "abort the disk is full",
            "the build VM's agent gave up: the disk is full",
        ),
    ] {
        let text = format!("FROM scratch\nRUN touch one\nRUN {command}\n");
        assert_eq!(
            place.failure(&text),
            format!("step `RUN {command}` of stage `stage-0` failed <- {expected}")
        );
        assert_eq!(place.cached(), 1);
    }
    let told = place.build("FROM scratch\nRUN touch one\nRUN exit 1\n");
    assert!(told.events.contains(&"stage-0 2 cached".to_owned()));
    let reason = place.failure("FROM scratch\nRUN abort LONG\n");
    assert!(reason.len() < 4300 && reason.ends_with('é'), "{reason}");
}

#[test]
fn a_vm_that_ends_or_falls_silent_ends_the_build() {
    let place = Place::new();
    let error = place.failure("FROM scratch\nRUN touch one\nRUN die\n");
    let expected = "failed <- the build VM ended before its work was done; its console ends with: ";
    assert!(error.contains(expected), "{error}");
    assert!(
        error.ends_with("vminit: fatal: the disk is gone"),
        "{error}"
    );
    assert_eq!(place.cached(), 1);
    let error = place.failure("FROM scratch\nRUN touch one\nRUN silence\n");
    let expected = "failed <- the build VM has not been heard of for 30 s";
    assert!(error.ends_with(expected), "{error}");
    assert_eq!(place.cached(), 1);
}

#[test]
fn a_build_without_commands_needs_no_vm() {
    let place = Place::with_guests("breaks");
    place.write("a", "text");
    let told = place.build("FROM scratch\nCOPY a /\nWORKDIR /w\nENV X=1\nCMD [\"/a\"]\n");
    told.result.unwrap();
    assert!(told.events.iter().all(|event| !event.starts_with("note:")));
}

#[test]
fn nothing_of_a_multi_stage_build_is_lost_by_a_later_failure() {
    let mut place = Place::new();
    let text =
        "FROM scratch AS one\nRUN touch file\nFROM scratch\nCOPY --from=one /file /\nRUN exit 1\n";
    place.failure(text);
    assert_eq!(place.cached(), 2);
    let fixed = text.replace("exit 1", "touch two");
    let told = place.build(&fixed);
    assert_eq!(count(&told, "cached"), 2);
    assert!(told.result.is_ok());
    let vmms = |told: &Told| count(told, "note: build VMs run in process: a process, because");
    assert_eq!((vmms(&told), count(&told, " starts")), (1, 1));
    // Without the cache there are two VMs, and what they run in is said once.
    place.no_cache = NoCache::All;
    let told = place.build(&fixed);
    assert_eq!(count(&told, "cached"), 0);
    assert_eq!((vmms(&told), count(&told, " starts")), (1, 2));
}
