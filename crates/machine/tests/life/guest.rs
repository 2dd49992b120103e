//! The simulated guest: what the test program does in place of a VM.

use std::net::SocketAddr;

use firebuild_machine::testing::guest;
use firebuild_protocol::boot::BootArguments;
use firebuild_protocol::metadata::Credentials;
use firebuild_protocol::v1::bootstrap_client::BootstrapClient;
use firebuild_protocol::v1::machine_client::MachineClient;
use firebuild_protocol::v1::{
    Exit, Failed, FromGuest, Hello, Output, PingRequest, Started, ToGuest, WorkloadExited, exit,
    from_guest, output, to_guest,
};
use firebuild_protocol::workload::Workload;
use firebuild_protocol::{HOST_ADDRESS, METADATA_ADDRESS};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

// Named, because tests elsewhere take this file, too.
#[path = "flooding.rs"]
mod flooding;

/// Does what the kernel's command line and the workload say.
pub(crate) fn live_and_die() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let line = std::env::var("FIREBUILD_COMMAND_LINE").unwrap();
    let done = runtime.block_on(live(&line, (METADATA_ADDRESS, 80).into()));
    std::process::exit(i32::from(done.is_err()));
}

/// What the simulated guest does is the first argument of its workload, which the kernel's command
/// line has as well, for what comes before the workload is known.
pub(crate) async fn live(line: &str, service: SocketAddr) -> Result<(), guest::Failure> {
    BootArguments::parse(line)?;
    let told = |what: &str| line.contains(&format!("test={what}"));
    if told("die-early") {
        println!("vminit: fatal: no such luck");
        return Ok(());
    }
    if told("never-calls") || told("hang") {
        std::future::pending::<()>().await;
    }
    let metadata = guest::metadata(service).await?;
    if let Some(credentials) = metadata.bootstrap {
        return build(&credentials).await;
    }
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
        say.say(from_guest::Message::Hello(Hello {
            version,
            boot: None,
        }))
        .await;
    }
    let orders = client
        .session(ReceiverStream::new(said))
        .await?
        .into_inner();
    work(&client, &say, orders, (&credentials, service)).await
}

/// A build VM that calls its builder once, and then waits for better times.
async fn build(credentials: &Credentials) -> Result<(), guest::Failure> {
    let mut client = BootstrapClient::new(guest::call(credentials).await?);
    // Whatever the answer is, it is one.
    let _ = client.ping(PingRequest::default()).await;
    std::future::pending().await
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
        let exited = WorkloadExited { exit, oom_kills: 0 };
        self.say(from_guest::Message::Exited(exited)).await;
    }
}

async fn order(orders: &mut Streaming<ToGuest>) -> Result<to_guest::Message, guest::Failure> {
    let order = orders.message().await?.ok_or("no more orders")?;
    order.message.ok_or_else(|| "an empty order".into())
}

async fn work(
    client: &MachineClient<Channel>,
    say: &Say,
    mut orders: Streaming<ToGuest>,
    (credentials, service): (&Credentials, SocketAddr),
) -> Result<(), guest::Failure> {
    let to_guest::Message::Start(start) = order(&mut orders).await? else {
        return Err("no start".into());
    };
    // Once it is connected, the guest's secrets are its own.
    if guest::metadata(service).await?.session.is_some() {
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
        ["holds", end] => {
            let text = given(&workload)?;
            say.print(output::Stream::Stdout, &text).await;
            if let Ok(status) = end.parse() {
                say.exit(exit::How::Status(status)).await;
            }
        }
        ["count", until] => {
            for number in 0..until.parse::<u32>()? {
                say.print(output::Stream::Stdout, &format!("{number}\n"))
                    .await;
            }
            say.exit(exit::How::Status(0)).await;
        }
        ["flood", pieces] => {
            let piece = "x".repeat(64 << 10);
            for _ in 0..pieces.parse::<u32>()? {
                say.print(output::Stream::Stdout, &piece).await;
            }
            say.exit(exit::How::Status(0)).await;
        }
        ["floods", what] => {
            let pieces = if what == "output" {
                flooding::PIECES
            } else {
                0
            };
            let piece = "x".repeat(64 << 10);
            for _ in 0..pieces {
                say.print(output::Stream::Stdout, &piece).await;
            }
            flooding::flood(what, credentials, service).await?;
            say.print(output::Stream::Stdout, "done\n").await;
        }
        ["eat", mebibytes] => {
            // Not before the host has heard of the start.
            order(&mut orders).await?;
            let eaten = vec![1_u8; mebibytes.parse::<usize>()? << 20];
            let sum: usize = eaten
                .iter()
                .step_by(4096)
                .map(|&byte| usize::from(byte))
                .sum();
            say.print(output::Stream::Stdout, &format!("ate {sum}\n"))
                .await;
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
    obey(client, say, orders).await
}

/// Where something is mounted, and what is in the secrets.
fn given(workload: &Workload) -> Result<String, guest::Failure> {
    let mounts = workload.mounts.iter().map(|mount| mount.target.clone());
    let mounts: Vec<String> = mounts.collect();
    let secrets = workload.secrets.iter().map(|secret| secret.content.clone());
    let secrets = String::from_utf8(secrets.flatten().collect())?;
    Ok(format!("{}: {secrets}\n", mounts.join(" ")))
}

/// Lives on until it is told to shut down.
async fn obey(
    client: &MachineClient<Channel>,
    say: &Say,
    mut orders: Streaming<ToGuest>,
) -> Result<(), guest::Failure> {
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
            to_guest::Message::Task(task) => {
                tokio::spawn(crate::perform::perform(client.clone(), task));
            }
            to_guest::Message::TaskSignal(signal) => {
                let text = format!("task {} signal {}\n", signal.id, signal.number);
                say.print(output::Stream::Stdout, &text).await;
            }
            to_guest::Message::Start(_) => return Err("a second start".into()),
        }
    }
}
