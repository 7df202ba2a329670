//! The UDP socket: datagrams, for futures.
//!
//! A socket is in two parts. The descriptor and all that the kernel works on are its worker's (`worker/datagrams.rs`);
//! between that and the futures lies a [`Counter`], with a bounded queue of datagrams in either direction. A future
//! waits for what lies there, never for an operation of the kernel's, so any of them may be dropped at any moment.

mod counter;

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;

use crate::address::Address;
use crate::errand::{Answer, Request};
use crate::local::Local;
use crate::task::Asking;

pub(crate) use counter::{Counter, Letter, Limits, Wants};

/// A socket for datagrams, of a worker: bound in a task, in a handler, or in what
/// [`Server::on_start`](crate::Server::on_start) runs. It stays on its worker, and any number of tasks there may share
/// it (`Rc<UdpSocket>`).
///
/// Datagrams are received from the moment it is bound, into the receive buffers of the worker, and lie here until they
/// are taken. When there are [`Config::datagrams_unread`](crate::Config) of them, or so many bytes as
/// [`Config::datagram_bytes_unread`](crate::Config) says, reading pauses until half were taken. Meanwhile the kernel's
/// buffer of the socket fills ([`UdpOptions::receive_buffer`]), and then it drops what comes, as it does for any slow
/// reader of UDP.
///
/// A datagram of more than [`Config::receive_buffer_len`](crate::Config) less 44 bytes does not fit into a buffer. It
/// is dropped, and counted ([`Counters::datagrams_cut`](crate::Counters)): half a datagram is no use to anybody. By
/// default that is one of more than 16,340 bytes, where an Ethernet carries less than 1,500 without fragments.
///
/// Dropping it closes the socket, once what was being sent is out. Datagrams that were not taken are lost then, and so
/// they are when the server stops.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use campanile_core::UdpSocket;
///
/// let socket = UdpSocket::bind("127.0.0.1:7003").await?;
/// loop {
///     let (bytes, from) = socket.recv_from().await?;
///     socket.send_to(bytes, from).await?;
/// }
/// # }
/// ```
pub struct UdpSocket {
    counter: Rc<Counter>,
}

/// What a socket is to be like beyond its address.
///
/// ```
/// use campanile_core::UdpOptions;
///
/// let options = UdpOptions { reuse_port: true, ..UdpOptions::default() };
/// # assert_eq!(options.peer, None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UdpOptions {
    /// Share the address with other sockets of this user that say so too (SO_REUSEPORT of socket(7)): one per worker,
    /// and the kernel deals out who sends. Off by default, since another server on the address goes unnoticed with it.
    pub reuse_port: bool,
    /// Bytes that the kernel holds of what was not received yet (SO_RCVBUF); its own choice by default. It doubles
    /// them for its books, and lowers them to net.core.rmem_max.
    pub receive_buffer: Option<u32>,
    /// Bytes that the kernel holds of what was not sent yet (SO_SNDBUF); its own choice by default.
    pub send_buffer: Option<u32>,
    /// Who is on the other side: only its datagrams come in, [`UdpSocket::send`] goes there, and the next receive tells
    /// if nobody is there (connect(2)). `None`, by default, for anybody.
    pub peer: Option<SocketAddr>,
}

/// What can be sent: bytes that are counted or owned, which are passed on, and borrowed ones, which are copied.
pub trait Payload {
    #[doc(hidden)]
    fn into_bytes(self) -> Bytes;
}

/// A socket that a future asks its worker for.
#[derive(Debug)]
pub(crate) struct BindUdp {
    pub(crate) address: SocketAddr,
    pub(crate) options: UdpOptions,
}

/// Why a socket could not be bound; inside of the [`io::Error`] that says it.
#[derive(Debug)]
struct BindError {
    address: SocketAddr,
    error: io::Error,
}

impl UdpSocket {
    /// A socket bound to `address`: `IP:PORT` as text, or a [`SocketAddr`]. Port 0 takes any free one;
    /// [`local_addr`](Self::local_addr) tells which. Names are not looked up. An IPv6 wildcard takes datagrams of IPv4
    /// too, unless net.ipv6.bindv6only says otherwise.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse), [`PermissionDenied`](io::ErrorKind::PermissionDenied),
    /// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable), and whatever else the kernel says, each with what to do
    /// about it; [`InvalidInput`](io::ErrorKind::InvalidInput) for what is no address.
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn bind<A>(address: A) -> io::Result<UdpSocket>
    where
        A: TryInto<Address, Error: Error + Send + Sync + 'static>,
    {
        UdpSocket::bind_with(address, UdpOptions::default()).await
    }

