//! Which user a VMM runs as: one of its own for each VM, so that a guest that breaks out of its
//! VMM finds nothing that it may touch, not even another VM's.

use std::net::Ipv4Addr;

/// The first of 65,536 user and group ids that firebuild uses. They need no entry in any file.
pub const FIRST: u32 = 700_000;

/// A user and group of a VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// A group that the VMM has besides, because a device that it needs belongs to it.
    pub device_group: Option<u32>,
}

impl Ids {
    /// The ids of the VM that its networks know by `number`: no two VMs of a host that run have the same.
    #[must_use]
    pub fn numbered(number: u16) -> Self {
        Self::at(u32::from(number))
    }

    /// The ids of the VM that has `address` in a network that does not number its VMs: the last 15 bits
    /// of addresses tell the VMs of one such network apart.
    #[must_use]
    pub fn of(address: Ipv4Addr) -> Self {
        Self::at(0x8000 | (address.to_bits() & 0x7fff))
    }

    fn at(offset: u32) -> Self {
        let id = FIRST + offset;
        Self {
            uid: id,
            gid: id,
            device_group: None,
        }
    }

    /// Whether this process can become these: it is root, and its user namespace has them.
    #[must_use]
    pub fn are_possible(self) -> bool {
        let maps =
            |path, id| fs_err::read_to_string(path).is_ok_and(|map: String| is_mapped(&map, id));
        rustix::process::geteuid().is_root()
            && maps("/proc/self/uid_map", self.uid)
            && maps("/proc/self/gid_map", self.gid)
    }
}

/// Whether `id` is among those that a map (`user_namespaces(7)`) gives.
fn is_mapped(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&u64::from(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vm_has_its_own() {
        assert_eq!(Ids::numbered(7).uid, 700_007);
        let addressed = Ids::of([10, 88, 0, 7].into());
        assert_eq!(addressed.uid, 732_775);
        assert_eq!(Ids::of([10, 201, 127, 254].into()).gid, 765_534);
    }

    #[test]
    fn maps_of_user_namespaces() {
        let whole = "         0          0 4294967295\n";
        let rootless = "0 1000 1\n1 100000 65536\n";
        assert!(is_mapped(whole, 700_000));
        assert!(is_mapped(rootless, 65_536));
        for (map, id) in [(rootless, 65_537), ("", 0), ("x y z", 0), ("0 0", 0)] {
            assert!(!is_mapped(map, id), "{map}");
        }
    }
}
