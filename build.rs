//! Compiles the protocol files in Rust, so that no `protoc` is needed.
//!
//! `TypedRows` is not generated: `grpc::rows` writes it straight from PostgreSQL's cells,
//! so that an answer never becomes a tree of objects.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use prost::Message;

const FILES: [&str; 6] = [
    "segue/v1/sql.proto",
    "segue/v1/migration.proto",
    "segue/v1/value.proto",
    "segue/v1/phase.proto",
    "segue/v1/error.proto",
    // For reflection: the details of an error.
    "google/rpc/error_details.proto",
];

/// What is kept in `segue.idempotency`, of which no client knows.
const KEPT: (&str, &str) = ("answer.proto", "src/postgres/statements/idempotency");

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed={}", KEPT.1);
    println!("cargo:rustc-env=BUILD_COMMIT={}", commit());
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("segue_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".segue.v1.TypedRows", "crate::grpc::rows::EncodedRows")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .bytes(".segue.v1")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    let kept = protox::compile([KEPT.0], [KEPT.1])?;
    tonic_prost_build::configure()
        .bytes(".segue.kept.Item.cells")
        .emit_rerun_if_changed(false)
        .compile_fds(kept)?;
    Ok(())
}

/// The commit that a release is built from: what `BUILD_COMMIT` says, as where an image is built
/// without the repository, or what git says. Builds for development do not ask, since they would be
/// made anew with every commit.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    if let Ok(commit) = env::var("BUILD_COMMIT")
        && !commit.is_empty()
    {
        return commit;
    }
    if env::var("PROFILE").as_deref() != Ok("release") {
        return "development".to_owned();
    }
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let said = asked.ok().filter(|it| it.status.success());
    let said = said.and_then(|it| String::from_utf8(it.stdout).ok());
    said.map_or_else(|| "unknown".to_owned(), |commit| commit.trim().to_owned())
}
