//! Tables with a peer in the same run.
fn main() {}
