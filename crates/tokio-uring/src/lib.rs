//! A worker of [campanile](https://docs.rs/campanile) inside of a [tokio-uring](https://docs.rs/tokio-uring) runtime,
//! on the same thread: handlers wait for whatever tokio-uring and tokio have, files, timers, channels, clients, while
//! their connections stay on the worker's own ring.
//!
//! [`serve`] is a whole program, and [`run`] is a future for those who start the runtime themselves.
//!
//! ```
//! use campanile::{Server, Stream};
//! use tokio_uring::fs::File;
//!
//! /// Sends whoever comes the first 4 KiB of a file.
//! async fn send_file(mut stream: Stream) -> std::io::Result<()> {
//!     let file = File::open("Cargo.toml").await?;
//!     let (read, bytes) = file.read_at(vec![0; 4096], 0).await;
//!     stream.write(&bytes[..read?]).await?;
//!     file.close().await
//! }
//!
//! # fn main() -> Result<(), campanile::ServeError> {
//! campanile_tokio_uring::serve(|| {
//!     let server = Server::new().listen("127.0.0.1:0").host(send_file)?;
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
//! tokio-uring has a ring of its own, for its files and sockets; the worker has another, set up as io_uring wants it
//! for a server (DEFER_TASKRUN). Both wake the one reactor, and neither waits for the other: tokio-uring submits when
//! its runtime parks, which the worker has it do even if it is never idle itself.

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
    let runtime = Runtime::new(builder().entries(ENTRIES)).map_err(|error| refusal(&error))?;
    runtime.block_on(async { run(make()?).await })
}

fn refusal(error: &io::Error) -> ServeError {
    let asked = Asked { memory_kib: u64::from(ENTRIES) * (64 + 2 * 16) / 1024, descriptors: 1 };
    ServeError::Ring(Refusal::diagnose(error, asked, &Surroundings::read()))
}
