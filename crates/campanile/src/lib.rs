//! Campanile is a server framework for Linux that is driven by completions: it hands io_uring the operation and is told
//! when it is done.
//!
//! A server is a [`Server`] with a [`Service`] per connection. A service is a closure over bytes in and bytes out, a
//! codec and a handler of its frames ([`framed`]), a handler of HTTP requests ([`http::service`]), or a type of your
//! own.
//!
//! ```no_run
//! use campanile::{Lines, Server, framed};
//!
//! fn main() -> Result<(), campanile::ServeError> {
//!     Server::new()
//!         .listen("127.0.0.1:7000")
//!         .serve(|| framed(Lines::new(1024), |line, reply| reply.write_line(line.to_ascii_uppercase())))?
//!         .wait()
//! }
//! ```
//!
//! # Where to look
//!
//! | to | see |
//! |---|---|
//! | start and stop a server | [`Server`], [`ServerHandle`], [`Config`] |
//! | see what it does | [`ServerHandle::counters`], [`Monitor`], [`http::Metrics`] |
//! | serve raw bytes | [`Service`], [`Input`], [`Output`], [`Flow`] |
//! | serve lines or frames | [`framed`], [`Lines`], [`LengthDelimited`], [`Codec`] |
//! | serve HTTP: closures, async ones too, a router, files | [`http`] |
//! | serve by an async function | [`Stream`], [`Server::serve`], [`Server::handle_with`] |
//! | wait in one for time, or for tasks | [`sleep`], [`timeout`], [`interval`], [`spawn`], [`WorkerHandle`] |
//! | wait in one for what blocks | [`spawn_blocking`] |
//! | connect to names and addresses, keep connections | [`connect`], [`Dial`], [`Pool`] |
//! | send HTTP requests to other servers | [`http::Client`] |
//! | open, read, write and sync files there | [`fs`] |
//! | use timers, wake from other threads, connect, read files | [`Context`], [`Event`] |
//! | pass bytes from one connection to another | [`relay`]; in services [`channel`] |
//! | host a worker inside of tokio | [`Server::host`], `host` (feature `tokio`), the crate `campanile-tokio-uring` |
//! | put a layer under a service (encryption, a handshake) | [`Layer`], [`Nested`] |

mod blocking;
mod connect;
mod files;
mod framed;
#[cfg(feature = "tokio")]
pub mod host;
pub mod http;
mod pool;
mod reply;
mod stream;

pub use blocking::spawn_blocking;
pub use campanile_core::{
    Address, Answer, BadAddress, BadConfig, Bytes, Capabilities, Config, Connect, ConnectError, Context,
    Control, Counters, Elapsed, Event, Feature, Figure, FigureKind, File, FileStat, Flow, HandOverError,
    Handle, Holder, Hosted, InheritError, Inherited, Inner, Input, Layer, ListenerId, Monitor, Nested,
    OpenFile, Output, Panic, Reason, Receiver, Refusal, RingKind, Sender, ServeError, Server, ServerHandle,
    Service, Stopper, Successor, Survey, Ticket, Time, Timeout, Turned, Verdict, Waker, WorkerId, channel,
    guard, on_open,
};
// Async handlers, and what they wait for.
pub use campanile_core::{
    Interval, JoinError, JoinHandle, Outcome, Payload, RemoteHandle, Sleep, TimeLimited, UdpOptions,
    UdpSocket, WorkerHandle, fs, interval, now, sleep, sleep_until, spawn, this_worker, timeout, yield_now,
};
/// Framing without I/O: the codecs themselves.
#[doc(inline)]
pub use campanile_protocol as protocol;
pub use campanile_protocol::{
    ByteOrder, Codec, Decoded, EncodeError, Encoder, Full, LengthDelimited, LengthWidth, LineError, Lines,
    Sink, Terminator,
};
pub use connect::{
    BadDestination, Destination, Dial, DialError, Resolve, Resolving, SystemResolver, connect,
};
pub use framed::{Framed, IgnoreError, IntoThen, OnError, Then, framed};
pub use pool::{Pool, PoolConfig, PoolError, Pooled};
pub use reply::Reply;
pub use stream::{FrameError, IntoOwned, ReadHalf, Stream, WriteHalf, relay};

/// The examples of the README, compiled with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
