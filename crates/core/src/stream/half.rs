//! The halves of a stream: who reads, and who writes.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::pipe::{Pipe, State, Waiter};
use crate::carry::Carry;
use crate::service::Reason;

/// The reading half of a [`Stream`](crate::Stream). Dropping it stops the reading: the peer is not read from any more.
pub struct ReadHalf {
    pub(super) pipe: Rc<Pipe>,
    unread: Carry,
}

/// The writing half of a [`Stream`](crate::Stream). Dropping it sends what was written, and the end of it.
pub struct WriteHalf {
    pub(super) pipe: Rc<Pipe>,
}

impl ReadHalf {
    pub(super) fn new(pipe: Rc<Pipe>) -> ReadHalf {
        ReadHalf { pipe, unread: Carry::default() }
    }

    /// See [`Stream::fill`](crate::Stream::fill).
    ///
    /// # Errors
    /// As there.
    pub async fn fill(&mut self, n: usize) -> io::Result<usize> {
        Filling { half: self, n }.await
    }

    /// See [`Stream::poll_fill`](crate::Stream::poll_fill).
    ///
    /// # Errors
    /// As there.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, n: usize) -> Poll<io::Result<usize>> {
        let mut state = self.pipe.state();
        if self.unread.len() < n {
            take_in(&mut self.unread, &mut state, &self.pipe);
        }
        let unread = self.unread.len();
        let filled = match state.over {
            _ if unread >= n || state.ended_well() => Some(Ok(unread)),
            Some(_) => Some(Err(state.error())),
            // Between two frames.
            None if state.is_told_of_drain() && unread == 0 => Some(Ok(0)),
            None => None,
        };
        state.is_reading = filled.is_none();
        if let Some(filled) = filled {
            // It is not the peer who is waited for any more: a task may be long about what it has got.
            if state.is_news() {
                self.pipe.nudge(&state);
            }
            return Poll::Ready(filled);
        }
        state.is_in_frame = unread > 0;
        let waiter = state.waiter(cx.waker());
        let before = std::mem::replace(&mut state.reader, waiter);
        if state.is_news() {
            self.pipe.nudge(&state);
        }
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Nobody waits for input any more.
    fn stop_waiting(&mut self) {
        let mut state = self.pipe.state();
        if std::mem::replace(&mut state.is_reading, false) {
            let before = std::mem::take(&mut state.reader);
            self.pipe.nudge(&state);
            drop(state);
            drop(before);
        }
    }

    /// See [`Stream::unread`](crate::Stream::unread).
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.unread.bytes()
    }

    /// See [`Stream::consume`](crate::Stream::consume).
    ///
    /// # Panics
    /// As there.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.unread.len(), "consume({n}) of {} unread bytes", self.unread.len());
        if n > 0 {
            self.pipe.state().went_on = true;
            self.unread.consume_to_spare(n, &self.pipe.local);
        }
    }

    /// See [`Stream::take`](crate::Stream::take).
    #[must_use]
    pub fn take(&mut self, n: usize) -> Bytes {
        let n = n.min(self.unread.len());
        let taken = Bytes::copy_from_slice(&self.unread()[..n]);
        self.consume(n);
        taken
    }

    /// See [`Stream::read`](crate::Stream::read).
    ///
    /// # Errors
    /// As there.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self.fill(1).await?.min(buffer.len());
        buffer[..n].copy_from_slice(&self.unread()[..n]);
        self.consume(n);
        Ok(n)
    }

    /// See [`Stream::read_exact`](crate::Stream::read_exact).
    ///
    /// # Errors
    /// As there.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let n = buffer.len();
        if self.fill(n).await? < n {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.copy_from_slice(&self.unread()[..n]);
        self.consume(n);
        Ok(())
    }

    /// See [`Stream::ignore_drain`](crate::Stream::ignore_drain).
    pub fn ignore_drain(&mut self) {
        self.pipe.state().ignores_drain = true;
    }

    /// See [`Stream::is_draining`](crate::Stream::is_draining).
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.pipe.state().is_draining
    }

    /// See [`Stream::is_ended`](crate::Stream::is_ended).
    #[must_use]
    pub fn is_ended(&self) -> bool {
        let state = self.pipe.state();
        let is_told_so = state.is_told_of_drain() && self.unread.is_empty();
        (state.ended || state.over.is_some() || is_told_so) && state.inbox.is_empty()
    }
}

