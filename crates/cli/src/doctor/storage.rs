//! The store.

use firebuild_core::ByteSize;

use super::host::Content;
use super::{Group, Host};

/// Below this nothing can be built.
const LEAST: u64 = 1 << 30;

/// Below this there is not much left to build with.
const LITTLE: u64 = 5 << 30;

pub(super) fn examine(host: &impl Host, group: &mut Group<'_>) {
    let store = host.store();
    let root = store.root.display();
    match store.volume {
        Err(why) => group.missing(
            "space",
            format!("the file system of `{root}` cannot be asked: {why}"),
            "choose another directory with `--root`",
        ),
        Ok(volume) => {
            let free = format!("{} free at `{root}`", ByteSize(volume.free));
            let mend = "`firebuild system prune`, or another directory with `--root`";
            match volume.free {
                ..LEAST => group.missing("space", free, mend),
                LEAST..LITTLE => group.advice("space", free, mend),
                _ => group.good("space", free),
            }
            match volume.reflink {
                true => group.good(
                    "reflinks",
                    "files share their blocks until they are changed",
                ),
                false => group.advice(
                    "reflinks",
                    "this file system cannot share blocks between files, so some copies take room",
                    "XFS (`mkfs.xfs`) or Btrfs for the store",
                ),
            }
        }
    }
    match store.content {
        Err(why) => group.missing(
            "store",
            format!("it cannot be opened: {why}"),
            "see the rights on it; `firebuild system verify` looks at what is in it",
        ),
        Ok(None) => group.good("store", "not there yet; the first command makes it"),
        Ok(Some(content)) => of(&content, group),
    }
}

fn of(content: &Content, group: &mut Group<'_>) {
    let Content {
        kernels,
        images,
        unreadable,
    } = content;
    match unreadable {
        0 => group.good("store", format!("{images} images")),
        _ => group.advice(
            "store",
            format!("{unreadable} of its files cannot be read"),
            "`firebuild system verify --repair`",
        ),
    }
    match kernels {
        0 => group.advice(
            "kernels",
            "none; the first `run` or `build` fetches one",
            "`firebuild kernel pull debian:bookworm`",
        ),
        _ => group.good("kernels", format!("{kernels} installed")),
    }
}
