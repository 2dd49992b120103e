//! Attachments of a microVM to the network: namespaces, taps, bridge, addresses, published ports.
