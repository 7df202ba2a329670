//! The resolver: who turns a name into addresses, off the worker.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;

use crate::blocking::spawn_blocking;

/// The addresses of a name, in the order in which they are best tried; or why there are none.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>>>>;

/// Looks names up. An async closure does, or whatever calls another resolver, such as that of `hickory-resolver`.
///
/// ```
/// use campanile::Dial;
///
/// # fn example() -> Result<(), campanile::DialError> {
/// let staging = |_host: String, port: u16| async move { Ok(vec![([127, 0, 0, 1], port).into()]) };
/// let dial = Dial::to("example.org:443")?.resolver(staging);
/// # drop(dial);
/// # Ok(())
/// # }
/// ```
pub trait Resolve {
    /// Begins to look `host` up. `port` is that of the addresses that are returned. The future is dropped when the time
    /// is over.
    fn resolve(&self, host: &str, port: u16) -> Resolving;
}

/// Looks names up as all programs of the machine do: by getaddrinfo(3), and so by /etc/hosts, /etc/nsswitch.conf and
/// /etc/resolv.conf, in the order of RFC 6724. It blocks, so it runs on the threads of
/// [`spawn_blocking`](crate::spawn_blocking), of which there is a bounded number: look-ups beyond that wait for one.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move {
            let found = spawn_blocking(move || (host.as_str(), port).to_socket_addrs()).await;
            Ok(found.map_err(io::Error::other)??.collect())
        })
    }
}

impl<F, R> Resolve for F
where
    F: Fn(String, u16) -> R,
    R: Future<Output = io::Result<Vec<SocketAddr>>> + 'static,
{
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        Box::pin(self(host.to_owned(), port))
    }
}
