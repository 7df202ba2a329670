//! The sink: the bounded side of the output that a service writes its answers into.

use std::fmt;

use bytes::Bytes;

use super::{COPY_BELOW, Outgoing, Segment, Tail};

/// The bounded sink a service writes its answers into.
///
/// There is room for at least [`Config::room`](crate::Config) bytes when a service is called for
/// [`Open`](crate::Event::Open), [`Input`](crate::Event::Input), [`Room`](crate::Event::Room) or
/// [`End`](crate::Event::End). The other events cannot wait for a peer that does not read: they mostly find as much,
/// but a service that has filled everything finds less, down to none. A write beyond [`room`](Self::room) is refused
/// whole, never cut. What was written is sent after the call, all of it together.
pub struct Output<'a> {
    /// The room there was when the service was called.
    memory: &'a mut [u8],
    filled: usize,
    /// Of what is filled, the part that is in the books.
    settled: usize,
    /// The most room there can ever be.
    longest: usize,
    /// What earlier calls left unsent: the kernel may be sending it, so it is never taken back.
    before: usize,
    outgoing: &'a mut Outgoing,
    held_limit: usize,
}

impl<'a> Output<'a> {
    pub(super) fn over(
        memory: &'a mut [u8],
        longest: usize,
        before: usize,
        outgoing: &'a mut Outgoing,
        held_limit: usize,
    ) -> Output<'a> {
        Output { memory, filled: 0, settled: 0, longest, before, outgoing, held_limit }
    }
}

