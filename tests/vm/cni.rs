//! A VM in a network by CNI, made by Debian's plugins.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::live::{Live, Named};
use crate::service::free_port;
use crate::session::Session;
use crate::traces::{assert_gone, id};
use crate::{BASE, session};

/// Addresses that no test and hardly a host has (RFC 2544).
const SUBNET: &str = "198.18.77.0/24";

/// What runs in the VM: a server that says who asks, and what it was told.
const SERVER: &str = r#"
use IO::Socket::INET;
$| = 1;
$SIG{TERM} = sub { exit 0 };
my $tcp = IO::Socket::INET->new(LocalPort => 7000, Listen => 5) or die "tcp: $!";
open my $routes, "<", "/proc/net/route"; my @routes = <$routes>;
open my $conf, "<", "/etc/resolv.conf"; my @conf = <$conf>;
open my $mtu, "<", "/sys/class/net/eth0/mtu"; my $size = <$mtu>;
print "routes ", scalar(@routes) - 1, " servers ", join(" ", map { /^nameserver (\S+)/ } @conf), " mtu $size";
print "ready\n";
while (my $peer = $tcp->accept) { print $peer "from ", $peer->peerhost, "\n"; close $peer }
"#;

/// The directories of CNI in the session's own, and a list in one of them.
struct Network<'a> {
    session: &'a Session,
    bridge: String,
}

impl<'a> Network<'a> {
    fn new(session: &'a Session) -> Self {
        let bridge = format!("fbt{}", std::process::id());
        let list = serde_json::json!({
            "name": "machines",
            "cniVersion": "1.0.0",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": bridge,
                    "isDefaultGateway": true,
                    "ipMasq": true,
                    "hairpinMode": true,
                    "mtu": 1400,
                    "dns": {"nameservers": ["198.18.77.1"]},
                    "ipam": {
                        "type": "host-local",
                        "subnet": SUBNET,
                        "dataDir": session.path("ipam"),
                        "routes": [{"dst": "198.18.80.0/24", "gw": "198.18.77.7"}],
                    },
                },
                {"type": "firewall"},
                {"type": "portmap", "capabilities": {"portMappings": true}},
                {"type": "tc-redirect-tap"},
            ],
        });
        session.write("conf.d/machines.conflist", list.to_string());
        Self { session, bridge }
    }

    fn arguments(&self, port: &str) -> Vec<String> {
        let path = |name: &str| self.session.path(name).display().to_string();
        let text = |words: [&str; 2]| words.map(str::to_owned);
        [
            text(["--cni-network-name", "machines"]),
            text(["--cni-conf-dir", &path("conf.d")]),
            text(["--cni-cache-dir", &path("cache")]),
            text(["-p", port]),
        ]
        .concat()
    }

    /// What is left of a VM in the plugins' own state and in the cache.
    fn left(&self, id: &str) -> Vec<String> {
        let mut left = Vec::new();
        for directory in ["ipam/machines", "cache/results"] {
            let entries = fs_err::read_dir(self.session.path(directory));
            let names = entries.into_iter().flatten().flatten();
            let names = names.map(|entry| entry.file_name().into_string().unwrap());
            left.extend(names.filter(|name| name != "lock" && !name.starts_with("last_reserved")));
        }
        let rules = Command::new("iptables-save").output().unwrap();
        let rules = String::from_utf8(rules.stdout).unwrap();
        left.extend(
            rules
                .lines()
                .filter(|rule| rule.contains(id))
                .map(str::to_owned),
        );
        left
    }
}

impl Drop for Network<'_> {
    /// What plugins share stays, but a test leaves nothing.
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["link", "del", &self.bridge])
            .output();
    }
}

