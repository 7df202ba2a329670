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
//!
//! The side that services write into is in `sink`, what can be given back to them in `lending`, and the output of what
//! runs inside of a layer in `collected`.

mod collected;
mod lending;
mod sink;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::flight::MAX_RANGES;
use crate::guard::let_go;
use crate::send_pool::{BufferIndex, SendPool};

use lending::Lending;

pub(crate) use collected::Collected;
pub use sink::{NoRoom, Output};

/// `Bytes` up to this length are copied behind what was written before: cheaper than gathering.
const COPY_BELOW: usize = 4096;

/// Bytes that the queue of one connection takes at most, apart from what is handed over itself: each of those is longer
/// than what would be copied, and may have a range of a buffer before it. What grows takes up to twice of
/// what is in it.
pub(crate) fn queue_footprint(held_limit: usize) -> usize {
    (2 * (held_limit / COPY_BELOW) + 8).saturating_mul(2 * size_of::<Segment>())
}

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
    lending: Lending,
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
        Output::over(memory, longest, before, self, held_limit)
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
        self.lending.len = self.lending.len.min(self.len);
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
