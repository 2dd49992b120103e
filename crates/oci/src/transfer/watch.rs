//! Who is told how layers on their way get on.

use firebuild_core::Digest;

/// Is told of layers on their way, several of them at once and from several threads. Each is told of
/// when its turn has come, and again whenever more of it is there: often.
pub trait Watcher: Send + Sync {
    /// Something happened to a layer, which has this digest where it comes from.
    fn layer(&self, layer: &Digest, motion: Motion);
}

/// How a layer gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// It is on its way.
    Underway {
        /// How many of its bytes are there. After a failure they may be fewer than before.
        bytes: u64,
        /// How many it has, if that is known by now.
        size: Option<u64>,
    },
    /// All of it is there.
    Arrived {
        /// How many bytes came or went for it; none if it was there.
        moved: Option<u64>,
    },
}

/// Nobody looks.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watcher for Unwatched {
    fn layer(&self, _: &Digest, _: Motion) {}
}
