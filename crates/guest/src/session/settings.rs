//! Settings of the kernel, as `sysctl` makes them.

use std::path::{Path, PathBuf};

use crate::error::{Doing as _, GuestError, Result};

/// Where they are.
const SETTINGS: &str = "/proc/sys";

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
