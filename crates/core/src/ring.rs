//! The ring: the edge to the kernel, and the one place behind which it can be exchanged.
//!
//! A worker hands over operations and is told what came of them; which ring does it is decided when the worker starts.
//! [`kernel`] is io_uring, [`poll`] does the same over epoll where io_uring is refused, [`simulated`] plays a kernel
//! that has a bad day, and `by_hand` is none at all, so that the worker alone can be measured.

pub(crate) mod backlog;
#[cfg(feature = "by-hand")]
pub(crate) mod by_hand;
pub(crate) mod kernel;
mod plain;
pub(crate) mod poll;
pub(crate) mod probe;
// Until there is a public face to it, only tests use it.
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) mod simulated;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use crate::address::Address;
use crate::fs::FileStat;
use crate::operation::{Completion, Descriptor, Memory, Submission};
use crate::token::Token;
use crate::udp::UdpOptions;
use crate::wake::Kick;

pub(crate) use plain::close;

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Local,
    Peer,
}

/// What this ring can do beyond the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// Sockets can live in the ring's own table.
    pub(crate) direct: bool,
    /// One completion can fill several buffers.
    pub(crate) bundle: bool,
    /// A multishot receive can be armed for a number of bytes in total.
    pub(crate) budget: bool,
    /// Sockets can be opened, and their options set, by operations.
    pub(crate) socket: bool,
    pub(crate) set_option: bool,
    pub(crate) bind_listen: bool,
}

/// The longest that a ring is told to wait. The kernel adds it to its clock and does not mind an overflow, so "never"
/// would be "at once".
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The edge to the kernel.
///
/// # Contract
///
/// * What was submitted is the ring's until its final completion; it is never lost, not even when the kernel refuses
///   to take it now.
/// * `memory` is always the same memory, and is there until the ring is dropped.
pub(crate) trait Ring {
    fn abilities(&self) -> Abilities;

    /// Queues an operation. If the queue is full, what is in it goes to the kernel first.
    fn submit(&mut self, token: Token, submission: Submission, memory: &Memory);

    /// Hands over everything queued, waits until something completes or `timeout` is over (`None`: for as long as it
    /// takes; zero: not at all), and appends what completed to `batch`.
    ///
    /// # Errors
    /// Only when the ring itself is broken.
    fn wait(
        &mut self,
        timeout: Option<Duration>,
        memory: &Memory,
        batch: &mut Vec<Completion>,
    ) -> io::Result<()>;

    /// Submits one operation and waits for its one completion: for set-up, never on the request path.
    ///
    /// # Errors
    /// What the operation came to.
    fn perform(&mut self, submission: Submission, memory: &Memory) -> io::Result<u32>;

    /// Begins to watch for kicks from other threads, which complete under `token`, and returns what kicks.
    fn kick(&mut self, memory: &Memory, token: Token) -> io::Result<Box<dyn Kick>>;

    /// Answers a kick that completed, so that the next one completes too.
    fn kicked(&mut self, completion: &Completion, memory: &Memory);

    /// An address of a socket. Not for the request path: it may cost several system calls.
    fn address(&mut self, descriptor: Descriptor, side: Side) -> io::Result<Address>;

    /// A new socket for datagrams, bound to `address`. By plain calls, none of which waits: not for the request path.
    ///
    /// # Errors
    /// Whatever the kernel says.
    fn bind_datagrams(&mut self, address: SocketAddr, options: &UdpOptions) -> io::Result<Descriptor>;

    /// Whether asking for what is known of a file never waits for a disk or a network, so that
    /// [`stat_now`](Self::stat_now) may be used. Asked once per file.
    fn stats_at_once(&self, file: RawFd) -> bool;

    /// Whether a file can be read and written at an offset, which never waits. Asked once per file.
    fn has_offsets(&self, file: RawFd) -> bool;

    /// What is known of a file, by a plain call. The ring's own operation always goes to a thread of the kernel's:
    /// 5.2 µs of processor time alone and 2.1 µs in batches of 16, where fstat(2) took 0.3 µs (Linux 6.18, ext4).
    ///
    /// # Errors
    /// Whatever the kernel says.
    fn stat_now(&self, file: RawFd) -> io::Result<FileStat>;

    /// Has completions announced for who waits elsewhere on this thread: returns what epoll is to watch for input.
    /// Readable says no more than that [`wait`](Self::wait) is worth a call.
    ///
    /// # Errors
    /// When the kernel has no descriptor for it.
    fn announce(&mut self) -> io::Result<OwnedFd>;

    /// While it is hushed nothing is announced: for as long as the worker looks of its own accord. What completes
    /// meanwhile is not made up for, so when it is hushed no more, `wait` is to be called once.
    fn hush(&mut self, hushed: bool);

    /// Hands over everything queued, without asking what completed.
    fn hand_over(&mut self);

    /// Whether a call of [`wait`](Self::wait) with no time to wait would have something to hand over, or to bring that
    /// is not announced.
    fn has_work(&self) -> bool;

    /// Whether [`has_work`](Self::has_work) also tells of whatever completed, so that it can be looked for without a
    /// call.
    fn tells(&self) -> bool {
        false
    }

    /// For how long `wait` may be put off, if nothing is announced; `None` for ever.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// How many submissions wait for a place in the queue.
    fn backlog(&self) -> usize {
        0
    }

    /// How many submissions have not completed for good: zero when the ring may be dropped.
    fn in_flight(&self) -> u64;
}
