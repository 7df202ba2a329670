//! Blocking: what would hold up a worker, on threads that may be held up.

use campanile_core::{JoinError, guard};

/// Runs `run` on a thread that may block, and waits for what it returns: for what has no async form, such as a
/// database's driver or a long computation. A worker that blocks serves nobody meanwhile.
///
/// The threads are those of the [`blocking`](https://docs.rs/blocking) crate: started when they are needed, at most 500
/// (`BLOCKING_MAX_THREADS`), and gone after some seconds without work. Dropping the future before `run` has begun means
/// that it never does; once begun it goes on to its end, and what it returns is dropped.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let length = campanile::spawn_blocking(|| std::fs::read("/etc/hostname").map(|text| text.len())).await??;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`JoinError::Panicked`], with what the panic said.
pub async fn spawn_blocking<T, F>(run: F) -> Result<T, JoinError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    blocking::unblock(move || guard(run)).await.map_err(JoinError::Panicked)
}
