//! What goes on beside a workload: commands, a supervisor, and a simulated guest (`perform`).

use std::time::Duration;

use bytes::Bytes;
use firebuild_machine::conversation::{self, Ending};
use firebuild_machine::record::Exit;
use firebuild_machine::terminal::{Input, Shown};
use firebuild_machine::{Error, client};
use firebuild_protocol::task::{Process, Streams, Task};
use tokio::sync::mpsc;

use crate::host::{Place, spec};

fn task(arguments: &[&str]) -> Task {
    Task::Execute(Process {
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        environment: Vec::new(),
        workdir: None,
        user: None,
        streams: Streams::Pipes,
    })
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.enable_all().build().unwrap().block_on(future)
}

/// A place with one VM that obeys, and its name.
pub(crate) fn running() -> (Place, String) {
    let place = Place::new();
    let vm = client::run(&place.host, spec(&["sleep"]), place.supervisor()).unwrap();
    let id = vm.record().id.to_string();
    (place, id)
}

/// Has a task done with this input; what it wrote, and how it ended.
pub(crate) async fn done(
    place: &Place,
    id: &str,
    arguments: &[&str],
    input: &[Input],
) -> Result<(Vec<u8>, Ending), Error> {
    let conversation = conversation::begin(&place.host, id, &task(arguments)).await?;
    let (typed, receiver) = mpsc::channel(1);
    let (output, mut shown) = mpsc::channel(1);
    let typing = async {
        for input in input {
            typed.send(input.clone()).await.unwrap();
        }
        typed
    };
    let seeing = async {
        let mut all = Vec::new();
        while let Some(Shown::Stdout(data) | Shown::Stderr(data)) = shown.recv().await {
            all.extend(data);
        }
        all
    };
    let (ending, _, seen) = tokio::join!(conversation.connect(receiver, output), typing, seeing);
    Ok((seen, ending?))
}

#[test]
fn what_is_typed_and_written_passes_whole() {
    let (place, id) = running();
    block_on(async {
        let piece = Bytes::from((0..=255).cycle().take(60_000).collect::<Vec<u8>>());
        let mut input = vec![Input::Data(piece.clone()); 100];
        input.push(Input::Resize(24, 80));
        input.push(Input::End);
        let (seen, ending) = done(&place, &id, &["echo"], &input).await.unwrap();
        assert_eq!(ending, Ending::Exited(Exit::Status(3)));
        let expected: Vec<u8> = piece.repeat(100).into_iter().chain(*b"24x80").collect();
        assert!(seen == expected);
        let (_, ending) = done(&place, &id[..8], &["signal"], &[]).await.unwrap();
        assert_eq!(ending, Ending::Exited(Exit::Signal(9)));
        // Dozens at once.
        let all = (0..60).map(|number: u8| {
            let (place, id) = (&place, &id);
            async move {
                let data = Bytes::from(vec![number; 1000]);
                let input = [Input::Data(data.clone()), Input::End];
                let (seen, _) = done(place, id, &["echo"], &input).await.unwrap();
                assert_eq!(seen, data);
            }
        });
        all_of(all).await;
    });
}

async fn all_of<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[test]
fn what_a_guest_says_of_a_task_is_checked() {
    let (place, id) = running();
    let refused = |arguments: &[&str]| {
        let error = block_on(done(&place, &id, arguments, &[])).unwrap_err();
        (error.to_string(), error.exit_status())
    };
    let (text, status) = refused(&["missing"]);
    assert!(text.ends_with("reports: no  [31m`missing`"), "{text}");
    assert_eq!(status, 127);
    for arguments in ["early", "huge", "twice", "nonsense"] {
        let (text, status) = refused(&[arguments]);
        assert!(
            text.contains("does not keep to the protocol"),
            "{arguments}: {text}"
        );
        assert_eq!(status, 125);
    }
    // The workload is none the worse for it.
    let input = [Input::End];
    let (_, ending) = block_on(done(&place, &id, &["echo"], &input)).unwrap();
    assert_eq!(ending, Ending::Exited(Exit::Status(3)));
}

#[test]
fn nobody_waits_for_a_flood_that_nobody_reads() {
    let (place, id) = running();
    block_on(async {
        let mut floods = Vec::new();
        for _ in 0..20 {
            let flood = conversation::begin(&place.host, &id, &task(&["flood"])).await;
            floods.push(flood.unwrap());
        }
        // Nor for those who read nothing of what they get.
        let mut deaf = Vec::new();
        for _ in 0..20 {
            let one = conversation::begin(&place.host, &id, &task(&["deaf"])).await;
            let (typed, input) = mpsc::channel(1);
            let (output, shown) = mpsc::channel(1);
            let one = tokio::spawn(one.unwrap().connect(input, output));
            tokio::spawn(async move {
                let piece = Bytes::from(vec![0; 60_000]);
                while typed.send(Input::Data(piece.clone())).await.is_ok() {}
            });
            deaf.push((one, shown));
        }
        for _ in 0..20 {
            let input = [Input::Data(Bytes::from_static(b"quick")), Input::End];
            let (seen, _) = done(&place, &id, &["echo"], &input).await.unwrap();
            assert_eq!(seen, b"quick");
        }
        let id = client::inspect(&place.host, &id).unwrap().id;
        client::signal(&place.host, &id, 10).unwrap();
        drop(floods);
    });
    // Commands that are killed take their tasks along, even if nobody reads what they wrote: here,
    // they all ended with the runtime.
    let id = client::inspect(&place.host, &id).unwrap().id;
    until_logged(&place, &id, |text| {
        text.contains("signal 10\n") && text.matches(" signal 0\n").count() == 40
    });
}

/// Waits until the workload has written what is looked for.
fn until_logged(place: &Place, id: &firebuild_core::MachineId, is_there: impl Fn(&str) -> bool) {
    let mut text = String::new();
    for _ in 0..600 {
        let logs = client::logs(&place.host, id, false).unwrap();
        let written = logs.flat_map(|entry| entry.unwrap().data);
        text = String::from_utf8(written.collect()).unwrap();
        if is_there(&text) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it did not come to pass within 60 s: {text}");
}

#[test]
fn signals_reach_a_task_and_there_is_an_end_of_tasks() {
    let (place, id) = running();
    let machine = client::inspect(&place.host, &id).unwrap().id;
    block_on(async {
        let one = conversation::begin(&place.host, &id, &task(&["deaf"])).await;
        let one = one.unwrap();
        one.signals().send(15).await;
        until_logged(&place, &machine, |text| text.contains("task 1 signal 15\n"));
        let mut others = vec![one];
        let error = loop {
            match conversation::begin(&place.host, &id, &task(&["deaf"])).await {
                Ok(other) => others.push(other),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::TooMany { most: 100, .. }), "{error}");
        assert_eq!(others.len(), 100);
        // A VM that ends ends them all.
        let (_typed, input) = mpsc::channel(1);
        let (output, _shown) = mpsc::channel(1);
        let last = others.pop().unwrap().connect(input, output);
        let host = place.host.clone();
        let stopped = machine.clone();
        let stop = std::thread::spawn(move || client::kill(&host, &stopped));
        let error = last.await.unwrap_err();
        assert!(matches!(error, Error::EndedMeanwhile(_)), "{error}");
        stop.join().unwrap().unwrap();
        let error = conversation::begin(&place.host, &id, &task(&["echo"])).await;
        assert!(matches!(error, Err(Error::NotRunning(_))), "{error:?}");
    });
}
