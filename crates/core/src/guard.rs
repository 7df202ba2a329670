//! The guard: runs the user's code, so that a panic in it costs its own connection and no other.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A panic that was caught: what it said. [`Control::report_panic`](crate::Control::report_panic) counts and logs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    message: String,
}

impl Panic {
    /// Of what was thrown, which is dropped.
    pub(crate) fn of(thrown: Box<dyn Any + Send>) -> Panic {
        let text = thrown.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| thrown.downcast_ref().cloned());
        // What was thrown is the user's too, and may throw again when it is dropped.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
            std::mem::forget(again);
        }
        Panic { message: text.unwrap_or_else(|| "what was thrown is no text".into()) }
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What `run` returned; an error if it panicked. For those who call code that is not theirs, and can go on without it.
///
/// # Errors
/// What the panic said.
pub fn guard<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(run)).map_err(Panic::of)
}

/// Drops something that has a part of the user's.
pub(crate) fn let_go<T>(value: T) {
    if let Err(panic) = guard(|| drop(value)) {
        tracing::error!("a destructor panicked: {panic}");
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;

    use super::*;

    /// Panics when it is dropped, without a word to standard error.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new(Bomb));
        }
    }

    #[test]
    fn whatever_is_thrown_is_told_and_goes_no_further() {
        let said = |thrown: Box<dyn Any + Send>| {
            guard(|| resume_unwind(thrown)).map_err(|panic: Panic| panic.to_string())
        };
        assert_eq!(said(Box::new("a text")), Err("a text".into()));
        assert_eq!(said(Box::new(String::from("a longer text"))), Err("a longer text".into()));
        assert_eq!(said(Box::new(7)), Err("what was thrown is no text".into()));
        assert_eq!(said(Box::new(Bomb)), Err("what was thrown is no text".into()));
        assert_eq!(guard(|| 1), Ok(1));
        let_go(Bomb);
    }
}
