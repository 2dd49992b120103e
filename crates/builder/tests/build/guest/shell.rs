//! What the simulated agent does in place of a shell: the program's name says what.

use firebuild_protocol::command::Shell;
use firebuild_protocol::v1::exit::How;
use firebuild_protocol::v1::{
    AbortRequest, Exit, Exited, Failed, FromTerminal, Opened, Output, from_terminal, output,
    to_terminal,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Client, Failure, finish, say};

type Messages = mpsc::Sender<FromTerminal>;

async fn send(to_host: &Messages, message: from_terminal::Message) {
    let message = Some(message);
    // The host may have had enough.
    let _ = to_host.send(FromTerminal { message }).await;
}

async fn write(to_host: &Messages, stream: output::Stream, text: impl Into<Vec<u8>>) {
    let output = Output {
        stream: stream.into(),
        data: text.into().into(),
    };
    send(to_host, from_terminal::Message::Output(output)).await;
}

pub(super) async fn look(client: &mut Client, shell: &Shell) -> Result<(), Failure> {
    use output::Stream::{Stderr, Stdout};
    let (to_host, messages) = mpsc::channel(1);
    let program = shell.arguments[0].as_str();
    let command = shell.index + u32::from(program == "other");
    let opened = || from_terminal::Message::Opened(Opened { command });
    send(&to_host, opened()).await;
    let answer = client.terminal(ReceiverStream::new(messages)).await;
    if program == "other" {
        return match answer {
            // It may not, and says no more of it.
            Err(_) => finish(client, shell.index, Some(How::Status(0))).await,
            Ok(_) => Err("it was let in".into()),
        };
    }
    let mut from_host = answer?.into_inner();
    let exited = |status| {
        let how = Some(How::Status(status));
        from_terminal::Message::Exited(Exited {
            exit: Some(Exit { how }),
        })
    };
    match program {
        "echo" => {
            let terminal = shell.terminal.as_ref().ok_or("no terminal")?;
            let (kind, rows, columns) = (&terminal.kind, terminal.rows, terminal.columns);
            write(&to_host, Stdout, format!("{kind} {rows}x{columns}")).await;
            while let Some(told) = from_host.message().await? {
                match told.message.ok_or("an empty message")? {
                    to_terminal::Message::Input(data) => write(&to_host, Stdout, data).await,
                    to_terminal::Message::Resized(size) => {
                        write(&to_host, Stderr, format!("{}x{}", size.rows, size.columns)).await;
                    }
                    to_terminal::Message::EndOfInput(_) => {
                        write(&to_host, Stdout, "end of input").await;
                        break;
                    }
                }
            }
            send(&to_host, exited(0)).await;
        }
        "refuse" => {
            let failed = Failed {
                error: "not today".to_owned(),
                status: 127,
            };
            send(&to_host, from_terminal::Message::Failed(failed)).await;
        }
        "large" => write(&to_host, Stdout, vec![b'x'; 1 << 20]).await,
        "twice" => send(&to_host, opened()).await,
        "flood" => {
            while !to_host.is_closed() {
                write(&to_host, Stdout, vec![b'x'; 16 << 10]).await;
            }
        }
        "say" => say(client, shell.index, "as if it were a RUN").await?,
        "abort" => {
            let (error, drive) = ("tired".to_owned(), String::new());
            client.abort(AbortRequest { error, drive }).await?;
        }
        "die" => return Err("the disk is gone".into()),
        // It ends without a word.
        _ => {}
    }
    drop(to_host);
    while let Ok(Some(_)) = from_host.message().await {}
    finish(client, shell.index, Some(How::Status(0))).await
}
