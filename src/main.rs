//! The `watchpost` binary: see [`watchpost::cli`].

use std::process::ExitCode;

/// A sixth of the server's time under load is the system's allocator; this one costs half of that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    watchpost::cli::main()
}
