//! vminit.
fn main() {}
