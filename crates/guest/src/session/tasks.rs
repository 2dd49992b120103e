//! What the host wants beside the workload: each task is a conversation of its own, which waits for
//! nothing but itself.
//!
//! A task's process joins the namespaces that the agent keeps of the workload, so it has the same
//! root, whatever became of the workload's own process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firebuild_protocol::command;
use firebuild_protocol::task::{self, Process, Task};
use firebuild_protocol::v1::machine_client::MachineClient;
use firebuild_protocol::v1::{self, TaskSignal};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::figures;
use super::input::Input;
use crate::console;
use crate::error::{GuestError, Result, call, chain};
use crate::launch::{
    self, Copying, Isolation, Launch, Namespaces, Refusal, Started, Streams, Waiting,
};
use crate::reaper::{self, Reaper};
use crate::terminal::{self, Ends};

/// How much is told at once, in bytes.
const PIECE: usize = 16 << 10;

/// The place where the workload runs, for others who come there.
pub(super) struct Place {
    pub(super) client: MachineClient<Channel>,
    pub(super) reaper: Reaper,
    /// The workload, as a process that joins it has it.
    pub(super) launch: Launch,
    /// What is joined, open for as long as the place is there.
    _namespaces: Namespaces,
    /// The workload's process id.
    pub(super) pid: u32,
    pub(super) input: Input,
    /// Made after the first task that had a process: where there was one there will be others, which
    /// then start twice as fast.
    spare: Mutex<Option<Waiting>>,
    tasks: Mutex<HashMap<u32, Arc<Running>>>,
}

/// A task under way.
#[derive(Default)]
struct Running {
    /// Once its process runs, its id.
    pid: Mutex<Option<u32>>,
    hung_up: Notify,
}

