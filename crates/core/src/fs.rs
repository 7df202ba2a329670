//! Files: opened, read, written and synced without blocking their worker.
//!
//! What is here is for futures. A service asks the same by its [`Context`](crate::Context), and is answered by an
//! event: [`Control::open_file`](crate::Control::open_file) and what follows there.
//!
//! ```no_run
//! use campanile_core::{Stream, fs};
//!
//! /// Tells what is in a file, and writes down that it did.
//! async fn serve(mut stream: Stream) -> std::io::Result<()> {
//!     let text = fs::read("motd").await?;
//!     stream.write(&text).await?;
//!     let log = fs::OpenFile::at("told.log").append(true).create(true).open().await?;
//!     log.write_at(0, format!("told {:?}\n", stream.peer_addr().await?)).await
//! }
//! ```
//!
//! On io_uring everything goes by operations of the ring. On epoll writes and syncs are made by threads of their own,
//! and the rest by plain calls, which may hold up the worker when what is asked for is not in memory.

mod file;
mod open_file;

use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::errand::Answer;

pub(crate) use file::Extent;
pub use file::{File, FileStat};
pub use open_file::OpenFile;

/// How much is asked for where a file should end.
const REST: usize = 512;

/// All that is in the file at `path`. It is in memory then: see [`File::read_at`] for files that may be large.
///
/// # Errors
/// Whatever the kernel says, `NotFound` for instance; `OutOfMemory` if there is not so much memory to be had.
///
/// # Panics
/// Outside of a worker.
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let file = File::open(path).await?;
    let len = file.stat().await?.len;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(len).unwrap_or(usize::MAX))?;
    loop {
        // Its length may change meanwhile, and is zero for what the kernel makes up: only its end is its end.
        let left = usize::try_from(len).unwrap_or(usize::MAX).saturating_sub(bytes.len());
        let piece = file.read_at(bytes.len() as u64, left.max(REST)).await?;
        if piece.is_empty() {
            return Ok(bytes);
        }
        bytes.try_reserve(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
}

/// Writes `bytes` to the file at `path`, in place of what is in it; it is made if it is not there.
///
/// Who reads it meanwhile may see a part of it, and it is not synced: see [`File`] for that.
///
/// # Errors
/// Whatever the kernel says; then the file may have a part of it.
///
/// # Panics
/// Outside of a worker.
pub async fn write(path: impl AsRef<Path>, bytes: impl Into<Bytes>) -> io::Result<()> {
    File::create(path).await?.write_at(0, bytes).await
}

/// For an answer to something else than what was asked, which there is not.
fn no_answer(other: &Answer) -> io::Error {
    io::Error::other(format!("an answer to another question: {other:?}"))
}
