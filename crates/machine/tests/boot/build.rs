//! Builds: commands, their output, the layers that come back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use firebuild_core::layer::{Entry, Item, LayerReader, LayerWriter};
use firebuild_core::tree::{Device, Metadata};
use firebuild_machine::agent::Agent;
use firebuild_machine::boot::Kernel;
use firebuild_protocol::chunk::{Receiver, Sender};
use firebuild_protocol::command::{Command, File, Form, Lay, Run};
use firebuild_protocol::v1::bootstrap_server::{Bootstrap, BootstrapServer};
use firebuild_protocol::v1::exit::How;
use firebuild_protocol::v1::{
    AbortRequest, AgentData, Chunk, CommandResult, CommandsRequest, CommandsResponse, Empty,
    FromTerminal, LayerChunk, LayerReceipt, LogMessage, PingRequest, PingResponse, ResourceRequest,
    ToTerminal,
};
use tonic::{Request, Response, Status, Streaming};

use crate::image::image;
use crate::vm::{Service, Vm, serve, with_kernel};

/// What a host has to offer, and what it was told.
#[derive(Default)]
struct Record {
    /// One answer to each call of Commands, the last first; none left means the end.
    batches: Vec<Vec<Command>>,
    resources: BTreeMap<String, Vec<Chunk>>,
    lines: BTreeMap<(u32, &'static str), Vec<String>>,
    layers: BTreeMap<u32, Vec<u8>>,
    results: BTreeMap<u32, How>,
    asked: Vec<u32>,
    pings: usize,
    aborted: Option<String>,
    succeeded: bool,
}

#[derive(Clone, Default)]
struct Host(Arc<Mutex<Record>>);

impl Host {
    fn note<T>(&self, note: impl FnOnce(&mut Record) -> T) -> T {
        note(&mut self.0.lock().unwrap())
    }

    fn lines(&self, stream: &'static str, message: LogMessage) -> Response<Empty> {
        let lines = message
            .line
            .iter()
            .map(|line| String::from_utf8_lossy(line).into_owned());
        self.note(|record| {
            record
                .lines
                .entry((message.command, stream))
                .or_default()
                .extend(lines)
        });
        Response::new(Empty {})
    }
}

#[tonic::async_trait]
impl Bootstrap for Host {
    type AgentStream = tokio_stream::Empty<Result<AgentData, Status>>;
    type TerminalStream = tokio_stream::Empty<Result<ToTerminal, Status>>;
    type ResourceChunkStream = tokio_stream::Iter<std::vec::IntoIter<Result<Chunk, Status>>>;

    async fn commands(
        &self,
        request: Request<CommandsRequest>,
    ) -> Result<Response<CommandsResponse>, Status> {
        let batch = self.note(|record| {
            record.asked.push(request.into_inner().finished);
            record.batches.pop().unwrap_or_default()
        });
        let commands = serde_json::to_string(&batch).unwrap();
        Ok(Response::new(CommandsResponse { commands }))
    }

