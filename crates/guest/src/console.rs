//! What the agent writes to the console: single lines, and next to none.
//!
//! The console is the only way to the host before the agent is connected; the host shows the line
//! that begins with `vminit: fatal:` when a VM ends before that.

use std::io::Write as _;
use std::sync::OnceLock;

static VERBOSE: OnceLock<bool> = OnceLock::new();

/// Whether [`debug`] writes anything; to be called once.
pub(crate) fn set_verbose(verbose: bool) {
    let _ = VERBOSE.set(verbose);
}

/// Lets the kernel say on the console what it has of errors and worse: while it boots, nothing is worth
/// the serial line's time.
pub(crate) fn let_kernel_complain() {
    set_kernels_level(4);
}

/// Lets the kernel say nothing more.
pub(crate) fn hush_kernel() {
    set_kernels_level(0);
}

/// Only what is graver than that is on the console (`printk` in the kernel's documentation of
/// `/proc/sys/kernel`).
fn set_kernels_level(level: u32) {
    if !VERBOSE.get().copied().unwrap_or(false) {
        // The VM is as good without.
        let _ = fs_err::write("/proc/sys/kernel/printk", level.to_string());
    }
}

/// Tells what the agent does, with the time since the kernel's start, if it was asked to.
pub(crate) fn debug(text: impl FnOnce() -> String) {
    if VERBOSE.get().copied().unwrap_or(false) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        line(&format!(
            "vminit: [{:5}.{:06}] {}",
            now.tv_sec,
            now.tv_nsec / 1000,
            text()
        ));
    }
}

/// Tells why the VM ends.
pub(crate) fn fatal(text: &str) {
    line(&format!("vminit: fatal: {text}"));
}

/// Tells what is missing, though the VM goes on.
pub(crate) fn say(text: &str) {
    line(&format!("vminit: {text}"));
}

fn line(text: &str) {
    let text = text.replace(['\n', '\r'], " ");
    if let Ok(mut console) = fs_err::OpenOptions::new().write(true).open("/dev/console") {
        // Where the console does not take it, nobody else would.
        let _ = console.write_all(format!("{text}\n").as_bytes());
    }
}
