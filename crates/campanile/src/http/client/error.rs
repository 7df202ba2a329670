//! Why there is no answer from another server, or no more of it.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use campanile_core::ConnectError;
use campanile_protocol::http1::{BodyError, ResponseError, WriteError};

use super::payload::Cause;
use crate::connect::DialError;
use crate::pool::PoolError;

/// Why a [`Client`](super::Client) has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The request cannot be sent like this.
    Request(&'static str),
    /// The head of the request, or the length of its body, is not valid.
    Write(WriteError),
    /// There is no connection: nothing was sent.
    Pool(PoolError),
    /// The server ended the connection before it sent anything in answer.
    Closed,
    /// The connection failed.
    Io(io::Error),
    /// What came is no head of an answer.
    Head(ResponseError),
    /// What came is not the body that the head announced.
    Body(BodyError),
    /// The server let us wait for too long.
    TimedOut {
        /// For what.
        what: &'static str,
        /// The time that it had.
        after: Duration,
    },
    /// The body of the request has failed.
    Payload(Cause),
    /// The body is longer than was asked for.
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl ClientError {
    /// Whether nothing of the request was sent, so that it may be sent elsewhere whatever it does.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(self, ClientError::Pool(_) | ClientError::Request(_))
    }

    /// The status to answer with, for whoever asked on behalf of a client: 504 if the other server was too slow, 503 if
    /// all connections to it were in use, 500 if the request was none, and else 502 (RFC 9110, section 15.6).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            _ if self.is_timeout() => 504,
            ClientError::Pool(PoolError::Dial(
                DialError::LookupTimedOut { .. } | DialError::Connect(ConnectError::TimedOut(_)),
            )) => 504,
            ClientError::Pool(PoolError::Busy { .. }) => 503,
            ClientError::Request(_) | ClientError::Write(_) => 500,
            _ => 502,
        }
    }

    /// Whether the server was too slow, rather than wrong or gone.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            ClientError::TimedOut { .. } => true,
            ClientError::Io(error) => error.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Request(what) => f.write_str(what),
            ClientError::Write(error) => error.fmt(f),
            ClientError::Pool(error) => error.fmt(f),
            ClientError::Closed => f.write_str("the server ended the connection without an answer"),
            ClientError::Io(error) => write!(f, "the connection failed: {error}"),
            ClientError::Head(error) => error.fmt(f),
            ClientError::Body(error) => write!(f, "in the body of an answer: {error}"),
            ClientError::TimedOut { what, after } => write!(f, "no {what} within {after:?}"),
            ClientError::Payload(error) => write!(f, "the body of the request failed: {error}"),
            ClientError::TooLong { limit } => write!(f, "the body is longer than {limit} bytes"),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ClientError::Write(error) => Some(error),
            ClientError::Pool(error) => Some(error),
            ClientError::Io(error) => Some(error),
            ClientError::Head(error) => Some(error),
            ClientError::Body(error) => Some(error),
            ClientError::Payload(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<PoolError> for ClientError {
    fn from(error: PoolError) -> ClientError {
        ClientError::Pool(error)
    }
}

impl From<WriteError> for ClientError {
    fn from(error: WriteError) -> ClientError {
        ClientError::Write(error)
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> ClientError {
        ClientError::Io(error)
    }
}

impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> io::Error {
        let kind = match &error {
            ClientError::Io(error) => error.kind(),
            ClientError::Closed => io::ErrorKind::UnexpectedEof,
            ClientError::Head(_) | ClientError::Body(_) => io::ErrorKind::InvalidData,
            ClientError::TimedOut { .. } => io::ErrorKind::TimedOut,
            ClientError::Request(_) | ClientError::Write(_) => io::ErrorKind::InvalidInput,
            ClientError::Pool(_) | ClientError::Payload(_) | ClientError::TooLong { .. } => {
                io::ErrorKind::Other
            }
        };
        io::Error::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_fault_decides_the_status() {
        let nowhere = campanile_core::Address::unix("/nowhere");
        let connect = |error| ClientError::Pool(PoolError::Dial(DialError::Connect(error)));
        for (error, status) in [
            (ClientError::Request("it has no host"), 500),
            (ClientError::Closed, 502),
            (connect(ConnectError::Refused(nowhere.clone())), 502),
            (ClientError::Pool(PoolError::Busy { to: "there".into(), total: 1 }), 503),
            (connect(ConnectError::TimedOut(nowhere)), 504),
            (ClientError::TimedOut { what: "an answer", after: Duration::from_secs(1) }, 504),
        ] {
            assert_eq!(error.status(), status, "{error}");
        }
    }
}