    async fn resource_chunk(
        &self,
        request: Request<ResourceRequest>,
    ) -> Result<Response<Self::ResourceChunkStream>, Status> {
        let path = request.into_inner().path;
        let chunks = self.note(|record| record.resources.get(&path).cloned());
        let chunks = chunks.ok_or_else(|| Status::not_found(format!("`{path}` is not offered")))?;
        let chunks: Vec<_> = chunks.into_iter().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(chunks)))
    }

    async fn layer(
        &self,
        request: Request<Streaming<LayerChunk>>,
    ) -> Result<Response<LayerReceipt>, Status> {
        let mut stream = request.into_inner();
        let (mut receiver, mut bytes, mut command) = (Receiver::default(), Vec::new(), 0);
        while let Some(part) = stream.message().await? {
            command = part.command;
            if let Some(data) = receiver.accept(part.chunk.unwrap(), 1 << 30).unwrap() {
                bytes.extend_from_slice(&data);
            }
        }
        receiver.finish().unwrap();
        self.note(|record| record.layers.insert(command, bytes));
        Ok(Response::new(LayerReceipt {}))
    }

    async fn finished(&self, request: Request<CommandResult>) -> Result<Response<Empty>, Status> {
        let result = request.into_inner();
        self.note(|record| {
            record
                .results
                .insert(result.command, result.exit.unwrap().how.unwrap())
        });
        Ok(Response::new(Empty {}))
    }

    async fn std_out(&self, request: Request<LogMessage>) -> Result<Response<Empty>, Status> {
        Ok(self.lines("out", request.into_inner()))
    }

    async fn std_err(&self, request: Request<LogMessage>) -> Result<Response<Empty>, Status> {
        Ok(self.lines("err", request.into_inner()))
    }

    async fn agent(
        &self,
        _: Request<Streaming<AgentData>>,
    ) -> Result<Response<Self::AgentStream>, Status> {
        Err(Status::not_found("there is no agent"))
    }

    async fn terminal(
        &self,
        _: Request<Streaming<FromTerminal>>,
    ) -> Result<Response<Self::TerminalStream>, Status> {
        Err(Status::not_found("there is no terminal"))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        self.note(|record| record.pings += 1);
        Ok(Response::new(PingResponse {
            id: request.into_inner().id,
        }))
    }

    async fn abort(&self, request: Request<AbortRequest>) -> Result<Response<Empty>, Status> {
        self.note(|record| record.aborted = Some(request.into_inner().error));
        Ok(Response::new(Empty {}))
    }

    async fn success(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.note(|record| record.succeeded = true);
        Ok(Response::new(Empty {}))
    }
}

/// Builds `record` in a VM; what the host was told, and what was on the console.
async fn built(kernel: &Kernel, record: Record) -> (Record, String) {
    let host = Host(Arc::new(Mutex::new(record)));
    let (sides, agent): (_, Agent) = serve(BootstrapServer::new(host.clone())).await;
    let vm = Vm::boot(kernel, image(), Service::Bootstrap, &sides).await;
    let console = vm.ended().await;
    drop(agent);
    let record = host.note(std::mem::take);
    (record, console)
}

fn run(index: u32, text: &str) -> Run {
    Run {
        index,
        original: format!("RUN {text}"),
        form: Form::Shell(text.to_owned()),
        shell: vec!["/bin/sh".to_owned(), "-c".to_owned()],
        environment: vec![
            ("PATH".to_owned(), "/bin".to_owned()),
            ("BOTH".to_owned(), "env".to_owned()),
        ],
        build_args: vec![("BOTH".to_owned(), "arg".to_owned())],
        workdir: "/".to_owned(),
        user: String::new(),
        hostname: String::new(),
        offline: false,
        privileged: false,
        keep: false,
        files: Vec::new(),
        mounts: Vec::new(),
    }
}

fn copy(index: u32, resource: &str) -> Command {
    let (original, resource) = (format!("COPY {resource} /"), resource.to_owned());
    Command::Copy(Lay {
        index,
        original,
        resource,
    })
}

/// A resource of several pieces.
fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let mut sender = Sender::default();
    let mut chunks: Vec<Chunk> = bytes
        .chunks(700)
        .map(|piece| sender.piece(piece.to_vec()))
        .collect();
    chunks.push(sender.end());
    chunks
}

fn layer(write: impl FnOnce(&mut LayerWriter<Vec<u8>>)) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    write(&mut writer);
    writer.finish().unwrap()
}

/// A layer in words: path, kind, mode, owner; content for short files.
fn told(bytes: &[u8]) -> Vec<String> {
    use std::io::Read as _;
    let mut reader = LayerReader::new(bytes);
    let mut told = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let kind = match &entry.item {
            Item::Directory => "directory".to_owned(),
            Item::File(_) => {
                let mut content = String::new();
                reader.read_to_string(&mut content).unwrap();
                format!("file {content:?}")
            }
            Item::HardLink(target) => format!("link {}", text(target)),
            Item::Symlink(target) => format!("symlink {}", text(target)),
            Item::CharacterDevice(Device { major, minor }) => format!("device {major}:{minor}"),
            Item::BlockDevice(_) => "block device".to_owned(),
            Item::Fifo => "fifo".to_owned(),
            Item::Whiteout => "whiteout".to_owned(),
            Item::Opaque => "opaque".to_owned(),
        };
        let Metadata { mode, uid, gid, .. } = entry.metadata;
        told.push(match entry.item {
            Item::Whiteout | Item::Opaque | Item::Symlink(_) => format!("/{path} {kind}"),
            _ => format!("/{path} {kind} {mode:o} {uid}:{gid}"),
        });
    }
    told
}

