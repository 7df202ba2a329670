//! An exchange is what a response must know of the request it answers.

use super::head::Version;

/// The facts of a request that decide how its response is framed; taken from
/// [`RequestHead::exchange`](super::RequestHead::exchange).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
}

impl Exchange {
    /// For a request that could not be read: the answer goes to an HTTP/1.1 client and the connection closes.
    pub const fn refused() -> Self {
        Exchange { version: Version::Http11, keep_alive: false, is_head: false, is_connect: false }
    }

    /// For a request that could not be read but began with `input`: as [`refused`](Self::refused), and if its method is
    /// HEAD the answer has no body, which the client would take for the beginning of another.
    pub fn refused_to(input: &[u8]) -> Self {
        let mut line = input;
        while let Some(rest) = line.strip_prefix(b"\r\n") {
            line = rest;
        }
        Exchange { is_head: line.starts_with(b"HEAD "), ..Exchange::refused() }
    }

    /// The same, but the connection closes after the response.
    #[must_use]
    pub const fn closing(self) -> Self {
        Exchange { keep_alive: false, ..self }
    }

    /// The version of the request.
    pub const fn version(self) -> Version {
        self.version
    }

    /// Whether the connection persists after the response.
    pub const fn keep_alive(self) -> bool {
        self.keep_alive
    }

    /// Whether the request was HEAD, and its response has no body (RFC 9110 9.3.2).
    pub const fn is_head(self) -> bool {
        self.is_head
    }
}
