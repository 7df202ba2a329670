//! The errand: what a service asks its worker to do, and the answer it gets.
//!
//! The memory of an errand is the worker's. The answer comes back as an event of the service that asked; the answer
//! to a service that is gone is discarded, and a descriptor that came with it is closed.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::address::Address;
use crate::desk::Handle;
use crate::fs::{Change, Extent, File, FileStat, OpenFile};
use crate::service::Service;
use crate::udp::{BindUdp, UdpSocket};

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
    Write(File, u64, Bytes),
    Sync(File, Extent),
    Change(Change),
    BindUdp(BindUdp),
    /// Not asked for by a service: the answer to a `Connect`, on its way to who asked.
    TellConnected(Result<Handle, ConnectError>),
}

impl Request {
    /// The answer when there is nobody to do it; `None` for what is no question.
    pub(crate) fn refusal(&self) -> Option<Answer> {
        Some(match self {
            Request::Connect(..) | Request::TellConnected(_) => {
                Answer::Connected(Err(ConnectError::Stopping))
            }
            Request::Open(_) => Answer::Opened(Err(stopped())),
            Request::Stat(_) => Answer::Stat(Err(stopped())),
            Request::Read(..) => Answer::Read(Err(stopped())),
            Request::Write(..) => Answer::Written(Err(stopped())),
            Request::Sync(..) => Answer::Synced(Err(stopped())),
            Request::Change(_) => Answer::Changed(Err(stopped())),
            Request::BindUdp(_) => Answer::Bound(Err(stopped())),
            Request::GiveUp => return None,
        })
    }
}

/// Why nothing is done any more.
pub(crate) fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the server has stopped")
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Connect(to, _) => write!(f, "{to:?}"),
            Request::Open(file) => write!(f, "{file:?}"),
            Request::Stat(file) => write!(f, "Stat({file:?})"),
            Request::GiveUp => f.write_str("GiveUp"),
            Request::TellConnected(result) => write!(f, "TellConnected({result:?})"),
            Request::BindUdp(bind) => write!(f, "{bind:?}"),
            Request::Read(file, offset, len) => write!(f, "Read({file:?}, {offset}, {len})"),
            Request::Write(file, offset, bytes) => write!(f, "Write({file:?}, {offset}, {})", bytes.len()),
            Request::Change(change) => write!(f, "{change:?}"),
            Request::Sync(file, extent) => write!(f, "Sync({file:?}, {extent:?})"),
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
    /// How many bytes were written: all of them, or fewer if an error came after these. Then the next write from there
    /// on is told which it is.
    Written(io::Result<usize>),
    /// What was written before is on the disk; or nobody knows what of it is.
    Synced(io::Result<()>),
    /// A name was changed; or why not.
    Changed(io::Result<()>),
    /// The socket is bound; or why it is not. Only futures ask for one: [`UdpSocket::bind`].
    Bound(io::Result<UdpSocket>),
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

    /// Where to, from where, and the deadline.
    #[must_use]
    pub fn into_parts(self) -> (Address, Option<Address>, Duration) {
        (self.to, self.from, self.deadline)
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
