//! What `run` takes about the health of a workload: the image's HEALTHCHECK, or another one.

use std::time::Duration;

use clap::Args;
use firebuild_core::ImageConfig;
use firebuild_protocol::workload::HealthCheck;
use serde::Deserialize;

use crate::arguments::values;
use crate::command::lifecycle;
use crate::error::hinted;

/// What counts where nothing is said, as Docker has it.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// The shortest time between probes.
const SHORTEST: Duration = Duration::from_millis(100);

/// How a workload's health is looked into.
#[derive(Debug, Args)]
pub(super) struct HealthArguments {
    /// Look into its health with this command of the image's shell; status 0 is healthy
    #[arg(long, value_name = "COMMAND", help_heading = "Health")]
    health_cmd: Option<String>,
    /// The time between two looks [default: the image's, else 30s]
    #[arg(long, value_name = "TIME", value_parser = lifecycle::time, help_heading = "Health")]
    health_interval: Option<Duration>,
    /// How long a look may take [default: the image's, else 30s]
    #[arg(long, value_name = "TIME", value_parser = lifecycle::time, help_heading = "Health")]
    health_timeout: Option<Duration>,
    /// For how long after its start failures do not count [default: the image's, else 0s]
    #[arg(long, value_name = "TIME", value_parser = lifecycle::time, help_heading = "Health")]
    health_start_period: Option<Duration>,
    /// The time between two looks in that time [default: the image's, else 5s]
    #[arg(long, value_name = "TIME", value_parser = lifecycle::time, help_heading = "Health")]
    health_start_interval: Option<Duration>,
    /// How many failures in a row make it unhealthy [default: the image's, else 3]
    #[arg(long, value_name = "N", value_parser = values::whole::<u32>(1, 1000), help_heading = "Health")]
    health_retries: Option<u32>,
    /// Do not look into its health, whatever the image says
    #[arg(long, help_heading = "Health", conflicts_with = "health_cmd")]
    no_healthcheck: bool,
}

/// A health check as images have it: times in nanoseconds, 0 for what is not said.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Declared {
    test: Option<Vec<String>>,
    interval: Option<i64>,
    timeout: Option<i64>,
    start_period: Option<i64>,
    start_interval: Option<i64>,
    retries: Option<i64>,
}

impl HealthArguments {
    /// How the health is looked into, if it is.
    pub(super) fn check(&self, config: &ImageConfig) -> anyhow::Result<Option<HealthCheck>> {
        if self.no_healthcheck {
            return Ok(None);
        }
        let declared = match &config.config.healthcheck {
            // What makes no sense is no check, and no reason not to run the image.
            Some(value) => serde_json::from_value(value.clone()).unwrap_or_default(),
            None => Declared::default(),
        };
        let shell = config
            .config
            .shell
            .clone()
            .filter(|shell| !shell.is_empty());
        let shell = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        let in_shell = |text: &str| [shell, vec![text.to_owned()]].concat();
        let arguments = match (&self.health_cmd, declared.test.as_deref()) {
            (Some(command), _) => in_shell(command),
            (None, Some([kind, command])) if kind == "CMD-SHELL" => in_shell(command),
            (None, Some([kind, program @ ..])) if kind == "CMD" && !program.is_empty() => {
                program.to_vec()
            }
            _ => return self.nothing(),
        };
        let time = |given: Option<Duration>, declared: Option<i64>, default| {
            let declared = declared.and_then(|nanos| u64::try_from(nanos).ok());
            let declared = declared
                .filter(|nanos| *nanos > 0)
                .map(Duration::from_nanos);
            given
                .filter(|time| !time.is_zero())
                .or(declared)
                .unwrap_or(default)
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let retries = declared.retries.and_then(|count| u32::try_from(count).ok());
        let period = time(
            self.health_start_period,
            declared.start_period,
            Duration::ZERO,
        );
        let interval = time(self.health_interval, declared.interval, INTERVAL);
        let at_start = time(
            self.health_start_interval,
            declared.start_interval,
            START_INTERVAL,
        );
        let timeout = time(self.health_timeout, declared.timeout, TIMEOUT);
        Ok(Some(HealthCheck {
            arguments,
            interval: millis(interval.max(SHORTEST)),
            timeout: millis(timeout).max(1),
            start_period: millis(period),
            start_interval: millis(at_start.max(SHORTEST)),
            retries: self
                .health_retries
                .or(retries.filter(|count| *count > 0))
                .unwrap_or(RETRIES),
        }))
    }

    /// There is no check; then nothing may be said about it.
    fn nothing(&self) -> anyhow::Result<Option<HealthCheck>> {
        let is_said = self.health_interval.is_some()
            || self.health_timeout.is_some()
            || self.health_start_period.is_some()
            || self.health_start_interval.is_some()
            || self.health_retries.is_some();
        if is_said {
            return Err(hinted(
                "the image has no HEALTHCHECK that this could change",
                "say with `--health-cmd` how to look into the health",
            ));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        health: HealthArguments,
    }

    fn check(declared: serde_json::Value, line: &[&str]) -> anyhow::Result<Option<HealthCheck>> {
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Healthcheck": declared, "Shell": ["/bin/ash", "-ec"]},
        });
        let config: ImageConfig = serde_json::from_value(config).unwrap();
        let line = Line::parse_from([&["x"], line].concat());
        line.health.check(&config)
    }

    #[test]
    fn the_images_check_counts_as_far_as_nothing_else_is_said() {
        let declared =
            json!({"Test": ["CMD-SHELL", "curl x"], "Interval": 2_000_000_000, "Retries": 5});
        let found = check(declared.clone(), &[]).unwrap().unwrap();
        assert_eq!(found.arguments, ["/bin/ash", "-ec", "curl x"]);
        let times = (
            found.interval,
            found.timeout,
            found.start_period,
            found.retries,
        );
        assert_eq!(times, (2_000, 30_000, 0, 5));
        let other = [
            "--health-cmd",
            "true",
            "--health-interval",
            "1s",
            "--health-retries",
            "2",
        ];
        let found = check(declared.clone(), &other).unwrap().unwrap();
        assert_eq!(found.arguments, ["/bin/ash", "-ec", "true"]);
        assert_eq!((found.interval, found.retries), (1_000, 2));
        let plain = json!({"Test": ["CMD", "/probe", "x"]});
        assert_eq!(
            check(plain, &[]).unwrap().unwrap().arguments,
            ["/probe", "x"]
        );
        assert_eq!(check(declared, &["--no-healthcheck"]).unwrap(), None);
        for none in [
            json!(null),
            json!({"Test": ["NONE"]}),
            json!({"Test": []}),
            json!(7),
        ] {
            assert_eq!(check(none.clone(), &[]).unwrap(), None);
            assert!(check(none, &["--health-interval", "1s"]).is_err());
        }
    }
}
