//! The program: everything it does is in [`quorate::cli`].
//!
//! It never does anything itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate::cli::main()
}
