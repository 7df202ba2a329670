//! The file: what is open, and what is known of it.

use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};

use super::{OpenFile, no_answer};
use crate::errand::{Answer, Request};
use crate::local::Local;
use crate::operation::Descriptor;
use crate::ring::Ring;
use crate::task::Asking;

/// How much of a file is to be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All that there is to know of it too (fsync(2)).
    All,
    /// What it takes to read the bytes again (fdatasync(2)).
    Data,
}

/// An open file of a worker. The last clone to be dropped closes it, by an operation that blocks nobody.
///
/// Its methods are for futures: they wait on a slot of the worker and never on the kernel, so each may be dropped at
/// any moment, and leaks nothing by that. Once the worker is gone they fail with
/// [`NotConnected`](io::ErrorKind::NotConnected). A service asks the same by its [`Context`](crate::Context).
///
/// ```no_run
/// use campanile_core::{File, OpenFile};
///
/// # async fn example() -> std::io::Result<()> {
/// let journal = OpenFile::at("journal").read(true).write(true).create(true).open().await?;
/// let end = journal.stat().await?.len;
/// journal.write_at(end, "one more\n").await?;
/// journal.sync_data().await?;
/// let first = journal.read_at(0, 100).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct File(Rc<OpenedFile>);

#[derive(Debug)]
struct OpenedFile {
    descriptor: RawFd,
    /// Whether what is known of it is told without a wait; `None` before anybody asked.
    stats_at_once: Cell<Option<bool>>,
    /// Whether it can be read and written at an offset; `None` before anybody did.
    has_offsets: Cell<Option<bool>>,
    local: Rc<Local>,
}

impl File {
    /// Opens the file at `path` for reading: see [`OpenFile`] for every other way.
    ///
    /// # Errors
    /// Whatever the kernel says, `NotFound` for instance.
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenFile::at(path).open().await
    }

    /// Opens the file at `path` for writing: it is made if it is not there, and else what is in it is thrown away.
    ///
    /// # Errors
    /// Whatever the kernel says, `PermissionDenied` for instance.
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenFile::at(path).write(true).create(true).truncate(true).open().await
    }

    /// Reads at most `len` bytes at `offset`; none if the file ends there.
    ///
    /// At most [`Config::file_buffer_len`](crate::Config) bytes come at a time, and now and then fewer. They lie in the
    /// worker's memory until the last clone of them is dropped, and other reads wait while all of it is out: whoever
    /// keeps them for long copies them.
    ///
    /// # Errors
    /// Whatever the kernel says; `NotSeekable` for what has no offsets, as a pipe.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        match self.ask(Request::Read(self.clone(), offset, len)).await {
            Answer::Read(read) => read,
            other => Err(no_answer(&other)),
        }
    }

    /// Writes all of `bytes` at `offset`, beyond the end of the file too.
    ///
    /// The worker holds the bytes until the kernel is done with them, so the future may be dropped at any moment: a
    /// write that has begun is carried to its end all the same, and one that has not is not made. Writes that are under
    /// way together may overtake one another. That it was written says that others read it, not that it is on the disk:
    /// see [`sync_all`](Self::sync_all).
    ///
    /// # Errors
    /// Whatever the kernel says, `StorageFull` for instance; then some of the bytes may be written. `NotSeekable` for
    /// what has no offsets, as a pipe.
    pub async fn write_at(&self, offset: u64, bytes: impl Into<Bytes>) -> io::Result<()> {
        let (mut bytes, mut offset): (Bytes, u64) = (bytes.into(), offset);
        loop {
            match self.ask(Request::Write(self.clone(), offset, bytes.clone())).await {
                Answer::Written(Ok(n)) if n < bytes.len() => {
                    // An error came after these: asked again, the kernel says which.
                    bytes.advance(n);
                    offset += n as u64;
                }
                Answer::Written(written) => return written.map(|_| ()),
                other => return Err(no_answer(&other)),
            }
        }
    }

    /// Has what was written, and what is known of the file, put onto the disk (fsync(2)).
    ///
    /// It is about writes that were complete before it is called. A new file is found again after a power cut only when
    /// its directory was synced too: that can be opened, and synced, like a file.
    ///
    /// # Errors
    /// Whatever the kernel says. Then it is not known what is on the disk, and calling it again may succeed although
    /// some of it is lost: what was written is to be written anew.
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(Extent::All).await
    }

    /// As [`sync_all`](Self::sync_all), without what it does not take to read the bytes again: the times of the file,
    /// for instance (fdatasync(2)).
    ///
    /// # Errors
    /// As there.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(Extent::Data).await
    }

    async fn sync(&self, extent: Extent) -> io::Result<()> {
        match self.ask(Request::Sync(self.clone(), extent)).await {
            Answer::Synced(synced) => synced,
            other => Err(no_answer(&other)),
        }
    }

    /// What the kernel knows of it.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub async fn stat(&self) -> io::Result<FileStat> {
        match self.ask(Request::Stat(self.clone())).await {
            Answer::Stat(stat) => stat,
            other => Err(no_answer(&other)),
        }
    }

    fn ask(&self, request: Request) -> Asking {
        Asking::new(Rc::clone(&self.0.local), request)
    }

    pub(crate) fn new(descriptor: RawFd, local: &Rc<Local>) -> File {
        let (stats_at_once, has_offsets) = (Cell::new(None), Cell::new(None));
        File(Rc::new(OpenedFile { descriptor, stats_at_once, has_offsets, local: Rc::clone(local) }))
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0.descriptor
    }

    /// What is known of it, if that needs no wait.
    pub(crate) fn stat_now(&self, ring: &dyn Ring) -> Option<io::Result<FileStat>> {
        let OpenedFile { descriptor, stats_at_once, .. } = &*self.0;
        let at_once = stats_at_once.get().unwrap_or_else(|| {
            let at_once = ring.stats_at_once(*descriptor);
            stats_at_once.set(Some(at_once));
            at_once
        });
        at_once.then(|| ring.stat_now(*descriptor))
    }

    /// Fails if it is a pipe, a socket or a terminal: those have no offsets, and io_uring would wait for them for as
    /// long as it takes, though nobody may wait for the answer any more.
    pub(crate) fn check_offsets(&self, ring: &dyn Ring) -> io::Result<()> {
        let OpenedFile { descriptor, has_offsets, .. } = &*self.0;
        let has_offsets = has_offsets.get().unwrap_or_else(|| {
            has_offsets.set(Some(ring.has_offsets(*descriptor)));
            has_offsets.get() == Some(true)
        });
        if has_offsets { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESPIPE)) }
    }
}

