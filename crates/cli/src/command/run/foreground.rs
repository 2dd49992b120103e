//! A `run` that stays: it shows the workload's output and ends as the workload does.

use std::process::ExitCode;

use firebuild_machine::client::{self, Attached};
use firebuild_machine::{Host, Record, State};
use tokio::signal::unix::{SignalKind, signal};

use crate::command::{block_on, lifecycle};
use crate::error;

/// Shows the workload's output, passes signals on, and ends as the workload does.
pub(super) fn show(host: &Host, mut attached: Attached) -> anyhow::Result<ExitCode> {
    pass_signals_on(host.clone(), attached.record().clone());
    for entry in &mut attached {
        lifecycle::show(&entry?)?;
    }
    match attached.finish(host)?.state {
        State::Stopped { exit } => Ok(ExitCode::from(exit.code())),
        State::Failed { reason } => {
            let status = reason.status;
            error::report(&firebuild_machine::Error::Reported(reason).into());
            Ok(ExitCode::from(status))
        }
        other => Err(anyhow::anyhow!(
            "the VM's record says `{other:?}`, though it has ended"
        )),
    }
}

/// From now on, signals that people send to this command reach the workload instead.
fn pass_signals_on(host: Host, record: Record) {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    std::thread::spawn(move || {
        let passing = block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for kind in kinds {
                let (host, id) = (host.clone(), record.id.clone());
                tasks.spawn(async move {
                    let Ok(mut received) = signal(kind) else {
                        return;
                    };
                    while received.recv().await.is_some() {
                        // A workload that has just ended needs no signal any more.
                        let _ = client::signal(
                            &host,
                            &id,
                            u8::try_from(kind.as_raw_value()).unwrap_or_default(),
                        );
                    }
                });
            }
            while tasks.join_next().await.is_some() {}
        });
        // Without it, signals have their usual effect: the command ends and the VM goes on.
        drop(passing);
    });
}
