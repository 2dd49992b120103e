//! What is left after something was interrupted, and that it is found and removed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firebuild_network::{Attachment, Builtin, Error};
use nix::mount::{MsFlags, mount, umount};

use crate::rig::{Host, id, ip, nft, on_host, request, said, settings_in};

/// Undoes one part of a VM's attachment, or of the host's: what an interrupted set-up has not made
/// yet, what an interrupted take-down or a person has removed.
type Undo = fn(&Host, &Attachment);

const PARTS: [(&str, Undo); 8] = [
    ("nothing", |_, _| {}),
    ("the cable", |_, attachment| {
        ip(&format!(
            "link del {}",
            attachment.interfaces[0].host_device
        ));
    }),
    ("the namespace", |_, attachment| {
        let path = attachment.namespace.path();
        unmount(path);
        fs_err::remove_file(path).unwrap();
    }),
    ("the namespace's mount", |_, attachment| {
        unmount(attachment.namespace.path());
    }),
    ("the bridge", |_, _| ip("link del firebuild0")),
    ("all rules", |_, _| nft("flush ruleset")),
    ("the lease", |host, attachment| {
        let id = host.driver().known().unwrap().pop().unwrap();
        assert!(
            attachment
                .namespace
                .path()
                .ends_with(format!("firebuild-{id}"))
        );
        fs_err::remove_file(host.path(&format!("leases/firebuild/{id}.json"))).unwrap();
    }),
    ("the lease's text", |host, _| {
        let id = host.driver().known().unwrap().pop().unwrap();
        fs_err::write(host.path(&format!("leases/firebuild/{id}.json")), "{\"id\"").unwrap();
    }),
];

/// Another part's undoing may have done it.
fn unmount(path: &Path) {
    let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
}

#[test]
fn any_two_parts_may_be_missing() {
    for (first, undo_first) in PARTS {
        for (second, undo_second) in PARTS {
            if first >= second {
                continue;
            }
            on_host(|host| {
                let driver = host.driver();
                define_networks(&driver);
                let before = host.state();
                let attachment = driver.setup(&victims_request()).unwrap();
                undo_first(host, &attachment);
                undo_second(host, &attachment);
                drop(attachment);
                assert_eq!(
                    driver.known().unwrap(),
                    [id(1)],
                    "without {first} and {second}"
                );
                driver.teardown(&id(1)).unwrap();
                assert_eq!(host.state(), before, "without {first} and {second}");
                assert!(driver.known().unwrap().is_empty());
            });
        }
    }
}

#[test]
fn each_part_alone_is_found() {
    for (alone, keep) in [("cable", 1), ("namespace", 2), ("ports", 3)] {
        on_host(|host| {
            let driver = host.driver();
            let before = host.state();
            // Another VM keeps the bridge, and is not touched.
            let other = driver.setup(&request(2, &[])).unwrap();
            let during = host.state();
            let attachment = driver.setup(&request(1, &["8080:80"])).unwrap();
            fs_err::remove_file(host.path(&format!("leases/firebuild/{}.json", id(1)))).unwrap();
            if keep != 1 {
                PARTS[1].1(host, &attachment);
            }
            if keep != 2 {
                PARTS[2].1(host, &attachment);
            }
            if keep != 3 {
                nft("delete element inet firebuild ports { tcp . 8080 }");
            }
            let known = driver.known().unwrap();
            assert!(
                known.contains(&id(1)) && known.contains(&id(2)),
                "{alone}: {known:?}"
            );
            drop(attachment);
            driver.teardown(&id(1)).unwrap();
            assert_eq!(driver.known().unwrap(), [id(2)], "{alone}");
            assert_eq!(host.state(), during, "{alone}");
            drop(other);
            driver.teardown(&id(2)).unwrap();
            assert_eq!(host.state(), before, "{alone}");
        });
    }
}

#[test]
fn taking_down_twice_or_nothing_at_all_is_fine() {
    on_host(|host| {
        let driver = host.driver();
        driver.teardown(&id(1)).unwrap();
        driver.teardown_unused_host_parts().unwrap();
        let before = host.state();
        drop(driver.setup(&request(1, &["8080:80"])).unwrap());
        driver.teardown_unused_host_parts().unwrap();
        assert!(host.state()["devices"].contains("firebuild0"), "in use");
        driver.teardown(&id(1)).unwrap();
        driver.teardown(&id(1)).unwrap();
        assert_eq!(host.state(), before);
    });
}

