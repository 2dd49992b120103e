//! A host of its own for each test, and what the test program does in its other roles.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use firebuild_core::{ByteSize, Digest};
use firebuild_machine::host::Boot;
use firebuild_machine::record::Record;
use firebuild_machine::testing::{ProcessVmm, guest};
use firebuild_machine::{Error, Host, MachineSpec, Purpose, client, reconcile, supervisor};
use firebuild_network::{Builtin, Settings, Subnet};
use firebuild_protocol::boot::BootArguments;
use firebuild_protocol::v1::machine_client::MachineClient;
use firebuild_protocol::v1::{
    Exit, Exited, Failed, FromGuest, Hello, Output, Started, ToGuest, exit, from_guest, output,
    to_guest,
};
use firebuild_protocol::workload::Workload;
use firebuild_protocol::{HOST_ADDRESS, METADATA_ADDRESS};
use firebuild_store::{KernelId, Store};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Which role the program has.
pub(crate) const ROLE: &str = "FIREBUILD_TEST_ROLE";
/// The directory of the test.
const ROOT: &str = "FIREBUILD_TEST_ROOT";
/// What the command `command` runs.
pub(crate) const ARGUMENTS: &str = "FIREBUILD_TEST_ARGUMENTS";

/// A host of a test's own. Nothing is left of it afterwards.
pub(crate) struct Place {
    pub(crate) host: Host,
    root: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = host(root.path());
        let kernel = host.store.temporary_directory().unwrap();
        let id: KernelId = "none".parse().unwrap();
        host.store.kernels().put(&id, kernel, false).unwrap();
        let made = host
            .store
            .rootfs(&rootfs(), |_| Ok::<_, firebuild_store::Error>(()));
        made.unwrap();
        Self { host, root }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn supervisor(&self) -> Command {
        program("supervisor", self.root())
    }

    /// Looks again and again, for what comes of other processes and nobody tells of.
    pub(crate) fn until(&self, condition: impl Fn(&Host) -> bool) {
        for _ in 0..3000 {
            if condition(&self.host) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not come to pass within 30 s");
    }

    /// Nothing of the VM is left on the host.
    pub(crate) fn assert_released(&self, record: &Record) {
        assert!(!record.directories.runtime.exists());
        assert!(!record.directories.disk.exists());
        let namespace = self.host.network.namespace(&record.id);
        assert!(!namespace.path().exists());
        let known = self.host.network.known().unwrap();
        assert!(!known.contains(&record.id));
        let running = self.host.store.machines().is_running(&record.id);
        assert!(!running.unwrap_or_default());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for record in client::list(&self.host).unwrap_or_default() {
            let _ = client::kill(&self.host, &record.id);
        }
        let _ = reconcile::purge(&self.host);
        let _ = self.host.network.teardown_unused_host_parts();
    }
}

fn rootfs() -> Digest {
    Digest::of(b"none")
}

/// The same host, in whatever process.
fn host(root: &Path) -> Host {
    let store = Store::open(&root.join("store")).unwrap();
    let hash = Digest::of(root.as_os_str().as_encoded_bytes());
    let mut settings = Settings::of_host(store.path());
    settings.name = format!("fbm{}", &hash.hex()[..8]).parse().unwrap();
    settings.leases = root.join("leases");
    let third = hash.bytes()[5];
    // Other tests look for a free one at the same time.
    settings.subnets = (0..8)
        .filter_map(|step| Subnet::new([10, 251, third.wrapping_add(step * 31), 0].into(), 24))
        .collect();
    Host {
        network: Builtin::new(settings),
        run: root.join("run"),
        vmm: Some(Arc::new(ProcessVmm::new(|| {
            program("guest", Path::new("/"))
        }))),
        kernels: no_kernel,
        store,
    }
}

fn no_kernel(_: &Store, _: &KernelId) -> Result<Boot, Error> {
    let nothing = || fs_err::File::open("/dev/null").unwrap().into_parts().0;
    Ok(Boot {
        kernel: nothing(),
        initramfs: nothing(),
        acpi: true,
    })
}

/// This program in another role.
pub(crate) fn program(role: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "role", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ROOT, root);
    command
}

pub(crate) fn spec(_: &Place, arguments: &[&str]) -> MachineSpec {
    run_spec(arguments)
}

fn run_spec(arguments: &[&str]) -> MachineSpec {
    let silent = arguments == ["never-calls"];
    MachineSpec {
        purpose: Purpose::Run {
            workload: Workload {
                arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
                environment: Vec::new(),
                run_environment: Vec::new(),
                workdir: "/".to_owned(),
                user: String::new(),
                volumes: Vec::new(),
            },
            stop_signal: 15,
        },
        name: None,
        image: None,
        rootfs: rootfs(),
        kernel: "none".parse().unwrap(),
        kernel_arguments: arguments.iter().map(|a| format!("test={a}")).collect(),
        cpus: 1,
        memory: 64,
        disk: ByteSize::mib(16),
        hostname: None,
        address: None,
        ports: Vec::new(),
        connect_time: silent.then_some(Duration::from_secs(1)),
        remove: false,
        certificates: None,
    }
}

/// A TCP port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn root() -> PathBuf {
    std::env::var_os(ROOT).unwrap().into()
}

