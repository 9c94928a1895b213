//! The binary: arguments to [`gatehouse::cli`], its outcome to the exit code.

use std::process::ExitCode;

/// glibc's arenas keep the memory of what a reload has replaced, and threads wait for each other in them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gatehouse::cli::main(std::env::args_os()).into()
}
