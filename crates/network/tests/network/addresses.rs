//! Which address a VM gets, and which network.

use std::net::Ipv4Addr;

use firebuild_network::{Builtin, Error, Interface, Mac, Settings, Subnet};

use crate::rig::{Host, id, ip, on_host, request};

fn driver_in(host: &Host, subnets: &[&str]) -> Builtin {
    let subnets = subnets.iter().map(|text| text.parse().unwrap()).collect();
    Builtin::new(Settings {
        subnets,
        ..host.settings()
    })
}

fn attach(driver: &Builtin, number: u8, address: Option<Ipv4Addr>) -> Result<Interface, Error> {
    let mut wanted = request(number, &[]);
    wanted.networks[0].address = address;
    driver
        .setup(&wanted)
        .map(|mut attachment| attachment.interfaces.remove(0))
}

#[test]
fn all_addresses_are_given_and_none_twice() {
    on_host(|host| {
        let driver = driver_in(host, &["10.9.9.0/29"]);
        let before = host.state();
        let mut given: Vec<Ipv4Addr> = (1..=5)
            .map(|number| attach(&driver, number, None).unwrap().address)
            .collect();
        given.sort();
        let all: Vec<Ipv4Addr> = (2..=6).map(|last| Ipv4Addr::new(10, 9, 9, last)).collect();
        assert_eq!(given, all);
        let full = host.state();
        assert!(matches!(
            attach(&driver, 6, None),
            Err(Error::AddressesExhausted(_))
        ));
        assert_eq!(host.state(), full);
        // One that was given back is given again.
        driver.teardown(&id(3)).unwrap();
        assert_eq!(attach(&driver, 6, None).unwrap().address, given[2]);
        for number in [1, 2, 4, 5, 6] {
            driver.teardown(&id(number)).unwrap();
        }
        assert_eq!(host.state(), before);
    });
}

#[test]
fn an_address_rests_before_it_is_given_again() {
    on_host(|host| {
        let driver = driver_in(host, &["10.9.9.0/29"]);
        let first = attach(&driver, 1, None).unwrap().address;
        let _second = attach(&driver, 2, None).unwrap();
        driver.teardown(&id(1)).unwrap();
        assert_ne!(attach(&driver, 3, None).unwrap().address, first);
    });
}

#[test]
fn a_wanted_address_is_given_or_refused_with_the_reason() {
    on_host(|host| {
        let driver = driver_in(host, &["10.9.9.0/29"]);
        let wanted = Ipv4Addr::new(10, 9, 9, 4);
        let interface = attach(&driver, 1, Some(wanted)).unwrap();
        assert_eq!(interface.address, wanted);
        assert_eq!(interface.mac, Mac::of_machine(&id(1)));
        assert_eq!(interface.gateway.unwrap(), Ipv4Addr::new(10, 9, 9, 1));
        let taken = attach(&driver, 2, Some(wanted)).unwrap_err();
        assert!(
            matches!(&taken, Error::AddressTaken { by, .. } if *by == id(1)),
            "{taken}"
        );
        for last in [0, 1, 7, 8] {
            let refused = attach(&driver, 2, Some(Ipv4Addr::new(10, 9, 9, last))).unwrap_err();
            assert!(matches!(refused, Error::AddressOutside { .. }), "{refused}");
        }
    });
}

#[test]
fn a_network_that_the_host_has_a_way_into_is_not_used() {
    on_host(|host| {
        let subnets = [
            "10.9.0.0/20",
            "10.10.0.0/20",
            "198.51.100.0/29",
            "10.11.0.0/20",
        ];
        let driver = driver_in(host, &subnets);
        ip("route add 10.9.1.0/24 via 198.51.100.2");
        ip("rule add from 10.200.0.1 table 77");
        ip("route add 10.0.0.0/9 via 198.51.100.2 table 77");
        let refused = attach(&driver, 1, None).unwrap_err();
        assert!(matches!(&refused, Error::NoSubnet(tried) if tried.contains("10.11.0.0/20")));
        ip("route del 10.0.0.0/9 table 77");
        let interface = attach(&driver, 1, None).unwrap();
        assert_eq!(interface.subnet.to_string(), "10.10.0.0/20");
        // A network in use is kept, whatever comes to the host later.
        ip("route add 10.10.0.0/16 via 198.51.100.2");
        assert_eq!(attach(&driver, 2, None).unwrap().subnet, interface.subnet);
    });
}

#[test]
fn a_network_of_a_name_server_is_not_used() {
    on_host(|host| {
        fs_err::write(host.path("resolv.conf"), "nameserver 10.9.3.3\n").unwrap();
        let driver = driver_in(host, &["10.9.0.0/20", "10.10.0.0/20"]);
        let interface = attach(&driver, 1, None).unwrap();
        assert_eq!(interface.subnet, "10.10.0.0/20".parse::<Subnet>().unwrap());
    });
}

#[test]
fn two_networks_on_one_host_keep_apart() {
    on_host(|host| {
        let one = host.driver();
        let two = Builtin::new(Settings {
            name: "other".parse().unwrap(),
            ..host.settings()
        });
        let before = host.state();
        let first = one.setup(&request(1, &["8080:80"])).unwrap();
        let second = two.setup(&request(2, &["8081:80"])).unwrap();
        assert_ne!(first.interfaces[0].subnet, second.interfaces[0].subnet);
        assert_eq!(one.known().unwrap(), [id(1)]);
        assert_eq!(two.known().unwrap(), [id(2)]);
        one.teardown(&id(1)).unwrap();
        assert_eq!(two.known().unwrap(), [id(2)]);
        two.teardown(&id(2)).unwrap();
        assert_eq!(host.state(), before);
    });
}

#[test]
fn two_state_roots_share_a_network_and_know_their_own() {
    on_host(|host| {
        let one = host.driver();
        let two = Builtin::new(Settings {
            owner: host.path("another-root"),
            ..host.settings()
        });
        let first = one.setup(&request(1, &["8080:80"])).unwrap();
        let second = two.setup(&request(2, &[])).unwrap();
        assert_eq!(first.interfaces[0].subnet, second.interfaces[0].subnet);
        assert_ne!(first.interfaces[0].address, second.interfaces[0].address);
        assert_eq!(one.known().unwrap(), [id(1)]);
        assert_eq!(two.known().unwrap(), [id(2)]);
        assert!(matches!(
            two.validate(&request(3, &["8080:80"])),
            Err(Error::PortTaken { .. })
        ));
    });
}

#[test]
fn a_vm_that_comes_back_has_its_address_unless_somebody_else_has() {
    on_host(|host| {
        let driver = driver_in(host, &["10.9.9.0/29"]);
        let name = firebuild_network::NetworkName::default();
        let old = attach(&driver, 1, None).unwrap().address;
        driver.teardown(&id(1)).unwrap();
        let mut again = request(1, &[]);
        again.before.insert(name, old);
        let address = |wanted| driver.setup(&wanted).unwrap().interfaces[0].address;
        assert_eq!(address(again.clone()), old);
        driver.teardown(&id(1)).unwrap();
        let other = attach(&driver, 2, Some(old)).unwrap();
        assert_ne!(address(again.clone()), other.address);
        driver.teardown(&id(1)).unwrap();
        // What is asked for now comes before what was.
        let wanted = Ipv4Addr::new(10, 9, 9, 5);
        again.networks[0].address = Some(wanted);
        assert_eq!(address(again), wanted);
    });
}
