//! Workloads.

use std::time::Duration;

use firebuild_machine::agent::Agent;
use firebuild_machine::boot::Kernel;
use firebuild_protocol::mount::{Memory, Mount, Source};
use firebuild_protocol::v1::exit::How;
use firebuild_protocol::v1::machine_server::{Machine, MachineServer};
use firebuild_protocol::v1::{
    FromGuest, FromTerminal, Shutdown, Signal, Start, ToGuest, ToTerminal, from_guest, output,
    to_guest,
};
use firebuild_protocol::workload::Workload;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::image::image;
use crate::vm::{Service, Vm, serve, with_kernel};

/// Hands the one session of a test to it.
struct Host(
    Mutex<Option<mpsc::Sender<Streaming<FromGuest>>>>,
    Mutex<Option<mpsc::Receiver<Result<ToGuest, Status>>>>,
);

#[tonic::async_trait]
impl Machine for Host {
    type SessionStream = ReceiverStream<Result<ToGuest, Status>>;
    type TerminalStream = tokio_stream::Empty<Result<ToTerminal, Status>>;

    async fn terminal(
        &self,
        _: Request<Streaming<FromTerminal>>,
    ) -> Result<Response<Self::TerminalStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn session(
        &self,
        request: Request<Streaming<FromGuest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let sender = self.0.lock().await.take().unwrap();
        sender.send(request.into_inner()).await.unwrap();
        let to_guest = self.1.lock().await.take().unwrap();
        Ok(Response::new(ReceiverStream::new(to_guest)))
    }
}

