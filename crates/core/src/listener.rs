//! The listener: a socket that waits for connections, and the reasons why there is none.
//!
//! A TCP listener is one per worker (SO_REUSEPORT), so that the kernel spreads connections and nothing is shared. But
//! with SO_REUSEPORT a second start on the same address succeeds silently, and two servers answer by turns; so the
//! address is first bound once without it. A Unix listener cannot be bound twice (SO_REUSEPORT is refused there): all
//! workers share one, each arming an accept of its own.
//!
//! # Obligations
//!
//! A descriptor that the kernel has just made, or that this process was given when it was started, is adopted once, by
//! [`OwnedFd`], which then closes it. Nothing else here is `unsafe` but one option that `socket2` has no name for; its
//! value lives through the call.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::address::Address;
use crate::config::Config;
use crate::error::ServeError;
use crate::flight::Flight;
use crate::holder::{Holder, holder_of_port};
use crate::operation::{Descriptor, Memory, Submission};
use crate::ring::Ring;

/// Checks that nobody has `address`, so that sharing it among our workers cannot join somebody else's listener.
pub(crate) fn probe(address: &Address) -> Result<(), ServeError> {
    let Address::Tcp(tcp) = address else { return Ok(()) };
    if tcp.port() == 0 {
        return Ok(());
    }
    patiently(address, || {
        let socket = Socket::new(address.domain(), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier life in TIME_WAIT are no hindrance; a listener is.
        socket.set_reuse_address(true)?;
        socket.bind(&address.to_sock_addr()?)?;
        socket.listen(1)
    })
}

/// How long an address is tried again that nobody is seen to keep: as long as nginx does.
const PATIENCE: Duration = Duration::from_millis(2_500);
const PAUSE: Duration = Duration::from_millis(20);

/// Opens a socket on `address`, and tries again for a while if that is in use and nobody is seen to keep it. A listener
/// that was just closed can be there a little longer: a process that was forked meanwhile has a copy of it until it
/// executes its program, and a ring lets go of what it had late.
fn patiently<T>(address: &Address, mut open: impl FnMut() -> io::Result<T>) -> Result<T, ServeError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match open().map_err(|error| refused(address, error)) {
            Err(ServeError::AddressInUse { holder, .. })
                if holder.as_ref().is_none_or(Holder::is_passing) && Instant::now() < until =>
            {
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

/// A TCP listener of one worker, opened by operations of its ring where the kernel has them (Linux 6.11).
pub(crate) fn open_tcp(
    address: &Address,
    config: &Config,
    ring: &mut dyn Ring,
    memory: &mut Memory,
) -> Result<OwnedFd, ServeError> {
    patiently(address, || open(address, config, ring, memory))
}

fn open(address: &Address, config: &Config, ring: &mut dyn Ring, memory: &mut Memory) -> io::Result<OwnedFd> {
    let backlog = i32::try_from(config.backlog).unwrap_or(i32::MAX);
    if !ring.abilities().bind_listen {
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        set_options(&socket, address, config)?;
        socket.bind(&address.to_sock_addr()?)?;
        socket.listen(backlog)?;
        return Ok(socket.into());
    }
    let socket =
        ring.perform(Submission::Socket { domain: address.domain().into(), direct: false }, memory)?;
    let socket = adopt(socket);
    set_options(&socket, address, config)?;
    let descriptor = Descriptor::Plain(socket.as_raw_fd());
    let to = memory.flights.launch(Flight::Address(address.to_sock_addr()?));
    let bound = ring.perform(Submission::Bind { descriptor, address: to }, memory);
    memory.flights.land(to);
    bound?;
    ring.perform(Submission::Listen { descriptor, backlog }, memory)?;
    Ok(socket)
}

/// A descriptor that is ours and nobody else's yet: the kernel made it just now, or this process was started with it.
#[allow(unsafe_code)]
pub(crate) fn adopt(socket: u32) -> OwnedFd {
    // SAFETY: it is open, and this is the one place that takes it, once.
    unsafe { OwnedFd::from_raw_fd(socket as i32) }
}

/// Accepted sockets inherit what is set here, so nothing is set per connection.
fn set_options(socket: &impl AsFd, address: &Address, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if let Address::Tcp(tcp) = address {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if tcp.is_ipv6() {
            socket.set_only_v6(false)?;
        }
    }
    set_inherited_options(&socket, matches!(address, Address::Tcp(_)), config)
}

/// Lets nobody begin a connection any more: who is in the queue already, or half way into it, stays welcome. Closing
/// would reset them, and between the last look into the queue and the closing somebody may always come.
///
/// # Errors
/// For sockets that know no half way.
pub(crate) fn admit_no_more(listener: &OwnedFd) -> io::Result<()> {
    let socket = SockRef::from(listener);
    if socket.domain()? == Domain::UNIX {
        // Connecting is refused from now on; accepting goes on until the queue is empty.
        return socket.shutdown(Shutdown::Read);
    }
    // A filter over TCP headers (bpf(4)): of the flags, SYN without ACK is dropped, and nothing else. The client asks
    // again a second later, and is refused.
    let [load, and, jump, answer] = [0x30, 0x54, 0x15, 0x06];
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    socket.attach_filter(&[
        SockFilter::new(load, 0, 0, FLAGS_AT),
        SockFilter::new(and, 0, 0, SYN | ACK),
        SockFilter::new(jump, 0, 1, SYN),
        SockFilter::new(answer, 0, 0, 0),
        SockFilter::new(answer, 0, 0, u32::MAX),
    ])
}

fn set_inherited_options(socket: &SockRef<'_>, is_tcp: bool, config: &Config) -> io::Result<()> {
    if is_tcp {
        socket.set_tcp_nodelay(config.nodelay)?;
        if let Some(len) = config.socket_unsent {
            socket.set_tcp_notsent_lowat(len)?;
        }
        if let Some(delay) = config.defer_accept {
            defer_accept(socket, i32::try_from(delay.as_secs().max(1)).unwrap_or(i32::MAX))?;
        }
    }
    if let Some(len) = config.socket_receive_buffer {
        socket.set_recv_buffer_size(len as usize)?;
    }
    if let Some(len) = config.socket_send_buffer {
        socket.set_send_buffer_size(len as usize)?;
    }
    Ok(())
}

/// Has accept(2) give up at once when nobody is in the queue, whatever becomes of O_NONBLOCK: that flag belongs to all
/// who have the listener, and another process may set it or clear it at any moment. (SO_RCVTIMEO of socket(7), which
/// io_uring takes no notice of.)
pub(crate) fn wait_for_no_one(listener: &SockRef<'_>) -> io::Result<()> {
    listener.set_read_timeout(Some(Duration::from_micros(1)))
}

/// Makes a listener that was there before as one that is opened here: its accept waits, and is the ring's. (With
/// O_NONBLOCK it would fail at once while nobody is there.) Listening again is how its backlog is changed.
pub(crate) fn prepare_inherited(
    listener: &OwnedFd,
    address: &Address,
    config: &Config,
) -> Result<(), ServeError> {
    let socket = SockRef::from(listener);
    let prepare = || {
        socket.set_nonblocking(false)?;
        socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
        set_inherited_options(&socket, address.tcp().is_some(), config)
    };
    prepare().map_err(|error| refused(address, error))
}

/// TCP_DEFER_ACCEPT of tcp(7), which socket2 has no name for.
#[allow(unsafe_code)]
fn defer_accept(socket: &SockRef<'_>, seconds: libc::c_int) -> io::Result<()> {
    let (value, len) = ((&raw const seconds).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    let fd = socket.as_raw_fd();
    // SAFETY: reads an int from `seconds`, which lives through the call.
    match unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, value, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A Unix listener, which all workers share. A socket file that nobody listens on any more is replaced.
pub(crate) fn open_unix(path: &Path, config: &Config) -> Result<OwnedFd, ServeError> {
    let address = Address::unix(path);
    let open = || {
        remove_if_dead(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        set_options(&socket, &address, config)?;
        socket.bind(&address.to_sock_addr()?)?;
        socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    };
    open().map_err(|error: io::Error| refused(&address, error))
}

fn remove_if_dead(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Alive, or not ours to judge: bind says what there is to say.
        _ => Ok(()),
    }
}

/// The most connections that wait in the queue of a listener: listen(2) lowers the backlog to net.core.somaxconn, and
/// the kernel lets in one more than that.
pub(crate) fn queue_len(config: &Config) -> u32 {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    let most = somaxconn.and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX);
    config.backlog.min(most).saturating_add(1)
}

/// The address a listener really has: its port, if it asked for any.
pub(crate) fn bound_address(listener: &OwnedFd) -> io::Result<Address> {
    Ok(Address::from_sock_addr(&SockRef::from(listener).local_addr()?))
}

fn refused(address: &Address, error: io::Error) -> ServeError {
    let address = address.clone();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = address.tcp().and_then(holder_of_port);
            ServeError::AddressInUse { address, holder }
        }
        io::ErrorKind::PermissionDenied => ServeError::PermissionDenied { address },
        io::ErrorKind::AddrNotAvailable => ServeError::AddressNotAvailable { address },
        _ => ServeError::Listen { address, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TCP_DEFER_ACCEPT of a listener that is opened with this, in seconds; the kernel rounds up to when it would send
    /// a SYN again.
    #[allow(unsafe_code)]
    fn deferred(delay: Option<Duration>) -> libc::c_int {
        let config = Config { defer_accept: delay, ..Config::default() };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        set_inherited_options(&SockRef::from(&socket), true, &config).expect("options that tcp(7) has");
        let (mut seconds, mut len) = (-1, size_of::<libc::c_int>() as libc::socklen_t);
        let (value, fd) = ((&raw mut seconds).cast(), socket.as_raw_fd());
        // SAFETY: writes an int to `seconds`, which lives through the call.
        let got =
            unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, value, &raw mut len) };
        assert_eq!(got, 0, "{}", io::Error::last_os_error());
        seconds
    }

    #[test]
    fn accepting_is_put_off_only_where_that_is_wanted() {
        assert_eq!(deferred(None), 0);
        assert!(deferred(Some(Duration::from_millis(1))) >= 1);
        assert!(deferred(Some(Duration::from_secs(20))) >= 20);
    }
}
