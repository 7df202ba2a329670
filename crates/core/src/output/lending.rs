//! Lending: output that comes back to its service while the peer takes nothing.
//!
//! Bytes that are [lent](super::Output::lend) are sent like any that are handed over, but the connection may give them
//! back: so a peer that stops reading holds no large buffer, and its service reads the bytes again when the peer does.
//! What comes back is always the end of the output, or the order would be lost. So lent bytes with anything else behind
//! them stay, and nothing is lent between giving back and the moment that the socket takes bytes again.

use std::mem;

use crate::guard::let_go;
use crate::send_pool::SendPool;

use super::{Outgoing, Segment};

/// What is lent of an output, and what was given back of it.
#[derive(Debug, Default)]
pub(super) struct Lending {
    /// So many of the last bytes are lent, and not sent.
    pub(super) len: usize,
    /// Bytes given back that the service has not asked for.
    pub(super) returned: usize,
    /// Bytes were given back, and the socket has not said since that it takes some.
    pub(super) parked: bool,
}

impl Outgoing {
    /// Whether bytes could be given back.
    pub(crate) fn lends(&self) -> bool {
        self.lending.len > 0
    }

    /// Whether bytes were given back, and the socket is still to take some.
    pub(crate) fn is_parked(&self) -> bool {
        self.lending.parked
    }

    /// The socket takes bytes; says whether that was waited for.
    pub(crate) fn unpark(&mut self) -> bool {
        mem::take(&mut self.lending.parked)
    }

    /// Whether bytes were given back that the service does not know of.
    pub(crate) fn has_untold(&self) -> bool {
        self.lending.returned > 0
    }

    /// What is lent stays until it is sent: nobody is there to take it back.
    pub(crate) fn keep_lent(&mut self) {
        self.lending.len = 0;
    }

    /// Gives back what is lent and not sent, and says how many bytes that were. No send is in flight.
    pub(crate) fn give_back(&mut self, pool: &mut SendPool) -> usize {
        let lent = mem::take(&mut self.lending.len);
        if lent == 0 {
            return 0;
        }
        let (mut from, mut left) = (self.queue.len(), lent);
        while left > 0 && from > 0 {
            from -= 1;
            left -= self.queue[from].len().min(left);
        }
        for segment in self.queue.split_off(from) {
            match segment {
                Segment::Held(bytes) => let_go(bytes),
                // Nothing is in it; it says where a buffer is released.
                range @ Segment::Range { .. } => self.queue.push_back(range),
            }
        }
        self.len -= lent;
        self.held_len -= lent;
        self.lending.returned += lent;
        self.lending.parked = true;
        // Buffers of which nothing is left to send.
        self.sent(0, pool);
        lent
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{COPY_BELOW, Front};
    use super::*;

    const LARGE: usize = COPY_BELOW + 1;

    fn large() -> Bytes {
        Bytes::from(vec![b'z'; LARGE])
    }

    fn with_a_buffer() -> (Outgoing, SendPool) {
        let mut pool = SendPool::new(4, 16 * 1024);
        let mut outgoing = Outgoing::default();
        outgoing.begin(pool.take().expect("the first of four"));
        (outgoing, pool)
    }

    #[test]
    fn what_is_lent_comes_back_but_for_what_was_sent() {
        let (mut outgoing, mut pool) = with_a_buffer();
        let mut output = outgoing.open(&mut pool, 3 * LARGE);
        output.write(b"head").expect("room");
        for _ in 0..3 {
            output.lend(large()).expect("below the limit");
        }
        assert!(output.lend(large()).is_err(), "the bound is that of send");
        assert_eq!(output.held(), 3 * LARGE);
        drop(output);
        outgoing.sent(4 + 100, &mut pool);
        assert_eq!(outgoing.give_back(&mut pool), 3 * LARGE - 100);
        assert_eq!((outgoing.len(), outgoing.held_len, pool.held()), (0, 0, 0));
        assert!(matches!(outgoing.front(), Front::Nothing));

        let mut output = outgoing.open(&mut pool, usize::MAX);
        assert_eq!((output.take_returned(), output.take_returned()), (3 * LARGE - 100, 0));
        assert!(output.lend(large()).is_err() && output.lend(Bytes::from_static(b"a")).is_err());
        drop(output);
        assert!(outgoing.unpark() && !outgoing.unpark());
        outgoing.open(&mut pool, usize::MAX).lend(large()).expect("the socket takes bytes");
        assert_eq!(outgoing.len(), LARGE);
    }

    #[test]
    fn what_has_other_bytes_behind_it_stays() {
        for behind in ["written", "sent"] {
            let (mut outgoing, mut pool) = with_a_buffer();
            let mut output = outgoing.open(&mut pool, usize::MAX);
            output.lend(large()).expect("below the limit");
            match behind {
                "written" => output.write(b"!").expect("room"),
                _ => output.send(large()).expect("below the limit"),
            }
            let before = output.unsent();
            drop(output);
            assert!(!outgoing.lends());
            assert_eq!(outgoing.give_back(&mut pool), 0);
            // Only what is lent behind it comes back, the last few bytes of a file as well.
            let mut output = outgoing.open(&mut pool, usize::MAX);
            output.lend(large()).expect("below the limit");
            output.lend(Bytes::from_static(b"the end")).expect("below the limit");
            drop(output);
            assert_eq!(outgoing.give_back(&mut pool), LARGE + 7);
            assert_eq!(outgoing.len(), before);
            outgoing.sent(before, &mut pool);
            assert_eq!((outgoing.len(), outgoing.held_len, pool.held()), (0, 0, 0));
        }
    }

    #[test]
    fn what_was_taken_back_is_not_lent() {
        let (mut outgoing, mut pool) = with_a_buffer();
        let mut output = outgoing.open(&mut pool, usize::MAX);
        output.lend(large()).expect("below the limit");
        let mark = output.unsent();
        output.lend(large()).expect("below the limit");
        output.truncate(mark);
        drop(output);
        assert_eq!(outgoing.give_back(&mut pool), LARGE);
        assert!(outgoing.is_empty());
    }

    #[test]
    fn what_nobody_could_take_back_stays() {
        let (mut outgoing, mut pool) = with_a_buffer();
        outgoing.open(&mut pool, usize::MAX).lend(large()).expect("below the limit");
        outgoing.open(&mut pool, usize::MAX).end();
        assert_eq!(outgoing.give_back(&mut pool), 0);
        assert_eq!(outgoing.len(), LARGE);
    }
}
