//! Sending: the bytes of a large file, piece by piece, for as long as the client keeps up.

use std::ops::Range;
use std::time::Duration;

use campanile_core::{Answer, Event, File, FileStat, Ticket, Time};

use crate::http::{Error, Exchange, Next, Responder};

use super::found::{Found, has_same_bytes};
use super::multipart::Multipart;
use super::range::ByteRange;

/// Bytes that are asked for at a time, at most and at first; the worker's file buffers can make it less.
const LONGEST: u64 = 512 * 1024;
const SHORTEST: u64 = 32 * 1024;

/// A piece is as long as this part of what the client took without a pause.
const SHARE: u64 = 2;

/// A read that takes so long waits for a disk, as a rule; one from memory takes a tenth of a millisecond, and the rest
/// of a turn.
const SLOW: Duration = Duration::from_millis(5);

/// Reads a piece when the one before it is sent: into the same memory then, which is still in the processor's cache.
/// What has to be waited for is read while the piece before it is sent, if the client takes the longest. Pieces are
/// lent: a client that stops reading holds none of them. One that reads slowly is sent short pieces, so that it holds
/// little even while they are lent, and waits for the buffers of its like.
#[derive(Debug)]
pub(super) struct Sending {
    file: File,
    /// What the head of the answer speaks of.
    stat: FileStat,
    /// The parts still to be sent, the last first; the one being sent is not among them.
    parts: Vec<ByteRange>,
    multipart: Option<Multipart>,
    /// Parts that were begun.
    begun: usize,
    /// What is to be read next, and where the part ends.
    at: u64,
    end: u64,
    /// Bytes lent since some came back.
    flowing: u64,
    /// The read in flight, and where and when it began.
    reading: Option<(Ticket, u64, Time)>,
    /// The last read had to be waited for.
    is_slow: bool,
}

impl Sending {
    /// One part of a file.
    pub(super) fn part(found: &Found, part: Range<u64>) -> Sending {
        Sending {
            file: found.file.clone(),
            stat: found.stat,
            parts: Vec::new(),
            multipart: None,
            begun: 0,
            at: part.start,
            end: part.end,
            flowing: 0,
            reading: None,
            is_slow: false,
        }
    }

    /// Several parts, with heads between them.
    pub(super) fn parts(found: &Found, multipart: Multipart) -> Sending {
        let parts = multipart.ranges().iter().rev().copied().collect();
        Sending { parts, multipart: Some(multipart), ..Sending::part(found, 0..0) }
    }

    /// Does what can be done now.
    fn go_on(
        &mut self,
        answer: Option<(Ticket, Answer)>,
        exchange: &mut Exchange<'_, '_>,
    ) -> Result<Next, Error> {
        // What came back is missing from the answer: it is read again.
        let returned = exchange.take_returned();
        self.at -= returned;
        if returned > 0 {
            self.flowing = 0;
        }
        if let Some((ticket, Answer::Read(bytes))) = answer
            && let Some((_, at, since)) = self.reading.take_if(|(asked, ..)| *asked == ticket)
            && at == self.at
        {
            self.is_slow = exchange.control().now() >= since + SLOW;
            let bytes = bytes?;
            // Whoever writes to a file changes its time first. What was read may be of another state than the head
            // says, and so may what is missing.
            let now = exchange.control().stat_now(&self.file).transpose()?;
            if bytes.is_empty() || now.is_some_and(|now| !has_same_bytes(&self.stat, &now)) {
                return Err(Error::new(500, "the file was changed while it was sent"));
            }
            let len = bytes.len() as u64;
            if exchange.lend(bytes)? {
                self.at += len;
                self.flowing += len;
            }
            // Else the client stopped reading, and the bytes are read again when it goes on.
        }
        // The next part begins when nothing of this one can come back.
        if self.at == self.end && exchange.held() == 0 && !self.begin_part(exchange)? {
            return Ok(Next::Done);
        }
        let piece = (self.flowing / SHARE).clamp(SHORTEST, LONGEST);
        let ahead = if self.is_slow && piece == LONGEST { LONGEST } else { 0 };
        let takes_more = exchange.can_lend() && exchange.held() as u64 <= ahead;
        if takes_more && self.at < self.end && self.reading.is_none() {
            let len = piece.min(self.end - self.at) as usize;
            let ticket = exchange.control().read_file(&self.file, self.at, len);
            self.reading = Some((ticket, self.at, exchange.control().now()));
        }
        Ok(if exchange.held() > 0 || !exchange.can_lend() { Next::Room } else { Next::Wait })
    }

    /// Writes what stands before the next part, if there is one; else what stands behind the last.
    fn begin_part(&mut self, exchange: &mut Exchange<'_, '_>) -> Result<bool, Error> {
        let Some(multipart) = &self.multipart else { return Ok(false) };
        let mut head = Vec::new();
        match self.parts.pop() {
            Some(part) => {
                multipart.write_head(self.begun, &mut head)?;
                (self.at, self.end) = (part.first, part.last + 1);
                self.begun += 1;
            }
            None => multipart.write_end(&mut head)?,
        }
        exchange.write(head)?;
        Ok(self.begun > 0 && self.at < self.end)
    }
}

impl Responder for Sending {
    fn reads_body(&self) -> bool {
        false
    }

    fn respond(&mut self, event: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let answer = match event {
            Event::Answer(ticket, answer) => Some((ticket, answer)),
            _ => None,
        };
        self.go_on(answer, exchange)
    }
}
