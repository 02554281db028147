//! The `watchpost` binary: see [`watchpost::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    watchpost::cli::main()
}
