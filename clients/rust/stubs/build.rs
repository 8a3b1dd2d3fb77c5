//! Compiles the protocol files for the client, in Rust, as the server's build does.

use std::error::Error;

/// What the client calls.
const FILES: [&str; 1] = ["segue/v1/sql.proto"];
const PROTO: &str = "../../../proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile(FILES, [PROTO])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .bytes(".segue.v1")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
