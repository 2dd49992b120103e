//! How fast a VM's network is: a queue in front of the guest, and a limit behind it, at its taps in the
//! VM's own namespace. Both go with the namespace.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use firebuild_network::Namespace;

use crate::Error;

/// How much may come at once, in milliseconds of the rate, and in bytes at least.
const BURST: (u64, u64) = (20, 64 << 10);

/// Limits the devices `taps` to `rate` bytes a second in each direction.
///
/// # Errors
/// [`Error::Io`] with what `tc` or `nft` say.
pub(crate) fn limit(namespace: &Namespace, taps: &[String], rate: u64) -> Result<(), Error> {
    let failed = |source| Error::io("limit the rate of a VM's network", source);
    let burst = (rate * BURST.0 / 1000).max(BURST.1);
    for tap in taps {
        let mut command = Command::new("tc");
        command
            .args(["qdisc", "replace", "dev", tap, "root", "tbf"])
            .args(["rate", &format!("{}bit", rate * 8)])
            .args(["burst", &format!("{burst}b"), "latency", "100ms"]);
        run(namespace, command, "").map_err(failed)?;
    }
    let mut command = Command::new("nft");
    command.args(["-f", "-"]);
    run(namespace, command, &rules(taps, rate, burst)).map_err(failed)
}

/// What a guest sends beyond its rate is dropped before anything else looks at it.
fn rules(taps: &[String], rate: u64, burst: u64) -> String {
    // In place of what there was before, all at once.
    let mut text = "add table netdev firebuild_rate\ndelete table netdev firebuild_rate\ntable netdev firebuild_rate {\n".to_owned();
    for tap in taps {
        text.push_str(&format!(
            "  chain from_{tap} {{\n    type filter hook ingress device \"{tap}\" priority -600; policy accept;\n    limit rate over {rate} bytes/second burst {burst} bytes drop\n  }}\n"
        ));
    }
    text.push_str("}\n");
    text
}

fn run(namespace: &Namespace, mut command: Command, input: &str) -> io::Result<()> {
    log::debug!("run {}", firebuild_core::words(&command));
    namespace.enter_on_start(&mut command, None)?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that ended early says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let program = command.get_program().to_string_lossy().into_owned();
    Err(io::Error::other(format!(
        "{program}: {}",
        said.lines().next().unwrap_or_default()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tap_has_its_limit() {
        let taps = ["tap0".to_owned(), "tap1".to_owned()];
        let text = rules(&taps, 1_000_000, 65_536);
        assert_eq!(
            text.matches("limit rate over 1000000 bytes/second burst 65536 bytes drop")
                .count(),
            2
        );
        let mut check = Command::new("nft");
        check.args(["-c", "-f", "-"]).stdin(Stdio::piped());
        let named = text
            .replace("tap0", "lo")
            .replace("  chain from_tap1", "  chain from_b")
            .replace("\"tap1\"", "\"lo\"");
        let mut child = check.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(named.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success());
    }
}
