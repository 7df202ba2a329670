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

mod change;
mod file;
mod open_file;

use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::errand::{Answer, Request};
use crate::local::Local;
use crate::task::Asking;

pub use change::Change;
pub(crate) use change::ChangeKind;
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
/// Who reads it meanwhile may see a part of it, and it is not synced. Where that matters it is written beside, synced
/// and then put in place:
///
/// ```no_run
/// use campanile_core::fs;
///
/// # async fn example(text: String) -> std::io::Result<()> {
/// let file = fs::File::create("settings.new").await?;
/// file.write_at(0, text).await?;
/// file.sync_all().await?;
/// fs::rename("settings.new", "settings").await?;
/// fs::File::open(".").await?.sync_all().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Whatever the kernel says; then the file may have a part of it.
///
/// # Panics
/// Outside of a worker.
pub async fn write(path: impl AsRef<Path>, bytes: impl Into<Bytes>) -> io::Result<()> {
    File::create(path).await?.write_at(0, bytes).await
}

/// Takes the name away from a file, or from a link. The file is gone with its last name, once nobody has it open.
///
/// As with all changes of names: dropped before it is done, the future says nothing of whether it will be.
///
/// # Errors
/// Whatever the kernel says (unlink(2)), `NotFound` for instance.
///
/// # Panics
/// Outside of a worker.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    change(Change::remove_file(path)).await
}

/// Removes a directory in which nothing is.
///
/// # Errors
/// Whatever the kernel says (rmdir(2)), `DirectoryNotEmpty` for instance.
///
/// # Panics
/// Outside of a worker.
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    change(Change::remove_dir(path)).await
}

/// Gives a file, or a directory, another name within its file system, at once in place of whatever has that.
///
/// # Errors
/// Whatever the kernel says (rename(2)), `CrossesDevices` for instance.
///
/// # Panics
/// Outside of a worker.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    change(Change::rename(from, to)).await
}

/// Makes a directory.
///
/// # Errors
/// Whatever the kernel says (mkdir(2)), `AlreadyExists` for instance.
///
/// # Panics
/// Outside of a worker.
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    change(Change::create_dir(path)).await
}

async fn change(change: Change) -> io::Result<()> {
    match Asking::new(Local::expect("a change of names"), Request::Change(change)).await {
        Answer::Changed(changed) => changed,
        other => Err(no_answer(&other)),
    }
}

/// For an answer to something else than what was asked, which there is not.
fn no_answer(other: &Answer) -> io::Error {
    io::Error::other(format!("an answer to another question: {other:?}"))
}
