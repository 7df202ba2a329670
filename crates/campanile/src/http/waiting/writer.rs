//! The writer: a body of an answer that an async closure writes.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use campanile_core::Bytes;

use super::driver::{Driver, Part, Polled};
use super::link::Feed;
use crate::http::error::Error;
use crate::http::exchange::{Exchange, Next};
use crate::http::into_response::IntoBody;
use crate::http::response::{Answered, Head};

/// A body that is written by an async closure: see [`stream`].
pub struct Written<F> {
    write: F,
    length: Option<u64>,
}

/// The body of an answer, written piece by piece by an async closure.
///
/// A write waits until there is room for it, so a client that does not read stops the closure. The body is complete
/// when the closure returns; an error cuts it, and the client sees that it is incomplete. When the client is gone the
/// closure is dropped where it waits. To HEAD it is not called.
///
/// ```
/// use campanile::http;
///
/// let numbers = http::wait(async |_| {
///     (200, [("Content-Type", "text/csv")], http::stream(async |mut writer| {
///         for n in 0..1_000_000 {
///             writer.write(format!("{n}\n")).await?;
///         }
///         Ok(())
///     }))
/// });
/// # fn is_a_service(_: impl campanile::Service) {}
/// # is_a_service(http::service(numbers));
/// ```
pub fn stream<F>(write: F) -> Written<F>
where
    F: AsyncFnOnce(BodyWriter) -> Result<(), Error> + 'static,
{
    Written { write, length: None }
}

impl<F> Written<F> {
    /// Says how many bytes it has; an answer that turns out to be of another length is cut. Without it the answer is
    /// chunked (RFC 9112, section 7.1).
    #[must_use]
    pub fn sized(self, length: u64) -> Written<F> {
        Written { length: Some(length), ..self }
    }
}

impl<F> IntoBody for Written<F>
where
    F: AsyncFnOnce(BodyWriter) -> Result<(), Error> + 'static,
{
    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        let feed = head.feed.cloned();
        let begun = match self.length {
            Some(length) => head.begin_sized(length),
            None => head.begin_stream(),
        };
        let (write, outbox) = (self.write, Rc::new(Outbox::default()));
        let writer = BodyWriter(Rc::clone(&outbox));
        let future = Box::pin(async move { write(writer).await });
        Ok(begun?.then(Driver::new(Writing { future, outbox, has_returned: false }, feed)))
    }
}

/// Writes the body of an answer.
///
/// Every future here may be dropped at any moment: a write was taken as a whole, or not at all.
#[derive(Debug)]
pub struct BodyWriter(Rc<Outbox>);

/// What was written, and not moved to the connection.
#[derive(Debug, Default)]
struct Outbox(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    /// Copied, and before the bytes below.
    written: Vec<u8>,
    bytes: Option<Bytes>,
    trailers: Vec<(String, Vec<u8>)>,
    /// The writer waits for room.
    writer: Option<Waker>,
    /// Calls the connection, while it is not just calling the writer.
    connection: Option<Waker>,
    /// Nothing more is sent.
    is_over: bool,
}

/// Bytes that are written before the writer waits for them to be moved to the connection.
const ROOM: usize = 16 * 1024;

impl BodyWriter {
    /// Writes a piece, which is copied, when there is room. How pieces are cut says nothing about how they are sent.
    ///
    /// That it returns means that the piece is on its way, not that the client has it.
    ///
    /// # Errors
    /// When the request is over: its client is gone, or its answer was cut.
    pub async fn write(&mut self, piece: impl AsRef<[u8]>) -> Result<(), Error> {
        self.put(|state| state.written.extend_from_slice(piece.as_ref())).await
    }

