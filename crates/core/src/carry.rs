//! The carry: unread input that outlived the buffer it came in.
//!
//! A buffer goes home in the turn it came in, so what a service leaves unread is copied here, and what arrives later
//! goes behind it. Three cursors, in order: `0 <= start <= bytes.len() <= bytes.capacity()`. Its bound is not its own:
//! a connection stops reading when its unread input reaches the limit, and what can still arrive then is at most one
//! receive budget and one buffer.

use crate::local::Local;

/// Unread bytes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    bytes: Vec<u8>,
    start: usize,
}

impl Carry {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn append(&mut self, more: &[u8]) {
        if self.start > 0 && self.bytes.len() + more.len() > self.bytes.capacity() {
            if self.start >= self.len() {
                // Moving the rest to the front is paid for by the bytes consumed since the last move.
                self.bytes.drain(..self.start);
            } else {
                // Growing copies anyway. What was consumed is not taken along, so that the memory stays below
                // twice what is unread.
                let mut grown = Vec::with_capacity(self.len() + self.len().max(more.len()));
                grown.extend_from_slice(self.unread());
                self.bytes = grown;
            }
            self.start = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// Drops the first `n` bytes; an empty carry holds no memory, since most connections are idle.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            *self = Carry::default();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Carry::default();
    }

    /// The same as [`append`](Self::append), into memory that others have emptied.
    pub(crate) fn append_to_spare(&mut self, more: &[u8], local: &Local) {
        if self.bytes.capacity() == 0 {
            self.bytes = local.take_spare();
        }
        self.append(more);
    }

    /// The same as [`consume`](Self::consume), and what is empty is left to others to fill.
    pub(crate) fn consume_to_spare(&mut self, n: usize, local: &Local) {
        self.start += n;
        debug_assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            self.clear_to_spare(local);
        }
    }

    pub(crate) fn clear_to_spare(&mut self, local: &Local) {
        local.give_spare(std::mem::take(self).bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_order_and_count(steps in proptest::collection::vec((0usize..300, 0usize..300), 0..60)) {
            // A vector begins with room for eight bytes.
            let (mut carry, mut model, mut next, mut longest) = (Carry::default(), Vec::new(), 0u8, 4);
            for (add, take) in steps {
                let more: Vec<u8> = (0..add).map(|_| { next = next.wrapping_add(1); next }).collect();
                carry.append(&more);
                model.extend_from_slice(&more);
                let take = take.min(model.len());
                carry.consume(take);
                model.drain(..take);
                prop_assert_eq!(carry.unread(), &mut model[..]);
                longest = longest.max(model.len() + take);
                prop_assert!(carry.bytes.capacity() <= 2 * longest, "{} of {longest}", carry.bytes.capacity());
            }
        }
    }
}
