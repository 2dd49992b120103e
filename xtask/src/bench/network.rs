//! How much passes between a guest and its host, against the same tap without firebuild.
//!
//! Both sides are one VM, one QEMU, one tap and one program in the guest, in turns. With firebuild, frames
//! pass the rules of the VM's namespace, its cable and the bridge, and the other end is a socket of the host.
//! Without, the namespace has no rules (they are put back after each turn), and the other end is a socket
//! right behind the tap, by the address that the tap has there.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sched::{CloneFlags, setns};

use super::host::Host;
use super::report::{Bound, Row};
use super::statistics::{median_ratio, median_seconds};
use super::vm::Detached;
use crate::shell;

/// How many turns of each direction.
const TURNS: usize = 9;
/// How much passes in a turn.
const MEBIBYTES: usize = 192;
/// The table of the rules of a VM's namespace.
const TABLE: [&str; 3] = ["table", "netdev", "firebuild"];
const PORT: u16 = 7000;
/// How long a turn may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The guest's end: it sends as many mebibytes as it is told, or takes them and says so.
const GUEST: &str = r#"
use Socket;
socket(my $server, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1);
bind($server, sockaddr_in(7000, INADDR_ANY)) or die "bind: $!";
listen($server, 8) or die "listen: $!";
my $piece = "\0" x (1 << 20);
while (accept(my $client, $server)) {
    sysread($client, my $order, 5) == 5 or next;
    my ($what, $mebibytes) = unpack("a1N", $order);
    if ($what eq "s") {
        for (1 .. $mebibytes) {
            my $sent = 0;
            while ($sent < length($piece)) {
                my $part = syswrite($client, $piece, length($piece) - $sent, $sent);
                last unless $part;
                $sent += $part;
            }
        }
    } else {
        my $left = $mebibytes << 20;
        while ($left > 0) {
            my $part = sysread($client, my $bytes, 1 << 20);
            last unless $part;
            $left -= $part;
        }
        syswrite($client, "!");
    }
    close($client);
}
"#;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy)]
enum Way {
    FromGuest,
    ToGuest,
}

pub(super) fn measure(host: &Host) -> anyhow::Result<Vec<Row>> {
    let vm = Detached::start(host, super::BASE, &["perl", "-e", GUEST])?;
    let measured = Place::of(&vm).and_then(|place| {
        Ok(vec![
            place.row(
                Way::FromGuest,
                "guest to host, against the same tap without firebuild (1.05x: 0.95x of its throughput)",
            )?,
            place.row(Way::ToGuest, "host to guest, the same")?,
        ])
    });
    vm.stop()?;
    measured
}

/// Where the guest is.
struct Place {
    namespace: PathBuf,
    guest: SocketAddr,
    /// The rules of its namespace, as a script.
    rules: String,
}

impl Place {
    fn of(vm: &Detached<'_>) -> anyhow::Result<Self> {
        let fact = |name: &str| {
            let path = format!("/NetworkInterfaces/0/StaticConfiguration/{name}");
            let fact = vm.fact(&path).and_then(|fact| fact.as_str());
            fact.map(str::to_owned)
                .with_context(|| format!("the record has no `{path}`"))
        };
        let address: IpAddr = fact("IPConfiguration/IP")?.parse()?;
        let namespace = PathBuf::from(fact("Namespace")?);
        let rules = within(&namespace, || shell::output(nft("list").args(TABLE)))??;
        let place = Self {
            namespace,
            guest: SocketAddr::new(address, PORT),
            rules,
        };
        place.wait_until_it_listens()?;
        Ok(place)
    }

    /// The workload has started, but may not have come to listening.
    fn wait_until_it_listens(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while let Err(error) = transfer(self.guest, Way::FromGuest, 1) {
            ensure!(Instant::now() < end, "the guest does not answer: {error:#}");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn row(&self, way: Way, what: &'static str) -> anyhow::Result<Row> {
        self.with(way)?;
        self.without(way)?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for turn in 0..TURNS {
            // Whoever comes first has no better lot.
            if turn % 2 == 0 {
                with.push(self.with(way)?);
                without.push(self.without(way)?);
            } else {
                without.push(self.without(way)?);
                with.push(self.with(way)?);
            }
        }
        let rate = |of: &[Duration]| {
            #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
            let mebibytes = MEBIBYTES as f64;
            mebibytes / median_seconds(of)
        };
        Ok(Row {
            what,
            figure: median_ratio(&with, &without),
            bound: Bound::times(1.05),
            note: format!(
                "{:.0} MiB/s, and {:.0} MiB/s without",
                rate(&with),
                rate(&without)
            ),
        })
    }

    fn with(&self, way: Way) -> anyhow::Result<Duration> {
        transfer(self.guest, way, MEBIBYTES)
    }

    fn without(&self, way: Way) -> anyhow::Result<Duration> {
        within(&self.namespace, || {
            shell::output(nft("delete").args(TABLE))?;
            let took = transfer(self.guest, way, MEBIBYTES);
            self.put_rules_back()?;
            took
        })?
    }

    fn put_rules_back(&self) -> anyhow::Result<()> {
        let mut child = nft("-f").arg("-").stdin(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("there is no input")?;
        input.write_all(self.rules.as_bytes())?;
        drop(input);
        ensure!(child.wait()?.success(), "nft does not take its own rules");
        Ok(())
    }
}

fn nft(word: &str) -> Command {
    let mut nft = Command::new("nft");
    nft.arg(word);
    nft
}

/// Has the guest send or take, and returns how long that took.
fn transfer(guest: SocketAddr, way: Way, mebibytes: usize) -> anyhow::Result<Duration> {
    let mut stream = TcpStream::connect_timeout(&guest, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let many = u32::try_from(mebibytes)?.to_be_bytes();
    let mut piece = vec![0; 1 << 20];
    let start = Instant::now();
    match way {
        Way::FromGuest => {
            stream.write_all(&[b"s", &many[..]].concat())?;
            let mut came = 0;
            loop {
                match stream.read(&mut piece)? {
                    0 => break,
                    part => came += part,
                }
            }
            ensure!(came == mebibytes << 20, "only {came} bytes came");
        }
        Way::ToGuest => {
            stream.write_all(&[b"r", &many[..]].concat())?;
            for _ in 0..mebibytes {
                stream.write_all(&piece)?;
            }
            let mut answer = [0];
            stream.read_exact(&mut answer)?;
        }
    }
    Ok(start.elapsed())
}

/// Does something on a thread that is in a network namespace, and so are its children.
fn within<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let namespace = fs_err::File::open(namespace)?;
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            anyhow::Ok(work())
        });
        let ended = inside.join();
        ended.map_err(|_| anyhow::anyhow!("the thread in the namespace panicked"))?
    })
}