/// Two batches that end in a failure, and a third.
fn three_batches() -> Record {
    let script = "echo one; echo two >&2; printf 'no line feed'; echo $BOTH $HOME $PWD; \
        rm /data/gone; rm -r /data/old; mkdir /data/old; echo new > /data/old/file; \
        ln /data/old/file /data/second; ln -s ../nowhere /data/symlink; mkfifo -m 600 /data/fifo; \
        mknod -m 640 /data/device c 1 3; chmod 4711 /data/keep; chown 33:34 /data/second; \
        cat /etc/resolv.conf; sleep 1000 & exit 0";
    let mut listing = run(
        2,
        "ls /data /data/old /laid; cat /data/keep /dev/pipes/EOF; id -u; id -G; pwd; echo $HOME > mine; true",
    );
    listing.workdir = "/new/dir".to_owned();
    listing.user = "web".to_owned();
    listing.files = vec![File {
        path: "/dev/pipes/EOF".to_owned(),
        mode: 0o755,
        content: "heredoc\n".to_owned(),
    }];
    let mut missing = run(4, "");
    missing.form = Form::Exec(vec!["none".to_owned()]);
    let laid = layer(|w| {
        let directory = Metadata::root_owned(0o755);
        w.entry(b"data", &Metadata::root_owned(0o755), Entry::Directory)
            .unwrap();
        w.whiteout(b"data/keep").unwrap();
        w.entry(b"laid", &directory, Entry::Directory).unwrap();
        w.file(
            b"laid/file",
            &Metadata {
                uid: 5,
                gid: 6,
                ..Metadata::root_owned(0o644)
            },
            5000,
            &mut &[b'x'; 5000][..],
        )
        .unwrap();
        w.entry(b"laid/again", &directory, Entry::HardLink(b"laid/file"))
            .unwrap();
        w.entry(b"tmp", &directory, Entry::Directory).unwrap();
        w.opaque(b"tmp").unwrap();
    });
    Record {
        batches: vec![
            vec![Command::Run(missing)],
            vec![
                Command::Run(listing),
                Command::Run(run(3, "exit 3")),
                copy(9, "never"),
            ],
            vec![Command::Run(run(0, script)), copy(1, "layers/1")],
        ],
        resources: BTreeMap::from([("layers/1".to_owned(), chunks(&laid))]),
        ..Record::default()
    }
}

#[test]
fn steps_make_layers_and_see_those_before() {
    with_kernel("bookworm", |kernel| async move {
        let record = three_batches();
        let (record, console) = built(&kernel, record).await;
        assert_eq!((console.as_str(), record.aborted), ("", None));
        assert!(record.succeeded);
        assert_eq!(record.asked, [0, 2, 4, 5]);
        assert_eq!(
            record.lines[&(0, "out")],
            [
                "one",
                "no line feedarg /root /",
                "nameserver 10.88.0.1",
                "search example"
            ]
        );
        assert_eq!(record.lines[&(0, "err")], ["two"]);
        assert_eq!(
            told(&record.layers[&0]),
            [
                "/ directory 755 0:0",
                "/data directory 755 0:0",
                "/data/device device 1:3 640 0:0",
                "/data/fifo fifo 600 0:0",
                "/data/gone whiteout",
                "/data/keep file \"kept\" 4711 0:0",
                "/data/old directory 755 0:0",
                "/data/old opaque",
                "/data/old/file file \"new\\n\" 644 33:34",
                "/data/second link data/old/file 644 33:34",
                "/data/symlink symlink ../nowhere",
                "/dev directory 755 0:0",
                "/proc directory 755 0:0",
                "/sys directory 755 0:0",
            ]
        );
        let listed = record.lines[&(2, "out")].join(" ");
        let expected = "/data: device fifo old second symlink  /data/old: file  /laid: again file heredoc 33 34 50 /new/dir";
        assert_eq!(listed, expected);
        let complaints = &record.lines[&(2, "err")];
        assert!(complaints[0].contains("/data/keep"), "{complaints:?}");
        assert!(
            complaints[1].contains("mine: Permission denied"),
            "{complaints:?}"
        );
        assert_eq!(record.results[&1], How::Status(0));
        let made = told(&record.layers[&2]);
        assert_eq!(
            made[1..],
            ["/new directory 755 0:0", "/new/dir directory 755 0:0"]
        );
        assert_eq!(record.results[&3], How::Status(3));
        assert_eq!(record.results[&4], How::Status(127));
        assert_eq!(record.lines[&(4, "err")], ["`none` is not found in `PATH`"]);
        assert_eq!((record.layers.len(), record.results.len()), (2, 3));
    });
}

