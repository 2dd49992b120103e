//! The simulated agent: what the test program does in place of a build VM.
//!
//! Its commands are those of the RUN instructions; each is a word and its arguments, and many of
//! them are what no real agent would do.

mod shell;

use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::Metadata;
use firebuild_machine::testing::guest::{self, Failure};
use firebuild_protocol::METADATA_ADDRESS;
use firebuild_protocol::chunk::{Receiver, Sender};
use firebuild_protocol::command::{Command, Form, Run};
use firebuild_protocol::metadata::Credentials;
use firebuild_protocol::v1::bootstrap_client::BootstrapClient;
use firebuild_protocol::v1::exit::How;
use firebuild_protocol::v1::{
    AbortRequest, Chunk, CommandResult, CommandsRequest, Empty, Exit, LayerChunk, LogMessage,
    ResourceRequest,
};
use tonic::transport::Channel;

type Client = BootstrapClient<Channel>;

/// What the guest does, by its kind.
pub(crate) fn live_and_die(kind: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match kind {
        "dies" => println!("vminit: fatal: no such luck"),
        "breaks" => std::process::exit(3),
        "never-calls" => runtime.block_on(std::future::pending()),
        _ => {
            if let Err(error) = runtime.block_on(live(kind)) {
                println!("vminit: fatal: {}", causes(&*error));
            }
        }
    }
    std::process::exit(0);
}

fn causes(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(causes);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

async fn live(kind: &str) -> Result<(), Failure> {
    let metadata = guest::metadata((METADATA_ADDRESS, 80).into()).await?;
    let mut credentials = metadata.bootstrap.ok_or("no credentials")?;
    let address = credentials.grpc_host_port.parse()?;
    let channel = match kind {
        "no-certificate" => {
            let tls = without_certificate(&credentials)?;
            guest::connect(address, tls, &credentials.server_name).await?
        }
        "wrong-authority" => {
            let other = firebuild_protocol::identity::Identities::generate(
                "other",
                std::time::SystemTime::now(),
                std::time::Duration::from_secs(60),
            )?;
            credentials.tls_cert = other.guest.certificate;
            credentials.tls_key = other.guest.key;
            guest::call(&credentials).await?
        }
        _ => guest::call(&credentials).await?,
    };
    obey(BootstrapClient::new(channel)).await
}

fn without_certificate(
    credentials: &Credentials,
) -> Result<std::sync::Arc<tokio_rustls::rustls::ClientConfig>, Failure> {
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::version::TLS13;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        credentials.tls_ca_cert.as_bytes(),
    )?)?;
    let mut tls = ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls.into())
}

async fn obey(mut client: Client) -> Result<(), Failure> {
    let mut finished = 0;
    loop {
        let answer = client
            .commands(CommandsRequest {
                finished,
                boot: None,
            })
            .await?;
        let commands: Vec<Command> = serde_json::from_str(&answer.into_inner().commands)?;
        if commands.is_empty() {
            client.success(Empty {}).await?;
            return Ok(());
        }
        for command in commands {
            match command {
                Command::Run(run) => execute(&mut client, &run).await?,
                Command::Copy(lay) | Command::Add(lay) => {
                    fetch(&mut client, &lay.resource).await?;
                    finish(&mut client, lay.index, Some(How::Status(0))).await?;
                }
                Command::Shell(asked) => shell::look(&mut client, &asked).await?,
                other @ (Command::Save(_) | Command::Fill(_)) => panic!("{other:?}"),
            }
            finished += 1;
        }
    }
}

async fn fetch(client: &mut Client, path: &str) -> Result<(), Failure> {
    let request = ResourceRequest {
        path: path.to_owned(),
    };
    let mut stream = client.resource_chunk(request).await?.into_inner();
    let mut receiver = Receiver::default();
    while let Some(chunk) = stream.message().await? {
        receiver.accept(chunk, 1 << 30)?;
    }
    receiver.finish()?;
    Ok(())
}

async fn finish(client: &mut Client, command: u32, how: Option<How>) -> Result<(), Failure> {
    let exit = Some(Exit { how });
    client.finished(CommandResult { command, exit }).await?;
    Ok(())
}

async fn say(client: &mut Client, command: u32, text: &str) -> Result<(), Failure> {
    let line = vec![text.to_owned().into_bytes().into()];
    client.std_out(LogMessage { command, line }).await?;
    Ok(())
}

async fn send(client: &mut Client, chunks: Vec<LayerChunk>) -> Result<(), Failure> {
    client.layer(tokio_stream::iter(chunks)).await?;
    Ok(())
}

