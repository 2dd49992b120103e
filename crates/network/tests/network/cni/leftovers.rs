//! What is left after something was interrupted, and that it is found and removed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firebuild_network::cni::Cni;
use nix::mount::umount;
use serde_json::json;

use super::{configure, driver, id, original, request, settings_in, state, with};
use crate::rig::{Host, on_host, settings_in as builtin_settings_in};

fn published(host: &Host) -> serde_json::Value {
    with(
        original(host),
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
    )
}

/// The network, used once: what plugins share is there from now on.
fn used(host: &Host) -> Cni {
    configure(host, "conf.d/alpine.conflist", &published(host));
    let driver = driver(host);
    drop(driver.setup(&request(9, &["8080:80"])).unwrap());
    driver.teardown(&id(9)).unwrap();
    driver
}

fn remove(host: &Host, directory: &str) {
    let _ = fs_err::remove_dir_all(host.path(directory));
}

#[test]
fn each_part_may_be_missing() {
    type Undo = fn(&Host);
    let parts: [(&str, Undo); 6] = [
        ("nothing", |_| {}),
        ("the configuration", |host| remove(host, "conf.d")),
        ("the lease", |host| {
            fs_err::remove_file(host.path(&format!("leases/firebuild-cni/{}.json", id(1))))
                .unwrap();
        }),
        ("the lease's text", |host| {
            let path = format!("leases/firebuild-cni/{}.json", id(1));
            fs_err::write(host.path(&path), "{").unwrap();
        }),
        (
            "the namespace's mount, as after a restart of the host",
            |host| {
                umount(&host.path(&format!("netns/firebuild-cni-{}", id(1)))).unwrap();
                remove(host, "leases");
            },
        ),
        ("the namespace", |host| {
            let path = host.path(&format!("netns/firebuild-cni-{}", id(1)));
            umount(&path).unwrap();
            fs_err::remove_file(path).unwrap();
        }),
    ];
    for (part, undo) in parts {
        on_host(|host| {
            let driver = used(host);
            let before = state(host);
            drop(driver.setup(&request(1, &["8080:80"])).unwrap());
            undo(host);
            assert_eq!(driver.known().unwrap(), [id(1)], "without {part}");
            driver.teardown(&id(1)).unwrap();
            assert!(driver.known().unwrap().is_empty(), "without {part}");
            let mut after = state(host);
            if part.contains("namespace") {
                // With the device, what the bridge's own clean-up goes by is gone, here and with
                // every other runtime; a restart of the host takes its rules along.
                let rules = without_masquerading(&after["iptables"]);
                assert_eq!(rules, without_masquerading(&before["iptables"]), "{part}");
                after.insert("iptables", before["iptables"].clone());
                after.insert("rules", before["rules"].clone());
            }
            assert_eq!(after, before, "without {part}");
            // And nothing twice is nothing.
            driver.teardown(&id(1)).unwrap();
        });
    }
}

/// Without the rules that the plugin `bridge` has for one container, which name it.
fn without_masquerading(rules: &str) -> String {
    let chains: Vec<&str> = rules
        .lines()
        .filter(|line| line.contains(id(1).as_str()))
        .filter_map(|line| line.rsplit_once("-j ").map(|(_, chain)| chain))
        .filter(|chain| chain.starts_with("CNI-"))
        .collect();
    let lines = rules
        .lines()
        .filter(|line| !chains.iter().any(|chain| line.contains(chain)));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn other_state_roots_and_the_built_in_network_leave_it_alone() {
    on_host(|host| {
        let driver = used(host);
        drop(driver.setup(&request(1, &[])).unwrap());
        let builtin = firebuild_network::Settings {
            owner: host.path("other"),
            ..host.settings()
        };
        let other = Cni::new(settings_in(host.directory.path(), &builtin));
        assert!(other.known().unwrap().is_empty());
        assert!(host.driver().known().unwrap().is_empty());
        driver.teardown(&id(1)).unwrap();
    });
}

#[test]
fn a_damaged_result_is_told_and_stays_until_it_is_removed() {
    on_host(|host| {
        let driver = used(host);
        drop(driver.setup(&request(1, &[])).unwrap());
        let file = host.path(&format!("cache/results/alpine-{}-eth0", id(1)));
        fs_err::write(&file, "{\"kind\":").unwrap();
        let errors = driver.teardown(&id(1)).unwrap_err();
        assert!(errors.to_string().contains("is damaged"), "{errors}");
        let hint = errors.all()[0].hint().unwrap();
        assert!(hint.contains(file.to_str().unwrap()), "{hint}");
        assert_eq!(driver.known().unwrap(), [id(1)]);
        fs_err::remove_file(file).unwrap();
        driver.teardown(&id(1)).unwrap();
        assert!(driver.known().unwrap().is_empty());
    });
}

/// Where a victim finds its host, and which VM it is to make there.
const VICTIM: &str = "FIREBUILD_NETWORK_TEST_CNI_VICTIM";

/// No test, but the process that [`whatever_is_killed_is_removed`] kills.
#[test]
fn victim() {
    let Some(told) = std::env::var_os(VICTIM) else {
        return;
    };
    let (directory, id) = told.to_str().unwrap().split_once('#').unwrap();
    let directory = Path::new(directory);
    let driver = Cni::new(settings_in(directory, &builtin_settings_in(directory)));
    let mut wanted = request(1, &["8080:80"]);
    wanted.id = id.parse().unwrap();
    println!("ready");
    let attached = driver.setup(&wanted).unwrap();
    drop(attached);
    driver.teardown(&wanted.id).unwrap();
    println!("done");
}

#[test]
fn whatever_is_killed_is_removed() {
    const STEPS: u32 = 24;
    on_host(|host| {
        let driver = used(host);
        let before = state(host);
        // From beginning to end, on a machine as busy as this one is.
        let begun = Instant::now();
        drop(driver.setup(&request(1, &["8080:80"])).unwrap());
        driver.teardown(&id(1)).unwrap();
        let step = begun.elapsed() / STEPS;
        let (mut interrupted, mut left) = (0, 0);
        for number in 0..STEPS {
            let mut victim = Command::new(std::env::current_exe().unwrap())
                .args(["cni::leftovers::victim", "--exact", "--nocapture"])
                .env(
                    VICTIM,
                    format!("{}#{}", host.directory.path().display(), id(1)),
                )
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().ends_with("ready")));
            // There is no event to wait for: any moment is a good one.
            let moment = Instant::now() + number * step;
            while let Some(rest) = moment.checked_duration_since(Instant::now()) {
                std::thread::sleep(rest.min(Duration::from_millis(1)));
            }
            victim.kill().unwrap();
            victim.wait().unwrap();
            let known = driver.known().unwrap();
            assert!(known.is_empty() || known == [id(1)], "{known:?}");
            left += u32::try_from(known.len()).unwrap();
            for id in known {
                driver.teardown(&id).unwrap();
            }
            // A plugin that was at work was killed too, and its pipe is closed by now.
            interrupted += u32::from(!lines.any(|line| line.is_ok_and(|line| line == "done")));
            assert_eq!(state(host), before, "after {number} steps of {step:?}");
        }
        println!("{interrupted} of {STEPS} interrupted, {left} left something");
        assert!(left > 0, "no victim was killed half-way");
    });
}
