//! Settings of the kernel, as `sysctl` makes them.

use std::path::{Path, PathBuf};

use crate::error::{Doing as _, GuestError, Result};

/// Where they are.
const SETTINGS: &str = "/proc/sys";

/// What the kernel says of errors and worse is on the console (`printk`, in the kernel's
/// documentation of `/proc/sys/kernel`).
const ERRORS: u32 = 4;

/// Lets the kernel complain on the console: while it boots, nothing is worth the serial line's time.
pub(super) fn let_kernel_complain() {
    let path = Path::new(SETTINGS).join("kernel/printk");
    let now = fs_err::read_to_string(&path).unwrap_or_default();
    let level = now.split_whitespace().next();
    if level.and_then(|level| level.parse().ok()) < Some(ERRORS) {
        // The workload runs as well without.
        let _ = fs_err::write(path, ERRORS.to_string());
    }
}

/// Makes them, in their order.
pub(super) fn apply(settings: &[(String, String)]) -> Result<()> {
    for (name, value) in settings {
        let path = path(name)
            .ok_or_else(|| GuestError::Told(format!("`{name}` is no setting of a kernel")))?;
        fs_err::write(path, value).doing(|| format!("set `{name}` to `{value}`"))?;
    }
    Ok(())
}

/// A name has dots between its parts, or slashes; where it begins with one of them, the other is part
/// of a name (`sysctl.d(5)`).
fn path(name: &str) -> Option<PathBuf> {
    let first = name.find(['.', '/']);
    let dots = first.is_some_and(|at| name.as_bytes().get(at) == Some(&b'.'));
    let swapped: String = name
        .chars()
        .map(|letter| match letter {
            '.' if dots => '/',
            '/' if dots => '.',
            other => other,
        })
        .collect();
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let fits = swapped.split('/').all(is_part);
    fits.then(|| Path::new(SETTINGS).join(swapped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_dots_or_slashes() {
        for (name, expected) in [
            ("net.core.somaxconn", Some("/proc/sys/net/core/somaxconn")),
            (
                "net/ipv4/conf/eth0.1/x",
                Some("/proc/sys/net/ipv4/conf/eth0.1/x"),
            ),
            (
                "net.ipv4.conf.eth0/1.x",
                Some("/proc/sys/net/ipv4/conf/eth0.1/x"),
            ),
            ("../etc/passwd", None),
            ("a..b", None),
            ("/etc/passwd", None),
            ("a/../b", None),
            ("", None),
        ] {
            assert_eq!(path(name), expected.map(PathBuf::from), "{name}");
        }
    }
}
