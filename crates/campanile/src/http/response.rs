//! The response: how a handler answers one request, now or piece by piece.

use std::fmt;

use campanile_core::{Bytes, Control};
use campanile_protocol::http1::{
    BodyEncoder, BodyLength, Exchange as Facts, FieldBlock, FieldLine, ResponseWriter, WriteError,
};

use super::collect::Collect;
use super::error::Error;
use super::exchange::{Exchange, Next, Responder};
use super::outlet::Outlet;
use super::shared::Shared;
use super::waiting::Feed;

pub(super) const TEXT: FieldLine = FieldLine::from_static("Content-Type: text/plain; charset=utf-8\r\n");

/// The response to one request, not yet begun.
///
/// What is written is copied behind the answers before it, and what does not fit there is handed over, so an answer
/// may be of any length. All methods that end an answer take the response: a request is answered once.
pub struct Response<'r, 'o> {
    pub(super) outlet: &'r mut Outlet<'r, 'o>,
    /// Bytes to send behind what is written.
    pub(super) behind: &'r mut Option<Bytes>,
    pub(super) control: &'r mut Control<'o>,
    pub(super) facts: Facts,
    /// What the request brings besides its head.
    pub(super) body: BodyLength,
    /// An answer that is whole now is the last, since it leaves too much of the body unread.
    pub(super) leaves_too_much: bool,
    /// An answer that is begun now is the last, for the same reason.
    pub(super) begins_last: bool,
    pub(super) shared: &'r Shared,
    /// What gives a handler that waits the body of its request.
    pub(super) feed: Option<&'r Feed>,
}

/// A response whose status is written, and whose fields are being written.
///
/// A mistake (a field that cannot be one, a body where the status forbids it) is remembered and returned at the end:
/// nothing is sent then, and the client is told 500.
pub struct Head<'r, 'o> {
    writer: Result<ResponseWriter<'r, Outlet<'r, 'o>>, WriteError>,
    behind: &'r mut Option<Bytes>,
    status: u16,
    leaves_too_much: bool,
    begins_last: bool,
    pub(super) feed: Option<&'r Feed>,
}

/// Proof that a request was answered, or that somebody is about to.
#[must_use = "return it, or the request has no answer"]
pub struct Answered(pub(super) How);

/// Proof that a response was begun; its body follows.
#[must_use = "return it, or nothing of the response is sent"]
pub struct Begun {
    pub(super) encoder: BodyEncoder,
    pub(super) status: u16,
}

pub(super) enum How {
    /// The whole answer was written.
    Whole { keep_alive: bool, status: u16 },
    /// The body of the answer is still to come, or all of it.
    Later { begun: Option<Begun>, responder: Box<dyn Responder> },
}

impl<'r, 'o> Response<'r, 'o> {
    /// Begins with a status from 200 to 599, `Server` and a live `Date`.
    #[inline]
    #[must_use]
    pub fn status(self, status: u16) -> Head<'r, 'o> {
        let Response { outlet, behind, control, facts, shared, leaves_too_much, begins_last, feed, .. } =
            self;
        let writer = ResponseWriter::begin(outlet, facts, status).and_then(|mut writer| {
            writer.block(&shared.standing(control))?;
            Ok(writer)
        });
        Head { writer, behind, status, leaves_too_much, begins_last, feed }
    }

    /// Answers with a text, as `text/plain` in UTF-8.
    ///
    /// # Errors
    /// When the status is not from 200 to 599, or is one that has no body and the text is not empty.
    #[inline]
    pub fn text(self, status: u16, text: &str) -> Result<Answered, Error> {
        self.status(status).line(TEXT).body(text)
    }

    /// Answers 405 to a method that the resource does not have; `allow` lists those it has (RFC 9110, section 15.5.6).
    ///
    /// # Errors
    /// When `allow` cannot be the value of a field.
    pub fn not_allowed(self, allow: &str) -> Result<Answered, Error> {
        self.status(405).field("Allow", allow).line(TEXT).body("method not allowed\n")
    }

