//! The incoming body of a request, piece by piece.

use std::fmt;

use campanile_core::{Input, Output};
use campanile_protocol::http1::{
    BodyDecoder, BodyError, BodyLength, BodyPart, Field, Limits, write_continue,
};
use campanile_protocol::{Codec, Decoded};

/// A body that is being read. Its data lies in the input, where it came in: the first bytes of the input, once the
/// framing before them is consumed.
pub(super) struct Incoming {
    decoder: BodyDecoder,
    /// Bytes of data at the start of the input.
    ready: usize,
    /// Bytes of framing behind them, to be consumed with them.
    behind: usize,
    /// How many more bytes the input must have for the next part.
    at_least: usize,
    trailers: Vec<(String, Vec<u8>)>,
    /// Bytes of data that were consumed.
    consumed: u64,
    /// Bytes of data that anybody wants.
    limit: u64,
    /// The client waits for `100 Continue` before it sends the body.
    expects_continue: bool,
}

impl Incoming {
    pub(super) fn new(length: BodyLength, limits: &Limits, expects_continue: bool) -> Incoming {
        Incoming {
            decoder: BodyDecoder::new(length, limits),
            ready: 0,
            behind: 0,
            at_least: 1,
            trailers: Vec::new(),
            consumed: 0,
            limit: u64::MAX,
            expects_continue: expects_continue && !length.is_empty(),
        }
    }

    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    pub(super) fn is_complete(&self) -> bool {
        self.decoder.is_done() && self.ready == 0
    }

    pub(super) fn trailers(&self) -> &[(String, Vec<u8>)] {
        &self.trailers
    }

    /// How many bytes more the next part needs.
    pub(super) fn at_least(&self) -> usize {
        self.at_least
    }

    /// Whether the client waits for `100 Continue`, as far as is known.
    pub(super) fn is_withheld(&self) -> bool {
        self.expects_continue
    }

    /// Bytes of data still to come, if the head said so.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.decoder.remaining().map(|remaining| remaining + self.ready as u64)
    }

    /// Whether an answer that comes now is the last of its connection: the body is more than anybody will discard, or
    /// the client has not sent it and nobody can say whether it will. Of the body so many bytes at most are `here`.
    pub(super) fn leaves_too_much(&self, here: usize, limit: u64) -> bool {
        let coming = self.remaining().map(|remaining| remaining.saturating_sub(here as u64));
        self.expects_continue || coming.is_some_and(|coming| coming > limit)
    }

    /// Tells the client to send, if it waits for that and its answer was not begun: an interim answer comes before the
    /// final one (RFC 9110, sections 10.1.1 and 15.2). Says whether there was room to.
    pub(super) fn invite(&mut self, is_unbegun: bool, input: &Input<'_>, output: &mut Output<'_>) -> bool {
        if !self.expects_continue {
            return true;
        }
        // It did not wait: no need to answer.
        if input.is_empty() {
            // It may send the body all the same. Until it does nobody can say whether it will.
            if !is_unbegun {
                return true;
            }
            if write_continue(&mut crate::Reply::new(output)).is_err() {
                return false;
            }
        }
        self.expects_continue = false;
        true
    }

    /// Bytes of the piece were consumed.
    pub(super) fn take(&mut self, n: usize) {
        assert!(n <= self.ready, "consume({n}) of a piece of {}", self.ready);
        self.ready -= n;
        self.consumed += n as u64;
    }

    /// Says that a longer body is wanted by nobody.
    pub(super) fn limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Whether the body is known to be longer than is wanted: a chunk says how long it is before it comes.
    pub(super) fn is_too_long(&self) -> bool {
        self.is_longer_than(self.limit)
    }

    /// The same for another limit.
    pub(super) fn is_longer_than(&self, limit: u64) -> bool {
        let known = self.consumed.saturating_add(self.ready as u64).saturating_add(self.decoder.announced());
        known > limit
    }

    /// Reads up to the next piece or the end, if all of the last was consumed. Says whether there is something new.
    ///
    /// # Errors
    /// When the body is invalid, or the client ends before the body does.
    pub(super) fn advance(&mut self, input: &mut Input<'_>) -> Result<bool, BodyError> {
        if self.ready > 0 || self.decoder.is_done() {
            return Ok(false);
        }
        input.consume(std::mem::take(&mut self.behind));
        match self.decoder.decode(input)? {
            Decoded::More { .. } if input.is_ended() => Err(BodyError::Truncated),
            Decoded::More { at_least } => {
                self.at_least = at_least;
                Ok(false)
            }
            Decoded::Frame { frame: BodyPart::Data(data), consumed } => {
                self.ready = data.len();
                // The piece is a part of the input.
                let start = data.as_ptr().addr() - input.as_ptr().addr();
                self.behind = consumed - start - self.ready;
                input.consume(start);
                Ok(true)
            }
            Decoded::Frame { frame: BodyPart::End(trailers), consumed } => {
                let own = |field: Field<'_>| (field.name.to_owned(), field.value.to_vec());
                self.trailers = trailers.fields().map(own).collect();
                input.consume(consumed);
                Ok(true)
            }
        }
    }
}

/// The rest of a body that nobody wants.
pub(super) struct Rest {
    incoming: Incoming,
    /// Bytes that may still be discarded, framing included.
    left: u64,
}

/// How far the discarding of a body is.
#[derive(Clone, Copy)]
pub(super) enum Discarded {
    Whole,
    /// It is longer than anybody discards.
    TooMuch,
    /// It is none.
    Invalid(BodyError),
    /// It goes on when so many bytes more are there.
    NotYet(usize),
}

impl Rest {
    pub(super) fn new(incoming: Incoming, left: u64) -> Rest {
        Rest { incoming, left }
    }

    /// Discards what is there of it.
    pub(super) fn discard(&mut self, input: &mut Input<'_>) -> Discarded {
        let Rest { incoming, left } = self;
        loop {
            let before = input.consumed();
            let ready = std::mem::take(&mut incoming.ready);
            input.consume(ready);
            let advanced = incoming.advance(input);
            let Some(after) = left.checked_sub((input.consumed() - before) as u64) else {
                return Discarded::TooMuch;
            };
            *left = after;
            match advanced {
                Err(error) => return Discarded::Invalid(error),
                Ok(_) if incoming.is_complete() => return Discarded::Whole,
                Ok(true) => {}
                Ok(false) => return Discarded::NotYet(incoming.at_least()),
            }
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("ready", &self.ready)
            .field("is_complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}
