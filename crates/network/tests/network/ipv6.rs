//! IPv6, in networks that have it: the world, published ports, and what a guest cannot forge.

use std::net::Ipv6Addr;

use firebuild_network::{Attachment, Builtin, Mac, Network, Request};

use crate::frame::{Arp, Port, ethernet};
use crate::rig::{Guest, Host, Net, ip, on_host, request, said};

pub(crate) const HOST_OUTSIDE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
pub(crate) const OUTSIDE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const NEIGHBOURS: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

pub(crate) fn define(driver: &Builtin, name: &str, internal: bool) {
    let mut network = Network::named(name.parse().unwrap());
    network.internal = internal;
    driver.create(network, true).unwrap();
}

pub(crate) fn joined(number: u8, network: &str, ports: &[&str]) -> Request {
    Request {
        networks: vec![network.parse().unwrap()],
        ..request(number, ports)
    }
}

/// Gives the host and its outside addresses of IPv6.
pub(crate) fn outside(host: &Host) {
    let nodad = "nodad";
    ip(&format!("address add {HOST_OUTSIDE}/64 dev wan0 {nodad}"));
    host.outside
        .run(|| ip(&format!("address add {OUTSIDE}/64 dev wan1 {nodad}")));
    ip(&format!("route add default via {OUTSIDE} dev wan0"));
}

pub(crate) fn address(attachment: &Attachment) -> Ipv6Addr {
    attachment.interfaces[0].ipv6.as_ref().unwrap().address
}

#[test]
fn a_guest_has_the_world_and_the_world_its_ports() {
    on_host(|host| {
        outside(host);
        // What a host that has its routes from routers is set to.
        fs_err::write("/proc/sys/net/ipv6/conf/wan0/accept_ra", "1").unwrap();
        let driver = host.driver();
        define(&driver, "six", false);
        let one = driver
            .setup(&joined(
                1,
                "six",
                &["8080:80", "[2001:db8:1::1]:5353:53/udp"],
            ))
            .unwrap();
        let accepts = fs_err::read_to_string("/proc/sys/net/ipv6/conf/wan0/accept_ra");
        assert_eq!(accepts.unwrap().trim(), "2");
        let guest = Guest::boot(&one);
        host.outside.serve_tcp(OUTSIDE, 80);
        let seen = guest.net.ask_tcp(OUTSIDE, 80);
        assert_eq!(seen, Some(HOST_OUTSIDE.to_string()));

        guest.net.serve_tcp(Ipv6Addr::UNSPECIFIED, 80);
        guest.net.serve_udp(Ipv6Addr::UNSPECIFIED, 53);
        let seen = host.outside.ask_tcp(HOST_OUTSIDE, 8080);
        assert_eq!(seen, Some(OUTSIDE.to_string()));
        assert!(
            host.outside
                .ask_tcp(crate::rig::HOST_OUTSIDE, 8080)
                .is_some()
        );
        assert!(host.outside.ask_udp(HOST_OUTSIDE, 5353).is_some());
        assert!(host.net.ask_tcp(HOST_OUTSIDE, 8080).is_some());
        assert!(
            host.outside.cannot_reach(address(&one), 80),
            "not published so"
        );
        let before = host.state();
        assert!(before["devices"].contains("fb-"));
        drop((guest, one));
        driver.teardown(&crate::rig::id(1)).unwrap();
        assert_eq!(host.state()["rules"], "");
    });
}

#[test]
fn networks_keep_apart_and_guests_off_the_host() {
    on_host(|host| {
        outside(host);
        let driver = host.driver();
        define(&driver, "six", false);
        define(&driver, "other", false);
        define(&driver, "closed", true);
        let attach = |number, network| driver.setup(&joined(number, network, &[])).unwrap();
        let (one, two) = (attach(1, "six"), attach(2, "six"));
        let (three, four) = (attach(3, "other"), attach(4, "closed"));
        let (first, second) = (Guest::boot(&one), Guest::boot(&two));
        let (third, fourth) = (Guest::boot(&three), Guest::boot(&four));
        for guest in [&first, &second, &third, &fourth] {
            guest.net.serve_tcp(Ipv6Addr::UNSPECIFIED, 80);
        }
        host.net.serve_tcp(Ipv6Addr::UNSPECIFIED, 22);
        host.outside.serve_tcp(OUTSIDE, 80);
        let seen = first.net.ask_tcp(address(&two), 80);
        assert_eq!(seen, Some(address(&one).to_string()));
        let gateway = one.interfaces[0].ipv6.as_ref().unwrap().gateway.unwrap();
        assert!(first.net.cannot_reach(address(&three), 80));
        assert!(third.net.cannot_reach(address(&one), 80));
        assert!(first.net.cannot_reach(gateway, 22));
        assert!(first.net.cannot_reach(HOST_OUTSIDE, 22));
        assert!(first.net.ask_tcp(OUTSIDE, 80).is_some());
        let closed = four.interfaces[0].ipv6.clone().unwrap();
        assert_eq!(closed.gateway, None);
        let inside = Ipv6Addr::from_bits(closed.address.to_bits() >> 64 << 64 | 1);
        fourth
            .net
            .run(|| ip(&format!("route add default via {inside}")));
        assert!(fourth.net.cannot_reach(OUTSIDE, 80));
        assert!(fourth.net.cannot_reach(address(&one), 80));
    });
}

/// An IPv6 packet (RFC 8200).
fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, hops: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[next, hops]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(content);
    packet
}

/// A message of neighbour discovery (RFC 4861): no guard looks at its sum.
fn discovery(kind: u8, target: Ipv6Addr, option: &[u8]) -> Vec<u8> {
    let head = [kind, 0, 0, 0, 0, 0, 0, 0];
    [&head[..], &target.octets()[..], option].concat()
}

