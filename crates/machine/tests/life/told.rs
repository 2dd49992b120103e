//! Events that tell of more than a VM's start and end. Needs root.

use firebuild_core::ByteSize;
use firebuild_machine::client::{self, Stop};
use firebuild_machine::events::{Event, Events};
use firebuild_machine::record::State;
use firebuild_machine::terminal::Input;

use crate::host::{Place, spec};
use crate::supervised::until;
use crate::tasks;

/// The events from now on until one has this action.
fn events_until(events: &mut Events, last: &str) -> Vec<Event> {
    let mut seen: Vec<Event> = Vec::new();
    while seen.iter().all(|event| event.action != last) {
        seen.extend(events.next_ones().unwrap());
        if seen.iter().all(|event| event.action != last) {
            assert!(events.wait(None).unwrap());
        }
    }
    seen
}

fn words(events: &[Event]) -> String {
    let words: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
    words.join(" ")
}

#[test]
fn what_is_executed_is_told_of() {
    let (place, id) = tasks::running();
    let mut events = Events::of(&place.host.store, true).unwrap();
    events.next_ones().unwrap();
    tasks::block_on(async {
        let end = [Input::End];
        tasks::done(&place, &id, &["echo"], &end).await.unwrap();
    });
    let seen = events_until(&mut events, "exec_die");
    assert_eq!(words(&seen), "exec_create exec_start exec_die");
    assert_eq!(seen[0].attributes["command"], "echo");
    assert_eq!(seen[2].attributes["exitCode"], "3");
    let ids: Vec<&String> = seen
        .iter()
        .map(|event| &event.attributes["execID"])
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn one_that_is_stopped_between_two_turns_has_ended_once() {
    let place = Place::new();
    let mut events = Events::of(&place.host.store, true).unwrap();
    let mut wanted = spec(&["say", "x", "7"]);
    wanted.restart = "always".parse().unwrap();
    let vm = client::run(&place.host, wanted, place.supervisor()).unwrap();
    let id = vm.record().id.clone();
    let now = || client::inspect(&place.host, id.as_str()).unwrap();
    // By then it waits for more than a second.
    until(&place.host, |_| {
        now().restart_count >= 4 && now().state == State::Restarting
    });
    client::stop(
        &place.host,
        &id,
        Stop::within(std::time::Duration::from_secs(60)),
    )
    .unwrap();
    client::rm(&place.host, &id).unwrap();
    let seen = events_until(&mut events, "destroy");
    let count = |action| seen.iter().filter(|event| event.action == action).count();
    assert_eq!(count("die"), count("start"), "{}", words(&seen));
}

#[test]
fn a_vmm_that_takes_more_memory_than_it_may_is_told_of() {
    let place = Place::new();
    let mut events = Events::of(&place.host.store, true).unwrap();
    let mut wanted = spec(&["eat", "400"]);
    wanted.limits.memory_max = Some(ByteSize::mib(192));
    let vm = client::run(&place.host, wanted, place.supervisor()).unwrap();
    let id = vm.record().id.clone();
    client::signal(&place.host, &id, 10).unwrap();
    let last = client::wait(&place.host, &id).unwrap();
    assert!(matches!(last.state, State::Failed { .. }), "{last:?}");
    let seen = events_until(&mut events, "die");
    assert_eq!(words(&seen), "create start kill oom die");
}
