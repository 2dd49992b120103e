//! What the VM uses and what runs in it, as the kernel tells it below `/proc`.

use firebuild_protocol::task::{Entry, Usage};

/// The kernel's unit of time in `/proc`, as every Linux has had it for programs: 10 ms.
const TICK: u64 = 10;
/// The size of a page, in KiB: of the machines that this runs on.
const PAGE: u64 = 4;
/// The size of a sector in what the kernel tells of drives, in bytes, whatever the drive has.
const SECTOR: u64 = 512;
/// How many processes are told of at most.
const MOST: usize = 4096;
/// How much is told of a process's arguments, in characters.
const SHOWN: usize = 1000;
/// The kernel's own first process.
const KERNEL: u32 = 2;

/// All processes but the agent, its `spare` one and the kernel's own: JSON of a list of [`Entry`].
pub(super) fn processes(spare: Option<u32>) -> Vec<u8> {
    let now = uptime();
    let mut all: Vec<Entry> = pids(spare)
        .filter_map(|pid| process(pid, now))
        .take(MOST)
        .collect();
    all.sort_by_key(|process| process.pid);
    serde_json::to_vec(&all).unwrap_or_default()
}

/// What the VM uses; `spare` is no process of its.
pub(super) fn usage(spare: Option<u32>) -> Usage {
    let memory = read("meminfo");
    let kib = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name));
        number(line.unwrap_or_default().split_ascii_whitespace().next())
    };
    let total = kib("MemTotal:");
    let (cpu, cpus) = processors(&read("stat"));
    let (received, sent) = traffic(&read("net/dev"));
    let (read, written) = drives(&read("diskstats"));
    Usage {
        uptime: uptime(),
        cpu,
        cpus,
        memory: total.saturating_sub(kib("MemAvailable:")),
        memory_total: total,
        received,
        sent,
        read,
        written,
        processes: u32::try_from(pids(spare).filter(|pid| is_program(*pid)).count()).unwrap_or(0),
    }
}

/// How many processes the kernel has killed for want of memory.
pub(super) fn oom_kills() -> u64 {
    let counters = read("vmstat");
    let mut lines = counters.lines();
    number(lines.find_map(|line| line.strip_prefix("oom_kill ")))
}

