//! The simulated guest's half of what goes on beside a workload: it does what the first argument of a
//! task's process says.

use bytes::Bytes;
use firebuild_protocol::task::{Process, Task};
use firebuild_protocol::v1::machine_client::MachineClient;
use firebuild_protocol::v1::{
    self, Failed, FromTerminal, Opened, Output, Started, ToTerminal, exit, from_terminal, output,
    to_terminal,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Does what one task says.
pub(crate) async fn perform(mut client: MachineClient<Channel>, task: v1::Task) {
    let Task::Execute(process) = serde_json::from_str(&task.task).unwrap() else {
        return;
    };
    if process.arguments == ["mute"] {
        return;
    }
    let (say, messages) = mpsc::channel(2);
    let say = Say(say);
    let command = if process.arguments == ["forge"] {
        task.id + 1
    } else {
        task.id
    };
    say.say(from_terminal::Message::Opened(Opened { command }))
        .await;
    let Ok(answer) = client.terminal(ReceiverStream::new(messages)).await else {
        return;
    };
    let from_host = answer.into_inner();
    converse(&process, &say, from_host).await;
}

async fn converse(process: &Process, say: &Say, mut from_host: Streaming<ToTerminal>) {
    let arguments: Vec<&str> = process.arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["missing"] => {
            let error = "no \u{1b}[31m`missing`".to_owned();
            let failed = Failed { error, status: 127 };
            say.say(from_terminal::Message::Failed(failed)).await;
            return rest(from_host).await;
        }
        ["early"] => {
            say.print(b"early").await;
            return rest(from_host).await;
        }
        _ => {}
    }
    let started = from_terminal::Message::Started(Started { pid: 7 });
    say.say(started).await;
    match arguments[..] {
        ["echo"] => {
            while let Ok(Some(told)) = from_host.message().await {
                match told.message {
                    Some(to_terminal::Message::Input(data)) => say.print(&data).await,
                    Some(to_terminal::Message::EndOfInput(_)) => break,
                    Some(to_terminal::Message::Resized(size)) => {
                        let text = format!("{}x{}", size.rows, size.columns);
                        say.print(text.as_bytes()).await;
                    }
                    None => {}
                }
            }
        }
        ["flood"] => {
            while say.is_heard() {
                say.print(&[b'x'; 16 << 10]).await;
            }
        }
        ["huge"] => say.print(&[0; 100 << 10]).await,
        ["twice"] => {
            let started = from_terminal::Message::Started(Started { pid: 7 });
            say.say(started).await;
        }
        ["deaf"] => std::future::pending().await,
        _ => {}
    }
    let how = match arguments[..] {
        ["nonsense"] => exit::How::Status(1000),
        ["signal"] => exit::How::Signal(9),
        _ => exit::How::Status(3),
    };
    let exit = Some(v1::Exit { how: Some(how) });
    say.say(from_terminal::Message::Exited(v1::Exited { exit }))
        .await;
    rest(from_host).await;
}

/// Waits until the host has ended its half: what is under way is lost otherwise.
async fn rest(mut from_host: Streaming<ToTerminal>) {
    while let Ok(Some(_)) = from_host.message().await {}
}

struct Say(mpsc::Sender<FromTerminal>);

impl Say {
    async fn say(&self, message: from_terminal::Message) {
        let message = Some(message);
        let _ = self.0.send(FromTerminal { message }).await;
    }

    async fn print(&self, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        let stream = output::Stream::Stdout.into();
        self.say(from_terminal::Message::Output(Output { stream, data }))
            .await;
    }

    fn is_heard(&self) -> bool {
        !self.0.is_closed()
    }
}