    /// Reads the whole body, of at most `limit` bytes, and has it answered by `answer`. A longer one is answered 413.
    ///
    /// Bodies that are collected are charged to a budget of the worker ([`Config::body_memory`](super::Config)). When
    /// it is used up, reading pauses, and after [`Config::body_wait`](super::Config) the client is told 503.
    ///
    /// ```
    /// use campanile::http;
    ///
    /// let echo = || http::service(|_, response| {
    ///     response.collect(1 << 20, |body, response| response.status(200).bytes(body))
    /// });
    /// # fn is_a_service(_: impl campanile::Service) {}
    /// # is_a_service(echo());
    /// ```
    ///
    /// # Errors
    /// 413, if the head says that the body is longer: return it.
    ///
    /// What `answer` needs of the request it has to copy, since the head is gone by then.
    pub fn collect<F>(self, limit: usize, answer: F) -> Result<Answered, Error>
    where
        F: FnOnce(Bytes, Response<'_, '_>) -> Result<Answered, Error> + 'static,
    {
        match self.body {
            BodyLength::Empty | BodyLength::Length(0) => answer(Bytes::new(), self),
            BodyLength::Length(len) if len > limit as u64 => Err(too_long()),
            _ => Ok(self.respond(Collect::new(limit, answer))),
        }
    }

    /// Has the request answered by `respond`, which is called as an [`Exchange`] goes on: pieces of the body, room for
    /// the answer. A closure that keeps state; see [`Responder`].
    ///
    /// ```
    /// use campanile::http::{self, Next};
    ///
    /// let count = || http::service(|_, response| {
    ///     let mut bytes = 0;
    ///     Ok(response.run(move |exchange| {
    ///         bytes += exchange.consume_all().len();
    ///         if !exchange.is_complete() {
    ///             return Ok(Next::Body);
    ///         }
    ///         exchange.answer(|response| response.text(200, &format!("{bytes} bytes\n")))
    ///     }))
    /// });
    /// # fn is_a_service(_: impl campanile::Service) {}
    /// # is_a_service(count());
    /// ```
    pub fn run<F>(self, respond: F) -> Answered
    where
        F: FnMut(&mut Exchange<'_, '_>) -> Result<Next, Error> + 'static,
    {
        self.respond(super::exchange::Closure(respond))
    }

    /// Has the request answered by a responder.
    pub fn respond(self, responder: impl Responder + 'static) -> Answered {
        Answered(How::Later { begun: None, responder: Box::new(responder) })
    }

    /// How the end of the request's body will be found.
    #[must_use]
    pub fn request_body(&self) -> BodyLength {
        self.body
    }

    /// Everything of the connection besides its bytes: addresses, the time, what its worker's services share.
    pub fn control(&mut self) -> &mut Control<'o> {
        self.control
    }

    /// Answers with the error.
    pub(super) fn error(self, error: &Error) -> Result<Answered, Error> {
        let mut head = self.status(error.status).line(TEXT);
        if let Some(seconds) = error.retry_after {
            head = head.field("Retry-After", seconds.to_string());
        }
        if error.closes {
            head = head.close();
        }
        head.body(format!("{}\n", error.message))
    }
}

/// The body is longer than whoever answers will read (RFC 9110, section 15.5.14).
pub(super) fn too_long() -> Error {
    Error::new(413, "the body is too long")
}

impl<'r, 'o> Head<'r, 'o> {
    /// Writes a field. Content-Length, Transfer-Encoding and Connection are written by the framework, as the request
    /// allows.
    #[inline]
    #[must_use]
    pub fn field(self, name: &str, value: impl AsRef<[u8]>) -> Head<'r, 'o> {
        self.write(|writer| writer.field(name, value.as_ref()).map(drop))
    }

    /// Writes a field that was checked when the program was compiled: one copy.
    #[inline]
    #[must_use]
    pub fn line(self, line: FieldLine) -> Head<'r, 'o> {
        self.write(|writer| writer.line(line).map(drop))
    }

    /// Writes fields that were checked before: one copy for all of them.
    #[inline]
    #[must_use]
    pub fn block<const N: usize>(self, block: &FieldBlock<N>) -> Head<'r, 'o> {
        self.write(|writer| writer.block(block).map(drop))
    }

    /// Ends the connection after this response.
    #[must_use]
    pub fn close(self) -> Head<'r, 'o> {
        self.write(|writer| {
            writer.close();
            Ok(())
        })
    }

    /// Ends the response with this body, which is copied. To HEAD only its length is told.
    ///
    /// # Errors
    /// The first mistake that was made.
    #[inline]
    pub fn body(self, body: impl AsRef<[u8]>) -> Result<Answered, Error> {
        let mut writer = self.writer?;
        if self.leaves_too_much {
            writer.close();
        }
        let keep_alive = writer.body(body.as_ref())?.keep_alive();
        Ok(Answered(How::Whole { keep_alive, status: self.status }))
    }

