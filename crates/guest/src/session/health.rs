//! Looking into the workload's health again and again, as the host said how, and telling what came of
//! it. Between two looks there is nothing to do.

use std::sync::Arc;
use std::time::Duration;

use firebuild_protocol::v1::exit::How;
use firebuild_protocol::v1::{Exit, FromGuest, Probed, from_guest, probed::Health};
use firebuild_protocol::workload::HealthCheck;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::tasks::Place;
use crate::error::chain;
use crate::launch::{self, Launch, Refusal, Running, Streams};
use crate::reaper;

/// How much is told of what a probe writes, in bytes.
const SHOWN: usize = 4096;
/// How long is waited for what others still write when a probe has ended.
const LAST_WORDS: Duration = Duration::from_millis(100);
const KILL: u32 = 9;
/// The status of a probe that has none.
const NO_STATUS: i32 = -1;

/// What is known of the workload's health.
#[derive(Debug)]
struct Known {
    health: Health,
    failing_streak: u32,
    began: Instant,
}

/// Looks into the health of the workload in `place`, for as long as somebody listens.
pub(super) async fn watch(place: Arc<Place>, check: HealthCheck, to_host: mpsc::Sender<FromGuest>) {
    let launch = Launch {
        arguments: check.arguments.clone(),
        streams: Streams::Output,
        ..place.launch.clone()
    };
    let mut known = Known {
        health: Health::Starting,
        failing_streak: 0,
        began: Instant::now(),
    };
    loop {
        sleep(known.pause(&check)).await;
        let begun = Instant::now();
        let (status, output) = probe(&place, &launch, Duration::from_millis(check.timeout)).await;
        known.note(status == 0, &check);
        let took = begun.elapsed().as_millis();
        let probed = Probed {
            health: known.health.into(),
            failing_streak: known.failing_streak,
            took_milliseconds: u32::try_from(took).unwrap_or(u32::MAX),
            status,
            output: output.into(),
        };
        let message = Some(from_guest::Message::Probed(probed));
        if to_host.send(FromGuest { message }).await.is_err() {
            return;
        }
    }
}

impl Known {
    /// Whether failures do not count yet.
    fn is_starting(&self, check: &HealthCheck) -> bool {
        self.health == Health::Starting
            && self.began.elapsed() < Duration::from_millis(check.start_period)
    }

    fn pause(&self, check: &HealthCheck) -> Duration {
        Duration::from_millis(if self.is_starting(check) {
            check.start_interval
        } else {
            check.interval
        })
    }

    fn note(&mut self, is_well: bool, check: &HealthCheck) {
        if is_well {
            self.failing_streak = 0;
            self.health = Health::Healthy;
        } else if !self.is_starting(check) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.health = Health::Unhealthy;
            }
        }
    }
}

/// One look: the probe's status, and the beginning of what it wrote.
async fn probe(place: &Place, launch: &Launch, limit: Duration) -> (i32, Vec<u8>) {
    let started = match launch::start(launch, &place.reaper).await {
        Ok(started) => started.program,
        Err(error) => Err(Refusal::Agent(chain(&error))),
    };
    let Running {
        mut child,
        mut stdout,
        mut stderr,
        other_end: _,
    } = match started {
        Ok(running) => running,
        Err(Refusal::Agent(text) | Refusal::Program(text, 0)) => {
            return (NO_STATUS, text.into_bytes());
        }
        Err(Refusal::Program(text, status)) => {
            return (
                i32::try_from(status).unwrap_or(NO_STATUS),
                text.into_bytes(),
            );
        }
    };
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let ended = {
        let reading = async {
            tokio::join!(
                read(&mut stdout, &mut said),
                read(&mut stderr, &mut complained)
            )
        };
        tokio::pin!(reading);
        let mut is_read = false;
        let ended = timeout(limit, async {
            loop {
                tokio::select! {
                    exit = child.exited() => return exit,
                    _ = &mut reading, if !is_read => is_read = true,
                }
            }
        });
        let ended = ended.await;
        if !is_read {
            // What it has written by now is there to be read.
            let _ = timeout(LAST_WORDS, &mut reading).await;
        }
        ended
    };
    said.extend(complained);
    said.truncate(SHOWN);
    match ended {
        Ok(exit) => (status(&exit), said),
        Err(_) => {
            reaper::send_to_group(child.pid(), KILL);
            child.exited().await;
            let text = format!("the probe took longer than {} ms\n", limit.as_millis());
            let mut text = text.into_bytes();
            text.extend(said);
            text.truncate(SHOWN);
            (NO_STATUS, text)
        }
    }
}

/// Reads to the end, and keeps the beginning.
async fn read(pipe: &mut pipe::Receiver, kept: &mut Vec<u8>) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        let room = SHOWN - kept.len();
        kept.extend(&buffer[..length.min(room)]);
    }
}

fn status(exit: &Exit) -> i32 {
    match exit.how {
        Some(How::Status(status)) => i32::try_from(status).unwrap_or(NO_STATUS),
        Some(How::Signal(signal)) => i32::try_from(128 + signal).unwrap_or(NO_STATUS),
        None => NO_STATUS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_in_a_row_and_not_at_the_start() {
        let check = HealthCheck {
            arguments: vec!["x".to_owned()],
            interval: 30_000,
            timeout: 1,
            start_period: 60_000,
            start_interval: 500,
            retries: 2,
        };
        let begin = |ago| Known {
            health: Health::Starting,
            failing_streak: 0,
            began: Instant::now() - Duration::from_secs(ago),
        };
        let after = |ago, looks: &[bool]| {
            let mut known = begin(ago);
            looks.iter().for_each(|well| known.note(*well, &check));
            (
                known.health,
                known.failing_streak,
                known.pause(&check).as_millis(),
            )
        };
        use Health::{Healthy, Starting, Unhealthy};
        for (ago, looks, expected) in [
            (0, &[][..], (Starting, 0, 500)),
            (0, &[false, false, false], (Starting, 0, 500)),
            (0, &[true], (Healthy, 0, 30_000)),
            (0, &[true, false], (Healthy, 1, 30_000)),
            (0, &[true, false, false], (Unhealthy, 2, 30_000)),
            (61, &[false], (Starting, 1, 30_000)),
            (61, &[false, false, false], (Unhealthy, 3, 30_000)),
            (61, &[false, false, true], (Healthy, 0, 30_000)),
        ] {
            assert_eq!(after(ago, looks), expected, "{ago} {looks:?}");
        }
    }
}