fn read(name: &str) -> String {
    fs_err::read(format!("/proc/{name}"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn number(word: Option<&str>) -> u64 {
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// In milliseconds.
fn uptime() -> u64 {
    let text = read("uptime");
    let seconds = text.split_ascii_whitespace().next().unwrap_or_default();
    let (whole, hundredths) = seconds.split_once('.').unwrap_or((seconds, "0"));
    number(Some(whole)) * 1000 + number(Some(hundredths)) * 10
}

fn pids(spare: Option<u32>) -> impl Iterator<Item = u32> {
    let entries = fs_err::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(move |pid: &u32| *pid != 1 && *pid != KERNEL && Some(*pid) != spare)
}

fn is_program(pid: u32) -> bool {
    stat(&read(&format!("{pid}/stat"))).is_some_and(|(_, fields)| parent(&fields) != KERNEL)
}

fn parent(fields: &[String]) -> u32 {
    fields
        .get(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// The name of a process, and what follows it in its `stat`, from its state on.
fn stat(text: &str) -> Option<(String, Vec<String>)> {
    // The name may hold anything, parentheses included.
    let (begin, rest) = text.split_once('(')?;
    let (name, fields) = rest.rsplit_once(')')?;
    begin.trim().parse::<u32>().ok()?;
    let fields = fields.split_ascii_whitespace().map(str::to_owned);
    Some((name.to_owned(), fields.collect()))
}

fn process(pid: u32, now: u64) -> Option<Entry> {
    let (name, fields) = stat(&read(&format!("{pid}/stat")))?;
    if parent(&fields) == KERNEL {
        return None;
    }
    let field = |index: usize| number(fields.get(index).map(String::as_str));
    let narrow = |number| u32::try_from(number).unwrap_or(0);
    let command = read(&format!("{pid}/cmdline"));
    let command: String = command.trim_end_matches('\0').chars().take(SHOWN).collect();
    let status = read(&format!("{pid}/status"));
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Some(Entry {
        pid,
        ppid: parent(&fields),
        uid: narrow(number(
            user.and_then(|ids| ids.split_ascii_whitespace().nth(1)),
        )),
        state: fields.first().cloned().unwrap_or_default(),
        tty: narrow(field(4)),
        cpu: (field(11) + field(12)) * TICK,
        age: now.saturating_sub(field(19) * TICK),
        rss: field(21) * PAGE,
        vsz: field(20) / 1024,
        threads: narrow(field(17)),
        command: if command.is_empty() {
            format!("[{name}]")
        } else {
            command.replace('\0', " ")
        },
        name,
    })
}

/// The time that all processors were busy, in milliseconds, and how many they are.
fn processors(text: &str) -> (u64, u32) {
    let mut lines = text.lines().filter(|line| line.starts_with("cpu"));
    let all = lines.next().unwrap_or_default();
    let times: Vec<u64> = all
        .split_ascii_whitespace()
        .skip(1)
        .map(|word| number(Some(word)))
        .collect();
    let time = |index: usize| times.get(index).copied().unwrap_or(0);
    // User, nice, system, interrupts; not idle, waiting, stolen.
    let busy = time(0) + time(1) + time(2) + time(5) + time(6);
    (busy * TICK, u32::try_from(lines.count()).unwrap_or(0))
}

/// Bytes received and sent, by all interfaces but the loopback.
fn traffic(text: &str) -> (u64, u64) {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let other = lines.filter(|(name, _)| name.trim() != "lo");
    other.fold((0, 0), |(received, sent), (_, figures)| {
        let mut figures = figures.split_ascii_whitespace();
        let (first, ninth) = (number(figures.next()), number(figures.nth(7)));
        (received + first, sent + ninth)
    })
}

/// Bytes read and written, by all drives.
fn drives(text: &str) -> (u64, u64) {
    text.lines().fold((0, 0), |(read, written), line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            [_, _, name, _, _, from, _, _, _, to, ..] if name.starts_with("vd") => (
                read + number(Some(from)) * SECTOR,
                written + number(Some(to)) * SECTOR,
            ),
            _ => (read, written),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_understood() {
        let text = "cpu  10 1 5 100 7 2 3 9 0 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n";
        assert_eq!(processors(text), (210, 2));
        let text = "Inter-|   Receive |\n face |bytes packets\n    lo: 9 9 9 9 9 9 9 9 9 9\n  \
                    eth0: 1000 1 0 0 0 0 0 0 2000 2 0\n";
        assert_eq!(traffic(text), (1000, 2000));
        let text = " 254 0 vda 5 0 10 1 3 0 20 1 0\n 7 0 loop0 5 0 10 1 3 0 20 1 0\n";
        assert_eq!(drives(text), (5120, 10_240));
        let (name, fields) = stat("17 (a) (b) c) S 4 17 17 0 -1").unwrap();
        assert_eq!((name.as_str(), parent(&fields)), ("a) (b) c", 4));
        for nonsense in ["", "x (y) S", "1 y"] {
            assert_eq!(stat(nonsense), None);
        }
        assert_eq!(
            (traffic(""), drives("x"), processors("")),
            ((0, 0), (0, 0), (0, 0))
        );
    }

    #[test]
    fn this_process_is_among_them() {
        let all: Vec<Entry> = serde_json::from_slice(&processes(None)).unwrap();
        let own = all.iter().find(|entry| entry.pid == std::process::id());
        let own = own.unwrap();
        assert!(
            own.rss > 0 && own.threads > 0 && own.state.len() == 1,
            "{own:?}"
        );
        let usage = usage(None);
        let none_of = Some(std::process::id());
        let others: Vec<Entry> = serde_json::from_slice(&processes(none_of)).unwrap();
        assert!(others.iter().all(|entry| Some(entry.pid) != none_of));
        assert!(usage.memory > 0 && usage.memory < usage.memory_total && usage.cpus > 0);
        assert!(
            usage.processes > 0 && usage.uptime > 0 && usage.cpu > 0,
            "{usage:?}"
        );
    }
}
