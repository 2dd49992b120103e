//! What the simulated guest does that floods its host: `floods` has what comes of it.

use std::net::SocketAddr;
use std::time::Duration;

use firebuild_machine::testing::guest;
use firebuild_protocol::metadata::{Credentials, TOKEN_PATH, TOKEN_TTL_HEADER};
use firebuild_protocol::v1::machine_client::MachineClient;
use firebuild_protocol::v1::{FromGuest, Output, from_guest, output};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;

/// How much is written of each kind.
const FLOOD: usize = 192 << 20;

const PIECE: usize = 64 << 10;

/// How many pieces of output the guest is to write.
pub(crate) const PIECES: usize = FLOOD / PIECE;

/// What the guest does, by the second word of its workload.
pub(crate) async fn flood(
    what: &str,
    credentials: &Credentials,
    metadata: SocketAddr,
) -> Result<(), guest::Failure> {
    match what {
        "console" => console(),
        "metadata" => {
            let asking = format!("PUT {TOKEN_PATH} HTTP/1.1\r\n{TOKEN_TTL_HEADER}: 60\r\n\r\n");
            connections(metadata, &asking.repeat(PIECE / asking.len())).await;
            connections(metadata, &"x".repeat(PIECE)).await;
            connections(metadata, &"GET / HTTP/1.1\r\nX: y\r\n".repeat(PIECE / 24)).await;
        }
        "agent" => {
            let address = credentials.grpc_host_port.parse()?;
            connections(address, &"x".repeat(PIECE)).await;
            calls(credentials).await?;
        }
        _ => {}
    }
    Ok(())
}

fn console() {
    use std::io::Write as _;
    let piece = [b'x'; PIECE];
    for _ in 0..FLOOD / PIECE {
        std::io::stdout().write_all(&piece).unwrap();
    }
}

/// How long the host may take to let a connection in, and to take a piece.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(500));

/// Writes to many connections at once, as much as the host takes, and lets go of none before the end.
async fn connections(address: SocketAddr, text: &str) {
    let (to_connect, to_write) = PATIENCE;
    let mut open = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let text = text.to_owned();
        open.spawn(async move {
            // The kernel alone would try for two minutes.
            let connected = tokio::time::timeout(to_connect, TcpStream::connect(address));
            let Ok(Ok(mut stream)) = connected.await else {
                return None;
            };
            for _ in 0..FLOOD / PIECE / 300 {
                let written = stream.write_all(text.as_bytes());
                if !matches!(tokio::time::timeout(to_write, written).await, Ok(Ok(()))) {
                    break;
                }
            }
            Some(stream)
        });
    }
    // None may have to wait for another: few are served at a time.
    drop(open.join_all().await);
}

/// Calls beside the one that there may be, with all that fits and with what does not.
async fn calls(credentials: &Credentials) -> Result<(), guest::Failure> {
    let message = |size: usize| FromGuest {
        message: Some(from_guest::Message::Output(Output {
            stream: output::Stream::Stdout.into(),
            data: vec![b'x'; size].into(),
        })),
    };
    for size in [PIECE, 48 << 20] {
        let mut channel = MachineClient::new(guest::call(credentials).await?);
        let messages = tokio_stream::iter((0..1 + FLOOD / 2 / size).map(move |_| message(size)));
        if let Ok(answer) = channel.session(messages).await {
            let mut orders = answer.into_inner();
            while let Some(Ok(_)) = orders.next().await {}
        }
    }
    Ok(())
}