impl Drop for OpenedFile {
    fn drop(&mut self) {
        self.local.close(Descriptor::Plain(self.descriptor));
    }
}

/// What the kernel knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStat {
    /// Its length in bytes.
    pub len: u64,
    /// When its content was last changed; `UNIX_EPOCH` for whatever was changed before that.
    pub modified: SystemTime,
    /// When its content, name, owner or mode was last changed; `UNIX_EPOCH` for whatever was changed before that.
    pub changed: SystemTime,
    /// Its number within its file system: another file at the same path has another.
    pub inode: u64,
    /// How many names it has; none once it was removed, or another was put in its place.
    pub links: u64,
    /// Whether it is an ordinary file.
    pub is_file: bool,
    /// Whether it is a directory.
    pub is_dir: bool,
}

impl FileStat {
    pub(crate) fn from_statx(stat: &libc::statx) -> FileStat {
        let kind = u32::from(stat.stx_mode) & libc::S_IFMT;
        FileStat {
            len: stat.stx_size,
            modified: time(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec.into()),
            changed: time(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec.into()),
            inode: stat.stx_ino,
            links: stat.stx_nlink.into(),
            is_file: kind == libc::S_IFREG,
            is_dir: kind == libc::S_IFDIR,
        }
    }

    // The widths of these fields are not the same everywhere.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless)]
    pub(crate) fn from_stat(stat: &rustix::fs::Stat) -> FileStat {
        let kind = stat.st_mode as u32 & libc::S_IFMT;
        FileStat {
            len: stat.st_size as u64,
            modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            is_file: kind == libc::S_IFREG,
            is_dir: kind == libc::S_IFDIR,
        }
    }
}

fn time(seconds: i64, nanos: u64) -> SystemTime {
    let since = |seconds| Duration::from_secs(seconds) + Duration::from_nanos(nanos);
    u64::try_from(seconds).map_or(SystemTime::UNIX_EPOCH, |seconds| SystemTime::UNIX_EPOCH + since(seconds))
}
