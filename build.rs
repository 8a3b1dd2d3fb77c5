//! Compiles the protocol files in Rust, so that no `protoc` is needed.
//!
//! `RowBatch` is not generated: `grpc::rows` writes it straight from PostgreSQL's cells,
//! so that an answer never becomes a tree of objects.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 4] = [
    "segue/v1/sql.proto",
    "segue/v1/migration.proto",
    "segue/v1/value.proto",
    "segue/v1/error.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("segue_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".segue.v1.RowBatch", "crate::grpc::rows::EncodedRows")
        .bytes(".segue.v1")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
