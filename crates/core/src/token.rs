//! The token: what the kernel hands back with a completion, and all that is needed to find its owner.

use std::fmt;

/// 64 bits that travel with an operation: kind (8), generation (24) and slot (32).
///
/// The slot says whose operation it was. Slots are used again at once, so the generation says whose it was
/// *then*: a completion whose generation is not the slot's is stale, and its owner is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

impl Token {
    pub(crate) fn new(kind: Kind, generation: Generation, slot: u32) -> Token {
        Token(u64::from(kind as u8) << 56 | u64::from(generation.0) << 32 | u64::from(slot))
    }

    pub(crate) fn from_raw(raw: u64) -> Token {
        Token(raw)
    }

    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    /// The kind of operation; `None` if no operation has such a number, which only a broken kernel hands back.
    pub(crate) fn kind(self) -> Option<Kind> {
        Kind::ALL.get(usize::from((self.0 >> 56) as u8)).copied()
    }

    pub(crate) fn generation(self) -> Generation {
        Generation((self.0 >> 32) as u32 & Generation::MASK)
    }

    pub(crate) fn slot(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{kind:?}({}.{})", self.slot(), self.generation().0),
            None => write!(f, "Token({:#018x})", self.0),
        }
    }
}

/// How often a slot was given away: 24 bits that wrap.
///
/// A slot is free only after the last completion of its owner, so a stale completion can only come from an
/// operation that is not counted (a cancellation). Wrapping needs 16 million lives of one slot in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Generation(u32);

impl Generation {
    const MASK: u32 = 0x00ff_ffff;

    pub(crate) fn next(self) -> Generation {
        Generation(self.0.wrapping_add(1) & Generation::MASK)
    }
}

/// The kinds of operation, one per way a completion is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A cancellation: its own completion means nothing, its target's does.
    Cancel,
    /// The wake-up from other threads.
    Wake,
    /// Multishot accept; the slot is a listener's.
    Accept,
    /// Multishot receive; the slot is a connection's, as in all that follow up to `Close`.
    Receive,
    /// One receive into a private buffer, for a connection that found no buffer.
    ReceiveOnce,
    Send,
    Shutdown,
    /// The watch over a peer that is not read from.
    PeerWatch,
    /// The wait until a socket takes bytes again.
    RoomWatch,
    Socket,
    /// Setting one option of a socket that is being opened.
    Option,
    Connect,
    Close,
    /// Closing something that has no slot any more: a file, an accepted socket nobody wants.
    CloseStray,
    /// An operation that a service asked for; the slot is an errand's.
    Errand,
    /// Multishot receive of datagrams; the slot is a datagram socket's.
    Datagrams,
    /// The send of one datagram; the slot is the send's.
    SendDatagram,
    /// An operation the ring waits for itself, at set-up.
    Setup,
}

impl Kind {
    const ALL: [Kind; 18] = [
        Kind::Cancel,
        Kind::Wake,
        Kind::Accept,
        Kind::Receive,
        Kind::ReceiveOnce,
        Kind::Send,
        Kind::Shutdown,
        Kind::PeerWatch,
        Kind::RoomWatch,
        Kind::Socket,
        Kind::Option,
        Kind::Connect,
        Kind::Close,
        Kind::CloseStray,
        Kind::Errand,
        Kind::Datagrams,
        Kind::SendDatagram,
        Kind::Setup,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_keeps_its_parts() {
        for kind in Kind::ALL {
            let generation = Generation(0x00ab_cdef);
            let token = Token::new(kind, generation, u32::MAX);
            let back = Token::from_raw(token.raw());
            assert_eq!(back.kind(), Some(kind));
            assert_eq!(back.generation(), generation);
            assert_eq!(back.slot(), u32::MAX);
        }
        assert_eq!(Token::from_raw(u64::MAX).kind(), None);
    }

    #[test]
    fn generation_wraps_within_24_bits() {
        assert_eq!(Generation(Generation::MASK).next(), Generation(0));
    }
}
