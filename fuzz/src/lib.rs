//! The targets: they stand beside the tests of the crate, which run them too, without a fuzzer.

#[path = "../../crates/protocol/tests/targets/mod.rs"]
mod targets;

pub use targets::*;
