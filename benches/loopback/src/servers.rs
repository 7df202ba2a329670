//! The servers: the same work by each, in the same layout: one thread, which accepts and serves, on a processor of its
//! own.

mod campanile;
mod monoio;
mod tokio;
mod tokio_uring;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use self::campanile::Switch;
use ::campanile::ServerHandle;
use socket2::{Domain, Socket, Type};

use crate::work::Work;

/// Connections that wait to be accepted, as campanile has it by default.
const BACKLOG: i32 = 4096;
/// Bytes asked for by one read of a peer, for requests and for transfers: as much as campanile's receive buffers have,
/// and as what it receives at a time in a transfer.
const READ: usize = 16 * 1024;
const READ_TRANSFER: usize = 64 * 1024;
/// Entries of a peer's ring, as campanile has by default. All else is as the runtime has it by itself.
const ENTRIES: u32 = 1024;

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// A closure; for HTTP one over requests.
    Campanile,
    /// HTTP by `http::serve` with a router, as most users have it.
    Routed,
    /// As the first, with one thing of its configuration another.
    Switched(Switch),
    Tokio,
    TokioUring,
    Monoio,
}

impl Server {
    /// Those that do everything.
    pub(crate) const ALL: &[Server] = &[Server::Campanile, Server::Tokio, Server::TokioUring, Server::Monoio];
    /// Those that do HTTP.
    pub(crate) const OF_HTTP: &[Server] =
        &[Server::Campanile, Server::Routed, Server::Tokio, Server::TokioUring, Server::Monoio];
    /// Campanile, and what other configurations of it are worth in each kind of work.
    pub(crate) const REQUESTS: &[Server] =
        &[Server::Campanile, Server::Switched(Switch::PlainDescriptors), Server::Switched(Switch::Epoll)];
    pub(crate) const ACCEPTING: &[Server] = &[
        Server::Campanile,
        Server::Switched(Switch::DeferAccept),
        Server::Switched(Switch::PerAddress),
        Server::Switched(Switch::PlainDescriptors),
        Server::Switched(Switch::Spin),
        Server::Switched(Switch::MinWait),
        Server::Switched(Switch::BusyPoll),
        Server::Switched(Switch::Epoll),
    ];
    pub(crate) const RECEIVING: &[Server] =
        &[Server::Campanile, Server::Switched(Switch::NoBundles), Server::Switched(Switch::Epoll)];
    pub(crate) const SENDING: &[Server] =
        &[Server::Campanile, Server::Switched(Switch::AnyUnsent), Server::Switched(Switch::Epoll)];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::Campanile => "campanile",
            Server::Routed => "campanile, routed",
            Server::Switched(switch) => switch.name(),
            Server::Tokio => "tokio",
            Server::TokioUring => "tokio-uring",
            Server::Monoio => "monoio",
        }
    }

    /// Whether it can run here.
    ///
    /// # Errors
    /// io_uring is refused, and it cannot do without.
    pub(crate) fn check(self) -> io::Result<()> {
        match self {
            Server::Campanile | Server::Routed | Server::Switched(_) | Server::Tokio => Ok(()),
            Server::TokioUring => tokio_uring::check(),
            Server::Monoio => monoio::check(),
        }
    }

    /// Starts it, on the processor that the calling thread is on.
    pub(crate) fn start(self, work: Work) -> Running {
        match self {
            Server::Campanile => campanile::start(work, None),
            Server::Routed => campanile::start_routed(),
            Server::Switched(switch) => campanile::start(work, Some(switch)),
            Server::Tokio => Peer::start(work, tokio::serve),
            Server::TokioUring => Peer::start(work, tokio_uring::serve),
            Server::Monoio => Peer::start(work, monoio::serve),
        }
    }
}

/// A server that runs until this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    _until: Until,
}

/// What stops a server when it is dropped.
enum Until {
    #[expect(dead_code, reason = "held to be dropped")]
    Handle(ServerHandle),
    #[expect(dead_code, reason = "held to be dropped")]
    Peer(Peer),
}

/// A peer's thread.
struct Peer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// `serve` returns after it has accepted a connection and then finds that it is to stop.
    fn start(work: Work, serve: fn(TcpListener, Work, &AtomicBool)) -> Running {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // What is accepted inherits it.
        socket.set_tcp_nodelay(true).expect("TCP_NODELAY");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        socket.listen(BACKLOG).expect("a listener");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("the address of a listener");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || serve(listener, work, &told)));
        Running { address, _until: Until::Peer(Peer { address, stop, thread }) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // It only looks when somebody comes. If nobody gets in, it has failed, and the join says so.
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().expect("joined once").join();
        assert!(ended.is_ok() || thread::panicking(), "a peer failed; see above");
    }
}

/// Whether a peer that has accepted a connection is to end.
fn is_over(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Acquire)
}