/// A session from the host's side.
struct Session {
    vm: Vm,
    _agent: Agent,
    from_guest: Streaming<FromGuest>,
    to_guest: mpsc::Sender<Result<ToGuest, Status>>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Session {
    async fn open(kernel: &Kernel) -> Self {
        let (sender, mut sessions) = mpsc::channel(1);
        let (to_guest, receiver) = mpsc::channel(4);
        let host = Host(Mutex::new(Some(sender)), Mutex::new(Some(receiver)));
        let (sides, agent) = serve(MachineServer::new(host)).await;
        let vm = Vm::boot(kernel, image(), Service::Session, &sides).await;
        let mut from_guest = sessions.recv().await.unwrap();
        let hello = from_guest
            .message()
            .await
            .unwrap()
            .unwrap()
            .message
            .unwrap();
        let from_guest::Message::Hello(hello) = hello else {
            panic!("{hello:?}")
        };
        assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
        Self {
            vm,
            _agent: agent,
            from_guest,
            to_guest,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    async fn send(&self, message: to_guest::Message) {
        self.to_guest
            .send(Ok(ToGuest {
                message: Some(message),
            }))
            .await
            .unwrap();
    }

    async fn start(&self, workload: &Workload) {
        let workload = serde_json::to_string(workload).unwrap();
        self.send(to_guest::Message::Start(Start { workload }))
            .await;
    }

    /// The next message that is no output and tells nothing of the boot.
    async fn next(&mut self) -> from_guest::Message {
        loop {
            let message = self.from_guest.message().await;
            let message = message.unwrap_or_else(|error| panic!("{error}: {}", self.vm.console()));
            match message.unwrap().message.unwrap() {
                from_guest::Message::Output(output) => match output.stream() {
                    output::Stream::Stdout => self.stdout.extend(&output.data),
                    output::Stream::Stderr => self.stderr.extend(&output.data),
                },
                from_guest::Message::Boot(_) => {}
                other => return other,
            }
        }
    }

    /// How the workload ended.
    async fn exited(&mut self) -> How {
        loop {
            match self.next().await {
                from_guest::Message::Started(_) => {}
                from_guest::Message::Exited(exited) => return exited.exit.unwrap().how.unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn first_output(&mut self) {
        while self.stdout.is_empty() {
            match self
                .from_guest
                .message()
                .await
                .unwrap()
                .unwrap()
                .message
                .unwrap()
            {
                from_guest::Message::Output(output) => self.stdout.extend(&output.data),
                from_guest::Message::Started(_) | from_guest::Message::Boot(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets the VM end; what was on its console.
    async fn end(self) -> String {
        let shutdown = Shutdown {
            signal: 15,
            grace_milliseconds: 5000,
        };
        self.send(to_guest::Message::Shutdown(shutdown)).await;
        self.vm.ended().await
    }
}

fn script(text: &str) -> Workload {
    Workload {
        environment: vec![
            ("PATH".to_owned(), "/bin".to_owned()),
            ("A".to_owned(), "b c".to_owned()),
        ],
        workdir: "/srv/new".to_owned(),
        mounts: vec![Mount {
            target: "/var/volume".to_owned(),
            source: Source::Memory(Memory::default()),
            read_only: false,
        }],
        ..Workload::new(vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()])
    }
}

#[test]
fn a_workload_sees_a_machine_of_its_own() {
    with_kernel("bookworm", |kernel| async move {
        let mut session = Session::open(&kernel).await;
        let mut workload = script(
            "pwd; id; hostname; cat /etc/hostname /etc/resolv.conf /etc/hosts; echo \"$A|$HOME|$HOSTNAME\"; \
             ls -d /var/volume /proc/1 /sys/class/net/eth0 /dev/null /dev/vda /dev/pts/ptmx; \
             cat /sys/class/net/eth0/mtu /etc/profile.d/run-env.sh; stat -c %a /tmp; \
             cat /proc/net/route; readlink /etc/resolv.conf; echo complaint >&2; exit 3",
        );
        workload.run_environment = vec![("GIVEN".to_owned(), "x$y".to_owned())];
        workload.user = "web".to_owned();
        session.start(&workload).await;
        assert_eq!(session.exited().await, How::Status(3));
        println!("exited after {:?}", session.vm.started.elapsed());
        let text = String::from_utf8(session.stdout.clone()).unwrap();
        for expected in [
            "/srv/new\nuid=33(web) gid=34(web) groups=34(web),50(extra)\nguest-1\nguest-1\n",
            "nameserver 10.88.0.1\nsearch example\n",
            "127.0.0.1\tlocalhost\n",
            "10.88.0.7\tguest-1\n",
            "b c|/home/web|guest-1\n",
            "/dev/null\n/dev/pts/ptmx\n/dev/vda\n/proc/1\n/sys/class/net/eth0\n/var/volume\n1400\n",
            "export GIVEN=\"x\\$y\"\n",
            "/run/resolv/stub.conf\n",
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        assert_eq!(session.stderr, b"complaint\n");
        let disk = session.vm.disk();
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("disk");
        let console = session.end_with(|| fs_err::hard_link(&disk, &kept)).await;
        assert_eq!(console, "");
        // The journal was written back: nothing is to be recovered.
        let output = std::process::Command::new("e2fsck")
            .arg("-fn")
            .arg(&kept)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && !text.contains("recover"),
            "{text}"
        );
    });
}

impl Session {
    async fn end_with<T>(self, before: impl FnOnce() -> std::io::Result<T>) -> String {
        // The disk's directory goes with the VM, and the test's file has to be on its device.
        before().unwrap();
        self.end().await
    }
}

#[test]
fn the_newer_kernel_boots_too() {
    with_kernel("trixie", |kernel| async move {
        let mut session = Session::open(&kernel).await;
        session.start(&script("echo hello")).await;
        assert_eq!(session.exited().await, How::Status(0));
        assert_eq!(session.stdout, b"hello\n");
        println!("exited after {:?}", session.vm.started.elapsed());
        assert_eq!(session.end().await, "");
    });
}

#[test]
fn a_program_that_cannot_be_started_is_told_as_shells_do() {
    with_kernel("bookworm", |kernel| async move {
        let mut session = Session::open(&kernel).await;
        let mut workload = script("");
        workload.arguments = vec!["none".to_owned()];
        session.start(&workload).await;
        let from_guest::Message::Failed(failed) = session.next().await else {
            panic!()
        };
        assert_eq!(
            (failed.status, failed.error.as_str()),
            (127, "`none` is not found in `PATH`")
        );
        assert_eq!(session.end().await, "");
    });
}

#[test]
fn signals_reach_the_workload_and_orphans_end_with_the_vm() {
    with_kernel("bookworm", |kernel| async move {
        let mut session = Session::open(&kernel).await;
        session
            .start(&script(
                "trap 'echo caught; exit 7' USR1; (sleep 1000 &) ; seq 200000 | wc -l; \
                 while :; do sleep 0.05; done",
            ))
            .await;
        session.first_output().await;
        session
            .send(to_guest::Message::Signal(Signal { number: 10 }))
            .await;
        assert_eq!(session.exited().await, How::Status(7));
        assert_eq!(String::from_utf8_lossy(&session.stdout), "200000\ncaught\n");
        let before = std::time::Instant::now();
        assert_eq!(session.end().await, "");
        assert!(before.elapsed() < Duration::from_secs(30));
    });
}

#[test]
fn a_shutdown_asks_first_and_a_host_that_is_gone_ends_the_vm() {
    with_kernel("bookworm", |kernel| async move {
        let mut session = Session::open(&kernel).await;
        session
            .start(&script(
                "trap '' TERM; echo up; while :; do sleep 0.05; done",
            ))
            .await;
        session.first_output().await;
        let shutdown = Shutdown {
            signal: 15,
            grace_milliseconds: 300,
        };
        session.send(to_guest::Message::Shutdown(shutdown)).await;
        assert_eq!(session.exited().await, How::Signal(9));
        // No answer to the workload's end, only the end of the session.
        let Session {
            vm,
            _agent,
            from_guest,
            to_guest,
            ..
        } = session;
        drop((from_guest, to_guest));
        assert_eq!(vm.ended().await, "");
    });
}
