//! The host's side of the conversation with a VM's agent: gRPC over TLS 1.3 with certificates on
//! both sides, on a listener in the VM's own network namespace.
//!
//! * [`tls`]: the identities of both sides, and the TLS configuration that follows from them.
//! * [`serve()`]: the listener, for any gRPC service.
//! * [`contact`]: whether the guest is connected, and whether it still says something.
//!
//! What must hold: whoever has not proved to be this VM's guest gets no further than the
//! handshake. What the guest can make the host keep is bounded: connections, streams, headers,
//! windows, and the time in which it says nothing.

pub mod contact;
pub mod serve;
pub mod tls;

pub use contact::Contact;
pub use serve::{Agent, GuestService, Options, serve};
pub use tls::{Side, Sides};
