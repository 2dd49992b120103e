//! The versions 1.10 to 1.17, each of which refuses what it does not know.

use firebuild_machine::vmm::firecracker::options::{Balloon, HugePages, RateLimiter, TokenBucket};

use crate::place::{Place, calls, wait};
use crate::stand_in::Behaviour;

fn place(minor: u32) -> Place {
    Place::with(&Behaviour {
        minor,
        ..Behaviour::default()
    })
}

pub(crate) fn every_version_runs_a_vm() {
    for minor in 10..=17 {
        let place = place(minor);
        wait(async {
            let machine = place.connected(place.build()).await;
            let calls = calls(machine.record());
            assert!(
                calls.iter().all(|call| call.starts_with("20")),
                "1.{minor}: {calls:?}"
            );
            let record = machine.record().clone();
            drop(machine);
            place.assert_gone(&record);
        });
    }
}

pub(crate) fn pitfall_10_options_reach_the_versions_that_know_them() {
    for minor in 10..=17 {
        let place = place(minor);
        let mut spec = place.build();
        let bucket = TokenBucket::per_second(1 << 20);
        let limit = Some(RateLimiter {
            bandwidth: Some(bucket),
            ops: Some(bucket),
        });
        let options = &mut spec.firecracker;
        options.drive_limit = limit;
        options.receive_limit = limit;
        options.send_limit = limit;
        options.entropy_limit = limit;
        options.console_limit = (minor >= 16).then_some(bucket);
        options.balloon = Some(Balloon {
            amount: 8,
            deflate_on_oom: true,
            free_page_reporting: minor >= 14,
        });
        options.huge_pages = match minor {
            17 => HugePages::Transparent,
            _ => HugePages::TwoMib,
        };
        wait(async {
            let machine = place.connected(spec).await;
            let calls = calls(machine.record());
            let has = |path: &str| calls.iter().any(|call| call.ends_with(path));
            assert!(
                calls.iter().all(|call| call.starts_with("20")),
                "1.{minor}: {calls:?}"
            );
            assert_eq!(has(" /serial"), minor >= 16, "1.{minor}");
            assert!(has(" /balloon"));
        });
    }
    // Asked for from one that does not know it, nothing starts.
    let place = place(13);
    let mut spec = place.build();
    spec.firecracker.balloon = Some(Balloon {
        free_page_reporting: true,
        ..Balloon::default()
    });
    let error = wait(place.refused(spec)).to_string();
    assert_eq!(
        error,
        "the reporting of free pages needs Firecracker 1.14; this is 1.13"
    );
}
