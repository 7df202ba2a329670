//! The output: what a connection still has to send, and the bounded sink a service writes it into.
//!
//! ```text
//!   queue (oldest first)                                      tail: the buffer being filled
//!   [range of buffer 7, last][Bytes][range of buffer 9] ...   [   sent   |start   end|   room    ]
//!   ^ the front is what the next send takes
//! ```
//!
//! Mostly the queue is empty and the tail is all there is: answers are appended at `end`, one send takes
//! `start..end`, and when nothing is left the buffer goes back to the pool. While that send is in flight the service
//! goes on filling behind `end`. A buffer with too little room is sealed into the queue and a fresh one taken.

mod collected;

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::flight::MAX_RANGES;
use crate::guard::let_go;
use crate::send_pool::{BufferIndex, SendPool};

pub(crate) use collected::Collected;

/// `Bytes` up to this length are copied behind what was written before: cheaper than gathering.
const COPY_BELOW: usize = 4096;

/// The most one send takes: large enough to be cheap, small enough that a pause is near.
pub(crate) const MAX_SLICE: usize = 512 * 1024;

/// Everything a connection has to send, in order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: VecDeque<Segment>,
    tail: Option<Tail>,
    /// Bytes not yet known to be sent.
    len: usize,
    /// Of these, bytes that services handed over as `Bytes`.
    held_len: usize,
    /// Pool buffers held: the tail's, and those sealed into the queue.
    buffers: u16,
    /// The service writes no more.
    ended: bool,
}

#[derive(Debug)]
enum Segment {
    /// A range of a pool buffer; `last` says that the buffer is released with it.
    Range { buffer: BufferIndex, start: u32, end: u32, last: bool },
    /// Bytes of the user's, sent from where they are, held until the final completion. Their owner may panic.
    Held(Bytes),
}

/// The buffer being filled; `start..end` is written and not sent.
#[derive(Debug, Clone, Copy)]
struct Tail {
    buffer: BufferIndex,
    start: u32,
    end: u32,
}

/// What the next send takes.
pub(crate) enum Front<'a> {
    Nothing,
    /// One range of a pool buffer.
    Range {
        buffer: BufferIndex,
        start: u32,
        end: u32,
    },
    /// One slice of held bytes.
    Held(&'a [u8]),
    /// Several ranges, which add up to `len`.
    Several {
        len: usize,
    },
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn buffers(&self) -> u16 {
        self.buffers
    }

    /// Room in the buffer being filled.
    pub(crate) fn tail_room(&self, buffer_len: usize) -> usize {
        self.tail.map_or(0, |tail| buffer_len - tail.end as usize)
    }

    /// Begins to fill a fresh buffer; what the old one still has to send goes into the queue.
    pub(crate) fn begin(&mut self, buffer: BufferIndex) {
        if let Some(Tail { buffer, start, end }) = self.tail.take() {
            self.queue.push_back(Segment::Range { buffer, start, end, last: true });
        }
        self.tail = Some(Tail { buffer, start: 0, end: 0 });
        self.buffers += 1;
    }

    /// The sink for one call of a service: the room of the tail, if there is one.
    pub(crate) fn open<'a>(&'a mut self, pool: &'a mut SendPool, held_limit: usize) -> Output<'a> {
        let (longest, before) = (pool.buffer_len(), self.len);
        let memory = match self.tail.filter(|_| !self.ended) {
            Some(tail) => pool.bytes_mut(tail.buffer, tail.end),
            None => &mut [],
        };
        Output { memory, filled: 0, settled: 0, longest, before, outgoing: self, held_limit }
    }

    /// What the next send takes, at most `MAX_SLICE` bytes.
    pub(crate) fn front(&self) -> Front<'_> {
        match (self.queue.front(), self.tail) {
            (None, None) => Front::Nothing,
            (None, Some(Tail { start, end, .. })) if start == end => Front::Nothing,
            (None, Some(Tail { buffer, start, end })) => Front::Range { buffer, start, end },
            (Some(Segment::Held(bytes)), _) if bytes.len() >= MAX_SLICE / 2 || self.is_single() => {
                Front::Held(&bytes[..bytes.len().min(MAX_SLICE)])
            }
            (Some(&Segment::Range { buffer, start, end, .. }), _) if self.is_single() => {
                Front::Range { buffer, start, end }
            }
            _ => Front::Several { len: self.gather(|_| {}) },
        }
    }

    /// The ranges that [`Front::Several`] speaks of.
    pub(crate) fn ranges(&self, pool: &SendPool) -> impl Iterator<Item = (*const u8, usize)> + use<> {
        let mut ranges = [(std::ptr::null(), 0); MAX_RANGES];
        let mut count = 0;
        self.gather(|(segment, len)| {
            let address = match segment {
                Segment::Range { buffer, start, .. } => pool.address(*buffer, *start),
                Segment::Held(bytes) => bytes.as_ptr(),
            };
            ranges[count] = (address, len);
            count += 1;
        });
        ranges.into_iter().take(count)
    }

    /// Shows the ranges of the next gathering send, and says how long they are together.
    fn gather(&self, mut each: impl FnMut((&Segment, usize))) -> usize {
        let tail =
            self.tail.map(|Tail { buffer, start, end }| Segment::Range { buffer, start, end, last: false });
        let mut left = MAX_SLICE;
        for segment in self.queue.iter().chain(&tail).filter(|segment| segment.len() > 0).take(MAX_RANGES) {
            let len = segment.len().min(left);
            each((segment, len));
            left -= len;
            if left == 0 {
                break;
            }
        }
        MAX_SLICE - left
    }

    fn is_single(&self) -> bool {
        self.queue.len() == 1 && self.tail.is_none_or(|tail| tail.start == tail.end)
    }

    /// Takes `n` bytes off the front: they are sent. Buffers and `Bytes` whose last byte that was are released, so
    /// this is called only when no send is in flight.
    pub(crate) fn sent(&mut self, n: usize, pool: &mut SendPool) {
        self.drop_front(n, |buffer| pool.release(buffer));
        if let Some(tail) = self.tail
            && tail.start == tail.end
        {
            self.tail = None;
            match self.queue.iter_mut().rev().find_map(|segment| segment.range_of(tail.buffer)) {
                // What was written before still waits in the queue: the buffer goes with the last of it.
                Some(last) => *last = true,
                None => {
                    pool.release(tail.buffer);
                    self.buffers -= 1;
                }
            }
        }
    }

    fn drop_front(&mut self, mut n: usize, mut release: impl FnMut(BufferIndex)) {
        debug_assert!(n <= self.len, "no more is dropped than there is");
        self.len -= n.min(self.len);
        while let Some(segment) = self.queue.front_mut() {
            let taken = n.min(segment.len());
            n -= taken;
            match segment {
                Segment::Range { start, .. } => *start += taken as u32,
                Segment::Held(bytes) => {
                    self.held_len -= taken;
                    bytes::Buf::advance(bytes, taken);
                }
            }
            if segment.len() > 0 {
                return;
            }
            match self.queue.pop_front() {
                Some(Segment::Range { buffer, last: true, .. }) => {
                    self.buffers -= 1;
                    release(buffer);
                }
                Some(Segment::Held(bytes)) => let_go(bytes),
                _ => {}
            }
        }
        if let Some(tail) = &mut self.tail {
            tail.start = (tail.start + n as u32).min(tail.end);
        }
    }

    /// Gives back a buffer that was taken for a call in which nothing was written.
    pub(crate) fn trim(&mut self, pool: &mut SendPool) {
        if let Some(Tail { buffer, start, end }) = self.tail
            && start == end
            && self.len == 0
        {
            debug_assert!(self.queue.is_empty());
            pool.release(buffer);
            self.buffers -= 1;
            self.tail = None;
        }
    }

    /// Gives everything back; no send is in flight.
    pub(crate) fn discard(&mut self, pool: &mut SendPool) {
        for segment in self.queue.drain(..) {
            match segment {
                Segment::Range { buffer, last: true, .. } => pool.release(buffer),
                Segment::Range { .. } => {}
                Segment::Held(bytes) => let_go(bytes),
            }
        }
        if let Some(tail) = self.tail.take() {
            pool.release(tail.buffer);
        }
        *self = Outgoing::default();
    }
}

