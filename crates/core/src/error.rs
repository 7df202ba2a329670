//! Why a server cannot be started: each error names the cause and the fix.

use std::fmt;
use std::io;

use crate::address::{Address, BadAddress};
use crate::config::BadConfig;
use crate::guard::Panic;
use crate::holder::Holder;
use crate::refusal::Refusal;
use crate::server::{InheritError, UnknownName};

/// Why a server did not start, or came to an end by itself.
///
/// `Debug` prints the same sentence as `Display`, because that is what a `main` that returns this error shows.
#[non_exhaustive]
pub enum ServeError {
    /// No address to listen on was given.
    NoAddress,
    /// A text is no address.
    BadAddress(BadAddress),
    /// A figure of the configuration cannot work.
    BadConfig(BadConfig),
    /// Somebody listens there already (EADDRINUSE), perhaps through SO_REUSEPORT.
    AddressInUse {
        /// The address.
        address: Address,
        /// Who has it, if that could be found out.
        holder: Option<Holder>,
    },
    /// This user may not listen there (EACCES, EPERM).
    PermissionDenied {
        /// The address.
        address: Address,
    },
    /// The address is no address of this machine (EADDRNOTAVAIL).
    AddressNotAvailable {
        /// The address.
        address: Address,
    },
    /// Listening failed for another reason.
    Listen {
        /// The address.
        address: Address,
        /// What the kernel said.
        error: io::Error,
    },
    /// An environment variable says something that is none of what it may say.
    BadEnvironment {
        /// Its name.
        variable: &'static str,
        /// What it says, and what it may say.
        error: UnknownName,
    },
    /// A socket that this process was given cannot be listened on.
    Inherit(InheritError),
    /// The kernel refused a ring.
    Ring(Refusal),
    /// The kernel refused an epoll descriptor.
    Epoll(io::Error),
    /// A worker's thread could not be started.
    Thread(io::Error),
    /// A worker ended because its ring broke.
    RingBroke(io::Error),
    /// A worker panicked, outside of any service.
    WorkerPanicked(Panic),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::NoAddress => f.write_str("no address to listen on: call Server::listen"),
            ServeError::BadAddress(error) => error.fmt(f),
            ServeError::BadConfig(error) => error.fmt(f),
            ServeError::AddressInUse { address, holder: Some(holder) } => {
                write!(f, "{address} is in use by {holder}: stop that, or listen on another port")
            }
            ServeError::AddressInUse { address, holder: None } => {
                write!(
                    f,
                    "{address} is in use: stop who has it (`ss -ltnp` or `ss -lxp` tells), or listen elsewhere"
                )
            }
            ServeError::PermissionDenied { address: address @ Address::Unix(_) } => write!(
                f,
                "permission denied for {address}: this user may not make a socket there; check who may write to its \
                 directory"
            ),
            ServeError::PermissionDenied { address } => write!(
                f,
                "permission denied for {address}: ports below net.ipv4.ip_unprivileged_port_start need \
                 CAP_NET_BIND_SERVICE (setcap cap_net_bind_service=+ep BINARY); or listen on a port from 1024"
            ),
            ServeError::AddressNotAvailable { address } => {
                write!(f, "{address} is no address of this machine: `ip address` lists those it has")
            }
            ServeError::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            ServeError::BadEnvironment { variable, error } => {
                write!(f, "{variable}: {error}; correct it, or unset it")
            }
            ServeError::Inherit(error) => error.fmt(f),
            ServeError::Ring(refusal) => refusal.fmt(f),
            ServeError::Epoll(error) => {
                write!(
                    f,
                    "cannot wait by epoll: {error}; check `ulimit -n`, and the seccomp filter if there is one"
                )
            }
            ServeError::Thread(error) => {
                write!(f, "cannot start a worker thread: {error}; check `ulimit -u`")
            }
            ServeError::RingBroke(error) => write!(f, "a worker's ring broke: {error}"),
            ServeError::WorkerPanicked(panic) => write!(f, "a worker panicked: {panic}"),
        }
    }
}

impl fmt::Debug for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::Listen { error, .. }
            | ServeError::Thread(error)
            | ServeError::RingBroke(error)
            | ServeError::Epoll(error) => Some(error),
            ServeError::BadEnvironment { error, .. } => Some(error),
            ServeError::Inherit(error) => Some(error),
            ServeError::Ring(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl From<BadAddress> for ServeError {
    fn from(error: BadAddress) -> ServeError {
        ServeError::BadAddress(error)
    }
}

impl From<BadConfig> for ServeError {
    fn from(error: BadConfig) -> ServeError {
        ServeError::BadConfig(error)
    }
}

impl From<InheritError> for ServeError {
    fn from(error: InheritError) -> ServeError {
        ServeError::Inherit(error)
    }
}

impl From<std::convert::Infallible> for ServeError {
    fn from(never: std::convert::Infallible) -> ServeError {
        match never {}
    }
}
