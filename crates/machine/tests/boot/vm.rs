//! A VM with its metadata service and a gRPC server, all in a network namespace of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firebuild_machine::agent::{Agent, GuestService, Options, Sides};
use firebuild_machine::boot::{
    CommandLine, Kernel, Needs, Restart, TscMeasurement, agent, distribution, initramfs,
};
use firebuild_protocol::boot::BootArguments;
use firebuild_protocol::metadata::{Credentials, Metadata, Network};
use firebuild_protocol::{HOST_ADDRESS, METADATA_ADDRESS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 7);
const ID: &str = "abcdefghij0123456789";
const PORT: u16 = 4430;
/// How long a VM may take, under emulation and beside other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Which service the guest is told of.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Service {
    Bootstrap,
    Session,
}

impl Drop for Vm {
    /// A test that fails shows what the VM said last.
    fn drop(&mut self) {
        if let Ok(console) = fs_err::read(self.directory.path().join("console")) {
            print!("{}", String::from_utf8_lossy(&console));
        }
    }
}

/// A VM that runs, and what belongs to it.
pub(crate) struct Vm {
    pub(crate) directory: tempfile::TempDir,
    qemu: tokio::process::Child,
    metadata: tokio::task::JoinHandle<()>,
    pub(crate) started: Instant,
}

/// The directory of the kernel that VMs of these tests boot, fetched once.
pub(crate) fn fetched(suite: &str) -> PathBuf {
    static FETCHING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _fetching = FETCHING.lock().unwrap();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kernel-{suite}"));
    if Kernel::open(&directory).is_ok() {
        return directory;
    }
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let staged = tempfile::tempdir_in(parent).unwrap();
    distribution::pull(suite, None, staged.path()).unwrap();
    let _ = fs_err::remove_dir_all(&directory);
    fs_err::rename(staged.keep(), &directory).unwrap();
    directory
}

/// Runs `test` with the kernel of `suite`, on a thread in a network namespace of its own, which has
/// what a VM connects to.
pub(crate) fn with_kernel<F: Future<Output = ()>>(
    suite: &str,
    test: impl FnOnce(Kernel) -> F + Send + 'static,
) {
    let kernel = Kernel::open(&fetched(suite)).unwrap();
    let thread = std::thread::spawn(move || {
        #[allow(
            deprecated,
            reason = "the flag is one that the new function's warning is not about"
        )]
        rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
        for arguments in [
            "link set lo up",
            "tuntap add dev tap0 mode tap",
            "address add 169.254.169.254/30 dev tap0",
            "address add 169.254.169.253/30 dev tap0",
            "address add 10.88.0.1/16 dev tap0",
            "link set tap0 up",
        ] {
            let status = Command::new("ip")
                .args(arguments.split(' '))
                .status()
                .unwrap();
            assert!(status.success(), "ip {arguments}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::time::timeout(PATIENCE, test(kernel)).await.unwrap() });
    });
    thread.join().unwrap();
}

/// Serves `service` to the guest, with one-time identities.
pub(crate) async fn serve(service: impl GuestService) -> (Sides, Agent) {
    let sides = Sides::generate(&ID.parse().unwrap()).unwrap();
    let listener = TcpListener::bind((HOST_ADDRESS, PORT)).await.unwrap();
    let agent = firebuild_machine::agent::serve(
        listener,
        sides.host.server().unwrap(),
        service,
        Options::default(),
    );
    (sides, agent)
}

