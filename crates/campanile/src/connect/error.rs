//! Why there is no connection to a destination.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use campanile_core::ConnectError;

/// A text that is no [`Destination`](crate::Destination).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadDestination(pub(super) String);

impl fmt::Display for BadDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no destination: write NAME:PORT (example.org:443), IP:PORT (127.0.0.1:8080, [::1]:8080) or \
             unix:PATH",
            self.0
        )
    }
}

impl Error for BadDestination {}

/// Why [`connect`](crate::connect) has opened no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The text is no destination.
    BadDestination(BadDestination),
    /// The name was not found, or whoever was asked for it did not answer.
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// The name has no address, or none of the family of the address to connect from.
    NoAddress {
        /// The name.
        host: String,
    },
    /// The deadline was over before the name was found.
    LookupTimedOut {
        /// The name.
        host: String,
        /// The deadline.
        after: Duration,
    },
    /// No connection to the address; of a name with several, to none of them: this is the most telling error.
    Connect(ConnectError),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::BadDestination(error) => error.fmt(f),
            DialError::Unresolved { host, error } => write!(
                f,
                "{host} could not be looked up: {error}; check the name, /etc/hosts and /etc/resolv.conf (`getent \
                 ahosts {host}` asks the same)"
            ),
            DialError::NoAddress { host } => {
                write!(
                    f,
                    "{host} has no address of the family that is wanted; `getent ahosts {host}` lists all"
                )
            }
            DialError::LookupTimedOut { host, after } => write!(
                f,
                "{host} was not looked up within {after:?}: the servers in /etc/resolv.conf do not answer in time"
            ),
            DialError::Connect(error) => error.fmt(f),
        }
    }
}

impl Error for DialError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            DialError::Unresolved { error, .. } => Some(error),
            DialError::Connect(error) => Some(error),
            _ => None,
        }
    }
}

impl From<BadDestination> for DialError {
    fn from(error: BadDestination) -> DialError {
        DialError::BadDestination(error)
    }
}

impl From<ConnectError> for DialError {
    fn from(error: ConnectError) -> DialError {
        DialError::Connect(error)
    }
}

impl From<Infallible> for DialError {
    fn from(never: Infallible) -> DialError {
        match never {}
    }
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> io::Error {
        let kind = match error {
            DialError::Connect(error) => return error.into(),
            DialError::BadDestination(_) => io::ErrorKind::InvalidInput,
            DialError::Unresolved { .. } | DialError::NoAddress { .. } => io::ErrorKind::NotFound,
            DialError::LookupTimedOut { .. } => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, error.to_string())
    }
}
