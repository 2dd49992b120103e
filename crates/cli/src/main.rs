//! The `firebuild` command.
fn main() {}