#[test]
fn the_hosts_parts_are_made_afresh_for_the_first_vm() {
    on_host(|host| {
        let driver = host.driver();
        let before = host.state();
        drop(driver.setup(&request(1, &["8080:80"])).unwrap());
        // A host that lost the leases: the bridge and the port belong to nobody.
        fs_err::remove_file(host.path(&format!("leases/firebuild/{}.json", id(1)))).unwrap();
        ip("address add 10.250.0.1/24 dev firebuild0");
        drop(driver.setup(&request(2, &["8080:80"])).unwrap());
        assert!(!host.state()["addresses"].contains("10.250.0.1"));
        driver.teardown(&id(1)).unwrap();
        driver.teardown(&id(2)).unwrap();
        assert_eq!(host.state(), before);
    });
}

#[test]
fn a_vm_is_attached_once() {
    on_host(|host| {
        let driver = host.driver();
        let _attachment = driver.setup(&request(1, &[])).unwrap();
        let state = host.state();
        let again = driver.setup(&request(1, &[])).unwrap_err();
        assert!(matches!(again, Error::Attached(_)), "{again}");
        assert_eq!(host.state(), state);
    });
}

#[test]
fn a_damaged_lease_stops_new_ones_and_says_where_it_is() {
    on_host(|host| {
        let driver = host.driver();
        drop(driver.setup(&request(1, &[])).unwrap());
        PARTS[7].1(host, &driver.setup(&request(2, &[])).unwrap());
        let refused = driver.setup(&request(3, &[])).unwrap_err();
        let path = host.path("leases/firebuild");
        assert!(
            refused.to_string().contains(path.to_str().unwrap()),
            "{refused}"
        );
        driver.teardown(&id(2)).unwrap();
        driver.setup(&request(3, &[])).unwrap();
    });
}

#[test]
fn a_set_up_that_fails_half_way_leaves_nothing() {
    on_host(|host| {
        let driver = host.driver();
        // A device of that name, which is no bridge.
        ip("link add firebuild0 type veth peer name firebuild1");
        let before = host.state();
        let refused = driver.setup(&request(1, &["8080:80"])).unwrap_err();
        assert!(refused.to_string().contains("firebuild0"), "{refused}");
        assert_eq!(host.state(), before);
    });
}

/// The host as it would be without something, in the view of this test only.
fn without(path: &str, work: impl FnOnce()) {
    let none = Some("/dev/null").filter(|_| Path::new(path).is_file());
    let (kind, flags) = match none {
        Some(_) => (None, MsFlags::MS_BIND),
        None => (Some("tmpfs"), MsFlags::empty()),
    };
    mount(none, path, kind, flags, None::<&str>).unwrap();
    work();
    umount(path).unwrap();
}

#[test]
fn without_nft_nothing_is_begun() {
    on_host(|host| {
        let before = host.state();
        let nft = said(
            "sh",
            &["-c", "readlink -f $(PATH=$PATH:/usr/sbin command -v nft)"],
        );
        without(nft.trim(), || {
            let refused = host.driver().setup(&request(1, &["8080:80"])).unwrap_err();
            assert!(matches!(refused, Error::NftMissing(_)), "{refused}");
            assert!(refused.hint().unwrap().contains("nftables"));
        });
        assert_eq!(host.state(), before);
    });
}

#[test]
fn without_taps_what_was_begun_is_taken_back() {
    on_host(|host| {
        let before = host.state();
        without("/dev/net", || {
            let refused = host.driver().setup(&request(1, &["8080:80"])).unwrap_err();
            assert!(matches!(refused, Error::TapMissing(_)), "{refused}");
            assert!(refused.hint().unwrap().contains("modprobe tun"));
        });
        assert_eq!(host.state(), before);
    });
}

