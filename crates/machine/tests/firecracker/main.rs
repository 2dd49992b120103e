//! Firecracker's driver, against stand-ins for Firecracker and its jailer, with a task of the
//! stand-in's in place of a guest: every call is held against Firecracker's own definition, and the
//! whole life of a VM goes through it. Needs root.
//!
//! Where `FIREBUILD_TEST_FIRECRACKER` and `FIREBUILD_TEST_JAILER` name the real programs, and KVM
//! can be used, the tests of VMs' lives run with those, with a distribution's kernel and `vminit`.
//!
//! The program of these tests is several programs: the tests, each supervisor, and by the names
//! `firecracker` and `jailer` those two, which are one thread. So it has no test harness but the few
//! lines here, which understand parts of tests' names, and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and a stand-in's console is its standard output"
)]

mod definition;
#[path = "../life/guest.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod guest;
#[path = "../life/host.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod host;
#[path = "../boot/image.rs"]
mod image;
mod jailer;
mod life;
#[path = "../life/perform.rs"]
mod perform;
mod pitfalls;
mod place;
mod server;
mod stand_in;
mod sys;
mod versions;
mod volumes;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// A test: what it is called and what it does.
type Test = (&'static str, fn());

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn())),*]
    };
}

const TESTS: [Test; 32] = tests![
    definition::the_definition_is_enforced,
    jailer::wrong_arguments_are_refused,
    versions::every_version_runs_a_vm,
    versions::pitfall_10_options_reach_the_versions_that_know_them,
    life::a_build_vm_lives_until_it_is_released,
    life::a_workload_runs_under_its_supervisor,
    life::a_workload_that_is_asked_to_end_does,
    life::a_vm_is_paused_and_resumed,
    life::every_vm_has_its_own_user,
    life::control_groups_are_made_and_go,
    life::limits_are_kept_or_refused,
    life::disks_of_another_file_system_are_mounted_and_unmounted,
    volumes::a_volume_is_its_vms_for_as_long_as_that_runs,
    volumes::a_volume_is_given_back_by_the_command_after_a_crash,
    volumes::a_volume_is_read_by_several,
    life::calls_are_logged_without_secrets,
    life::a_program_that_is_a_link_has_the_jail_of_its_real_name,
    pitfalls::pitfall_01_a_base_that_is_too_long_is_told_before_anything_starts,
    pitfalls::pitfall_02_firecrackers_words_and_status_are_in_the_error,
    pitfalls::pitfall_02_a_slow_start_is_waited_for,
    pitfalls::pitfall_03_a_call_that_is_refused_is_named,
    pitfalls::pitfall_04_the_limit_of_metadata_is_known_here,
    pitfalls::pitfall_05_what_an_earlier_life_left_is_in_nobodys_way,
    pitfalls::pitfall_06_nothing_open_is_inherited_when_many_start_at_once,
    pitfalls::pitfall_07_nothing_is_mounted,
    pitfalls::pitfall_09_the_process_that_is_watched_is_firecracker,
    pitfalls::pitfall_11_metadata_are_replaced_at_any_time,
    pitfalls::pitfall_12_no_snapshots_are_made,
    pitfalls::pitfall_13_the_guests_end_is_firecrackers,
    pitfalls::pitfall_15_a_flood_is_bounded,
    pitfalls::pitfall_17_a_killed_owner_leaves_nothing,
    pitfalls::pitfall_17_parts_vanish_one_by_one,
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let called = Path::new(&name).file_name().unwrap_or_default();
    let asked = arguments.first().is_some_and(|it| it == "--version");
    match (called.to_str(), std::env::var(host::ROLE).as_deref()) {
        (Some("firecracker"), _) if asked => {
            stand_in::Behaviour::beside(Path::new(&name)).print_version();
            ExitCode::SUCCESS
        }
        (Some("jailer"), _) => match jailer::main(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("Error: {error}");
                ExitCode::FAILURE
            }
        },
        (_, Ok("supervisor")) => place::be_supervisor(),
        (_, Ok("builder")) => life::be_builder(),
        _ => run(&arguments),
    }
}

/// Runs the tests whose names have one of the words, or all if there is none.
fn run(arguments: &[OsString]) -> ExitCode {
    let words = arguments.iter().filter_map(|it| it.to_str());
    let words: Vec<&str> = words.filter(|it| !it.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let list = arguments.iter().any(|it| it == "--list");
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        if list {
            println!("{name}: test");
            continue;
        }
        let done = std::panic::catch_unwind(test);
        let count = if done.is_ok() {
            &mut passed
        } else {
            &mut failed
        };
        *count += 1;
        let word = if done.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word}");
    }
    println!("\ntest result: {passed} passed; {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}
