//! The `watchpost` binary: see `cli`.

fn main() {}
