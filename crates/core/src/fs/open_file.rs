//! The file to open: which, and how.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::{File, no_answer};
use crate::errand::{Answer, Request};
use crate::flight::{Flight, OpenHow};
use crate::local::Local;
use crate::task::Asking;

/// A file to open, or to make: for reading, unless it is told otherwise. The options are those of
/// [`std::fs::OpenOptions`].
///
/// It is opened with O_NONBLOCK and O_NOCTTY, so that a pipe or a terminal of that name holds nobody up, and with
/// O_CLOEXEC.
///
/// ```
/// use campanile_core::OpenFile;
///
/// let log = OpenFile::at("access.log").append(true).create(true).mode(0o640);
/// let fresh = OpenFile::at("upload.part").read(true).write(true).create_new(true);
/// ```
///
/// A future awaits [`open`](Self::open); a service asks by [`Control::open_file`](crate::Control::open_file).
#[derive(Debug, Clone)]
pub struct OpenFile {
    /// `None` if the path has a zero byte in it, which no file's has.
    path: Option<CString>,
    root: Option<Arc<OwnedFd>>,
    resolve: u64,
    /// As asked for; `None` is for reading, unless it is for writing.
    read: Option<bool>,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    mode: u32,
}

/// `RESOLVE_BENEATH` of openat2(2): no way out of the directory, by `..`, symbolic link or absolute path.
const RESOLVE_BENEATH: u64 = 0x08;
/// `RESOLVE_NO_MAGICLINKS` of openat2(2): no links as in /proc.
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;

/// The mode of a new file, of which the process's umask takes away.
const MODE: u32 = 0o666;

impl OpenFile {
    /// The file at `path`.
    #[must_use]
    pub fn at(path: impl AsRef<Path>) -> OpenFile {
        OpenFile {
            path: CString::new(path.as_ref().as_os_str().as_bytes()).ok(),
            root: None,
            resolve: 0,
            read: None,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            mode: MODE,
        }
    }

    /// The file at `path` beneath an open directory, and never outside of it: not by `..`, not by an absolute path,
    /// not by a symbolic link (openat2(2), `RESOLVE_BENEATH`).
    #[must_use]
    pub fn beneath(root: Arc<OwnedFd>, path: impl AsRef<Path>) -> OpenFile {
        let resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
        OpenFile { resolve, root: Some(root), ..OpenFile::at(path) }
    }

    /// Whether it can be read. If nothing is said, it can be unless it is opened for writing or appending.
    #[must_use]
    pub fn read(mut self, read: bool) -> OpenFile {
        self.read = Some(read);
        self
    }

    /// Whether it can be written.
    #[must_use]
    pub fn write(mut self, write: bool) -> OpenFile {
        self.write = write;
        self
    }

    /// Whether it can be written at its end only, wherever that is at the moment of the write: the offset of a write is
    /// not looked at then.
    #[must_use]
    pub fn append(mut self, append: bool) -> OpenFile {
        self.append = append;
        self
    }

    /// Whether what is in it is thrown away; only of a file that can be written.
    #[must_use]
    pub fn truncate(mut self, truncate: bool) -> OpenFile {
        self.truncate = truncate;
        self
    }

    /// Whether it is made if it is not there; only of a file that can be written or appended to.
    #[must_use]
    pub fn create(mut self, create: bool) -> OpenFile {
        self.create = create;
        self
    }

    /// Whether it is made, and opened only if it was not there: not even a symbolic link that leads nowhere.
    /// [`create`](Self::create) and [`truncate`](Self::truncate) are not looked at then.
    #[must_use]
    pub fn create_new(mut self, create_new: bool) -> OpenFile {
        self.create_new = create_new;
        self
    }

    /// Who may do what with it if it is made now (chmod(2)): 0o666 if nothing is said. The umask of the process takes
    /// away of that.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> OpenFile {
        self.mode = mode;
        self
    }

    /// Opens it. Dropped before that is done, the future leaves nothing open, though a file may have been made.
    ///
    /// # Errors
    /// Whatever the kernel says (openat2(2)); `InvalidInput` if what was asked for makes no sense, or if the path has a
    /// zero byte in it.
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn open(self) -> io::Result<File> {
        match Asking::new(Local::expect("OpenFile::open"), Request::Open(self)).await {
            Answer::Opened(opened) => opened,
            other => Err(no_answer(&other)),
        }
    }

    /// What the kernel is told; an error if it makes no sense.
    pub(crate) fn into_flight(self) -> io::Result<Flight> {
        let flags = self.access()? | self.creation()?;
        let flags = flags | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        // A mode without a file to be made is refused.
        let mode = if flags & libc::O_CREAT == 0 { 0 } else { self.mode };
        let how = OpenHow { flags: flags as u64, mode: mode.into(), resolve: self.resolve };
        let path = self.path.ok_or_else(|| invalid("the path of a file has a zero byte in it"))?;
        Ok(Flight::Path { path, how, root: self.root })
    }

    fn access(&self) -> io::Result<i32> {
        let writes = self.write || self.append;
        let append = if self.append { libc::O_APPEND } else { 0 };
        match (self.read.unwrap_or(!writes), writes) {
            (true, false) => Ok(libc::O_RDONLY),
            (false, true) => Ok(libc::O_WRONLY | append),
            (true, true) => Ok(libc::O_RDWR | append),
            (false, false) => Err(invalid("a file is opened neither for reading nor for writing")),
        }
    }

    fn creation(&self) -> io::Result<i32> {
        let changes = self.truncate || self.create || self.create_new;
        if changes && !self.write && !self.append {
            return Err(invalid("a file is made or truncated only if it is opened for writing"));
        }
        if self.create_new {
            return Ok(libc::O_CREAT | libc::O_EXCL);
        }
        if self.truncate && self.append {
            return Err(invalid("a file is either truncated or appended to"));
        }
        let create = if self.create { libc::O_CREAT } else { 0 };
        let truncate = if self.truncate { libc::O_TRUNC } else { 0 };
        Ok(create | truncate)
    }
}

pub(super) fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
