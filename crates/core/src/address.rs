//! An address: where a server listens, and where a connection comes from or goes to.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use socket2::{Domain, SockAddr};

/// A TCP or a Unix socket address.
///
/// As text: `127.0.0.1:8080`, `[::1]:8080`, or `unix:/run/app.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A path in the file system; `None` for the unnamed socket that a Unix client mostly has.
    Unix(Option<PathBuf>),
}

impl Address {
    /// A Unix socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Address {
        Address::Unix(Some(path.into()))
    }

    /// The IP address and port, if it is a TCP address.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// The path, if it is a Unix address that has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Tcp(_) => None,
            Address::Unix(path) => path.as_deref(),
        }
    }

    pub(crate) fn domain(&self) -> Domain {
        match self {
            Address::Tcp(address) => Domain::for_address(*address),
            Address::Unix(_) => Domain::UNIX,
        }
    }

    pub(crate) fn to_sock_addr(&self) -> io::Result<SockAddr> {
        match self {
            Address::Tcp(address) => Ok(SockAddr::from(*address)),
            Address::Unix(Some(path)) => SockAddr::unix(path),
            Address::Unix(None) => Err(io::Error::from(io::ErrorKind::InvalidInput)),
        }
    }

    pub(crate) fn from_sock_addr(address: &SockAddr) -> Address {
        match address.as_socket() {
            Some(address) => Address::Tcp(address),
            None => Address::Unix(address.as_pathname().map(Path::to_path_buf)),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Address::Unix(None) => f.write_str("unix:"),
        }
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Address::unix(path)),
            Some(_) => Err(BadAddress(text.into())),
            None => text.parse().map(Address::Tcp).map_err(|_| BadAddress(text.into())),
        }
    }
}

impl TryFrom<&str> for Address {
    type Error = BadAddress;

    fn try_from(text: &str) -> Result<Address, BadAddress> {
        text.parse()
    }
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAddress(String);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an address: write IP:PORT (127.0.0.1:8080, [::1]:8080) or unix:PATH", self.0)
    }
}

impl std::error::Error for BadAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["127.0.0.1:8080", "[::1]:0", "unix:/run/app.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "8080", "localhost", "unix:", "1.2.3.4", "1.2.3.4:99999"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("IP:PORT"), "{error}");
        }
    }
}
