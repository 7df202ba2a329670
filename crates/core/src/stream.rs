//! The stream: a connection for futures.
//!
//! An async handler reads and writes a [`Stream`]. Behind it are two boxes of memory, one for each direction, that are
//! filled and emptied by the service on its connection; a future waits for what lies in them, never for an operation of
//! the kernel's. So any of them may be dropped at any moment.

mod connect;
pub(crate) mod endpoint;
mod half;
mod pipe;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::address::Address;
use crate::ring::Side;

pub use connect::connect;
pub use half::{ReadHalf, WriteHalf};
use pipe::Pipe;

/// A connection, to read from and write to by futures.
///
/// Dropping it sends what was written and closes the connection, so that the peer gets all of it. It never leaves its
/// worker, but any task there may hold it, and its [halves](Self::into_split) two.
///
/// Any of its futures may be dropped at any moment, and nothing is lost: what was not returned by a read comes with the
/// next one, and a write was taken whole or not at all.
///
/// Both directions are bounded ([`Config::stream_buffer`](crate::Config)). From a peer whose bytes the handler does not
/// read, no more is received; a handler that writes more than the peer reads waits.
///
/// # What a write that is done means
///
/// [`write`](Self::write) returns when the bytes are in memory between the handler and the connection, and
/// [`flush`](Self::flush) when the kernel has all of them in its send buffer. Neither says that the peer has them: the
/// kernel sends, and repeats, on its own, and if the peer goes away after that nobody is told. Only the peer's own
/// answer says what it has got: a protocol that needs to know has one. Where the peer reads to the end before it
/// closes, the end of its stream after a [`shutdown`](Self::shutdown) says so.
///
/// # Example
///
/// ```no_run
/// use campanile_core::{ServeError, Server, Stream};
///
/// fn main() -> Result<(), ServeError> {
///     let echo = async |mut stream: Stream| -> std::io::Result<()> {
///         while stream.fill(1).await? > 0 {
///             let bytes = stream.take(usize::MAX);
///             stream.write(&bytes).await?;
///         }
///         Ok(())
///     };
///     Server::new().listen("127.0.0.1:7000").serve(echo)?.wait()
/// }
/// ```
pub struct Stream {
    read: ReadHalf,
    write: WriteHalf,
}

/// How a handler has ended.
pub(crate) enum Ending {
    Done,
    Failed(String),
}

/// What an async handler may return: nothing, or a result whose error aborts the connection, so that the peer does not
/// take what it got for the whole. (An error of the connection itself has ended it already.) It is told to the log, as
/// an event of `tracing` at the level of debugging, since mostly it is the client who has gone.
pub trait Outcome {
    #[doc(hidden)]
    fn into_failure(self) -> Option<String>;
}

impl Outcome for () {
    fn into_failure(self) -> Option<String> {
        None
    }
}

impl<T, E: fmt::Display> Outcome for Result<T, E> {
    fn into_failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

impl Ending {
    pub(crate) fn of(outcome: impl Outcome) -> Ending {
        outcome.into_failure().map_or(Ending::Done, Ending::Failed)
    }
}

impl Stream {
    fn new(pipe: Rc<Pipe>) -> Stream {
        Stream { read: ReadHalf::new(Rc::clone(&pipe)), write: WriteHalf::new(pipe) }
    }

    /// Waits until there are at least `n` unread bytes, or the peer sends nothing more; says how many there are, which
    /// is fewer than `n` only at the end. They are [`unread`](Self::unread) until they are consumed.
    ///
    /// While the server [drains](crate::ServerHandle::drain), a connection with nothing unread is told that its peer
    /// has ended, so that a handler that waits for the next request ends as if it had.
    ///
    /// # Errors
    /// When the connection is over, and not by an end that the peer has sent. What came before is unread all the same.
    pub async fn fill(&mut self, n: usize) -> io::Result<usize> {
        self.read.fill(n).await
    }

    /// The same, for whoever is polled.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, n: usize) -> Poll<io::Result<usize>> {
        self.read.poll_fill(cx, n)
    }

