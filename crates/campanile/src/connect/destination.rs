//! The destination: an address, or a name and a port, and how a connection to it is opened.

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use campanile_core::{Address, Connect};

use super::error::{BadDestination, DialError};
use super::resolver::{Resolve, SystemResolver};

/// Where a connection goes to.
///
/// As text: an [`Address`] (`127.0.0.1:8080`, `[::1]:8080`, `unix:/run/app.sock`), or a name and a port
/// (`example.org:443`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Destination {
    /// An address.
    Address(Address),
    /// A name, to be looked up.
    Name {
        /// The name of a host, as it is looked up.
        host: String,
        /// The TCP port.
        port: u16,
    },
}

/// The longest name of DNS, as text (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;

fn is_name(host: &str) -> bool {
    let is_label = |label: &str| (1..=63).contains(&label.len());
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    host.len() <= LONGEST_NAME
        && host.bytes().all(in_name)
        && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

impl FromStr for Destination {
    type Err = BadDestination;

    fn from_str(text: &str) -> Result<Destination, BadDestination> {
        if let Ok(address) = text.parse() {
            return Ok(Destination::Address(address));
        }
        let bad = || BadDestination(text.into());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|&port| port > 0).ok_or_else(bad)?;
        if !is_name(host) || host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(bad());
        }
        Ok(Destination::Name { host: host.into(), port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Address(address) => address.fmt(f),
            Destination::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl<A: Into<Address>> From<A> for Destination {
    fn from(address: A) -> Destination {
        Destination::Address(address.into())
    }
}

/// How a connection is opened: where to, by when, from where, and who looks names up. See [`connect`](super::connect).
///
/// It stays on its worker. What is checked when the program starts, and goes to all workers, is a [`Destination`]:
/// `let to: Destination = text.parse()?`.
///
/// ```no_run
/// # async fn example() -> Result<(), campanile::DialError> {
/// use std::time::Duration;
///
/// use campanile::{Dial, connect};
///
/// let stream = connect(Dial::to("example.org:443")?.deadline(Duration::from_secs(3))).await?;
/// # drop(stream);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Dial {
    pub(super) to: Destination,
    pub(super) from: Option<Address>,
    pub(super) deadline: Duration,
    pub(super) resolver: Rc<dyn Resolve>,
}

impl Dial {
    /// A connection to an address or, as text, to a name and a port. It is given up after ten seconds.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn to<D>(destination: D) -> Result<Dial, DialError>
    where
        D: TryInto<Dial>,
        D::Error: Into<DialError>,
    {
        destination.try_into().map_err(Into::into)
    }

    /// Given up after `deadline` instead: all of it, from the look-up of a name to the last of its addresses.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Dial {
        Dial { deadline, ..self }
    }

    /// From this address of ours; port 0 takes any free one. Of a name only the addresses of the same family are tried.
    #[must_use]
    pub fn from_address(self, address: impl Into<Address>) -> Dial {
        Dial { from: Some(address.into()), ..self }
    }

    /// Names are looked up by this resolver, rather than as all programs of the machine look them up
    /// ([`SystemResolver`]).
    #[must_use]
    pub fn resolver(self, resolver: impl Resolve + 'static) -> Dial {
        Dial { resolver: Rc::new(resolver), ..self }
    }

    /// Where it goes to.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.to
    }

    /// The connection to one address, given up after `deadline`.
    pub(super) fn attempt(&self, to: Address, deadline: Duration) -> Connect {
        let attempt = Connect::to(to).deadline(deadline);
        match &self.from {
            Some(from) => attempt.from(from.clone()),
            None => attempt,
        }
    }
}

impl From<Destination> for Dial {
    fn from(to: Destination) -> Dial {
        Dial { to, from: None, deadline: Duration::from_secs(10), resolver: Rc::new(SystemResolver) }
    }
}

impl From<Connect> for Dial {
    fn from(connect: Connect) -> Dial {
        let (to, from, deadline) = connect.into_parts();
        Dial { from, deadline, ..Dial::from(Destination::Address(to)) }
    }
}

impl From<Address> for Dial {
    fn from(address: Address) -> Dial {
        Dial::from(Destination::Address(address))
    }
}

impl From<std::net::SocketAddr> for Dial {
    fn from(address: std::net::SocketAddr) -> Dial {
        Dial::from(Address::from(address))
    }
}

impl TryFrom<&str> for Dial {
    type Error = BadDestination;

    fn try_from(text: &str) -> Result<Dial, BadDestination> {
        text.parse().map(|to: Destination| Dial::from(to))
    }
}

impl TryFrom<&String> for Dial {
    type Error = BadDestination;

    fn try_from(text: &String) -> Result<Dial, BadDestination> {
        Dial::try_from(text.as_str())
    }
}

impl TryFrom<(&str, u16)> for Dial {
    type Error = BadDestination;

    fn try_from((host, port): (&str, u16)) -> Result<Dial, BadDestination> {
        Dial::try_from(format!("{host}:{port}").as_str())
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("to", &self.to)
            .field("from", &self.from)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_an_address_or_a_name_with_a_port() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/run/a"] {
            let destination: Destination = text.parse().expect(text);
            assert!(matches!(destination, Destination::Address(_)), "{text}");
            assert_eq!(destination.to_string(), text);
        }
        for text in ["localhost:80", "example.org:443", "example.org.:1", "a_b-c.internal:8080"] {
            let destination: Destination = text.parse().expect(text);
            assert!(matches!(destination, Destination::Name { .. }), "{text}");
            assert_eq!(destination.to_string(), text);
        }
        let long = format!("{}:80", "a".repeat(64));
        for text in
            ["", "localhost", "localhost:", ":80", "a:0", "a:65536", "a b:80", "a..b:80", "1.2.3:80", &long]
        {
            let error = text.parse::<Destination>().expect_err(text).to_string();
            assert!(error.contains("NAME:PORT"), "{error}");
        }
    }
}
