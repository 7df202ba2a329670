//! The errand: what a service asks its worker to do, and the answer it gets.
//!
//! The memory of an errand is the worker's. The answer comes back as an event of the service that asked; the answer
//! to a service that is gone is discarded, and a descriptor that came with it is closed.

use std::cell::Cell;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::address::Address;
use crate::desk::Handle;
use crate::flight::OpenHow;
use crate::local::Local;
use crate::operation::Descriptor;
use crate::ring::Ring;
use crate::service::Service;

/// Which errand an answer belongs to. Never used twice by one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub(crate) u64);

/// Who asked: a service, or a future that waits on a slot of its worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Connection(Handle),
    Future(u32),
}

/// What a service can ask for.
pub(crate) enum Request {
    Connect(Connect, Box<dyn Service>),
    Open(OpenFile),
    Stat(File),
    Read(File, u64, usize),
    /// Whoever wanted the connection does not any more: it is not opened, if it is not open yet.
    GiveUp,
    /// Not asked for by a service: the answer to a `Connect`, on its way to who asked.
    TellConnected(Result<Handle, ConnectError>),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Connect(to, _) => write!(f, "{to:?}"),
            Request::Open(file) => write!(f, "{file:?}"),
            Request::Stat(file) => write!(f, "Stat({file:?})"),
            Request::GiveUp => f.write_str("GiveUp"),
            Request::TellConnected(result) => write!(f, "TellConnected({result:?})"),
            Request::Read(file, offset, len) => write!(f, "Read({file:?}, {offset}, {len})"),
        }
    }
}

/// What came of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// The connection is open and runs its service, under this name; or why it is not.
    Connected(Result<Handle, ConnectError>),
    /// The file is open; or why it is not.
    Opened(io::Result<File>),
    /// What the kernel knows of the file.
    Stat(io::Result<FileStat>),
    /// The bytes read; none at the end of the file. They lie in the worker's memory until the last clone is dropped.
    Read(io::Result<Bytes>),
}

/// Where to connect to, and how.
#[derive(Debug, Clone)]
pub struct Connect {
    pub(crate) to: Address,
    pub(crate) from: Option<Address>,
    pub(crate) deadline: Duration,
}

impl Connect {
    /// A connection to `address`, given up after ten seconds.
    #[must_use]
    pub fn to(address: impl Into<Address>) -> Connect {
        Connect { to: address.into(), from: None, deadline: Duration::from_secs(10) }
    }

    /// Given up after `deadline` instead.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Connect {
        self.deadline = deadline;
        self
    }

    /// From this address of ours; port 0 takes any free one.
    #[must_use]
    pub fn from(mut self, address: impl Into<Address>) -> Connect {
        self.from = Some(address.into());
        self
    }
}

impl<A: Into<Address>> From<A> for Connect {
    fn from(address: A) -> Connect {
        Connect::to(address)
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> io::Error {
        let kind = match &error {
            ConnectError::Refused(_) => io::ErrorKind::ConnectionRefused,
            ConnectError::TimedOut(_) => io::ErrorKind::TimedOut,
            ConnectError::NoLocalPort(_) => io::ErrorKind::AddrNotAvailable,
            ConnectError::Unreachable(_) => io::ErrorKind::HostUnreachable,
            ConnectError::Failed(_, errno) => io::Error::from_raw_os_error(*errno).kind(),
            ConnectError::TooMany | ConnectError::Stopping => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// Why a connection could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there (ECONNREFUSED, or ENOENT for a Unix path).
    Refused(Address),
    /// No answer within the deadline, or the kernel's own (ETIMEDOUT).
    TimedOut(Address),
    /// Every local port is in use towards this address (EADDRNOTAVAIL).
    NoLocalPort(Address),
    /// There is no way there (EHOSTUNREACH, ENETUNREACH).
    Unreachable(Address),
    /// The worker has as many connections as [`Config::max_connections`](crate::Config) allows.
    TooMany,
    /// The server is stopping.
    Stopping,
    /// Anything else: the errno.
    Failed(Address, i32),
}

impl ConnectError {
    pub(crate) fn from_errno(to: Address, errno: i32) -> ConnectError {
        match errno {
            libc::ECONNREFUSED | libc::ENOENT => ConnectError::Refused(to),
            libc::ETIMEDOUT => ConnectError::TimedOut(to),
            libc::EADDRNOTAVAIL => ConnectError::NoLocalPort(to),
            libc::EHOSTUNREACH | libc::ENETUNREACH => ConnectError::Unreachable(to),
            errno => ConnectError::Failed(to, errno),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Refused(to) => write!(f, "connection to {to} refused: nothing listens there"),
            ConnectError::TimedOut(to) => {
                write!(f, "connection to {to} timed out: no answer within the deadline")
            }
            ConnectError::NoLocalPort(to) => write!(
                f,
                "no free local port for a connection to {to}: all of net.ipv4.ip_local_port_range are in use towards \
                 it; reuse connections, widen the range, or connect from a further local address"
            ),
            ConnectError::Unreachable(to) => {
                write!(f, "no route to {to}: check the address and the routing table")
            }
            ConnectError::TooMany => {
                f.write_str("the worker has as many connections as Config::max_connections allows; raise it")
            }
            ConnectError::Stopping => f.write_str("the server is stopping"),
            ConnectError::Failed(to, errno) => {
                write!(f, "connection to {to} failed: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for ConnectError {}

/// A file to open, for reading.
#[derive(Debug, Clone)]
pub struct OpenFile {
    /// `None` if the path has a zero byte in it, which no file's has.
    pub(crate) path: Option<CString>,
    pub(crate) how: OpenHow,
    pub(crate) root: Option<Arc<OwnedFd>>,
}

/// `RESOLVE_BENEATH` of openat2(2): no way out of the directory, by `..`, symbolic link or absolute path.
const RESOLVE_BENEATH: u64 = 0x08;
/// `RESOLVE_NO_MAGICLINKS` of openat2(2): no links as in /proc.
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;

impl OpenFile {
    /// The file at `path`.
    #[must_use]
    pub fn at(path: impl AsRef<Path>) -> OpenFile {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        OpenFile {
            path: CString::new(path.as_ref().as_os_str().as_bytes()).ok(),
            how: OpenHow { flags: flags as u64, mode: 0, resolve: 0 },
            root: None,
        }
    }

    /// The file at `path` beneath an open directory, and never outside of it: not by `..`, not by an absolute path,
    /// not by a symbolic link (openat2(2), `RESOLVE_BENEATH`).
    #[must_use]
    pub fn beneath(root: Arc<OwnedFd>, path: impl AsRef<Path>) -> OpenFile {
        let mut file = OpenFile::at(path);
        file.how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
        file.root = Some(root);
        file
    }
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