fn link_layer(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac.octets()[..]].concat()
}

fn pair(driver: &Builtin) -> (Attachment, Attachment) {
    define(driver, "six", false);
    let one = driver.setup(&joined(1, "six", &[])).unwrap();
    let two = driver.setup(&joined(2, "six", &[])).unwrap();
    (one, two)
}

/// Who sends what to whom.
struct Scene {
    own: Mac,
    other: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    gateway: Ipv6Addr,
}

impl Scene {
    fn of(one: &Attachment, two: &Attachment) -> Self {
        let gateway = one.interfaces[0].ipv6.as_ref().unwrap().gateway;
        Self {
            own: one.interfaces[0].mac,
            other: two.interfaces[0].mac,
            from: address(one),
            to: address(two),
            gateway: gateway.unwrap(),
        }
    }

    fn frame(&self, packet: &[u8]) -> Vec<u8> {
        ethernet(NEIGHBOURS, self.own.octets(), 0x86dd, packet)
    }

    fn packet(&self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        self.frame(&ipv6(from, to, 253, 64, &[1]))
    }

    fn message(&self, to: Ipv6Addr, hops: u8, message: &[u8]) -> Vec<u8> {
        self.frame(&ipv6(self.from, to, 58, hops, message))
    }

    fn advert(&self, source: Ipv6Addr, target: Ipv6Addr, option: &[u8]) -> Vec<u8> {
        let message = discovery(136, target, option);
        self.frame(&ipv6(source, self.to, 58, 255, &message))
    }

    fn forged_packets(&self) -> Vec<(&'static str, Vec<u8>)> {
        let (from, to) = (self.from, self.to);
        let neighbour = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
        let stolen = ipv6(from, to, 253, 64, &[1]);
        vec![
            ("another's address", self.packet(to, to)),
            ("nobody's", self.packet(Ipv6Addr::UNSPECIFIED, to)),
            ("a link-local one", self.packet(neighbour, to)),
            ("to a link-local one", self.packet(from, neighbour)),
            ("to a group", self.packet(from, ALL)),
            (
                "another hardware address",
                ethernet(NEIGHBOURS, self.other.octets(), 0x86dd, &stolen),
            ),
            ("too short", self.frame(&[0x60, 0, 0])),
        ]
    }

    fn forged_discovery(&self) -> Vec<(&'static str, Vec<u8>)> {
        let (from, to, gateway) = (self.from, self.to, self.gateway);
        let own = link_layer(2, self.own);
        let two = [&own[..], &link_layer(2, self.other)[..]].concat();
        let honest = discovery(136, from, &own);
        let hidden = [
            &[58, 0, 1, 4, 0, 0, 0, 0][..],
            &discovery(136, gateway, &[])[..],
        ]
        .concat();
        let question = discovery(135, to, &link_layer(1, self.other));
        vec![
            ("advertises the gateway", self.advert(from, gateway, &own)),
            ("advertises another", self.advert(from, to, &own)),
            (
                "with another's hardware",
                self.advert(from, from, &link_layer(2, self.other)),
            ),
            (
                "with a wrong option",
                self.advert(from, from, &link_layer(1, self.own)),
            ),
            ("as another", self.advert(gateway, gateway, &own)),
            ("with two options", self.advert(from, from, &two)),
            (
                "behind another header",
                self.frame(&ipv6(from, to, 60, 255, &hidden)),
            ),
            ("from afar", self.message(to, 64, &honest)),
            (
                "a question with another's hardware",
                self.message(to, 255, &question),
            ),
            (
                "a router",
                self.message(ALL, 255, &discovery(134, from, &[])),
            ),
            (
                "a redirection",
                self.message(to, 255, &discovery(137, from, &[])),
            ),
        ]
    }
}

const ALL: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[test]
fn what_is_forged_goes_nowhere() {
    on_host(|host| {
        let (one, two) = pair(&host.driver());
        let scene = Scene::of(&one, &two);
        let honest = Arp {
            operation: 1,
            sender: (scene.own, one.interfaces[0].address),
            target: two.interfaces[0].address,
        }
        .frame(scene.own);
        let (port, peer) = (Port::of(&one), Port::of(&two));
        let cases = [scene.forged_packets(), scene.forged_discovery()].concat();
        for (what, frame) in cases {
            port.send(&frame);
            port.send(&honest);
            assert_eq!(peer.receive()[..42], honest[..42], "{what}");
        }
        // What is honest gets through.
        let (from, to) = (scene.from, scene.to);
        let question = discovery(135, to, &link_layer(1, scene.own));
        for good in [
            scene.packet(from, to),
            scene.advert(from, from, &link_layer(2, scene.own)),
            scene.message(to, 255, &question),
        ] {
            port.send(&good);
            // A bridge takes the padding away.
            let got = peer.receive();
            assert!(got.len() >= 55 && good.starts_with(&got), "{got:?}");
        }
    });
}

/// Networks without IPv6 pass none, whatever their neighbours have.
#[test]
fn a_network_without_has_none() {
    on_host(|host| {
        let attachment = host.driver().setup(&request(1, &[])).unwrap();
        assert_eq!(attachment.interfaces[0].ipv6, None);
        let shown = said("ip", &["-6", "address", "show", "dev", "firebuild0"]);
        assert_eq!(shown, "");
        let inside = Net::at(attachment.namespace.path());
        let rules = inside.run(|| said("nft", &["list", "ruleset"]));
        assert!(!rules.contains("ip6"), "{rules}");
        let refused = host
            .driver()
            .setup(&request(2, &["[2001:db8::1]:80:80"]))
            .unwrap_err();
        assert!(refused.to_string().contains("IPv6"), "{refused}");
    });
}