    /// What was received and not consumed.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.read.unread()
    }

    /// Consumes the first `n` bytes of what is [`unread`](Self::unread).
    ///
    /// # Panics
    /// When fewer are unread.
    pub fn consume(&mut self, n: usize) {
        self.read.consume(n);
    }

    /// Consumes at most `n` unread bytes and returns them.
    #[must_use]
    pub fn take(&mut self, n: usize) -> Bytes {
        self.read.take(n)
    }

    /// Reads what is there, or comes next, into `buffer`; says how much. Zero means that the peer sends nothing more,
    /// or that `buffer` is empty.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read.read(buffer).await
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer ends before: what it sent is unread then. Else as [`fill`](Self::fill).
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.read.read_exact(buffer).await
    }

    /// Writes all of `bytes`: waits until the outbox has a place, then takes them whole. Dropped before that, nothing
    /// was written. What it means that this is done is said [above](Self#what-a-write-that-is-done-means).
    ///
    /// # Errors
    /// When the connection is over, or was shut down.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write(bytes).await
    }

    /// The same, without a copy for more than 4 KiB.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.write.send(bytes).await
    }

    /// Writes all of `pieces`, as one: see [`write`](Self::write).
    ///
    /// # Errors
    /// As there.
    pub async fn write_pieces(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        self.write.write_pieces(pieces).await
    }

    /// Waits until there is a place in the outbox: the next write is taken at once then.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.poll_room(cx)
    }

    /// Waits until all that was written is in the kernel's send buffer.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn flush(&mut self) -> io::Result<()> {
        self.write.flush().await
    }

    /// Sends what was written and then the end of it, and waits until that is in the kernel's hands. Reading goes on.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.write.shutdown().await
    }

    /// Closes the connection at once, and sends nothing more: the peer sees a reset.
    pub fn abort(self) {
        self.write.abort();
    }

    /// Whether the peer has ended, or the connection is over: nothing more will come than what is unread. While the
    /// server drains it is so as well where [`fill`](Self::fill) says so.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.read.is_ended()
    }

    /// From now on a [drain](crate::ServerHandle::drain) is no end of input: for whoever passes on what the peer sends,
    /// so that half of it never looks like all of it. The drain waits for this connection then, and cuts it when its
    /// time is over.
    pub fn ignore_drain(&mut self) {
        self.read.ignore_drain();
    }

    /// Whether the server was told to stop, so that this connection is to end: the end of input may be that, and not
    /// the peer's.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.read.is_draining()
    }

    /// Whether the connection is over, so that writing is in vain.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.write.is_over()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// Whatever the kernel says, `ENOTCONN` for instance when the peer is gone already.
    pub async fn peer_addr(&self) -> io::Result<Address> {
        self.address(Side::Peer).await
    }

    /// The address this end has.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub async fn local_addr(&self) -> io::Result<Address> {
        self.address(Side::Local).await
    }

    async fn address(&self, side: Side) -> io::Result<Address> {
        let pipe = &self.read.pipe;
        poll_fn(|cx| {
            let mut state = pipe.state();
            let waiter = state.waiter(cx.waker());
            let error = state.over.is_some().then(|| state.error());
            let asked = state.addresses.get_or_insert_default().of(side);
            if let Some(known) = asked.get() {
                return Poll::Ready(known);
            }
            if let Some(error) = error {
                return Poll::Ready(Err(error));
            }
            asked.is_wanted = true;
            asked.waiters.push(waiter);
            pipe.nudge(&state);
            Poll::Pending
        })
        .await
    }

    /// Two halves, for two futures. The connection is closed when both are dropped.
    ///
    /// A write half that is dropped ends its direction properly, after an error too: [`abort`](WriteHalf::abort) it
    /// where its peer must not take what it got for the whole. A read half that is dropped leaves what still comes
    /// unread.
    #[must_use]
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }

    /// The stream of two halves.
    ///
    /// # Panics
    /// When they are not of one.
    #[must_use]
    pub fn unsplit(read: ReadHalf, write: WriteHalf) -> Stream {
        assert!(Rc::ptr_eq(&read.pipe, &write.pipe), "two halves of different streams");
        Stream { read, write }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("unread", &self.unread().len())
            .field("is_over", &self.is_over())
            .finish_non_exhaustive()
    }
}