impl WriteHalf {
    pub(super) fn new(pipe: Rc<Pipe>) -> WriteHalf {
        WriteHalf { pipe }
    }

    /// See [`Stream::poll_room`](crate::Stream::poll_room).
    ///
    /// # Errors
    /// As there.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.pipe.state();
        state.is_flushed_for = false;
        if let Some(error) = write_error(&state) {
            return Poll::Ready(Err(error));
        }
        if state.outbox.len() < state.limit {
            return Poll::Ready(Ok(()));
        }
        let before = self.wait(&mut state, cx);
        drop(state);
        drop(before);
        Poll::Pending
    }

    fn wait(&self, state: &mut State, cx: &mut Context<'_>) -> Waiter {
        let waiter = state.waiter(cx.waker());
        std::mem::replace(&mut state.writer, waiter)
    }

    /// See [`Stream::write`](crate::Stream::write).
    ///
    /// # Errors
    /// As there.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.put(|state, local| state.outbox.write(bytes, local));
        Ok(())
    }

    /// See [`Stream::write_pieces`](crate::Stream::write_pieces).
    ///
    /// # Errors
    /// As there.
    pub async fn write_pieces(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.put(|state, local| pieces.iter().for_each(|piece| state.outbox.write(piece, local)));
        Ok(())
    }

    /// See [`Stream::send`](crate::Stream::send).
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.put(|state, local| state.outbox.send(bytes, local));
        Ok(())
    }

    fn put(&mut self, put: impl FnOnce(&mut State, &crate::local::Local)) {
        let mut state = self.pipe.state();
        put(&mut state, &self.pipe.local);
        self.pipe.nudge(&state);
    }

    /// See [`Stream::flush`](crate::Stream::flush).
    ///
    /// # Errors
    /// As there.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The same, for whoever is polled.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.pipe.state();
        match state.over {
            None => {}
            // With nobody to read, the end of writing is that of the connection. All of it was sent before that.
            Some(Reason::Finished) => return Poll::Ready(Ok(())),
            Some(_) => return Poll::Ready(Err(state.error())),
        }
        if state.outbox.is_empty() && state.unsent == 0 {
            state.is_flushed_for = false;
            return Poll::Ready(Ok(()));
        }
        state.is_flushed_for = true;
        // It is to wait for the send to complete.
        self.pipe.nudge(&state);
        let before = self.wait(&mut state, cx);
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// See [`Stream::shutdown`](crate::Stream::shutdown).
    ///
    /// # Errors
    /// As there.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.end();
        self.flush().await
    }

    fn end(&mut self) {
        let mut state = self.pipe.state();
        if !std::mem::replace(&mut state.writer_gone, true) {
            self.pipe.nudge(&state);
        }
    }

    /// See [`Stream::abort`](crate::Stream::abort).
    pub fn abort(self) {
        let mut state = self.pipe.state();
        state.aborted = true;
        self.pipe.nudge(&state);
    }

    /// See [`Stream::is_over`](crate::Stream::is_over).
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.pipe.state().over.is_some()
    }
}

/// Waits for input. Dropped before it has come, nobody waits any more, and no deadline of the peer's runs.
struct Filling<'a> {
    half: &'a mut ReadHalf,
    n: usize,
}

impl Future for Filling<'_> {
    type Output = io::Result<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let n = self.n;
        self.half.poll_fill(cx, n)
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.half.stop_waiting();
    }
}

/// Takes over what is in the inbox. If that was full there is a place again.
fn take_in(unread: &mut Carry, state: &mut State, pipe: &Pipe) {
    if state.inbox.is_empty() {
        return;
    }
    let was_full = state.inbox.len() >= state.limit;
    if unread.is_empty() {
        std::mem::swap(unread, &mut state.inbox);
    } else {
        unread.append(state.inbox.bytes());
        state.inbox.clear_to_spare(&pipe.local);
    }
    if was_full {
        pipe.nudge(state);
    }
}

fn write_error(state: &State) -> Option<io::Error> {
    (state.over.is_some() || state.writer_gone || state.aborted).then(|| state.error())
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        let (inbox, before) = {
            let mut state = self.pipe.state();
            (state.reader_gone, state.is_reading) = (true, false);
            self.pipe.nudge(&state);
            (std::mem::take(&mut state.inbox), std::mem::take(&mut state.reader))
        };
        drop((inbox, before));
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.end();
        let before = std::mem::take(&mut self.pipe.state().writer);
        drop(before);
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").field("unread", &self.unread.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}
