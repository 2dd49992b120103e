//! The stage of these tests: a host, an outside world and guests, all of them network namespaces of
//! the test's own. Nothing touches the machine's network: what the driver takes for the host is a
//! namespace that goes with its thread.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use firebuild_core::MachineId;
use firebuild_network::{Attachment, Builtin, Interface, Ipv6Interface, Join, Request, Settings};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};

use crate::tap;

/// How long a connection that must fail is tried.
const REFUSED_AFTER: Duration = Duration::from_millis(400);
/// How long an answer that must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const HOST_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Set in the process that runs one test.
const ALONE: &str = "FIREBUILD_NETWORK_TEST_ALONE";

/// Runs a test in a process of its own, on a thread that has a network namespace, and a view of the
/// mounts, of its own.
///
/// A process of its own, because a child that another test is starting holds every socket of the
/// process for a moment: a port that was given up would now and then still be in use.
pub(crate) fn on_host(test: impl FnOnce(&Host) + Send) {
    if std::env::var_os(ALONE).is_none() {
        return run_alone();
    }
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            test(&Host::new());
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs the calling test again in a new process, whole, the first time that it asks.
fn run_alone() {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    if DONE.replace(true) {
        return;
    }
    let this = thread::current();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([this.name().unwrap(), "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    print!("{text}{error}");
    assert!(output.status.success());
    assert!(text.contains("1 passed"), "the test was not found again");
}

/// The namespace that the driver takes for the host.
pub(crate) struct Host {
    pub(crate) net: Net,
    pub(crate) outside: Net,
    pub(crate) directory: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        // The mounts below it go with it, and then the directory can be removed.
        umount2(self.directory.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

impl Host {
    fn new() -> Self {
        let outside = Net::new();
        ip("link set lo up");
        ip("link add wan0 type veth peer name wan1");
        outside.adopt("wan1");
        ip(&format!("address add {HOST_OUTSIDE}/24 dev wan0"));
        ip("link set wan0 up");
        ip(&format!("route add default via {OUTSIDE}"));
        outside.run(|| {
            ip("link set lo up");
            ip(&format!("address add {OUTSIDE}/24 dev wan1"));
            ip("link set wan1 up");
        });
        let directory = tempfile::tempdir().unwrap();
        mount(
            Some("none"),
            directory.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        fs_err::write(
            directory.path().join("resolv.conf"),
            format!("nameserver {OUTSIDE}\n"),
        )
        .unwrap();
        let host = Self {
            net: Net::current(),
            outside,
            directory,
        };
        host.pass_bridged_to_rules(false);
        host
    }

    /// Has packets between ports of a bridge pass the host's rules, as Docker and Kubernetes want
    /// it, or not, as it is otherwise. A kernel without br_netfilter knows only the latter.
    pub(crate) fn pass_bridged_to_rules(&self, pass: bool) {
        let switch = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
        if switch.exists() {
            self.net
                .run(|| fs_err::write(switch, if pass { "1" } else { "0" }).unwrap());
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn settings(&self) -> Settings {
        settings_in(self.directory.path())
    }

    pub(crate) fn driver(&self) -> Builtin {
        Builtin::new(self.settings())
    }

    /// All that the driver could leave on the host: devices, addresses, rules, names, leases.
    pub(crate) fn state(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("devices", devices()),
            ("addresses", said("ip", &["-4", "-oneline", "address"])),
            ("routes", routes()),
            ("rules", said("nft", &["list", "ruleset"])),
            ("namespaces", files(&self.path("netns"))),
            ("leases", files(&self.path("leases/firebuild"))),
        ])
    }
}

/// The settings of a driver that keeps all it has in one directory.
pub(crate) fn settings_in(directory: &Path) -> Settings {
    Settings {
        leases: directory.join("leases"),
        namespaces: directory.join("netns"),
        resolv_conf: directory.join("resolv.conf"),
        ..Settings::of_host(directory.join("root"))
    }
}

fn devices() -> String {
    let told = said("ip", &["-brief", "link"]);
    let names = told.lines().map(|line| line.split(' ').next().unwrap());
    names.collect::<Vec<_>>().join("\n")
}

/// Without the state of the link, which comes and goes on its own.
fn routes() -> String {
    said("ip", &["-4", "route", "show", "table", "all"]).replace(" linkdown", "")
}

fn files(directory: &Path) -> String {
    let Ok(entries) = fs_err::read_dir(directory) else {
        return String::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // What a lock and a hint are kept in stays.
        .filter(|name| name != "lock" && name != "last-address")
        .collect();
    names.sort();
    names.join("\n")
}

pub(crate) fn id(number: u8) -> MachineId {
    let mut random = [0; 20];
    random[0] = number;
    random[1] = number / 26;
    MachineId::from_random(random)
}

pub(crate) fn request(number: u8, ports: &[&str]) -> Request {
    Request {
        id: id(number),
        vmm_uid: 0,
        vmm_gid: 0,
        networks: vec![Join::default()],
        before: BTreeMap::new(),
        names: Vec::new(),
        ports: ports.iter().map(|port| port.parse().unwrap()).collect(),
        egress: firebuild_network::Egress::default(),
        metadata_address: true,
    }
}

/// Runs `ip`, which must succeed.
pub(crate) fn ip(arguments: &str) {
    let arguments: Vec<&str> = arguments.split_ascii_whitespace().collect();
    said("ip", &arguments);
}

/// Has `nft` carry a script out.
pub(crate) fn nft(script: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
}

/// What a program prints, which must succeed.
pub(crate) fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace without a name.
pub(crate) struct Net(OwnedFd);

impl Net {
    pub(crate) fn new() -> Self {
        thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Self::current()
        })
        .join()
        .unwrap()
    }

    pub(crate) fn current() -> Self {
        Self::at(Path::new("/proc/thread-self/ns/net"))
    }

    pub(crate) fn at(path: &Path) -> Self {
        Self(fs_err::File::open(path).unwrap().into_parts().0.into())
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Takes a device of the current namespace.
    fn adopt(&self, device: &str) {
        use std::os::fd::AsRawFd;
        let own = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd());
        ip(&format!("link set {device} netns {own}"));
    }

    /// Starts a TCP server that answers with the address of whoever connects.
    pub(crate) fn serve_tcp(&self, address: impl Into<IpAddr>, port: u16) {
        let address = (address.into(), port);
        let listener = self.run(|| TcpListener::bind(address).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip();
                let _ = write!(stream, "{peer}");
            }
        });
    }

    /// Starts a UDP server that does the same.
    pub(crate) fn serve_udp(&self, address: impl Into<IpAddr>, port: u16) {
        let address = (address.into(), port);
        let socket = self.run(|| UdpSocket::bind(address).unwrap());
        thread::spawn(move || {
            let mut byte = [0];
            while let Ok((_, peer)) = socket.recv_from(&mut byte) {
                let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        });
    }

    /// What a server says over TCP, or none if it cannot be reached.
    pub(crate) fn ask_tcp(&self, address: impl Into<IpAddr>, port: u16) -> Option<String> {
        self.ask_tcp_within(address, port, PATIENCE)
    }

    /// Whether a TCP connection fails, by refusal or for want of an answer.
    pub(crate) fn cannot_reach(&self, address: impl Into<IpAddr>, port: u16) -> bool {
        self.ask_tcp_within(address, port, REFUSED_AFTER).is_none()
    }

    fn ask_tcp_within(
        &self,
        address: impl Into<IpAddr>,
        port: u16,
        patience: Duration,
    ) -> Option<String> {
        let address = SocketAddr::new(address.into(), port);
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
            stream.set_read_timeout(Some(patience)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        })
    }

    pub(crate) fn ask_udp(&self, address: impl Into<IpAddr>, port: u16) -> Option<String> {
        let address = SocketAddr::new(address.into(), port);
        let any = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.run(|| {
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            socket.send_to(b"?", address).ok()?;
            let mut buffer = [0; 100];
            let (length, _) = socket.recv_from(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }
}

/// What a VM is to the network: a device with the VM's addresses behind the VM's tap. Two threads
/// carry frames from one tap to the other as a VMM does, with all offloads.
pub(crate) struct Guest {
    pub(crate) net: Net,
    /// The longest frame that came to the guest, in bytes.
    pub(crate) longest: Arc<AtomicUsize>,
    /// Closed to stop the threads.
    stop: Option<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

impl Guest {
    pub(crate) fn boot(attachment: &Attachment) -> Self {
        Self::behind(attachment.interfaces.iter().zip(attachment.taps()))
    }

    fn behind<'a>(devices: impl Iterator<Item = (&'a Interface, BorrowedFd<'a>)>) -> Self {
        let net = Net::new();
        let (stopped, stop) = rustix::pipe::pipe().unwrap();
        let longest = Arc::new(AtomicUsize::new(0));
        let devices: Vec<_> = devices.collect();
        let mut ends = Vec::new();
        net.run(|| ip("link set lo up"));
        for (index, (interface, tap)) in devices.iter().enumerate() {
            let outer = tap.try_clone_to_owned().unwrap();
            tap::offer_offloads(&outer);
            let inner = net.run(|| device(index, interface));
            let to_guest = (outer.try_clone().unwrap(), inner.try_clone().unwrap());
            ends.push((to_guest, Arc::clone(&longest)));
            ends.push(((inner, outer), Arc::default()));
        }
        net.run(|| {
            let mut gateways = devices.iter().filter_map(|(it, _)| it.gateway);
            ip("route add 169.254.169.252/30 dev eth0");
            if let Some(gateway) = gateways.next() {
                ip(&format!("route add default via {gateway}"));
            }
        });
        let threads = ends
            .into_iter()
            .map(|((from, to), longest)| {
                let stopped = stopped.try_clone().unwrap();
                thread::spawn(move || carry(&from, &to, &stopped, &longest))
            })
            .collect();
        Self {
            net,
            longest,
            stop: Some(stop),
            threads,
        }
    }
}

/// A guest's device, with what the attachment says of it.
fn device(index: usize, interface: &Interface) -> OwnedFd {
    let name = format!("eth{index}");
    let tap = tap::open(&name);
    tap::offer_offloads(&tap);
    let mtu = interface.mtu.unwrap_or(1500);
    ip(&format!(
        "link set {name} address {} mtu {mtu} up",
        interface.mac
    ));
    let (address, prefix) = (interface.address, interface.subnet.prefix());
    ip(&format!("address add {address}/{prefix} dev {name}"));
    if let Some(ipv6) = &interface.ipv6 {
        let Ipv6Interface {
            address,
            prefix,
            gateway,
        } = ipv6;
        ip(&format!("address add {address}/{prefix} dev {name} nodad"));
        if let Some(gateway) = gateway {
            ip(&format!("route add default via {gateway} dev {name}"));
        }
    }
    tap
}

/// Carries frames until the other end of `stopped` is closed.
fn carry(from: &OwnedFd, to: &OwnedFd, stopped: &OwnedFd, longest: &AtomicUsize) {
    let mut frame = vec![0; 70_000];
    loop {
        let mut ready = [
            PollFd::new(from.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut ready, PollTimeout::NONE).unwrap();
        if ready[1].any() == Some(true) {
            return;
        }
        if ready[0].revents().unwrap().contains(PollFlags::POLLIN) {
            let length = rustix::io::read(from, &mut frame).unwrap();
            longest.fetch_max(length, Ordering::Relaxed);
            // A device that is down takes none: the frame is lost, as on a cable.
            let _ = rustix::io::write(to, &frame[..length]);
        } else if ready[0].any() == Some(true) {
            // The device is gone.
            return;
        }
    }
}
