//! Why a file system could not be written.

use std::io;

use firebuild_core::ByteSize;

/// Why a file system could not be written.
///
/// All but [`Error::Read`] and [`Error::Write`] are found before the first byte is written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, link or device with more names than the format counts.
    #[error("`{path}` is one of more than 65000 hard links to one file, the most that ext4 counts")]
    TooManyLinks {
        /// The first name that is one too many.
        path: String,
    },
    /// A directory whose index would need a third level.
    #[error("directory `{path}` has more entries than ext4 can index")]
    TooManyEntries {
        /// The directory.
        path: String,
    },
    /// More inodes than the format numbers.
    #[error(
        "the file system would need {count} inodes, and ext4 can number no more than 4 billion"
    )]
    TooManyInodes {
        /// How many it would take.
        count: u64,
    },
    /// A symbolic link's target that is empty, holds NUL, or is longer than 4095 bytes.
    #[error(
        "the target of symbolic link `{path}` has {length} bytes; ext4 holds 1 to 4095, without NUL"
    )]
    SymlinkTarget {
        /// The link.
        path: String,
        /// The target's length in bytes.
        length: usize,
    },
    /// A file longer than 16 TiB.
    #[error("`{path}` is {} bytes long, longer than the 16 TiB that ext4 holds in a file", size.0)]
    FileTooLarge {
        /// The file.
        path: String,
        /// Its length.
        size: ByteSize,
    },
    /// A file's segments that are empty, overlap, are out of order, or reach beyond its end.
    #[error("the content of `{path}` is described by segments that do not fit together")]
    Segments {
        /// The file.
        path: String,
    },
    /// A block of the image that is said to hold the content of two files.
    #[error("block {block} of the image would belong to two files")]
    PlacedTwice {
        /// The block's number.
        block: u64,
    },
    /// A device's number beyond 12 bits major and 20 bits minor.
    #[error("device `{path}` has the number {major}:{minor}, beyond what Linux knows")]
    DeviceNumber {
        /// The device.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// Mode bits beyond 0o7777, the owner or group 4294967295, which means none in Linux, or a
    /// billion nanoseconds and more.
    #[error("`{path}` has an owner, a group, mode bits or a time that Linux cannot hold")]
    Metadata {
        /// The entry.
        path: String,
    },
    /// An extended attribute that the format cannot hold.
    #[error("the extended attribute `{name}` of `{path}` {problem}")]
    Xattr {
        /// The entry that has it.
        path: String,
        /// The attribute's full name.
        name: String,
        /// What is the matter with it.
        problem: XattrProblem,
    },
    /// More or longer names of extended attributes than fit into a block.
    #[error("the names of the extended attributes of `{path}` do not fit into ext4's one block")]
    TooManyXattrs {
        /// The entry that has them.
        path: String,
    },
    /// A label of more than 16 bytes.
    #[error("`{label}` is longer than the 16 bytes that a file system's label holds")]
    Label {
        /// The label.
        label: String,
    },
    /// A file system beyond 16 TiB.
    #[error(
        "the file system would take {} bytes, more than the 16 TiB that are supported", size.0
    )]
    TooLarge {
        /// What it would take at least.
        size: ByteSize,
    },
    /// A journal of less than 4 MiB.
    #[error("a journal of {size} is too small; Linux takes no less than 4 MiB")]
    SmallJournal {
        /// What was asked for.
        size: ByteSize,
    },
    /// A file's bytes could not be read.
    #[error("cannot read the content of `{path}`")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image could not be written.
    #[error("cannot write the file system image")]
    Write(#[source] io::Error),
}

/// What is the matter with an extended attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XattrProblem {
    /// A namespace for which ext4 has no number: only `user.`, `trusted.`, `security.` and the
    /// two POSIX ACLs of `system.` have one.
    #[error("is in a namespace that ext4 does not store")]
    Namespace,
    /// An empty name, one of more than 255 bytes, or one with NUL in it.
    #[error("has a name that Linux does not allow")]
    Name,
    /// A value of more than 64 KiB.
    #[error("has a value of more than 64 KiB, the most that Linux allows")]
    TooLong,
    /// A value of `system.posix_acl_access` or `system.posix_acl_default` that is no ACL.
    #[error("is not a valid access control list")]
    Acl,
}
