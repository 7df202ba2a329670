//! The file: how one is opened, what is open, and what is known of it.

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::desk::Local;
use crate::flight::{Flight, OpenHow};
use crate::operation::Descriptor;
use crate::ring::Ring;

/// A file to open: for reading, unless it is told otherwise. The options are those of [`std::fs::OpenOptions`].
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

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// How much of a file is to be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All that there is to know of it too (fsync(2)).
    All,
    /// What it takes to read the bytes again (fdatasync(2)).
    Data,
}

/// An open file of a worker. The last clone to be dropped closes it, by an operation that blocks nobody.
#[derive(Debug, Clone)]
pub struct File(Rc<OpenedFile>);

#[derive(Debug)]
struct OpenedFile {
    descriptor: RawFd,
    /// Whether what is known of it is told without a wait; `None` before anybody asked.
    stats_at_once: Cell<Option<bool>>,
    local: Rc<Local>,
}

impl File {
    pub(crate) fn new(descriptor: RawFd, local: &Rc<Local>) -> File {
        let stats_at_once = Cell::new(None);
        File(Rc::new(OpenedFile { descriptor, stats_at_once, local: Rc::clone(local) }))
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