    /// Writes a piece that is sent from where it is, without a copy, when all before it are on their way.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn send(&mut self, piece: Bytes) -> Result<(), Error> {
        self.put(|state| state.bytes = Some(piece).filter(|piece| !piece.is_empty())).await
    }

    /// Waits until all that was written is handed over to be sent.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.0.poll_room(1, cx)).await
    }

    /// Has these trailers sent behind the body, if it is chunked.
    pub fn set_trailers<'t>(&mut self, trailers: impl IntoIterator<Item = (&'t str, &'t [u8])>) {
        let owned = trailers.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec()));
        self.0.0.borrow_mut().trailers = owned.collect();
    }

    async fn put(&mut self, put: impl FnOnce(&mut State)) -> Result<(), Error> {
        poll_fn(|cx| self.0.poll_room(ROOM, cx)).await?;
        let mut state = self.0.0.borrow_mut();
        put(&mut state);
        let connection = state.connection.clone();
        drop(state);
        if let Some(connection) = connection {
            connection.wake();
        }
        Ok(())
    }
}

impl Outbox {
    /// Ready when less than `room` bytes are here.
    fn poll_room(&self, room: usize, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.0.borrow_mut();
        if state.is_over {
            return Poll::Ready(Err(Error::new(500, "the request is over, and its answer with it")));
        }
        if state.bytes.is_none() && state.written.len() < room {
            return Poll::Ready(Ok(()));
        }
        if !state.writer.as_ref().is_some_and(|writer| writer.will_wake(cx.waker())) {
            state.writer = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn is_empty(&self) -> bool {
        let state = self.0.borrow();
        state.written.is_empty() && state.bytes.is_none()
    }

    fn set_connection(&self, connection: Option<&Waker>) {
        self.0.borrow_mut().connection = connection.cloned();
    }

    /// Moves what is here to the connection, as much as it takes, and wakes the writer unless `own` does that: it is
    /// called next anyway.
    fn move_to(&self, exchange: &mut Exchange<'_, '_>, own: &Waker) -> Result<(), Error> {
        let mut state = self.0.borrow_mut();
        exchange.write(&state.written)?;
        state.written.clear();
        // What was copied may have been more than there is room for, and then it is held.
        if let Some(bytes) = state.bytes.take_if(|_| exchange.takes_piece()) {
            exchange.send(bytes)?;
        }
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer.filter(|writer| !writer.will_wake(own)) {
            writer.wake();
        }
        Ok(())
    }
}

/// A closure that writes.
struct Writing {
    future: Pin<Box<dyn Future<Output = Result<(), Error>>>>,
    outbox: Rc<Outbox>,
    has_returned: bool,
}

/// How often it is polled in one call: one that is never out of pieces, and whose client takes all, is not alone.
const IN_ONE_CALL: usize = 64;

impl Part for Writing {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_, '_>,
        _: Option<&Feed>,
    ) -> Result<Polled, Error> {
        self.outbox.set_connection(None);
        for _ in 0..IN_ONE_CALL {
            if !self.has_returned {
                // It may wait for something else than room.
                self.has_returned = match self.future.as_mut().poll(cx) {
                    Poll::Ready(returned) => returned.map(|()| true)?,
                    Poll::Pending => false,
                };
            }
            match (self.outbox.is_empty(), self.has_returned) {
                // Trailers may be more than there is room for, as a piece may.
                (true, true) if self.has_trailers() && !exchange.takes_piece() => {
                    return Ok(self.rest(Polled::Room, cx));
                }
                (true, true) => return self.finish(exchange).map(Polled::Over),
                (true, false) => return Ok(self.rest(Polled::Pending, cx)),
                (false, _) if !exchange.takes_piece() => return Ok(self.rest(Polled::Room, cx)),
                (false, _) => self.outbox.move_to(exchange, cx.waker())?,
            }
        }
        cx.waker().wake_by_ref();
        Ok(self.rest(Polled::Pending, cx))
    }
}

impl Writing {
    fn rest(&self, polled: Polled, cx: &Context<'_>) -> Polled {
        self.outbox.set_connection(Some(cx.waker()));
        polled
    }

    fn has_trailers(&self) -> bool {
        !self.outbox.0.borrow().trailers.is_empty()
    }

    fn finish(&self, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let trailers = std::mem::take(&mut self.outbox.0.borrow_mut().trailers);
        if trailers.is_empty() {
            return Ok(Next::Done);
        }
        let trailers: Vec<_> =
            trailers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        Ok(exchange.finish(&trailers)?)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.outbox.0.borrow_mut();
        state.is_over = true;
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

impl<F> fmt::Debug for Written<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("length", &self.length).finish_non_exhaustive()
    }
}
