//! What host and guest say to each other: metadata schema, gRPC services, one-time TLS identities.
