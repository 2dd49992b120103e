//! Sockets and processes that are put into a VM's namespace.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use firebuild_network::{AGENT_ADDRESS, Namespace};

use crate::rig::{Guest, id, on_host, request};

fn own_namespace() -> u64 {
    fs_err::metadata("/proc/thread-self/ns/net").unwrap().ino()
}

#[test]
fn a_listener_is_inside_while_its_maker_stays_outside() {
    on_host(|host| {
        let attachment = host.driver().setup(&request(1, &[])).unwrap();
        let guest = Guest::boot(&attachment);
        let before = own_namespace();
        let address = (AGENT_ADDRESS, 7000).into();
        let listener = attachment.namespace.listen(address).unwrap();
        assert_eq!(own_namespace(), before);
        let server = std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
            peer.ip()
        });
        let text = guest.net.run(|| {
            let mut stream = TcpStream::connect(address).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(text, "hello");
        assert_eq!(server.join().unwrap(), attachment.interfaces[0].address);
    });
}

#[test]
fn a_child_is_inside_has_the_tap_and_nothing_else_and_is_found() {
    on_host(|host| {
        let driver = host.driver();
        let attachment = driver.setup(&request(1, &["8080:80"])).unwrap();
        let namespace = driver.namespace(&id(1));
        assert_eq!(namespace, attachment.namespace);
        assert!(namespace.processes().unwrap().is_empty());

        let mut command = Command::new("sh");
        let script = "readlink /proc/$$/ns/net; for n in /proc/$$/fd/*; do readlink $n; done; echo; read end || true";
        command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let number = namespace
            .enter_on_start(&mut command, attachment.taps().next())
            .unwrap();
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let inode = fs_err::metadata(namespace.path()).unwrap().ino();
        assert_eq!(lines.next().unwrap().unwrap(), format!("net:[{inode}]"));
        let tap =
            fs_err::read_link(format!("/proc/{}/fd/{}", child.id(), number.unwrap())).unwrap();
        assert_eq!(tap.to_str(), Some("/dev/net/tun"));
        let told = lines.map_while(|line| line.ok().filter(|line| !line.is_empty()));
        let held: Vec<String> = told.collect();
        assert_eq!(namespace.processes().unwrap(), [child.id()]);
        // The reserved port's socket would be here.
        assert!(
            !held.iter().any(|line| line.starts_with("socket:")),
            "{held:?}"
        );
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        assert!(namespace.processes().unwrap().is_empty());
    });
}

#[test]
fn the_tap_can_be_opened_by_its_user_once_it_is_closed_here() {
    on_host(|host| {
        let mut wanted = request(1, &[]);
        wanted.vmm_uid = 12_345;
        wanted.vmm_gid = 12_346;
        let mut attachment = host.driver().setup(&wanted).unwrap();
        let inside = crate::rig::Net::at(attachment.namespace.path());
        let shown = inside.run(|| crate::rig::said("ip", &["-details", "link", "show", "tap0"]));
        assert!(
            shown.contains("vnet_hdr on persist on user 12345 group 12346"),
            "{shown}"
        );
        assert!(inside.run(|| std::panic::catch_unwind(|| crate::tap::open("tap0")).is_err()));
        attachment.close_taps();
        assert!(attachment.taps().next().is_none());
        let again = inside.run(|| crate::tap::open("tap0"));
        let _ = again.as_fd();
    });
}

#[test]
fn a_namespace_that_is_not_there_is_an_error_and_has_no_processes() {
    let namespace = Namespace::at("/run/netns/firebuild-nothing-of-that-name");
    assert!(namespace.processes().unwrap().is_empty());
    assert!(namespace.run(|| ()).is_err());
    assert!(namespace.listen((Ipv4Addr::LOCALHOST, 0).into()).is_err());
    assert!(
        namespace
            .enter_on_start(&mut Command::new("true"), None)
            .is_err()
    );
}
