//! What is let through, and a real agent on the other side.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use futures::StreamExt as _;
use futures::channel::mpsc;

use super::*;

/// An extension's request.
fn extension(name: &str, rest: &[u8]) -> Vec<u8> {
    [&[EXTENSION], &message(name.as_bytes())[..], rest].concat()
}

#[test]
fn a_step_may_list_keys_and_have_something_signed() {
    for (request, expected) in [
        (vec![11], true),
        (vec![13, 0, 0, 0, 1], true),
        (extension("session-bind@openssh.com", b"host key"), true),
        (extension("session-bind@openssh.com", b""), true),
        (extension("query", b""), false),
        (extension("session-bind@openssh.comx", b""), false),
        (
            extension("restrict-destination-v00@openssh.com", b""),
            false,
        ),
        (vec![27], false),
        (vec![27, 0, 0, 0], false),
        (vec![27, 0xff, 0xff, 0xff, 0xff, b's'], false),
        (vec![], false),
        // Version 1, adding, removing, locking, smart cards.
        (vec![1], false),
        (vec![9], false),
        (vec![17], false),
        (vec![18], false),
        (vec![19], false),
        (vec![20], false),
        (vec![21], false),
        (vec![22], false),
        (vec![23], false),
        (vec![25], false),
        (vec![26], false),
        (vec![255], false),
    ] {
        assert_eq!(may_ask(&request), expected, "{request:?}");
    }
}

#[test]
fn messages_have_bounds() {
    let largest = u32::try_from(LARGEST).unwrap();
    for (bytes, expected) in [
        (vec![], Ok(None)),
        (vec![0, 0, 0], Ok(None)),
        (vec![0, 0, 0, 1], Ok(Some(5))),
        (vec![0, 0, 1, 0, 7], Ok(Some(260))),
        (largest.to_be_bytes().to_vec(), Ok(Some(4 + LARGEST))),
        (vec![0, 0, 0, 0], Err(())),
        ((largest + 1).to_be_bytes().to_vec(), Err(())),
        (vec![0xff; 4], Err(())),
    ] {
        assert_eq!(whole(&bytes).map_err(drop), expected, "{bytes:?}");
    }
}

/// An agent with one key.
struct SshAgent {
    process: Child,
    directory: tempfile::TempDir,
}

impl SshAgent {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut process = Command::new("ssh-agent")
            .arg("-D")
            .args([Path::new("-a"), &at("socket")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It says where it listens when it does.
        let mut line = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert!(line.contains("SSH_AUTH_SOCK"), "{line}");
        let agent = Self { process, directory };
        let key = agent.directory.path().join("key");
        agent.run(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&key),
        );
        agent.run(Command::new("ssh-add").arg("-q").arg(&key));
        agent
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn run(&self, command: &mut Command) {
        let output = command
            .env("SSH_AUTH_SOCK", self.socket())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn data(data: Vec<u8>) -> Result<AgentData, Status> {
    let data = data.into();
    Ok(AgentData {
        data,
        ..AgentData::default()
    })
}

fn hello(command: u32, id: &str) -> Result<AgentData, Status> {
    Ok(AgentData {
        command,
        id: id.to_owned(),
        ..AgentData::default()
    })
}

fn allowing(agent: &SshAgent) -> Agents {
    let agents = Agents::default();
    let key = agent.directory.path().join("key");
    let keys = Keyring::read([key.as_path()]).unwrap();
    let given = [
        ("default", Agent::Socket(agent.socket())),
        ("gone", Agent::Socket(agent.directory.path().join("none"))),
        ("keys", Agent::Keys(Arc::new(keys))),
    ];
    let given = given.map(|(id, agent)| (id.to_owned(), agent));
    agents.allow(3, BTreeMap::from(given));
    agents
}

#[tokio::test]
async fn an_agent_lists_its_key_and_keeps_it() {
    let agent = SshAgent::start();
    for id in ["default", "keys"] {
        lists_its_key_and_keeps_it(&agent, id).await;
    }
}

async fn lists_its_key_and_keeps_it(agent: &SshAgent, id: &str) {
    let agents = allowing(agent);
    let (mut guest, sent) = mpsc::unbounded();
    guest.start_send(hello(3, id)).unwrap();
    let mut answers = Box::pin(agents.connect(sent).await.unwrap());
    // Everything removed, in pieces; then the keys listed, with both in one piece.
    let remove = message(&[19]);
    guest.start_send(data(remove[..2].to_vec())).unwrap();
    guest.start_send(data(Vec::new())).unwrap();
    guest
        .start_send(data([&remove[2..], &message(&[11])].concat()))
        .unwrap();
    let refused = answers.next().await.unwrap().unwrap().data;
    assert_eq!(refused[..], FAILURE);
    let listed = answers.next().await.unwrap().unwrap().data;
    // SSH_AGENT_IDENTITIES_ANSWER and the number of keys.
    assert_eq!(listed[4..9], [12, 0, 0, 0, 1]);
    assert!(listed.windows(11).any(|part| part == b"ssh-ed25519"));
    // What is no message ends the connection.
    guest.start_send(data(vec![0; 4])).unwrap();
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn only_a_running_command_finds_its_agents() {
    let agent = SshAgent::start();
    let agents = allowing(&agent);
    let connect = |command, id| agents.connect(futures::stream::iter([hello(command, id)]));
    for (command, id, expected) in [
        (3, "other", tonic::Code::NotFound),
        (3, "", tonic::Code::NotFound),
        (2, "default", tonic::Code::NotFound),
        (3, "gone", tonic::Code::Unavailable),
    ] {
        let status = connect(command, id).await.map(drop).unwrap_err();
        assert_eq!(status.code(), expected, "{command} {id}");
        let socket = agent.directory.path().display().to_string();
        assert!(!status.message().contains(&socket), "{status:?}");
    }
    let (mut guest, sent) = mpsc::unbounded();
    guest.start_send(hello(3, "default")).unwrap();
    let mut answers = Box::pin(agents.connect(sent).await.unwrap());
    agents.end(3);
    // It was waiting for the guest, and what the guest says now is heard by nobody.
    guest.start_send(data(message(&[11]))).unwrap();
    assert!(answers.next().await.is_none());
    assert!(connect(3, "default").await.is_err());
}

#[tokio::test]
async fn connections_are_few() {
    let agent = SshAgent::start();
    let agents = allowing(&agent);
    let connect = || agents.connect(futures::stream::iter([hello(3, "default")]));
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(connect().await.unwrap());
    }
    let status = connect().await.map(drop).unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    open.pop();
    assert!(connect().await.is_ok());
}