impl Place {
    /// The place of the workload that `launch` has started.
    pub(super) fn new(
        (client, reaper): (MachineClient<Channel>, Reaper),
        launch: &Launch,
        namespaces: Namespaces,
        pid: u32,
        input: Input,
    ) -> Self {
        let is_init = launch.isolation == Isolation::Init;
        let namespaces = namespaces.beyond_own();
        let launch = Launch {
            joined: namespaces.paths(),
            // What an init sees of processes is all that there is for who comes there.
            process_ids: is_init.then(|| format!("/proc/{pid}/ns/pid").into()),
            kept: false,
            ..launch.clone()
        };
        Self {
            client,
            reaper,
            launch,
            _namespaces: namespaces,
            pid,
            input,
            spare: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Begins a task.
    pub(super) fn begin(self: &Arc<Self>, told: v1::Task) {
        let place = Arc::clone(self);
        let running = Arc::<Running>::default();
        self.tasks().insert(told.id, Arc::clone(&running));
        tokio::spawn(async move {
            if let Err(error) = place.perform(&told, &running).await {
                console::debug(|| format!("task {}: {}", told.id, chain(&error)));
            }
            place.tasks().remove(&told.id);
        });
    }

    /// Passes a signal on to a task's process, or hangs up on it.
    pub(super) fn signal(&self, signal: TaskSignal) {
        let Some(running) = self.tasks().get(&signal.id).cloned() else {
            return;
        };
        let pid = *running.pid.lock().unwrap_or_else(PoisonError::into_inner);
        match (signal.number, pid) {
            (0, _) => running.hung_up.notify_one(),
            (number, Some(pid)) => reaper::send(pid, number),
            (_, None) => {}
        }
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<u32, Arc<Running>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn perform(&self, told: &v1::Task, running: &Running) -> Result<()> {
        let task = serde_json::from_str(&told.task)
            .map_err(|error| GuestError::Told(format!("a task: {error}")))?;
        match task {
            Task::Execute(process) => {
                let is_left = process.streams == task::Streams::Detached;
                let launch = describe(process, &self.launch);
                self.execute(told.id, &launch, is_left, running).await
            }
            Task::Pack { path, follow } => {
                let launch = self.copy(Copying::Pack(path.into(), follow), Streams::Output);
                self.execute(told.id, &launch, false, running).await
            }
            Task::Unpack {
                path,
                contents,
                archive,
            } => {
                let copying = Copying::Unpack(path.into(), contents, archive);
                let launch = self.copy(copying, Streams::Pipes);
                self.execute(told.id, &launch, false, running).await
            }
            Task::Processes => {
                let ends = self.open(told.id).await?;
                let text = figures::processes(self.spare_pid());
                tell(&text, ends).await;
                Ok(())
            }
            Task::Usage => {
                let ends = self.open(told.id).await?;
                tokio::select! {
                    () = self.tell_usage(ends) => {}
                    () = running.hung_up.notified() => {}
                }
                Ok(())
            }
            Task::Attach => {
                let ends = self.open(told.id).await?;
                self.attach(running, ends).await;
                Ok(())
            }
        }
    }

    /// Opens the conversation about a task.
    async fn open(&self, id: u32) -> Result<Ends> {
        let (to_host, messages) = mpsc::channel(terminal::WAITING);
        // There is room for it.
        let _ = to_host.send(terminal::opened(id)).await;
        let mut client = self.client.clone();
        let answer = client.terminal(ReceiverStream::new(messages)).await;
        let from_host = answer.map_err(call("Terminal"))?.into_inner();
        Ok((to_host, from_host))
    }

    /// A process that copies files, by the workload's root but as who may do everything.
    fn copy(&self, copying: Copying, streams: Streams) -> Launch {
        Launch {
            copying: Some(copying),
            streams,
            ..self.launch.clone()
        }
    }

    /// Has a process run. It is started while the conversation about it is opened, which takes a way
    /// to the host and back.
    async fn execute(
        &self,
        id: u32,
        launch: &Launch,
        is_left: bool,
        running: &Running,
    ) -> Result<()> {
        let (ends, started) = tokio::join!(self.open(id), self.start(launch));
        let started = match started {
            Ok(started) => started.program,
            Err(error) => Err(Refusal::Agent(chain(&error))),
        };
        let ((to_host, from_host), started) = match (ends, started) {
            (Ok(ends), started) => (ends, started),
            (Err(error), Ok(program)) => {
                // Who wanted it is gone.
                terminal::abandon(program).await;
                return Err(error);
            }
            (Err(error), Err(_)) => return Err(error),
        };
        let program = match started {
            Ok(program) => program,
            Err(refusal) => {
                terminal::refuse(refusal, to_host, from_host).await;
                return Ok(());
            }
        };
        let pid = program.child.pid();
        *running.pid.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
        if is_left {
            terminal::leave(pid, to_host, from_host).await;
            return Ok(());
        }
        // There is room for it; a host that is gone hangs up.
        let _ = to_host.send(terminal::started(pid)).await;
        let ends = (to_host, from_host);
        let hung_up = running.hung_up.notified();
        terminal::converse(program, launch.streams, ends, hung_up).await?;
        self.have_spare();
        Ok(())
    }

    /// Starts a process of this place.
    async fn start(&self, launch: &Launch) -> Result<Started> {
        // One that was killed meanwhile is of no use.
        let spare = self.spare().take_if(|spare| !spare.has_ended());
        match spare {
            Some(spare) => spare.become_program(launch).await,
            None => launch::start(launch, &self.reaper).await,
        }
    }

    /// Has the next process wait for what it is to become. An init knows all the processes that it
    /// sees, and would wonder about this one.
    fn have_spare(&self) {
        let mut spare = self.spare();
        let is_missing = spare.as_mut().is_none_or(Waiting::has_ended);
        if is_missing && self.launch.isolation != Isolation::Init {
            // The next process is then started like the first.
            *spare = Waiting::start(&self.launch, &self.reaper).ok();
        }
    }

    /// It is the agent's own, and is not shown.
    fn spare_pid(&self) -> Option<u32> {
        self.spare().as_ref().map(Waiting::pid)
    }

    fn spare(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what the VM uses, again and again, as long as somebody listens.
    async fn tell_usage(&self, (to_host, _from_host): Ends) {
        let _ = to_host.send(terminal::started(1)).await;
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            let usage = figures::usage(self.spare_pid());
            let mut line = serde_json::to_vec(&usage).unwrap_or_default();
            line.push(b'\n');
            if to_host.send(terminal::written(&line)).await.is_err() {
                return;
            }
        }
    }

    /// Types into the workload until the host has enough, or there is no workload any more.
    async fn attach(&self, running: &Running, (to_host, from_host): Ends) {
        *running.pid.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.pid);
        // There is room for it.
        let _ = to_host.send(terminal::started(self.pid)).await;
        tokio::select! {
            () = self.input.type_all(from_host) => {}
            () = running.hung_up.notified() => {}
        }
        drop(to_host);
    }
}

/// Tells a text, and that this is all.
async fn tell(text: &[u8], (to_host, from_host): Ends) {
    // A host that is gone hears nothing.
    let _ = to_host.send(terminal::started(1)).await;
    for piece in text.chunks(PIECE) {
        let _ = to_host.send(terminal::written(piece)).await;
    }
    terminal::end(to_host, from_host).await;
}

/// The process that `process` asks for: the workload's own but for what it says.
fn describe(process: Process, workload: &Launch) -> Launch {
    let mut launch = workload.clone();
    let Process {
        arguments,
        environment,
        workdir,
        user,
        streams,
    } = process;
    launch.arguments = arguments;
    launch.workdir = workdir.unwrap_or(launch.workdir);
    launch.user = user.unwrap_or(launch.user);
    let is_given = |name: &str| environment.iter().any(|(given, _)| given == name);
    // What the workload's terminal is says nothing about this one.
    let is_old = |name: &str| name == "TERM" && matches!(streams, task::Streams::Terminal(_));
    let kept = |(name, _): &(String, String)| !is_given(name) && !is_old(name);
    launch.environment.retain(kept);
    launch.environment.extend(environment);
    launch.streams = match streams {
        task::Streams::Detached => Streams::Nothing,
        task::Streams::Output => Streams::Output,
        task::Streams::Pipes => Streams::Pipes,
        task::Streams::Terminal(terminal) => take_terminal(terminal, &mut launch.environment),
    };
    launch
}

/// A process's streams, and what its environment tells of them.
pub(super) fn take_terminal(
    terminal: command::Terminal,
    environment: &mut Vec<(String, String)>,
) -> Streams {
    let command::Terminal {
        kind,
        rows,
        columns,
    } = terminal;
    if !environment.iter().any(|(name, _)| name == "TERM") {
        environment.push(("TERM".to_owned(), kind));
    }
    Streams::Terminal { rows, columns }
}

#[cfg(test)]
mod tests {
    use firebuild_protocol::workload::Workload;

    use super::*;

    #[test]
    fn a_process_is_the_workloads_but_for_what_it_says() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let workload = Workload {
            environment: vec![pair("A", "1"), pair("B", "2"), pair("TERM", "image")],
            workdir: "/srv".to_owned(),
            user: "www".to_owned(),
            ..Workload::new(vec!["server".to_owned()])
        };
        let workload = super::super::describe(workload, "host", Vec::new(), Vec::new());
        let process = |streams, environment: &[(String, String)]| Process {
            arguments: vec!["true".to_owned()],
            environment: environment.to_vec(),
            workdir: None,
            user: None,
            streams,
        };
        let terminal = || command::Terminal {
            kind: "xterm".to_owned(),
            rows: 7,
            columns: 70,
        };
        let environment = |launch: Launch| {
            let all = launch.environment.into_iter();
            all.map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        };
        let plain = describe(process(task::Streams::Output, &[pair("A", "x")]), &workload);
        assert_eq!(
            (plain.workdir.as_str(), plain.user.as_str()),
            ("/srv", "www")
        );
        assert_eq!(environment(plain), ["B=2", "TERM=image", "A=x"]);
        let shown = describe(process(task::Streams::Terminal(terminal()), &[]), &workload);
        let (rows, columns) = (7, 70);
        assert_eq!(shown.streams, Streams::Terminal { rows, columns });
        assert_eq!(environment(shown), ["A=1", "B=2", "TERM=xterm"]);
        let given = [pair("TERM", "own")];
        let own = describe(
            process(task::Streams::Terminal(terminal()), &given),
            &workload,
        );
        assert_eq!(environment(own), ["A=1", "B=2", "TERM=own"]);
        let other = Process {
            workdir: Some("/".to_owned()),
            user: Some(String::new()),
            ..process(task::Streams::Detached, &[])
        };
        let other = describe(other, &workload);
        assert_eq!((other.workdir.as_str(), other.user.as_str()), ("/", ""));
        assert_eq!(other.streams, Streams::Nothing);
    }
}
