//! Keeps the stubs of `segue-client` fresh: `build.rs` makes them, `tests/fresh.rs` compares or writes them.
//!
//! They are checked in, so that building the client needs neither the protocol files nor a generator.
//! `clients/rust/scripts/generate` writes them.
