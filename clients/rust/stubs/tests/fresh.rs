//! The checked-in stubs are those of the protocol files.

use std::path::Path;
use std::{env, fs};

const FRESH: &str = include_str!(concat!(env!("OUT_DIR"), "/segue.v1.rs"));
const KEPT: &str = "../src/protocol/segue.v1.rs";
const WRITE: &str = "SEGUE_WRITE_STUBS";

#[test]
fn the_stubs_are_those_of_the_protocol() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(KEPT);
    if env::var_os(WRITE).is_some() {
        fs::write(&file, FRESH).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == FRESH, "the stubs are stale; clients/rust/scripts/generate writes them");
}