    /// Ends the response without a body.
    ///
    /// # Errors
    /// The first mistake that was made.
    pub fn empty(self) -> Result<Answered, Error> {
        self.body([])
    }

    /// Ends the response with these bytes, which are sent from where they are.
    ///
    /// # Errors
    /// The first mistake that was made.
    pub fn bytes(self, body: Bytes) -> Result<Answered, Error> {
        let Head { writer, behind, status, leaves_too_much, .. } = self;
        let mut writer = writer?;
        if leaves_too_much {
            writer.close();
        }
        let encoder = writer.length(body.len() as u64)?;
        if !encoder.is_suppressed() {
            *behind = Some(body);
        }
        Ok(Answered(How::Whole { keep_alive: encoder.keep_alive(), status }))
    }

    /// Ends the head; a body of exactly `length` bytes follows, which `respond` writes.
    ///
    /// # Errors
    /// The first mistake that was made.
    pub fn sized<F>(self, length: u64, respond: F) -> Result<Answered, Error>
    where
        F: FnMut(&mut Exchange<'_, '_>) -> Result<Next, Error> + 'static,
    {
        Ok(self.begin_sized(length)?.then(super::exchange::Closure(respond)))
    }

    /// Ends the head; a body of any length follows, which `respond` writes: chunked, or for HTTP/1.0 up to the end of
    /// the connection (RFC 9112, section 6.3). `respond` is called whenever there is room, until it says
    /// [`Next::Done`]. To HEAD it is not called at all.
    ///
    /// ```
    /// use campanile::http::{self, Next};
    ///
    /// let numbers = || http::service(|_, response| {
    ///     let mut n = 0;
    ///     response.status(200).stream(move |exchange| {
    ///         exchange.write(format!("{n}\n"))?;
    ///         n += 1;
    ///         Ok(if n < 1_000_000 { Next::Room } else { Next::Done })
    ///     })
    /// });
    /// # fn is_a_service(_: impl campanile::Service) {}
    /// # is_a_service(numbers());
    /// ```
    ///
    /// # Errors
    /// The first mistake that was made.
    pub fn stream<F>(self, respond: F) -> Result<Answered, Error>
    where
        F: FnMut(&mut Exchange<'_, '_>) -> Result<Next, Error> + 'static,
    {
        Ok(self.begin_stream()?.then(super::exchange::Closure(respond)))
    }

    /// Ends the head; a body of exactly `length` bytes follows.
    ///
    /// # Errors
    /// The first mistake that was made.
    pub fn begin_sized(self, length: u64) -> Result<Begun, Error> {
        self.begin(|writer| writer.length(length))
    }

    /// Ends the head; a body of any length follows.
    ///
    /// # Errors
    /// The first mistake that was made.
    pub fn begin_stream(self) -> Result<Begun, Error> {
        self.begin(ResponseWriter::stream)
    }

    fn begin(
        self,
        end: impl FnOnce(ResponseWriter<'r, Outlet<'r, 'o>>) -> Result<BodyEncoder, WriteError>,
    ) -> Result<Begun, Error> {
        let mut writer = self.writer?;
        if self.begins_last {
            writer.close();
        }
        Ok(Begun { encoder: end(writer)?, status: self.status })
    }

    #[inline]
    fn write(
        mut self,
        write: impl FnOnce(&mut ResponseWriter<'r, Outlet<'r, 'o>>) -> Result<(), WriteError>,
    ) -> Head<'r, 'o> {
        if let Ok(writer) = &mut self.writer
            && let Err(error) = write(writer)
        {
            self.writer = Err(error);
        }
        self
    }
}

impl Begun {
    /// The responder writes the body.
    pub fn then(self, responder: impl Responder + 'static) -> Answered {
        Answered(How::Later { begun: Some(self), responder: Box::new(responder) })
    }
}

impl fmt::Debug for Response<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl fmt::Debug for Head<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("status", &self.status).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            How::Whole { status, .. } => write!(f, "Answered({status})"),
            How::Later { .. } => f.write_str("Answered(later)"),
        }
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("status", &self.status).finish_non_exhaustive()
    }
}
