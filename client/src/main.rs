//! `fedner-client`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Activations are allocated and freed by the megabyte, again and again: the system's allocator gives
/// each back to the kernel, which clears it anew.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    fedner_client::cli::main()
}