fn metadata(service: Service, sides: &Sides) -> Metadata {
    let credentials = Credentials {
        grpc_host_port: format!("{HOST_ADDRESS}:{PORT}"),
        server_name: sides.server_name.clone(),
        tls_ca_cert: sides.guest.authority.clone(),
        tls_cert: sides.guest.identity.certificate.clone(),
        tls_key: sides.guest.identity.key.clone(),
        ping_interval: 1000,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Metadata {
        vm_id: ID.to_owned(),
        hostname: "guest-1".to_owned(),
        image_tag: None,
        time: now.as_secs(),
        root_images: 1,
        drives: Vec::new(),
        network: Network {
            gateway: Some(Ipv4Addr::new(10, 88, 0, 1)),
            mtu: Some(1400),
            nameservers: vec!["10.88.0.1".parse().unwrap()],
            search: vec!["example".to_owned()],
            ..Network::of(GUEST, 16)
        },
        bootstrap: Some(credentials.clone()).filter(|_| service == Service::Bootstrap),
        session: Some(credentials).filter(|_| service == Service::Session),
    }
}

/// Answers as MMDS V2 does, for as long as it is asked.
async fn serve_metadata(listener: TcpListener, document: String) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = answer(&mut stream, &document).await;
    }
}

async fn answer(stream: &mut TcpStream, document: &str) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let (status, body) = if request.starts_with("put /latest/api/token") {
        ("200 OK", "secret")
    } else if !request.contains("x-metadata-token: secret\r\n") {
        ("401 Unauthorized", "no token")
    } else if request.starts_with("get /latest/meta-data http") {
        ("200 OK", document)
    } else {
        ("404 Not Found", "nothing")
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await
}

impl Vm {
    /// Boots a VM on `image` in the calling thread's network.
    pub(crate) async fn boot(
        kernel: &Kernel,
        image: &Path,
        service: Service,
        sides: &Sides,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        fs_err::File::create(&disk)
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        let status = Command::new("mke2fs")
            .args(["-q", "-t", "ext4"])
            .arg(&disk)
            .status()
            .unwrap();
        assert!(status.success());
        fs_err::write(
            directory.path().join("initrd"),
            initramfs(kernel, agent(), Needs::default()).unwrap(),
        )
        .unwrap();
        let listener = TcpListener::bind((METADATA_ADDRESS, 80)).await.unwrap();
        let document = serde_json::to_string(&metadata(service, sides)).unwrap();
        let metadata = tokio::spawn(serve_metadata(listener, document));
        let started = Instant::now();
        let qemu = qemu(kernel, image, directory.path());
        Self {
            directory,
            qemu,
            metadata,
            started,
        }
    }

    /// Waits until the VM has ended, and returns what was on its console.
    pub(crate) async fn ended(mut self) -> String {
        let status = self.qemu.wait().await.unwrap();
        self.metadata.abort();
        let console = self.console();
        assert!(status.success(), "{status}: {console}");
        console
    }

    /// What is on the console.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&fs_err::read(self.directory.path().join("console")).unwrap())
            .into_owned()
    }

    /// The VM's own disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }
}

fn qemu(kernel: &Kernel, image: &Path, directory: &Path) -> tokio::process::Child {
    let at = |name: &str| directory.join(name).display().to_string();
    let line = CommandLine {
        arguments: BootArguments {
            address: GUEST,
            prefix: 16,
            mac: None,
        },
        restart: Restart::TripleFault,
        tsc_khz: Some(TscMeasurement::begin().khz()),
        debug: std::env::var_os("FIREBUILD_TEST_DEBUG").is_some(),
    };
    let console = fs_err::File::create(at("console")).unwrap();
    let mut command = tokio::process::Command::new("qemu-system-x86_64");
    command
        .args(["-M", "microvm,accel=tcg", "-cpu", "max,-cx16", "-m", "256"])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-nographic",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(kernel.vmlinux())
        .args(["-initrd", &at("initrd"), "-append", &line.to_string()])
        .args([
            "-drive",
            &format!(
                "id=root,if=none,format=raw,readonly=on,file={}",
                image.display()
            ),
        ])
        .args(["-device", "virtio-blk-device,drive=root,serial=root"])
        .args([
            "-drive",
            &format!("id=disk,if=none,format=raw,file={}", at("disk")),
        ])
        .args(["-device", "virtio-blk-device,drive=disk,serial=disk"])
        .args(["-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no"])
        .args(["-device", "virtio-net-device,netdev=net"])
        .stdin(Stdio::null())
        .stdout(console.into_parts().0)
        .kill_on_drop(true);
    command.spawn().unwrap()
}
