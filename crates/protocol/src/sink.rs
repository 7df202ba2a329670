//! A sink is where encoders write: memory with a bound.

#[cfg(any(feature = "alloc", test))]
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

/// Bounded memory that takes bytes at its end.
///
/// A write is taken whole or refused whole. Encoders that write several pieces ask [`room`](Sink::room) first, or take
/// back what they wrote with [`truncate`](Sink::truncate), so that a sink never holds half a frame.
///
/// ```
/// use campanile_protocol::{Sink, SliceSink};
///
/// let mut memory = [0; 8];
/// let mut sink = SliceSink::new(&mut memory);
/// sink.write(b"hello").unwrap();
/// assert!(sink.write(b"world").is_err()); // refused whole, nothing was cut
/// assert_eq!(sink.room(), 3);
/// assert_eq!(sink.written(), b"hello");
/// ```
pub trait Sink {
    /// Bytes that can still be written.
    fn room(&self) -> usize;

    /// Bytes written so far, counted from any fixed beginning: a mark for [`truncate`](Sink::truncate).
    fn len(&self) -> usize;

    /// Whether nothing was written.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Full`] when `bytes` is longer than the [`room`](Sink::room): then nothing was written.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full>;

    /// Takes back what was written since [`len`](Sink::len) was `len`; does nothing if `len` is not less than it is
    /// now.
    ///
    /// Only called with a length observed during the same borrow of the sink, and only over bytes that went in by
    /// [`write`](Sink::write).
    fn truncate(&mut self, len: usize);

    /// Appends all the pieces, or none of them.
    ///
    /// # Errors
    /// [`Full`] when their sum is more than the [`room`](Sink::room): then nothing was written.
    fn write_pieces(&mut self, pieces: &[&[u8]]) -> Result<(), Full> {
        let (needed, room) = (total(pieces), self.room());
        if needed > room {
            return Err(Full { needed, room });
        }
        pieces.iter().try_for_each(|piece| self.write(piece))
    }
}

/// Bytes in all the pieces.
#[inline]
fn total(pieces: &[&[u8]]) -> usize {
    pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.len()))
}

/// A sink was asked to take more than its room; it took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Bytes that were to be written.
    pub needed: usize,
    /// Bytes there was room for.
    pub room: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes to write, room for {}: write again when there is room", self.needed, self.room)
    }
}

impl Error for Full {}

/// A `Vec` takes what memory holds; see [`VecSink`] for one with a bound.
#[cfg(any(feature = "alloc", test))]
impl Sink for Vec<u8> {
    #[inline]
    fn room(&self) -> usize {
        isize::MAX as usize - Vec::len(self)
    }

    #[inline]
    fn len(&self) -> usize {
        Vec::len(self)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        Vec::truncate(self, len);
    }
}

/// A sink over a `Vec` that grows up to a bound, for messages that are collected before they are sent.
///
/// ```
/// use campanile_protocol::{Sink, VecSink};
///
/// let mut memory = Vec::new();
/// let mut sink = VecSink::new(&mut memory, 8);
/// sink.write(b"hello").unwrap();
/// assert!(sink.write(b"world").is_err());
/// assert_eq!(memory, b"hello");
/// ```
#[cfg(any(feature = "alloc", test))]
#[derive(Debug)]
pub struct VecSink<'v> {
    memory: &'v mut Vec<u8>,
    limit: usize,
}

#[cfg(any(feature = "alloc", test))]
impl<'v> VecSink<'v> {
    /// A sink that writes to the end of `memory`, which may have `limit` bytes in all, those it has now included.
    pub fn new(memory: &'v mut Vec<u8>, limit: usize) -> Self {
        VecSink { memory, limit }
    }
}