#[test]
fn many_at_once() {
    const MANY: u8 = 20;
    on_host(|host| {
        let before = host.state();
        let started = Instant::now();
        let set_up = in_parallel(host, MANY, |driver, number| {
            let port = format!("{}:80", 8000 + u16::from(number));
            driver.setup(&request(number, &[&port])).unwrap()
        });
        let took = started.elapsed();
        println!("{MANY} set-ups at once: {took:?}");
        let mut addresses: Vec<_> = set_up.iter().map(|a| a.interfaces[0].address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), usize::from(MANY));
        assert_eq!(host.driver().known().unwrap().len(), usize::from(MANY));
        drop(set_up);
        // Half go while as many come.
        in_parallel(host, MANY, |driver, number| {
            if number % 2 == 0 {
                driver.teardown(&id(number)).unwrap();
            } else {
                drop(driver.setup(&request(number + MANY, &[])).unwrap());
            }
        });
        in_parallel(host, 2 * MANY, |driver, number| {
            driver.teardown(&id(number)).unwrap()
        });
        assert_eq!(host.state(), before);
    });
}

fn in_parallel<T: Send>(
    host: &Host,
    many: u8,
    work: impl Fn(&firebuild_network::Builtin, u8) -> T + Sync,
) -> Vec<T> {
    let driver = host.driver();
    let (driver, work) = (&driver, &work);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..many)
            .map(|number| scope.spawn(move || work(driver, number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Where a victim finds its host, and what it is to do there.
const VICTIM: &str = "FIREBUILD_NETWORK_TEST_VICTIM";

/// A VM in three networks, with ports.
fn victims_request() -> firebuild_network::Request {
    let joins = ["default", "front", "closed"].map(|text| text.parse().unwrap());
    firebuild_network::Request {
        networks: joins.to_vec(),
        ..request(1, &["8080:80", "127.0.0.1:5353:53/udp"])
    }
}

/// Defines the networks of [`victims_request`].
fn define_networks(driver: &Builtin) {
    for name in ["front", "closed"] {
        let mut network = firebuild_network::Network::named(name.parse().unwrap());
        network.internal = name == "closed";
        driver.create(network, true).unwrap();
    }
}

/// No test, but the process that [`whatever_is_killed_is_removed`] kills.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else {
        return;
    };
    let driver = Builtin::new(settings_in(Path::new(&directory)));
    let wanted = victims_request();
    println!("ready");
    let attachment = driver.setup(&wanted).unwrap();
    drop(attachment);
    driver.teardown(&wanted.id).unwrap();
    println!("done");
}

#[test]
fn whatever_is_killed_is_removed() {
    const STEPS: u32 = 40;
    on_host(|host| {
        let driver = host.driver();
        define_networks(&driver);
        let before = host.state();
        let (mut interrupted, mut left) = (0, 0);
        for step in 0..STEPS {
            let mut victim = Command::new(std::env::current_exe().unwrap())
                .args(["leftovers::victim", "--exact", "--nocapture"])
                .env(VICTIM, host.directory.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().ends_with("ready")));
            // There is no event to wait for: any moment is a good one.
            let moment = Instant::now() + step * Duration::from_millis(3);
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
            victim.kill().unwrap();
            victim.wait().unwrap();
            interrupted += u32::from(!lines.any(|line| line.is_ok_and(|line| line == "done")));
            let known = driver.known().unwrap();
            assert!(known.is_empty() || known == [id(1)], "{known:?}");
            left += u32::try_from(known.len()).unwrap();
            for id in known {
                driver.teardown(&id).unwrap();
            }
            driver.teardown_unused_host_parts().unwrap();
            assert_eq!(host.state(), before, "after {} ms", 3 * step);
        }
        println!("{interrupted} of {STEPS} interrupted, {left} left something");
        assert!(left > 0, "no victim was killed half-way");
    });
}

#[test]
fn half_a_definition_goes_with_what_nobody_uses() {
    on_host(|host| {
        let driver = host.driver();
        driver.teardown_unused_host_parts().unwrap();
        let front = firebuild_network::Network::named("front".parse().unwrap());
        driver.create(front, false).unwrap();
        let half = host.path("root/networks/new");
        fs_err::write(&half, "{\"Na").unwrap();
        driver.teardown_unused_host_parts().unwrap();
        assert!(!half.exists());
        assert_eq!(driver.networks().unwrap().len(), 2);
    });
}
