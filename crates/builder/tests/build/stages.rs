//! Stages that are built at the same time: who waits for whom, and what one's failure means.

use std::collections::BTreeSet;

use firebuild_builder::NoCache;

use crate::place::{Place, Told};

/// The position of an event.
#[track_caller]
fn at(told: &Told, event: &str) -> usize {
    let position = told.events.iter().position(|one| one == event);
    position.unwrap_or_else(|| panic!("`{event}` is not in {:#?}", told.events))
}

fn has(told: &Told, event: &str) -> bool {
    told.events.iter().any(|one| one == event)
}

/// How many VMs ran at once at most.
fn vms(told: &Told) -> usize {
    let (mut now, mut most) = (0, 0);
    for event in told
        .events
        .iter()
        .filter(|event| event.starts_with("VM of "))
    {
        now += usize::from(event.ends_with(" starts"));
        now -= usize::from(event.ends_with(" ended"));
        most = most.max(now);
    }
    assert_eq!(now, 0, "{:#?}", told.events);
    most
}

const TWO: &str = "FROM scratch AS a\nRUN touch one\nRUN touch two\n\
                   FROM scratch AS b\nRUN touch three\nRUN touch four\n\
                   FROM scratch\nCOPY --from=a / /a/\nCOPY --from=b / /b/\n";

#[test]
fn independent_stages_run_at_the_same_time() {
    let place = Place::new();
    let told = place.build(TWO);
    assert!(told.result.is_ok(), "{:?}", told.result);
    assert_eq!(vms(&told), 2);
    // Each begins before the other is done.
    assert!(at(&told, "a 2/3 RUN touch one") < at(&told, "stage b done"));
    assert!(at(&told, "b 2/3 RUN touch three") < at(&told, "stage a done"));
    let waits = at(&told, "stage stage-2 waits: a");
    assert!(waits < at(&told, "stage a done"), "{:#?}", told.events);
    let again = place.build(TWO);
    assert_eq!(vms(&again), 0);
    assert_eq!(again.result.unwrap().digest, told.result.unwrap().digest);
}

#[test]
fn no_more_vms_than_jobs_run_at_once() {
    let mut place = Place::new();
    place.jobs = 1;
    let told = place.build(TWO);
    assert!(told.result.is_ok(), "{:?}", told.result);
    assert_eq!(vms(&told), 1);
    let waits = |event: &String| event.ends_with("waits: a slot");
    assert!(told.events.iter().any(waits), "{:#?}", told.events);
}

#[test]
fn a_stage_with_the_only_vm_gives_it_up_for_one_that_it_needs() {
    let mut place = Place::new();
    place.jobs = 1;
    // Whoever of `z` and the last stage has the only slot first: the last stage has a VM before `a`,
    // which has to wait for `z`, wants one.
    let text = "FROM scratch AS z\nRUN touch zero\n\
                FROM scratch AS a\nCOPY --from=z /zero /\nRUN touch one\n\
                FROM scratch\nRUN touch two\nCOPY --from=a /one /\nRUN touch three\n";
    let told = place.build(text);
    assert!(told.result.is_ok(), "{:?}", told.result);
    assert_eq!(vms(&told), 1);
    let ended = at(&told, "VM of stage-2 ended");
    assert!(
        at(&told, "stage stage-2 waits: a") < ended,
        "{:#?}",
        told.events
    );
    assert!(ended < at(&told, "VM of a starts"), "{:#?}", told.events);
    let starts = |event: &&String| *event == "VM of stage-2 starts";
    assert_eq!(told.events.iter().filter(starts).count(), 2);
}

#[test]
fn a_vm_ends_with_the_last_command_that_needs_it() {
    let place = Place::new();
    place.write("file", "text");
    let told = place.build("FROM scratch\nRUN touch one\nCOPY file /\nENV X=1\n");
    assert!(at(&told, "VM of stage-0 ended") < at(&told, "stage-0 3/4 COPY file /"));
}

#[test]
fn the_first_failure_ends_the_others_and_is_the_one_that_is_told() {
    let place = Place::new();
    let text = "FROM scratch AS a\nRUN touch kept\nRUN hang\n\
                FROM scratch AS b\nRUN touch also-kept\nRUN exit 7\n\
                FROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n";
    let error = place.failure(text);
    assert_eq!(
        error,
        "step `RUN exit 7` of stage `b` failed <- the command exited with status 7"
    );
    assert!((1..=2).contains(&place.cached()));
    let told = place.build(text);
    assert!(has(&told, "b 3 failed"), "{:#?}", told.events);
    assert!(!has(&told, "a 3 failed"), "{:#?}", told.events);
    assert!(has(&told, "b 2 cached"));
}

#[test]
fn stages_that_begin_alike_do_the_work_once() {
    let mut place = Place::new();
    let text = "FROM scratch AS a\nRUN touch same\nRUN touch one\n\
                FROM scratch AS b\nRUN touch same\nRUN touch two\n\
                FROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n";
    for (no_cache, jobs) in [(NoCache::Nothing, 1), (NoCache::All, 2)] {
        (place.no_cache, place.jobs) = (no_cache, jobs);
        let told = place.build(text);
        assert!(told.result.is_ok(), "{:?}", told.result);
        let done = ["a 2 done", "b 2 done"].map(|event| has(&told, event));
        assert!(done[0] != done[1], "{:#?}", told.events);
    }
    // What one stage does twice in a row is done twice when nothing is to be taken from the cache.
    let told = place.build("FROM scratch\nRUN nothing\nRUN nothing\n");
    assert!(has(&told, "stage-0 2 done") && has(&told, "stage-0 3 done"));
}

#[test]
fn single_stages_can_be_done_anew() {
    let mut place = Place::new();
    place.build(TWO).result.unwrap();
    place.no_cache = NoCache::Stages(BTreeSet::from(["B".to_owned()]));
    let told = place.build(TWO);
    assert!(has(&told, "a 2 cached") && has(&told, "a 3 cached"));
    assert!(has(&told, "b 2 done") && has(&told, "b 3 done"));
}

#[test]
fn what_the_cache_saved_is_known() {
    let place = Place::new();
    place.write("file", "text");
    let first = place.build(TWO).result.unwrap();
    assert_eq!(first.saved.as_millis(), 0);
    let again = place.build(TWO).result.unwrap();
    // Four commands, for each of which there was a VM to start or a layer to write.
    assert!(again.saved.as_millis() > 3, "{:?}", again.saved);
}