pub(crate) fn be_supervisor() {
    let arguments: Vec<_> = std::env::args_os().collect();
    let last = &arguments[arguments.len() - 3..];
    let code = supervisor::main(&host(&root()), last);
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

/// A command that starts a VM and waits for it.
pub(crate) fn be_command() {
    let arguments = std::env::var(ARGUMENTS).unwrap();
    let root = root();
    let supervisor = program("supervisor", &root);
    let started = client::run(&host(&root), run_spec(&[&arguments]), supervisor);
    panic!("{:?}", started.map(|vm| vm.record().clone()));
}

pub(crate) fn be_guest() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let done = runtime.block_on(live());
    std::process::exit(i32::from(done.is_err()));
}

/// What the simulated guest does is the first argument of its workload, which the kernel's command
/// line has as well, for what comes before the workload is known.
async fn live() -> Result<(), guest::Failure> {
    let line = std::env::var("FIREBUILD_COMMAND_LINE")?;
    BootArguments::parse(&line)?;
    let told = |what: &str| line.contains(&format!("test={what}"));
    if told("die-early") {
        println!("vminit: fatal: no such luck");
        return Ok(());
    }
    if told("never-calls") || told("hang") {
        std::future::pending::<()>().await;
    }
    let metadata = guest::metadata((METADATA_ADDRESS, 80).into()).await?;
    let credentials = metadata.session.ok_or("no session")?;
    assert!(
        credentials
            .grpc_host_port
            .starts_with(&HOST_ADDRESS.to_string())
    );
    let mut client = MachineClient::new(guest::call(&credentials).await?);
    let (say, said) = mpsc::channel(16);
    let say = Say(say);
    if told("confused") {
        say.say(from_guest::Message::Started(Started { pid: 1 }))
            .await;
    } else {
        let version = "test".to_owned();
        say.say(from_guest::Message::Hello(Hello { version })).await;
    }
    let orders = client
        .session(ReceiverStream::new(said))
        .await?
        .into_inner();
    work(&say, orders).await
}

struct Say(mpsc::Sender<FromGuest>);

impl Say {
    async fn say(&self, message: from_guest::Message) {
        let message = Some(message);
        let _ = self.0.send(FromGuest { message }).await;
    }

    async fn print(&self, stream: output::Stream, text: &str) {
        let data = text.to_owned().into_bytes().into();
        let stream = stream.into();
        self.say(from_guest::Message::Output(Output { stream, data }))
            .await;
    }

    async fn exit(&self, how: exit::How) {
        let exit = Some(Exit { how: Some(how) });
        self.say(from_guest::Message::Exited(Exited { exit })).await;
    }
}

async fn order(orders: &mut Streaming<ToGuest>) -> Result<to_guest::Message, guest::Failure> {
    let order = orders.message().await?.ok_or("no more orders")?;
    order.message.ok_or_else(|| "an empty order".into())
}

async fn work(say: &Say, mut orders: Streaming<ToGuest>) -> Result<(), guest::Failure> {
    let to_guest::Message::Start(start) = order(&mut orders).await? else {
        return Err("no start".into());
    };
    // Once it is connected, the guest's secrets are its own.
    if guest::metadata((METADATA_ADDRESS, 80).into())
        .await?
        .session
        .is_some()
    {
        return Err("the secrets are still in the metadata".into());
    }
    let workload: Workload = serde_json::from_str(&start.workload)?;
    let arguments: Vec<&str> = workload.arguments.iter().map(String::as_str).collect();
    if arguments == ["missing"] {
        let error = "cannot find `missing`".to_owned();
        say.say(from_guest::Message::Failed(Failed { error, status: 127 }))
            .await;
        std::future::pending::<()>().await;
    }
    say.say(from_guest::Message::Started(Started { pid: 2 }))
        .await;
    match arguments[..] {
        ["say", text, code] => {
            say.print(output::Stream::Stdout, &format!("{text}\n"))
                .await;
            say.print(output::Stream::Stderr, "bye\n").await;
            say.exit(exit::How::Status(code.parse()?)).await;
        }
        ["count", until] => {
            for number in 0..until.parse::<u32>()? {
                say.print(output::Stream::Stdout, &format!("{number}\n"))
                    .await;
            }
            say.exit(exit::How::Status(0)).await;
        }
        ["reboot"] => {
            // Not before the host has heard of the start.
            order(&mut orders).await?;
            println!("the last words");
            return Ok(());
        }
        ["stubborn"] => std::future::pending().await,
        _ => {}
    }
    obey(say, orders).await
}

/// Lives on until it is told to shut down.
async fn obey(say: &Say, mut orders: Streaming<ToGuest>) -> Result<(), guest::Failure> {
    loop {
        match order(&mut orders).await? {
            to_guest::Message::Signal(signal) => {
                let text = format!("signal {}\n", signal.number);
                say.print(output::Stream::Stdout, &text).await;
            }
            to_guest::Message::Shutdown(shutdown) if shutdown.signal != 0 => {
                say.exit(exit::How::Signal(shutdown.signal)).await;
            }
            to_guest::Message::Shutdown(_) => return Ok(()),
            to_guest::Message::Start(_) => return Err("a second start".into()),
        }
    }
}