#[test]
fn a_stage_may_have_many_steps() {
    const STEPS: u32 = 125;
    with_kernel("bookworm", |kernel| async move {
        let mut commands = Vec::new();
        let mut resources = BTreeMap::new();
        for index in 0..STEPS {
            let name = format!("step-{index:03}");
            let bytes = layer(|w| {
                let mut content = name.as_bytes();
                let metadata = Metadata::root_owned(0o644);
                w.file(
                    name.as_bytes(),
                    &metadata,
                    content.len() as u64,
                    &mut content,
                )
                .unwrap();
            });
            resources.insert(name.clone(), chunks(&bytes));
            commands.push(copy(index, &name));
        }
        commands.push(Command::Run(run(
            STEPS,
            "ls -d /step-* | wc -l; rm /step-007; true",
        )));
        commands.push(Command::Run(run(STEPS + 1, "ls -d /step-* | wc -l; true")));
        commands.push(Command::Run(run(STEPS + 2, "true")));
        let record = Record {
            batches: vec![commands],
            resources,
            ..Record::default()
        };
        let (record, console) = built(&kernel, record).await;
        assert_eq!((console.as_str(), record.aborted), ("", None));
        assert_eq!(record.lines[&(STEPS, "out")], ["125"]);
        assert_eq!(record.lines[&(STEPS + 1, "out")], ["124"]);
        let root = |lines: &[String]| lines.iter().filter(|line| line.starts_with("/ ")).count();
        let removed = told(&record.layers[&STEPS]);
        // The root directory's own time has changed.
        assert_eq!(root(&removed), 1, "{removed:?}");
        assert_eq!(
            removed[1..],
            [
                "/dev directory 755 0:0",
                "/proc directory 755 0:0",
                "/step-007 whiteout",
                "/sys directory 755 0:0",
            ]
        );
        assert_eq!(told(&record.layers[&(STEPS + 2)]), [""; 0]);
        assert!(record.pings > 0);
    });
}

#[test]
fn a_damaged_resource_aborts_the_build() {
    with_kernel("bookworm", |kernel| async move {
        let mut damaged = chunks(&layer(|w| w.whiteout(b"x").unwrap()));
        damaged[1].data = vec![1; damaged[1].data.len()].into();
        let record = Record {
            batches: vec![vec![copy(0, "layers/0")]],
            resources: BTreeMap::from([("layers/0".to_owned(), damaged)]),
            ..Record::default()
        };
        let (record, console) = built(&kernel, record).await;
        let reason =
            "cannot lay a layer on: the checksum of the chunk at byte 700 does not match its data";
        assert_eq!(record.aborted.as_deref(), Some(reason));
        assert_eq!(console, format!("vminit: fatal: {reason}\r\n"));
        assert!(!record.succeeded);
    });
}

#[test]
fn a_server_of_another_authority_is_refused_on_the_console() {
    with_kernel("bookworm", |kernel| async move {
        let host = Host::default();
        let (mut sides, agent) = serve(BootstrapServer::new(host.clone())).await;
        let id = sides.server_name.parse().unwrap();
        sides.guest = firebuild_machine::agent::Sides::generate(&id)
            .unwrap()
            .guest;
        let vm = Vm::boot(&kernel, image(), Service::Bootstrap, &sides).await;
        let console = vm.ended().await;
        drop(agent);
        assert!(
            console.starts_with(
                "vminit: fatal: cannot connect to the host at `169.254.169.253:4430`: "
            ),
            "{console}"
        );
        assert_eq!(console.lines().count(), 1, "{console}");
        assert!(host.note(|record| record.asked.is_empty()));
    });
}
