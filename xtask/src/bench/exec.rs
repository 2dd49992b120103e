//! One more process in a VM that runs, against one that the guest starts by itself.

use anyhow::Context as _;

use super::host::{Host, time};
use super::report::{Bound, Row};
use super::statistics::{median, median_seconds};
use super::vm::Detached;
use crate::shell;

/// How many turns.
const TURNS: usize = 15;

/// Prints how many nanoseconds a shell in the guest needs to start a process and to wait for its end,
/// on the average of a hundred.
const OWN: &str = "a=$(date +%s%N); i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done; \
                   b=$(date +%s%N); echo $(( (b - a) / 100 ))";

pub(super) fn measure(host: &Host) -> anyhow::Result<Vec<Row>> {
    let vm = Detached::start(host, super::BASE, &["sleep", "600"])?;
    let measured = turns(host, vm.id()?);
    vm.stop()?;
    let (round_trip, own) = measured?;
    Ok(vec![Row {
        what: "`exec true`, round trip, beyond what the guest takes to start a process itself",
        figure: round_trip - own,
        bound: Bound::milliseconds(20.0),
        note: format!("{round_trip:.1} ms, and {own:.1} ms in the guest"),
    }])
}

/// The round trip, and what the guest takes by itself, in milliseconds.
fn turns(host: &Host, vm: &str) -> anyhow::Result<(f64, f64)> {
    let exec = |command: &[&str]| {
        let mut exec = host.command();
        exec.args(["exec", vm, "--"]).args(command);
        exec
    };
    time(&mut exec(&["/bin/true"]))?;
    let (mut round_trips, mut own) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        round_trips.push(time(&mut exec(&["/bin/true"]))?);
        let told = shell::output(&mut exec(&["sh", "-c", OWN]))?;
        let nanoseconds: f64 = told.trim().parse().context("the guest's clock")?;
        own.push(nanoseconds / 1e6);
    }
    Ok((median_seconds(&round_trips) * 1e3, median(&own)))
}
