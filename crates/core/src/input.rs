#![allow(unsafe_code)]
//! The input: the bytes that arrived and were not consumed yet, as a service sees them.
//!
//! # Who owns what
//!
//! An input borrows its bytes mutably from whoever holds them: a buffer the kernel filled, the connection's carry, or
//! a layer's own memory. Consuming splits the front off that borrow. [`Input::keep`] gives the split-off front up for
//! good, which is what makes it sound to let counted [`Bytes`] show the same memory from then on.
//!
//! # Obligations
//!
//! What was kept is never shown mutably again: the front that `keep` takes is dropped there and not given out, and the
//! next input over the same piece begins behind it.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use crate::buffer_ring::Keeper;

/// Unread bytes, in one piece, in the memory the kernel put them in if that is possible.
///
/// Reading is by dereference (`input.len()`, `&input[..]`), and nothing is consumed unless the service says so:
/// what it leaves comes again with the next call, with what arrived meanwhile behind it. The bytes may be edited in
/// place, as decryption does.
#[derive(Debug)]
pub struct Input<'a> {
    unread: &'a mut [u8],
    consumed: usize,
    ended: bool,
    keeper: Option<Keeper<'a>>,
}

impl<'a> Input<'a> {
    /// An input over memory of a layer's own; `ended` says that no byte will follow.
    ///
    /// After the inner service was called, [`consumed`](Self::consumed) tells how many bytes it took.
    pub fn new(unread: &'a mut [u8], ended: bool) -> Input<'a> {
        Input { unread, consumed: 0, ended, keeper: None }
    }

    /// An input over the bytes of one received piece.
    pub(crate) fn of_piece(unread: &'a mut [u8], ended: bool, keeper: Keeper<'a>) -> Input<'a> {
        Input { unread, consumed: 0, ended, keeper: Some(keeper) }
    }

    /// Consumes the first `n` bytes and returns them.
    ///
    /// # Panics
    /// When fewer than `n` bytes are unread.
    pub fn consume(&mut self, n: usize) -> &'a mut [u8] {
        assert!(n <= self.unread.len(), "consume({n}) of {} unread bytes", self.unread.len());
        let (front, rest) = std::mem::take(&mut self.unread).split_at_mut(n);
        self.unread = rest;
        self.consumed += n;
        front
    }

    /// Consumes everything and returns it.
    pub fn consume_all(&mut self) -> &'a mut [u8] {
        self.consume(self.unread.len())
    }

    /// Consumes the first `n` bytes and returns them as counted [`Bytes`], to keep for as long as need be.
    ///
    /// While services hold less than half of the worker's receive buffers this costs no copy, only an allocation;
    /// beyond that, and for bytes that are not in such a buffer, it copies. Keeping a few bytes holds a whole
    /// buffer ([`Config::receive_buffer_len`](crate::Config)), so copy what is small and stays long.
    ///
    /// # Panics
    /// When fewer than `n` bytes are unread.
    pub fn keep(&mut self, n: usize) -> Bytes {
        let start = self.consumed;
        let front = self.consume(n);
        if n == 0 {
            return Bytes::new();
        }
        // SAFETY: `front` was the only mutable view of this range of the piece; it is read no more and not given out.
        let kept = self.keeper.and_then(|keeper| unsafe { keeper.keep(start..start + n) });
        match kept {
            Some(kept) => kept,
            None => Bytes::copy_from_slice(front),
        }
    }

    /// How many bytes were consumed of this input.
    #[must_use]
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// Whether the peer has said that it sends nothing more: what is unread is the last.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }
}

impl Deref for Input<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.unread
    }
}

impl DerefMut for Input<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.unread
    }
}

impl AsRef<[u8]> for Input<'_> {
    fn as_ref(&self) -> &[u8] {
        self.unread
    }
}