impl Output<'_> {
    /// How many bytes may be written now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.memory.len() - self.filled
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// [`NoRoom`] when they are more than [`room`](Self::room), and then nothing is written: return
    /// [`Flow::Room`](crate::Flow::Room) and try again when called. With nothing [`unsent`](Self::unsent) the room is
    /// as large as it gets ([`Config::send_buffer_len`](crate::Config)): what does not fit then never will, and is
    /// handed over by [`send`](Self::send).
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let Some(place) = self.memory.get_mut(self.filled..self.filled + bytes.len()) else {
            return Err(NoRoom);
        };
        place.copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// The room itself, to write into in place; [`advance`](Self::advance) says how much was written. Write over all of
    /// that: what lies there may be of another connection's answer.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.memory[self.filled..]
    }

    /// Counts `n` bytes that were put into [`spare`](Self::spare) as written.
    ///
    /// # Panics
    /// When `n` is more than [`room`](Self::room).
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.room(), "advance({n}) in a room of {}", self.room());
        self.filled += n;
    }

    /// Hands `bytes` over, to be sent from where they are; they are held until the kernel is done with them, whatever
    /// becomes of other clones. Those of up to 4 KiB are copied into the room if they fit, which is cheaper.
    ///
    /// Their length does not count against [`room`](Self::room). How much may be handed over is bounded by
    /// [`Config::held_limit`](crate::Config): beyond it nothing more is taken, though one value may be of any length.
    ///
    /// # Errors
    /// Gives the bytes back when that bound is reached: return [`Flow::Room`](crate::Flow::Room) and try again.
    pub fn send(&mut self, bytes: Bytes) -> Result<(), Bytes> {
        if bytes.len() <= COPY_BELOW.min(self.room()) {
            return self.write(&bytes).map_err(|NoRoom| bytes);
        }
        self.hand_over(bytes, false)
    }

    /// Whether [`send`](Self::send) takes bytes of any length now.
    #[must_use]
    pub fn can_send(&self) -> bool {
        !self.outgoing.ended && self.outgoing.held_len < self.held_limit
    }

    /// Hands `bytes` over like [`send`](Self::send), but as a loan: they may be given back while the peer takes
    /// nothing. For what can be had again, such as the bytes of a file, so that a peer that stops reading holds no
    /// large buffer.
    ///
    /// What was not sent within [`Config::lend_time`](crate::Config) is given back, unless something that is not lent
    /// was written or handed over behind it: then it stays until it is sent, as if handed over by `send`. It also stays
    /// once the service has ended its output, finished, or become another. So whoever lends writes what comes next, or
    /// finishes, when nothing is [`held`](Self::held) any more. Up to 4 KiB are copied into the room if they fit and no
    /// lent bytes are before them; what is copied is never given back. Nor is anything by a [`Layer`](crate::Layer) to
    /// the service inside of it.
    ///
    /// [`take_returned`](Self::take_returned) says how much came back. It is to be asked at the beginning of every
    /// call, since those bytes are missing from the output, whose next byte is the first of them. When the socket takes
    /// bytes again the service is told [`Event::Room`](crate::Event::Room), whatever it waits for: that is the time to
    /// read the file again. Before that nothing is lent, and only events are told that cannot wait. A service that
    /// finishes without having asked aborts, so that the peer does not take what it got for the whole.
    ///
    /// # Errors
    /// Gives the bytes back when the bound is reached, and between giving back and room: return
    /// [`Flow::Room`](crate::Flow::Room) and try again.
    pub fn lend(&mut self, bytes: Bytes) -> Result<(), Bytes> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.outgoing.lending.parked {
            return Err(bytes);
        }
        // A copy behind what is lent would keep that from being given back.
        if !self.lends() && bytes.len() <= COPY_BELOW.min(self.room()) {
            return self.write(&bytes).map_err(|NoRoom| bytes);
        }
        self.hand_over(bytes, true)
    }

    /// How many bytes that were [lent](Self::lend) came back unsent since this was last asked: the last so many of the
    /// output are missing from it. Asking for it means to know.
    #[must_use]
    pub fn take_returned(&mut self) -> usize {
        std::mem::take(&mut self.outgoing.lending.returned)
    }

    /// Whether lent bytes came back and nothing is lent now: [`Event::Room`](crate::Event::Room) tells when the peer
    /// takes bytes again.
    #[must_use]
    pub fn awaits_peer(&self) -> bool {
        self.outgoing.lending.parked
    }

    /// How many bytes were handed over by [`send`](Self::send) and [`lend`](Self::lend), not copied, and are not known
    /// to be sent.
    #[must_use]
    pub fn held(&self) -> usize {
        self.outgoing.held_len
    }

    fn lends(&self) -> bool {
        self.outgoing.lends() && self.filled == self.settled
    }

    fn hand_over(&mut self, bytes: Bytes, lent: bool) -> Result<(), Bytes> {
        if !self.can_send() {
            return Err(bytes);
        }
        self.settle();
        if let Some(tail) = &mut self.outgoing.tail
            && tail.start < tail.end
        {
            let Tail { buffer, start, end } = *tail;
            tail.start = end;
            self.outgoing.queue.push_back(Segment::Range { buffer, start, end, last: false });
        }
        self.outgoing.len += bytes.len();
        self.outgoing.held_len += bytes.len();
        self.outgoing.lending.len = if lent { self.outgoing.lending.len + bytes.len() } else { 0 };
        self.outgoing.queue.push_back(Segment::Held(bytes));
        Ok(())
    }

    /// How many bytes of earlier answers, and of this call's, are not known to be sent.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.outgoing.len + self.filled - self.settled
    }

    /// The most room there can ever be, in bytes: with nothing [`unsent`](Self::unsent) it is that much.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Says that nothing more will be written: once everything is sent the peer sees the end of its input, while its
    /// own output is still read (half-close). From now on there is no room.
    pub fn end(&mut self) {
        self.settle();
        self.memory = &mut [];
        (self.filled, self.settled) = (0, 0);
        self.outgoing.ended = true;
        self.outgoing.keep_lent();
    }

    /// Takes back what was written and handed over since [`unsent`](Self::unsent) was `unsent`; does nothing if it is
    /// not more now. What earlier calls wrote stays.
    pub fn truncate(&mut self, unsent: usize) {
        let unsent = unsent.max(self.before);
        self.settle();
        while self.outgoing.len > unsent {
            let excess = self.outgoing.len - unsent;
            if let Some(tail) = self.outgoing.tail.as_mut().filter(|tail| tail.start < tail.end) {
                let n = excess.min((tail.end - tail.start) as usize).min(self.filled);
                if n == 0 {
                    return;
                }
                tail.end -= n as u32;
                self.outgoing.len -= n;
                (self.filled, self.settled) = (self.filled - n, self.settled - n);
                continue;
            }
            match (self.outgoing.queue.pop_back(), &mut self.outgoing.tail) {
                (Some(Segment::Held(bytes)), _) if bytes.len() <= excess => {
                    self.outgoing.len -= bytes.len();
                    self.outgoing.held_len -= bytes.len();
                    self.outgoing.lending.len = self.outgoing.lending.len.saturating_sub(bytes.len());
                }
                // It was cut off the tail to put bytes behind it, and is the tail again.
                (Some(Segment::Range { start, last: false, .. }), Some(tail)) => tail.start = start,
                (segment, _) => return self.outgoing.queue.extend(segment),
            }
        }
    }

    /// Enters what was written into the books.
    fn settle(&mut self) {
        let more = self.filled - self.settled;
        if more == 0 {
            return;
        }
        let tail = self.outgoing.tail.as_mut().expect("whoever writes has a tail");
        tail.end += more as u32;
        self.outgoing.len += more;
        // What is lent has something behind it now.
        self.outgoing.keep_lent();
        self.settled = self.filled;
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("room", &self.room()).field("unsent", &self.unsent()).finish()
    }
}

/// A write was refused because it is longer than the room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the output has no room for this write; return Flow::Room and write when called again")
    }
}

impl std::error::Error for NoRoom {}
