//! The exchange: one request and its answer, while they go on.

use std::fmt;

use campanile_core::{Bytes, Context, Control, Event};
use campanile_protocol::http1::{BodyEncoder, BodyLength, Exchange as Facts, WriteError};

use super::body::Incoming;
use super::config::Config;
use super::error::Error;
use super::outlet::{Outlet, hand_over};
use super::response::{Answered, Begun, How, Response};
use super::shared::Shared;
use super::waiting::Feed;

/// Answers one request piece by piece.
///
/// It is called by the one rule of back-pressure: when something changed that it waits for, and again while it consumes
/// or writes; a call that does neither parks it until the next change. Dropping it ends the exchange: that happens when
/// the client is gone, and when an error is answered in its place.
///
/// Most are closures: see [`Response::run`] and [`Head::stream`](super::Head::stream). A type is told the event as
/// well: [`Event::Open`] first, [`Event::Input`] with a new piece of the body, [`Event::End`] when the body is
/// complete, [`Event::Room`], timers, wakes and answers to what it asked its worker for; and [`Event::Drain`], at which
/// a responder that would go on for ever says [`Next::Done`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no responder",
    note = "implement `http::Responder`, or pass a closure to `Response::run`, `Head::stream` or `Head::sized`"
)]
pub trait Responder {
    /// Goes on with the exchange, and says what it waits for.
    ///
    /// # Errors
    /// An error is answered if the response was not begun. If it was, the client is shown that it is incomplete.
    fn respond(&mut self, event: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error>;

    /// Whether the body of the request may be read once the answer is begun. If not, and it leaves more than
    /// [`Config::discard_limit`](super::Config) unread, the answer says that it is the last of its connection.
    fn reads_body(&self) -> bool {
        true
    }
}

/// What a responder waits for.
#[non_exhaustive]
pub enum Next {
    /// The next piece of the body, or its end. Whoever leaves the piece that is here, or was told of the end, waits in
    /// vain, which is an error.
    Body,
    /// Room for more of the answer. With all the room there is, and nothing written, that is to wait in vain.
    Room,
    /// Either of them: to pass the body on while it comes.
    BodyOrRoom,
    /// A timer, a wake, or the answer to something it asked its worker for. Nothing is read meanwhile.
    Wait,
    /// Nothing: the answer is complete.
    Done,
    /// Another responder goes on.
    Become(Box<dyn Responder>),
}

/// A closure as a responder.
pub(super) struct Closure<F>(pub(super) F);

impl<F> Responder for Closure<F>
where
    F: FnMut(&mut Exchange<'_, '_>) -> Result<Next, Error>,
{
    fn respond(&mut self, _: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        (self.0)(exchange)
    }
}

/// Room for what stands before and behind a piece in chunked coding: 16 digits and two CRLF.
const FRAME_ROOM: usize = 32;

/// Bytes that a body which is made as it is sent may be ahead of its client, and a piece more. Enough for large sends.
const AHEAD: usize = 256 * 1024;

/// How far the answer is.
pub(super) enum Answer {
    /// Nothing was written.
    Unbegun(Facts),
    /// The head was written.
    Begun { encoder: BodyEncoder, status: u16 },
    /// All of it was written.
    Whole { keep_alive: bool, status: u16 },
}

/// One request and its answer, as their responder sees them.
pub struct Exchange<'a, 'o> {
    pub(super) cx: &'a mut Context<'o>,
    pub(super) incoming: &'a mut Incoming,
    pub(super) answer: &'a mut Answer,
    /// The responder may go on to read the body when the answer is begun.
    pub(super) reads_body: bool,
    pub(super) config: &'a Config,
    pub(super) shared: &'a Shared,
}

impl<'o> Exchange<'_, 'o> {
    /// The piece of the body that is here and not consumed; empty if the next has not come yet.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.cx.input[..self.incoming.ready()]
    }

    /// Consumes the first `n` bytes of the piece.
    ///
    /// # Panics
    /// When the piece is shorter.
    pub fn consume(&mut self, n: usize) -> &[u8] {
        self.incoming.take(n);
        self.cx.input.consume(n)
    }

    /// Consumes the whole piece.
    pub fn consume_all(&mut self) -> &[u8] {
        self.consume(self.incoming.ready())
    }

    /// Consumes the first `n` bytes of the piece and keeps them: without a copy where that is possible, see
    /// [`Input::keep`](crate::Input::keep).
    ///
    /// # Panics
    /// When the piece is shorter.
    pub fn keep(&mut self, n: usize) -> Bytes {
        self.incoming.take(n);
        self.cx.input.keep(n)
    }

    /// Whether the whole body was consumed, and is valid to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.incoming.is_complete()
    }

    /// Whether nothing comes after this piece, as far as the head said so.
    pub(super) fn is_last_piece(&self) -> bool {
        self.incoming.remaining() == Some(self.incoming.ready() as u64)
    }

    /// The trailer fields of the body when it is [complete](Self::is_complete); most have none. They are never fields
    /// of the request (RFC 9110, section 6.5.1).
    #[must_use]
    pub fn trailers(&self) -> &[(String, Vec<u8>)] {
        self.incoming.trailers()
    }

    /// How many bytes may be written before [`write`](Self::write) has to hold them in memory of its own. At least
    /// [`Config::room`](crate::Config) less 20 bytes when called for room.
    #[must_use]
    pub fn room(&self) -> usize {
        let room = self.cx.output.room();
        match &self.answer {
            Answer::Begun { encoder, .. } => encoder.longest_piece(room),
            Answer::Unbegun(_) => room,
            Answer::Whole { .. } => 0,
        }
    }

    /// Begins the response; its body is [written](Self::write) as the exchange goes on.
    ///
    /// # Errors
    /// When it was begun already, and whatever mistakes were made.
    pub fn begin(
        &mut self,
        begin: impl FnOnce(Response<'_, '_>) -> Result<Begun, Error>,
    ) -> Result<(), Error> {
        let Begun { encoder, status } = self.write_head(None, begin)?;
        *self.answer = Answer::Begun { encoder, status };
        Ok(())
    }

    /// Answers the request: what is returned is to be returned.
    ///
    /// # Errors
    /// When the response was begun already, and whatever mistakes were made.
    pub fn answer(
        &mut self,
        answer: impl FnOnce(Response<'_, '_>) -> Result<Answered, Error>,
    ) -> Result<Next, Error> {
        self.answer_fed(None, answer)
    }

    /// The same; whoever writes the body of the answer may go on to read that of the request by `feed`.
    pub(super) fn answer_fed(
        &mut self,
        feed: Option<&Feed>,
        answer: impl FnOnce(Response<'_, '_>) -> Result<Answered, Error>,
    ) -> Result<Next, Error> {
        match self.write_head(feed, answer)?.0 {
            How::Whole { keep_alive, status } => {
                *self.answer = Answer::Whole { keep_alive, status };
                Ok(Next::Done)
            }
            How::Later { begun, responder } => {
                if let Some(Begun { encoder, status }) = begun {
                    *self.answer = Answer::Begun { encoder, status };
                }
                Ok(Next::Become(responder))
            }
        }
    }

    /// Whether the head of the response was written.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        !matches!(self.answer, Answer::Unbegun(_))
    }

    /// Writes a piece of the body. What is longer than the [`room`](Self::room) is copied and held, within
    /// [`Config::held_limit`](crate::Config); a responder that writes one piece per call never comes near it.
    ///
    /// # Errors
    /// When the response was not begun, when more is written than was promised, and when more is held than allowed.
    /// Then nothing was written, and it can be tried again when there is [room](Next::Room).
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), WriteError> {
        self.put(None, |encoder, outlet| encoder.write(bytes.as_ref(), outlet))
    }

    /// Writes a piece of the body that is sent from where it is, without a copy.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn send(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        let Answer::Begun { encoder, .. } = &mut self.answer else { return Err(WriteError::NotBegun) };
        if encoder.is_suppressed() || bytes.is_empty() {
            return Ok(());
        }
        if encoder.remaining().is_none() && self.cx.output.room() < FRAME_ROOM {
            // What stands behind the bytes would be handed over as well, and two could be one too many.
            return self.write(bytes);
        }
        let len = bytes.len() as u64;
        self.put(Some(bytes), |encoder, outlet| encoder.begin_piece(len, outlet))?;
        self.put(None, |encoder, outlet| encoder.end_piece(outlet))
    }

    /// Writes a piece of the body that may come back: see [`Output::lend`](crate::Output::lend). Only to a body whose
    /// length was promised. Says whether it was taken; it is not while the client reads nothing.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn lend(&mut self, bytes: Bytes) -> Result<bool, WriteError> {
        let Answer::Begun { encoder, .. } = &mut self.answer else { return Err(WriteError::NotBegun) };
        let len = bytes.len() as u64;
        if encoder.remaining().is_none_or(|remaining| remaining < len) {
            return Err(WriteError::Overrun);
        }
        if self.cx.output.lend(bytes).is_err() {
            return Ok(false);
        }
        encoder.begin_piece(len, &mut Vec::new())?;
        Ok(true)
    }

    /// Whether a piece of any length would be taken now, and the client has taken most of those before it.
    pub(super) fn takes_piece(&self) -> bool {
        has_room(self.cx) && !self.cx.output.awaits_peer() && self.cx.output.held() < AHEAD
    }

    /// Tells the client to send the body, if it waits for that. Says whether there was room to.
    pub(super) fn invite(&mut self) -> bool {
        let is_unbegun = matches!(self.answer, Answer::Unbegun(_));
        self.incoming.invite(is_unbegun, &self.cx.input, &mut self.cx.output)
    }

    /// How many bytes of what was lent came back.
    pub(crate) fn take_returned(&mut self) -> u64 {
        let returned = self.cx.output.take_returned() as u64;
        if let Answer::Begun { encoder, .. } = &mut self.answer {
            encoder.take_back(returned);
        }
        returned
    }

    /// Whether something that is lent would be taken now; if not it is to be tried again when there is
    /// [room](Next::Room).
    pub(crate) fn can_lend(&self) -> bool {
        !self.cx.output.awaits_peer() && self.cx.output.can_send()
    }

    /// How many bytes were sent or lent, and are not known to have left.
    pub(crate) fn held(&self) -> usize {
        self.cx.output.held()
    }

    /// Writes the body's piece that is here as a piece of the answer, as much of it as there is room for, and consumes
    /// that much.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn pass_on(&mut self) -> Result<(), WriteError> {
        let n = self.incoming.ready().min(self.room());
        let Answer::Begun { encoder, .. } = &mut self.answer else { return Err(WriteError::NotBegun) };
        let mut spilled = Vec::new();
        // It is no longer than the room, so nothing is left over.
        encoder.write(&self.cx.input[..n], &mut Outlet::new(&mut self.cx.output, &mut spilled))?;
        self.consume(n);
        Ok(())
    }

    /// Ends the body with trailers, which are sent if it is chunked. Without trailers this is not needed:
    /// [`Next::Done`] ends the body.
    ///
    /// # Errors
    /// When a field is no trailer (RFC 9110, section 6.5.1), and as [`write`](Self::write).
    pub fn finish(&mut self, trailers: &[(&str, &[u8])]) -> Result<Next, WriteError> {
        let Answer::Begun { status, .. } = *self.answer else { return Err(WriteError::NotBegun) };
        let facts = self.put(None, |encoder, outlet| encoder.finish(trailers, outlet))?;
        *self.answer = Answer::Whole { keep_alive: facts.keep_alive(), status };
        Ok(Next::Done)
    }

    /// Everything of the connection besides its bytes: time, a timer, wakers, addresses, files and other connections.
    ///
    /// Answers and wakes come to whichever exchange the connection is in when they come: one that ended before leaves
    /// them to the next. So a responder compares the [`Ticket`](crate::Ticket) of an answer with the one it was given.
    pub fn control(&mut self) -> &mut Control<'o> {
        &mut self.cx.control
    }

    /// Writes a part of the body, and `behind` after it: all of it, or nothing.
    fn put<T>(
        &mut self,
        behind: Option<Bytes>,
        put: impl FnOnce(&mut BodyEncoder, &mut Outlet<'_, 'o>) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let Answer::Begun { encoder, .. } = &mut *self.answer else { return Err(WriteError::NotBegun) };
        let (before, unsent, mut spilled) = (encoder.clone(), self.cx.output.unsent(), Vec::new());
        let put = put(encoder, &mut Outlet::new(&mut self.cx.output, &mut spilled));
        let put = put.and_then(|put| {
            hand_over(&mut self.cx.output, spilled, behind)?;
            Ok(put)
        });
        if put.is_err() {
            *encoder = before;
            self.cx.output.truncate(unsent);
        }
        put
    }

    fn write_head<T>(
        &mut self,
        feed: Option<&Feed>,
        write: impl FnOnce(Response<'_, '_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Answer::Unbegun(facts) = *self.answer else {
            return Err(Error::from(WriteError::Begun));
        };
        let leaves_too_much = self.incoming.leaves_too_much(self.cx.input.len(), self.config.discard_limit);
        let (unsent, mut spilled, mut behind) = (self.cx.output.unsent(), Vec::new(), None);
        let mut outlet = Outlet::new(&mut self.cx.output, &mut spilled);
        let response = Response {
            outlet: &mut outlet,
            behind: &mut behind,
            control: &mut self.cx.control,
            facts,
            body: BodyLength::Empty,
            leaves_too_much,
            begins_last: if self.reads_body { self.incoming.is_withheld() } else { leaves_too_much },
            shared: self.shared,
            feed,
        };
        let written = write(response).and_then(|written| {
            hand_over(&mut self.cx.output, spilled, behind)?;
            Ok(written)
        });
        if written.is_err() {
            self.cx.output.truncate(unsent);
        }
        written
    }
}

/// Whether a responder that waits for room is called.
pub(super) fn has_room(cx: &Context<'_>) -> bool {
    cx.output.room() >= cx.promised_room() && cx.output.can_send()
}

impl fmt::Debug for Exchange<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("body", &self.incoming)
            .field("is_begun", &self.is_begun())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Next::Body => "Body",
            Next::Room => "Room",
            Next::BodyOrRoom => "BodyOrRoom",
            Next::Wait => "Wait",
            Next::Done => "Done",
            Next::Become(_) => "Become",
        })
    }
}
