//! What the tests of hosted workers share: every kind of host, every ring, and clients beside them.

// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]

#[path = "../../../core/tests/support/mod.rs"]
pub mod common;

use std::net::SocketAddr;
use std::pin::Pin;
use std::thread;

use campanile::{Config, Hosted, RingKind, Server, Stopper};
use campanile_tokio_uring::run;
use tokio::task::LocalSet;

/// Runs `future` to its end in a runtime of tokio's, or of tokio-uring's.
pub type BlockOn = fn(Pin<Box<dyn Future<Output = ()> + '_>>);

pub fn tokio(future: Pin<Box<dyn Future<Output = ()> + '_>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, future);
}

pub fn tokio_uring(future: Pin<Box<dyn Future<Output = ()> + '_>>) {
    tokio_uring::start(future);
}

/// Both rings; where io_uring is not to be used, twice epoll.
pub const RINGS: [RingKind; 2] = [RingKind::Auto, RingKind::Poll];

/// Every ring in every runtime that this machine lets run.
pub fn hosts() -> Vec<(BlockOn, RingKind)> {
    let runtimes: &[BlockOn] = if has_uring() { &[tokio, tokio_uring] } else { &[tokio] };
    runtimes.iter().flat_map(|runtime| RINGS.map(|ring| (*runtime, ring))).collect()
}

/// Whether tokio-uring can run, which knows nothing of epoll.
pub fn has_uring() -> bool {
    !common::on_epoll() && campanile::Capabilities::probe().is_ok()
}

/// A server to be, on that ring.
pub fn server(ring: RingKind) -> Server {
    let ring = if common::on_epoll() { RingKind::Poll } else { ring };
    Server::new().listen("127.0.0.1:0").ring(ring).config(Config { receive_buffers: 32, ..Config::default() })
}

pub fn address(server: &Hosted) -> SocketAddr {
    server.addresses()[0].tcp().expect("a TCP listener")
}

/// Hosts a server for as long as `client` runs, on a thread of its own.
pub fn host(block_on: BlockOn, make: impl FnOnce() -> Hosted, client: impl FnOnce(SocketAddr) + Send) {
    thread::scope(|scope| {
        block_on(Box::pin(async {
            let server = make();
            let (address, stop) = (address(&server), StopsOnDrop(server.stopper()));
            scope.spawn(move || {
                let _stop = stop;
                client(address);
            });
            run(server).await.expect("it runs until it is stopped");
        }));
    });
}

/// Stops a server, also when a client has panicked.
pub struct StopsOnDrop(pub Stopper);

impl Drop for StopsOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
