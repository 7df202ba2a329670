//! A worker of [campanile](https://docs.rs/campanile) inside of a [tokio-uring](https://docs.rs/tokio-uring) runtime, on
//! the same thread: services wait for whatever tokio-uring and tokio have, files, timers, channels, clients, while
//! their connections stay on the worker's own ring.
//!
//! [`serve`] is a whole program, and [`run`] is a future for those who start the runtime themselves.
//!
//! ```
//! use std::cell::RefCell;
//! use std::rc::Rc;
//!
//! use campanile::{Context, Event, Flow, Server, Service};
//! use tokio_uring::fs::File;
//!
//! /// Sends whoever comes the first 4 KiB of a file.
//! #[derive(Default)]
//! struct Sends {
//!     read: Rc<RefCell<Option<Vec<u8>>>>,
//! }
//!
//! impl Service for Sends {
//!     fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
//!         if let Event::Open = event {
//!             let (waker, read) = (cx.waker(), Rc::clone(&self.read));
//!             tokio_uring::spawn(async move {
//!                 let file = File::open("Cargo.toml").await.expect("a file");
//!                 let (result, mut bytes) = file.read_at(vec![0; 4096], 0).await;
//!                 bytes.truncate(result.unwrap_or(0));
//!                 *read.borrow_mut() = Some(bytes);
//!                 waker.wake();
//!             });
//!         }
//!         let Some(bytes) = self.read.take() else { return Flow::Wait };
//!         cx.output.write(&bytes).expect("there is room");
//!         Flow::Finish
//!     }
//! }
//!
//! # fn main() -> Result<(), campanile::ServeError> {
//! campanile_tokio_uring::serve(|| {
//!     let server = Server::new().listen("127.0.0.1:0").host(|_| Sends::default())?;
//! #   let (address, stopper) = (server.addresses()[0].tcp().unwrap(), server.stopper());
//! #   std::thread::spawn(move || {
//! #       let mut stream = std::net::TcpStream::connect(address).unwrap();
//! #       let said = std::io::read_to_string(&mut stream);
//! #       stopper.stop();
//! #       assert!(said.unwrap().starts_with("[package]"));
//! #   });
//!     Ok(server)
//! })
//! # }
//! ```
//!
//! # Two rings on one thread
//!
//! tokio-uring has a ring of its own, for its files and sockets; the worker has another, set up as io_uring wants it for
//! a server (DEFER_TASKRUN). Both wake the one reactor, and neither waits for the other: tokio-uring submits when its
//! runtime parks, which the worker has it do even if it is never idle itself.

use std::io;

use campanile::{Hosted, Refusal, ServeError};
use campanile_core::{Asked, Surroundings};
use tokio_uring::{Runtime, builder};

/// The same for any runtime of tokio's: [`campanile::host::run`].
pub use campanile::host::run;

/// Entries of tokio-uring's own queue: what it has by itself.
const ENTRIES: u32 = 256;

/// Starts a tokio-uring runtime on this thread, and in it the server that `make` makes there; returns when that has
/// ended.
///
/// # Errors
/// As [`Server::host`](campanile::Server::host) and [`run`]. If the kernel refuses tokio-uring its ring that is
/// [`ServeError::Ring`], with the reason and the fix; a worker by itself could do with epoll, but tokio-uring cannot.
///
/// # Panics
/// Inside of another runtime.
pub fn serve(make: impl FnOnce() -> Result<Hosted, ServeError>) -> Result<(), ServeError> {
    let runtime = Runtime::new(builder().entries(ENTRIES)).map_err(refusal)?;
    runtime.block_on(async { run(make()?).await })
}

fn refusal(error: io::Error) -> ServeError {
    let asked = Asked { memory_kib: u64::from(ENTRIES) * (64 + 2 * 16) / 1024, descriptors: 1 };
    ServeError::Ring(Refusal::diagnose(&error, asked, &Surroundings::read()))
}