#[cfg(any(feature = "alloc", test))]
impl Sink for VecSink<'_> {
    #[inline]
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.memory.len())
    }

    #[inline]
    fn len(&self) -> usize {
        self.memory.len()
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let room = self.room();
        if bytes.len() > room {
            return Err(Full { needed: bytes.len(), room });
        }
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.memory.truncate(len);
    }

    #[inline]
    fn write_pieces(&mut self, pieces: &[&[u8]]) -> Result<(), Full> {
        let (needed, room) = (total(pieces), self.room());
        if needed > room {
            return Err(Full { needed, room });
        }
        // One growth for all of them.
        self.memory.reserve(needed);
        pieces.iter().for_each(|piece| self.memory.extend_from_slice(piece));
        Ok(())
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn room(&self) -> usize {
        (**self).room()
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        (**self).write(bytes)
    }

    fn truncate(&mut self, len: usize) {
        (**self).truncate(len);
    }

    fn write_pieces(&mut self, pieces: &[&[u8]]) -> Result<(), Full> {
        (**self).write_pieces(pieces)
    }
}

/// A sink over a slice: its room is what is left of the slice.
#[derive(Debug)]
pub struct SliceSink<'m> {
    memory: &'m mut [u8],
    len: usize,
}

impl<'m> SliceSink<'m> {
    /// An empty sink with the whole of `memory` as room.
    pub fn new(memory: &'m mut [u8]) -> Self {
        SliceSink { memory, len: 0 }
    }

    /// The bytes written so far.
    pub fn written(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl Sink for SliceSink<'_> {
    #[inline]
    fn room(&self) -> usize {
        self.memory.len() - self.len
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let room = self.room();
        let Some(free) = self.memory[self.len..].get_mut(..bytes.len()) else {
            return Err(Full { needed: bytes.len(), room });
        };
        free.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    #[inline]
    fn write_pieces(&mut self, pieces: &[&[u8]]) -> Result<(), Full> {
        let (needed, room) = (total(pieces), self.room());
        let Some(mut free) = self.memory[self.len..].get_mut(..needed) else {
            return Err(Full { needed, room });
        };
        for piece in pieces {
            let (to, rest) = free.split_at_mut(piece.len());
            to.copy_from_slice(piece);
            free = rest;
        }
        self.len += needed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_beyond_the_room_is_refused_whole() {
        let mut memory = [0; 4];
        let mut sink = SliceSink::new(&mut memory);
        assert_eq!(sink.write(b"abcde"), Err(Full { needed: 5, room: 4 }));
        assert!(sink.is_empty());
        sink.write(b"abcd").unwrap();
        assert_eq!(sink.room(), 0);
        sink.write(b"").unwrap();
        sink.truncate(9);
        assert_eq!(sink.written(), b"abcd");
        sink.truncate(1);
        assert_eq!(sink.written(), b"a");
    }

    #[test]
    fn pieces_are_written_all_or_none() {
        let mut memory = [0; 4];
        let mut sink = SliceSink::new(&mut memory);
        assert_eq!(sink.write_pieces(&[b"abc", b"de"]), Err(Full { needed: 5, room: 4 }));
        assert!(sink.is_empty());
        sink.write_pieces(&[b"ab", b"", b"cd"]).unwrap();
        assert_eq!(sink.written(), b"abcd");
    }

    #[test]
    fn a_vec_with_a_bound_holds_no_more_than_that() {
        let mut memory = b"ab".to_vec();
        let mut sink = VecSink::new(&mut memory, 6);
        assert_eq!((sink.room(), sink.len()), (4, 2));
        assert_eq!(sink.write(b"12345"), Err(Full { needed: 5, room: 4 }));
        assert_eq!(sink.write_pieces(&[b"123", b"45"]), Err(Full { needed: 5, room: 4 }));
        assert_eq!(sink.len(), 2);
        sink.write_pieces(&[b"12", b"3"]).unwrap();
        sink.write(b"4").unwrap();
        assert_eq!(sink.write(b"5"), Err(Full { needed: 1, room: 0 }));
        sink.truncate(3);
        assert_eq!(sink.room(), 3);
        assert_eq!(memory, b"ab1");
        assert_eq!(VecSink::new(&mut memory, 1).room(), 0, "more than the bound before it was set");
    }
}
