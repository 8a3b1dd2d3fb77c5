//! The protocol's messages and stubs, made from `proto/` by `scripts/generate`, and values to and from them.

pub(crate) mod typed;

#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::needless_pass_by_value
)]
mod generated {
    include!("segue.v1.rs");
}

pub(crate) use generated::*;