impl Segment {
    /// Whether it is the last of its buffer's, if it is a range of `of`.
    fn range_of(&mut self, of: BufferIndex) -> Option<&mut bool> {
        match self {
            Segment::Range { buffer, last, .. } if *buffer == of => Some(last),
            Segment::Range { .. } | Segment::Held(_) => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Segment::Range { start, end, .. } => (end - start) as usize,
            Segment::Held(bytes) => bytes.len(),
        }
    }
}

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
        self.outgoing.queue.push_back(Segment::Held(bytes));
        Ok(())
    }

    /// Whether [`send`](Self::send) takes bytes of any length now.
    #[must_use]
    pub fn can_send(&self) -> bool {
        !self.outgoing.ended && self.outgoing.held_len < self.held_limit
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(outgoing: &Outgoing, pool: &SendPool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for segment in &outgoing.queue {
            match segment {
                Segment::Range { buffer, start, end, .. } => {
                    bytes.extend_from_slice(pool.bytes(*buffer, *start, *end));
                }
                Segment::Held(held) => bytes.extend_from_slice(held),
            }
        }
        if let Some(Tail { buffer, start, end }) = outgoing.tail {
            bytes.extend_from_slice(pool.bytes(buffer, start, end));
        }
        assert_eq!(bytes.len(), outgoing.len());
        bytes
    }

    #[test]
    fn what_is_taken_back_is_gone_and_what_was_before_stays() {
        let large = Bytes::from(vec![b'z'; COPY_BELOW + 1]);
        let mut pool = SendPool::new(4, 16 * 1024);
        let mut outgoing = Outgoing::default();
        outgoing.begin(pool.take().expect("the first of four"));
        // An earlier call left this, and part of it may be on its way.
        outgoing.open(&mut pool, usize::MAX).write(b"before ").expect("room");
        let mut output = outgoing.open(&mut pool, usize::MAX);
        output.write(b"kept ").expect("room");
        let mark = output.unsent();
        for _ in 0..3 {
            output.write(b"<").expect("room");
            output.send(large.clone()).expect("below the limit");
            output.write(b"=").expect("room");
            output.send(large.clone()).expect("below the limit");
            output.write(b">").expect("room");
            output.truncate(mark);
            assert_eq!(output.unsent(), mark);
        }
        output.write(b"after").expect("room");
        // Never beyond what this call wrote.
        output.truncate(0);
        output.write(b"!").expect("room");
        drop(output);
        assert_eq!(pending(&outgoing, &pool), b"before !");
        assert_eq!(outgoing.held_len, 0);
        outgoing.sent(8, &mut pool);
        assert!(outgoing.is_empty());
        assert_eq!(pool.held(), 0);
    }
}
