//! The binary: arguments to [`gatehouse::cli`], its outcome to the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    gatehouse::cli::main(std::env::args_os()).into()
}
