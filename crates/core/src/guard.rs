//! The guard: runs the user's code, so that a panic in it costs its own connection and no other.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `run` returned; `None` if it panicked.
pub(crate) fn guard<T>(run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(value) => Some(value),
        Err(thrown) => {
            // What was thrown is the user's too, and may throw again when it is dropped.
            if let Err(thrown) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
                std::mem::forget(thrown);
            }
            None
        }
    }
}

/// Drops something that has a part of the user's.
pub(crate) fn let_go<T>(value: T) {
    guard(|| drop(value));
}
