//! What changes in a VM's record while it runs, with the events that tell of it.

use std::time::{Duration, Instant};

use firebuild_protocol::v1::Boot;
use jiff::Timestamp;

use super::Machine;
use crate::Error;
use crate::change::Change;
use crate::events::{self, Action};
use crate::health::{Health, HealthStatus};
use crate::limits::Limits;
use crate::phases::Part;
use crate::rate;
use crate::record::State;
use crate::spec::Purpose;
use crate::supervisor::processes::{Beside, Note};
use crate::vmm::group;

/// How often the record is written at most because of the workload's health.
const HEALTH_NOTES: Duration = Duration::from_secs(1);

impl Machine {
    /// Notes that what the VM is for runs now.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn mark_running(&mut self) -> Result<(), Error> {
        if matches!(self.record.spec.purpose, Purpose::Run { .. }) {
            self.phases.launched();
        }
        self.record.state = State::Running;
        self.record.started = Some(Timestamp::now());
        self.record.health = match &self.record.spec.purpose {
            Purpose::Run { workload, .. } if workload.health.is_some() => Some(Health::new()),
            _ => None,
        };
        self.health_written = None;
        self.note(Action::Start);
        self.save()
    }

    /// Notes how the workload is, as its guest says. Whatever a guest says, the record is not written
    /// more than once a second for it; what is not written is written with the next note.
    pub(crate) fn note_health(&mut self, probed: &firebuild_protocol::v1::Probed) {
        let Some(health) = &mut self.record.health else {
            // Nobody asked.
            return;
        };
        health.note(probed, Timestamp::now());
        let status = health.status;
        let before = self.health_written;
        if before.is_some_and(|(written, _)| written.elapsed() < HEALTH_NOTES) {
            return;
        }
        self.health_written = Some((Instant::now(), status));
        // A full disk must not stop the workload; what fits later is kept again.
        let _ = self.save();
        if before.is_none_or(|(_, told)| told != status) && status != HealthStatus::Starting {
            let more = [("health", status.word())];
            events::note_with(&self.host.store, &self.record, Action::HealthStatus, &more);
        }
    }

    /// Takes down what the guest says of its boot.
    pub fn note_boot(&mut self, boot: &Boot, received: Instant) {
        self.phases.boot(boot, received);
    }

    /// Takes down what the guest says of its workload's start.
    pub(crate) fn note_launch(&mut self, boot: &Boot, received: Instant) {
        self.phases.launch(boot, received);
    }

    /// Tells what took time until what the VM is for was running.
    pub(crate) fn tell_start(&mut self) {
        self.phases.tell(self.host.watch, &self.record, Part::Start);
    }

    /// Notes that the VM is going to end.
    pub(crate) fn note_ending(&mut self) {
        self.phases.ending();
    }

    /// Notes that the VM was asked to end.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn mark_stopping(&mut self) -> Result<(), Error> {
        self.note_ending();
        self.record.state = State::Stopping;
        self.note(Action::Stop);
        self.save()
    }

    /// Stops the guest's processors.
    ///
    /// # Errors
    /// [`Error::NotRunning`]; those of the VMM.
    pub async fn pause(&mut self) -> Result<(), Error> {
        self.switch(true).await
    }

    /// Lets the guest's processors go on.
    ///
    /// # Errors
    /// [`Error::NotRunning`]; those of the VMM.
    pub async fn resume(&mut self) -> Result<(), Error> {
        self.switch(false).await
    }

    pub(super) async fn switch(&mut self, to_paused: bool) -> Result<(), Error> {
        let (from, to) = match to_paused {
            true => (State::Running, State::Paused),
            false => (State::Paused, State::Running),
        };
        if self.record.state == to {
            return Ok(());
        }
        let running = self.running.clone().filter(|_| self.record.state == from);
        let (running, vmm) = running
            .zip(self.vmm.clone())
            .ok_or_else(|| Error::NotRunning(self.id().clone()))?;
        match to_paused {
            true => vmm.pause(&running).await?,
            false => vmm.resume(&running).await?,
        }
        self.record.state = to;
        self.note(match to_paused {
            true => Action::Pause,
            false => Action::Unpause,
        });
        self.save()
    }

    /// Applies a change that is possible while the VM runs.
    ///
    /// # Errors
    /// [`Error::Spec`], [`Error::NotOffered`] for what cannot be; what goes wrong with a limit;
    /// [`Error::Network`] if its neighbours cannot be told a new name; [`Error::Store`].
    pub async fn change(&mut self, change: &Change) -> Result<(), Error> {
        let mut spec = self.record.spec.clone();
        spec.limits.change(&change.limits);
        spec.check()?;
        if change.limits != Limits::default()
            && let Some((running, vmm)) = self.running.clone().zip(self.vmm.clone())
        {
            vmm.check(&spec)?;
            group::change(self.id(), &change.limits)?;
            if !change.limits.disks.is_empty() {
                vmm.set_rates(&running, &spec.limits.disks).await?;
            }
            self.limit_network(change.limits.network)?;
        }
        change.apply(&self.host.store, &mut self.record);
        if change.name.is_some() && self.attachment.is_some() {
            self.host.network.rename(self.id(), self.names())?;
        }
        self.save()
    }

    /// Limits the network of the VM, which runs, to so many bytes a second; leaves it alone if it is none.
    fn limit_network(&self, rate: Option<u64>) -> Result<(), Error> {
        let (Some(rate), Some(attachment)) = (rate, &self.attachment) else {
            return Ok(());
        };
        let taps = attachment.interfaces.iter().map(|it| it.tap.clone());
        rate::limit(&attachment.namespace, &taps.collect::<Vec<_>>(), rate)
    }

    pub(super) fn note(&self, action: Action) {
        events::note(&self.host.store, &self.record, action);
    }

    /// Notes that the workload was sent a signal.
    pub(crate) fn note_signal(&self, number: u8) {
        let number = number.to_string();
        let more = [("signal", number.as_str())];
        events::note_with(&self.host.store, &self.record, Action::Kill, &more);
    }

    /// Notes what became of something beside the workload.
    pub(crate) fn note_beside(&self, note: &Note) {
        let mut more = vec![("execID", note.id.to_string())];
        let action = match &note.what {
            Beside::Ordered(command) => {
                more.push(("command", command.clone()));
                Action::ExecCreate
            }
            Beside::Begun => Action::ExecStart,
            Beside::Ended(exit) => {
                more.push(("exitCode", exit.code().to_string()));
                Action::ExecDie
            }
        };
        let more: Vec<(&str, &str)> = more.iter().map(|(name, text)| (*name, &**text)).collect();
        events::note_with(&self.host.store, &self.record, action, &more);
    }

    /// Notes that the host's kernel killed the VMM for want of memory, if it did since this was asked.
    pub(super) fn note_oom(&mut self) {
        let kills = group::oom_kills(self.id());
        if kills > self.oom_kills {
            self.record.oom_killed = true;
            self.note(Action::Oom);
        }
        self.oom_kills = kills;
    }

    /// The same of the guest's kernel and the workload's processes, of which so many were killed.
    pub(crate) fn note_guests_oom(&mut self, kills: u64) {
        if kills > 0 {
            self.record.oom_killed = true;
            let kills = kills.to_string();
            let more = [("guestKills", kills.as_str())];
            events::note_with(&self.host.store, &self.record, Action::Oom, &more);
        }
    }

    /// Notes that somebody wanted the VM to be down.
    pub fn note_stopped(&mut self) {
        self.record.was_stopped = true;
    }

    /// Makes the record go with the VM.
    pub fn forget_at_end(&mut self) {
        self.record.spec.remove = true;
    }
}