    /// The same, with options.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// # Panics
    /// As there.
    pub async fn bind_with<A>(address: A, options: UdpOptions) -> io::Result<UdpSocket>
    where
        A: TryInto<Address, Error: Error + Send + Sync + 'static>,
    {
        let wrong = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let address =
            address.try_into().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let Some(address) = address.tcp() else {
            return Err(wrong("a UDP socket has no path: write IP:PORT"));
        };
        let request = Request::BindUdp(BindUdp { address, options });
        match Asking::new(Local::expect("UdpSocket::bind"), request).await {
            Answer::Bound(bound) => bound,
            // There is no other answer to it.
            _ => Err(io::ErrorKind::Other.into()),
        }
    }

    pub(crate) fn new(counter: Rc<Counter>) -> UdpSocket {
        UdpSocket { counter }
    }

    /// The next datagram, and who sent it, in the order in which the kernel got them. If several wait, each gets one.
    ///
    /// Dropping the future loses no datagram: it is there for the next one.
    ///
    /// # Errors
    /// What the kernel says of the socket, once, between the datagrams: with a [peer](UdpOptions::peer) that nobody is
    /// there ([`ConnectionRefused`](io::ErrorKind::ConnectionRefused)), after which it goes on.
    /// [`NotConnected`](io::ErrorKind::NotConnected) when the server has stopped.
    pub async fn recv_from(&self) -> io::Result<(Bytes, SocketAddr)> {
        let place = self.counter.readers();
        poll_fn(|cx| self.counter.poll_take(&place, cx)).await
    }

    /// Sends a datagram to `to`; [`Payload`] says of what. Returns when the kernel has it, which says nothing of
    /// whether anybody will get it: UDP promises none of that.
    ///
    /// What the tasks of a worker send in a turn goes out together. If [`Config::datagrams_unsent`](crate::Config) are
    /// under way already, this waits first, and dropping the future then sends nothing; after that the datagram goes
    /// out whether or not anybody waits for it.
    ///
    /// # Errors
    /// What the kernel says: a datagram that is too long (EMSGSIZE), an address that cannot be reached.
    /// [`NotConnected`](io::ErrorKind::NotConnected) when the server has stopped.
    pub async fn send_to(&self, bytes: impl Payload, to: SocketAddr) -> io::Result<()> {
        self.send_letter(bytes.into_bytes(), Some(to)).await
    }

    /// Sends a datagram to the [peer](UdpOptions::peer) of this socket.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to), and EDESTADDRREQ if it has no peer.
    pub async fn send(&self, bytes: impl Payload) -> io::Result<()> {
        self.send_letter(bytes.into_bytes(), None).await
    }

    async fn send_letter(&self, bytes: Bytes, to: Option<SocketAddr>) -> io::Result<()> {
        let place = self.counter.writers();
        let mut letter = Some((bytes, to));
        let receipt = poll_fn(|cx| self.counter.poll_put(&place, &mut letter, cx)).await?;
        drop(place);
        poll_fn(|cx| self.counter.poll_sent(&receipt, cx)).await
    }

    /// Where it is bound, with the port that the kernel chose if it was to choose one.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.counter.local_addr()
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.counter.leave();
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Payload for Bytes {
    fn into_bytes(self) -> Bytes {
        self
    }
}

impl Payload for Vec<u8> {
    fn into_bytes(self) -> Bytes {
        self.into()
    }
}

impl Payload for String {
    fn into_bytes(self) -> Bytes {
        self.into()
    }
}

impl Payload for &[u8] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> Payload for &[u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl Payload for &str {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl BindUdp {
    /// Why it could not be bound, in words.
    pub(crate) fn failed(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), BindError { address: self.address, error })
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "UDP {address} is in use: stop who has it (`ss -lunp` tells), or bind elsewhere; sockets of several \
                 workers share an address by UdpOptions::reuse_port"
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "permission denied for UDP {address}: ports below net.ipv4.ip_unprivileged_port_start need \
                 CAP_NET_BIND_SERVICE (setcap cap_net_bind_service=+ep BINARY); or bind to a port from 1024"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "UDP {address} is no address of this machine: `ip address` lists those it has")
            }
            _ => write!(f, "cannot bind UDP {address}: {}", self.error),
        }
    }
}

impl Error for BindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
