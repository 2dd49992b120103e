//! A `run` that stays: it shows the workload's output and ends as the workload does.

use std::process::ExitCode;

use firebuild_machine::client::{self, Attached};
use firebuild_machine::{Host, Record};
use tokio::signal::unix::{SignalKind, signal};

use crate::command::attach::{self, DetachKeys};
use crate::command::{block_on, lifecycle};

/// Shows the workload's output, passes signals on and what is typed, and ends as the workload does.
pub(super) fn show(host: &Host, mut attached: Attached) -> anyhow::Result<ExitCode> {
    let record = attached.record().clone();
    pass_signals_on(host.clone(), record.clone());
    let wanted = attach::wanted(&record);
    let keys = DetachKeys::default();
    let typing = wanted
        .input
        .then(|| attach::type_into(host, &record, wanted, keys, true));
    for entry in &mut attached {
        lifecycle::show(&entry?)?;
    }
    let record = attached.finish(host)?;
    attach::finish(typing);
    attach::end(record)
}

/// From now on, signals that people send to this command reach the workload instead.
pub(crate) fn pass_signals_on(host: Host, record: Record) {
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