fn ask(address: Ipv4Addr, port: u16) -> String {
    use std::io::Read as _;
    let mut answer = String::new();
    let mut stream = std::net::TcpStream::connect((address, port)).unwrap();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_service_in_a_network_by_cni() {
    let session = session();
    let network = Network::new(&session);
    let vm = Named::new(&session, "cni");
    let port = free_port();
    let published = format!("{port}:7000");
    let start = ["run", "-d", "--name", vm.name].map(str::to_owned).to_vec();
    let run = [BASE, "--", "perl", "-e", SERVER]
        .map(str::to_owned)
        .to_vec();
    let arguments = [start, network.arguments(&published), run].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    session.ok(&arguments);
    let record = vm.inspect();
    let id = id(&record);
    let interface = &record["NetworkInterfaces"][0];
    assert_eq!(interface["Network"], "machines");
    let path = &interface["StaticConfiguration"]["IPConfiguration"]["IP"];
    let address: Ipv4Addr = path.as_str().unwrap().parse().unwrap();
    assert_eq!(address.octets()[..3], [198, 18, 77]);

    let mut logs = Live::start(&mut session.command(&["logs", "-f", vm.name]));
    logs.until("ready");
    assert_eq!(ask(address, 7000), "from 198.18.77.1\n");
    assert_eq!(ask(Ipv4Addr::LOCALHOST, port), "from 198.18.77.1\n");
    assert_ne!(network.left(&id), Vec::<String>::new());
    // Nobody needs the configuration any more.
    fs_err::remove_dir_all(session.path("conf.d")).unwrap();
    session.ok(&["stop", vm.name]);
    assert_gone(&session, &id);
    assert_eq!(network.left(&id), Vec::<String>::new());
    // The way to its metadata, its own network, the list's route, the default route.
    let told = "routes 4 servers 198.18.77.1 mtu 1400\nready";
    assert_eq!(logs.end(), (Some(0), told.to_owned()));
}

#[test]
fn plugins_check_a_vm_that_runs() {
    let session = session();
    let network = Network::new(&session);
    let vm = Named::new(&session, "cni-checked");
    let start = ["run", "-d", "--name", vm.name].map(str::to_owned).to_vec();
    let run = [BASE, "--", "sleep", "1000"].map(str::to_owned).to_vec();
    let mut arguments = network.arguments("7000");
    // Debian's portmap looks for ports' rules of IPv6, whether there is any or not.
    arguments.truncate(arguments.len() - 2);
    let arguments = [start, arguments, run].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    session.ok(&arguments);
    let record = vm.inspect();
    let interface = &record["NetworkInterfaces"][0]["StaticConfiguration"];
    let address = interface["IPConfiguration"]["IP"].as_str().unwrap();
    let check = ["network", "check", vm.name];
    assert_eq!(session.ok(&check), format!("{}\n", vm.name));
    let lease = session.path("ipam/machines").join(address);
    let aside = session.path("aside");
    fs_err::rename(&lease, &aside).unwrap();
    let said = session.run(&check).failure();
    assert!(
        said.contains("host-local") || said.contains("bridge"),
        "{said}"
    );
    fs_err::rename(&aside, &lease).unwrap();
    session.ok(&check);
    // What is attached is nobody's leftover.
    let path = |name: &str| session.path(name).display().to_string();
    let directories = [path("conf.d"), path("cache")];
    let collect = [
        "network",
        "gc",
        "machines",
        "--cni-conf-dir",
        &directories[0],
        "--cni-cache-dir",
        &directories[1],
    ];
    session.ok(&collect);
    session.ok(&check);
    session.ok(&["stop", vm.name]);
    let said = session.run(&check).failure();
    assert!(said.contains("does not run"), "{said}");
}

#[test]
fn a_supervisor_that_is_killed_leaves_nothing_of_a_network_by_cni() {
    let session = session();
    let network = Network::new(&session);
    let vm = Named::new(&session, "cni-killed");
    let published = format!("{}:7000", free_port());
    let start = ["run", "-d", "--name", vm.name].map(str::to_owned).to_vec();
    let run = [BASE, "--", "sleep", "1000"].map(str::to_owned).to_vec();
    let arguments = [start, network.arguments(&published), run].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    session.ok(&arguments);
    let record = vm.inspect();
    let id = id(&record);
    let owner = record["Processes"]["Owner"].as_u64().unwrap().to_string();
    let killed = Command::new("kill").args(["-9", &owner]).status().unwrap();
    assert!(killed.success());
    // The first command after that finds it, by its record alone.
    session.ok(&["ls", "-a"]);
    assert_eq!(vm.inspect()["State"]["Status"], "Failed");
    assert_gone(&session, &id);
    assert_eq!(network.left(&id), Vec::<String>::new());
}

#[test]
fn what_a_build_runs_is_in_a_network_by_cni() {
    let session = session();
    let network = Network::new(&session);
    // The list's subnet, as the kernel tells of it.
    let text = format!("FROM {BASE}\nRUN grep 004D12C6 /proc/net/route\n");
    let mut arguments = network.arguments("7000");
    arguments.truncate(arguments.len() - 2);
    let arguments: Vec<&str> = ["--no-cache"]
        .into_iter()
        .chain(arguments.iter().map(String::as_str))
        .collect();
    session.build(&text, &arguments).success();
    assert_eq!(network.left("build"), Vec::<String>::new());
}

#[test]
fn what_a_network_by_cni_lacks_is_told() {
    let session = session();
    let network = Network::new(&session);
    let mut arguments = network.arguments("7000");
    arguments[1] = "nowhere".to_owned();
    let arguments: Vec<&str> = std::iter::once("run")
        .chain(arguments.iter().map(String::as_str))
        .chain([BASE, "--", "true"])
        .collect();
    let said = session.run(&arguments).failure();
    assert!(
        said.contains("no CNI network is called `nowhere`"),
        "{said}"
    );
    assert!(
        said.contains("hint: those that there are: machines"),
        "{said}"
    );
}