async fn execute(client: &mut Client, run: &Run) -> Result<(), Failure> {
    let Form::Shell(text) = &run.form else {
        return Err("only shell forms".into());
    };
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let index = run.index;
    match word {
        "touch" => {
            say(client, index, &format!("touching {rest}")).await?;
            send(client, whole(index, &layer(rest))).await
        }
        "nothing" => send(client, whole(index, &empty())).await,
        "tell" => {
            for (name, value) in run.environment.iter().chain(&run.build_args) {
                say(client, index, &format!("{name}={value}")).await?;
            }
            for mount in &run.mounts {
                say(client, index, &serde_json::to_string(mount)?).await?;
            }
            send(client, whole(index, &layer(rest))).await
        }
        "exit" => {
            say(client, index, "last words").await?;
            finish(client, index, Some(How::Status(rest.parse()?))).await
        }
        "signal" => finish(client, index, Some(How::Signal(rest.parse()?))).await,
        "no-how" => finish(client, index, None).await,
        "finish-other" => finish(client, index + 7, Some(How::Status(0))).await,
        "say-other" => say(client, index + 7, "whose line is this").await,
        "bad-layer" => send(client, bad(index, rest)).await,
        "abort" => {
            let error = rest.replace("LONG", &"é".repeat(3000));
            let drive = String::new();
            client.abort(AbortRequest { error, drive }).await?;
            std::future::pending().await
        }
        "hang" => std::future::pending().await,
        "die" => Err("the disk is gone".into()),
        "silence" => {
            say(client, index, "the guest is silent from now on").await?;
            std::thread::park();
            Ok(())
        }
        "flood" => flood(client, index).await,
        "empty-lines" => {
            let line = vec![Vec::new().into(); rest.parse()?];
            let message = LogMessage {
                command: index,
                line,
            };
            client.std_err(message).await?;
            send(client, whole(index, &empty())).await
        }
        "fetch" => {
            let answer = fetch(client, rest).await;
            let text = answer.map_or_else(|error| error.to_string(), |()| "read it".to_owned());
            say(client, index, &text).await?;
            finish(client, index, Some(How::Status(9))).await
        }
        _ => Err("an unknown command".into()),
    }
}

/// A hundred megabytes of output at once, which is too much, and again one message after another.
async fn flood(client: &mut Client, command: u32) -> Result<(), Failure> {
    let line: Vec<_> = vec![vec![b'x'; 4_000_000].into()];
    let message = LogMessage { command, line };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..25 {
        let (mut client, message) = (client.clone(), message.clone());
        calls.spawn(async move { client.std_out(message).await });
    }
    let mut refused = 0;
    while let Some(call) = calls.join_next().await {
        refused += u32::from(call?.is_err());
    }
    if refused == 0 {
        return Err("nothing was refused".into());
    }
    for _ in 0..25 {
        client.std_err(message.clone()).await?;
    }
    finish(client, command, Some(How::Status(1))).await
}

fn empty() -> Vec<u8> {
    LayerWriter::new(Vec::new()).finish().unwrap()
}

/// A layer with one file, whose content is its name.
fn layer(path: &str) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    let metadata = Metadata::root_owned(0o644);
    let length = path.len() as u64;
    writer
        .file(path.as_bytes(), &metadata, length, &mut path.as_bytes())
        .unwrap();
    writer.finish().unwrap()
}

/// A layer with one file whose name, in the archive, is replaced by one as long.
fn renamed(path: &[u8]) -> Vec<u8> {
    let name = "x".repeat(path.len());
    let mut bytes = layer(&name);
    bytes[..path.len()].copy_from_slice(path);
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

fn pieces(command: u32, bytes: &[u8]) -> (Vec<LayerChunk>, Sender) {
    let mut sender = Sender::default();
    let chunks = bytes.chunks(600).map(|piece| LayerChunk {
        command,
        chunk: Some(sender.piece(piece.to_vec())),
    });
    (chunks.collect(), sender)
}

fn whole(command: u32, bytes: &[u8]) -> Vec<LayerChunk> {
    let (mut chunks, sender) = pieces(command, bytes);
    let chunk = Some(sender.end());
    chunks.push(LayerChunk { command, chunk });
    chunks
}

/// What no agent sends.
fn bad(command: u32, what: &str) -> Vec<LayerChunk> {
    let mut chunks = whole(command, &layer("file"));
    match what {
        "parent" => return whole(command, &renamed(b"../../escape")),
        "absolute" => return whole(command, &renamed(b"/../escape")),
        "terabyte" => {
            let mut bytes = Vec::new();
            let metadata = Metadata::root_owned(0o644);
            let nothing = &mut std::io::empty();
            // The header is written, and the bytes are missing.
            let _ = LayerWriter::new(&mut bytes).file(b"big", &metadata, 1 << 40, nothing);
            bytes.resize(bytes.len() + 4096, 0);
            return whole(command, &bytes);
        }
        "link" => {
            let mut writer = LayerWriter::new(Vec::new());
            let metadata = Metadata::root_owned(0o644);
            writer
                .entry(b"link", &metadata, Entry::HardLink(b"missing"))
                .unwrap();
            return whole(command, &writer.finish().unwrap());
        }
        "nonsense" => return whole(command, &[7; 2000]),
        "large" => return whole(command, &layer(&"a".repeat(99)).repeat(6000)),
        "truncated" => drop(chunks.pop()),
        "chunk" => chunks[1].chunk.as_mut().unwrap().data = vec![1; 600].into(),
        "whole" => {
            chunks.last_mut().unwrap().chunk.as_mut().unwrap().checksum = vec![0; 32].into();
        }
        "checksum-length" => {
            chunks[0].chunk.as_mut().unwrap().checksum = vec![0; 3].into();
        }
        "after-end" => chunks.push(chunks[0].clone()),
        "empty-chunk" => chunks[1].chunk = Some(Chunk::default()),
        "no-chunk" => chunks[1].chunk = None,
        "mixed" => chunks[1].command += 1,
        "other" => chunks.iter_mut().for_each(|chunk| chunk.command += 1),
        "none" => chunks.clear(),
        _ => {}
    }
    chunks
}
