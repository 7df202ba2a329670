//! The core of [campanile](https://docs.rs/campanile): a server whose accept, recv and send are io_uring completions.
//!
//! Most servers depend on the `campanile` crate, which adds protocols. This one knows none: bytes in, bytes out.
//!
//! ```no_run
//! use campanile_core::{Flow, Input, Output, ServeError, Server};
//!
//! fn main() -> Result<(), ServeError> {
//!     let echo = |input: &mut Input<'_>, output: &mut Output<'_>| {
//!         let n = input.len().min(output.room());
//!         output.write(input.consume(n)).expect("no longer than the room");
//!         Flow::More(1)
//!     };
//!     Server::new().listen("127.0.0.1:7000").serve(move || echo)?.wait()
//! }
//! ```
//!
//! # From outside
//!
//! A [`Server`] has listeners and, on a thread each, workers. Every connection runs a [`Service`]: it is told one
//! [`Event`] at a time, reads [`Input`], writes [`Output`], and says by [`Flow`] what it waits for. [`Context`] has
//! the rest: timers, wakers, addresses, [`channel`]s to other connections, and errands such as connecting or reading
//! a file. [`Config`] has every bound there is.
//!
//! # From inside: the eight stops of a byte
//!
//! A worker is one thread with one ring, and its loop is a round trip. Read `Worker::turn` in `worker.rs` beside this.
//!
//! ```text
//!        +---------------------------- 1 Ring::wait <------------------------ 8 Ring::submit
//!        v                               one call hands over, waits,            Submission::prepare
//!   2 Completion::from_cqe               and is the timer                       writes the entry
//!        each errno classified once                                               ^
//!        v                                                                        |
//!   3 Worker::dispatch                                                     7 Connection::poll_submission
//!        token -> slot, generation checked                                   until None; the buffer goes home
//!        v                                                                        ^
//!   4 BufferRing::take -> Received                                                |
//!        v                                                                        |
//!   5 Connection::handle_receive  ------------>  6 Service::handle  ------------- +
//!        the kernel's own bytes, or the carry       input in, output out
//! ```
//!
//! 1. **Wait** (`ring.rs`). One `io_uring_enter` hands over everything queued and brings back at least one
//!    completion; its timeout is the next timer. Under load that is one system call for many requests, and there is
//!    no other.
//! 2. **Read** (`operation.rs`). The batch of completions is copied out, and each errno becomes an `Outcome` here,
//!    once.
//! 3. **Dispatch** (`worker.rs`). The 64-bit token names a slot and the generation that slot had; what is stale is
//!    dropped.
//! 4. **Take** (`buffer_ring.rs`). The completion says which buffers of the ring were filled; from now until the
//!    piece is dropped they are the worker's.
//! 5. **Handle** (`connection.rs`). The connection, a state machine without I/O, shows its service the buffer itself.
//!    Only what the service leaves unread is copied, into the carry.
//! 6. **Serve** (`service.rs`). The user's code. What it writes goes into a send buffer of the worker's.
//! 7. **Ask** (`connection/`). The connection is asked what it wants to submit next, until it wants nothing; the
//!    receive buffer goes home.
//! 8. **Submit** (`operation.rs`). Each operation becomes an entry of the queue, for the next wait to hand over.
//!
//! Two ideas carry the rest. All memory that the kernel may touch belongs to the worker until the final completion of
//! the operation that names it, so nothing that a user drops can hurt. And a ring is exchangeable: the simulated one
//! drives the same worker through every fault a kernel may show, replayable from one number.

mod address;
mod agenda;
mod buffer_ring;
mod carry;
pub mod channel;
mod config;
mod connection;
mod control;
mod counters;
mod datagram;
mod desk;
mod errand;
mod error;
mod file_pool;
mod flight;
pub mod fs;
mod guard;
mod holder;
mod input;
mod listener;
mod local;
mod nested;
mod operation;
mod output;
mod refusal;
mod region;
mod ring;
mod send_pool;
mod server;
mod service;
mod stream;
mod task;
mod time;
mod timeout;
mod timer;
mod token;
mod udp;
mod wake;
mod worker;

pub use address::{Address, BadAddress};
pub use bytes::Bytes;
pub use channel::{Receiver, Sender};
pub use config::{BadConfig, Config};
pub use control::Control;
pub use counters::{Counters, Figure, FigureKind, Verdict};
pub use desk::Handle;
pub use errand::{Answer, Connect, ConnectError, Ticket};
pub use error::ServeError;
pub use fs::{File, FileStat, OpenFile};
pub use guard::{Panic, guard};
pub use holder::{Holder, Process};
pub use input::Input;
pub use nested::{Inner, Layer, Nested};
pub use output::{NoRoom, Output};
pub use refusal::{Asked, Refusal, Surroundings};
pub use ring::probe::Capabilities;
pub use server::{
    Feature, HandOverError, Hosted, InheritError, Inherited, ListenerId, Monitor, RingKind, Server,
    ServerHandle, Serves, Stopper, Successor, Survey, UnknownName, WorkerId,
};
pub use service::{Context, Event, Flow, Reason, Service, on_open};
pub use stream::{Outcome, ReadHalf, Stream, WriteHalf, connect};
pub use task::{
    Elapsed, Interval, JoinError, JoinHandle, RemoteHandle, Sleep, TimeLimited, WorkerHandle, interval, now,
    sleep, sleep_until, spawn, this_worker, timeout, yield_now,
};
pub use time::{Clock, SystemClock, Time};
pub use timeout::Timeout;
pub use udp::{Payload, UdpOptions, UdpSocket};
pub use wake::Waker;
pub use worker::Turned;
#[cfg(feature = "by-hand")]
#[doc(hidden)]
pub use worker::by_hand::ByHand;
