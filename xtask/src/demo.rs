//! The first thing that anyone does with firebuild, from end to end, on the real parts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::firebuild::Firebuild;
use crate::{packages, shell};

const IMAGE: &str = "demo/postgres:15";
const NAME: &str = "demo-postgres";
const PORT: &str = "15432";

/// How long the database may take to answer, under emulation.
const PATIENCE: Duration = Duration::from_secs(300);

/// Builds, runs, asks, stops.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    packages::install(&packages::DEMO)?;
    let firebuild = Firebuild::built(root)?;
    firebuild.prepare()?;
    firebuild.run(&["build", "-t", IMAGE, "examples/postgres"])?;
    let publish = format!("127.0.0.1:{PORT}:5432");
    firebuild.run(&[
        "run", "-d", "--rm", "--name", NAME, "--mem", "512", "-p", &publish, IMAGE,
    ])?;
    let shown = show(&firebuild);
    let stopped = firebuild.run(&["stop", NAME]);
    shown.and(stopped)?;
    firebuild.run(&["ls"])?;
    shell::say(&format!("done in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

fn show(firebuild: &Firebuild) -> anyhow::Result<()> {
    let answer = ask()?;
    shell::say(answer.trim_end());
    firebuild.run(&["ls"])?;
    firebuild.run(&["inspect", NAME])?;
    firebuild.run(&["logs", NAME])
}

/// Asks until the database answers. A server that is not there yet cannot tell when it will be, so
/// this is polled.
fn ask() -> anyhow::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let query = [
        "-h",
        "127.0.0.1",
        "-p",
        PORT,
        "-U",
        "postgres",
        "-d",
        "postgres",
        "-c",
        "SELECT words, version() FROM greeting",
    ];
    shell::say(&format!("$ psql {}", query.join(" ")));
    loop {
        let mut psql = Command::new("psql");
        let output = psql
            .args(query)
            .env("PGCONNECT_TIMEOUT", "5")
            .stderr(Stdio::null())
            .output()
            .context("cannot start `psql`")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        if Instant::now() > deadline {
            bail!(
                "the database did not answer within {} s",
                PATIENCE.as_secs()
            );
        }
        // Between two tries of a poll; the server's start is no event that the host can see.
        std::thread::sleep(Duration::from_millis(200));
    }
}
