//! What can go wrong in the agent itself.

use std::io;

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    /// The kernel refused something.
    #[error("cannot {action}")]
    System {
        /// What was being done, and to what.
        action: String,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
    /// The metadata service did not answer as it should.
    #[error("cannot read the metadata: {0}")]
    Metadata(String),
    /// What the host told makes no sense.
    #[error("cannot use what the host told: {0}")]
    Told(String),
    /// The host could not be reached, or refused the connection.
    #[error("cannot connect to the host at `{address}`")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host did not answer a call.
    #[error("the host did not take `{call}`: {}", .status.message())]
    Call {
        /// The call's name.
        call: &'static str,
        /// What came instead of an answer.
        status: Box<tonic::Status>,
    },
    /// A drive is missing.
    #[error("no drive with the serial number `{0}`")]
    Drive(String),
    /// A cache's drive that cannot be mounted.
    #[error("the disk of a cache cannot be mounted")]
    Cache {
        /// The drive's serial number.
        serial: String,
        /// Why.
        #[source]
        source: Box<GuestError>,
    },
    /// What is to be mounted of a volume is not there, and cannot be made.
    #[error(
        "the volume for `{0}` holds no directory that could be mounted: a VM that writes to it has to use it first"
    )]
    Volume(String),
    /// The root file system is not the one that the VM was told to use.
    #[error("the root file system has the root hash `{found}`, and this VM uses `{wanted}` only")]
    RootHash {
        /// What it has.
        found: String,
        /// What it should have.
        wanted: String,
    },
    /// The root file system cannot be mounted through its tree of hashes.
    #[error("the root file system is not what its root hash stands for, or is none")]
    Unverified(#[source] Box<GuestError>),
    /// Something this kernel cannot do.
    #[error("this kernel has no {0}")]
    Kernel(&'static str),
    /// A layer that is to be laid on is damaged.
    #[error("cannot lay a layer on: {0}")]
    Layer(String),
}

pub(crate) type Result<T> = std::result::Result<T, GuestError>;

/// Names what was being done when the kernel refused it.
pub(crate) trait Doing<T> {
    /// `action` continues "cannot …".
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| GuestError::System {
            action: action(),
            source: error.into(),
        })
    }
}

/// For `map_err` of a call to the host.
pub(crate) fn call(call: &'static str) -> impl FnOnce(tonic::Status) -> GuestError {
    move |status| GuestError::Call {
        call,
        status: Box::new(status),
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text.replace('\n', " ")
}
