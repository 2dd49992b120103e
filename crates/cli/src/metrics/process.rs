//! What the kernel tells of a VMM's process: the time and memory that the VM takes of the host, and
//! what goes through its taps and to its files.

use std::fmt;

use firebuild_machine::Record;

use super::text::Kind;

/// Takes a sample: name, kind, help, value.
type Sample<'a> = dyn FnMut(&'static str, Kind, &'static str, f64) + 'a;

/// The samples of a VMM. A process that has just ended has none.
pub(super) fn samples(pid: u32, record: &Record, sample: &mut Sample<'_>) {
    let read = |name: fmt::Arguments<'_>| {
        let text = fs_err::read_to_string(format!("/proc/{pid}/{name}"));
        text.unwrap_or_default()
    };
    let stat = read(format_args!("stat"));
    if let Some((seconds, resident)) = parse_stat(&stat) {
        let help = "Time of processors that the VMM has taken.";
        sample("vm_vmm_cpu_seconds_total", Kind::Counter, help, seconds);
        let help = "Memory that the VMM takes of the host.";
        sample("vm_vmm_resident_memory_bytes", Kind::Gauge, help, resident);
    }
    let io = read(format_args!("io"));
    for (key, name, help) in [
        (
            "read_bytes",
            "vm_block_read_bytes_total",
            "What was read from disks for the VM.",
        ),
        (
            "write_bytes",
            "vm_block_written_bytes_total",
            "What was written to disks for the VM.",
        ),
    ] {
        if let Some(bytes) = field(&io, key) {
            sample(name, Kind::Counter, help, bytes);
        }
    }
    let taps: Vec<&str> = (record.network_interfaces.iter())
        .map(|interface| interface.static_configuration.host_dev_name.as_str())
        .collect();
    if let Some((received, sent)) = traffic(&read(format_args!("net/dev")), &taps) {
        let help = "What the VM received over its networks.";
        sample(
            "vm_network_receive_bytes_total",
            Kind::Counter,
            help,
            received,
        );
        let help = "What the VM sent over its networks.";
        sample("vm_network_transmit_bytes_total", Kind::Counter, help, sent);
    }
}

/// Seconds of processors, and resident bytes, of `/proc/PID/stat` (`proc(5)`).
fn parse_stat(stat: &str) -> Option<(f64, f64)> {
    // The program's name may have anything in it but ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // `rest` begins with field 3.
    let number = |field: usize| fields.get(field.checked_sub(3)?)?.parse::<f64>().ok();
    let ticks = number(14)? + number(15)?;
    let page = f64::from(u32::try_from(rustix::param::page_size()).ok()?);
    let hertz = rustix::param::clock_ticks_per_second();
    let hertz = f64::from(u32::try_from(hertz).ok()?.max(1));
    Some((ticks / hertz, number(24)? * page))
}

fn field(text: &str, key: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line?.trim().parse().ok()
}

/// Bytes that a guest received and sent through its taps, of the VMM's `net/dev`: what a tap sends,
/// the guest receives.
fn traffic(devices: &str, taps: &[&str]) -> Option<(f64, f64)> {
    let mut found = None;
    for line in devices.lines() {
        let Some((name, counters)) = line.split_once(':') else {
            continue;
        };
        if !taps.contains(&name.trim()) {
            continue;
        }
        let counters: Vec<f64> = counters
            .split_whitespace()
            .filter_map(|counter| counter.parse().ok())
            .collect();
        let (&from, &to) = (counters.first()?, counters.get(8)?);
        let (received, sent) = found.unwrap_or((0.0, 0.0));
        found = Some((received + to, sent + from));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_understood() {
        let mut fields = vec!["7".to_owned(), "(a) b)".to_owned(), "S".to_owned()];
        fields.extend((4..=52).map(|number| number.to_string()));
        let (seconds, resident) = parse_stat(&fields.join(" ")).unwrap();
        let hertz = rustix::param::clock_ticks_per_second();
        assert!((seconds * f64::from(u32::try_from(hertz).unwrap()) - 29.0).abs() < 0.001);
        let page = f64::from(u32::try_from(rustix::param::page_size()).unwrap());
        assert!((resident / page - 24.0).abs() < 0.001);
        for broken in ["", "7 (a", "7 (a) S 1 2", ")"] {
            assert_eq!(parse_stat(broken), None, "{broken}");
        }
        assert_eq!(
            field("rchar: 1\nread_bytes: 512\n", "read_bytes"),
            Some(512.0)
        );
        assert_eq!(field("rchar: 1\n", "read_bytes"), None);
    }

    #[test]
    fn a_tap_receives_what_its_guest_sends() {
        let devices = "Inter-|   Receive |  Transmit\n face |bytes packets\n\
                       tap0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n\
                       \x20 lo: 5 1 0 0 0 0 0 0 5 2 0 0 0 0 0 0\n\
                       tap1: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n";
        assert_eq!(traffic(devices, &["tap0", "tap1"]), Some((220.0, 110.0)));
        assert_eq!(traffic(devices, &["tap9"]), None);
        assert_eq!(traffic("tap0: x\n", &["tap0"]), None);
    }
}
