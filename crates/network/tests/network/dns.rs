//! Name servers that a guest cannot reach itself are asked through the gateway.

use std::net::Ipv4Addr;

use crate::rig::{Guest, ip, on_host, request};

#[test]
fn a_server_on_the_hosts_loopback_answers_guests() {
    on_host(|host| {
        fs_err::write(host.path("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        host.net.serve_udp(Ipv4Addr::LOCALHOST, 53);
        host.net.serve_tcp(Ipv4Addr::LOCALHOST, 53);
        host.net.serve_tcp(Ipv4Addr::LOCALHOST, 54);
        let attachment = host.driver().setup(&request(1, &[])).unwrap();
        let gateway = attachment.interfaces[0].gateway.unwrap();
        assert_eq!(attachment.interfaces[0].dns, [gateway]);
        let guest = Guest::boot(&attachment);
        let own = Some(attachment.interfaces[0].address.to_string());
        assert_eq!(guest.net.ask_udp(gateway, 53), own);
        assert_eq!(guest.net.ask_tcp(gateway, 53), own);
        assert!(guest.net.cannot_reach(gateway, 54));
    });
}

/// Clouds have their name server there.
#[test]
fn a_link_local_server_answers_guests() {
    on_host(|host| {
        let server = Ipv4Addr::new(169, 254, 169, 254);
        host.outside
            .run(|| ip(&format!("address add {server}/32 dev wan1")));
        ip(&format!("route add {server} dev wan0"));
        host.outside.serve_udp(server, 53);
        fs_err::write(host.path("resolv.conf"), format!("nameserver {server}\n")).unwrap();
        let attachment = host.driver().setup(&request(1, &[])).unwrap();
        let gateway = attachment.interfaces[0].gateway.unwrap();
        assert_eq!(attachment.interfaces[0].dns, [gateway]);
        let guest = Guest::boot(&attachment);
        let host_address = Some(crate::rig::HOST_OUTSIDE.to_string());
        assert_eq!(guest.net.ask_udp(gateway, 53), host_address);
        assert_eq!(
            guest.net.ask_udp(server, 53),
            None,
            "that is the VM's own metadata"
        );
    });
}
