//! Connecting: a stream to an address, or to a name whose addresses race (RFC 8305).

mod destination;
mod error;
mod race;
mod resolver;

use std::net::SocketAddr;

use campanile_core::{Address, Time, now, timeout};

use crate::stream::Stream;

pub use destination::{Destination, Dial};
pub use error::{BadDestination, DialError};
pub use resolver::{Resolve, Resolving, SystemResolver};

/// Opens a connection: to an [`Address`], to a [`Connect`](crate::Connect), to a text that is an address or a name with
/// a port, or as a [`Dial`] says how.
///
/// A name is looked up off the worker. Of its addresses those of both families are tried in turn, the next when the one
/// before has failed or has not answered for 250 ms; the first connection that is open is returned, and what else was
/// begun is given up (RFC 8305, "happy eyeballs").
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut stream = campanile::connect("localhost:7000").await?;
/// stream.write_line("hello").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Why there is no connection.
///
/// # Panics
/// Outside of a worker.
pub async fn connect<D>(to: D) -> Result<Stream, DialError>
where
    D: TryInto<Dial>,
    D::Error: Into<DialError>,
{
    let dial = to.try_into().map_err(Into::into)?;
    dial.open().await
}

impl Dial {
    /// Opens the connection: see [`connect`].
    ///
    /// # Errors
    /// Why there is none.
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn open(&self) -> Result<Stream, DialError> {
        let due = now() + self.deadline;
        let stream = match &self.to {
            Destination::Address(address) => {
                campanile_core::connect(self.attempt(address.clone(), self.deadline)).await?
            }
            Destination::Name { host, port } => {
                let addresses = self.look_up(host, *port, due).await?;
                race::race(addresses, |to, left| self.attempt(to.into(), left), due).await?
            }
        };
        Ok(stream.into())
    }

    /// The addresses of a name, in the order in which they are tried.
    async fn look_up(&self, host: &str, port: u16, due: Time) -> Result<Vec<SocketAddr>, DialError> {
        let left = due.since(now());
        let found = timeout(left, self.resolver.resolve(host, port)).await;
        let host = || host.to_owned();
        let found = found.map_err(|_| DialError::LookupTimedOut { host: host(), after: self.deadline })?;
        let mut found = found.map_err(|error| DialError::Unresolved { host: host(), error })?;
        match &self.from {
            Some(Address::Tcp(from)) => found.retain(|address| address.is_ipv4() == from.is_ipv4()),
            Some(_) => found.clear(),
            None => {}
        }
        if found.is_empty() {
            return Err(DialError::NoAddress { host: host() });
        }
        Ok(race::interleaved(found))
    }
}
