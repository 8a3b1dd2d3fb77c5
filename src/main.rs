//! The `segue` command.

/// Every call allocates some dozen small buffers, on one thread and then on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    segue::cli::main()
}
