//! What is left after something was interrupted, and that it is found and removed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firebuild_network::cni::Cni;
use nix::mount::umount;
use serde_json::json;

use super::{configure, driver, id, original, request, settings_in, state, with};
use crate::rig::{Host, Net, ip, nft, on_host, settings_in as builtin_settings_in};

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

/// What a firewall's restart does: every rule goes, whoever made it.
fn restart_firewall() {
    nft("flush ruleset");
}

#[test]
fn each_part_may_be_missing() {
    type Undo = fn(&Host);
    let parts: [(&str, Undo); 9] = [
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
        ("the device", |host| {
            let name = format!("netns/firebuild-cni-{}", id(1));
            Net::at(&host.path(&name)).run(|| ip("link del eth0"));
        }),
        ("the device and the host's rules", |host| {
            let name = format!("netns/firebuild-cni-{}", id(1));
            Net::at(&host.path(&name)).run(|| ip("link del eth0"));
            restart_firewall();
        }),
        ("the host's rules", |_| restart_firewall()),
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
            if part.contains("rules") {
                // What plugins share comes back with the next VM.
                after.insert("iptables", before["iptables"].clone());
                after.insert("rules", before["rules"].clone());
            }
            assert_eq!(after, before, "without {part}");
            // And nothing twice is nothing.
            driver.teardown(&id(1)).unwrap();
        });
    }
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

/// What `host-local` leaves when it is killed right before it writes whose an address is.
#[test]
fn an_address_that_is_nobodys_goes_with_the_next_vm() {
    on_host(|host| {
        let driver = used(host);
        let before = state(host);
        drop(driver.setup(&request(1, &[])).unwrap());
        for number in [200, 201] {
            let file = format!("ipam/alpine/192.168.127.{number}");
            fs_err::write(host.path(&file), "").unwrap();
        }
        driver.teardown(&id(1)).unwrap();
        assert_eq!(state(host), before);
    });
}

#[test]
fn half_an_entry_goes_with_its_vm() {
    on_host(|host| {
        let driver = used(host);
        for leased in [true, false] {
            let attachment = leased.then(|| driver.setup(&request(1, &[])).unwrap());
            let half = host.path(&format!("cache/results/.{}.new", id(1)));
            fs_err::write(&half, "{").unwrap();
            drop(attachment);
            driver.teardown(&id(1)).unwrap();
            assert!(!half.exists(), "with a lease: {leased}");
        }
    });
}
